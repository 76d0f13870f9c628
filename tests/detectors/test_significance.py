"""p-values: scipy's where it has them, true to alpha where they are simulated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.significance import (
    chi_square_p_value,
    ks_p_value,
    mean_p_value,
    normal_score,
    pair_size,
    psi_p_value,
    rate_p_value,
)
from tests.detectors.samples import a_number, binned

# -- known answers ---------------------------------------------------------------------------------------


def test_the_asymptotic_p_value_of_ks_has_the_known_answer() -> None:
    """statistics.md 9: D = 0.45 of 8 and 10 events."""
    assert ks_p_value(0.45, pair_size(8, 10)) == pytest.approx(0.292900, abs=5e-7)


def test_the_p_value_of_chi_square_has_the_known_answer() -> None:
    """statistics.md 9: χ² = 17.142857 with two degrees of freedom."""
    assert chi_square_p_value(17.142857, 2) == pytest.approx(1.89442e-4, abs=5e-10)


# -- Kolmogorov-Smirnov ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100, 1_000, 5_000])
def test_p_values_of_ks_are_those_of_scipy_where_it_is_exact(size: int) -> None:
    """Simard & L'Ecuyer (2011)."""
    for statistic in (0.01, 0.05, 0.1, 0.3):
        assert ks_p_value(statistic, size) == pytest.approx(stats.kstwo.sf(statistic, size))


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-9])
def test_the_limit_law_of_ks_is_close_where_the_exact_one_is_too_dear(alpha: float) -> None:
    """Within a few per cent of alpha."""
    for size in (6_000, 50_000):
        assert ks_p_value(stats.kstwo.isf(alpha, size), size) == pytest.approx(alpha, rel=0.04)


def test_nothing_is_significant_without_events() -> None:
    """p = 1, and no statistic reaches alpha."""
    assert pair_size(0, 100) == pair_size(100, 0) == 0
    assert ks_p_value(1.0, 0) == 1.0
    assert chi_square_p_value(100.0, 0) == 1.0
    assert psi_p_value(3.0, 10, 0, 100) == 1.0
    assert rate_p_value(0, 0, 5, 10) == rate_p_value(0, 10, 0, 10) == rate_p_value(1, 10, 0, 0) == 1.0
    assert mean_p_value(1.0, 0.1, 1) == 1.0


def test_overdispersion_makes_a_window_smaller() -> None:
    """n/φ and m/φ instead of n and m."""
    assert pair_size(1_000, 9_000, 3.0) == pytest.approx(pair_size(1_000, 9_000) / 3)
    assert chi_square_p_value(12.0, 3, 3.0) == chi_square_p_value(4.0, 3)
    assert psi_p_value(0.1, 10, 500, 5_000, 2.0) == pytest.approx(psi_p_value(0.1, 10, 250, 2_500))


# -- population stability index --------------------------------------------------------------------------


@pytest.mark.parametrize("window", [200, 1_000])
def test_the_p_value_of_psi_keeps_to_alpha(window: int) -> None:
    """Yurdakul (2018), on normal data: 5 % of windows that have not changed."""
    rng = np.random.default_rng(1)
    reference = a_number(rng.standard_normal(5_000))
    p = []
    for _ in range(300):
        found = binned(reference, rng.standard_normal(window))
        psi, bins = found.distances.psi(found.window)
        p.append(psi_p_value(float(psi.value[0]), int(bins[0]), window, 5_000))

    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


# -- rates and shares ------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(50, 100), st.integers(0, 50), st.integers(50, 100))
def test_a_rate_is_compared_by_the_binomial_law_given_the_sum(hits: int, n: int, before: int, m: int) -> None:
    """Two-sided: twice the smaller tail."""
    law = stats.binom(hits + before, n / (n + m))
    expected = min(1.0, 2 * min(law.sf(hits - 1), law.cdf(hits)))

    assert rate_p_value(hits, n, before, m) == pytest.approx(expected, abs=1e-12)


def test_equal_rates_are_no_evidence() -> None:
    """test_m27: half of both is missing."""
    assert rate_p_value(500, 1_000, 5_000, 10_000) > 0.9
    assert rate_p_value(600, 1_000, 5_000, 10_000) < 1e-3


def test_something_that_never_happened_before_is_significant_soon() -> None:
    """No division by the zero of the reference."""
    assert rate_p_value(10, 1_000, 0, 10_000) < 1e-9


# -- means -----------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.floats(-3, 3), st.floats(0.01, 10))
def test_a_mean_is_compared_by_students_law(n: int, excess: float, variance: float) -> None:
    """One-sided."""
    assert mean_p_value(excess, variance, n) == pytest.approx(stats.t.sf(excess / np.sqrt(variance), n - 1))


def test_a_mean_without_variance_is_known() -> None:
    """All values were the same."""
    assert (mean_p_value(0.1, 0.0, 10), mean_p_value(0.0, 0.0, 10), mean_p_value(-0.1, 0.0, 10)) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(("excess", "variance"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0, np.inf)])
def test_what_is_not_known_is_never_significant(excess: float, variance: float) -> None:
    """test_d20: NaN passes no gate and fails none."""
    assert mean_p_value(excess, variance, 100) == 1.0


@pytest.mark.parametrize("freedom", [3.0, 6.6, 30.0, 1e4])
def test_a_score_of_student_is_read_as_the_normal_one_that_is_as_rare(freedom: float) -> None:
    """Within a few per cent, and the larger the rarer: also where there are few degrees of freedom."""
    scores = np.linspace(0.5, 30, 60)
    found = [normal_score(float(score), freedom) for score in scores]

    assert found == pytest.approx(list(-stats.norm.ppf(stats.t.sf(scores, freedom))), rel=0.03)
    assert np.all(np.diff(found) > 0)
