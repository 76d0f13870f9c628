"""Levels of single checks where an alarm takes several in a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from detectors.overlap import level_of
from detectors.runs import run_level


def alarms(panes: int, shared: float, score: float, checks: int) -> float:
    """Alarms per check of a sliding Gaussian process: they begin after so many checks above the score."""
    rng = np.random.default_rng(3)
    begun = seen = 0
    for _ in range(60):
        total = np.concatenate([[0.0], np.cumsum(rng.standard_normal(6_000 + panes))])
        window = (total[panes:] - total[:-panes]) * ((1 - shared) / panes) ** 0.5
        high = window + shared**0.5 * rng.standard_normal() > score
        run, calm, firing = 0, 0, False
        for above in high.tolist():
            run, calm = (run + 1, 0) if above else (0, calm + 1)
            if not firing and run >= checks:
                firing, begun = True, begun + 1
            firing = firing and calm < 3
        seen += len(high)
    return begun / seen


@pytest.mark.parametrize(("panes", "shared"), [(10, 0.0), (10, 0.3), (40, 0.1)])
def test_runs_of_checks_raise_about_as_many_alarms_as_are_allowed(panes: int, shared: float) -> None:
    level = run_level(2e-3, panes, 3, shared)

    assert 0.4 <= alarms(panes, shared, -float(special.ndtri(level)), 3) / 2e-3 <= 1.5


def test_one_check_in_a_row_is_a_single_check() -> None:
    assert run_level(1e-5, 10, 1) == level_of(1e-5, 10)


@settings(max_examples=30)
@given(
    st.floats(1e-9, 1e-2),
    st.integers(1, 60),
    st.integers(2, 8),
    st.floats(0, 1),
    st.sampled_from([5.0, 20.0, 100.0, float("inf")]),
)
def test_a_run_is_never_judged_more_strictly_than_a_single_check(
    rate: float, panes: int, checks: int, shared: float, df: float
) -> None:
    level = run_level(rate, panes, checks, shared, df)

    assert level_of(rate, panes) * 0.9 <= level <= 0.5


def test_what_all_checks_share_makes_runs_more_frequent() -> None:
    levels = [run_level(1e-5, 5, 3, shared) for shared in (0.0, 0.3, 0.6)]

    assert levels == sorted(levels, reverse=True)
