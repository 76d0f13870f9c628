"""The wall clock: the only module that reads it. Everything else takes the time as an argument."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Return the wall-clock time in milliseconds since the epoch."""
    # The core takes the time as an argument, so that a replay can supply it.
    return time.time_ns() // 1_000_000
