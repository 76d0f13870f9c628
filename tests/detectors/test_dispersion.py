"""Overdispersion: one for independent rows, about (1 + ρ) / (1 − ρ) for an autoregressive series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.dispersion import FEWEST_BLOCKS, SMALLEST, BlockVariance, Dispersion
from tests.detectors.samples import a_category, a_number, autoregressive

ROWS = 10_000


def mean_phi(rho: float, size: int, seeds: int = 6) -> float:
    """Of numeric references of an AR(1) series."""
    series = (autoregressive(ROWS, rho, np.random.default_rng(seed))[:, 0] for seed in range(seeds))
    return float(np.mean([a_number(x).dispersion.at(size) for x in series]))


def test_independent_rows_have_no_overdispersion() -> None:
    """Its noise alone raises it by little."""
    assert 1.0 <= mean_phi(0.0, 1_000) < 1.5


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.97])
def test_overdispersion_is_that_of_the_mean_of_an_autoregressive_series(rho: float) -> None:
    """(1 + ρ) / (1 − ρ), for windows of a thousand: they tell as much as n/φ independent events."""
    expected = (1 + rho) / (1 - rho)

    assert 0.65 * expected < mean_phi(rho, 1_000) < 1.4 * expected


def test_overdispersion_is_hardly_ever_far_too_low() -> None:
    """Ten blocks are a noisy estimate, and too low a one costs false alarms: the two sizes before help."""
    found = [
        a_number(autoregressive(ROWS, 0.5, np.random.default_rng(s))[:, 0]).dispersion.at(1_000) for s in range(30)
    ]

    assert sum(phi < 0.6 * 3 for phi in found) <= 1


def test_windows_of_several_whole_cycles_vary_less_than_parts_of_one() -> None:
    """A day of 256 events: a quarter of it is unlike the next, eight days are like the eight before."""
    hours = np.tile(np.sin(np.arange(256) / 256 * 2 * np.pi), 128)
    found = a_number(hours + 0.1 * np.random.default_rng(0).standard_normal(len(hours))).dispersion

    assert found.at(64) > 20
    assert found.at(2_048) < 2


def test_small_windows_of_a_slow_series_are_dispersed_less() -> None:
    """What varies over hundreds of events hardly varies within thirty."""
    assert mean_phi(0.97, 32) < mean_phi(0.97, 1_000) / 2


def test_categories_that_come_in_runs_are_overdispersed() -> None:
    """The same for the shares of categories."""
    rng = np.random.default_rng(0)
    runs = [str(text) for text in rng.integers(0, 4, ROWS // 20) for _ in range(20)]
    mixed = [str(text) for text in rng.integers(0, 4, ROWS)]

    assert 12 < a_category(runs).dispersion.at(1_000) < 45
    assert a_category(mixed).dispersion.at(1_000) < 2


def test_missing_values_that_come_in_runs_are_overdispersed() -> None:
    """A feed that fails for an hour."""
    rng = np.random.default_rng(0)
    holes = np.repeat(rng.random(ROWS // 25) < 0.2, 25)
    values = np.where(holes, np.nan, rng.standard_normal(ROWS))

    assert 12 < a_number(values).missing_dispersion.at(1_000) < 60
    assert a_number(rng.permutation(values)).missing_dispersion.at(1_000) < 2


def test_a_constant_has_no_overdispersion() -> None:
    """Nothing of it varies."""
    found = a_number(np.ones(ROWS))

    assert (found.dispersion.at(1_000), found.missing_dispersion.at(1_000)) == (1.0, 1.0)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 300), max_size=12), st.booleans())
def test_batches_do_not_matter(seed: int, sizes: list[int], ordered: bool) -> None:
    """Blocks reach over the ends of batches."""
    bins = np.random.default_rng(seed).integers(0, 5, 2_000)
    one = BlockVariance(np.full(5, 0.2), 2_000, ordered=ordered)
    other = BlockVariance(np.full(5, 0.2), 2_000, ordered=ordered)

    one.add(bins)
    for part in np.split(bins, np.minimum(np.cumsum(sizes), 2_000)):
        other.add(part)

    assert one.result() == other.result()


def test_a_block_size_needs_enough_blocks() -> None:
    """With fewer, φ is mostly noise."""
    enough = SMALLEST * FEWEST_BLOCKS

    def sizes(rows: int) -> tuple[int, ...]:
        variance = BlockVariance(np.full(5, 0.2), rows, ordered=True)
        variance.add(np.random.default_rng(0).integers(0, 5, rows))
        return variance.result().sizes

    assert (sizes(enough), sizes(enough - 1)) == ((SMALLEST,), ())


def test_a_reference_too_short_for_an_estimate_has_no_overdispersion() -> None:
    """φ is taken as one."""
    assert Dispersion().at(1_000) == 1.0


def test_phi_is_interpolated_between_sizes() -> None:
    """In the logarithm of the size; constant beyond the ends."""
    found = Dispersion((32, 128), (1.0, 3.0))

    assert [found.at(n) for n in (0, 32, 64, 128, 10_000)] == pytest.approx([1.0, 1.0, 2.0, 3.0, 3.0])
