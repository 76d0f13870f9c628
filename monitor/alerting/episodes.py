"""The life of alerts: an episode begins, changes, ends.

Pure. Drift is judged check by check and feature by feature: a feature joins the episode when it drifts and
stays until several checks in a row found all of them calm, which ends the episode. Rules hold one condition.
Nothing is ever resolved by silence: without a check nothing happens here, nor without a value of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from detectors.comparison import CALM_EFFECT
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding
from detectors.registry import RATES
from fallback.types import Decision
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


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts of a model that are recorded but not published until `until` (stream time, ms)."""

    until: int
    reason: str
    version: str | None = None
    kind: str | None = None

    def covers(self, subject: Subject, now: int) -> bool:
        """Whether it mutes an alert now."""
        return now < self.until and self.version in (None, subject.version) and self.kind in (None, subject.kind.value)


class AlertPublisher:
    """What a model tells the world, in order: numbered alert records, and decisions. One per model."""

    def __init__(self) -> None:
        self._seq: dict[str, int] = {}
        self._muted: dict[str, AlertRecord] = {}  # firing, and its latest record was silenced
        self.silences: tuple[Silence, ...] = ()
        self._out: list[AlertRecord | Decision] = []

    def decided(self, decision: Decision) -> None:
        """Put a decision out."""
        self._out.append(decision)

    def emit(self, record: AlertRecord | None) -> None:
        """Number a record and put it out; None is nothing to say."""
        if record is None:
            return
        fingerprint = record.subject.fingerprint
        seq = self._seq[fingerprint] = self._seq.get(fingerprint, 0) + 1
        silenced = any(s.covers(record.subject, record.issued_at) for s in self.silences)
        numbered = replace(record, seq=seq, silenced=silenced)
        if silenced and record.status is AlertStatus.FIRING:
            self._muted[fingerprint] = numbered
        else:
            self._muted.pop(fingerprint, None)
        self._out.append(numbered)

    def unmute(self, now: int) -> None:
        """Silences that ran out: what still fires is said again."""
        if not self.silences or all(now < s.until for s in self.silences):
            return
        self.silences = tuple(s for s in self.silences if now < s.until)
        for record in list(self._muted.values()):
            if not any(s.covers(record.subject, now) for s in self.silences):
                self.emit(replace(record, issued_at=now))

    def take(self) -> list[AlertRecord | Decision]:
        """What was put out since this was last called."""
        out, self._out = self._out, []
        return out

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "seq": self._seq,
            "silences": [asdict(s) for s in self.silences],
            "muted": [asdict(record) for record in self._muted.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._seq = dict(state["seq"])
        self.silences = tuple(Silence(**s) for s in state["silences"])
        muted = [_record(saved) for saved in state["muted"]]
        self._muted = {record.subject.fingerprint: record for record in muted}


def _record(saved: Mapping[str, Any]) -> AlertRecord:
    window, metric = saved["window"], saved["metric"]
    return AlertRecord(
        **{
            **saved,
            "subject": Subject(**{**saved["subject"], "kind": AlertKind(saved["subject"]["kind"])}),
            "status": AlertStatus(saved["status"]),
            "severity": Severity(saved["severity"]),
            "window": None if window is None else AlertWindow(**window),
            "features": tuple(_feature(f) for f in saved["features"]),
            "metric": None if metric is None else MetricEvidence(**metric),
        }
    )


@dataclass(slots=True)
class DriftEpisode:
    """Drift or data quality of one version: not firing while `starts_at` is None.

    A feature that drifts joins the episode and stays listed until it ends, which is after `resolve_after`
    checks in a row that found all listed features calm. A check that could not judge one of them is evidence of
    nothing. A feature that is not compared any more, since it was configured to be ignored, leaves.
    """

    model: str
    version: str
    family: Family
    resolve_after: int
    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    calm: int = 0  # checks in a row
    listed: dict[str, DriftedFeature] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        """What its records are about."""
        return Subject(self.model, self.version, _KIND[self.family])

    def features(self) -> list[tuple[Family, str]]:
        """What a check must say of: has it calmed?"""
        return [(self.family, name) for name in self.listed]

    def update(
        self,
        check: CheckResult,
        window: AlertWindow,
        watched: Collection[str],
        evidence: Callable[[str], Evidence | None],
    ) -> AlertRecord | None:
        """Take one check in; a record where there is something new to say. `watched` are all that are compared."""
        found = _strongest(f for f in check.findings if f.family is self.family)
        if self.starts_at is None and not found:
            return None
        gone = self.listed.keys() - set(watched)
        if not found and gone and len(gone) == len(self.listed):
            return self.abandon(window.end, "what drifted is not compared any more")
        for name in gone:
            del self.listed[name]
        fresh = found.keys() - self.listed.keys()
        severity = self._severity(max(f.weight for f in found.values())) if found else self.severity
        self._count_calm(check, fresh)
        if fresh or gone or severity is not self.severity or self.starts_at is None:
            for name, finding in found.items():
                self.listed[name] = _drifted(finding, evidence(name))
            begins = self.starts_at is None
            self.starts_at = window.end if self.starts_at is None else self.starts_at
            self.severity = severity
            return replace(self._record(AlertStatus.FIRING, window, len(watched)), begins=begins)
        if self.calm < self.resolve_after:
            return None
        record = self._record(AlertStatus.RESOLVED, window, len(watched))
        self._end()
        return record

    def _count_calm(self, check: CheckResult, fresh: Collection[str]) -> None:
        """One more calm check, or none any more, or neither where a listed feature had no value."""
        rates = self.family is Family.DATA_QUALITY
        judged = {v.feature for v in check.values if (v.statistic in RATES) is rates}
        restless = any((self.family, name) not in check.calm for name in self.listed.keys() & judged)
        if fresh or restless:
            self.calm = 0
        elif self.listed.keys() <= judged:
            self.calm += 1

    def _end(self) -> None:
        self.starts_at, self.listed, self.calm, self.severity = None, {}, 0, Severity.WARNING

    def _severity(self, weight: float) -> Severity:
        """Critical from twice the minimum effect on; back only well below that, so that it does not flutter."""
        enough = CRITICAL_WEIGHT * (CALM_EFFECT if self.severity is Severity.CRITICAL else 1.0)
        return Severity.CRITICAL if weight >= enough else Severity.WARNING

    def _record(self, status: AlertStatus, window: AlertWindow, watched: int) -> AlertRecord:
        if self.starts_at is None:
            raise ValueError("an episode that has not begun has nothing to say")
        ranked = sorted(self.listed.values(), key=lambda f: (-f.weight, f.name))
        names = ", ".join(f.name for f in ranked)
        what = f"{len(ranked)} of {watched} features {_WORD[self.family]}: {names}"
        resolved = status is AlertStatus.RESOLVED
        return AlertRecord(
            subject=self.subject,
            seq=0,
            status=status,
            severity=self.severity,
            summary=f"back to normal: {names}" if resolved else what,
            starts_at=self.starts_at,
            ends_at=window.end if resolved else None,
            issued_at=window.end,
            window=window,
            features=tuple(ranked),
        )

    def abandon(self, now: int, why: str = "the reference was replaced") -> AlertRecord | None:
        """What the episode says holds no more."""
        if self.starts_at is None:
            return None
        record = self._record(AlertStatus.RESOLVED, AlertWindow(self.starts_at, now, 0), len(self.listed))
        self._end()
        return replace(record, summary=why)

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "starts_at": self.starts_at,
            "severity": self.severity.value,
            "calm": self.calm,
            "listed": {name: asdict(feature) for name, feature in self.listed.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.starts_at, self.calm = state["starts_at"], state["calm"]
        self.severity = Severity(state["severity"])
        self.listed = {name: _feature(saved) for name, saved in state["listed"].items()}


def _feature(saved: Mapping[str, Any]) -> DriftedFeature:
    evidence = saved["evidence"]
    if evidence is not None:
        evidence = Evidence(**{name: tuple(values) for name, values in evidence.items()})
    return DriftedFeature(**{**saved, "evidence": evidence})


def _strongest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The detector that says most, for each feature."""
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
class SimpleEpisode:
    """An alert about one condition: a rule, missing data, a rollback, a fallback, the daemon itself."""

    subject: Subject
    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    metric: MetricEvidence | None = None

    @property
    def firing(self) -> bool:
        """Whether the episode goes on."""
        return self.starts_at is not None

    @property
    def event_id(self) -> str | None:
        """Of the running episode."""
        return None if self.starts_at is None else self.subject.event_id(self.starts_at)

    def fire(
        self,
        severity: Severity,
        summary: str,
        starts_at: int,
        now: int,
        window: AlertWindow | None = None,
        metric: MetricEvidence | None = None,
    ) -> AlertRecord:
        """Begin the episode, or say something new about the one that goes on."""
        begins = self.starts_at is None
        self.starts_at = starts_at if self.starts_at is None else self.starts_at
        self.severity, self.metric = severity, metric
        return AlertRecord(
            self.subject, 0, AlertStatus.FIRING, severity, summary, self.starts_at, None, now, window, (), metric,
            begins=begins,
        )  # fmt: skip

    def resolve(self, summary: str, now: int, window: AlertWindow | None = None) -> AlertRecord | None:
        """End the episode; None if there is none."""
        if self.starts_at is None:
            return None
        record = AlertRecord(
            self.subject, 0, AlertStatus.RESOLVED, self.severity, summary, self.starts_at, now, now, window, (),
            self.metric,
        )  # fmt: skip
        self.starts_at = None
        return record

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "starts_at": self.starts_at,
            "severity": self.severity.value,
            "metric": None if self.metric is None else asdict(self.metric),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.starts_at = state["starts_at"]
        self.severity = Severity(state["severity"])
        self.metric = None if state["metric"] is None else MetricEvidence(**state["metric"])
