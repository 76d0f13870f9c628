"""Versions of which predictions are expected, and that send none while the model's others do.

Pure. Silence is measured by stream time, or by the number of the model's predictions where windows are counted. A time
in which the whole model is silent counts for nothing: that is `no_data`. A version with a share of the traffic is told
only once others have sent so many predictions that chance cannot be why it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from detectors.types import IntArray
from fallback.types import WHOLE, Serving, Tier

_LEAST: Final = 10.0  # predictions that a version would have had: none comes by chance once in 20 000 times


class Silence(msgspec.Struct):
    """Since when (ms) a version sends nothing, and how many predictions the model has sent since then.

    `heard` tells whether it has sent any since the last look.
    """

    since: int
    predictions: int
    heard: bool = False


class SavedSilences(msgspec.Struct):
    """What is stored of `SilentVersions`; the model's predictions begin at `begun` and, so far, end at `last`, ms."""

    begun: int | None = None
    last: int | None = None
    versions: dict[str, Silence] = {}


@dataclass(frozen=True, slots=True)
class SilenceLimit:
    """How long silence is none: ms of stream time, or predictions of the model; the other one is 0."""

    time: int = 0
    predictions: int = 0


@dataclass(frozen=True, slots=True)
class SilenceLook:
    """Versions that are silent at a look, and versions that have been heard since the one before."""

    silent: Mapping[str, Silence]
    heard: tuple[str, ...]


def expected_versions(serving: Serving) -> dict[str, float | None]:
    """Return the versions of which predictions are expected.

    Returns:
        Version → its share of the model's requests; None for a cohort, whose share nobody knows.
    """
    found: dict[str, float | None] = dict.fromkeys(serving.shadows, 1.0)
    if serving.active is not Tier.PRIMARY:
        return found
    for version in serving.cohorts.values():
        found.setdefault(version, None)
    routed = sum(route.weight for route in serving.challengers)
    shares = {route.version: route.weight for route in serving.challengers}
    shares[serving.champion] = shares.get(serving.champion, 0) + WHOLE - routed
    for version, weight in shares.items():
        if weight > 0:
            found[version] = max(found.get(version) or 0.0, weight / WHOLE)
    return found


class SilentVersions:
    """Follows when each expected version was last heard."""

    def __init__(self, limit: SilenceLimit) -> None:
        self._limit = limit
        self.state = SavedSilences()

    def hear_pane(self, heard: Mapping[str, int], start: int, end: int) -> None:
        """Take in a time pane, from `start` to `end` in ms, with predictions by version; panes come in order."""
        total = sum(heard.values())
        if not total:
            return
        self._begin(start)
        self._skip_gaps(np.array([start], np.int64))
        self.state.last = end
        for version, silence in self.state.versions.items():
            if heard.get(version):
                silence.since, silence.predictions, silence.heard = end, 0, True
            else:
                silence.predictions += total

    def hear(self, latest: Mapping[str, int], times: IntArray) -> None:
        """Take in predictions of the model one by one.

        Args:
            latest: Version → place of its latest one among them.
            times: Stream time at each of them, ms; never falls.
        """
        if not len(times):
            return
        self._begin(int(times[0]))
        self._skip_gaps(times)
        self.state.last = int(times[-1])
        for version, silence in self.state.versions.items():
            at = latest.get(version)
            if at is None:
                silence.predictions += len(times)
            else:
                silence.since, silence.predictions, silence.heard = int(times[at]), len(times) - 1 - at, True

    def _begin(self, at: int) -> None:
        self.state.begun = at if self.state.begun is None else self.state.begun

    def _skip_gaps(self, times: IntArray) -> None:
        """Begin anew after a time in which the whole model was silent for longer than the limit."""
        if not self._limit.time:
            return
        before = np.concatenate([[times[0] if self.state.last is None else self.state.last], times[:-1]])
        gaps = np.flatnonzero(times - before > self._limit.time)
        if len(gaps):
            for silence in self.state.versions.values():
                silence.since = max(silence.since, int(times[gaps[-1]]))

    def look(self, expected: Mapping[str, float | None], decided: int | None, now: int) -> SilenceLook:
        """Tell which versions are silent now, and which have been heard since the last look.

        Args:
            expected: Versions of which predictions are expected, with their shares.
            decided: Since when those are expected that were not at the last look, ms; None: from the beginning.
            now: Time of the look, ms.
        """
        held = self.state.versions
        for version in held.keys() - expected.keys():
            del held[version]
        for version in expected.keys() - held.keys():
            begun = now if self.state.begun is None else self.state.begun
            held[version] = Silence(min(begun if decided is None else max(begun, decided), now), 0)
        heard = tuple(version for version in sorted(held) if held[version].heard)
        for silence in held.values():
            silence.heard = False
        silent = {v: held[v] for v in sorted(held) if self._too_long(held[v], expected[v], now)}
        return SilenceLook(silent, heard)

    def _too_long(self, silence: Silence, share: float | None, now: int) -> bool:
        limit = self._limit
        if silence.predictions * (1.0 if share is None else share) < _LEAST:
            return False
        return silence.predictions >= limit.predictions if limit.predictions else now - silence.since >= limit.time
