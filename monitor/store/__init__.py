"""What must survive: one transaction per commit."""
