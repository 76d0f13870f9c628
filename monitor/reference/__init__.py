"""References: the active profiles, learned from traffic or built from files."""
