"""A rate of alarms is judged by what was promised, and only where chance does not explain it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.simulation.figures import Limits, Rate, Verdict, at_most

LIMITS = Limits(0.8, 2.0)


def rate_of(alarms: list[int], *, promised: float = 0.001, checks: int = 1_000) -> Rate:
    """A rate of references that were promised one alarm each."""
    rate = Rate(promised, LIMITS)
    for count in alarms:
        rate.add(checks, count)
    return rate


def test_run_by_promise_is_promised_alarms_by_seen_ones() -> None:
    rate = rate_of([1, 0, 1, 2])

    assert (rate.expected, rate.ratio) == pytest.approx((4.0, 1.0))
    assert rate.seen == 4
    assert math.isinf(rate_of([0, 0]).ratio)


@pytest.mark.parametrize(
    ("seen", "verdict", "certain"),
    [
        (75, Verdict.KEPT, True), (110, Verdict.KEPT, False), (140, Verdict.UNSURE, False),
        (20, Verdict.MISSED, True), (300, Verdict.MISSED, True),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_interval(seen: int, verdict: Verdict, *, certain: bool) -> None:
    """So many alarms where 100 were promised; near a limit more references are wanted."""
    rate = rate_of([seen // 100 + (i < seen % 100) for i in range(100)])

    assert (rate.verdict, rate.is_certain) == (verdict, certain)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    bounds = [rate_of(rng.poisson(1.0, 50).tolist()).bounds(0.9) for _ in range(300)]

    assert 0.87 <= np.mean([low <= 1.0 <= high for low, high in bounds]) <= 1.0


def test_references_that_differ_widen_the_interval_and_move_the_median() -> None:
    """Half of them are silent, half raise two alarms for one: the sum is as promised."""
    even, uneven = rate_of([1] * 100), rate_of([0] * 90 + [10] * 10)

    assert uneven.bounds()[0] < even.bounds()[0]
    assert even.median == pytest.approx(1.0)
    assert uneven.median > 2.0


def test_few_references_are_never_certain() -> None:
    assert not rate_of([20] * 19).is_certain
    assert rate_of([20] * 20).is_certain


def test_without_limits_a_figure_is_only_reported() -> None:
    rate = Rate(0.001, None)
    rate.add(1_000, 50)

    assert rate.figure("drift", "x").verdict is Verdict.REPORTED


@pytest.mark.parametrize(
    ("seen", "verdict"), [(0, Verdict.KEPT), (2, Verdict.KEPT), (6, Verdict.KEPT), (7, Verdict.MISSED)]
)
def test_a_count_may_exceed_its_promise_as_far_as_chance_does(seen: int, verdict: Verdict) -> None:
    """Of 2 promised ones, 6 or more come in 1.7 % of cases and 7 or more in .5 %."""
    assert at_most("rollback", "x", seen, 2.0).verdict is verdict
