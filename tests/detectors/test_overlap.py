"""Overlapping windows: alarms per check keep the rate, whatever the overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from detectors.overlap import episode_share, level_of, level_of_score, nu

CALM = 3  # checks in a row that end an alarm


def alarms(scores: np.ndarray, threshold: float, calm: float) -> int:
    """Begun alarms: each ends after some checks in a row below the lower threshold."""
    begun, below = 0, CALM
    for high, restless in zip(scores > threshold, scores > calm, strict=True):
        begun += bool(high and below >= CALM)
        below = 0 if high or (restless and below < CALM) else below + 1
    return begun


@pytest.mark.parametrize("panes", [2, 5, 10, 50])
def test_windows_that_overlap_raise_as_many_alarms_as_are_allowed(panes: int) -> None:
    rate, checks = 1e-3, 400_000
    walk = np.cumsum(np.random.default_rng(panes).standard_normal(checks + panes))
    scores = (walk[panes:] - walk[:-panes]) / np.sqrt(panes)
    level = level_of(rate, panes)

    seen = alarms(scores, -special.ndtri(level), -special.ndtri(min(10 * level, 0.5)))

    assert 0.75 <= seen / (rate * checks) <= 1.3


def test_without_overlap_the_level_is_the_rate() -> None:
    assert level_of(1e-5, 1) == 1e-5


@given(st.floats(1e-12, 0.09), st.integers(1, 200))
def test_checks_may_reject_no_less_often_than_alarms_may_begin(rate: float, panes: int) -> None:
    assert rate <= level_of(rate, panes) * (1 + 1e-6)
    assert level_of(rate, panes) <= 1


@given(st.floats(1e-9, 0.01), st.integers(1, 100))
def test_more_overlap_allows_no_smaller_level(rate: float, panes: int) -> None:
    assert level_of(rate, panes) <= level_of(rate, panes + 1) * (1 + 1e-6)


def test_siegmunds_factor_falls_from_one_like_its_exponential() -> None:
    """ν(x) = exp(-0.583 x) + o(x²) for small x (Siegmund, 1985)."""
    for x in (0.01, 0.1, 0.5, 1.0):
        assert nu(x) == pytest.approx(np.exp(-0.583 * x), rel=0.02)


@given(st.floats(0.0, 12.0), st.integers(1, 1000))
def test_a_share_of_checks_is_a_share(score: float, panes: int) -> None:
    assert 0.0 <= episode_share(score, panes) <= 1.0


@given(st.floats(1e-12, 1e-4), st.integers(1, 100))
def test_any_law_has_a_level_that_of_a_normal_one_is_the_same(rate: float, panes: int) -> None:
    found = level_of_score(rate, panes, lambda p: float(-special.ndtri(p)))

    assert found == pytest.approx(level_of(rate, panes), rel=0.01)
