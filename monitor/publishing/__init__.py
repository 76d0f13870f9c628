"""Committed messages leave the process, destination by destination."""
