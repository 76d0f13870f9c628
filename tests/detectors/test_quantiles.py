"""The sorted summary: exact while it fits, within its tracked error beyond, the same for any batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.quantiles import QuantileSummary, distance_between, mid_block_points
from detectors.types import FloatArray, IntArray
from tests.detectors.samples import samples


def summary_of(values: FloatArray, capacity: int, sizes: list[int] | None = None) -> QuantileSummary:
    """Of values that come in batches of these sizes, the rest at once."""
    summary, start = QuantileSummary(capacity), 0
    for size in sizes or []:
        summary.add(values[start : start + size])
        start += size
    summary.add(values[start:])
    return summary


def rank_errors(values: FloatArray, found: FloatArray, weights: IntArray) -> FloatArray:
    """By how much the share of rows up to each value is off."""
    order = np.sort(values)
    grid = np.unique(order)
    true = np.searchsorted(order, grid, side="right") / len(values)
    ends = np.concatenate([[0], np.cumsum(weights)])
    estimated = ends[np.searchsorted(found, grid, side="right")] / max(ends[-1], 1)
    result: FloatArray = np.abs(true - estimated)
    return result


@given(samples)
def test_a_summary_that_fits_is_the_sorted_rows(values: FloatArray) -> None:
    """With no error."""
    summary = summary_of(values, 64)
    found, weights = summary.weighted()

    np.testing.assert_array_equal(found, np.sort(values))
    assert weights.tolist() == [1] * len(values)
    assert summary.rank_error == 0.0


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3_000), st.sampled_from([2, 8, 32]))
def test_ranks_are_within_the_tracked_error(seed: int, rows: int, capacity: int) -> None:
    """However small the buffers; and no row is lost."""
    values = np.random.default_rng(seed).integers(0, rows, rows).astype(np.float64)
    summary = summary_of(values, capacity)
    found, weights = summary.weighted()

    assert weights.sum() == summary.rows == rows
    assert (np.diff(found) >= 0).all()
    assert rank_errors(values, found, weights).max() <= summary.rank_error + 1e-12


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 200), max_size=20))
def test_batches_do_not_matter(seed: int, sizes: list[int]) -> None:
    """The same rows in the same order give the same summary."""
    values = np.random.default_rng(seed).standard_normal(1_500)
    one, other = summary_of(values, 64).weighted(), summary_of(values, 64, sizes).weighted()

    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_the_error_is_small_where_it_matters() -> None:
    """Sorted input, the worst for many sketches: a hundred buffers, and ranks off by less than 0.5 %."""
    values = np.arange(100 * 1_024.0)
    summary = summary_of(values, 1_024)

    assert summary.rank_error < 0.005


def test_memory_does_not_grow_with_the_rows() -> None:
    """One buffer for each doubling."""
    summary = QuantileSummary(64)
    for start in range(0, 64 * 1_000, 640):
        summary.add(np.arange(start, start + 640.0))

    assert len(summary.weighted()[0]) <= 64 * 11


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_only_finite_values_are_taken(value: float) -> None:
    """The caller counts the others as missing."""
    with pytest.raises(ValueError, match="finite"):
        QuantileSummary(8).add(np.array([1.0, value]))


@pytest.mark.parametrize("capacity", [0, 1, 7])
def test_a_capacity_that_cannot_be_halved_is_refused(capacity: int) -> None:
    """Every second item of two buffers must fill one."""
    with pytest.raises(ValueError, match="even"):
        QuantileSummary(capacity)


def test_a_summary_of_nothing_is_empty() -> None:
    """And has no error."""
    summary = QuantileSummary(8)

    assert (summary.rows, summary.rank_error, len(summary.weighted()[0])) == (0, 0.0, 0)


# -- points ----------------------------------------------------------------------------------------------


@given(samples, st.integers(1, 40))
def test_points_move_the_distribution_by_half_a_block_at_most(values: FloatArray, count: int) -> None:
    """Nothing where there are no more rows than points."""
    order = np.sort(values)
    points, weights = mid_block_points(order, np.ones(len(order), np.int64), count)

    assert (np.diff(points) > 0).all()
    assert weights.sum() == min(len(values), count)
    bound = 1 / (2 * count) if len(values) > count else 0.0
    assert rank_errors(values, points, weights).max() <= bound + 1e-12


@given(samples, samples)
def test_the_distance_of_two_samples_is_that_of_scipy(left: FloatArray, right: FloatArray) -> None:
    """Exactly: the area between the step functions."""
    found = distance_between(np.sort(left), np.ones(len(left), np.int64), np.sort(right), np.ones(len(right), np.int64))

    assert found == pytest.approx(stats.wasserstein_distance(left, right), rel=1e-9, abs=1e-9)


def test_the_distance_of_one_value_from_itself_is_nothing() -> None:
    """A grid of one point has no area."""
    one = np.array([3.0]), np.array([2])

    assert distance_between(*one, *one) == 0.0
