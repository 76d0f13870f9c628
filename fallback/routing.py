"""Which version answers a key: reproducible anywhere from the decision alone.

Pure. A key's bucket is the first eight bytes of SHA-256 of `salt:key`, big-endian, modulo 10 000.
Challengers own consecutive ranges of buckets from 0 on, in the order of the decision, and the champion the
rest, so raising the first challenger's share only adds keys to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from fallback.types import WHOLE, Route, Serving


def bucket(salt: str, key: str) -> int:
    """0 to 9 999, evenly."""
    digest = sha256(f"{salt}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


def weights(champion: str, challengers: Sequence[Route]) -> tuple[Route, ...]:
    """All routes, challengers first; they sum to 10 000.

    Raises:
        ValueError: the challengers have more than the whole, a negative share, or one stands twice.
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
    """The version that answers `key` while the primary level serves. An override beats a cohort beats the bucket."""
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
