"""The episodes in the stored state of a model: which of its alerts fire, and their end where a model is removed.

Pure. It reads what commits store, so it needs neither the configuration of the model nor a running daemon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from detectors.findings import Family
from monitor.alerting.blind import BlindAlerts
from monitor.alerting.drift_episodes import DriftEpisode
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.label_watch import episodes_of_labels, labels_of
from monitor.alerting.records import AlertKind, AlertRecord, ClosedBecause, Subject
from monitor.evaluation.rules import RuleState
from monitor.pipeline.saved_states import SavedModel
from monitor.spec import Severity
from monitor.times import format_time

_SHOWN: Final = 5  # features that are named


def episodes_of(model: str, saved: SavedModel) -> Iterator[DriftEpisode | SimpleEpisode]:
    """Yield the episodes that are stored of a model, those that do not fire included; not what is blind.

    Args:
        model: Name of the model.
        saved: Its state, which the episodes share.
    """
    yield SimpleEpisode(Subject(model, "", AlertKind.NO_DATA), saved.no_data)
    yield SimpleEpisode(Subject(model, "", AlertKind.FALLBACK), saved.steering.fallback)
    yield from episodes_of_labels(model, saved.labels)
    for version, alert in saved.steering.rolled_back.items():
        yield SimpleEpisode(Subject(model, version, AlertKind.ROLLBACK), alert)
    for its in sorted(saved.versions.values(), key=lambda v: v.version):
        yield DriftEpisode(model, its.version, Family.DRIFT, 1, its.drift)
        yield DriftEpisode(model, its.version, Family.DATA_QUALITY, 1, its.quality)
        for name, rule in its.rules.items():
            yield SimpleEpisode(Subject(model, its.version, AlertKind.METRIC, name), rule.alert)
        if its.concept is not None:
            yield SimpleEpisode(Subject(model, its.version, AlertKind.CONCEPT_DRIFT), its.concept.alert)


def firing(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the alerts of a model that fire, as the status document has them, the earliest first.

    Args:
        state: The state of the model as it is stored: it is read with every commit, so no more of it than is needed.
    """
    found = [
        {
            "kind": kind.value,
            "version": version,
            "rule": rule,
            "severity": episode["severity"],
            "since": format_time(episode["starts_at"]),
            "what": _what(episode),
        }
        for kind, version, rule, episode in _stored(state)
        if episode["starts_at"] is not None
    ]
    return sorted(found, key=lambda alert: (alert["since"], alert["kind"], alert["version"], alert["rule"] or ""))


def _what(episode: Mapping[str, Any]) -> str:
    """Return how much it is, in words: a metric against its limit, or the strongest features."""
    metric, listed = episode.get("metric"), episode.get("listed")
    if metric:
        baseline = "" if metric["baseline"] is None else f", baseline {metric['baseline']:.4g}"
        return f"{metric['name']} {metric['value']:.4g} (limit {metric['limit']:.4g}{baseline}, n {metric['n']})"
    if listed:
        ranked = sorted(listed.values(), key=lambda feature: (-feature["weight"], feature["name"]))
        shown = ", ".join(map(_feature, ranked[:_SHOWN]))
        return shown if len(ranked) <= _SHOWN else f"{shown} and {len(ranked) - _SHOWN} more"
    return str(episode.get("summary", ""))


def _feature(feature: Mapping[str, Any]) -> str:
    """Return how much a feature has changed, against the smallest change that counts."""
    effect, weight = feature["effect"], feature["weight"]
    limit = f", limit {effect / weight:.3g}" if weight and math.isfinite(weight) else ""
    return f"{feature['name']} ({feature['statistic']} {effect:.3g}{limit})"


def _stored(state: Mapping[str, Any]) -> Iterator[tuple[AlertKind, str, str | None, Mapping[str, Any]]]:
    """Yield (kind, version, rule or cause, state) of the episodes that `episodes_of` has, and of what is blind."""
    yield AlertKind.NO_DATA, "", None, state["no_data"]
    yield AlertKind.FALLBACK, "", None, state["steering"]["fallback"]
    for cause, alert, words in labels_of(state.get("labels", {})):
        yield AlertKind.BLIND, "", cause, {**alert, "summary": words}
    for held in state.get("blind", {}).get("alerts", ()):
        yield AlertKind.BLIND, held["version"], held["cause"], {**held, "severity": Severity.WARNING.value}
    for version, alert in state["steering"]["rolled_back"].items():
        yield AlertKind.ROLLBACK, version, None, alert
    for its in state["versions"].values():
        version = its["version"]
        yield AlertKind.DRIFT, version, None, its["drift"]
        yield AlertKind.DATA_QUALITY, version, None, its["quality"]
        for name, rule in its["rules"].items():
            yield AlertKind.METRIC, version, name, rule["alert"]
        if its.get("concept"):
            yield AlertKind.CONCEPT_DRIFT, version, None, its["concept"]["alert"]


def end_all(model: str, saved: SavedModel, now: int) -> list[AlertRecord]:
    """End all alerts of a model that is not configured any more; `now` is stream time, ms."""
    why, because = f"{model} is not configured any more", ClosedBecause.NOT_CONFIGURED
    records: list[AlertRecord] = []
    for episode in episodes_of(model, saved):
        if isinstance(episode, DriftEpisode):
            record = episode.end(now, because, why)
        else:
            record = episode.resolve(why, now, because=because)
        records += [] if record is None else [record]
    blind = BlindAlerts(model)
    blind.firing = saved.blind.alerts
    records += blind.end(blind.firing, why, because, now)
    for version in saved.versions.values():
        for rule in version.rules.values():
            rule.state = RuleState()
    return records
