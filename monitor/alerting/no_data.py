"""Missing data: no prediction of a model arrives for too long.

Pure. Predictions count by their effective times, and a gap is told once stream time has reached what shows it: then no
event is still to come that could fill it. So gaps do not depend on the order in which partitions are read. What a
batch shows is planned ahead, as plain data with the positions at which it happens, and takes effect when the batch is
processed up to there. So the alert is the same however the stream was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.types import IntArray
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, Subject
from monitor.spec import Severity


@dataclass(frozen=True, slots=True)
class GapEvent:
    """The beginning or the end of a gap, as a batch shows it.

    Attributes:
        position: Row of the batch with which it shows.
        time: When the gap begins or ends, ms.
        last: Time of the latest event before the gap, or since when the first one is expected, ms.
        ends_with: Time of the event that ends the gap, ms; None for the beginning of a gap.
    """

    position: int
    time: int
    last: int
    ends_with: int | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """Events none of which is further than the limit from the next: times of the first and the last, ms.

    `row` is that of the first in the batch, -1 where it came before.
    """

    first: int
    last: int
    row: int = -1


class NoDataDetector:
    """Fires while no event of a model arrives for longer than `limit` ms of stream time; 0 for never.

    Attributes:
        last_event: Time of the latest event that stream time has reached, or of an earlier one of the same run, ms;
            None before the first.
        expected_from: Since when events are expected of a model that never had any, ms; None while not known.
        coming: (first, last) times of runs of events that stream time has not reached the end of, ms.
        episode: The alert.
    """

    def __init__(self, model: str, limit: int) -> None:
        self._model, self._limit = model, limit
        self.last_event: int | None = None
        self.expected_from: int | None = None
        self.coming: list[tuple[int, int]] = []
        self.episode = SimpleEpisode(Subject(model, "", AlertKind.NO_DATA))

    def plan(self, events: IntArray, positions: IntArray, clock: IntArray) -> list[GapEvent]:
        """List the gaps that begin or end in a batch, and change nothing.

        Args:
            events: Effective times of the model's events, ms, in the order of the batch; none is below stream time at
                its row.
            positions: Their rows in the batch.
            clock: Stream time at each row of the batch and after the last one, ms; below zero while unknown.
        """
        return list(self._planned(self._runs(events, positions), clock)) if self._limit else []

    def _runs(self, events: IntArray, positions: IntArray) -> list[_Run]:
        """Put events together with those that are coming already."""
        order = np.argsort(events, kind="stable")
        first = np.concatenate([np.array([f for f, _ in self.coming], np.int64), events[order]])
        last = np.concatenate([np.array([at for _, at in self.coming], np.int64), events[order]])
        row = np.concatenate([np.full(len(self.coming), -1), positions[order]])
        order = np.argsort(first, kind="stable")
        first, last, row = first[order], np.maximum.accumulate(last[order]), row[order]
        breaks = np.flatnonzero(first[1:] - last[:-1] > self._limit) + 1
        starts = np.concatenate([np.zeros(min(len(first), 1), np.int64), breaks])
        ends = np.concatenate([breaks, np.full(min(len(first), 1), len(first))]) - 1
        found = zip(first[starts].tolist(), last[ends].tolist(), row[starts].tolist(), strict=True)
        return [_Run(*run) for run in found]

    def _planned(self, runs: list[_Run], clock: IntArray) -> Iterator[GapEvent]:
        latest = self.expected_from if self.last_event is None else self.last_event
        firing = self.episode.firing
        for run in runs:
            if latest is not None and run.first - latest > self._limit and not firing:
                yield from self._shown_by(latest, clock)
                firing = True
            reached = int(np.searchsorted(clock, run.first))
            if reached == len(clock):
                return
            if firing:
                last = run.first if latest is None else latest
                yield GapEvent(max(reached, run.row), run.first, last, run.first)
            firing, latest = False, run.last
            if clock[-1] < run.last:
                return
        if latest is not None and not firing:
            yield from self._shown_by(latest, clock)

    def _shown_by(self, latest: int, clock: IntArray) -> Iterator[GapEvent]:
        """Yield the beginning of the gap after an event, if stream time passes the limit in this batch."""
        at = int(np.searchsorted(clock, latest + self._limit, side="right"))
        if at < len(clock):
            yield GapEvent(at, latest + self._limit, latest)

    def apply(self, gap: GapEvent) -> list[AlertRecord]:
        """Return the records that a planned event gives rise to, in order."""
        records: list[AlertRecord | None] = [self._begin(gap.last)]
        if gap.ends_with is not None:
            now = max(gap.ends_with, self.episode.state.starts_at or 0)
            records.append(self.episode.resolve(f"predictions of {self._model} arrive again", now))
        return [record for record in records if record is not None]

    def _begin(self, last: int) -> AlertRecord | None:
        if self.episode.firing:
            return None
        begins = last + self._limit
        return self.episode.fire(Severity.WARNING, f"no predictions of {self._model} arrive", begins, begins)

    def expect(self, since: int) -> None:
        """Expect events of a model that never had any, from a time on, ms; nothing happens where that is known."""
        if self.last_event is None and not self.coming and self.expected_from is None:
            self.expected_from = since

    def advance(self, events: IntArray, now: int) -> None:
        """Take in the events of a batch, once what was planned for it has been applied; `now` is stream time, ms."""
        if not self._limit:
            self.coming = []  # what was to come before the limit was taken out of the configuration is past
            if len(events):
                self.last_event = max(int(events.max()), self.last_event or 0)
            return
        runs = self._runs(events, np.zeros(len(events), np.int64))
        for run in runs:
            if run.first <= now:
                self.last_event = run.last if run.last <= now else run.first
        self.coming = [(run.first, run.last) for run in runs if run.last > now]

    def restore(
        self,
        last_event: int | None,
        coming: Sequence[tuple[int, int]],
        now: int | None,
        episode: EpisodeState,
        expected_from: int | None = None,
    ) -> None:
        """Go on with what was stored at stream time `now`, ms.

        The latest event of a store of 0.1.0, or of a model without a limit, may be ahead of stream time: it is yet to
        be reached.
        """
        self.last_event, self.coming, self.episode.state = last_event, list(coming), episode
        self.expected_from = expected_from
        if last_event is not None and (now is None or last_event > now):
            self.last_event, self.coming = None, [(last_event, last_event), *coming]
