"""Rows drawn from blocks: they count what the profile counts, block by block, whatever panes they are asked in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.comparison import Comparison
from detectors.merging import merge
from detectors.reference import CategoricalReference, NumericReference, Part, Profile
from detectors.reference_builder import Column, build
from detectors.registry import MIN_EFFECT
from detectors.season import Season
from monitor.reference.block_rows import BlockRows

ROWS = 3_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def a_profile(
    columns: dict[str, Column], first: int = 0, *, season: Season | None = None, step: int = MINUTE
) -> Profile:
    kinds = {name: isinstance(column, np.ndarray) for name, column in columns.items()}
    rows = len(next(iter(columns.values())))
    time = first + np.arange(rows) * step
    built = build(kinds, columns, rows, 2_048, season, time)
    return Profile(built.features, rows, True, int(time[0]), int(time[-1]), blocks=(built.blocks,))


def some_columns(seed: int = 0, rows: int = ROWS) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    holes = rng.random(rows) < 0.1
    return {
        "x": rng.standard_normal(rows).cumsum(),
        "c": [None if hole else f"t{int(v)}" for hole, v in zip(holes, rng.exponential(2, rows), strict=True)],
    }


def a_comparison(profile: Profile) -> Comparison:
    numeric = [f for f in profile.features if isinstance(f, NumericReference)]
    categorical = [f for f in profile.features if isinstance(f, CategoricalReference)]
    return Comparison("features:1", numeric, categorical, ("ks",), MIN_EFFECT)


def counted(rows: BlockRows, comparison: Comparison, part: slice) -> dict[str, Any]:
    return {name: counts.dense().tolist() for name, counts in rows.counts(comparison, part).items()}


def test_all_rows_count_what_the_profile_counts() -> None:
    profile = a_profile(some_columns())
    comparison, rows = a_comparison(profile), BlockRows(profile, 1)
    found = counted(rows, comparison, slice(0, ROWS))
    (texts,) = [f for f in profile.features if isinstance(f, CategoricalReference)]

    assert found[comparison.vectors[2]][:-2] == texts.counts.tolist()
    assert found[comparison.vectors[3]] == [0, texts.missing]
    assert sum(found[comparison.vectors[0]]) == ROWS


def test_a_block_has_the_rows_that_it_had() -> None:
    """Values within a sixty-fourth of the distribution, categories exactly."""
    columns = some_columns()
    profile = a_profile(columns)
    comparison, rows = a_comparison(profile), BlockRows(profile, 1)
    (texts,) = [f for f in profile.features if isinstance(f, CategoricalReference)]

    for start in range(0, ROWS, 800):
        found = counted(rows, comparison, slice(start, start + 8))
        expected = [columns["c"][start : start + 8].count(text) for text in texts.categories]  # type: ignore[union-attr]
        assert found[comparison.vectors[2]][:-2] == expected
        place = np.repeat(np.arange(len(found[comparison.vectors[0]])), found[comparison.vectors[0]])
        exact = counted_values(comparison, np.asarray(columns["x"][start : start + 8], np.float64))
        assert np.abs(np.sort(place) - np.sort(exact)).max() <= len(found[comparison.vectors[0]]) / 60


def counted_values(comparison: Comparison, values: Any) -> Any:
    cells = comparison.bin_counts(values[:, None], [np.full(len(values), -1)])[comparison.vectors[0]].dense()
    return np.repeat(np.arange(len(cells)), cells)


def test_panes_smaller_and_larger_than_blocks_add_up_and_are_the_same_in_any_order() -> None:
    profile = a_profile(some_columns())
    comparison = a_comparison(profile)
    panes = list(BlockRows(profile, 1).counted_panes(3))[:40]
    forth = [counted(BlockRows(profile, 1), comparison, pane) for pane in panes[:4]]
    rows = BlockRows(profile, 1)
    back = {pane.start: counted(rows, comparison, pane) for pane in reversed(panes)}

    assert forth == [back[pane.start] for pane in panes[:4]]
    categories, _ = comparison.vectors[2:]
    whole = counted(rows, comparison, slice(0, 120))[categories]
    assert np.sum([its[categories] for its in back.values()], axis=0).tolist() == whole
    assert counted(BlockRows(profile, 2), comparison, panes[0]) != forth[0]


def test_time_panes_are_whole_ones_at_the_rate_of_the_rows() -> None:
    profile = a_profile(some_columns(), first=30_000)
    found = [part.stop - part.start for part in BlockRows(profile, 1).time_panes(HOUR)]

    assert len(found) == ROWS // 60 - 2
    assert set(found) == {60}


def test_no_pane_is_of_two_series() -> None:
    one, two = a_profile(some_columns(1)), a_profile(some_columns(2), first=ROWS * MINUTE * 10)
    parts = [Part(str(i), "", p.rows, p.first_ms, p.last_ms) for i, p in enumerate((one, two))]
    rows = BlockRows(merge([one, two], parts, ordered=True), 1)

    counted_panes, time_panes = list(rows.counted_panes(700)), list(rows.time_panes(HOUR))
    assert [pane.start for pane in counted_panes] == [0, 700, 1_400, 2_100, 3_000, 3_700, 4_400, 5_100]
    assert not any(pane.start < ROWS < pane.stop for pane in time_panes)
    assert rows.lasts == 2 * (ROWS - 1) * MINUTE


@pytest.mark.parametrize("hours_in_block", [0.5, 8])
def test_rows_of_a_season_come_in_their_part_of_it(hours_in_block: float) -> None:
    """A number that is 0 by night and 10 by day; blocks of half an hour, and of eight hours."""
    step = round(HOUR * hours_in_block / 8)
    time = np.arange(ROWS) * step
    hour = time // HOUR % 24
    day = (hour >= 8) & (hour < 16) if hours_in_block < 8 else hour % 8 >= 4
    values = np.where(day, 10.0, 0.0) + np.random.default_rng(3).standard_normal(ROWS)
    profile = a_profile({"x": values}, season=Season.HOUR_OF_DAY, step=step)
    comparison, rows = a_comparison(profile), BlockRows(profile, 1)
    assert rows.block == 8

    right = 0
    (x,) = comparison.numeric_cells.references
    for start in range(ROWS):
        cells = np.array(counted(rows, comparison, slice(start, start + 1))[comparison.vectors[0]])
        right += bool((x.points[min(int(cells.argmax()) // 2, len(x.points) - 1)] > 5) == day[start])
    assert right > 0.9 * ROWS


def test_what_the_profile_does_not_have_is_not_held() -> None:
    profile = a_profile(some_columns())
    other = a_profile({"y": np.arange(50.0)})

    assert BlockRows(profile, 1).holds(a_comparison(profile))
    assert not BlockRows(profile, 1).holds(a_comparison(other))
