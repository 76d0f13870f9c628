"""Sharpness: how far predicted probabilities lie apart, whatever came true."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from monitor.aggregation.metrics import SUM_AT, SUMS_SIZE, USER_METRICS, Sum, widened
from monitor.spec import Task
from tests.monitor.kit import MINUTE, SECOND, T0, Run, a_core, a_model, ends_of, prediction, records_of, timed


def sharpness_of(task: Task, events: list[dict[str, Any]]) -> float | None:
    """Of the window of all of them."""
    window = timed(MINUTE, MINUTE)
    told = [prediction(f"r{i}", T0 + i * SECOND // 100, event.pop("value"), **event) for i, event in enumerate(events)]
    records = records_of([*told, prediction("later", T0 + MINUTE, 1)])
    run = Run(a_core(a_model(task=task, window=window)), ends_of(records))
    run.feed(records)
    rows = run.finish().values("sharpness")
    return rows[0][2] if rows else None


def test_of_a_binary_task_it_is_the_variance_of_the_positive_probability() -> None:
    r = random.Random(1)
    scores = [round(r.random(), 6) for _ in range(500)]
    events = [{"value": s >= 0.5, "scores": {"true": s, "false": 1 - s}} for s in scores]

    assert sharpness_of(Task.BINARY, events) == pytest.approx(np.var(scores, ddof=1), rel=1e-12)


def test_of_a_multiclass_task_it_is_the_variance_of_the_largest_probability() -> None:
    """Also where the predicted class is not the most likely one."""
    r = random.Random(2)
    largest = [round(r.uniform(0.5, 1), 6) for _ in range(300)]
    events = [{"value": "b", "scores": {"a": s, "b": (1 - s) / 2, "c": (1 - s) / 2}} for s in largest]

    assert sharpness_of(Task.MULTICLASS, events) == pytest.approx(np.var(largest, ddof=1), rel=1e-9)


def test_a_prediction_that_is_a_probability_counts() -> None:
    assert sharpness_of(Task.BINARY, [{"value": 0.25}, {"value": 0.75}]) == pytest.approx(0.125)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION])
def test_without_probabilities_there_is_none(task: Task) -> None:
    assert sharpness_of(task, [{"value": 1}, {"value": 0}]) is None


def test_equal_probabilities_have_none_at_all() -> None:
    events = [{"value": "a", "scores": {"a": 0.7, "b": 0.3}} for _ in range(50)]

    assert sharpness_of(Task.MULTICLASS, events) == pytest.approx(0.0, abs=1e-15)


def test_sums_that_0_1_0_has_stored_get_zeros_for_what_is_new() -> None:
    """The user's own metrics come after the sums of ours, and stay what they were."""
    stored = np.arange(1.0, SUM_AT[Sum.PROBABILITY_ORIGIN] + 2 * USER_METRICS + 1)

    sums = widened(stored)

    assert len(sums) == SUMS_SIZE
    assert sums[: SUM_AT[Sum.PROBABILITY_ORIGIN]].tolist() == stored[: SUM_AT[Sum.PROBABILITY_ORIGIN]].tolist()
    assert sums[-2 * USER_METRICS :].tolist() == stored[-2 * USER_METRICS :].tolist()
    assert not sums[SUM_AT[Sum.PROBABILITY_ORIGIN] : -2 * USER_METRICS].any()
    assert widened(sums) is sums
