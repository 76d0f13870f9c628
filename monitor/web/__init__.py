"""HTTP: metrics and probes, read from committed state."""
