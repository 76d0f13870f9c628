"""What is learned of dependence: nothing where there is none, else the long-run variance of each direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.dependence import Dependence, of_categories, of_numbers, rank_scores
from detectors.dispersion import Dispersion
from detectors.numeric_tests import NumericLaws
from detectors.reference import Profile
from detectors.types import FloatArray
from tests.detectors.samples import a_category, a_number, autoregressive

ROWS = 10_000


def learned(series: FloatArray, points: int = 512) -> Dependence:
    return a_number(series, points=points).dependence


def series_of(rho: float, seed: int) -> FloatArray:
    result: FloatArray = autoregressive(ROWS, rho, np.random.default_rng(seed))[:, 0]
    return result


@given(st.lists(st.integers(1, 500), min_size=2, max_size=40))
def test_scores_are_orthonormal_under_their_weights(weights: list[int]) -> None:
    """Mean 0, variance 1, no two of them correlated; as many as there are points to tell them apart."""
    scores = rank_scores(np.array(weights), 8)
    share = np.array(weights) / sum(weights)

    assert 1 <= scores.shape[1] <= min(8, len(weights) - 1)
    assert share @ scores == pytest.approx(0, abs=1e-6)
    assert scores.T @ (share[:, None] * scores) == pytest.approx(np.eye(scores.shape[1]), abs=1e-6)


def test_independent_rows_depend_on_nothing() -> None:
    """Not even a little: of thirty references the mean is one."""
    found = [learned(np.random.default_rng(s).standard_normal(ROWS)).at(1_000) for s in range(30)]

    assert np.mean(found) < 1.02


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("n", [128, 1_000])
def test_the_first_score_of_an_autoregressive_series_has_its_long_run_variance(rho: float, n: int) -> None:
    """That of means of n values, of which the correlations reach no further than the window."""
    lags = np.arange(1, n)
    expected = 1 + 2 * float(((1 - lags / n) * rho**lags).sum())

    assert np.mean([learned(series_of(rho, s)).at(n)[0] for s in range(6)]) == pytest.approx(expected, rel=0.2)


def test_higher_scores_of_a_normal_series_depend_less() -> None:
    """The correlation of Hermite's second polynomial is the square, of the third the cube."""
    found = learned(series_of(0.9, 0)).at(1_000)

    assert found[0] > found[1] > found[2] > found[-1]


def test_values_that_come_in_runs_depend_in_all_directions() -> None:
    rng = np.random.default_rng(0)
    found = learned(np.repeat(rng.standard_normal(ROWS // 8), 8)).at(1_000)

    assert found.min() > 5


def test_windows_of_a_whole_season_vary_less_than_parts_of_one() -> None:
    """A day of a thousand events: a quarter is unlike the next, and a day is like the day before."""
    rng = np.random.default_rng(0)
    season = 0.8 * np.sin(2 * np.pi * np.arange(14_000) / 1_000)
    found = learned(season + rng.standard_normal(len(season)))

    assert found.at(128)[0] > 15
    assert found.at(1_000)[0] < 6


def test_a_constant_depends_on_nothing() -> None:
    assert of_numbers(np.zeros(ROWS, np.int64), np.array([ROWS])).sizes == ()


def test_categories_cut_from_a_series_move_together() -> None:
    """No single one tells how much: the outer ones move against each other."""
    codes = np.digitize(series_of(0.9, 1), [-0.67, 0.0, 0.67])
    phi = of_categories(codes, 4).at(1_000)

    assert phi[4] > 1.5 * phi[:4].mean()


def test_a_rare_category_is_not_called_dependent_for_a_single_pair() -> None:
    """Of forty, with thirty rows each in ten thousand."""
    found = []
    for seed in range(10):
        codes = np.random.default_rng(seed).choice(5, ROWS, p=[0.988, *[0.003] * 4])
        found += of_categories(codes, 5).at(1_000)[1:5].tolist()

    assert sum(phi > 1 for phi in found) <= 2


def test_categories_of_independent_rows_depend_on_nothing() -> None:
    found = [
        a_category([f"c{v}" for v in np.random.default_rng(s).integers(0, 8, ROWS)]).dependence.at(1_000)
        for s in range(6)
    ]

    assert np.mean(found) < 1.02


def test_phi_is_interpolated_between_sizes() -> None:
    """In the logarithm of the size; constant beyond the ends."""
    found = Dependence((32, 128), np.array([[1.0, 3.0]]), 1_000)

    assert [float(found.at(n)[0]) for n in (0, 32, 64, 128, 10_000)] == pytest.approx([1.0, 1.0, 2.0, 3.0, 3.0])
    assert len(Dependence().at(100)) == 0


@pytest.mark.parametrize("day", [700, 1_000, 1_300, 1_440])
def test_means_over_a_whole_day_of_a_sine_vary_little_and_those_over_half_of_one_a_lot(day: int) -> None:
    """Two weeks, whatever a day has of events."""
    time = np.arange(14 * day)
    noise = np.random.default_rng(1).standard_normal(len(time)) * np.sqrt(0.68)
    found = learned(0.8 * np.sin(2 * np.pi * time / day) + noise)

    assert found.at(day).max() < 5
    assert found.at(day / 2).max() > 50


def test_weak_and_slow_dependence_is_learned_from_fewer_rows_than_quick_dependence_of_the_same_size() -> None:
    """Both have φ 20 in the end; one of them comes to half of it at 16 events, the other at 512."""
    sizes = tuple(2**k for k in range(5, 12))
    quick = Dependence(sizes, np.array([[15.0, 18, 19, 20, 20, 20, 20], [1.0] * 7]), 10_000)
    slow = Dependence(sizes, np.array([[2.0, 3, 4, 6, 10, 15, 20], [1.0] * 7]), 10_000)

    assert quick.worth(20.0) == 10_000
    assert slow.worth(20.0) == pytest.approx(10_000 * 0.8 * 20 / 512 / 0.95**2)


def test_what_is_too_large_for_the_rows_that_were_kept_grows_as_blocks_of_all_rows_do() -> None:
    kept = Dependence((32, 64), np.array([[2.0, 3.0], [1.0, 1.0]]), 1_000)

    found = kept.continued(Dispersion((32, 64, 128), (2.0, 4.0, 8.0)))

    assert (found.sizes, found.phi[:, -1].tolist()) == ((32, 64, 128), [6.0, 2.0])
    assert kept.continued(Dispersion((32, 64), (2.0, 4.0))) == kept


def test_of_an_older_profile_its_overdispersion_holds_in_all_directions() -> None:
    """It has nothing else."""
    old = replace(a_number(series_of(0.5, 0)), dependence=Dependence(), dispersion=Dispersion((32,), (3.0,)))

    assert NumericLaws(old).phi(500).tolist() == [3.0]


def test_what_was_learned_is_saved_so_that_0_1_0_can_read_the_rest() -> None:
    features = (a_number(series_of(0.9, 0), "x"), a_category(["a", "b", "b", "c"] * 200, "c"), a_number([1.0, 2] * 400))
    profile = Profile(features, ROWS, ordered=True)

    back = Profile.from_bytes(profile.to_bytes())

    assert [f.dependence for f in back.features] == [f.dependence for f in features]
    assert features[0].dependence.rows == ROWS
    assert features[2].value_dependence.sizes
    assert getattr(back.features[2], "value_dependence", None) == features[2].value_dependence
