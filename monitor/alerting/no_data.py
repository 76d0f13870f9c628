"""Missing data: no prediction of a model arrives for too long.

Pure. What a batch shows is planned ahead, as plain data with the positions at which it happens, and takes effect
when the batch is processed up to there. So the alert is the same however the stream was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.types import IntArray
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, Subject
from monitor.spec import Severity


@dataclass(frozen=True, slots=True)
class GapEvent:
    """The beginning or the end of a gap, as a batch shows it.

    Attributes:
        position: Row of the batch at which it shows.
        after: Whether it happens after that row's event, or before it.
        last: Time of the latest event before the gap, ms.
        ends_with: Time of the event that ends the gap, ms; None for the beginning of a gap.
    """

    position: int
    after: bool
    last: int
    ends_with: int | None = None


class NoDataDetector:
    """Fires while no event of a model arrives for longer than `limit` ms of stream time; 0 for never.

    Attributes:
        last_event: Time of the latest event, ms; None before the first.
        episode: The alert.
    """

    def __init__(self, model: str, limit: int) -> None:
        self._model, self._limit = model, limit
        self.last_event: int | None = None
        self.episode = SimpleEpisode(Subject(model, "", AlertKind.NO_DATA))

    def plan(self, events: IntArray, positions: IntArray, clock: IntArray) -> list[GapEvent]:
        """List the gaps that begin or end in a batch, and change nothing.

        Stream time lags behind events, so an event may show a gap before stream time does. Otherwise stream time
        shows it, right after one of the events of the batch, whichever model that is of.

        Args:
            events: Times of the model's events, ms, in the order of the batch.
            positions: Their rows in the batch.
            clock: Stream time at each row of the batch and after the last one, ms; below zero while unknown.
        """
        if not self._limit:
            return []
        planned = list(self._shown_by_events(events, positions, clock)) if len(events) else []
        latest, reached = self.last_event, 0
        if len(events):
            latest = int(events.max()) if latest is None else max(latest, int(events.max()))
            reached = int(positions[-1])
        if latest is not None:
            at = max(int(np.searchsorted(clock, latest + self._limit, side="right")), reached)
            if at < len(clock):
                planned.append(GapEvent(at, True, latest))
        return planned

    def _shown_by_events(self, events: IntArray, positions: IntArray, clock: IntArray) -> Iterator[GapEvent]:
        """Yield gaps that end within the batch, and their beginnings."""
        limit, first = self._limit, self.last_event is None
        start = int(events[0]) if self.last_event is None else self.last_event
        so_far = np.maximum(np.maximum.accumulate(events), start)
        before = np.concatenate([[start], so_far[:-1]])
        silent = np.maximum(np.searchsorted(clock, before + limit, side="right"), np.concatenate([[0], positions[:-1]]))
        shown = silent < positions
        shown[0] &= not first
        for i in np.flatnonzero(shown).tolist():
            yield GapEvent(int(silent[i]), True, int(before[i]))
        ends = shown | (events - before > limit)
        ends[0] |= self.episode.firing
        # An event that is itself from too long ago ends nothing.
        ends &= clock[positions] - so_far <= limit
        for i in np.flatnonzero(ends).tolist():
            yield GapEvent(int(positions[i]), False, int(before[i]), int(events[i]))

    def apply(self, gap: GapEvent) -> list[AlertRecord]:
        """Return the records that a planned event gives rise to, in order."""
        records: list[AlertRecord | None] = [self._begin(gap.last)]
        if gap.ends_with is not None:
            # The event may be from before the alert, if it is from not too long ago.
            now = max(gap.ends_with, self.episode.state.starts_at or 0)
            records.append(self.episode.resolve(f"predictions of {self._model} arrive again", now))
        return [record for record in records if record is not None]

    def _begin(self, last: int) -> AlertRecord | None:
        if self.episode.firing:
            return None
        begins = last + self._limit
        return self.episode.fire(Severity.WARNING, f"no predictions of {self._model} arrive", begins, begins)

    def advance(self, events: IntArray) -> None:
        """Take in the events of a batch, once what was planned for it has been applied."""
        if len(events):
            latest = int(events.max())
            self.last_event = latest if self.last_event is None else max(self.last_event, latest)
