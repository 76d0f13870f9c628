"""The default rules, for models whose configuration has no `rules`.

Pure. A warning asks for a look, a critical alert for immediate action, and worse breaches trigger a rollback.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from monitor.spec import Bound, Consequence, LimitBasis, RuleSpec, Severity, Task

_CHECKS: Final = 3  # in a row: one bad window is not an incident
_MIN_N: Final = 30
_MINUTE: Final = 60_000


def default_rules(task: Task, *, outcomes: bool, listed: Collection[str] | None = None) -> tuple[RuleSpec, ...]:
    """Return the default rules of a task.

    Args:
        task: Task of the model.
        outcomes: Whether the model has outcomes; without them there are no rules on quality.
        listed: Quality metrics that are kept; None: all.
    """
    rules = [
        _absolute("latency_warning", "latency_p95_ms", Bound.ABOVE, 750, Severity.WARNING),
        _absolute("latency_critical", "latency_p95_ms", Bound.ABOVE, 1_000, Severity.CRITICAL),
        _relative("latency_rollback", "latency_p95_ms", 2.0),
        _absolute("errors_warning", "error_rate", Bound.ABOVE, 0.002, Severity.WARNING),
        _absolute("errors_critical", "error_rate", Bound.ABOVE, 0.005, Severity.CRITICAL),
        _absolute("errors_rollback", "error_rate", Bound.ABOVE, 0.01, Severity.CRITICAL, Consequence.ROLLBACK),
        _relative("memory_rollback", "memory_mb", 1.5, min_n=3),
        RuleSpec(
            "agreement_warning", "agreement", Bound.BELOW, 0.75, LimitBasis.NOTHING, Severity.WARNING,
            checks=1, dwell=30 * _MINUTE, then=Consequence.NONE, hard=False, min_n=_MIN_N,
        ),
    ]  # fmt: skip
    if outcomes:
        rules += [rule for rule in _on_quality(task) if listed is None or rule.metric in listed]
    return tuple(rules)


def _on_quality(task: Task) -> list[RuleSpec]:
    if task is Task.REGRESSION:
        return [
            _error("error_warning", 1.1, Severity.WARNING, Consequence.NONE),
            _error("error_critical", 1.25, Severity.CRITICAL, Consequence.NONE),
            _error("error_rollback", 1.5, Severity.CRITICAL, Consequence.ROLLBACK),
        ]
    return [
        _drop("accuracy_warning", 0.01, Severity.WARNING, Consequence.NONE),
        _drop("accuracy_critical", 0.03, Severity.CRITICAL, Consequence.NONE),
        _drop("accuracy_rollback", 0.05, Severity.CRITICAL, Consequence.ROLLBACK),
    ]


def _absolute(
    name: str, metric: str, bound: Bound, limit: float, severity: Severity, then: Consequence = Consequence.NONE
) -> RuleSpec:
    return RuleSpec(name, metric, bound, limit, LimitBasis.NOTHING, severity, _CHECKS, 0, then, False, _MIN_N)


def _relative(name: str, metric: str, ratio: float, min_n: int = _MIN_N) -> RuleSpec:
    """Return a rule that rolls back above a multiple of the baseline."""
    return RuleSpec(
        name, metric, Bound.ABOVE, ratio, LimitBasis.SHARE, Severity.CRITICAL, _CHECKS, 0, Consequence.ROLLBACK, False,
        min_n,
    )  # fmt: skip


def _drop(name: str, by: float, severity: Severity, then: Consequence) -> RuleSpec:
    return RuleSpec(
        name, "accuracy", Bound.BELOW, -by, LimitBasis.POINTS, severity, _CHECKS, 0, then, False, _MIN_N
    )  # fmt: skip


def _error(name: str, ratio: float, severity: Severity, then: Consequence) -> RuleSpec:
    return RuleSpec(name, "mae", Bound.ABOVE, ratio, LimitBasis.SHARE, severity, _CHECKS, 0, then, False, _MIN_N)
