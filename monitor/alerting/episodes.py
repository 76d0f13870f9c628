"""Episodes of alerts: each begins, changes, and ends.

Pure. A drift episode follows a version check by check: a feature joins when it drifts and stays until several
checks in a row found all of them calm, which ends the episode. A simple episode follows one condition. No episode
recovers without evidence: neither without a check nor without a value of a feature. What else ends it is told to it
(`end`, `resolve`). Its records say what is true at their own time, with how it began and its worst beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from detectors.comparison import CALM_EFFECT
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding
from detectors.registry import RATES
from monitor.alerting.records import (
    AlertKind,
    AlertRecord,
    AlertStatus,
    AlertWindow,
    ClosedBecause,
    DriftedFeature,
    MetricEvidence,
    Reading,
    Subject,
)
from monitor.spec import Severity

CRITICAL_WEIGHT = 2.0  # times the minimum effect from which drift is critical
MOVED = 1.5  # times the size that was told, or a share of it, from which an episode tells what is true now
CHANCE = 3.0  # standard errors: a metric that moved less may not have moved
_KIND = {Family.DRIFT: AlertKind.DRIFT, Family.DATA_QUALITY: AlertKind.DATA_QUALITY}
_WORD = {Family.DRIFT: "drifted", Family.DATA_QUALITY: "changed in quality"}


@dataclass(slots=True)
class DriftEpisodeState:
    """The stored state of a `DriftEpisode`.

    Attributes:
        starts_at: End of the window that began the episode, ms; None while it does not fire.
        severity: Severity of the latest record.
        calm: Checks in a row that found all listed features calm.
        listed: Features of the episode, by name, as they were last judged.
        told: Size of the largest change that the latest record told; None where an earlier release told it.
        told_until: End of its window, ms.
        begun: The window that began the episode.
    """

    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    calm: int = 0
    listed: dict[str, DriftedFeature] = field(default_factory=dict)
    told: float | None = None
    told_until: int = -1
    begun: AlertWindow | None = None


@dataclass(slots=True)
class DriftEpisode:
    """The drift alert or the data-quality alert of one version.

    A feature that drifts joins the episode and stays listed until it ends, which is after `resolve_after`
    checks in a row that found all listed features calm. A check that could not judge one of them is no evidence.
    A feature that is no longer compared, since it was configured to be ignored, leaves. When the largest change of
    a listed feature has grown or shrunk by a half, that is told, at most once per full window.
    """

    model: str
    version: str
    family: Family
    resolve_after: int
    state: DriftEpisodeState = field(default_factory=DriftEpisodeState)

    @property
    def subject(self) -> Subject:
        """Subject of its records."""
        return Subject(self.model, self.version, _KIND[self.family])

    @property
    def firing(self) -> bool:
        """Whether it fires."""
        return self.state.starts_at is not None

    def features(self) -> list[tuple[Family, str]]:
        """Return the listed features: a check must judge whether they are calm."""
        return [(self.family, name) for name in self.state.listed]

    def update(
        self,
        check: CheckResult,
        window: AlertWindow,
        watched: Collection[str],
        evidence: Callable[[str], Evidence | None],
    ) -> AlertRecord | None:
        """Take in one check, and return a record if the episode began, changed or ended.

        Args:
            check: Result of the check, of both families.
            window: The window that was checked.
            watched: Names of all features that are compared.
            evidence: Feature → its distributions in the reference and in the window.
        """
        state = self.state
        found = _strongest(f for f in check.findings if f.family is self.family)
        if state.starts_at is None and not found:
            return None
        gone = state.listed.keys() - set(watched)
        if not found and gone and len(gone) == len(state.listed):
            return self.end(window.end, ClosedBecause.NOT_CONFIGURED, "what drifted is not compared any more")
        for name in gone:
            del state.listed[name]
        fresh = found.keys() - state.listed.keys()
        severity = self._severity(max(f.weight for f in found.values())) if found else state.severity
        self._count_calm(check, fresh)
        begins = state.starts_at is None
        if state.starts_at is None:
            state.starts_at, state.begun = window.end, window
        told = self._told()
        judged = self._judge(check, found, window.end)
        if fresh or gone or severity is not state.severity or begins or self._has_moved(told, judged, window):
            state.severity = severity
            return replace(self._tell(AlertStatus.FIRING, window, len(watched), judged, evidence), begins=begins)
        if state.calm < self.resolve_after:
            return None
        record = self._tell(AlertStatus.RESOLVED, window, len(watched), judged, evidence)
        self._reset()
        return replace(record, closed_because=ClosedBecause.RECOVERED)

    def _count_calm(self, check: CheckResult, fresh: Collection[str]) -> None:
        """Count a calm check, reset the count, or leave it where a listed feature had no value."""
        rates = self.family is Family.DATA_QUALITY
        judged = {v.feature for v in check.values if (v.statistic in RATES) is rates}
        listed = self.state.listed.keys()
        if fresh or any((self.family, name) not in check.calm for name in listed & judged):
            self.state.calm = 0
        elif listed <= judged:
            self.state.calm += 1

    def _severity(self, weight: float) -> Severity:
        """Judge the severity, critical from twice the minimum effect and, against flutter, down to well below that."""
        enough = CRITICAL_WEIGHT * (CALM_EFFECT if self.state.severity is Severity.CRITICAL else 1.0)
        return Severity.CRITICAL if weight >= enough else Severity.WARNING

    # -- what is true now --------------------------------------------------------------------------------

    def _judge(self, check: CheckResult, found: dict[str, Finding], now: int) -> dict[str, Finding]:
        """Take over what a check found of the features; return the strongest finding of those it could judge."""
        listed = self.state.listed
        followed = _strongest(f for f in check.listed if f.family is self.family and f.feature in listed)
        blind = check.skipped.keys() if self.family is Family.DRIFT else ()
        judged = {name: finding for name, finding in followed.items() if name not in blind} | found
        for name, finding in judged.items():
            listed[name] = _judged(finding, listed.get(name), self.state.starts_at or now, now)
        return judged

    def _told(self) -> float:
        """Return the size of the largest change that the latest record told."""
        told = self.state.told
        return self._largest() if told is None else told

    def _largest(self) -> float:
        return max((_size(feature) for feature in self.state.listed.values()), default=0.0)

    def _has_moved(self, told: float, judged: Collection[str], window: AlertWindow) -> bool:
        """Return whether the largest change is another than was told, by more than a change among calm ones."""
        if not judged or window.start < self.state.told_until:
            return False
        return has_moved(self._largest(), told) and max(self._largest(), told) >= CALM_EFFECT

    def _tell(
        self,
        status: AlertStatus,
        window: AlertWindow,
        watched: int,
        judged: Mapping[str, Finding],
        evidence: Callable[[str], Evidence | None],
    ) -> AlertRecord:
        """Return a record with the statistics of the check that `judged` is of."""
        state = self.state
        for name, finding in judged.items():
            state.listed[name] = replace(state.listed[name], p_value=finding.p_value(), evidence=evidence(name))
        state.told, state.told_until = self._largest(), window.end
        return self._record(status, window, watched)

    def _record(self, status: AlertStatus, window: AlertWindow, watched: int) -> AlertRecord:
        if self.state.starts_at is None:
            raise ValueError("an episode that has not begun has no record")
        ranked = sorted(self.state.listed.values(), key=lambda f: (-f.weight, f.name))
        names = ", ".join(f.name for f in ranked)
        what = f"{len(ranked)} of {watched} features {_WORD[self.family]}: {names}"
        resolved = status is AlertStatus.RESOLVED
        return AlertRecord(
            subject=self.subject,
            seq=0,
            status=status,
            severity=self.state.severity,
            summary=f"back to normal: {names}" if resolved else what,
            starts_at=self.state.starts_at,
            ends_at=window.end if resolved else None,
            issued_at=window.end,
            window=window,
            features=tuple(replace(f, as_of=None) if f.as_of == window.end else f for f in ranked),
            since=self.state.begun,
        )

    def end(self, now: int, because: ClosedBecause, why: str) -> AlertRecord | None:
        """End the episode without a check; None if it does not fire.

        Args:
            now: Stream time, ms.
            because: Why it ends.
            why: The same in words.
        """
        if self.state.starts_at is None:
            return None
        window = AlertWindow(self.state.starts_at, max(now, self.state.starts_at), 0)
        record = self._record(AlertStatus.RESOLVED, window, len(self.state.listed))
        self._reset()
        return replace(record, summary=why, closed_because=because)

    def _reset(self) -> None:
        """Be as before the first episode; whoever shares the state sees it."""
        for name, value in asdict(DriftEpisodeState()).items():
            setattr(self.state, name, value)


def has_moved(now: float, told: float) -> bool:
    """Return whether a size is so far from the one that was told that it is told anew."""
    return now >= MOVED * told or now <= told / MOVED if now != told else False


def _strongest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the finding with the largest weight of each feature."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.feature not in best or finding.weight > best[finding.feature].weight:
            best[finding.feature] = finding
    return best


def _size(feature: DriftedFeature) -> float:
    """Return the effect in units of the minimum effect, so that statistics compare; as it is where that is 0."""
    return feature.weight if math.isfinite(feature.weight) else feature.effect


def _judged(finding: Finding, before: DriftedFeature | None, starts_at: int, now: int) -> DriftedFeature:
    """Return a feature as a check found it; distributions and p-value belong to records only."""
    reading = Reading(finding.value, finding.effect, now)
    at_start, peak, largest = reading, reading, finding.weight
    if before is not None:
        # An earlier release kept no more than the latest record.
        told = Reading(before.value, before.effect, starts_at)
        at_start = before.at_start or told
        if max(before.peak_weight, before.weight) >= finding.weight:
            peak, largest = before.peak or told, max(before.peak_weight, before.weight)
    return DriftedFeature(
        finding.feature, finding.statistic, finding.value, finding.effect, None, finding.alpha, finding.weight, None,
        at_start, peak, largest, now,
    )  # fmt: skip


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
