"""The daemon: reads events; publishes alerts, decisions and metrics."""
