"""Distances of numeric features: equal to scipy's on the same data, or within the error that they state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from detectors.cells import TAIL_LIMIT, TAIL_STEPS, TOLERANCE
from detectors.numeric import PSI_BINS
from detectors.reference import NumericReference
from detectors.types import FloatArray
from tests.detectors.samples import NAN, a_number, binned, samples

TIED = np.array([1, 2, 2, 3, 3, 3, 4, 5], np.float64), np.array([2, 3, 3, 4, 4, 5, 5, 5, 6, 7], np.float64)
FURTHEST = TAIL_LIMIT / TAIL_STEPS / 2  # deviations: beyond 1.6e7 of them a distance is cut off


def ks_of_scipy(reference: FloatArray, window: FloatArray) -> float:
    with np.errstate(all="ignore"):  # of the p-value, which nobody asks for
        return float(stats.ks_2samp(reference, window, method="asymp").statistic)


def near_ties(rows: FloatArray, window: FloatArray) -> bool:
    """Whether a value of the window is within the tolerance of one of the rows that it does not equal."""
    distance = np.abs(rows[:, None] - window[None, :])
    return bool(((distance > 0) & (distance <= TOLERANCE * np.abs(rows)[:, None])).any())


# -- known answers ---------------------------------------------------------------------------------------


def test_ks_with_ties_has_the_known_answer() -> None:
    """statistics.md 9: D = 0.45."""
    assert binned(a_number(TIED[0]), TIED[1]).ks() == pytest.approx(0.45, abs=1e-15)


def test_wasserstein_with_ties_has_the_known_answer() -> None:
    """statistics.md 9: W1 = 1.525."""
    value, error = binned(a_number(TIED[0]), TIED[1]).wasserstein()

    assert abs(value - 1.525) <= error < 1e-3


def test_psi_has_the_known_answer() -> None:
    """statistics.md 9: shares (.5, .3, .2) against (.4, .4, .2); so many events that half a one more is nothing."""
    rows = 10**9
    reference = NumericReference("x", np.array([1.0, 2.0, 3.0]), np.array([5, 3, 2]), rows, 0)
    window = binned(reference, [1.0])
    counts = np.zeros_like(window.counts)
    counts[[1, 3, 5]] = np.array([4, 4, 2]) * rows // 10

    psi, bins = window.distances.psi(window.distances.window(counts))

    assert (psi.value[0], bins[0]) == (pytest.approx(0.0510826, abs=5e-8), 3)


# -- equal to scipy --------------------------------------------------------------------------------------


@given(samples, samples)
def test_ks_is_that_of_scipy(reference: FloatArray, window: FloatArray) -> None:
    """Ties and all, while the reference has no more rows than points."""
    assert binned(a_number(reference), window).ks() == pytest.approx(ks_of_scipy(reference, window), abs=1e-12)


@given(samples, samples)
def test_wasserstein_is_that_of_scipy_within_its_stated_error(reference: FloatArray, window: FloatArray) -> None:
    """In standard deviations of the reference; a constant one has no scale and no distance."""
    summary = a_number(reference)
    value, error = binned(summary, window).wasserstein()

    if summary.sd == 0.0:
        assert np.isnan(value) or value == 0
        return
    assume(np.abs(window - summary.mean).max() < FURTHEST * summary.sd)
    expected = stats.wasserstein_distance(reference, window)
    rounding = 1e-9 * max(1.0, float(np.abs(reference).max()), float(np.abs(window).max()))
    assert abs(value - expected) <= error + rounding


@given(samples, samples, st.integers(16, 64).map(lambda n: 2 * n))
def test_a_thinned_reference_moves_statistics_by_no_more_than_it_states(
    reference: FloatArray, window: FloatArray, repeats: int
) -> None:
    """More rows than points: both errors are stated and hold."""
    rows = np.concatenate([reference * (1 + shift / 1_000) for shift in range(repeats)])
    assume(not near_ties(rows, window))
    summary = a_number(rows, points=16)
    window_placed = binned(summary, window)
    ks_error = float(window_placed.distances.ks(window_placed.window).error[0])

    assert ks_error == summary.ks_error == (0.0 if len(rows) <= 16 else 1 / 32)
    assert abs(window_placed.ks() - ks_of_scipy(rows, window)) <= ks_error + 1e-12
    if np.abs(window - summary.mean).max() < FURTHEST * summary.sd:
        value, error = window_placed.wasserstein()
        rounding = 1e-9 * max(1.0, float(np.abs(rows).max()), float(np.abs(window).max()))
        assert abs(value - stats.wasserstein_distance(rows, window)) <= error + rounding


# -- near-ties: the same number, written with fewer digits -----------------------------------------------


def test_a_table_in_float32_and_the_numbers_of_json_are_equal() -> None:
    """0.1 … 0.9 as frameworks keep them, against the same as JSON writes them."""
    tenths = np.arange(1, 10) / 10
    summary = a_number(np.repeat(tenths, 50).astype(np.float32).astype(np.float64))

    assert binned(summary, tenths).ks() == pytest.approx(0.0, abs=1e-12)


def test_numbers_in_float32_and_a_table_of_doubles_are_equal() -> None:
    tenths = np.arange(1, 10) / 10

    assert binned(a_number(tenths), tenths.astype(np.float32).astype(np.float64)).ks() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_last_digit_of_a_sum_is_no_drift(sign: float) -> None:
    assert binned(a_number([1.0, 1.0, 1.0]), [1.0 + sign * 1e-12] * 4).ks() == 0.0


def test_a_difference_beyond_the_tolerance_is_one() -> None:
    """Nothing is rounded: 1.000001 stays what it is."""
    assert binned(a_number([1.0, 1.0, 1.0]), [1.0 + 1e-6] * 4).ks() == 1.0


@given(st.integers(24, 53), st.integers(0, 2**32))
def test_large_integers_next_to_each_other_stay_apart(power: int, seed: int) -> None:
    """2^24 … 2^53: neighbours are within the tolerance of each other, and each is its own point."""
    rng = np.random.default_rng(seed)
    found = (2**power - rng.integers(0, 50, 200)).astype(np.float64)
    reference, window = np.append(found, np.unique(found)), found[:80]

    assert binned(a_number(reference), window).ks() == pytest.approx(ks_of_scipy(reference, window), abs=1e-12)


@given(samples)
def test_a_value_within_the_tolerance_of_a_point_is_that_point(reference: FloatArray) -> None:
    """And one that equals a point is never given to a neighbour, however close."""
    summary = a_number(reference)
    close = reference * (1 + TOLERANCE / 2)

    np.testing.assert_array_equal(binned(summary, close).counts, binned(summary, reference).counts)


def test_what_lies_between_two_close_points_belongs_to_the_nearer() -> None:
    counts = binned(a_number([2.0**40, 2.0**40 + 10]), [2.0**40 + 4, 2.0**40 + 6, 2.0**40 + 16]).counts

    assert counts.tolist() == [0, 1, 0, 1, 1]


# -- laws ------------------------------------------------------------------------------------------------


@given(samples)
def test_a_window_equal_to_the_reference_has_no_distance(values: FloatArray) -> None:
    """All three are zero, the Wasserstein distance within its error."""
    reference = a_number(values)
    same = binned(reference, values)

    assert same.ks() == pytest.approx(0.0, abs=1e-12)
    assert same.psi() == pytest.approx(0.0, abs=1e-12)
    if reference.sd > 0.0:
        value, error = same.wasserstein()
        assert value <= error


@given(samples, samples, st.integers(-20, 20))
def test_units_do_not_matter(reference: FloatArray, window: FloatArray, power: int) -> None:
    """test_m31: a feature times a power of two has the same distances, in standard deviations."""
    scale = 2.0**power
    one, other = binned(a_number(reference), window), binned(a_number(reference * scale), window * scale)

    assert one.ks() == other.ks()
    assert one.psi() == other.psi()
    if a_number(reference).sd > 0.0:  # which has no scale
        np.testing.assert_array_equal(one.positions, other.positions)


@given(st.lists(samples, min_size=1, max_size=4), st.lists(samples, min_size=4, max_size=4))
def test_features_do_not_disturb_each_other(references: list[FloatArray], windows: list[FloatArray]) -> None:
    """test_m29: together they have the distances that each has alone."""
    rows = min(map(len, windows))
    columns = [window[:rows] for window in windows[: len(references)]]
    summaries = [a_number(values, f"x{i}") for i, values in enumerate(references)]

    together = binned(summaries, *columns)

    for i, (summary, column) in enumerate(zip(summaries, columns, strict=True)):
        alone = binned(summary, column)
        assert together.ks(i) == pytest.approx(alone.ks(), abs=1e-12)
        assert together.psi(i) == pytest.approx(alone.psi(), abs=1e-12)
        np.testing.assert_allclose(together.wasserstein(i), alone.wasserstein(), atol=1e-12, rtol=1e-9)


@given(samples, samples, st.integers(0, 60))
def test_panes_add_up_to_the_window(reference: FloatArray, window: FloatArray, cut: int) -> None:
    """Pane merge, then statistic = statistic of the union; exactly, because all is integers."""
    summary = a_number(reference)
    whole = binned(summary, window)
    parts = [binned(summary, part) for part in (window[:cut], window[cut:]) if len(part)]

    np.testing.assert_array_equal(sum(p.counts for p in parts), whole.counts)
    np.testing.assert_array_equal(sum(p.positions for p in parts), whole.positions)


# -- edges -----------------------------------------------------------------------------------------------


def test_an_empty_window_has_no_distances() -> None:
    """Not zero, not an error: nothing is known."""
    empty = binned(a_number([1.0, 2.0]), [])

    assert np.isnan([empty.ks(), empty.wasserstein()[0], empty.psi()]).all()


def test_missing_values_are_counted_and_left_out() -> None:
    """NaN is no value."""
    window = binned(a_number([1.0, 2.0, 3.0]), [1.0, NAN, 2.0, 3.0, NAN])

    assert window.missing.tolist() == [2]
    assert window.ks() == 0.0


def test_a_reference_without_values_has_no_distances() -> None:
    """All of it was missing."""
    window = binned(a_number([NAN, NAN]), [1.0, 2.0])

    assert np.isnan([window.ks(), window.wasserstein()[0], window.psi()]).all()


def test_a_constant_reference_is_told_apart_by_ks() -> None:
    """test_m10: no scale to normalise a distance by, but the distribution is known."""
    constant = a_number([5.0] * 10)

    assert constant.sd == 0.0
    assert binned(constant, [5.0, 5.0]).ks() == 0.0
    assert binned(constant, [5.0, 6.0]).ks() == 0.5
    assert np.isnan(binned(constant, [6.0]).wasserstein()[0])


def test_values_that_differ_by_rounding_only_are_constant() -> None:
    """0.1 + 0.2 and 0.3."""
    assert a_number([0.1 + 0.2, 0.3]).sd == 0.0


def test_a_reference_of_one_value_is_a_constant() -> None:
    """The smallest reference there is."""
    one = a_number([2.0])

    assert (one.rows, one.sd, binned(one, [1.0, 3.0]).ks()) == (1, 0.0, 0.5)


@pytest.mark.parametrize(("value", "share"), [(np.inf, 1.0), (-np.inf, 1.0)])
def test_infinity_lies_beyond_all_points(value: float, share: float) -> None:
    """Events cannot bring one; where one comes in all the same, statistics stay finite."""
    window = binned(a_number([1.0, 2.0]), [value] * 4)

    assert window.ks() == share
    assert window.wasserstein()[0] == pytest.approx(TAIL_LIMIT / TAIL_STEPS * 0.5, rel=1e-3)


def test_infinities_of_a_reference_are_missing() -> None:
    """They have no place among quantiles."""
    reference = a_number([1.0, np.inf, -np.inf, 2.0])

    assert (reference.rows, reference.missing) == (2, 2)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_extreme_magnitudes_have_finite_distances(size: float) -> None:
    """Squares and differences of them are beyond what a float holds."""
    window = binned(a_number([-size, 0.0, size]), [size, size])

    assert np.isfinite(window.ks())
    assert np.isfinite(window.wasserstein()[0] / size)


def test_values_out_of_range_are_in_the_outer_bins() -> None:
    """test_m28: nothing of a window is lost."""
    reference = a_number(np.arange(100.0))
    edges, theirs, ours = binned(reference, [-1e9, 1e9, 50.0]).distances.histogram(
        0, binned(reference, [-1e9, 1e9, 50.0]).counts
    )

    assert len(edges) == PSI_BINS - 1
    assert (theirs.sum(), ours[0], ours[-1], ours.sum()) == (100, 1, 1, 3)


@given(samples, samples)
def test_psi_is_finite_and_has_all_events_in_its_bins(reference: FloatArray, window: FloatArray) -> None:
    """Whatever is empty on either side."""
    summary = a_number(reference)
    found = binned(summary, window)
    edges, theirs, ours = found.distances.histogram(0, found.counts)

    assert np.isfinite(found.psi())
    assert found.psi() >= 0
    assert (theirs.sum(), ours.sum()) == (len(reference), len(window))
    np.testing.assert_array_equal(theirs, np.histogram(reference, [-np.inf, *np.nextafter(edges, np.inf), np.inf])[0])
    np.testing.assert_array_equal(ours, np.histogram(window, [-np.inf, *np.nextafter(edges, np.inf), np.inf])[0])


def test_psi_stands_for_all_rows_behind_the_points() -> None:
    """A thinned reference: shares of the points, number of the rows."""
    reference = a_number(np.arange(10_000.0), points=100)
    window = binned(reference, [5.0] * 50)

    assert window.distances.histogram(0, window.counts)[1].tolist() == [1000] * 10
