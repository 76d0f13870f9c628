"""The kernel: every value has one cell, and the cells of a batch are those of its values one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.cells import GAP_STEPS, NumericCells
from detectors.types import FloatArray
from tests.detectors.samples import NAN, a_number, binned, samples


def cell_of(points: FloatArray, value: float) -> int:
    """A point has an odd cell, the gap below it the even one before."""
    below = int((points < value).sum())
    return 2 * below + int(value in points)


@given(samples, samples)
def test_a_value_is_on_a_point_or_in_a_gap(reference: FloatArray, window: FloatArray) -> None:
    """Counted one by one."""
    summary = a_number(reference)
    expected = np.bincount([cell_of(summary.points, v) for v in window], minlength=2 * len(summary.points) + 1)

    np.testing.assert_array_equal(binned(summary, window).counts, expected)


@given(samples, samples)
def test_positions_lie_inside_their_gap(reference: FloatArray, window: FloatArray) -> None:
    """None for a value that equals a point; at most the whole gap for each of the others."""
    summary = a_number(reference)
    found = binned(summary, window)

    assert not found.positions[1::2].any()
    inner = found.positions[2:-1:2]
    assert (inner >= 0).all()
    assert (inner <= found.counts[2:-1:2] * GAP_STEPS).all()


@given(samples, samples, st.integers(0, 60))
def test_counting_does_not_depend_on_batches(reference: FloatArray, window: FloatArray, cut: int) -> None:
    """A large batch is counted densely and a small one sparsely: the sums are the same integers."""
    summary = a_number(reference)
    whole = binned(summary, window)
    parts = [binned(summary, window[:cut]), binned(summary, window[cut:])]

    np.testing.assert_array_equal(parts[0].counts + parts[1].counts, whole.counts)
    np.testing.assert_array_equal(parts[0].positions + parts[1].positions, whole.positions)


@given(samples, st.permutations(range(8)))
def test_the_order_of_events_does_not_matter(reference: FloatArray, order: list[int]) -> None:
    """Columns are sorted before they are searched."""
    window = np.array([-1.0, 0.0, 0.5, 1.0, 1.0, NAN, 2.0, 3.0])
    one, other = binned(a_number(reference), window), binned(a_number(reference), window[order])

    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.positions, other.positions)
    assert one.missing.tolist() == other.missing.tolist() == [1]


def test_features_lie_one_after_the_other() -> None:
    """Each owns twice its points and one cells."""
    cells = NumericCells([a_number([1.0, 2.0]), a_number([NAN]), a_number([1.0, 2.0, 3.0])])

    assert cells.starts.tolist() == [0, 5, 6, 13]
    assert (len(cells), cells.size) == (3, 13)


def test_no_features_are_no_cells() -> None:
    """A model whose features are all categorical."""
    found = binned([], np.zeros((5, 0)))

    assert (found.cells.size, len(found.counts), len(found.missing)) == (0, 0, 0)
    assert len(found.distances.ks(found.window).value) == 0
    assert len(found.distances.wasserstein(found.window, found.positions).value) == 0


def test_a_batch_that_fills_few_cells_is_counted_sparsely() -> None:
    """Most batches of a model with many features: the rest of the cells costs nothing."""
    cells = NumericCells([a_number(np.arange(2_000.0))])
    found = cells.bin_counts(np.array([[3.0], [3.0], [7.5]]))

    assert found.counts.index is not None
    assert found.counts.index.tolist() == [7, 16]
    assert found.counts.value.tolist() == [2, 1]


def test_a_gap_wider_than_the_largest_float_has_no_positions() -> None:
    """No position is computed there, and nothing overflows."""
    found = binned(a_number([-1.7e308, 1.7e308]), [0.0, 1e307])

    assert found.counts.tolist() == [0, 0, 2, 0, 0]
    assert found.positions.tolist() == [0, 0, 0, 0, 0]
    assert np.isfinite(found.wasserstein()[0])
