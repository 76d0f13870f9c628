"""Rules on dependent data: how often they are wrong, and how soon right. `tests/simulation/rules.py` has more of it."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.spec import LimitBasis, Task
from tests.monitor.kit import a_rule
from tests.simulation.rule_levels import breaches, classified, regressed
from tests.simulation.rule_streams import Watched, episodes, right_answers
from tests.simulation.rules import ACCURACY, RATE, windows_until

SAME = a_rule("same", "accuracy", below=0.0, of=LimitBasis.POINTS, min_n=30)


@pytest.mark.parametrize("family", ["ar .5", "ar .9", "ar .97"])
def test_healthy_models_with_autocorrelated_errors_raise_no_alarm(family: str) -> None:
    """A test that takes their errors for independent rolls back two of three models at .9, and all at .97."""
    rng = np.random.default_rng(8)
    for _ in range(8):
        assert not any(episodes(Watched(ACCURACY, RATE), right_answers(rng, family, 12_000, 0.9)).values())


def test_with_the_first_thousand_pairs_alone_nobody_is_rolled_back() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        assert not any(episodes(Watched(ACCURACY, RATE), right_answers(rng, "ar .97", 2_000, 0.9)).values())


@pytest.mark.parametrize(("family", "windows"), [("iid", 2), ("ar .9", 5)])
def test_a_real_drop_is_rolled_back_soon(family: str, windows: int) -> None:
    """Of ten points, once the baseline has ten windows."""
    rng = np.random.default_rng(10)
    found = [
        windows_until(
            Watched(ACCURACY, RATE, baseline_n=10_000), right_answers(rng, family, 15_500, 0.9, 0.8, 10_000), 10_000
        )
        for _ in range(8)
    ]

    assert min(found) > 0
    assert sum(after <= windows for after in found) >= 6


def test_a_baseline_that_grows_does_not_take_in_what_seems_wrong() -> None:
    rng = np.random.default_rng(11)
    watched = Watched(ACCURACY, RATE, by_time=True)
    windows_until(watched, right_answers(rng, "ar .5", 16_000, 0.9, 0.75, 10_000), 10_000)
    table = watched.version.outcomes

    assert table is not None
    assert table.metrics((1 << 32) - 1, (1 << 32) - 1, ())["accuracy"].value > 0.885


def test_a_rule_at_its_baseline_raises_about_as_many_alarms_as_are_allowed() -> None:
    """Ten of 2 400 checks at 4 in a thousand, where errors are autocorrelated."""
    rng = np.random.default_rng(12)
    begun = 0
    for _ in range(8):
        watched = Watched((SAME,), 4e-3, baseline_n=10_000)
        begun += episodes(watched, right_answers(rng, "ar .9", 40_000, 0.9))["same"]

    assert 1 <= begun <= 25


@pytest.mark.parametrize(("n", "metric"), [(100, "ece"), (100, "roc_auc"), (100, "f1"), (100, "recall")])
def test_rules_on_metrics_of_a_classifier_keep_their_level(n: int, metric: str) -> None:
    (p,) = breaches(Task.BINARY, classified(0.5), {metric: metric == "ece"}, n, 400).values()

    assert np.mean(p <= 0.02) <= 0.04


@pytest.mark.parametrize("tail", ["normal", "lognormal", "t3"])
def test_rules_on_the_explained_share_of_variance_keep_their_level(tail: str) -> None:
    """The variance of the actual values varies too: most of all where there is as much of them as in the baseline."""
    (p,) = breaches(Task.REGRESSION, regressed(tail), {"r2": False}, 1_000, 300).values()

    assert np.mean(p <= 0.02) <= 0.05
