"""What the quality of a version is held to, where windows are by time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.aggregation.outcome_columns import BASELINE_PANE
from monitor.evaluation.quality_baseline import Intake, QualityBaseline
from monitor.spec import LimitBasis, Task
from tests.monitor.kit import (
    SECOND,
    T0,
    Event,
    Run,
    a_core,
    a_model,
    a_rule,
    outcome,
    prediction,
    some_outcomes,
    timed,
)

PANE = 10 * SECOND
WINDOW = timed(PANE, 2 * PANE)
OUTCOMES = replace(some_outcomes(60 * SECOND, pane=PANE, baseline_n=20, min_coverage=0.5), baseline_max=3)


def a_baseline() -> QualityBaseline:
    return QualityBaseline(WINDOW, OUTCOMES)


def taken(held: int, pane: int, *, healthy: bool = True, baseline: QualityBaseline | None = None) -> int | None:
    return (baseline or a_baseline()).takes(held, pane * PANE, healthy=healthy).into


def test_panes_are_taken_until_there_are_enough_pairs_whether_rules_fire_or_not() -> None:
    baseline = a_baseline()
    into = [taken(held, i, healthy=False, baseline=baseline) for i, held in enumerate((0, 19, 25))]

    assert into == [BASELINE_PANE, BASELINE_PANE, None]


def test_it_grows_while_no_rule_fires_until_it_spans_so_many_windows() -> None:
    """Three windows of two panes; then it is frozen, whatever comes."""
    baseline = a_baseline()
    grows = [taken(25 * i, i, healthy=i != 2, baseline=baseline) is not None for i in range(10)]

    assert grows == [True, True, False, True, True, True, False, False, False, False]
    assert baseline.state.frozen


def test_what_it_grows_by_waits_until_no_stretch_under_test_reaches_it() -> None:
    """Of five windows; each window waits in a row of its own."""
    baseline = a_baseline()
    baseline.takes(0, 0, healthy=True)
    into = {taken(25, pane, baseline=baseline) for pane in range(1, 4)}
    merged = {pane: baseline.takes(25, pane * PANE, healthy=True).merged for pane in range(4, 20)}

    assert len(into) == 2
    assert BASELINE_PANE not in into
    assert {pane for pane, rows in merged.items() if rows} == {12, 14, 16}
    assert {row for rows in merged.values() for row in rows} > into


def test_nothing_that_waits_is_taken_in_while_something_seems_wrong() -> None:
    baseline = a_baseline()
    baseline.takes(0, 0, healthy=True)
    row = taken(25, 1, baseline=baseline)

    assert baseline.takes(25, 12 * PANE, healthy=False) == Intake()
    assert baseline.takes(25, 13 * PANE, healthy=True).merged == (row,)


def test_what_waits_is_forgotten_where_a_rule_fires() -> None:
    baseline = a_baseline()
    baseline.takes(0, 0, healthy=True)
    row = taken(25, 1, baseline=baseline)
    assert row is not None

    assert baseline.takes(25, 2 * PANE, healthy=False, firing=True) == Intake(dropped=(row,))
    assert baseline.takes(25, 20 * PANE, healthy=True).merged == ()


def test_a_rare_outcome_is_waited_for_beyond_that() -> None:
    baseline = a_baseline()

    assert [taken(held, held, baseline=baseline) is not None for held in (0, 10, 19, 20)] == [True, True, True, False]


@pytest.mark.parametrize(("held", "into"), [(20, None), (7, BASELINE_PANE)])
def test_one_of_an_earlier_release_stays_as_it_is_where_it_is_complete(held: int, into: int | None) -> None:
    """There is no first pane of it; else it is completed in whole panes."""
    assert taken(held, 5) == into


# -- in the core -----------------------------------------------------------------------------------------


def a_run() -> Run:
    rule = a_rule("wrong", "accuracy", below=-0.2, of=LimitBasis.POINTS, min_n=5, hard=True)
    return Run(a_core(a_model(task=Task.BINARY, window=WINDOW, outcomes=OUTCOMES, rules=(rule,))))


def answered(pane: int, right: int, wrong: int) -> list[Event]:
    """Answers of a pane, each with its outcome a little later in it."""
    events: list[Event] = []
    for i in range(right + wrong):
        request, at = f"{pane} {i}", T0 + pane * PANE + i
        events += [prediction(request, at, 1), outcome(request, at + SECOND, 1 if i < right else 0)]
    return sorted(events, key=lambda event: int(event["time"]))


def pairs_held(run: Run) -> int:
    (state,) = run.model.versions.states.values()
    assert state.outcomes is not None
    return state.outcomes.baseline_pairs


def test_it_is_in_use_when_the_pane_that_makes_it_complete_has_landed() -> None:
    """And not before: fifteen pairs are too few, thirty are all taken."""
    run = a_run()
    held = []
    for pane in range(4):
        run.events(*answered(pane, 15, 0))
        held.append(pairs_held(run))
    assert held == [0, 15, 30, 30]  # what comes then waits

    run.events(*answered(4, 0, 15), *answered(5, 0, 15), *answered(6, 0, 15))
    (alert,) = run.told().alerts("metric")
    assert alert["metric"]["baseline"] > 0.75


def test_what_is_held_to_it_is_no_part_of_it_while_the_rule_fires() -> None:
    """Bad panes that the rule tells are not taken for normal, nor are those before them that waited."""
    run = a_run()
    for pane in range(4):
        run.events(*answered(pane, 15, 0))
    for pane in range(4, 8):
        run.events(*answered(pane, 0, 15))

    assert pairs_held(run) == 2 * 15


def test_it_takes_in_what_waited_once_five_windows_have_passed() -> None:
    """And is as if it had taken it at once: a run that is stored and restored in between, too."""
    run = a_run()
    for pane in range(18):
        run.events(*answered(pane, 14, 1))

    (state,) = run.model.versions.states.values()
    assert state.outcomes is not None
    accuracy = state.outcomes.metrics(BASELINE_PANE, BASELINE_PANE, ())["accuracy"]
    assert (accuracy.n, accuracy.hits) == (6 * 15, 6 * 14)
