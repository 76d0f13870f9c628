"""Clocks: elapsed time, the time of day, and waiting.

The core takes time as an argument. The shell asks a `Clock` that is handed to it, so that tests run the daemon's
loop on a clock of their own, without waiting.
"""

from __future__ import annotations

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Measure and wait. `tests/contracts/test_clock.py` holds implementations to what is said here."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary point; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Return the time of day, in ms since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread until at least `seconds` have passed by `monotonic`."""
        ...


class SystemClock:
    """The clock of the operating system."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary point; never goes back."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return the time of day, in ms since the epoch."""
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for `seconds`."""
        time.sleep(seconds)


SYSTEM_CLOCK: Final = SystemClock()


def wall_ms() -> int:
    """Return the time of day by the system clock, in ms since the epoch."""
    return SYSTEM_CLOCK.wall_ms()
