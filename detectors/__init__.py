"""Pure statistics of windows: no I/O, no clock, nothing of the daemon."""
