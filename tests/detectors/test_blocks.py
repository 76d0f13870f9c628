"""Blocks of a reference: a recount of its rows in their order, the same from any batches, small, and safe to read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.blocks import (
    MOST_BLOCKS,
    Blocks,
    BlockTimes,
    FeatureBlocks,
    block_size,
    cells_for,
    cells_of_categories,
    cells_of_points,
)
from detectors.reference import NumericReference, Profile
from detectors.reference_builder import Column, DispersionPass, DistributionPass, build
from detectors.saved import DamagedError

KINDS = {"x": True, "c": False, "absent": True}


def some_columns(rows: int, seed: int) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    holes = rng.random(rows) < 0.1
    return {
        "x": np.where(holes, np.nan, rng.standard_normal(rows).cumsum()),
        "c": [None if hole else f"t{int(v)}" for hole, v in zip(holes, rng.exponential(3, rows), strict=True)],
    }


def in_batches(columns: dict[str, Column], times: np.ndarray, sizes: Sequence[int]) -> Blocks:
    rows = len(times)
    edges = [0, *np.minimum(np.cumsum(sizes), rows).tolist(), rows]
    parts = [{name: column[start:stop] for name, column in columns.items()} for start, stop in pairwise(edges)]
    first, clock = DistributionPass(KINDS), BlockTimes()
    for part, (start, stop) in zip(parts, pairwise(edges), strict=True):
        first.add(part, stop - start)
        clock.add(times[start:stop])
    second = DispersionPass(first.features())
    for part, (start, stop) in zip(parts, pairwise(edges), strict=True):
        second.add(part, stop - start)
    return second.blocks(clock)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 2_500), st.lists(st.integers(0, 900), max_size=6))
def test_blocks_do_not_depend_on_batches(seed: int, rows: int, sizes: list[int]) -> None:
    columns, times = some_columns(rows, seed), np.arange(rows) * 7

    assert in_batches(columns, times, sizes) == build(KINDS, columns, rows, time=times).blocks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 2_500))
def test_a_block_counts_its_rows_by_cell(seed: int, rows: int) -> None:
    """As a recount does, with what is missing last; and it knows when it begins and ends."""
    columns, times = some_columns(rows, seed), np.arange(rows) * 7
    built = build(KINDS, columns, rows, time=times)
    (x, _, _), blocks = built.features, built.blocks
    held, size = blocks.features(), blocks.size

    assert len(blocks) == -(-rows // size) <= MOST_BLOCKS
    assert blocks.times is not None
    for i in {0, len(blocks) // 2, len(blocks) - 1}:
        values = np.asarray(columns["x"][i * size : (i + 1) * size], np.float64)
        there = values[np.isfinite(values)]
        assert isinstance(x, NumericReference)
        places = np.minimum(np.searchsorted(x.points, there), len(x.points) - 1)
        cells = held["x"].cell[places]
        expected = [*np.bincount(cells, minlength=held["x"].counts.shape[1] - 1), len(values) - len(there)]
        assert held["x"].counts[i].tolist() == expected
        assert blocks.times[i].tolist() == [i * size * 7, min((i + 1) * size, rows) * 7 - 7]
    assert held["absent"].counts.sum() == rows


@pytest.mark.parametrize(("rows", "size"), [(0, 1), (512, 1), (513, 2), (10_000, 32), (100_000_000, 262_144)])
def test_blocks_are_as_small_as_512_of_them_allow(rows: int, size: int) -> None:
    assert block_size(rows) == size


def test_many_numbers_of_many_rows_take_five_megabytes() -> None:
    """200 of them, as 100 million rows fill their cells."""
    rng = np.random.default_rng(0)
    cells = cells_for(200)
    blocks = {
        f"x{i}": FeatureBlocks(np.arange(2_048) * cells // 2_048, rng.poisson(200_000 / cells, (512, cells + 1)))
        for i in range(200)
    }

    assert len(Blocks.of(262_144, 512 * 262_144, None, blocks).body) < 5_000_000


def test_cells_of_a_number_have_about_equal_weight_and_a_frequent_value_its_own() -> None:
    weights = np.ones(1_000, np.int64)
    weights[500] = 1_000
    cell = cells_of_points(weights, 64)

    assert np.bincount(cell, weights).max() == 1_000
    assert (cell == cell[500]).sum() == 1
    assert (np.diff(cell) >= 0).all()
    assert len(set(cell.tolist())) == cell.max() + 1 <= 64


def test_rare_categories_share_the_cell_of_all_others() -> None:
    counts = np.array([5, 1, 9, 1, 7, 2])

    assert cells_of_categories(counts, 4).tolist() == [0, 3, 1, 3, 2, 3]


def test_joined_blocks_have_the_rows_of_both() -> None:
    blocks = build(KINDS, some_columns(1_100, 1), 1_100, time=np.arange(1_100)).blocks
    coarse = blocks.coarser()

    assert (blocks.size, len(blocks), coarse.size, len(coarse)) == (4, 275, 8, 138)
    fine, joined = blocks.features()["x"].counts, coarse.features()["x"].counts
    assert joined[:-1].tolist() == (fine[:-1:2] + fine[1::2]).tolist()
    assert joined[-1].tolist() == fine[-1].tolist()
    assert coarse.times is not None
    assert (coarse.times[0].tolist(), coarse.times[-1].tolist()) == ([0, 7], [1_096, 1_099])


def a_profile() -> Profile:
    built = build(KINDS, some_columns(600, 2), 600, time=np.arange(600))
    return Profile(built.features, 600, ordered=True, blocks=(built.blocks,))


def test_a_profile_keeps_its_blocks() -> None:
    profile = a_profile()
    again = Profile.from_bytes(profile.to_bytes())

    assert again.blocks == profile.blocks
    assert again.content_hash == profile.content_hash
    assert replace(profile, blocks=()).content_hash != profile.content_hash


def test_the_hash_of_a_profile_is_that_of_what_was_compressed_and_not_of_how() -> None:
    profile = a_profile()
    (blocks,) = profile.blocks
    otherwise = replace(blocks, body=zlib.compress(zlib.decompress(blocks.body), 1))

    assert otherwise.body != blocks.body
    assert replace(profile, blocks=(otherwise,)).content_hash == profile.content_hash


@pytest.mark.parametrize("body", [b"", b"no zlib", zlib.compress(b"no blocks"), zlib.compress(bytes(1 << 29))])
def test_damaged_blocks_and_bombs_are_refused(body: bytes) -> None:
    (blocks,) = a_profile().blocks
    with pytest.raises(DamagedError):
        replace(blocks, body=body).features()
