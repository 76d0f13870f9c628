"""Statistics of windows of events: drift tests, summaries, change detection. Pure: no I/O, no clock."""
