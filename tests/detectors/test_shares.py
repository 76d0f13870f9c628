"""Shares: exact one-sided tests with half of the observed count's own probability, of effective counts too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detectors.shares import share_p_value, two_shares_p_value

COUNTS = st.integers(0, 120)
SIZES = st.integers(1, 120)


@given(COUNTS, SIZES, st.floats(1e-6, 1 - 1e-6))
def test_a_share_has_the_mid_p_of_the_binomial_law(hits: int, n: int, share: float) -> None:
    hits = min(hits, n)
    law = stats.binom(n, share)
    half = law.pmf(hits) / 2

    assert share_p_value(hits, n, share, above=True) == pytest.approx(law.sf(hits) + half, abs=1e-9)
    assert share_p_value(hits, n, share, above=False) == pytest.approx(law.cdf(hits) - half, abs=1e-9)


@given(COUNTS, SIZES, COUNTS, SIZES)
def test_two_shares_have_the_mid_p_of_the_hypergeometric_law(hits: int, n: int, before: int, m: int) -> None:
    hits, before = min(hits, n), min(before, m)
    law = stats.hypergeom(n + m, hits + before, n)
    half = law.pmf(hits) / 2

    assert two_shares_p_value(hits, n, before, m, above=True) == pytest.approx(law.sf(hits) + half, abs=1e-9)
    assert two_shares_p_value(hits, n, before, m, above=False) == pytest.approx(law.cdf(hits) - half, abs=1e-9)


def test_a_tail_far_beyond_the_smallest_difference_from_one_keeps_its_digits() -> None:
    law = stats.hypergeom(1_030, 900, 30)

    assert two_shares_p_value(0, 30, 900, 1_000, above=False) == pytest.approx(law.pmf(0) / 2, rel=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 200), st.floats(0, 1), st.floats(1, 200))
def test_of_effective_counts_more_hits_are_never_less_evidence(
    one: float, other: float, n: float, before: float, m: float
) -> None:
    """Fractions too; a p-value is always a number from 0 to 1."""
    few, many = sorted((one, other))
    two = [two_shares_p_value(share * n, n, before * m, m, above=True) for share in (few, many)]
    known = [share_p_value(share * n, n, before, above=True) for share in (few, many)]

    for p in (two, known):
        assert 0 <= p[1] <= p[0] + 1e-9
        assert p[0] <= 1


def test_a_fraction_of_hits_lies_between_its_neighbours() -> None:
    p = [two_shares_p_value(hits, 50, 30, 300, above=True) for hits in (9, 9.5, 10)]

    assert p[0] > p[1] > p[2]


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_limit_outside_of_zero_and_one_is_taken_for_the_end(share: float) -> None:
    """`120% of baseline` of an accuracy of 0.9."""
    assert share_p_value(3, 10, share, above=True) == (1.0 if share > 1 else 0.0)


def test_without_an_event_on_each_side_nothing_is_significant() -> None:
    assert share_p_value(0, 0, 0.5, above=True) == 1.0
    assert two_shares_p_value(0, 0, 1, 10, above=True) == two_shares_p_value(1, 10, 0, 0, above=True) == 1.0
    assert two_shares_p_value(0.5, 0.5, 1, 100, above=True) == 1.0


@pytest.mark.parametrize("n", [30, 200, 1_000])
def test_a_share_breaches_as_often_as_its_level_says(n: int) -> None:
    """Neither far more nor far less often, at a true share of .9."""
    rng = np.random.default_rng(2)
    hits, before = rng.binomial(n, 0.9, 4_000), rng.binomial(1_000, 0.9, 4_000)
    p = [two_shares_p_value(h, n, b, 1_000, above=False) for h, b in zip(hits.tolist(), before.tolist(), strict=True)]

    assert 0.7 <= np.mean(np.array(p) <= 0.05) / 0.05 <= 1.3
