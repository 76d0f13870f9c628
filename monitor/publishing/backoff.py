"""How long to wait after failures, and the clocks that this is measured by.

Shell only in its defaults: the clocks are handed in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from monitor.clock import wall_ms
from monitor.publishing.destinations.base import DeliveryPolicy

_JITTER: Final = 0.2  # share by which a wait may be longer: messages that fail together do not come back together


@dataclass(frozen=True, slots=True)
class Clocks:
    """What time it is.

    Attributes:
        wall_ms: The time of day, ms.
        monotonic: A clock that is never set, seconds.
        jitter: A random number from 0 to 1.
    """

    wall_ms: Callable[[], int] = wall_ms
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random


class Backoff:
    """The pauses of one destination, which grow with its failures in a row."""

    def __init__(self, policy: DeliveryPolicy, clocks: Clocks) -> None:
        self._policy, self._clocks = policy, clocks
        self._until = 0.0
        self._hurries = False
        self.failures = 0

    @property
    def left_s(self) -> float:
        """How much of the pause is left, seconds; 0 where there is none."""
        return max(self._until - self._clocks.monotonic(), 0.0)

    def fail(self, after_s: float | None = None) -> None:
        """Begin a pause.

        Args:
            after_s: How long the destination asks for, seconds.
        """
        self._until = self._clocks.monotonic() + self._pause_s(after_s)
        self.failures += 1

    def pause(self, seconds: float) -> None:
        """Begin a pause that is no failure of the destination."""
        self._until = self._clocks.monotonic() + seconds

    def reset(self) -> None:
        """End the pause: the destination takes messages."""
        self._until, self.failures = 0.0, 0

    def hurry(self) -> None:
        """Make this pause and all later ones short: the process is about to end."""
        self._hurries, self._until = True, 0.0

    def of_message_s(self, attempts: int, after_s: float | None = None) -> float:
        """Return how long a single message waits for its next attempt, seconds.

        Args:
            attempts: How many have failed before this one.
            after_s: How long the destination asks for, seconds.
        """
        wait = self._of(attempts) * (1 + _JITTER * self._clocks.jitter())
        return max(wait, after_s or 0.0)

    def _pause_s(self, after_s: float | None) -> float:
        if self._hurries:
            return self._policy.backoff_s[0]
        if after_s:
            return after_s
        # Where messages fail one by one, others are tried before the one that has failed.
        return self._of(self.failures) / (1 if self._policy.in_order else 2)

    def _of(self, failures: int) -> float:
        backoff = self._policy.backoff_s
        return backoff[min(failures, len(backoff) - 1)]
