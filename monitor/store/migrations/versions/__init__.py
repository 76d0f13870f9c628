"""Changes of the tables, the earliest first."""
