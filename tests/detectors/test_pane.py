"""Panes add up: in any order, from any fragments, on any machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.pane import MAGIC, SCHEMA, Counts, merge, pack_counts, unpack_counts
from detectors.saved import DamagedError, pack
from detectors.types import IntArray

SIZES = {"cells": 12, "missing": 2, "tally": 1}


def vector(size: int) -> st.SearchStrategy[Counts]:
    """Dense, sparse, and in whichever form is smaller."""
    numbers = st.integers(-5, 5) | st.integers(-(2**40), 2**40)
    dense = st.lists(numbers | st.just(0), min_size=size, max_size=size).map(lambda v: np.array(v, np.int64))
    return dense.flatmap(lambda v: st.sampled_from([Counts.of(v), Counts(size, None, v), sparse(v)]))


def sparse(dense: IntArray) -> Counts:
    used = np.flatnonzero(dense)
    return Counts(len(dense), used, dense[used])


panes = st.fixed_dictionaries({}, optional={name: vector(size) for name, size in SIZES.items()})


def plain(pane: Mapping[str, Counts]) -> dict[str, list[int]]:
    """What a pane says, in lists."""
    return {name: counts.dense().tolist() for name, counts in sorted(pane.items())}


@given(st.lists(panes, max_size=5))
def test_merging_does_not_depend_on_the_order(parts: list[dict[str, Counts]]) -> None:
    """Commutative."""
    assert plain(merge(parts)) == plain(merge(reversed(parts)))


@given(st.lists(panes, max_size=6), st.integers(0, 6))
def test_merging_does_not_depend_on_the_grouping(parts: list[dict[str, Counts]], cut: int) -> None:
    """Associative: the sum of sums is the sum."""
    assert plain(merge([merge(parts[:cut]), merge(parts[cut:])])) == plain(merge(parts))


@given(st.lists(panes, min_size=1, max_size=5))
def test_merging_adds_up(parts: list[dict[str, Counts]]) -> None:
    """A name that a part lacks counts as zeros there."""
    expected = {
        name: np.sum([p[name].dense() for p in parts if name in p], axis=0).tolist()
        for name in sorted({name for part in parts for name in part})
    }

    assert plain(merge(parts)) == expected


@given(panes, panes)
def test_merging_changes_none_of_its_parts(one: dict[str, Counts], other: dict[str, Counts]) -> None:
    """They may be merged again, into something else."""
    before = plain(one), plain(other)
    merge([one, other, one])

    assert (plain(one), plain(other)) == before


@given(vector(12), vector(12))
def test_what_was_added_can_be_taken_away(one: Counts, other: Counts) -> None:
    """A window loses its earliest pane so."""
    total = one.dense().copy()
    other.add_to(total)
    other.add_to(total, -1)

    assert total.tolist() == one.dense().tolist()


def test_vectors_of_different_sizes_do_not_add_up() -> None:
    """They were counted against different references."""
    with pytest.raises(ValueError, match="vectors of 3 and 2 cells"):
        Counts.of(np.ones(3, np.int64)) + Counts.of(np.ones(2, np.int64))


@given(vector(12))
def test_the_form_says_nothing_about_the_content(counts: Counts) -> None:
    """Sparse or dense, the same numbers."""
    again = Counts.of(counts.dense())

    assert again.dense().tolist() == counts.dense().tolist()
    assert again.total == counts.total == int(counts.dense().sum())
    assert len(again.value) <= 12


def test_few_counts_are_kept_as_pairs() -> None:
    """And many as they are."""
    few, many = np.zeros(100, np.int64), np.ones(100, np.int64)
    few[[3, 50]] = 1

    assert Counts.of(few).index is not None
    assert Counts.of(many).index is None
    assert Counts.zeros(7).dense().tolist() == [0] * 7


@given(
    panes,
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers()),
    st.lists(st.floats(allow_nan=False), max_size=4),
)
def test_a_packed_pane_comes_back(pane: dict[str, Counts], header: dict[str, int], sums: list[float]) -> None:
    """Its counts, its header, and arrays of floats as they are."""
    header_back, counts, arrays = unpack_counts(pack_counts(header, pane, {"sums": np.array(sums)}))

    assert {name: header_back[name] for name in header} == header
    assert plain(counts) == plain(pane)
    assert arrays["sums"].tolist() == sums


@given(panes)
def test_a_pane_that_came_back_can_be_merged(pane: dict[str, Counts]) -> None:
    """By any process: the blob says all that is needed."""
    _, back, _ = unpack_counts(pack_counts({}, pane, {}))

    assert plain(merge([back, pane])) == plain(merge([pane, pane]))


def test_small_numbers_take_one_byte() -> None:
    """Most cells of most panes hold a handful of events."""
    small = pack_counts({}, {"cells": Counts(1_000, None, np.full(1_000, 200, np.int64))}, {})
    large = pack_counts({}, {"cells": Counts(1_000, None, np.full(1_000, 2**40, np.int64))}, {})

    assert len(large) - len(small) == 7_000


@given(panes, st.data())
def test_a_damaged_pane_is_refused(pane: dict[str, Counts], data: st.DataObject) -> None:
    """With the error that callers know."""
    blob = bytearray(pack_counts({}, pane, {}))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DamagedError):
        unpack_counts(bytes(blob))


def test_a_pane_of_a_newer_release_is_refused() -> None:
    """Rather than misread."""
    with pytest.raises(DamagedError, match=f"schema {SCHEMA + 1}, this release knows {SCHEMA}"):
        unpack_counts(pack(MAGIC, {"schema": SCHEMA + 1, "sizes": {}}, {}))
