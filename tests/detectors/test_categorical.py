"""Distances of categorical features: scipy's on the same counts, and what becomes of texts nobody has seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from detectors.categorical import CategoryCells, CategoryCodes, homogeneity, jensen_shannon_distance, text_of
from detectors.reference_builder import CATEGORIES, DISTINCT
from detectors.types import FloatArray
from tests.detectors.samples import a_category, coded

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])

# Rows of counts in which no category is rare enough to be pooled, if both rows are about as long.
frequent = st.lists(st.integers(40, 400), min_size=2, max_size=8).map(lambda found: np.array(found, np.float64))
pairs_of_rows = st.integers(2, 8).flatmap(
    lambda k: st.tuples(
        *(
            st.lists(st.integers(40, 400), min_size=k, max_size=k).map(lambda r: np.array(r, np.float64))
            for _ in range(2)
        )
    )
)
sparse_pairs = st.integers(1, 12).flatmap(
    lambda k: st.tuples(
        *(
            st.lists(st.integers(0, 30), min_size=k, max_size=k).filter(any).map(lambda r: np.array(r, np.float64))
            for _ in range(2)
        )
    )
)


def both_present(reference: FloatArray, window: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Without categories that neither has: the caller of the distances leaves them out."""
    present = reference + window > 0
    return reference[present], window[present]


# -- known answers ---------------------------------------------------------------------------------------


def test_chi_square_has_the_known_answer() -> None:
    """statistics.md 9: rows (500, 300, 200) and (200, 200, 100)."""
    found = homogeneity(np.array([500.0, 300.0, 200.0]), np.array([200.0, 200.0, 100.0]))

    assert found.statistic == pytest.approx(17.142857, abs=5e-7)
    assert found.df == 2
    assert np.sqrt(found.statistic / 1500) == pytest.approx(0.106904, abs=5e-7)  # Cramér's V of the counts as they are


def test_cramer_v_at_equal_sizes_has_the_known_answer() -> None:
    """½ Σ (p − q)² / (p + q) for the shares (.5, .3, .2) and (.4, .4, .2)."""
    expected = np.sqrt(0.5 * (0.01 / 0.9 + 0.01 / 0.7))

    assert homogeneity(1000 * P, 500 * Q).effect == pytest.approx(expected, abs=1e-12)


def test_jensen_shannon_has_the_known_answer() -> None:
    """statistics.md 9: distance in base 2."""
    found = jensen_shannon_distance(20_000 * P, 10_000 * Q)

    assert found == pytest.approx(0.0958432, abs=5e-8)
    assert found**2 == pytest.approx(0.00918593, abs=5e-9)


# -- equal to scipy --------------------------------------------------------------------------------------


@given(pairs_of_rows)
def test_chi_square_is_that_of_scipy(rows: tuple[FloatArray, FloatArray]) -> None:
    """Where nothing is pooled: homogeneity, without the correction that scipy applies to two categories."""
    reference, window = rows
    expected = stats.chi2_contingency(np.array(rows), correction=False)
    found = homogeneity(reference, window)

    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert (found.df, found.categories) == (expected.dof, len(reference))


@given(sparse_pairs)
def test_the_jensen_shannon_distance_is_that_of_scipy(rows: tuple[FloatArray, FloatArray]) -> None:
    """Of the categories as they are, however rare: base 2, so that it reaches 1."""
    reference, window = both_present(*rows)

    expected = jensenshannon(reference, window, base=2)
    assert jensen_shannon_distance(reference, window) == pytest.approx(float(np.nan_to_num(expected)), abs=1e-7)


def test_the_largest_jensen_shannon_distance_is_one() -> None:
    """test_m11: nothing in common."""
    assert jensen_shannon_distance(np.array([100.0, 0.0]), np.array([0.0, 50.0])) == pytest.approx(1.0)


# -- laws ------------------------------------------------------------------------------------------------


@given(sparse_pairs)
def test_both_distances_are_symmetric(rows: tuple[FloatArray, FloatArray]) -> None:
    """test_m12: swapping reference and window changes neither statistic nor effect."""
    reference, window = both_present(*rows)
    one, other = homogeneity(reference, window), homogeneity(window, reference)

    assert (one.df, one.categories) == (other.df, other.categories)
    assert (one.statistic, one.effect) == pytest.approx((other.statistic, other.effect), abs=1e-9)
    assert jensen_shannon_distance(reference, window) == pytest.approx(
        jensen_shannon_distance(window, reference), abs=1e-9
    )


@given(frequent, st.integers(1, 50))
def test_equal_shares_are_no_distance(row: FloatArray, times: int) -> None:
    """test_m09: of whatever sizes."""
    same, apart = homogeneity(times * row, row), jensen_shannon_distance(times * row, row)

    assert (same.statistic, same.effect) == pytest.approx((0, 0), abs=1e-9)
    assert apart == pytest.approx(0, abs=1e-6)


@given(pairs_of_rows, st.integers(2, 100))
def test_the_effect_does_not_depend_on_how_much_larger_the_reference_is(
    rows: tuple[FloatArray, FloatArray], times: int
) -> None:
    """Cramér's V of the counts as they are would shrink with the ratio."""
    reference, window = rows

    assert homogeneity(times * reference, window).effect == pytest.approx(homogeneity(reference, window).effect)


@given(sparse_pairs)
def test_all_is_finite_and_within_its_bounds(rows: tuple[FloatArray, FloatArray]) -> None:
    """Zeros on either side, pooled or not."""
    reference, window = both_present(*rows)
    found, apart = homogeneity(reference, window), jensen_shannon_distance(reference, window)

    assert np.isfinite(found.statistic)
    assert 0 <= found.effect <= 1 + 1e-12
    assert 0 <= found.df == found.categories - 1 < len(reference)
    assert 0 <= apart <= 1 + 1e-12


@given(sparse_pairs)
def test_categories_that_expect_fewer_than_five_are_pooled(rows: tuple[FloatArray, FloatArray]) -> None:
    """Cochran (1954): no cell of what is compared expects fewer, unless there is only one."""
    reference, window = both_present(*rows)
    total, smaller = reference + window, min(reference.sum(), window.sum())
    rare = int((total * smaller / total.sum() < 5).sum())

    found = homogeneity(reference, window)

    if not rare:
        assert found.categories == len(reference)
    else:
        assert max(1, len(reference) - rare) <= found.categories <= len(reference) - rare + 1


def test_a_pool_that_is_still_small_is_left_out_of_the_statistic() -> None:
    """One rare category of three: a frequent one that took it in would drown it."""
    found = homogeneity(np.array([90.0, 40.0, 1.0]), np.array([80.0, 60.0, 0.0]))
    without = stats.chi2_contingency([[90, 40], [80, 60]], correction=False)

    assert (found.categories, found.group.tolist()) == (2, [0, 1, -1])
    assert found.statistic == pytest.approx(without.statistic)


# -- categories ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1, 1.0, "1"), "1"),
        ((0, -0.0, "0"), "0"),
        ((True, "true", "True", "TRUE"), "true"),
        ((False, "false", "False", "FALSE"), "false"),
        ((0.5, "0.5"), "0.5"),
        ((1e15, 10**15), "1000000000000000"),
        (("red",), "red"),
        (("",), ""),
    ],
)
def test_spellings_of_one_category_are_one_text(values: tuple[object, ...], text: str) -> None:
    """A producer writes JSON, another what Python or a spreadsheet makes of it."""
    assert {text_of(value) for value in values} == {text}


def test_a_text_is_frequent_rare_unseen_or_missing() -> None:
    """test_m08: what the reference saw rarely is `other`, what it never saw is `unseen`."""
    texts = [f"f{i:03}" for i in range(CATEGORIES)] * 2 + ["rare"]
    reference = a_category(texts)
    codes = CategoryCodes(reference)

    assert [codes[t] for t in ("f000", "f099", "rare", "never", None)] == [0, 99, CATEGORIES, CATEGORIES + 1, -1]
    assert (codes.other, codes.unseen) == (CATEGORIES, CATEGORIES + 1)


def test_categories_are_found_in_any_spelling() -> None:
    """A stream that sends numbers and booleans meets a table that has texts."""
    codes = CategoryCodes(a_category(["1", "true", "1", "0"]))

    assert codes[1] == codes[1.0] == codes["1"]
    assert codes[True] == codes["True"] == codes["true"]
    assert codes[False] == codes["false"] == codes.unseen


def test_codes_do_not_grow_with_what_a_stream_invents() -> None:
    """They hold the reference's own texts, and None."""
    codes = CategoryCodes(a_category(["a", "b"]))
    for i in range(1_000):
        assert codes[f"new {i}"] == codes.unseen

    assert len(codes) == 3


def test_unseen_is_not_told_where_texts_could_not_all_be_remembered() -> None:
    """A long tail: what is not remembered may well have been there."""
    reference = a_category([f"t{i}" for i in range(DISTINCT + 1)])
    codes = CategoryCodes(reference)

    assert not reference.complete
    assert codes["never"] == codes.other


def test_a_batch_is_counted_by_feature() -> None:
    """Counts per cell and missing values, one feature after the other."""
    colour, size = a_category(["red", "blue", "red"], "colour"), a_category(["s", "m"], "size")
    categories = CategoryCells([colour, size])
    counts, missing = categories.bin_counts([coded(colour, ["red", None, "green"]), coded(size, ["m", "m", "s"])])

    assert categories.starts.tolist() == [0, 4, 8]
    assert counts.tolist() == [0, 1, 0, 1, 2, 1, 0, 0]  # blue, red, other, unseen; m, s, other, unseen
    assert missing.tolist() == [1, 0]
