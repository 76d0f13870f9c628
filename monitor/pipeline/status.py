"""The state of everything in one document: what `driftd status`, a replay's summary and the metrics show.

Pure. It is made of what a commit stores, so it says the same with and without a running daemon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fallback.chain import answering
from monitor.serving.controller import Role, ServingController

SCHEMA: Final = 1


@dataclass(slots=True)
class Totals:
    """Cumulative counts, as committed."""

    events: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("read", "predictions", "outcomes", "resources", "dead_letters", "late_predictions"), 0
        )
    )
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


def document(totals: Totals, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document; `models` are the states that commits store."""
    return {
        "schema": SCHEMA,
        "seconds": round(totals.seconds, 3),
        "events": dict(totals.events),
        "join": dict(totals.join),
        "alerts": {**totals.alerts, "by_kind": dict(sorted(totals.alerts_by_kind.items()))},
        "decisions": totals.decisions,
        "decisions_by_reason": dict(sorted(totals.decisions_by_reason.items())),
        "dead_letters_by_reason": dict(sorted(totals.dead_letters_by_reason.items())),
        "models": {name: _model(name, state) for name, state in sorted(models.items())},
    }


def _model(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    controller = ServingController.of(name, state["steering"])
    serving = controller.serving
    named = {v["version"]: v for v in state["versions"].values()}
    return {
        "versions": {version: _version(v, controller.role(version)) for version, v in sorted(named.items())},
        "active_level": serving.active.value,
        "answering": answering(serving, serving.active),
        "champion": serving.champion,
        "previous": serving.previous,
        "routes": {r.version: r.weight for r in serving.challengers},
        "generation": controller.generation,
        "reason": controller.reason.value,
    }


def _version(state: Mapping[str, Any], role: Role) -> dict[str, Any]:
    metrics = {name: e["value"] for name, e in (*state["outcome_metrics"].items(), *state["metrics"].items())}
    firing = [name for name, rule in state["rules"].items() if rule["state"]["firing"]]
    pending = [
        name for name, rule in state["rules"].items() if rule["state"]["breaches"] and not rule["state"]["firing"]
    ]
    return {
        "predictions": state["predictions"],
        "outcomes": state["joined"],
        "metrics": {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)},
        "role": role.value,
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
