"""The models that are simulated, and the limits that their figures are held to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from detectors.registry import MIN_EFFECT
from monitor.spec import ModelSpec, Task
from tests.simulation.families import FAMILIES
from tests.simulation.figures import Limits
from tests.simulation.monitored import PANE, spec_of

NO_EFFECTS: Final = "{" + ", ".join(f"{name}: 1.0e-12" for name in MIN_EFFECT) + "}"
SHARE_OF_FEATURES: Final = 0.65  # of the budget of a model with rules: what drift and data quality may raise
_ANSWERS_AT_BASELINE: Final = """\
  - {name: latency, metric: latency_p95_ms, above: 100% of baseline}
  - {name: errors, metric: error_rate, above: 100% of baseline}"""
_QUALITY_AT_BASELINE: Final[Mapping[Task, str]] = MappingProxyType(
    {
        Task.BINARY: "  - {name: accuracy, metric: accuracy, drop: 0}",
        Task.REGRESSION: "  - {name: mae, metric: mae, above: 100% of baseline}\n"
        "  - {name: rmse, metric: rmse, above: 100% of baseline}",
    }
)

# -- limits of run / promise -----------------------------------------------------------------------------

_LEAST: Final = 0.8
_LEAST_OF_OTHERS: Final = 0.6
_MOST_INDEPENDENT: Final = 2.0
_MOST_AR: Final = 3.0


def limits_of(family: str, *, effects: bool) -> Limits:
    """Return what run / promise of a family is held to; an upper limit is without minimum effects only."""
    if not FAMILIES[family].dependent:
        return Limits(_LEAST, None if effects else _MOST_INDEPENDENT)
    if family.startswith("ar"):
        return Limits(_LEAST, None if effects else _MOST_AR)
    return Limits(_LEAST_OF_OTHERS)


# Median events to the first alarm, by change; of SHARE_FOUND the share of streams in which it is found.
DELAYS: Final[Mapping[str, int | None]] = MappingProxyType(
    {
        "mean .5 sd": 250, "mean .3 sd": 550, "mean .15 sd": 2_000, "mean .1 sd": None, "scale 1.25": 1_000,
        "6 % at +3 sd": 1_600, "category .005 to .05": 500,
    }
)  # fmt: skip
SHARE_FOUND: Final[Mapping[str, float]] = MappingProxyType({"mean .1 sd": 0.95})
DROP_FOUND: Final = 0.9  # of healthy models whose accuracy falls by 10 points, within DROP_WINDOWS windows
DROP_WINDOWS: Final = 5

# -- models ----------------------------------------------------------------------------------------------


def budget(rate: float) -> str:
    """Return the budget of so many false alarms a check."""
    return f"1 per {round(PANE / rate)} events"


def drift_alone(rate: float, *, effects: bool) -> ModelSpec:
    """Return a model that watches features and nothing else."""
    return spec_of(f"task: regression\noutcomes: null\nrules: []\n{_drift(rate, effects=effects)}")


def rules_alone(rate: float, task: Task, baseline: int, *, effects: bool) -> ModelSpec:
    """Return a model without features: the default rules, or without effects rules whose limit is the baseline."""
    drift = f"drift: {{false_alarms: {budget(rate)}}}"
    return spec_of(f"task: {task}\n{_outcomes(baseline)}\n{drift}\n{_rules(task, effects=effects)}")


def whole(rate: float, task: Task, baseline: int, *, effects: bool) -> ModelSpec:
    """Return a model with features and rules."""
    drift, rules = _drift(rate, effects=effects), _rules(task, effects=effects)
    return spec_of(f"task: {task}\n{_outcomes(baseline)}\n{drift}\n{rules}")


def _drift(rate: float, *, effects: bool) -> str:
    return f"drift: {{false_alarms: {budget(rate)}" + ("}" if effects else f", min_effect: {NO_EFFECTS}}}")


def _outcomes(baseline: int) -> str:
    return f"outcomes: {{within: 1m, baseline_n: {baseline}}}"


def _rules(task: Task, *, effects: bool) -> str:
    return "" if effects else f"rules:\n{_QUALITY_AT_BASELINE[task]}\n{_ANSWERS_AT_BASELINE}"
