"""Blindness: something that is configured to be watched cannot be judged.

Pure. Whoever looks says what cannot be judged, why, and what to change; an alert of the kind `blind` lasts until it
can be judged, or is not expected any more. There is one for each version and cause, so a version that stays dark in
two ways has two.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, ClosedBecause, Subject
from monitor.spec import Severity

_NAMED: Final = 5  # names in a summary
_LENGTH: Final = 60  # characters of a name in a summary


class Cause(StrEnum):
    """Why something cannot be judged: part of an alert's fingerprint, and a metric label."""

    NO_PREDICTIONS = "no_predictions"  # of a version of which some are expected
    FEATURES = "features"  # of the reference, that never came
    REFERENCE = "reference"  # it is still being learned, for too long
    WINDOW = "window"  # it never held enough
    TESTS = "tests"  # so few effective events that no difference is significant
    RULES = "rules"  # their metrics are never there, or of too few events
    OUTCOMES = "outcomes"  # none ever meets its prediction


@dataclass(frozen=True, slots=True)
class Blindness:
    """Why something cannot be judged and what to change, in words; `names` are features, or rules, concerned."""

    summary: str
    names: tuple[str, ...] = ()


class SavedBlindness(msgspec.Struct):
    """What is stored of an alert that fires. `starts_at` is in ms."""

    version: str
    cause: str
    starts_at: int
    summary: str
    names: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Those of the names that are features."""
        return () if self.cause == Cause.RULES else self.names


class BlindAlerts:
    """The alerts of one model that something cannot be judged.

    Attributes:
        firing: What fires, in the order in which it began.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.firing: list[SavedBlindness] = []

    def tell(self, version: str, cause: Cause, found: Blindness | None, now: int) -> list[AlertRecord]:
        """Take in what a look found, and return the record that follows from it, if any.

        Args:
            version: The version that was looked at.
            cause: What was looked for.
            found: What cannot be judged; None where it can.
            now: Time of the look, ms.
        """
        held = next((s for s in self.firing if (s.version, s.cause) == (version, cause)), None)
        if found is None:
            return [] if held is None else [self._end(held, f"{_JUDGED[cause]} again", ClosedBecause.RECOVERED, now)]
        if held is not None and held.names == found.names:
            return []
        begins = held is None
        if held is None:
            held = SavedBlindness(version, cause, now, found.summary)
            self.firing.append(held)
        held.summary, held.names = found.summary, found.names
        return [self._record(held, AlertStatus.FIRING, found.summary, now, begins=begins)]

    def end(self, ends: Iterable[SavedBlindness], why: str, because: ClosedBecause, now: int) -> list[AlertRecord]:
        """End alerts whose cause is void, for a reason in words."""
        return [self._end(held, why, because, now) for held in list(ends)]

    def _end(self, held: SavedBlindness, why: str, because: ClosedBecause, now: int) -> AlertRecord:
        self.firing.remove(held)
        record = self._record(held, AlertStatus.RESOLVED, why, max(now, held.starts_at))
        return replace(record, closed_because=because)

    def _record(
        self, held: SavedBlindness, status: AlertStatus, summary: str, now: int, *, begins: bool = False
    ) -> AlertRecord:
        ended = now if status is AlertStatus.RESOLVED else None
        return AlertRecord(
            Subject(self._model, held.version, AlertKind.BLIND, held.cause),
            0, status, Severity.WARNING, summary, held.starts_at, ended, now, begins=begins, unjudged=held.features,
        )  # fmt: skip


_JUDGED: Final[Mapping[Cause, str]] = {
    Cause.NO_PREDICTIONS: "predictions arrive",
    Cause.FEATURES: "all features of the reference come, and are judged",
    Cause.REFERENCE: "the reference is in force",
    Cause.WINDOW: "the window holds enough to be judged",
    Cause.TESTS: "differences can be significant",
    Cause.RULES: "all rules are judged",
    Cause.OUTCOMES: "outcomes meet their predictions",
}


class Waiting(msgspec.Struct):
    """Since when something waits to be judged, whether it ever was, and when it was last looked at.

    `seen` is how much of it was in windows that do not overlap, the last of which ends with the pane `seen_to`.
    """

    since: int
    ever: bool
    last: int
    seen: int = 0
    seen_to: int = -1


class Patience:
    """Tells when something has not been judged for too long.

    What was never judged is told after `first`. What was judged before is told after `again` only, which has to be
    longer than the rhythm of the data: a window that is empty by night is not blind. A long time in which nothing came,
    as between a trial and the start, counts for a quarter of that: where it comes again and again, it is told.

    Attributes:
        waiting: Version → what of it waits. Times are in ms, or numbers of predictions in counted windows.
    """

    def __init__(self, first: int, again: int) -> None:
        self._first, self._again = first, again
        self.waiting: dict[str, dict[str, Waiting]] = {}

    def judged(self, version: str, key: str, at: int) -> None:
        """Take note that something of a version was judged."""
        self.waiting.setdefault(version, {})[key] = Waiting(at, True, at)

    def overdue(self, version: str, key: str, began: int, at: int) -> bool:
        """Take note that a look could not judge something, and tell whether that lasts too long.

        Args:
            version: The version that was looked at.
            key: What of it.
            began: Where it began to wait, if this is the first look at it.
            at: Where the look is.
        """
        held = self.waiting.setdefault(version, {}).setdefault(key, Waiting(began, False, at))
        limit = self._again if held.ever else self._first
        if at - held.last > limit // 2:
            held.since += at - held.last - limit // 4
        held.last = at
        return at - held.since >= limit

    def is_lasting(self, version: str, key: str, at: int) -> bool:
        """Tell whether something that was never judged waits even longer than what was judged before may."""
        held = self.waiting[version][key]
        return not held.ever and at - held.since >= self._again

    def count(self, version: str, key: str, first: int, last: int, count: int) -> int:
        """Count what waits in a window of panes `first` to `last`; return how much that is without overlaps."""
        held = self.waiting[version][key]
        if first > held.seen_to:
            held.seen, held.seen_to = held.seen + count, last
        return held.seen

    def forget(self, version: str, keys: Iterable[str]) -> None:
        """Forget what waits of a version: it begins to wait anew."""
        waiting = self.waiting.get(version, {})
        for key in keys:
            waiting.pop(key, None)


def closest(came: Collection[str], wanted: Collection[str]) -> list[str]:
    """Sort names that came by how close they are to one that was wanted, the closest first."""

    def likeness(name: str) -> float:
        plain = _plain(name)
        return max((difflib.SequenceMatcher(None, plain, _plain(w)).ratio() for w in wanted), default=0.0)

    return sorted(came, key=lambda name: (-likeness(name), name))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))[:_LENGTH]


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Write names into a sentence, and how many more there are."""
    shown = ", ".join(name if len(name) <= _LENGTH else name[:_LENGTH] + "…" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
