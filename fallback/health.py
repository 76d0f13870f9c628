"""Health of a version, with hysteresis: it falls at once and rises slowly.

Pure: time comes in as `now`, in milliseconds, and only checks that looked at data are observations. Without
any, a version stays what it was: silence is no evidence of recovery.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fallback.types import Health

_ORDER = (Health.HEALTHY, Health.DEGRADED, Health.FAILED)


@dataclass(frozen=True, slots=True)
class HealthState:
    """`better_since` is when observations began to be better than `health`; None while they are not."""

    health: Health = Health.HEALTHY
    better_since: int | None = None


def worst(observed: Iterable[Health]) -> Health:
    """The worst of several; healthy without any."""
    return max(observed, key=_ORDER.index, default=Health.HEALTHY)


def observe(state: HealthState, observed: Health, now: int, recover_after: int) -> HealthState:
    """The state after one check that found the version `observed`.

    Worse counts at once. Better counts once it has been seen for `recover_after` ms without a relapse, and
    then it is the observation itself that becomes the health.
    """
    if _ORDER.index(observed) >= _ORDER.index(state.health):
        return HealthState(observed)
    since = now if state.better_since is None else min(state.better_since, now)
    if now - since >= recover_after:
        return HealthState(observed)
    return HealthState(state.health, since)
