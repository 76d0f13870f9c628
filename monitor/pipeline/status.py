"""The state of everything in one document: what `driftd status`, a replay's summary and the metrics show.

Pure. It is made of what a commit stores, so it says the same with and without a running daemon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from fallback.chain import answering
from fallback.types import Decision, Health
from monitor.alerting.blind import Cause
from monitor.alerting.label_watch import labels_of
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus
from monitor.alerting.silent_versions import expected_versions
from monitor.evaluation.foundation import Foundation
from monitor.evaluation.rules import RuleVerdict
from monitor.events.codes import OTHER
from monitor.events.columns import EventKind, Events
from monitor.events.refusals import Aside, Refused, SetAside
from monitor.pipeline.episodes_of import firing
from monitor.pipeline.lateness import Late
from monitor.pipeline.shown import next_step, reference_of
from monitor.reference.progress import ReferenceStatus
from monitor.reference.subjects import FEATURES, answers_of
from monitor.saved import from_plain
from monitor.serving.role import Role, role
from monitor.serving.state import ServingState
from monitor.stream.types import Batch
from monitor.times import format_time

SCHEMA: Final = 1
CHECK_RESULTS: Final = ("ok", "drift", "too_few", "no_reference", "blind")
SHOWN_REMOVED: Final = 86_400_000  # ms of the wall clock that a model is shown after it was removed
_NONE: Final[Mapping[str, int]] = {}
UNKNOWN: Final = "unknown"  # health of a version that was never looked at, or is not any more
_DARK: Final = (Cause.NO_PREDICTIONS, Cause.WINDOW)
_VERDICTS: Final = (RuleVerdict.OK, RuleVerdict.CHANCE, RuleVerdict.BREACH)
# What is stored of a version that was never seen.
_NOTHING: Final[Mapping[str, Any]] = {
    "predictions": 0, "joined": 0, "metrics": {}, "outcome_metrics": {}, "rules": {}, "checks": {}, "skipped": {},
    "served_by": {}, "health": {"health": Health.HEALTHY.value}, "drift": {"listed": {}}, "quality": {"listed": {}},
}  # fmt: skip
_EVENTS: Final = (
    "read", "predictions", "outcomes", "resources", "dead_letters", "late_predictions", "late_after_idle", "synthetic",
)  # fmt: skip
_NAMES: Final = 50  # of unknown models, and of fields of a model; what is beyond is counted together


@dataclass(slots=True)
class Totals:
    """Cumulative counts, as committed."""

    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_EVENTS, 0))
    join: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("joined", "duplicates", "conflicts", "orphans", "late", "expired", "pending"), 0
        )
    )
    alerts: dict[str, int] = field(default_factory=lambda: {"firing": 0, "resolved": 0})
    alerts_by_kind: dict[str, int] = field(default_factory=dict)
    decisions: int = 0
    dead_letters_by_reason: dict[str, int] = field(default_factory=dict)
    decisions_by_reason: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0  # of processing, of the run that a replay was
    ignored: dict[str, int] = field(default_factory=dict)  # events, by the name of a model that is not configured
    early_metrics_dropped: int = 0  # outcomes whose metrics were dropped before their prediction came
    # Values that could not be used and count as missing, by model, field and reason.
    unusable: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin counts that an earlier release did not store."""
        self.events = dict.fromkeys(_EVENTS, 0) | self.events

    def count_events(self, batch: Batch, events: Events, late: Late) -> None:
        """Count the records of a batch."""
        prediction = events.kind <= EventKind.UNSERVED
        self.events["read"] += len(batch)
        self.events["predictions"] += int(np.count_nonzero(prediction))
        self.events["outcomes"] += int(np.count_nonzero(events.kind == EventKind.OUTCOME))
        self.events["resources"] += int(np.count_nonzero(events.kind == EventKind.RESOURCES))
        self.events["late_predictions"] += int(np.count_nonzero(late.by_partition & prediction))
        self.events["late_after_idle"] += int(np.count_nonzero(late.after_idle & prediction))

    def count_aside(self, aside: Sequence[SetAside]) -> None:
        """Count records that are neither accepted nor refused."""
        for what in aside:
            if what.why is Aside.SYNTHETIC:
                self.events["synthetic"] += 1
            else:
                name = _bounded(self.ignored, what.model)
                self.ignored[name] = self.ignored.get(name, 0) + 1

    def count_faults(self, events: Events, models: Sequence[str]) -> None:
        """Count values that cannot be used, in the order of the batch; `models` are names by index."""
        for i in np.flatnonzero(events.faults.astype(np.bool_)).tolist():
            fields = self.unusable.setdefault(models[int(events.model[i])], {})
            for fault in events.faults[i]:
                # Beyond the bound a feature or metric is counted under the field that it is in.
                path = _bounded(fields, fault.field, fault.field.partition(".")[0])
                reasons = fields.setdefault(path, {})
                reasons[fault.reason.value] = reasons.get(fault.reason.value, 0) + 1

    def count_refused(self, refused: Sequence[Refused]) -> None:
        """Count records that become dead letters."""
        by_reason = self.dead_letters_by_reason
        for r in refused:
            by_reason[r.reason.value] = by_reason.get(r.reason.value, 0) + 1
        self.events["dead_letters"] += len(refused)

    def count_published(self, published: Sequence[AlertRecord | Decision]) -> None:
        """Count alerts that begin or end, and decisions."""
        for what in published:
            if isinstance(what, Decision):
                self.decisions += 1
                self.decisions_by_reason[what.reason.value] = self.decisions_by_reason.get(what.reason.value, 0) + 1
            elif what.status is AlertStatus.RESOLVED:
                self.alerts["resolved"] += 1
            elif what.begins:
                self.alerts["firing"] += 1
                kind = what.subject.kind.value
                self.alerts_by_kind[kind] = self.alerts_by_kind.get(kind, 0) + 1


def document(
    totals: Totals, models: Mapping[str, Mapping[str, Any]], daemon: Mapping[str, int] = _NONE, wall: int = 0
) -> dict[str, Any]:
    """Return the document; features are as they are stored: see `shown.opened`.

    Args:
        totals: Cumulative counts.
        models: The states that commits store, by model.
        daemon: Alerts about the daemon that fire: since when, ms, by name.
        wall: The time of day, ms: models that were removed from the configuration long before it are left out.
    """
    shown = {name: _model(name, state) for name, state in sorted(models.items()) if not _is_over(state, wall)}
    active = [AlertKind.DAEMON.value] * len(daemon)
    active += [alert["kind"] for model in shown.values() for alert in model["alerts"]]
    return {
        "schema": SCHEMA,
        "seconds": round(totals.seconds, 3),
        "events": {**totals.events, "ignored": dict(sorted(totals.ignored.items()))},
        "join": {**totals.join, "early_metrics_dropped": totals.early_metrics_dropped},
        "alerts": {
            **totals.alerts,
            "by_kind": dict(sorted(totals.alerts_by_kind.items())),
            "active": len(active),
            "active_by_kind": {kind: active.count(kind) for kind in sorted(set(active))},
        },
        "decisions": totals.decisions,
        "decisions_by_reason": dict(sorted(totals.decisions_by_reason.items())),
        "dead_letters_by_reason": dict(sorted(totals.dead_letters_by_reason.items())),
        "unusable": {model: _sorted(fields) for model, fields in sorted(totals.unusable.items())},
        "models": shown,
    }


def _is_over(state: Mapping[str, Any], wall: int) -> bool:
    """Return whether a model was removed so long ago that it is not shown any more."""
    removed_at = state.get("removed_at")
    return removed_at is not None and wall - removed_at > SHOWN_REMOVED


def _bounded(counts: Mapping[str, object], name: str, other: str = OTHER) -> str:
    """Return under which name something is counted: `other` where there are too many."""
    return name if name in counts or len(counts) < _NAMES else other


def _sorted(fields: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {path: dict(sorted(reasons.items())) for path, reasons in sorted(fields.items())}


def _model(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    decided, removed_at = from_plain(state["steering"], ServingState), state.get("removed_at")
    serving = decided.serving
    named = {v["version"]: v for v in state["versions"].values()}
    references, baselines = state.get("reference_rows", {}), state.get("baseline_rows", {})
    assumed = state.get("assumed", {})
    blind = [_blind(held) for held in (*state.get("blind", {}).get("alerts", ()), *_blind_labels(state))]
    dark = {held["version"] for held in blind if held["cause"] in _DARK}
    silent = state["no_data"]["starts_at"] is not None
    reference = reference_of(state)
    waits = reference["state"] == ReferenceStatus.FREEZING

    def shown(version: str, its: Mapping[str, Any] | None) -> dict[str, Any]:
        taken = {
            "reference_rows": references.get(answers_of(version), 0),
            "baseline_rows": baselines.get(version, 0),
            **_founded(assumed.get(version)),
        }
        unseen = its is None or silent or version in dark
        now = not unseen and removed_at is None and its is not None and its.get("closed") is None
        features = its.get("features", "") if its is not None and now else ""
        found = {**_version(its or _NOTHING, role(serving, version)), **taken, "features": features}
        # Healthy is said of a version only that was looked at, and still is.
        unknown = unseen or waits or its is None or not _judged(its)
        return {**found, "health": UNKNOWN} if unknown and found["health"] == Health.HEALTHY else found

    known = sorted({*named, *expected_versions(serving)}) if named else []
    found = {
        "versions": {version: shown(version, named.get(version)) for version in known},
        "blind": blind,
        "notes": list(state.get("notes", ())),
        "reference_rows": references.get(FEATURES, 0),
        "reference": reference,
        "active_level": serving.active.value,
        "answering": answering(serving, serving.active),
        "champion": serving.champion,
        "previous": serving.previous,
        "routes": {r.version: r.weight for r in serving.challengers},
        "generation": decided.generation,
        "reason": decided.reason.value,
        "by": decided.by or None,
        "cause": decided.cause,
        "decided_at": format_time(decided.issued_at) if decided.generation else None,
        "removed_at": None if removed_at is None else format_time(removed_at),
        "alerts": firing(state),
    }
    return {**found, "next": next_step(name, found)}


def _founded(reasons: Sequence[str] | None) -> dict[str, Any]:
    """Return how well the promise of false alarms is founded; None where nothing has a promise, or none is stored."""
    if reasons is None:
        return {"founded": None, "assumed_because": []}
    return {"founded": Foundation(tuple(reasons)).state, "assumed_because": list(reasons)}


def _blind(held: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown of an alert that something cannot be judged."""
    shown = {name: held[name] for name in ("version", "cause", "summary")}
    features = [] if held["cause"] == Cause.RULES else list(held["names"])
    return {**shown, "features": features, "since": format_time(held["starts_at"])}


def _blind_labels(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is shown of alerts that labels cannot be compared."""
    for cause, alert, words in labels_of(state.get("labels", {})):
        if alert["starts_at"] is not None:
            yield {"version": "", "cause": cause, "summary": words, "names": (), "starts_at": alert["starts_at"]}


def _judged(state: Mapping[str, Any]) -> bool:
    """Tell whether any check of a version had something to judge: by its rules, or of drift where it has none."""
    if any(state["checks"].get(result) for result in ("ok", "drift")):
        return True
    rules = state["rules"].values()
    return any(r["verdict"] in _VERDICTS or r["state"]["calm"] or r["state"]["breaches"] for r in rules)


def _version(state: Mapping[str, Any], its_role: Role) -> dict[str, Any]:
    metrics = {name: e["value"] for name, e in (*state["outcome_metrics"].items(), *state["metrics"].items())}
    firing = [name for name, rule in state["rules"].items() if rule["state"]["firing"]]
    pending = [
        name for name, rule in state["rules"].items() if rule["state"]["breaches"] and not rule["state"]["firing"]
    ]
    return {
        "predictions": state["predictions"],
        "outcomes": state["joined"],
        "metrics": {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)},
        "role": its_role.value,
        "health": state["health"]["health"],
        "firing": firing,
        "pending": pending,
        "drifted": sorted(state["drift"]["listed"]),
        "data_quality": sorted(state["quality"]["listed"]),
        "concept_drift": bool(state.get("concept")) and state["concept"]["alert"]["starts_at"] is not None,
        "skipped": state["skipped"],
        "checks": state["checks"],
        "served_by": state["served_by"],
    }
