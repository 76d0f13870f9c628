"""Alert records, as they are stored and published.

Pure. The fingerprint identifies the subject of an alert, the event id its episode, (event id, seq) the record.
The same stream gives the same ids, so consumers recognise repeats.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from detectors.evidence import Evidence
from monitor.spec import Severity
from monitor.times import format_time

_LARGEST: Final = 900_000  # bytes of an alert's features
SCHEMA: Final = 1


class AlertKind(StrEnum):
    """Kinds of alerts."""

    DRIFT = "drift"
    CONCEPT_DRIFT = "concept_drift"
    METRIC = "metric"
    DATA_QUALITY = "data_quality"
    OUTLIER = "outlier"
    ROLLBACK = "rollback"
    FALLBACK = "fallback"
    ROLLOUT = "rollout"
    NO_DATA = "no_data"
    BLIND = "blind"
    DAEMON = "daemon"


class AlertStatus(StrEnum):
    """States of an episode that are published; pending is internal."""

    FIRING = "firing"
    RESOLVED = "resolved"


class ClosedBecause(StrEnum):
    """Why an episode ended."""

    RECOVERED = "recovered"  # or an operator acknowledged it
    RETIRED = "retired"  # a decision took the version out of service
    NO_TRAFFIC = "no_traffic"  # a version that is not in service sends nothing any more
    NOT_CONFIGURED = "not_configured"  # the model, rule or feature is not configured any more
    REFERENCE_CHANGED = "reference_changed"  # what it was compared with is not in force any more


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about: records about equal subjects belong to one alert.

    `name` is the rule's, or the cause of an alert that something cannot be judged, if any.
    """

    model: str
    version: str
    kind: AlertKind
    name: str = ""
    segment: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of the subject, 16 hexadecimal digits."""
        parts = [self.model, self.version, self.segment, self.kind.value, self.name]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def event_id(self, starts_at: int) -> str:
        """Return the id of the episode of this subject that starts at `starts_at` (ms): 32 hexadecimal digits."""
        return hashlib.sha256(f"{self.fingerprint}:{starts_at}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class AlertWindow:
    """Window behind an alert: stream times in ms, the number of its events, and what it is called.

    `label` is as configured: `15m`, or `1000 events`. It is empty where nothing was measured in the window.
    """

    start: int
    end: int
    events: int
    label: str = ""

    def documents(self) -> list[dict[str, Any]]:
        """Return the windows that were measured, as published."""
        times = {"from": format_time(self.start), "to": format_time(self.end)}
        return [{"window": self.label, **times, "events": self.events}] if self.label else []


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """A window that shows drift, and its strongest finding; `window` has a label."""

    window: AlertWindow
    feature: str
    statistic: str
    effect: float
    p_value: float

    def document(self) -> dict[str, Any]:
        """Return it as published."""
        (window,) = self.window.documents()
        found = {"feature": self.feature, "statistic": self.statistic, "effect": _finite(self.effect)}
        return {**window, **found, "p_value": _finite(self.p_value)}


@dataclass(frozen=True, slots=True)
class ChangeInterval:
    """When a change began, ms: most likely at `at`, and hardly before `first` or after `last`."""

    at: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured in one window: value, effect, and the end of the window in ms."""

    value: float
    effect: float
    at: int

    def document(self) -> dict[str, Any]:
        """Return it as published."""
        return {"value": _finite(self.value), "effect": _finite(self.effect), "at": format_time(self.at)}


@dataclass(frozen=True, slots=True)
class DriftedFeature:
    """A feature of a drift or data-quality alert, with the finding of its strongest detector.

    Attributes:
        p_value: None where the check of the record could not judge the feature: see `as_of`.
        threshold: The p-value at which the detector alarms.
        weight: Effect in units of the minimum effect.
        evidence: Its distributions; None where they are not those of the values.
        at_start: When it joined the episode.
        peak: When its weight was largest.
        peak_weight: That weight.
        as_of: End of the window that judged it, ms; in a record None where that is the record's own.
    """

    name: str
    statistic: str
    value: float
    effect: float
    p_value: float | None
    threshold: float
    weight: float
    evidence: Evidence | None
    at_start: Reading | None = None
    peak: Reading | None = None
    peak_weight: float = 0.0
    as_of: int | None = None
    window: str | None = None  # label of the window that the statistics are of; None where that is the record's own

    def document(self) -> dict[str, Any]:
        """Return it as published."""
        edges = list(self.evidence.edges) if self.evidence else []
        reference = list(self.evidence.reference) if self.evidence else []
        current = list(self.evidence.current) if self.evidence else []
        return {
            "name": self.name,
            "statistic": self.statistic,
            "value": self.value,
            "effect": self.effect,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "reference": {"edges": edges, "counts": reference},
            "current": {"edges": edges, "counts": current},
            "window": self.window,
            **_course(self.at_start, self.peak, self.as_of),
        }


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """Metric behind the alert of a rule or of concept drift."""

    name: str
    value: float
    baseline: float | None
    limit: float
    n: int
    at_start: Reading | None = None
    peak: Reading | None = None
    as_of: int | None = None  # end of the window that it was measured in, ms; None where that is the record's own

    @property
    def distance(self) -> float:
        """How far the value lies above its baseline (the limit without one), in units of that where it is not 0."""
        return (self.value - self.base) / (abs(self.base) or 1.0)

    @property
    def base(self) -> float:
        """What the value is held against: the baseline, or the limit where there is none."""
        return self.limit if self.baseline is None else self.baseline

    def reading(self, at: int) -> Reading:
        """Return the value as measured in the window that ends at `at` (ms)."""
        return Reading(self.value, abs(self.distance), at)

    def document(self) -> dict[str, Any]:
        """Return it as published."""
        return {
            "name": self.name,
            "value": _finite(self.value),
            "baseline": _finite(self.baseline),
            "limit": _finite(self.limit),
            "n": self.n,
            **_course(self.at_start, self.peak, self.as_of),
        }


def _course(at_start: Reading | None, peak: Reading | None, as_of: int | None) -> dict[str, Any]:
    """Return what stands beside the value of a record: how it began, its worst, and since when it is not known."""
    return {
        "at_start": at_start and at_start.document(),
        "peak": peak and peak.document(),
        "as_of": None if as_of is None else format_time(as_of),
    }


def _named(feature: str) -> dict[str, Any]:
    """Return the entry of a feature that was not judged: there is nothing but its name."""
    statistics = dict.fromkeys(("statistic", "value", "effect", "p_value", "threshold"))
    none: dict[str, list[float]] = {"edges": [], "counts": []}
    return {"name": feature, **statistics, "reference": none, "current": none}


def _fitting(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the distributions of the least important features where a record would exceed a mebibyte."""
    none: dict[str, Any] = {"edges": [], "counts": []}
    room = _LARGEST - sum(len(json.dumps({**f, "reference": none, "current": none})) for f in features)
    fitted = []
    for feature in features:
        size = len(json.dumps([feature["reference"], feature["current"]]))
        fits = size <= room
        room -= size if fits else 0
        fitted.append(feature if fits else {**feature, "reference": none, "current": none})
    return fitted


def _finite(value: float | None) -> float | None:
    """Return None for an infinite number, as the square of a large error may be: JSON has none."""
    return None if value is None or not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """A record about an episode. Times are stream times in ms; `seq` is 0 until the record is numbered."""

    subject: Subject
    seq: int
    status: AlertStatus
    severity: Severity
    summary: str
    starts_at: int
    ends_at: int | None
    issued_at: int
    window: AlertWindow | None = None
    features: tuple[DriftedFeature, ...] = ()
    metric: MetricEvidence | None = None
    begins: bool = False  # the first record of its episode
    silenced: bool = False  # recorded, not published
    closed_because: ClosedBecause | None = None  # of a resolved record
    since: AlertWindow | None = None  # the window that began the episode
    seen: tuple[SeenWindow, ...] = ()  # the windows that show drift, the shortest first
    change: ChangeInterval | None = None  # when what drifts began to
    unjudged: tuple[str, ...] = ()  # features that cannot be judged: they have a name and no statistics

    @property
    def event_id(self) -> str:
        """Id of the episode."""
        return self.subject.event_id(self.starts_at)

    def document(self) -> dict[str, Any]:
        """Return it as published, without the time of publishing."""
        window = None
        if self.window is not None:
            window = {
                "start": format_time(self.window.start),
                "end": format_time(self.window.end),
                "events": self.window.events,
            }
        return {
            "schema": SCHEMA,
            "event_id": self.event_id,
            "fingerprint": self.subject.fingerprint,
            "seq": self.seq,
            "kind": self.subject.kind.value,
            "status": self.status.value,
            "severity": self.severity.value,
            "model": self.subject.model,
            "version": self.subject.version,
            "labels": self._labels(),
            "summary": self.summary,
            "starts_at": format_time(self.starts_at),
            "ends_at": None if self.ends_at is None else format_time(self.ends_at),
            "closed_because": self.closed_because and self.closed_because.value,
            "issued_at": format_time(self.issued_at),
            "window": window,
            "windows": self._windows(),
            "since": self._since(),
            "features": _fitting([feature.document() for feature in self.features] + list(map(_named, self.unjudged))),
            "metric": self.metric.document() if self.metric else None,
            "rule": None if self.subject.kind is AlertKind.BLIND else self.subject.name or None,
        }

    def _windows(self) -> list[dict[str, Any]]:
        """Return the windows that show drift; where none does any more, or it is no drift, the record's own."""
        if self.seen:
            return [seen.document() for seen in self.seen]
        return self.window.documents() if self.window else []

    def _since(self) -> dict[str, Any] | None:
        """Return when the change began; where that is not known, the window that began the episode."""
        if self.change is not None:
            at, first, last = self.change.at, self.change.first, self.change.last
        elif self.since is not None:
            at, first, last = self.starts_at, self.since.start, self.since.end
        else:
            return None
        return {"at": format_time(at), "from": format_time(first), "to": format_time(last)}

    def _labels(self) -> dict[str, str]:
        cause = self.subject.name if self.subject.kind is AlertKind.BLIND else ""
        return {name: text for name, text in (("segment", self.subject.segment), ("cause", cause)) if text}
