"""p-values: scipy's where it has them, true to alpha where they are simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.comparison import Comparison
from detectors.significance import (
    WassersteinLaw,
    chi_square_p_value,
    ks_critical,
    ks_p_value,
    mean_p_value,
    pair_size,
    psi_p_value,
    rate_p_value,
    share_p_value,
    two_shares_p_value,
)
from detectors.types import FloatArray
from tests.detectors.samples import a_number, binned

alphas = st.floats(1e-9, 0.2)


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


@given(alphas, st.floats(1, 1e6))
def test_a_statistic_is_critical_where_its_p_value_reaches_alpha(alpha: float, size: float) -> None:
    """Windows of about the same size share a critical value: it is that of the smallest of them."""
    critical = ks_critical(alpha, size)

    assert ks_p_value(critical, size) <= alpha * 1.05
    smallest = max(np.floor(size * 0.99), 1.0)
    assert ks_p_value(critical * (1 - 1e-6), smallest) >= alpha * 0.95


@given(alphas, st.floats(20, 1e5))
def test_larger_windows_see_smaller_differences(alpha: float, size: float) -> None:
    """And a stricter alpha asks for more."""
    assert ks_critical(alpha, 2 * size) < ks_critical(alpha, size)
    assert ks_critical(alpha / 10, size) > ks_critical(alpha, size)


def test_nothing_is_significant_without_events() -> None:
    """p = 1, and no statistic reaches alpha."""
    assert pair_size(0, 100) == pair_size(100, 0) == 0
    assert ks_p_value(1.0, 0) == 1.0
    assert ks_critical(0.5, 0.5) == np.inf  # not even the largest statistic there is
    assert chi_square_p_value(100.0, 0) == 1.0
    assert psi_p_value(3.0, 10, 0, 100) == 1.0
    assert rate_p_value(0, 0, 5, 10) == rate_p_value(0, 10, 0, 10) == rate_p_value(1, 10, 0, 0) == 1.0
    assert share_p_value(0, 0, 0.5, above=True) == 1.0
    assert two_shares_p_value(0, 0, 1, 10, above=True) == two_shares_p_value(1, 10, 0, 0, above=True) == 1.0
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


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0, 1))
def test_a_share_has_the_tails_of_the_binomial_law(hits: int, n: int, share: float) -> None:
    """Clopper & Pearson (1934)."""
    hits = min(hits, n)

    assert share_p_value(hits, n, share, above=True) == pytest.approx(stats.binom.sf(hits - 1, n, share), abs=1e-9)
    assert share_p_value(hits, n, share, above=False) == pytest.approx(stats.binom.cdf(hits, n, share), abs=1e-9)


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_limit_outside_of_zero_and_one_is_taken_for_the_end(share: float) -> None:
    """`120% of baseline` of an accuracy of 0.9."""
    assert share_p_value(3, 10, share, above=True) == (1.0 if share > 1 else 0.0)


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 100), st.integers(0, 100))
def test_two_shares_are_compared_alike_from_either_side(n: int, hits: int, m: int, before: int) -> None:
    """More hits here are fewer misses here."""
    hits, before = min(hits, n), min(before, m)
    above = two_shares_p_value(hits, n, before, m, above=True)

    if 2 * (hits + before) != n + m:
        assert above == pytest.approx(two_shares_p_value(n - hits, n, m - before, m, above=False))
    assert 0 <= above <= 1


def test_the_p_value_of_two_shares_keeps_to_alpha() -> None:
    """Conservative, since the counts are whole."""
    rng = np.random.default_rng(2)
    hits, before = rng.binomial(500, 0.9, 2_000), rng.binomial(1_000, 0.9, 2_000)
    p = [two_shares_p_value(h, 500, b, 1_000, above=False) for h, b in zip(hits.tolist(), before.tolist(), strict=True)]

    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.06


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


# -- Wasserstein -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "exponential", "uniform", "poisson"])
def test_the_p_value_of_wasserstein_keeps_to_alpha(law: str) -> None:
    """The law is simulated on the grid of the reference; 5 % and 1 % of windows that have not changed."""
    rng = np.random.default_rng(3)
    laws: dict[str, Callable[[int], FloatArray]] = {
        "normal": rng.standard_normal,
        "exponential": rng.standard_exponential,
        "uniform": rng.random,
        "poisson": lambda size: np.asarray(rng.poisson(3, size), np.float64),
    }
    draw = laws[law]
    rows, n, runs = 5_000, 500, 400
    p = []
    for _ in range(runs // 40):
        reference = a_number(draw(rows))
        found = WassersteinLaw([reference])
        for _ in range(40):
            value, _error = binned(reference, draw(n)).wasserstein()
            p.append(found.p_value(0, value / reference.sd, pair_size(n, rows)))

    assert np.mean(np.array(p) <= 0.05) <= 0.08
    assert np.mean(np.array(p) <= 0.01) <= 0.025
    assert np.mean(np.array(p) <= 0.2) >= 0.1  # and is no mere bound


@pytest.mark.parametrize("law", ["lognormal", "pareto", "t3"])
def test_a_heavy_tail_is_no_drift(law: str) -> None:
    """One event may lie anywhere beyond the reference: 600 windows at one in a hundred thousand, far in the tail."""
    rng = np.random.default_rng(13)
    laws: dict[str, Callable[[int], FloatArray]] = {
        "lognormal": lambda size: rng.lognormal(0, 2, size),
        "pareto": lambda size: rng.pareto(1.5, size),
        "t3": lambda size: rng.standard_t(3, size),
    }
    draw = laws[law]
    alarms = 0
    for _ in range(6):
        reference = a_number(draw(10_000))
        comparison = Comparison("x", [reference], [], ["wasserstein"], {"wasserstein": 0.0, "missing_rate": 1.0})
        for _ in range(100):
            counts = {name: c.dense() for name, c in comparison.bin_counts(draw(1_000)[:, None], []).items()}
            alarms += len(comparison.check(counts.get, 1e-5).findings)

    assert alarms <= 1


def test_the_p_value_of_wasserstein_falls_with_the_distance() -> None:
    """Beyond what was simulated as well, down to where a float ends."""
    law = WassersteinLaw([a_number(np.random.default_rng(0).standard_normal(1_000))])
    p = [law.p_value(0, d, 500.0) for d in np.linspace(0.0, 1.5, 200)]

    assert (np.diff(p) <= 0).all()
    assert p[0] == 0.5
    assert 0 < p[-1] < 1e-90


def test_the_tail_of_wasserstein_is_no_smaller_than_that_of_its_largest_gaussian() -> None:
    """Borell (1975): the difference of the means alone, which W1 is never below, is Gaussian."""
    rng = np.random.default_rng(0)
    law = WassersteinLaw([a_number(rng.standard_normal(5_000))])
    for z in (3.0, 4.0, 5.0):
        assert law.p_value(0, z, 1.0) >= stats.norm.sf(z)


def test_the_same_data_have_the_same_p_value() -> None:
    """test_m13: the simulation has a fixed seed."""
    reference = a_number(np.arange(100.0))

    assert WassersteinLaw([reference]).p_value(0, 0.2, 50) == WassersteinLaw([reference]).p_value(0, 0.2, 50)


@pytest.mark.parametrize("distance", [np.nan, np.inf])
def test_a_distance_that_is_not_known_is_never_significant(distance: float) -> None:
    """Nor is any without events."""
    law = WassersteinLaw([a_number(np.arange(10.0))])

    assert law.p_value(0, distance, 100.0) == law.p_value(0, 1.0, 0.0) == 1.0


def test_a_constant_reference_has_a_law_all_the_same() -> None:
    """Nobody asks for it, but it must not break that of the others."""
    law = WassersteinLaw([a_number([1.0, 1.0]), a_number(np.arange(100.0))])

    assert law.p_value(1, 0.0, 10.0) == 0.5
