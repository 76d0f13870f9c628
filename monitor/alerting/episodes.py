"""Episodes of alerts: each begins, changes, and ends.

Pure. A drift episode follows a version check by check: a feature joins when it drifts and stays until several
checks in a row found all of them calm, which ends the episode. A simple episode follows one condition. No episode
ends without evidence: neither without a check nor without a value of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from detectors.comparison import CALM_EFFECT
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding
from detectors.registry import RATES
from monitor.alerting.records import (
    AlertKind,
    AlertRecord,
    AlertStatus,
    AlertWindow,
    DriftedFeature,
    MetricEvidence,
    Subject,
)
from monitor.spec import Severity

CRITICAL_WEIGHT = 2.0  # times the minimum effect from which drift is critical
_KIND = {Family.DRIFT: AlertKind.DRIFT, Family.DATA_QUALITY: AlertKind.DATA_QUALITY}
_WORD = {Family.DRIFT: "drifted", Family.DATA_QUALITY: "changed in quality"}


@dataclass(slots=True)
class DriftEpisodeState:
    """The stored state of a `DriftEpisode`.

    Attributes:
        starts_at: End of the window that began the episode, ms; None while it does not fire.
        severity: Severity of the latest record.
        calm: Checks in a row that found all listed features calm.
        listed: Features of the episode, by name.
    """

    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    calm: int = 0
    listed: dict[str, DriftedFeature] = field(default_factory=dict)


@dataclass(slots=True)
class DriftEpisode:
    """The drift alert or the data-quality alert of one version.

    A feature that drifts joins the episode and stays listed until it ends, which is after `resolve_after`
    checks in a row that found all listed features calm. A check that could not judge one of them is no evidence.
    A feature that is no longer compared, since it was configured to be ignored, leaves.
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
            return self.abandon(window.end, "what drifted is not compared any more")
        for name in gone:
            del state.listed[name]
        fresh = found.keys() - state.listed.keys()
        severity = self._severity(max(f.weight for f in found.values())) if found else state.severity
        self._count_calm(check, fresh)
        begins = state.starts_at is None
        if fresh or gone or severity is not state.severity or begins:
            state.listed |= {name: _drifted(finding, evidence(name)) for name, finding in found.items()}
            state.starts_at = window.end if state.starts_at is None else state.starts_at
            state.severity = severity
            return replace(self._record(AlertStatus.FIRING, window, len(watched)), begins=begins)
        if state.calm < self.resolve_after:
            return None
        record = self._record(AlertStatus.RESOLVED, window, len(watched))
        self.state = DriftEpisodeState()
        return record

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
            features=tuple(ranked),
        )

    def abandon(self, now: int, why: str = "the reference was replaced") -> AlertRecord | None:
        """End the episode because its comparison is void; None if it does not fire."""
        if self.state.starts_at is None:
            return None
        window = AlertWindow(self.state.starts_at, now, 0)
        record = self._record(AlertStatus.RESOLVED, window, len(self.state.listed))
        self.state = DriftEpisodeState()
        return replace(record, summary=why)


def _strongest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the finding with the largest weight of each feature."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.feature not in best or finding.weight > best[finding.feature].weight:
            best[finding.feature] = finding
    return best


def _drifted(finding: Finding, evidence: Evidence | None) -> DriftedFeature:
    return DriftedFeature(
        finding.feature, finding.statistic, finding.value, finding.effect, finding.p_value(), finding.alpha,
        finding.weight, evidence,
    )  # fmt: skip


@dataclass(slots=True)
class EpisodeState:
    """The stored state of a `SimpleEpisode`.

    Attributes:
        starts_at: When the episode began, ms; None while it does not fire.
        severity: Severity of the latest record.
        metric: Evidence of the latest record.
    """

    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    metric: MetricEvidence | None = None


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
    ) -> AlertRecord:
        """Begin the episode, or return a further record of the one that fires."""
        begins = self.state.starts_at is None
        start = starts_at if self.state.starts_at is None else self.state.starts_at
        self.state.starts_at, self.state.severity, self.state.metric = start, severity, metric
        return AlertRecord(
            self.subject, 0, AlertStatus.FIRING, severity, summary, start, None, now, window, (), metric, begins=begins
        )

    def resolve(
        self, summary: str, now: int, window: AlertWindow | None = None, metric: MetricEvidence | None = None
    ) -> AlertRecord | None:
        """End the episode; None if it does not fire. Without `metric` the evidence of the latest record is repeated."""
        if self.state.starts_at is None:
            return None
        start, self.state.starts_at = self.state.starts_at, None
        self.state.metric = metric or self.state.metric
        return AlertRecord(
            self.subject, 0, AlertStatus.RESOLVED, self.state.severity, summary, start, now, now, window, (),
            self.state.metric,
        )  # fmt: skip
