"""The daemon: events in, alerts, decisions and metrics out."""
