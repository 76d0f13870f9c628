"""One test of categories: χ² over all of them and the largest deviation of a single one, as often as alpha says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from detectors.category_law import Overdispersion, category_test, weighted_chi_square_p_value
from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.registry import CATEGORICAL, MIN_EFFECT
from detectors.significance import deviation_scores
from detectors.types import FloatArray
from tests.detectors.samples import a_category, coded


def alone(k: int) -> Overdispersion:
    """Independent rows."""
    return Overdispersion(np.ones(k), np.zeros(0), np.inf)


def drawn(rng: np.random.Generator, n: int, shares: FloatArray) -> FloatArray:
    return rng.multinomial(n, shares).astype(np.float64)


@given(st.floats(0.1, 60), st.integers(1, 10), st.floats(1, 50))
def test_equal_weights_are_the_law_of_chi_square(statistic: float, df: int, weight: float) -> None:
    assert weighted_chi_square_p_value(statistic * weight, np.full(df, weight)) == pytest.approx(
        float(special.chdtrc(df, statistic)), rel=1e-6
    )


@pytest.mark.parametrize("weights", [(3.0, 1.0, 1.0), (17.0, 5.0, 1.5), (4.0, 4.0, 1.0, 1.0, 1.0)])
def test_unequal_weights_have_the_tail_of_their_sum(weights: tuple[float, ...]) -> None:
    """Rao & Scott (1981); 400 000 sums."""
    w = np.array(weights)
    sums = np.random.default_rng(0).chisquare(1, (400_000, len(w))) @ w
    for p in (0.5, 0.05, 1e-3):
        assert weighted_chi_square_p_value(float(np.quantile(sums, 1 - p)), w) == pytest.approx(p, rel=0.12)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.3, 0.2), (0.6, 0.3, 0.095, 0.005), (0.05,) * 20])
def test_the_test_keeps_to_alpha(shares: tuple[float, ...]) -> None:
    """Windows that have not changed: about 1 % are below .01."""
    rng, p = np.random.default_rng(3), np.array(shares)
    found = [
        category_test(drawn(rng, 10_000, p), drawn(rng, 500, p), alone(len(p))).p_value() <= 0.01 for _ in range(2_500)
    ]

    assert 0.004 < np.mean(found) < 0.016


@pytest.mark.parametrize("n", [200, 500])
@pytest.mark.parametrize("taken_from", [0, 2])
def test_a_rare_category_that_grows_tenfold_is_found(n: int, taken_from: int) -> None:
    """.005 to .05, at the cost of a frequent one or of a rare one: 5e-7 and 9e-15 is what its own count says."""
    before = np.array([5_000.0, 3_000.0, 1_950.0, 50.0])
    after = n * np.array([0.5, 0.3, 0.195, 0.005])
    after[3] += 0.045 * n
    after[taken_from] -= 0.045 * n

    found = category_test(before, after, alone(4))

    assert found.p_value() < (1e-5 if n == 200 else 1e-12)
    assert found.effect > MIN_EFFECT["chi_square"]


def test_it_is_found_in_nearly_every_window_of_500() -> None:
    """At a level of one in a hundred thousand, through all that is expected of rare categories."""
    rng, names = np.random.default_rng(0), np.array(["a", "b", "c", "rare"])
    reference = a_category(rng.choice(names, 10_000, p=[0.5, 0.3, 0.195, 0.005]).tolist())
    comparison = Comparison("f", [], [reference], CATEGORICAL, MIN_EFFECT)
    found = 0
    for _ in range(40):
        window = coded(reference, rng.choice(names, 500, p=[0.5, 0.3, 0.15, 0.05]).tolist())
        counts = comparison.bin_counts(np.zeros((500, 0)), [window])
        result = comparison.check(lambda name, its=counts: its[name].dense(), Rates(1e-5, 1e-5))  # type: ignore[misc]
        found += "chi_square" in {f.statistic for f in result.findings}

    assert found >= 36


def test_two_categories_are_one_question() -> None:
    """Either deviates as the other does: χ² alone, uncorrected."""
    found = category_test(np.array([500.0, 500.0]), np.array([300.0, 200.0]), alone(2))

    assert found.p_value() == pytest.approx(float(special.chdtrc(1, found.statistic)))


def test_dependence_makes_the_same_counts_less_evidence() -> None:
    """As many as there are fewer effective events; more so along directions that move together."""
    before, after = np.array([400.0, 300.0, 300.0]), np.array([250.0, 150.0, 100.0])
    apart = Overdispersion(np.full(3, 4.0), np.zeros(0), np.inf)
    together = Overdispersion(np.full(3, 4.0), np.array([7.0, 1.0]), np.inf)

    p = [category_test(before, after, learned).p_value() for learned in (alone(3), apart, together)]

    assert p[0] < p[1] < p[2]


# -- single rates ----------------------------------------------------------------------------------------


def scores(hits: float, n: float, before: float, m: float, phi: float = 1.0) -> float:
    return float(deviation_scores(np.array([hits]), n, np.array([before]), m, phi)[0])


def of_mid_p(above: float, equal: float) -> float:
    """The score of a mid-p-value."""
    return float(-stats.norm.ppf(above + equal / 2))


@pytest.mark.parametrize(("hits", "before"), [(0, 30), (3, 10), (8, 10), (12, 0)])
def test_a_rare_rate_has_the_score_of_the_binomial_law(hits: int, before: int) -> None:
    law = stats.binom(hits + before, 500 / 10_500)
    expected = of_mid_p(float(law.sf(hits)), float(law.pmf(hits)))

    assert scores(hits, 500, before, 10_000) == pytest.approx(expected, rel=0.01, abs=0.01)


@pytest.mark.parametrize("hits", [180, 210, 250, 290])
def test_a_frequent_rate_has_the_score_of_the_hypergeometric_law(hits: int) -> None:
    """Given both sums; the binomial law alone is too wide by √2."""
    law = stats.hypergeom(2_500, 1_000 + hits, 500)
    expected = of_mid_p(float(law.sf(hits)), float(law.pmf(hits)))

    assert scores(hits, 500, 1_000, 2_000) == pytest.approx(expected, rel=0.05, abs=0.05)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(1, 5_000), st.integers(0, 5_000))
def test_hits_and_misses_tell_the_same(n: int, hits: int, m: int, before: int) -> None:
    hits, before = min(hits, n), min(before, m)

    assert scores(hits, n, before, m) == pytest.approx(-scores(n - hits, n, m - before, m), abs=1e-6)


def test_hits_that_come_in_clusters_are_fewer() -> None:
    many: FloatArray = np.array([scores(60, 500, 600, 10_000, phi) for phi in (1.0, 2.0, 8.0)])

    assert (np.diff(many) < 0).all()
