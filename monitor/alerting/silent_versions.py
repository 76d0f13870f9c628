"""Versions of which predictions are expected, and that send none while the model's others do.

Pure. Silence is measured by stream time, or by the number of the model's predictions where windows are counted. A time
in which the whole model is silent counts for nothing: that is `no_data`. A version with a share of the traffic is told
only once others have sent so many predictions that chance cannot be why it has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from detectors.types import IntArray
from fallback import decisions
from fallback.types import WHOLE, Serving, Tier

_GAPS: Final = 10  # times without any prediction that are as long as the limit, however long each of them is
_LEAST: Final = 10.0  # predictions that a version would have had: none comes by chance once in 20 000 times


class Silence(msgspec.Struct):
    """Since when (ms) a version sends nothing, and how many predictions the model has sent since then.

    Attributes:
        heard: Whether it has sent any since the last look.
        ever: Whether it has ever sent any while it was expected.
        awaited: Stream time from which on predictions of it are expected, ms.
    """

    since: int
    predictions: int
    heard: bool = False
    ever: bool = False
    awaited: int = -1


class SavedSilences(msgspec.Struct):
    """What is stored of `SilentVersions`; the model's predictions begin at `begun` and, so far, end at `last`, ms."""

    begun: int | None = None
    last: int | None = None
    versions: dict[str, Silence] = {}


@dataclass(frozen=True, slots=True)
class SilenceLimit:
    """How long silence is none: ms of stream time, or predictions of the model; the other one is 0.

    `again` is that of a cohort that was heard before, in the same unit: it may have days and weeks of its own.
    """

    time: int = 0
    predictions: int = 0
    again: int = 0


@dataclass(frozen=True, slots=True)
class SilenceLook:
    """Versions that are silent at a look, and versions that have been heard since the one before."""

    silent: Mapping[str, Silence]
    heard: tuple[str, ...]


class _Gap(NamedTuple):
    """A time in which the whole model was silent, ms, and the place of the prediction that ended it."""

    place: int
    start: int
    end: int


def expected_versions(serving: Serving) -> dict[str, float | None]:
    """Return the versions of which predictions are expected.

    Returns:
        Version → its share of the model's requests; None for a cohort, whose share nobody knows.
    """
    found: dict[str, float | None] = dict.fromkeys(decisions.shadows(serving), 1.0)
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
        gaps = self._gaps(np.array([start], np.int64))
        self.state.last = end
        for version, silence in self.state.versions.items():
            if heard.get(version):
                _hear(silence, end, 0)
                continue
            _skip(silence, gaps, -1)
            silence.predictions += total if end > silence.awaited else 0

    def hear(self, latest: Mapping[str, int], times: IntArray) -> None:
        """Take in predictions of the model one by one.

        Args:
            latest: Version → place of its latest one among them.
            times: Stream time at each of them, ms; never falls.
        """
        if not len(times):
            return
        self._begin(int(times[0]))
        gaps = self._gaps(times)
        self.state.last = int(times[-1])
        for version, silence in self.state.versions.items():
            at = latest.get(version)
            if at is None:
                silence.predictions += int(np.count_nonzero(times > silence.awaited))
            else:
                _hear(silence, int(times[at]), len(times) - 1 - at)
            _skip(silence, gaps, -1 if at is None else at)

    def await_from(self, versions: Iterable[str], at: int) -> None:
        """Expect versions from a stream time on, ms: what was sent before cannot know of them."""
        for version in versions:
            self.state.versions[version] = Silence(at, 0, awaited=at)

    def _begin(self, at: int) -> None:
        self.state.begun = at if self.state.begun is None else self.state.begun

    def _gaps(self, times: IntArray) -> list[_Gap]:
        """Return the times in which the whole model was silent, but for a small part of the limit each.

        That part counts for models that are sparse: between their predictions there is hardly anything else.
        """
        if not self._limit.time:
            return []
        counted = self._limit.time // _GAPS
        before = np.concatenate([[times[0] if self.state.last is None else self.state.last], times[:-1]])
        return [
            _Gap(i, int(before[i]) + counted, int(times[i])) for i in np.flatnonzero(times - before > counted).tolist()
        ]

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
        if silence.predictions * (1.0 if share is None else share) < _LEAST:
            return False
        again = self._limit.again if share is None and silence.ever else 0
        limit = again or self._limit.predictions or self._limit.time
        return (silence.predictions if self._limit.predictions else now - silence.since) >= limit


def _skip(silence: Silence, gaps: Iterable[_Gap], heard: int) -> None:
    """Take no account of gaps that ended after the place at which a version was heard."""
    for gap in gaps:
        if gap.place > heard:
            silence.since = min(silence.since + gap.end - gap.start, max(silence.since, gap.end))


def _hear(silence: Silence, at: int, later: int) -> None:
    """Take in that a version was heard last at a stream time, ms, and how many predictions others sent after it."""
    silence.since, silence.predictions, silence.heard, silence.ever, silence.awaited = at, later, True, True, -1
