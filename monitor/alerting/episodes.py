"""Episodes of alerts about one condition: each begins, changes, and ends.

Pure. None recovers without evidence: without a value of its metric. What else ends it is told to it (`resolve`). Its
records say what is true at their own time, with how it began and its worst beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from monitor.alerting.records import (
    AlertRecord,
    AlertStatus,
    AlertWindow,
    ClosedBecause,
    MetricEvidence,
    Subject,
)
from monitor.spec import Severity

MOVED = 1.5  # times the size that was told, or a share of it, from which an episode tells what is true now
CHANCE = 3.0  # standard errors: a metric that moved less may not have moved


def has_moved(now: float, told: float) -> bool:
    """Return whether a size is so far from the one that was told that it is told anew."""
    return now >= MOVED * told or now <= told / MOVED if now != told else False


@dataclass(slots=True)
class EpisodeState:
    """The stored state of a `SimpleEpisode`.

    Attributes:
        starts_at: When the episode began, ms; None while it does not fire.
        severity: Severity of the latest record.
        metric: The metric as it was last measured.
        told: The metric as the latest record told it; None where an earlier release told it.
        variance: Of that value; 0 where it is not known.
        told_until: End of its window, ms.
        begun: The window that began the episode.
    """

    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    metric: MetricEvidence | None = None
    told: MetricEvidence | None = None
    variance: float = 0.0
    told_until: int = -1
    begun: AlertWindow | None = None


@dataclass(slots=True)
class SimpleEpisode:
    """The alert about one condition: a rule, missing data, a rollback, a fallback."""

    subject: Subject
    state: EpisodeState = field(default_factory=EpisodeState)

    @property
    def firing(self) -> bool:
        """Whether it fires."""
        return self.state.starts_at is not None

    def fire(
        self,
        severity: Severity,
        summary: str,
        starts_at: int,
        now: int,
        window: AlertWindow | None = None,
        metric: MetricEvidence | None = None,
        variance: float = 0.0,
    ) -> AlertRecord:
        """Begin the episode, or return a further record of the one that fires.

        Args:
            severity: Severity from now on.
            summary: What is wrong, in words.
            starts_at: When it began, ms, if it begins.
            now: Stream time, ms.
            window: The window that shows it.
            metric: The metric behind it.
            variance: Of the value of the metric; 0 where it is not known.
        """
        state = self.state
        begins = state.starts_at is None
        if state.starts_at is None:
            state.starts_at, state.begun, state.metric = starts_at, window, None
        at = now if window is None else window.end
        state.severity, state.metric = severity, None if metric is None else self._followed(metric, at)
        state.told, state.variance, state.told_until = state.metric, variance, at
        return self._record(AlertStatus.FIRING, summary, now, window, begins=begins)

    @property
    def last_told(self) -> MetricEvidence | None:
        """The metric as the latest record of the episode told it."""
        return self.state.told or self.state.metric

    def observe(
        self,
        summary: str,
        now: int,
        window: AlertWindow,
        metric: MetricEvidence,
        variance: float,
        *,
        beyond: bool = True,
    ) -> AlertRecord | None:
        """Take in what the metric is now while the episode fires; return a record if it moved far enough.

        That is: its distance from the baseline or limit grew or shrank by a half, beyond chance, and the window has
        no event in common with that of the latest record. A metric that is within its limit has not moved but ended,
        if it stays there, which is told by `resolve`.

        Args:
            summary: As for `fire`, like the others.
            now: Likewise.
            window: Likewise.
            metric: Likewise.
            variance: Likewise.
            beyond: Whether the metric is beyond its limit, and its movement is not known to be chance otherwise.
        """
        state = self.state
        if state.starts_at is None:
            return None
        told = self.last_told
        state.metric = self._followed(metric, window.end)
        if told is not None:
            noise = CHANCE * math.sqrt(variance + state.variance)
            moved = has_moved(abs(metric.distance), abs(told.distance)) and abs(metric.value - told.value) > noise
            if not (beyond and moved) or window.start < state.told_until:
                return None
        return self.fire(state.severity, summary, now, now, window, metric, variance)

    def _followed(self, metric: MetricEvidence, at: int) -> MetricEvidence:
        """Return a metric with how it began and its worst beside it: the farthest, on the side where it began."""
        reading = metric.reading(at)
        before = self.state.metric
        if before is None:
            return replace(metric, at_start=reading, peak=reading, as_of=at)
        # An earlier release kept no more than the latest record.
        first = before.at_start or before.reading(self.state.starts_at or at)
        peak = before.peak or first
        beyond = metric.value - peak.value if first.value >= metric.base else peak.value - metric.value
        return replace(metric, at_start=first, peak=reading if beyond > 0 else peak, as_of=at)

    def resolve(
        self,
        summary: str,
        now: int,
        window: AlertWindow | None = None,
        metric: MetricEvidence | None = None,
        because: ClosedBecause = ClosedBecause.RECOVERED,
    ) -> AlertRecord | None:
        """End the episode; None if it does not fire. Without `metric` it is repeated as it was last measured."""
        if self.state.starts_at is None:
            return None
        if metric is not None:
            self.state.metric = self._followed(metric, now if window is None else window.end)
        end = max(now, self.state.starts_at)
        record = self._record(AlertStatus.RESOLVED, summary, end, window)
        self.state.starts_at = None
        return replace(record, ends_at=end, closed_because=because)

    def _record(
        self, status: AlertStatus, summary: str, now: int, window: AlertWindow | None, *, begins: bool = False
    ) -> AlertRecord:
        state = self.state
        metric = state.metric
        if metric is not None and metric.as_of == (now if window is None else window.end):
            metric = replace(metric, as_of=None)
        return AlertRecord(
            self.subject, 0, status, state.severity, summary, state.starts_at or 0, None, now, window, (), metric,
            begins=begins, since=state.begun,
        )  # fmt: skip
