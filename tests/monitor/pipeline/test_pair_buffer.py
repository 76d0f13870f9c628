"""Pairs that wait for the end of their time pane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detectors.types import IntArray
from monitor.aggregation.pairs import MatchedPairs, ShadowComparisons
from monitor.pipeline.pair_buffer import PairBuffer

WIDTH = 10
NAMES = {7: "v1", 3: "v2"}  # codes were given in another order than that of names


def a_buffer() -> PairBuffer:
    return PairBuffer(WIDTH, NAMES.__getitem__, numbers=True)


def some_pairs(*rows: tuple[int, int, int], metrics: Mapping[str, float | None] | None = None) -> MatchedPairs:
    """(pair time, low half of the request's hash, variant); the prediction is the row's number."""
    time, request, variant = np.array(rows, np.int64).reshape(-1, 3).T
    zeros = np.zeros(len(rows))
    return MatchedPairs(
        position=np.zeros(len(rows), np.int64), request=request.astype(np.uint64), hi=zeros.astype(np.uint64),
        pair_time=time, variant=variant, pane=time // WIDTH, score=zeros,
        predicted=0.5 + np.arange(len(rows), dtype=np.float64), actual=zeros, time=time, delay=zeros,
        metrics=[metrics] * len(rows),
    )  # fmt: skip


def some_comparisons(*times: int) -> ShadowComparisons:
    time: IntArray = np.array(times, np.int64)
    keys = np.arange(len(times)).astype(np.uint64)
    variant = np.full(len(times), 7)
    return ShadowComparisons(np.zeros_like(time), keys, keys, time, variant, time // WIDTH, time % 2 == 0)


def landed(buffer: PairBuffer, pane: int) -> list[tuple[int, int, int]]:
    """(pair time, request, variant) of what lands at the end of a pane."""
    found = buffer.land(pane)
    if found is None:
        return []
    pairs = found.pairs
    return list(zip(pairs.pair_time.tolist(), pairs.request.tolist(), pairs.variant.tolist(), strict=True))


def test_pairs_land_by_whole_panes_sorted_by_pair_time_request_and_name_of_the_version() -> None:
    """However they were added."""
    buffer = a_buffer()
    buffer.add(some_pairs((12, 1, 7), (5, 9, 3)), some_comparisons(), 0)
    buffer.add(some_pairs((5, 2, 3), (5, 2, 7), (9, 0, 7)), some_comparisons(), 0)

    assert landed(buffer, 0) == [(5, 2, 7), (5, 2, 3), (5, 9, 3), (9, 0, 7)]
    assert (buffer.first_due, len(buffer)) == (1, 1)


def test_what_comes_for_a_pane_that_has_ended_lands_with_the_next() -> None:
    buffer = a_buffer()
    buffer.add(some_pairs((5, 1, 7)), some_comparisons(), 3)

    assert landed(buffer, 2) == []
    assert landed(buffer, 3) == [(5, 1, 7)]


def test_what_waits_is_stored_once_and_its_row_is_dropped_when_all_of_it_has_landed() -> None:
    buffer = a_buffer()
    buffer.add(some_pairs((5, 1, 7), (15, 2, 7)), some_comparisons(3), 0)
    stored, dropped = buffer.drain_changes()
    assert ([subject for subject, _ in stored], dropped) == (["pairs:0"], [])

    landed(buffer, 0)
    assert buffer.drain_changes() == ([], [])
    landed(buffer, 1)
    assert buffer.drain_changes() == ([], ["pairs:0"])


def test_what_lands_before_the_commit_is_never_stored() -> None:
    buffer = a_buffer()
    buffer.add(some_pairs((5, 1, 7)), some_comparisons(4), 0)
    landed(buffer, 0)

    assert buffer.drain_changes() == ([], [])


def test_what_was_stored_comes_back_without_what_has_landed() -> None:
    """With the metrics of the user's own, and the comparisons."""
    buffer, again = a_buffer(), a_buffer()
    buffer.add(some_pairs((5, 1, 7), (15, 2, 3), metrics={"cost": 1.5, "none": None}), some_comparisons(3, 14), 0)
    ((subject, body),), _ = buffer.drain_changes()

    again.restore({subject: [body], "answers:v1": [b"of somebody else"]}, 1)
    found = again.land(1)

    assert found is not None
    assert found.pairs.request.tolist() == [2]
    assert found.pairs.predicted.tolist() == [1.5]
    assert found.pairs.metrics == [{"cost": 1.5, "none": None}]
    assert found.comparisons.agreed.tolist() == [True]
    assert again.drain_changes() == ([], [subject])


def test_under_another_numbering_of_panes_nothing_comes_back_and_the_rows_are_dropped() -> None:
    buffer, again = a_buffer(), a_buffer()
    buffer.add(some_pairs((5, 1, 7)), some_comparisons(), 0)
    ((subject, body),), _ = buffer.drain_changes()

    again.restore({subject: [body]}, None)

    assert (len(again), again.drain_changes()) == (0, ([], [subject]))
