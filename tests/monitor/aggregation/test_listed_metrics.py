"""`outcomes.metrics`: only what is listed is stored, shown and judged, beside what says how much is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from monitor.aggregation.metrics import METRICS
from monitor.spec import Task
from tests.monitor.kit import (
    SECOND,
    T0,
    Event,
    Run,
    Told,
    a_core,
    a_model,
    a_rule,
    counted,
    ends_of,
    outcome,
    prediction,
    records_of,
    some_outcomes,
)

ALWAYS = {"coverage", "label_delay_s"}
OF_TASK = {
    Task.REGRESSION: {"mae", "mse", "rmse", "r2", "mape"},
    Task.BINARY: {
        "accuracy", "precision", "recall", "f1", "f1_macro", "log_loss", "brier", "roc_auc", "ece",
    },
    Task.MULTICLASS: {"accuracy", "f1_macro", "ece"},
}  # fmt: skip


def some_events(task: Task) -> list[Event]:
    """Predictions with scores, and outcomes with a metric of the user's own."""
    r = random.Random(0)
    labels = ["0", "1"] if task is Task.BINARY else ["a", "b", "c"]
    events: list[Event] = []
    for i in range(200):
        at = T0 + i * SECOND
        own = {"revenue": float(i)}
        if task is Task.REGRESSION:
            events.append(prediction(f"{i}", at, r.random()))
            events.append(outcome(f"{i}", at + 1, r.random() + 1, metrics=own))
        else:
            said, p = r.choice(labels), r.random()
            scores = {label: p if label == said else (1 - p) / (len(labels) - 1) for label in labels}
            events.append(prediction(f"{i}", at, said, scores=scores))
            events.append(outcome(f"{i}", at + 1, r.choice(labels), metrics=own))
    return events


def told(task: Task, listed: tuple[str, ...] | None, rule_on: str | None = None) -> Told:
    rules = () if rule_on is None else (a_rule("rule", rule_on, above=-1.0, hard=True),)
    model = a_model(task=task, window=counted(100, 100), outcomes=replace(some_outcomes(), metrics=listed), rules=rules)
    records = records_of(some_events(task))
    run = Run(a_core(model), ends_of(records))
    run.feed(records)
    return run.finish()


def of_quality(found: Told) -> tuple[set[str], set[str]]:
    """(metrics that need outcomes in the history, those in the status), the user's own left out."""
    stored = {name.removeprefix(".") for row in found.history.values() for name in row["values"]}
    shown = set(found.status["models"]["m"]["versions"]["v1"]["metrics"])
    known = {name for name, info in METRICS.items() if info.needs_outcomes}
    return stored & known, shown & known


@pytest.mark.parametrize("task", list(Task))
def test_without_a_list_all_metrics_of_the_task_are_kept(task: Task) -> None:
    """In the history as well as in the status."""
    assert of_quality(told(task, None)) == (OF_TASK[task] | ALWAYS, OF_TASK[task] | ALWAYS)


@pytest.mark.parametrize(
    ("task", "listed"),
    [
        (Task.REGRESSION, ("rmse",)),
        (Task.BINARY, ("roc_auc", "accuracy")),
        (Task.BINARY, ("f1",)),
        (Task.MULTICLASS, ("f1_macro",)),
        (Task.MULTICLASS, ()),
    ],
)
def test_only_listed_metrics_are_stored_and_shown(task: Task, listed: tuple[str, ...]) -> None:
    """And how many outcomes there are, and how late they come."""
    assert of_quality(told(task, listed)) == ({*listed, *ALWAYS}, {*listed, *ALWAYS})


@pytest.mark.parametrize("task", list(Task))
def test_listing_a_metric_does_not_change_its_values(task: Task) -> None:
    """Window by window."""
    everything = told(task, None)

    for metric in OF_TASK[task]:
        assert told(task, (metric,)).values(metric) == everything.values(metric) != []


def test_only_listed_metrics_are_judged() -> None:
    """A rule that always breaches, on a metric that is not there, is skipped."""
    assert len(told(Task.REGRESSION, ("mae",), rule_on="mae").alerts("metric")) == 1
    assert told(Task.REGRESSION, ("mae",), rule_on="mse").alerts() == []


def test_the_users_own_metrics_are_always_kept() -> None:
    """Whoever sends one wants it; the list is of the built-in ones."""
    found = told(Task.REGRESSION, ("mae",), rule_on="revenue")

    assert [value for _, _, value, _ in found.values("revenue")] == [49.5, 149.5]
    assert len({record["event_id"] for record in found.alerts("metric")}) == 1
