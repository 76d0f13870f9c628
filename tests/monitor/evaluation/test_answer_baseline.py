"""Baselines of a version's answers: from when on they are used, how long they grow, when they are frozen."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from detectors.pane import Counts, pack_counts, unpack_counts
from detectors.window import Slice
from fallback.health import HealthState
from fallback.types import Health
from monitor.aggregation.metrics import LATENCY_CELLS, SUMS_SIZE, TALLY_AT, TALLY_SIZE, PaneCounter
from monitor.evaluation.answer_baseline import AnswerBaseline
from monitor.evaluation.version_state import VersionState
from tests.monitor.kit import SECOND, a_model, counted, some_outcomes, timed

WIDTH = 10 * SECOND


def a_pane(number: int, events: int) -> Slice:
    tally = np.zeros(TALLY_SIZE, np.int64)
    tally[TALLY_AT[PaneCounter.PREDICTIONS]] = events
    latency = np.zeros(LATENCY_CELLS, np.int64)
    latency[7] = events
    counts = {"tally": Counts.of(tally), "latency": Counts.of(latency)}
    return Slice(number, number * WIDTH, (number + 1) * WIDTH, events, counts, np.zeros(SUMS_SIZE))


def filled(baseline: AnswerBaseline, panes: int, *, events: int = 10) -> list[tuple[bool, bool, int]]:
    """(is used, is frozen, its answers) after each pane."""
    states = []
    for number in range(panes):
        baseline.add(a_pane(number, events))
        states.append((baseline.complete, baseline.frozen, baseline.events))
    return states


def test_a_baseline_is_used_once_it_has_enough_answers_and_grows_until_it_spans_its_extent() -> None:
    assert filled(AnswerBaseline(20, 4 * WIDTH), 6) == [
        (False, False, 10), (True, False, 20), (True, False, 30), (True, True, 40), (True, True, 40), (True, True, 40),
    ]  # fmt: skip


def test_a_baseline_with_few_answers_grows_beyond_its_extent_until_there_are_enough() -> None:
    assert filled(AnswerBaseline(50, 2 * WIDTH), 6)[3:] == [(False, False, 40), (True, True, 50), (True, True, 50)]


def test_a_baseline_that_is_used_takes_no_pane_of_a_version_that_is_not_healthy() -> None:
    baseline = AnswerBaseline(20, 4 * WIDTH)
    for number, healthy in enumerate((False, False, False, True, False, True)):
        baseline.add(a_pane(number, 10), healthy=healthy)

    assert (baseline.events, baseline.frozen) == (40, True)


@pytest.mark.parametrize(("health", "events"), [(Health.HEALTHY, 270), (Health.DEGRADED, 20), (Health.FAILED, 20)])
def test_the_health_of_a_version_decides_whether_its_baseline_grows(health: Health, events: int) -> None:
    version = VersionState(1, "v1", a_model(window=timed(WIDTH, 3 * WIDTH)), 20)
    version.health = HealthState(health)
    for number in range(45):
        version.push(a_pane(number, 10))

    assert version.baseline.events == events


def test_panes_that_it_grows_by_wait_until_no_stretch_under_test_reaches_them() -> None:
    """Of five windows of two panes: those of a window are taken in together."""
    baseline = AnswerBaseline(20, 40 * WIDTH, 2 * WIDTH)
    events = [held for _, _, held in filled(baseline, 18)]

    assert events == [10, *[20] * 13, 40, 40, 60, 60]


def test_what_waits_is_forgotten_where_a_rule_fires_and_kept_where_something_only_seems_wrong() -> None:
    kept, forgotten = (AnswerBaseline(20, 40 * WIDTH, 2 * WIDTH) for _ in range(2))
    for baseline, firing in ((kept, False), (forgotten, True)):
        filled(baseline, 4)
        baseline.add(a_pane(30, 10), healthy=False, firing=firing)
        baseline.add(a_pane(31, 10))

    assert (kept.events, forgotten.events) == (40, 20)


def test_a_baseline_spans_so_many_windows_of_its_model() -> None:
    outcomes = some_outcomes(pane=WIDTH, baseline_n=20)
    version = VersionState(1, "v1", a_model(window=timed(WIDTH, 3 * WIDTH), outcomes=outcomes), 20)
    for number in range(100):
        version.push(a_pane(number, 10))

    assert version.baseline.events == 20 * 3 * 10


def test_with_counted_windows_the_baseline_is_frozen_with_the_pane_that_completes_it() -> None:
    version = VersionState(1, "v1", a_model(window=counted(30, 10)), 20)
    for number in range(6):
        version.push(a_pane(number, 10))

    assert (version.baseline.events, version.baseline.frozen) == (20, True)


@pytest.mark.parametrize("panes", [1, 3, 6])
def test_a_baseline_that_comes_back_goes_on_as_it_would_have(panes: int) -> None:
    lived, restored = (AnswerBaseline(20, 8 * WIDTH, WIDTH) for _ in range(2))
    filled(lived, panes)
    restored.restore(lived.saved())
    for number in range(panes, 20):
        for baseline in (lived, restored):
            baseline.add(a_pane(number, 10))

    assert (restored.events, restored.frozen) == (lived.events, lived.frozen) == (80, True)
    assert repr(restored.metrics(())[1]) == repr(lived.metrics(())[1])


@pytest.mark.parametrize(("panes", "after"), [(1, 40), (2, 20)])
def test_a_baseline_that_0_1_0_completed_stays_frozen_and_another_one_grows(panes: int, after: int) -> None:
    """0.1.0 stored no extent."""
    lived, restored, again = (AnswerBaseline(20, 3 * WIDTH) for _ in range(3))
    filled(lived, panes)
    header, counts, plain = unpack_counts(base64.b64decode(lived.saved()))
    body = pack_counts({"events": header["events"]}, counts, plain)
    restored.restore(base64.b64encode(body).decode())
    again.restore(restored.saved())
    filled(again, 5)

    assert again.events == after
    assert again.frozen
