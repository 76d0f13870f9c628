"""The time of day: the one place that asks for it."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Milliseconds since the epoch, by the clock on the wall."""
    # Everything else takes time as an argument, so that a replay can give it.
    return time.time_ns() // 1_000_000
