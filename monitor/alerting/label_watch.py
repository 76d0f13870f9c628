"""Tells of labels by which quality cannot be judged: neither class of a binary task, or past `limits.labels`.

Their pairs are left out of quality, and silence about that would look like quality that is good. An alert begins with
the first such pair and ends after `CALM` pairs in a row without. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.alerting.blind import listed
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, Subject
from monitor.events.codes import SHARED
from monitor.events.readings import POSITIVE
from monitor.spec import Severity

NEITHER_CLASS: Final = "labels"  # causes of its alerts
PAST_LIMIT: Final = "limits.labels"
CALM: Final = 1_000  # pairs in a row that end an alert
_NAMES: Final = 5  # labels that are named
Shown = list[tuple[int, AlertRecord]]


class SavedLabels(msgspec.Struct):
    """What is stored of a `LabelWatch`.

    Attributes:
        neither: The alert about labels that are neither class.
        shared: The alert about labels past the limit.
        calm: Pairs since the last one of each: neither, shared.
        names: Labels that are neither class, as far as they are named.
        limit: Labels that had a code of their own; 0 where an earlier release did not store it.
    """

    neither: EpisodeState = msgspec.field(default_factory=EpisodeState)
    shared: EpisodeState = msgspec.field(default_factory=EpisodeState)
    calm: tuple[int, int] = (0, 0)
    names: list[str] = []
    limit: int = 0


class LabelWatch:
    """Follows the labels of all matched pairs of one model.

    Args:
        model: Its name.
        limit: Labels that have a code of their own.
        text_of: Returns the text of a label code.
        binary: Whether it has two classes.
        by_pane: Whether pairs come by whole panes, in an order that says nothing of their labels.
    """

    def __init__(self, model: str, limit: int, text_of: Callable[[int], str], *, binary: bool, by_pane: bool) -> None:
        self._limit, self._text_of, self._binary, self._by_pane = limit, text_of, binary, by_pane
        self._neither = _Condition(Subject(model, "", AlertKind.BLIND, NEITHER_CLASS))
        self._shared = _Condition(Subject(model, "", AlertKind.BLIND, PAST_LIMIT))
        self._names: list[str] = []

    def add(self, predicted: FloatArray, actual: FloatArray, when: IntArray) -> Shown:
        """Take in matched pairs in order.

        Args:
            predicted: Label codes as they are compared, NaN without one.
            actual: The same of outcomes.
            when: Time that dates what each pair makes clear, ms.

        Returns:
            (row of the pairs, alert record) of what they made clear, in order.
        """
        shown: Shown = []
        shared = (predicted == SHARED) | (actual == SHARED)
        for row, begins in self._shared.changes(shared):
            shown.append((row, self._shared.record(self._past_limit, int(when[row]), begins=begins)))
        if self._binary:
            shown += self._add_neither(predicted, actual, when)
        return sorted(shown, key=lambda change: change[0])

    def _add_neither(self, predicted: FloatArray, actual: FloatArray, when: IntArray) -> Shown:
        shown: Shown = []
        changes = dict(self._neither.changes((predicted > POSITIVE) | (actual > POSITIVE)))
        ends = [row + 1 for row in sorted(changes) if not changes[row]]
        for first, after in pairwise([0, *ends, len(when)]):  # an episode names no label of an earlier one
            fresh = self._fresh_names(predicted[first:after], actual[first:after])
            for row in sorted({*(r for r in changes if first <= r < after), *(first + r for r in fresh)}):
                self._names = sorted([*self._names, *fresh.get(row - first, ())])
                words, begins = neither_class(self._names), changes.get(row, True)
                shown.append((row, self._neither.record(words, int(when[row]), begins=begins)))
                self._names = self._names if begins else []
        return shown

    def _fresh_names(self, predicted: FloatArray, actual: FloatArray) -> dict[int, list[str]]:
        """Return labels that are to be named from now on, by the row at which that is."""
        room = _NAMES - len(self._names)
        codes = np.concatenate([predicted, actual])
        found, first = np.unique(codes, return_index=True)
        rows = (first % len(predicted))[found > POSITIVE].tolist() if room else []
        if not rows:
            return {}
        names = zip(rows, [self._text_of(int(code)) for code in found[found > POSITIVE].tolist()], strict=True)
        known = [(0 if self._by_pane else row, name) for row, name in names if name not in self._names]
        fresh: dict[int, list[str]] = {}
        for row, name in sorted(known)[:room]:
            fresh.setdefault(min(rows) if self._by_pane else row, []).append(name)
        return fresh

    @property
    def _past_limit(self) -> str:
        return f"more than {self._limit} labels: answers with further ones are left out of quality; raise limits.labels"

    @property
    def state(self) -> SavedLabels:
        """What is stored of it."""
        calm = self._neither.calm, self._shared.calm
        return SavedLabels(self._neither.episode.state, self._shared.episode.state, calm, self._names, self._limit)

    def restore(self, saved: SavedLabels) -> list[SimpleEpisode]:
        """Go on with what `state` was.

        Returns:
            Alerts that are void, since there is another limit now.
        """
        void: list[SimpleEpisode] = []
        self._neither.episode.state, self._neither.calm = saved.neither, saved.calm[0]
        self._names = saved.names if self._neither.episode.firing else []
        if saved.limit in (0, self._limit):
            self._shared.episode.state, self._shared.calm = saved.shared, saved.calm[1]
        else:
            void.append(SimpleEpisode(self._shared.episode.subject, saved.shared))
        return void


def episodes_of_labels(model: str, saved: SavedLabels) -> list[SimpleEpisode]:
    """Return the alerts that are stored of a model's labels, which share their state; they need not fire."""
    stored = (NEITHER_CLASS, saved.neither), (PAST_LIMIT, saved.shared)
    return [SimpleEpisode(Subject(model, "", AlertKind.BLIND, cause), state) for cause, state in stored]


def labels_of(state: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield (cause, episode, words) of the alerts that are stored of a model's labels; they need not fire.

    Args:
        state: The labels of a model's state as it is stored; empty where an earlier release stored it.
    """
    if state:
        yield NEITHER_CLASS, state["neither"], neither_class(state["names"])
        yield PAST_LIMIT, state["shared"], "labels past limits.labels are not compared"


def neither_class(names: Sequence[str]) -> str:
    """Return what is wrong with labels that are neither class, in words."""
    what = "label {} is" if len(names) == 1 else "labels {} are"
    more = " and maybe others" if len(names) >= _NAMES else ""
    return f"{what.format(listed(names) + more)} neither yes nor no: set positive:; left out of quality until then"


class _Condition:
    """One alert: it fires while pairs show what it is about."""

    def __init__(self, subject: Subject) -> None:
        self.episode = SimpleEpisode(subject)
        self.calm = 0

    def changes(self, shows: BoolArray) -> list[tuple[int, bool]]:
        """Return the rows at which it begins (True) or ends, given which pairs show it."""
        rows, firing = np.flatnonzero(shows), self.episode.firing
        if not len(rows) and not firing:
            return []
        bounds = np.concatenate([[-1 - self.calm], rows, [len(shows)]])
        gaps = np.diff(bounds) - 1
        self.calm = int(gaps[-1])
        found: list[tuple[int, bool]] = [(int(rows[0]), True)] if len(rows) and not firing else []
        for k in np.flatnonzero(gaps >= CALM).tolist():
            if k or firing:
                found.append((int(bounds[k]) + CALM, False))
                found += [(int(rows[k]), True)] if k < len(rows) else []
        return found

    def record(self, words: str, now: int, *, begins: bool) -> AlertRecord:
        """Return the record of a change."""
        ended = None if begins else self.episode.resolve(f"no longer: {words}", now)
        return ended or self.episode.fire(Severity.WARNING, words, now, now)
