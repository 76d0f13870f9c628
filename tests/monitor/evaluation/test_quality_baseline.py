"""What the quality of a version is held to, where windows are by time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.evaluation.quality_baseline import QualityBaseline
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


def test_panes_are_taken_until_there_are_enough_pairs_whether_rules_fire_or_not() -> None:
    baseline = a_baseline()

    assert [baseline.takes(held, i * PANE, healthy=False) for i, held in enumerate((0, 19, 25))] == [True, True, False]


def test_it_grows_while_no_rule_fires_until_it_spans_so_many_windows() -> None:
    """Three windows of two panes; then it is frozen, whatever comes."""
    baseline = a_baseline()
    taken = [baseline.takes(25 * i, i * PANE, healthy=i != 2) for i in range(10)]

    assert taken == [True, True, False, True, True, True, False, False, False, False]
    assert baseline.state.frozen


def test_a_rare_outcome_is_waited_for_beyond_that() -> None:
    baseline = a_baseline()

    assert [baseline.takes(held, held * PANE, healthy=True) for held in (0, 10, 19, 20)] == [True, True, True, False]


@pytest.mark.parametrize(("held", "taken"), [(20, False), (7, True)])
def test_one_of_an_earlier_release_stays_as_it_is_where_it_is_complete(held: int, taken: bool) -> None:
    """There is no first pane of it; else it is completed in whole panes."""
    assert a_baseline().takes(held, 5 * PANE, healthy=True) is taken


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
    assert held == [0, 15, 30, 45]

    run.events(*answered(4, 0, 15), *answered(5, 0, 15), *answered(6, 0, 15))
    (alert,) = run.told().alerts("metric")
    assert alert["metric"]["baseline"] > 0.75


def test_what_is_held_to_it_is_no_part_of_it_while_the_rule_fires() -> None:
    """Bad panes that the rule tells are not taken for normal."""
    run = a_run()
    for pane in range(4):
        run.events(*answered(pane, 15, 0))
    for pane in range(4, 8):
        run.events(*answered(pane, 0, 15))

    # The pane that raises the alert lands before its check.
    assert pairs_held(run) == 5 * 15
