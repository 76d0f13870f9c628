"""What single panes had of the metrics that rules name: kept, learned from, stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.pane_dependence import supposed
from monitor.aggregation.metrics import Estimate
from monitor.evaluation.metric_panes import MetricPanes, adds_up, dependence_beside
from monitor.spec import LimitBasis
from tests.monitor.kit import a_rule, counted

ACCURACY = a_rule("accuracy", "accuracy", below=-0.05, of=LimitBasis.POINTS)
MAE = a_rule("error", "mae", above=1.5, of=LimitBasis.SHARE)
RMSE = a_rule("root", "rmse", above=1.5, of=LimitBasis.SHARE)
HARD = a_rule("hard", "recall", below=0.5, hard=True)
BEFORE = supposed()


def some_panes(*hits: int, n: int = 100) -> MetricPanes:
    panes = MetricPanes((ACCURACY,), counted(1_000, 100))
    for pane, count in enumerate(hits):
        panes.add(pane, {"accuracy": Estimate.share(count, n)})
    return panes


def binomial(count: int, seed: int = 1) -> list[int]:
    found: list[int] = np.random.default_rng(seed).binomial(100, 0.9, count).tolist()
    return found


@given(st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=6), min_size=1, max_size=8))
def test_panes_of_a_mean_are_together_what_all_their_events_are(values: list[list[float]]) -> None:
    panes = MetricPanes((MAE,), counted(1_000, 100))
    for pane, events in enumerate(values):
        x = np.array(events)
        panes.add(pane, {"mae": Estimate(float(x.mean()), len(x), float(x.var(ddof=1)) / len(x))})
    whole = np.concatenate([np.array(events) for events in values])

    found = panes["mae"].estimate()

    assert found.n == len(whole)
    assert found.value == pytest.approx(whole.mean(), abs=1e-9)
    assert found.variance == pytest.approx(whole.var(ddof=1) / len(whole), rel=1e-6, abs=1e-9)


def test_only_metrics_of_rules_that_ask_for_chance_are_kept_and_what_they_are_made_of() -> None:
    panes = MetricPanes((ACCURACY, RMSE, HARD), counted(1_000, 100))

    assert set(panes.names) == {"accuracy", "rmse", "mse"}
    assert adds_up("accuracy")
    assert not adds_up("rmse")


def test_a_pane_is_taken_once() -> None:
    panes = some_panes(90, 80)
    panes.add(1, {"accuracy": Estimate.share(10, 100)})

    assert panes["accuracy"].value.tolist() == [0.9, 0.8]


def test_a_bounded_number_of_panes_is_kept() -> None:
    panes = some_panes(*binomial(1_000))

    assert len(panes["accuracy"]) == 256 + 5 * 10
    assert panes["accuracy"].pane[-1] == 999


def test_a_window_under_test_does_not_excuse_itself() -> None:
    """Its step would look like dependence."""
    calm, fallen = binomial(100), [60] * 10
    panes = some_panes(*calm, *fallen)

    assert panes.learned("accuracy", 100, 109, BEFORE).phi < 2


def test_while_something_seems_wrong_nothing_is_learned() -> None:
    panes = some_panes(*binomial(100))
    panes.note_calm("accuracy", 99)
    for pane in range(100, 130):
        panes.add(pane, {"accuracy": Estimate.share(60, 100)})

    assert panes.usable("accuracy", 120, 129).pane[-1] == 89
    panes.note_calm("accuracy", 129)
    assert panes.usable("accuracy", 120, 129).pane[-1] == 119


def test_panes_without_a_failure_do_not_show_whether_failures_come_together() -> None:
    """A model that has not failed yet may fail in bursts: what is supposed stays."""
    never, often = some_panes(*[100] * 200), some_panes(*binomial(200))

    assert never.learned("accuracy", 190, 199, supposed()).phi == supposed().phi
    assert often.learned("accuracy", 190, 199, supposed()).phi < 2


def test_a_few_failures_tell_less_of_dependence_than_many() -> None:
    rare = [92 if pane % 48 == 0 else 100 for pane in range(240)]

    found = some_panes(*rare).learned("accuracy", 230, 239, supposed()).phi

    assert found >= supposed().phi


def test_failures_that_came_one_by_one_do_not_come_in_clusters() -> None:
    rare = [99 if pane % 12 == 0 else 100 for pane in range(240)]

    found = some_panes(*rare).learned("accuracy", 230, 239, supposed()).phi

    assert 1 < found < 2


def test_what_was_learned_first_goes_on_to_count() -> None:
    """Hours of calm do not make bursts of errors independent."""
    bursts = [50, 50, 50, 100, 100, 100] * 32
    panes = some_panes(*bursts)
    early = panes.learned("accuracy", 182, 191, BEFORE)
    for pane in range(192, 900):
        panes.add(pane, {"accuracy": Estimate.share(90, 100)})

    assert panes.learned("accuracy", 890, 899, BEFORE).phi >= early.phi > 5


def test_what_two_versions_have_in_common_cancels() -> None:
    """A bad hour is bad for both."""
    hours = np.repeat(np.random.default_rng(3).choice([70, 95], 30), 6).tolist()
    one, other = some_panes(*hours), some_panes(*(h - 2 for h in hours))

    alone = one.learned("accuracy", 170, 179, BEFORE).phi
    beside = dependence_beside("accuracy", one["accuracy"], other["accuracy"], BEFORE).phi

    assert alone > 20
    assert beside < 2


def test_panes_are_gone_on_with_as_they_were_stored() -> None:
    panes = MetricPanes((ACCURACY, MAE), counted(1_000, 100))
    for pane, hits in enumerate(binomial(150)):
        panes.add(pane, {"accuracy": Estimate.share(hits, 100), "mae": Estimate(hits / 7, 100, 0.01 * hits)})
    panes.learned("accuracy", 141, 149, BEFORE)
    panes.note_calm("accuracy", 149)
    panes.answers_until, panes.outcomes_until = 149, 148
    other = MetricPanes((ACCURACY, MAE), counted(1_000, 100))

    other.restore(panes.saved())

    assert other.saved() == panes.saved()
    assert (other.answers_until, other.outcomes_until) == (149, 148)
    for metric in ("accuracy", "mae"):
        assert other.learned(metric, 141, 149, BEFORE) == panes.learned(metric, 141, 149, BEFORE)


def test_nothing_stored_is_nothing_known() -> None:
    """Of an earlier release."""
    panes = MetricPanes((ACCURACY,), counted(1_000, 100))
    panes.restore("")

    assert panes.learned("accuracy", 0, 9, BEFORE) == BEFORE


def test_a_rule_that_is_gone_takes_its_panes_with_it() -> None:
    panes = MetricPanes((MAE,), counted(1_000, 100))
    panes.restore(some_panes(90).saved())

    assert len(panes["accuracy"]) == 0
