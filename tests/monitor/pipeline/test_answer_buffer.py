"""Answers that wait to be compared with others to the same request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.pipeline.answer_buffer import AnswerBuffer, Answers

WIDTH, APART = 10, 25
SERVED, SHADOW, OTHER = 1, 2, 3
END = 1 << 20


class Answer(NamedTuple):
    """By one version to one request; its value is the time."""

    request: int
    variant: int
    time: int


def of(*rows: Answer) -> Answers:
    request, variant, time = np.array(rows, np.int64).reshape(-1, 3).T
    return Answers(
        lo=request.astype(np.uint64), hi=request.astype(np.uint64) + np.uint64(7), served=variant == SERVED,
        variant=variant.astype(np.uint16), value=time.astype(np.float64), time=time, pane=time // WIDTH,
    )  # fmt: skip


def a_buffer(*rows: Answer) -> AnswerBuffer:
    buffer = AnswerBuffer(WIDTH, APART)
    buffer.add(of(*rows))
    return buffer


Compared = tuple[int, int, float, float, int, int]


def landed(buffer: AnswerBuffer, pane: int) -> list[Compared]:
    """(request, variant, served value, other value, pane, pair time), sorted."""
    found = buffer.land(pane)
    if found is None:
        return []
    columns = (found.request, found.variant, found.served_value, found.other_value, found.pane, found.pair_time)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


# -- what is compared ------------------------------------------------------------------------------------


def test_an_answer_is_compared_with_the_served_one_at_the_end_of_the_pane_of_the_later() -> None:
    buffer = a_buffer(Answer(1, SHADOW, 5), Answer(1, SERVED, 12), Answer(1, OTHER, 3))

    assert (landed(buffer, 0), buffer.first_due) == ([], 1)
    assert landed(buffer, 1) == [(1, SHADOW, 12.0, 5.0, 0, 12), (1, OTHER, 12.0, 3.0, 0, 12)]
    assert (landed(buffer, 2), buffer.first_due) == ([], None)


def test_an_answer_is_compared_once_also_where_two_were_served() -> None:
    """With the first accepted."""
    buffer = a_buffer(Answer(1, SERVED, 6), Answer(1, SHADOW, 5), Answer(1, SERVED, 4))

    assert landed(buffer, 0) == [(1, SHADOW, 6.0, 5.0, 0, 6)]
    buffer.add(of(Answer(1, SERVED, 15)))
    assert landed(buffer, 1) == []


def test_answers_that_lie_far_apart_and_those_of_the_version_that_served_are_not_compared() -> None:
    buffer = a_buffer(Answer(1, SERVED, 0), Answer(1, SHADOW, APART), Answer(2, SERVED, 0), Answer(2, SHADOW, 24))
    same = of(Answer(3, SERVED, 0), Answer(3, SHADOW, 0))
    buffer.add(Answers(same.lo, same.hi, same.served, np.full(2, 1, np.uint16), same.value, same.time, same.pane))

    assert landed(buffer, 9) == [(2, SHADOW, 0.0, 24.0, 2, 24)]


def test_requests_that_share_half_of_their_hash_are_not_the_same() -> None:
    served, shadow = of(Answer(1, SERVED, 0)), of(Answer(1, SHADOW, 0))
    buffer = AnswerBuffer(WIDTH, APART)
    buffer.add(served)
    buffer.add(Answers(shadow.lo, shadow.hi + np.uint64(1), *(getattr(shadow, n) for n in Answers.__slots__[2:])))

    assert landed(buffer, 9) == []


def test_without_a_distance_nothing_is_compared_or_held() -> None:
    buffer = AnswerBuffer(WIDTH, 0)

    assert (buffer.compares, landed(buffer, 9), len(buffer), buffer.drain_changes()) == (False, [], 0, ([], []))


# -- storing ---------------------------------------------------------------------------------------------


def test_answers_are_let_go_when_no_pane_to_come_can_hold_one_near_enough() -> None:
    """What comes after the end at 30 is too far from 5."""
    buffer = a_buffer(Answer(1, SERVED, 5), Answer(2, SERVED, 16))
    for pane, held in ((0, 2), (1, 2), (2, 1), (3, 1), (4, 0)):
        buffer.land(pane)
        assert (pane, len(buffer)) == (pane, held)


def test_a_row_is_stored_once_and_dropped_when_nothing_of_it_can_be_compared_any_more() -> None:
    buffer = a_buffer(Answer(1, SERVED, 5), Answer(2, SHADOW, 5))
    stored, dropped = buffer.drain_changes()
    assert ([subject for subject, _ in stored], dropped) == (["answers-compared:0"], [])

    buffer.land(1)
    assert buffer.drain_changes() == ([], [])
    buffer.land(2)
    assert (buffer.drain_changes(), len(buffer)) == (([], []), 0)  # another row may hold what it was compared with
    buffer.land(5)
    assert buffer.drain_changes() == ([], ["answers-compared:0"])


def test_what_is_over_before_the_commit_is_never_stored() -> None:
    buffer = a_buffer(Answer(1, SERVED, 5))
    buffer.land(5)

    assert buffer.drain_changes() == ([], [])


def test_at_the_end_of_the_stream_everything_is_dropped() -> None:
    buffer = a_buffer(Answer(1, SERVED, 5))
    buffer.drain_changes()
    buffer.add(of(Answer(1, SERVED, 5)))
    buffer.end()

    assert (len(buffer), buffer.drain_changes()) == (0, ([], ["answers-compared:0"]))


def test_under_another_numbering_of_panes_or_without_shadows_the_rows_are_dropped() -> None:
    ((subject, body),), _ = a_buffer(Answer(1, SERVED, 5)).drain_changes()
    for buffer, ended in ((AnswerBuffer(WIDTH, APART), None), (AnswerBuffer(WIDTH, 0), 0)):
        buffer.restore({subject: [body], "pairs:1": [b"of somebody else"]}, ended)

        assert (len(buffer), buffer.drain_changes()) == (0, ([], [subject]))


def test_a_store_without_such_rows_goes_on() -> None:
    buffer = AnswerBuffer(WIDTH, APART)
    buffer.restore({}, 3)
    buffer.add(of(Answer(1, SERVED, 31), Answer(1, SHADOW, 32)))

    assert landed(buffer, 3) == [(1, SHADOW, 31.0, 32.0, 3, 32)]


# -- the law ---------------------------------------------------------------------------------------------


def recounted(rows: Sequence[Answer]) -> Counter[Compared]:
    """One by one."""
    served = {row.request: row.time for row in rows if row.variant == SERVED}
    found: Counter[Compared] = Counter()
    for request, variant, time in rows:
        other = served.get(request)
        if variant != SERVED and other is not None and abs(other - time) < APART:
            found[request, variant, float(other), float(time), time // WIDTH, max(time, other)] += 1
    return found


answers = st.builds(Answer, st.integers(0, 30), st.sampled_from((SERVED, SHADOW, OTHER)), st.integers(0, 900))
streams = st.lists(answers, max_size=120, unique_by=lambda answer: answer[:2])


@given(streams, st.randoms(use_true_random=False))
def test_in_any_order_batches_and_restarts_each_answer_is_compared_once_in_the_pane_of_its_pair_time(
    rows: list[Answer], dice: random.Random
) -> None:
    """An answer comes at any time before its pane ends; a restart forgets what is not stored, and it comes again."""
    due: dict[int, list[Answer]] = {}
    for row in rows:
        last = row.time // WIDTH
        due.setdefault(dice.randint(max(0, last - 4), last), []).append(row)
    buffer, stored, found = AnswerBuffer(WIDTH, APART), dict[str, list[bytes]](), Counter[Compared]()
    for pane in range(92):
        coming = due.get(pane, [])
        dice.shuffle(coming)
        for row in coming:
            buffer.add(of(row))
        if dice.random() < 0.3:  # the commit, and the daemon goes on from it
            fresh, dropped = buffer.drain_changes()
            stored |= {subject: [body] for subject, body in fresh}
            for subject in dropped:
                del stored[subject]
            if dice.random() < 0.5:
                held, buffer = len(buffer), AnswerBuffer(WIDTH, APART)
                buffer.restore(stored, pane)
                assert len(buffer) == held
        now = landed(buffer, pane)
        assert all(pair_time // WIDTH == pane for *_, pair_time in now)
        found.update(now)

    assert found == recounted(rows)
    buffer.land(99)
    assert len(buffer) == 0
    assert set(stored) <= set(buffer.drain_changes()[1])
