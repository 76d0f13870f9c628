"""What the status document says beside counts: features and their course, the reference, and what to do next.

Pure. It reads what commits store.
"""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any

from fallback.types import WHOLE
from monitor.evaluation.feature_courses import Course, FeatureCourse, stored_courses
from monitor.reference.progress import ReferenceStatus
from monitor.reference.subjects import FEATURES, version_of
from monitor.times import format_time


def opened(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status document with the features of versions as values.

    They are stored compressed, and most documents are made without anybody who reads them.
    """
    models = {
        name: {**model, "versions": {v: _opened(its) for v, its in model["versions"].items()}}
        for name, model in status.get("models", {}).items()
    }
    return {**status, "models": models} if models else dict(status)


def _opened(version: Mapping[str, Any]) -> dict[str, Any]:
    return {**version, "features": {name: _feature(its) for name, its in features_of(version).items()}}


def features_of(version: Mapping[str, Any]) -> dict[str, FeatureCourse]:
    """Return what the latest checks of a version found of its features, of its entry in a document not yet opened."""
    return stored_courses(version["features"])


def _feature(its: FeatureCourse) -> dict[str, Any]:
    drawn = its.histograms
    return {
        "drift": its.drift and _course(its.drift),
        "data_quality": its.data_quality and _course(its.data_quality),
        "histograms": drawn and {"edges": drawn.edges, "reference": drawn.reference, "current": drawn.current},
    }


def _course(its: Course) -> dict[str, Any]:
    return {
        "statistic": its.statistic,
        "effect": its.effect,
        "limit": its.limit,
        "ratio": its.ratio,
        "recent": its.ratios(),
    }


def reference_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far the reference of a model's features has come, and the records of all references in force.

    An earlier release stored the rows of the references only.
    """
    rows = state.get("reference_rows", {}).get(FEATURES, 0)
    known = state.get("reference") or {"state": ReferenceStatus.FROZEN if rows else ReferenceStatus.ABSENT}
    records = state.get("reference_records", {}).get("in_force", {})
    of_features = records.get(FEATURES, {"number": None, "origin": None})
    rolling = state.get("rolling", {}).get(FEATURES)
    return {
        "state": str(known["state"]),
        "rows": known.get("rows", rows),
        "wanted": known.get("wanted", 0),
        "since": _time(known.get("since")),
        "number": of_features["number"],
        "origin": of_features["origin"],
        "rolling": None if rolling is None else _rolling(rolling),
        "answers": {
            version_of(subject): _record(its) for subject, its in sorted(records.items()) if subject != FEATURES
        },
    }


def _rolling(its: Mapping[str, Any]) -> dict[str, Any]:
    return {"next": _time(its.get("next")), "waiting": its.get("waiting") or None}


def renewal_words(reference: Mapping[str, Any]) -> str | None:
    """Return in words when a reference is renewed; None where it is not.

    Args:
        reference: As `reference_of` returns it.
    """
    rolling = reference.get("rolling")
    if rolling is None:
        return None
    words = f"next one not before {rolling['next']}" if rolling["next"] else "next one once its time is gathered"
    return f"waiting: {rolling['waiting']}" if rolling["waiting"] else words


def _record(its: Mapping[str, Any]) -> dict[str, Any]:
    return {"number": its["number"], "origin": its["origin"], "since": _time(its["since"])}


def _time(ms: int | None) -> str | None:
    return None if ms is None else format_time(ms)


def traffic(model: Mapping[str, Any]) -> str:
    """Return the shares of the traffic in words, that of the champion first; `model` is as for `next_step`."""
    shares = model["routes"]
    others = "".join(f", {version} {weight / 100:g} %" for version, weight in shares.items())
    return f"{(WHOLE - sum(shares.values())) / 100:g} %{others}"


def next_step(name: str, model: Mapping[str, Any]) -> str | None:
    """Return the command that a person would use first; None where nothing fires.

    Args:
        name: Name of the model.
        model: Its entry of the status document.
    """
    quoted = quote(name)
    if model["active_level"] != "primary" or any(alert["kind"] == "rollback" for alert in model["alerts"]):
        return f"driftd recover {quoted} --reason '…'"
    champion = model["versions"].get(model["champion"], {})
    if champion.get("health") == "failed" and model["previous"]:
        return f"driftd rollback {quoted} --to {quote(model['previous'])} --reason '…'"
    if any(alert["kind"] in ("drift", "data_quality") for alert in model["alerts"]):
        return f"driftd history {quoted} --last 20"
    return f"driftd alerts {quoted}" if model["alerts"] else None
