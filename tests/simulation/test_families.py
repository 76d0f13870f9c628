"""Streams of the simulation have the law and the dependence that their names say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulation.families import CATEGORIES, FAMILIES, PERIOD, path_of

ROWS = 20_000


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_the_same_path_for_the_same_generator(name: str) -> None:
    first, second = (path_of(FAMILIES[name], 500, 2, np.random.default_rng(3)) for _ in range(2))

    assert first.shape == (500, 2)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_about_standard_normal(name: str) -> None:
    scores = path_of(FAMILIES[name], ROWS, 20, np.random.default_rng(0))

    assert abs(scores.mean()) < 0.05
    assert 0.8 < scores.std() < 1.2


@pytest.mark.parametrize(
    ("name", "rho"), [("iid", 0.0), ("ar.5", 0.5), ("ar.9", 0.9), ("ar.97", 0.97), ("users", 7 / 8)]
)
def test_neighbours_are_correlated_as_stated(name: str, rho: float) -> None:
    """Of returning users 7 of 8 rows have the value of the row before."""
    scores = path_of(FAMILIES[name], ROWS, 10, np.random.default_rng(1))

    assert float((scores[1:] * scores[:-1]).mean() / scores.var()) == pytest.approx(rho, abs=0.03)


def test_volatility_is_dependence_without_correlation() -> None:
    scores = path_of(FAMILIES["volatility"], ROWS, 10, np.random.default_rng(2))
    size = np.abs(scores) - np.abs(scores).mean()

    assert abs(float((scores[1:] * scores[:-1]).mean())) < 0.03
    assert float((size[1:] * size[:-1]).mean() / size.var()) > 0.2


def test_the_sine_comes_again_after_a_day() -> None:
    scores = path_of(FAMILIES["sine"], 50 * PERIOD, 1, np.random.default_rng(2))
    by_hour = scores.reshape(50, PERIOD).mean(axis=0)

    assert by_hour.std() == pytest.approx(0.8 / np.sqrt(2 * 1.32), abs=0.02)


def test_marginal_laws_are_those_of_their_names() -> None:
    scores = np.random.default_rng(4).standard_normal(100_000)

    assert np.bincount(FAMILIES["ties"].marginal.values(scores).astype(int)) == pytest.approx(20_000, rel=0.03)
    assert np.median(FAMILIES["lognormal"].marginal.values(scores)) == pytest.approx(1.0, abs=0.02)
    rare = np.bincount(FAMILIES["rare"].marginal.values(scores).astype(int))
    assert len(rare) == len(CATEGORIES)
    assert rare[-1] / 100_000 == pytest.approx(0.005, abs=0.001)
