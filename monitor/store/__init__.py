"""Persistent state: one transaction per commit."""
