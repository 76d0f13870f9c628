"""The user's own metrics that came with an outcome before its prediction.

Pure. The join keeps what outcome and prediction have in common; what users add to an outcome waits here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.aggregation.pairs import UserMetrics
from monitor.events.columns import Events
from monitor.join.arrays import Keys
from monitor.join.results import Joined, JoinVerdict

_MOST: Final = 10_000  # outcomes with metrics that wait for their prediction
StillWaits = Callable[[Keys], NDArray[np.bool_]]


class EarlyMetrics:
    """Metrics by the low half of the request's hash, the earliest first."""

    def __init__(self, still_waits: StillWaits, has_met: StillWaits) -> None:
        """Make an empty one.

        Args:
            still_waits: Tells which outcomes wait for an answer.
            has_met: Tells which of them have met the served answer, and wait for others only.
        """
        self._still_waits, self._has_met = still_waits, has_met
        self.by_request: dict[int, UserMetrics] = {}

    def add(self, events: Events, joined: Joined) -> None:
        """Keep the metrics of outcomes that wait, also where another answer was there already."""
        early = (joined.verdict == JoinVerdict.WAITING) | (joined.verdict == JoinVerdict.JOINED)
        for i in np.flatnonzero(early).tolist():
            if events.metrics[i]:
                self.by_request[int(events.lo[i])] = events.metrics[i]
            elif self.by_request:
                self.by_request.pop(int(events.lo[i]), None)

    def forget(self, requests: Keys) -> None:
        """Drop those of these requests that do not wait any more, and those beyond the bound.

        First those that have met the served answer, then the earliest.
        """
        if not self.by_request:
            return
        for request in requests[~self._still_waits(requests)].tolist():
            self.by_request.pop(request, None)
        excess = len(self.by_request) - _MOST
        if excess > 0:
            held = np.array(list(self.by_request), np.uint64)
            met = self._has_met(held)
            for request in np.concatenate([held[met], held[~met]])[:excess].tolist():
                del self.by_request[request]

    def forget_expired(self) -> None:
        """Drop all that do not wait any more."""
        self.forget(np.array(list(self.by_request), np.uint64))

    def state(self) -> dict[str, dict[str, float | None]]:
        """Return them, to be stored."""
        return {str(lo): dict(metrics) for lo, metrics in self.by_request.items()}

    def restore(self, state: Mapping[str, UserMetrics]) -> None:
        """Take them back."""
        self.by_request = {int(lo): metrics for lo, metrics in state.items()}
