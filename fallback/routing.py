"""Routing: which version answers a key, computed from the decision alone.

The bucket of a key is the first eight bytes of SHA-256 of `salt:key`, big-endian, modulo 10 000. Challengers own
consecutive ranges of buckets from 0 on, in the order of the decision, and the champion owns the rest; so raising the
share of the first challenger only adds keys to it. Pure. Any language can reproduce it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from fallback.types import WHOLE, Route, Serving


def bucket(salt: str, key: str) -> int:
    """Map a key to a bucket, 0 to 9 999; keys are distributed evenly."""
    digest = sha256(f"{salt}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


def weights(champion: str, challengers: Sequence[Route]) -> tuple[Route, ...]:
    """Return the routes of all versions, the challengers first and the champion last.

    Args:
        champion: The version that has the rest of the traffic.
        challengers: Their shares in basis points of the traffic.

    Returns:
        Routes whose weights sum to 10 000.

    Raises:
        ValueError: A share is negative, the shares exceed the whole, or a version stands twice.
    """
    names = [champion, *(route.version for route in challengers)]
    if len(set(names)) < len(names):
        raise ValueError(f"a version stands twice in {', '.join(names)}")
    if any(route.weight < 0 for route in challengers):
        raise ValueError("a share cannot be negative")
    rest = WHOLE - sum(route.weight for route in challengers)
    if rest < 0:
        raise ValueError(f"the challengers have {(WHOLE - rest) / 100:g}% of the traffic together")
    return (*challengers, Route(champion, rest))


def choose(serving: Serving, salt: str, key: str, *, cohort: str | None = None, override: str | None = None) -> str:
    """Choose the version that answers a key at the primary tier.

    Args:
        serving: The serving state.
        salt: Salt of the decision.
        key: The sticky unit of routing, such as a user.
        cohort: Name of a cohort; if the decision maps it to a version, that version answers.
        override: The version that answers in any case.
    """
    if override is not None:
        return override
    if cohort is not None and cohort in serving.cohorts:
        return serving.cohorts[cohort]
    at = bucket(salt, key)
    for route in serving.challengers:
        if at < route.weight:
            return route.version
        at -= route.weight
    return serving.champion
