"""What is normal: profiles in force, learned from traffic, or read from files."""
