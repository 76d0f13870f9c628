"""The rows that a rolling reference is made from: a sample of whole stretches, the same in whatever order rows come."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.season import Season
from detectors.types import IntArray
from monitor.reference.pane_rows import HASH, TIME, Rows
from monitor.reference.rolling_rows import RollingRows, Stretches
from tests.monitor.kit import HOUR, MINUTE, a_drift, a_model, rolled, timed

PANE, STEP, LENGTH = 10, 30, 300
STRETCHES = Stretches(20, 2)


def rows_of(times: IntArray) -> Rows:
    return {TIME: times, HASH: times.astype(np.uint64), "number": times * 2}


def made(most: int) -> RollingRows:
    return RollingRows(STRETCHES, STEP, most)


def seal(rows: RollingRows, end: int) -> None:
    """What a roller does at the end of a pane."""
    rows.seal(end, PANE)
    rows.kept_from = (end // STEP + 1) * STEP
    rows.drop_before(end - LENGTH)


def found(rows: RollingRows, end: int) -> list[int]:
    if not rows.count(end - LENGTH, end, ()):
        return []
    taken: list[int] = rows.between(end - LENGTH, end, ())()[TIME].tolist()
    return taken


class Stored:
    """The rows of the database."""

    def __init__(self) -> None:
        self.bodies: dict[int, list[bytes]] = {}

    def commit(self, rows: RollingRows) -> None:
        fresh, void = rows.drain_changes()
        for step in void:
            self.bodies.pop(step, None)
        for step, body in fresh.items():
            self.bodies.setdefault(step, []).append(body)

    def restarted(self, rows: RollingRows, most: int) -> RollingRows:
        again = made(most)
        again.levels, again.sealed, again.kept_from = dict(rows.levels), rows.sealed, rows.kept_from
        again.restore(self.bodies)
        return again


def gone_through(times: IntArray, most: int, dice: random.Random, *, interrupted: bool) -> list[list[int]]:
    """What would be learned from at the end of each step, where rows come in any order that panes allow."""
    rows, stored, seen = made(most), Stored(), []
    left = times.tolist()
    for end in range(PANE, int(times.max()) + 2 * PANE, PANE):
        early = [t for t in left if t < end]
        ahead = [t for t in left if t >= end and dice.random() < 0.3]
        left = [t for t in left if t >= end and t not in ahead]
        batch = np.array(dice.sample(early + ahead, len(early) + len(ahead)), np.int64)
        for part in np.array_split(batch, dice.randint(1, 3)):
            rows.add({name: column[rows.useful(part)] for name, column in rows_of(part).items()})
            if interrupted and dice.random() < 0.5:
                stored.commit(rows)
                rows = stored.restarted(rows, most)
        if not early and end % STEP:
            continue  # an empty pane never ends
        seal(rows, end)
        if end % STEP == 0:
            seen.append(found(rows, end))
            later = rows.later()
            assert later is None or set(later[TIME].tolist()) >= {t for t in times.tolist() if t >= end} - set(left)
    return seen


streams = st.lists(st.integers(0, 900), min_size=1, max_size=300, unique=True).map(sorted).map(np.array)


@given(streams, st.integers(5, 60), st.integers(0, 10**6))
def test_what_is_learned_from_does_not_depend_on_the_order_of_rows_or_on_restarts(
    times: IntArray, most: int, seed: int
) -> None:
    dice = random.Random(seed)
    expected = gone_through(times, most, random.Random(0), interrupted=False)

    assert gone_through(times, most, dice, interrupted=False) == expected
    assert gone_through(times, most, dice, interrupted=True) == expected


@given(streams, st.integers(0, 10**6))
def test_all_rows_of_the_stretch_are_learned_from_where_they_are_few(times: IntArray, seed: int) -> None:
    ends = range(STEP, int(times.max()) + 2 * PANE, STEP)

    seen = gone_through(times, 1_000, random.Random(seed), interrupted=True)

    assert seen == [[t for t in times.tolist() if end - LENGTH <= t < end] for end in ends][: len(seen)]


def flowing(most: int, steps: int, per_step: Any) -> RollingRows:
    rows = made(most)
    for step in range(steps):
        times = np.sort(np.random.default_rng(step).integers(step * STEP, (step + 1) * STEP, per_step(step)))
        rows.add({name: column[rows.useful(times)] for name, column in rows_of(times).items()})
        for end in range(step * STEP + PANE, (step + 1) * STEP + 1, PANE):
            seal(rows, end)
    return rows


def test_no_more_rows_are_kept_than_are_allowed() -> None:
    rows = flowing(500, 40, lambda step: 400)

    assert 100 < rows.held <= 500
    assert len(found(rows, 40 * STEP)) == rows.count(40 * STEP - LENGTH, 40 * STEP, ()) > 100


def test_neighbours_in_a_sample_are_neighbours_in_the_stream() -> None:
    times = np.arange(100_000)
    chosen = times[Stretches(100, 3).has(times, 5)]

    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
    assert len(chosen) == pytest.approx(100_000 / 32, rel=0.2)
    assert {len(run) for run in runs} <= {25, 50}  # stretches that lost their halves twice; some meet


@given(st.integers(1, 8))
def test_the_sample_of_a_level_is_part_of_that_of_a_lower_one(level: int) -> None:
    times = np.arange(20_000)
    stretches = Stretches(64, 3)

    assert not (stretches.has(times, level) & ~stretches.has(times, level - 1)).any()


def test_a_sample_becomes_denser_when_less_comes() -> None:
    assert max(flowing(500, 20, lambda step: 400).levels.values()) > 2

    assert len(found(flowing(500, 100, lambda step: 400 if step < 20 else 20), 100 * STEP)) == 200


def test_spans_that_are_left_out_are_not_learned_from() -> None:
    rows = flowing(5_000, 10, lambda step: 30)

    taken = rows.between(0, 300, [(50, 120)])()[TIME]
    assert not ((taken >= 50) & (taken < 120)).any()
    assert len(taken) == rows.count(0, 300, [(50, 120)]) < 300


def test_stretches_are_as_long_as_a_window_and_as_many_as_a_season_needs() -> None:
    model = a_model(window=timed(MINUTE, 15 * MINUTE), reference=rolled(100, 720 * HOUR), drift=a_drift())
    by_hour = a_model(window=timed(MINUTE, 15 * MINUTE), reference=rolled(100, 720 * HOUR), drift=a_drift())
    object.__setattr__(by_hour.reference, "season", Season.HOUR_OF_WEEK)

    assert Stretches.of(model) == Stretches(15 * MINUTE, 5)  # 2880 of them, at least 64
    assert Stretches.of(by_hour) == Stretches(15 * MINUTE, 3)  # at least 336
