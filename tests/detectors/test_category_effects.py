"""Categories of many features side by side: each feature comes to what it comes to by itself."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.categorical import jensen_shannon_distance
from detectors.category_effects import Segments, category_effects
from detectors.category_law import Overdispersion, category_test
from detectors.types import FloatArray

SIZES = (2, 3, 30, 5, 1, 8)


def drawn(seed: int, rows: int) -> list[FloatArray]:
    """Counts of the categories of each feature, many of them rare or without any."""
    rng = np.random.default_rng(seed)
    return [rng.multinomial(rows, rng.dirichlet(np.full(size, 0.4))).astype(np.float64) for size in SIZES]


@pytest.mark.parametrize("seed", range(20))
def test_each_feature_is_as_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, window = drawn(seed % 7, 5_000), drawn(seed % 7 + seed % 2, 40 + 60 * seed)
    phi = [1 + rng.exponential(size=size) * (seed % 3) for size in SIZES]

    found = category_effects(
        np.concatenate(reference), np.concatenate(window), np.concatenate(phi), Segments(np.array(SIZES))
    )

    alone = [
        category_test(before, after, Overdispersion(its, np.zeros(0), np.inf))
        for before, after, its in zip(reference, window, phi, strict=True)
    ]
    assert found.chi_square == pytest.approx([test.statistic for test in alone], abs=1e-12)
    assert found.effect == pytest.approx([test.effect for test in alone], abs=1e-12)
    assert found.categories.tolist() == [test.categories for test in alone]
    distances = [jensen_shannon_distance(*pair) for pair in zip(reference, window, strict=True)]
    assert found.distance == pytest.approx(distances, abs=1e-7)


def test_a_feature_without_events_disturbs_no_other() -> None:
    reference, window = np.array([50.0, 50.0, 30.0, 70.0]), np.array([0.0, 0.0, 10.0, 10.0])

    found = category_effects(reference, window, np.ones(4), Segments(np.array([2, 2])))

    alone = category_test(reference[2:], window[2:], Overdispersion(np.ones(2), np.zeros(0), np.inf))
    assert (found.chi_square[1], found.effect[1]) == pytest.approx((alone.statistic, alone.effect))


def test_no_feature_gives_nothing() -> None:
    none = np.zeros(0)

    found = category_effects(none, none, none, Segments(np.zeros(0, np.int64)))

    assert len(found.effect) == 0
