"""What a release says of a place: through its commands and its topics, and nothing else.

What may differ from one run to the next is left out: the time of day, process ids and how often was committed. All
the rest is compared as text, so that numbers are the same to their last digit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Ask = Callable[..., str]  # runs `driftd ARGUMENTS` and gives its standard output
Told = dict[str, list[str]]  # lines by section

MODELS: Final = ("heat", "spam", "animal", "quiet")
TOPICS: Final = {"alerts": "driftd.alerts", "decisions": "driftd.decisions", "dead letters": "driftd.dead-letters"}
SECTIONS: Final = ("status", "history", "references", "requests", *TOPICS)
NEW_METRICS: Final = ("sharpness",)  # since 0.1.0
NEW_COLUMNS: Final = ("statistic", "effect", "threshold", "p_value", "verdict", "window", "answers")  # of the history
_VOLATILE: Final = ("seconds", "commits", "epoch", "owner")


def told(place: Path, ask: Ask, requests: Sequence[str]) -> Told:
    """All sections of a place in which no daemon runs."""
    found = {
        "status": _without(_as_then(json.loads(ask("status", "--json"))), _VOLATILE),
        "history": [
            _row_as_then(line)
            for model in MODELS
            for line in ask("history", model, "--json").splitlines()
            if json.loads(line)["metric"] not in NEW_METRICS and json.loads(line)["value"] is not None
        ],
        "references": [line for model in MODELS for line in ask("reference", "show", model, "--json").splitlines()],
        "requests": [line for request in requests for line in ask("inspect", request, "--json").splitlines()],
    }
    for section, topic in TOPICS.items():
        path = place / "stream" / f"{topic}.jsonl"
        published = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        # Where those of the daemon itself stand among the others is a matter of when was committed.
        records = sorted(map(json.loads, published), key=lambda record: record.get("kind") == "daemon")
        found[section] = [json.dumps(_published(record)) for record in records]
    return found


def _as_then(status: dict[str, Any]) -> dict[str, Any]:
    """Leave out what 0.1.0 did not have."""
    status.pop("destinations", None)
    status.pop("committed_at", None)
    status.pop("no_daemon", None)
    for name in ("active", "active_by_kind"):
        status["alerts"].pop(name, None)
    for name in ("late_after_idle", "synthetic", "ignored"):
        if not status["events"].get(name):
            status["events"].pop(name, None)
    if not status["join"].get("early_metrics_dropped"):
        status["join"].pop("early_metrics_dropped", None)
    if not status.get("unusable"):
        status.pop("unusable", None)
    for model in status["models"].values():
        for version in model["versions"].values():
            if not version["served_by"].get("champion"):
                version["served_by"].pop("champion", None)
    for model in status["models"].values():
        for name in (
            "reference_rows",
            "by",
            "cause",
            "decided_at",
            "removed_at",
            "alerts",
            "blind",
            "notes",
            "reference",
            "next",
        ):
            model.pop(name, None)
        for version in model["versions"].values():
            version.pop("reference_rows", None)
            version.pop("baseline_rows", None)
            version.pop("features", None)
            version.pop("founded", None)
            version.pop("assumed_because", None)
            if version["health"] == "unknown":  # of versions that were not looked at 0.1.0 said that they are healthy
                version["health"] = "healthy"
            version["metrics"] = {k: v for k, v in version["metrics"].items() if k not in NEW_METRICS}
    return status


def _row_as_then(line: str) -> str:
    return json.dumps({name: value for name, value in json.loads(line).items() if name not in NEW_COLUMNS})


def _without(document: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return json.dumps({k: v for k, v in document.items() if k not in names}, indent=1).splitlines()


def _published(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the time of publishing, and what records of 0.1.0 did not have."""
    found = {k: v for k, v in record.items() if k not in ("published_at", "by", "closed_because", "since", "windows")}
    if isinstance(found.get("features"), list):
        found["features"] = [_part(feature) for feature in found["features"]]
    if isinstance(found.get("metric"), dict):
        found["metric"] = _part(found["metric"])
    return found


def _part(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in evidence.items() if k not in ("at_start", "peak", "as_of")}
