"""Health of a version, with hysteresis: it gets worse at once and better only after some time.

Only checks that looked at data are observations. Without observations the health of a version stays the same, because
missing data is no evidence of recovery. Pure: time comes in as `now`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fallback.types import Health

_ORDER = (Health.HEALTHY, Health.DEGRADED, Health.FAILED)


@dataclass(frozen=True, slots=True)
class HealthState:
    """Hold the health of a version and how long observations have been better.

    Attributes:
        health: The current health.
        better_since: Time of the first of the latest observations that are all better than `health`, in milliseconds
            since the epoch; None if the last one was not better.
    """

    health: Health = Health.HEALTHY
    better_since: int | None = None


def worst(observed: Iterable[Health]) -> Health:
    """Return the worst of several observations, or healthy without any."""
    return max(observed, key=_ORDER.index, default=Health.HEALTHY)


def observe(state: HealthState, observed: Health, now: int, recover_after: int) -> HealthState:
    """Update the health of a version with one observation.

    A worse observation becomes the health at once. A better one does when observations have been better for
    `recover_after` without interruption.

    Args:
        state: The state before.
        observed: What the check found.
        now: Time of the check in milliseconds since the epoch.
        recover_after: Milliseconds.
    """
    if _ORDER.index(observed) >= _ORDER.index(state.health):
        return HealthState(observed)
    since = now if state.better_since is None else min(state.better_since, now)
    if now - since >= recover_after:
        return HealthState(observed)
    return HealthState(state.health, since)
