"""What windows are said to show is what they show: windows with such a change are simulated and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.random import Generator

from detectors.checking import Rates, check
from detectors.comparison import Comparison
from detectors.findings import Family, Skipped
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference
from detectors.registry import MIN_EFFECT
from detectors.sensitivity import Change, Comparisons, FeatureSensitivity
from detectors.types import FloatArray, IntArray
from tests.detectors.samples import a_category, a_number

ALLOWED = Rates(drift=1e-5, quality=1e-6, panes=10)
ANY_EFFECT = dict.fromkeys(MIN_EFFECT, 0.0)
SHARES = np.array([0.6, 0.25, 0.1, 0.045, 0.005])
REPEATS = 60
Sampler = Callable[[int, Generator], FloatArray]


def comparison(r: NumericReference | CategoricalReference, min_effect: dict[str, float] | None = None) -> Comparison:
    numeric, categorical = ([r], []) if isinstance(r, NumericReference) else ([], [r])
    detectors = ("ks", "wasserstein", "chi_square", "jensen_shannon")
    return Comparison("features", numeric, categorical, detectors, min_effect or ANY_EFFECT)


def told(c: Comparison, n: int, allowed: Rates = ALLOWED) -> FeatureSensitivity:
    return Comparisons([c]).sensitivity(n, allowed).features[0]


def change(found: FeatureSensitivity, *, rises: bool = True) -> Change:
    return next(c for c in found.changes if c.rises is rises)


def share_found(c: Comparison, windows: Sequence[FloatArray]) -> float:
    """The share of windows of one numeric feature that show drift."""
    return _share(c, [c.bin_counts(window[:, None], []) for window in windows])


def share_found_by_code(c: Comparison, windows: Sequence[IntArray]) -> float:
    """The share of windows of one categorical feature that do."""
    return _share(c, [c.bin_counts(np.zeros((len(window), 0)), [window]) for window in windows])


def _share(c: Comparison, binned: Sequence[Mapping[str, Counts]]) -> float:
    hits = []
    for window in binned:
        totals = {name: counts.dense() for name, counts in window.items()}
        hits.append(any(f.family is Family.DRIFT for f in check([c], totals.get, ALLOWED).findings))
    return float(np.mean(hits))


def normal(n: int, rng: Generator) -> FloatArray:
    return rng.normal(size=n)


def lognormal(n: int, rng: Generator) -> FloatArray:
    return rng.lognormal(size=n)


def uniform(n: int, rng: Generator) -> FloatArray:
    return rng.uniform(size=n)


@pytest.mark.parametrize("sample", [normal, lognormal, uniform])
@pytest.mark.parametrize("n", [200, 1000])
def test_a_shift_of_the_size_that_is_told_is_found_in_about_half_of_the_windows(sample: Sampler, n: int) -> None:
    rng = np.random.default_rng(1)
    r = a_number(sample(20_000, rng))
    c = comparison(r)
    shift = change(told(c, n)).size * r.sd

    found = share_found(c, [sample(n, rng) + shift for _ in range(REPEATS)])

    assert 0.3 <= found <= 0.92
    assert share_found(c, [sample(n, rng) + shift / 2 for _ in range(REPEATS)]) < 0.2
    assert share_found(c, [sample(n, rng) + shift * 2 for _ in range(REPEATS)]) > 0.95


@pytest.mark.parametrize("which", ["largest", "rare"])
@pytest.mark.parametrize("n", [200, 1000])
def test_a_change_of_a_category_that_is_told_is_found_in_about_half_of_the_windows(which: str, n: int) -> None:
    rng = np.random.default_rng(1)
    c = comparison(a_category(["abcde"[i] for i in rng.choice(5, 20_000, p=SHARES)]))
    found = change(told(c, n), rises=which == "rare")
    at = 4 if which == "rare" else 0
    new = SHARES[at] + (found.size if found.rises else -found.size)
    shares = SHARES * (1 - new) / (1 - SHARES[at])
    shares[at] = new

    seen = share_found_by_code(c, [rng.choice(5, n, p=shares) for _ in range(REPEATS)])

    assert 0.3 <= seen <= 0.75
    assert found.category == (None if which == "rare" else "a")


def test_a_window_that_begins_to_shift_shows_it_after_the_events_that_are_told() -> None:
    rng = np.random.default_rng(1)
    r = a_number(rng.normal(size=20_000))
    c = comparison(r)
    until = told(c, 1000).shifts[0.5]

    windows = [rng.normal(size=1000) + 0.5 * r.sd * (np.arange(1000) >= 1000 - until) for _ in range(REPEATS)]

    assert 0.3 <= share_found(c, windows) <= 0.8


def test_where_values_tie_larger_ones_become_more_frequent() -> None:
    rng = np.random.default_rng(1)
    r = a_number(rng.poisson(1.0, 20_000).astype(np.float64))
    c = comparison(r)
    shift = next(found for found in told(c, 1000).changes if found.kind == "tilt")

    found = share_found(c, [rng.poisson(1 + shift.size * r.sd, 1000).astype(np.float64) for _ in range(REPEATS)])

    assert 0.3 <= found <= 0.8


def test_in_long_windows_the_minimum_effect_decides_and_in_short_ones_the_budget() -> None:
    c = comparison(a_number(np.random.default_rng(1).normal(size=20_000)), dict(MIN_EFFECT))

    assert not change(told(c, 1000)).by_effect
    assert change(told(c, 5000)).by_effect
    assert change(told(c, 5000)).size == pytest.approx(0.1, rel=0.02)


def test_longer_windows_find_smaller_shifts_and_larger_shifts_are_found_sooner() -> None:
    c = comparison(a_number(np.random.default_rng(1).normal(size=20_000)))
    sizes = [change(told(c, n)).size for n in (200, 500, 1000, 5000)]
    events = list(told(c, 5000).shifts.values())

    assert sizes == sorted(sizes, reverse=True)
    assert events == sorted(events, reverse=True)


def test_a_blind_window_says_how_long_one_that_sees_would_be() -> None:
    walk = np.repeat(np.random.default_rng(1).normal(size=400), 50)
    c = comparison(a_number(walk))
    blind = told(c, 100)

    assert blind.skipped is Skipped.BLIND
    assert blind.sees_from is not None
    assert told(c, blind.sees_from).skipped is None


def test_every_test_that_can_alarm_has_a_share() -> None:
    rng = np.random.default_rng(1)
    numbers = [a_number(rng.normal(size=2000), name) for name in "xy"]
    c = Comparison("features", [*numbers, a_number(np.ones(2000), "one")], [], ("ks", "wasserstein"), MIN_EFFECT)

    found = Comparisons([c]).sensitivity(500, ALLOWED)

    assert found.shares == (2, 3)  # of drift only another value shows in what is constant, which is no chance
    assert found.rates.drift == pytest.approx(ALLOWED.drift / 2)
    assert [f.constant for f in found.features] == [False, False, True]


def test_a_window_without_values_beyond_the_reference_may_be_unlikely_itself() -> None:
    """Of 128 points every hundredth value lies beyond; that none of a window does is no change that is asked for."""
    r = a_number(np.random.default_rng(1).standard_normal(10_000), points=128)

    found = told(comparison(r), 2_000, Rates(drift=5e-2, quality=1e-3, panes=2))

    assert 0 < change(found).size < 0.2


def test_a_shift_beyond_what_can_be_found_is_infinite() -> None:
    c = Comparison(
        "features",
        [a_number(np.random.default_rng(1).normal(size=500))],
        [],
        ("ks",),
        {"ks": 2.0} | {"missing_rate": 0.05},
    )

    assert math.isinf(change(told(c, 100)).size)
