"""Decisions about which version serves, and the router that follows them. Pure; standard library only.

Serving applications import this package, so it must stay cheap to import.
"""
