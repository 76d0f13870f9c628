"""References that are renewed from the latest stretch of stream time: when, and from what.

At a thirtieth of the stretch a next reference is made, and panes are counted against it beside the one in force. It
comes in force once every window holds only such panes: what it was made of has then been under test to its end, so a
change is never learned before it could be found. While an alarm stands nothing is renewed, and the rows that were under
test meanwhile are never learned from. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from detectors.reference import Profile
from monitor.reference.freezing import AnswerRecipe, FeatureRecipe, request
from monitor.reference.pane_rows import Rows
from monitor.reference.rolling_rows import STEPS, RollingRows, Span, Stretches
from monitor.reference.subjects import FEATURES, version_of
from monitor.spec import ModelSpec

Recipe = Callable[[RollingRows], FeatureRecipe | AnswerRecipe]


class Waiting(StrEnum):
    """Say why a reference was not renewed when it was due."""

    NOTHING = ""
    ALARM = "alarm stands"
    FEW_ROWS = "too few rows"


class SavedRoller(msgspec.Struct, omit_defaults=True):
    """What is stored of a `Roller` with every commit; rows, and the next reference, are stored apart.

    Attributes:
        shape: Lengths that it was made for, ms: under others it begins anew.
        since: Start of the first pane that has ended, ms.
        sealed: End of the last one, ms.
        done: Number of the latest step at whose beginning it was decided whether to renew.
        levels: (step, level of its sample).
        excluded: Spans of time, ms, that are not learned from.
        alarmed: Whether an alarm stood at the end of the last pane.
        beside: First pane that is counted against the next reference; None without one.
        waiting: Why it was not renewed when it was last due.
        next: When the next reference is in force at the earliest, ms; shown, not read.
    """

    shape: list[int] = []
    since: int | None = None
    sealed: int = 0
    done: int = -1
    levels: list[tuple[int, int]] = []
    excluded: list[tuple[int, int]] = []
    alarmed: bool = False
    beside: int | None = None
    waiting: Waiting = Waiting.NOTHING
    next: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the versions of a model when a pane has ended.

    Attributes:
        alarmed: Versions of which an alarm stands.
        oldest: First pane that any window of a version holds, of those that are judged and send predictions.
    """

    alarmed: frozenset[str] = frozenset()
    oldest: Mapping[str, int] = field(default_factory=dict)

    def of(self, subject: str) -> Standing:
        """Return what concerns one reference."""
        if subject == FEATURES:
            return self
        version = version_of(subject)
        return Standing(self.alarmed & {version}, {version: self.oldest[version]} if version in self.oldest else {})


class RenewalKind(StrEnum):
    """Say what became of a next reference."""

    BEGUN = "begun"  # panes are counted against it from now on
    IN_FORCE = "in force"
    DROPPED = "dropped"  # an alarm began


@dataclass(frozen=True, slots=True)
class Renewal:
    """A step of renewing one reference.

    Attributes:
        kind: What became of the next reference.
        subject: What it is the reference of.
        profile: The next reference.
        period: Start and end of the time that it was made from, ms.
    """

    kind: RenewalKind
    subject: str
    profile: Profile
    period: Span


@dataclass(frozen=True, slots=True)
class RollingTimes:
    """The lengths by which references of a model are renewed, all in ms.

    Attributes:
        pane: Width of a pane.
        step: From one renewal to the next, whole panes.
        length: Of the stretch that is learned from.
        longest: Span of the longest window.
        reach: How far back it may reach where little comes.
    """

    pane: int
    step: int
    length: int
    longest: int
    reach: int

    @staticmethod
    def of(spec: ModelSpec) -> RollingTimes:
        """Return those of a model with a rolling reference."""
        pane, length = max(spec.window.pane, 1), spec.reference.rolling or 0
        most = max((1.0, *(() if spec.drift is None else spec.drift.windows)))
        longest, reach = (round(most * its) for its in (spec.window.span, max(spec.window.longest, spec.window.span)))
        return RollingTimes(pane, -(-length // (STEPS * pane)) * pane, length, longest, reach)


class Roller:
    """Renews one reference: gathers its rows, and says when."""

    def __init__(self, spec: ModelSpec, subject: str, most: int, wanted: int, recipe: Recipe) -> None:
        self.times = RollingTimes.of(spec)
        self._stretches = Stretches.of(spec)
        self.subject, self._most, self._recipe = subject, most, recipe
        self._wanted = min(wanted, most)
        self.next: Profile | None = None
        self._begin()

    def _begin(self) -> None:
        times = self.times
        shape = [times.pane, times.step, times.length, times.longest, self._stretches.width, self._stretches.drops]
        self.state = SavedRoller(shape)
        self.rows = RollingRows(self._stretches, times.step, self._most)

    # -- the end of a pane -------------------------------------------------------------------------------

    def settle(self, end: int) -> None:
        """Take note that panes up to `end`, ms, have ended; it makes no difference how often."""
        if self.state.since is None:
            self.state.since = end - self.times.pane
        self.rows.seal(end, self.times.pane)

    def may_be_due(self, end: int) -> bool:
        """Tell whether a next reference may have to be made of panes up to `end`, ms, as far as known before checks."""
        return (self.next is None or self._is_over(end)) and not self.state.alarmed and self._is_time(end)

    def _is_time(self, end: int) -> bool:
        due = self._has_length(end) and end // self.times.step > self.state.done
        return due and self._count(end) >= self._wanted

    def _has_length(self, end: int) -> bool:
        return self.state.since is not None and self.state.since <= end - self.times.length

    def _is_over(self, end: int) -> bool:
        """Tell whether so many panes were counted against the next reference as the longest window has."""
        beside = self.state.beside
        return beside is not None and end >= beside * self.times.pane + self.times.longest

    def seal(self, end: int, standing: Standing, made: Profile | None) -> Iterator[Renewal]:
        """Decide at the end of a pane, after its checks, what becomes of the next reference.

        Args:
            end: End of the pane, ms.
            standing: Of the versions that count.
            made: The next reference, where it was made already.
        """
        self.settle(end)
        its, times = self.state, self.times
        was, its.alarmed = its.alarmed, bool(standing.alarmed)
        if its.alarmed:
            self._exclude(min([end - times.longest, *(first * times.pane for first in standing.oldest.values())]), end)
            its.waiting = Waiting.ALARM
            yield from self._end_next(RenewalKind.DROPPED)
        elif was:
            its.waiting = Waiting.NOTHING
        elif self._is_over(end) and not any(first < (its.beside or 0) for first in standing.oldest.values()):
            yield from self._end_next(RenewalKind.IN_FORCE)
        if self.next is None and not (was or its.alarmed) and end // times.step > its.done:
            if self._is_time(end):
                self.next, its.beside, its.waiting = made or self._made(end), end // times.pane, Waiting.NOTHING
                yield self._renewal(RenewalKind.BEGUN, self.next, end)
            else:
                its.waiting = Waiting.FEW_ROWS if self._has_length(end) else Waiting.NOTHING
        its.done = max(its.done, end // times.step)
        self.rows.kept_from = (its.done + 1) * times.step
        self.rows.drop_before(end - times.length)
        its.excluded = [span for span in its.excluded if span[1] > end - times.length]

    def _count(self, end: int) -> int:
        return self.rows.count(end - self.times.length, end, self.state.excluded)

    def _exclude(self, start: int, end: int) -> None:
        spans = self.state.excluded
        if spans and spans[-1][1] >= start:
            start = min(start, spans.pop()[0])
        spans.append((start, end))

    def _end_next(self, kind: RenewalKind) -> Iterator[Renewal]:
        profile, first = self.next, self.state.beside
        self.next = self.state.beside = None
        if profile is not None and first is not None:
            yield self._renewal(kind, profile, first * self.times.pane)

    def _renewal(self, kind: RenewalKind, profile: Profile, end: int) -> Renewal:
        return Renewal(kind, self.subject, profile, (end - self.times.length, end))

    def request(self, end: int) -> Callable[[], bytes]:
        """Return what makes the request to `freeze` the next reference; it may be called in another thread."""
        rows, recipe = self._between(end), self._recipe(self.rows)
        return lambda: request(recipe, rows())

    def _made(self, end: int) -> Profile:
        return self._recipe(self.rows).freeze(self._between(end)())

    def _between(self, end: int) -> Callable[[], Rows]:
        return self.rows.between(end - self.times.length, end, self.state.excluded)

    # -- storing -----------------------------------------------------------------------------------------

    def saved(self) -> SavedRoller:
        """Return what is stored of it."""
        its, times = self.state, self.times
        if self.next is not None and its.beside is not None:
            begins: int | None = its.beside * times.pane
        elif its.since is None:
            begins = None
        else:
            begins = max(its.done + 1, -(-(its.since + times.length) // times.step)) * times.step
        due = None if begins is None else begins + times.longest
        return msgspec.structs.replace(its, sealed=self.rows.sealed, levels=sorted(self.rows.levels.items()), next=due)

    def restore(self, saved: SavedRoller, stored: Mapping[int, Sequence[bytes]], following: Profile | None) -> bool:
        """Go on with what was stored; return whether it fits the configuration, else it begins anew."""
        if saved.shape != self.state.shape:
            return False
        self.state, self.next = saved, following
        if following is None:
            saved.beside = None
        self.rows.levels, self.rows.sealed = dict(saved.levels), saved.sealed
        self.rows.kept_from = (saved.done + 1) * self.times.step
        self.rows.restore(stored)
        return True

    def clear(self) -> Profile | None:
        """Begin anew: a person has replaced the reference. Return the next one, which is void."""
        void, self.next = self.next, None
        self.rows.clear()
        self.state = SavedRoller(self.state.shape, done=self.state.done)
        return void
