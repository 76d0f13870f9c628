"""The law of Kolmogorov-Smirnov and Wasserstein: known where it is known, true to alpha on ties and heavy tails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

from detectors.bridge_law import BridgeLaw
from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.significance import pair_size
from detectors.types import FloatArray
from tests.detectors.samples import a_number, binned

ALONE = np.ones(5)  # φ of independent rows
LARGE = 1e9


def a_law(values: FloatArray, phi: FloatArray = ALONE, rows: float = np.inf) -> BridgeLaw:
    return BridgeLaw(a_number(values), phi, rows)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("p", [0.1, 1e-2, 1e-3, 1e-5, 1e-7])
def test_without_ties_and_dependence_it_is_the_law_of_kolmogorov(p: float) -> None:
    """Within what 8 000 paths tell."""
    law = a_law(rng().standard_normal(5_000))

    assert law.p_value(special.kolmogi(p) / np.sqrt(LARGE), None, LARGE) == pytest.approx(p, rel=0.2)


DRAWS: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
    "normal": lambda r, n: r.standard_normal(n),
    "uniform": lambda r, n: r.random(n),
    "lognormal": lambda r, n: r.lognormal(0, 1.5, n),
    "poisson": lambda r, n: r.poisson(3, n).astype(np.float64),
    "five values": lambda r, n: r.integers(0, 5, n).astype(np.float64),
    "half of it zero": lambda r, n: np.where(r.random(n) < 0.5, 0.0, r.standard_normal(n)),
    "one in twenty": lambda r, n: (r.random(n) < 0.05).astype(np.float64),
}


@pytest.mark.parametrize("n", [60, 500])
@pytest.mark.parametrize("name", DRAWS)
def test_both_statistics_together_keep_to_alpha(name: str, n: int) -> None:
    """Windows that have not changed, against six references: 5 % are below .05, and it is no mere bound."""
    draw, p = DRAWS[name], []
    for seed in range(6):
        r = rng(seed)
        reference = a_number(draw(r, 5_000), points=256)
        law = BridgeLaw(reference, ALONE, np.inf)
        for _ in range(50):
            window = binned(reference, draw(r, n))
            w1 = float(window.distances.wasserstein(window.window, window.positions).inner[0])
            p.append(law.p_value(window.ks(), w1, pair_size(n, 5_000)))

    share = float(np.mean(np.array(p) <= 0.05))
    assert share <= 0.085
    if n == 500:
        assert share >= 0.015


@pytest.mark.parametrize("name", ["lognormal", "pareto", "t3"])
def test_a_heavy_tail_is_no_drift(name: str) -> None:
    """One event may lie anywhere beyond the reference: 300 windows at one in a hundred thousand, far in the tail."""
    r = rng(13)
    draws: dict[str, Callable[[int], FloatArray]] = {
        "lognormal": lambda size: r.lognormal(0, 2, size),
        "pareto": lambda size: r.pareto(1.5, size),
        "t3": lambda size: r.standard_t(3, size),
    }
    draw, alarms = draws[name], 0
    for _ in range(6):
        reference = a_number(draw(10_000))
        comparison = Comparison("x", [reference], [], ["wasserstein"], {"wasserstein": 0.0, "missing_rate": 1.0})
        for _ in range(50):
            counts = {key: c.dense() for key, c in comparison.bin_counts(draw(1_000)[:, None], []).items()}
            alarms += len(comparison.check(counts.get, Rates(1e-5, 1e-5)).findings)

    assert alarms <= 1


def test_the_smaller_of_two_p_values_is_small_more_often() -> None:
    """At most twice as often, and not at all where they are the same."""
    law, size = a_law(rng().standard_normal(5_000)), 1_000.0
    ks, w1 = law.p_value(0.07, None, size), law.p_value(None, 0.17, size)
    both = law.p_value(0.07, 0.17, size)

    assert min(ks, w1) < both <= 2 * min(ks, w1)


def test_p_values_fall_with_the_statistics() -> None:
    """Beyond what was simulated as well, down to where a float ends."""
    law = a_law(rng().standard_normal(1_000))
    p = [law.p_value(d / 4, d, 500.0) for d in np.linspace(0.0, 1.5, 200)]

    assert (np.diff(p) <= 0).all()
    assert p[0] == 1.0
    assert 0 < p[-1] < 1e-90


def test_dependence_widens_the_law() -> None:
    """By √φ where all directions have the same; less where it is only one."""
    values = rng().standard_normal(2_000)
    alone, all_of_it = a_law(values), a_law(values, np.full(5, 4.0))
    mean_only = a_law(values, np.array([4.0, 1.0, 1.0, 1.0, 1.0]))

    assert all_of_it.largest == pytest.approx(2 * alone.largest)
    assert alone.largest < mean_only.largest < all_of_it.largest
    assert mean_only.widest == pytest.approx(2 * alone.widest, rel=0.01)  # a mean is what Wasserstein follows
    assert all_of_it.p_value(0.2, 0.4, 400.0) == pytest.approx(alone.p_value(0.2, 0.4, 100.0), rel=0.1)


def test_a_spread_that_wanders_keeps_to_alpha_far_in_the_tail() -> None:
    """It moves both sides of the middle against each other, so that their signed areas are no measure of its tail."""
    values, phi = rng().standard_normal(2_000), np.array([1.0, 30.0, 1.0, 1.0, 1.0])
    law, x = a_law(values, phi), np.linspace(-5, 5, 400)
    # √29 Z times the covariance of 1(X ≤ x) with the second score, (X² − 1) / √2, in the area where it is alone.
    moved = np.abs(x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)) / np.sqrt(2)
    area = np.sqrt(29) * moved.sum() * (x[1] - x[0])

    for p in (1e-3, 1e-5):
        assert law.p_value(None, -special.ndtri(p / 2) * area / np.sqrt(LARGE), LARGE) >= p


def test_a_stretch_of_wide_values_is_less_surprising_in_a_small_window() -> None:
    """Events that come together count as many where a spread wanders."""
    law = a_law(rng().standard_normal(2_000), np.array([1.0, 30.0, 1.0, 1.0, 1.0]))

    assert law.p_value(None, 15 / np.sqrt(200), 200.0) > 2 * law.p_value(None, 15 / np.sqrt(20_000), 20_000.0)


def test_an_estimate_from_few_rows_has_a_heavier_tail() -> None:
    values, phi = rng().standard_normal(2_000), np.full(5, 20.0)

    assert a_law(values, phi, 10_000).p_value(0.5, None, 900.0) > 2 * a_law(values, phi).p_value(0.5, None, 900.0)


def test_overlapping_windows_are_allowed_a_larger_level() -> None:
    """Of ten panes a rejection is often one of several; of one pane each is an alarm."""
    law = a_law(rng().standard_normal(2_000))

    assert law.level(1e-3, 1, joint=True) == 1e-3
    assert 1.2e-3 < law.level(1e-3, 10, joint=True) < law.level(1e-3, 100, joint=True)


def test_the_same_data_have_the_same_p_value() -> None:
    """test_m13: the simulation has a fixed seed."""
    assert a_law(np.arange(100.0)).p_value(0.2, 0.2, 50) == a_law(np.arange(100.0)).p_value(0.2, 0.2, 50)


def test_a_constant_reference_has_a_law_all_the_same() -> None:
    """Nobody asks for it, but it says nothing."""
    assert a_law(np.ones(100)).p_value(0.5, None, 100.0) == 1.0
