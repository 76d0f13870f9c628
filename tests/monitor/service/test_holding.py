"""How long partitions hold others back, and which ones are read no further."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from monitor.pipeline.merge import ENOUGH_BYTES
from monitor.service.holding import Backpressure, Holds, HoldState, QuietTimer
from monitor.stream.types import Partition

A, B = Partition("t", 0), Partition("t", 1)
BOTH = {A, B}
NOBODY: set[Partition] = set()
IDLE_S, HOLD_S = 10.0, 60.0
MEGABYTE = 1 << 20


@pytest.fixture
def holds() -> Holds:
    return Holds(IDLE_S, HOLD_S)


def judge(
    holds: Holds,
    now: float,
    *,
    more: Collection[Partition] = (),
    stuck: Collection[Partition] = (),
    moving: Collection[Partition] = (),
    heard: Collection[Partition] | None = None,
) -> HoldState:
    """Both partitions are read; those in `more` have more to bring. What moves is heard, unless it is said."""
    return holds.judge({p: p in more for p in BOTH}, stuck, moving, moving if heard is None else heard, now)


# -- idle ----------------------------------------------------------------------------------------------------


def test_a_partition_at_its_end_is_idle_after_the_idle_timeout(holds: Holds) -> None:
    assert judge(holds, 0) == HoldState(NOBODY, NOBODY, NOBODY)
    assert judge(holds, IDLE_S - 1).idle == NOBODY
    assert judge(holds, IDLE_S) == HoldState(BOTH, NOBODY, NOBODY)


def test_a_record_begins_the_idle_timeout_anew(holds: Holds) -> None:
    judge(holds, 0)
    judge(holds, 5, moving=[A])
    judge(holds, 6)

    assert judge(holds, 15).idle == {B}
    assert judge(holds, 16).idle == BOTH


def test_a_partition_that_has_more_to_bring_is_waited_for_and_not_idle(holds: Holds) -> None:
    judge(holds, 0, more=[A])

    assert judge(holds, IDLE_S, more=[A]) == HoldState({B}, {A}, NOBODY)


# -- stuck ---------------------------------------------------------------------------------------------------


def test_a_partition_that_does_not_deliver_what_it_holds_is_left_out_after_the_hold(holds: Holds) -> None:
    judge(holds, 0, more=[A], moving=[B])
    assert judge(holds, HOLD_S - 1, more=[A], moving=[B]) == HoldState(NOBODY, {A}, NOBODY)

    assert judge(holds, HOLD_S, more=[A], moving=[B]) == HoldState({A}, NOBODY, {A})


def test_one_that_delivers_now_and_then_is_waited_for(holds: Holds) -> None:
    for now in range(0, 600, 50):
        judge(holds, now, more=[A], moving=[A])
        assert judge(holds, now + 40, more=[A]).waiting == {A}


def test_one_that_delivers_again_is_waited_for_again(holds: Holds) -> None:
    judge(holds, 0, more=[A])
    assert judge(holds, HOLD_S, more=[A]).left_out == {A}

    assert judge(holds, HOLD_S + 1, more=[A], moving=[A]) == HoldState({B}, {A}, NOBODY)


def test_one_behind_an_open_transaction_is_not_waited_for_and_holds_stream_time_until_it_is_left_out(
    holds: Holds,
) -> None:
    """It is read to where it can be; what it holds beyond comes later."""
    judge(holds, 0, stuck=[A])
    assert judge(holds, HOLD_S - 1, stuck=[A]) == HoldState({B}, NOBODY, NOBODY)

    assert judge(holds, HOLD_S, stuck=[A]) == HoldState(BOTH, NOBODY, {A})


def test_one_that_is_left_out_and_holds_no_more_is_quiet_from_then_on(holds: Holds) -> None:
    judge(holds, 0, stuck=[A])
    judge(holds, HOLD_S, stuck=[A], moving=[B])

    assert judge(holds, HOLD_S + 1, moving=[B]) == HoldState(NOBODY, NOBODY, NOBODY)
    assert judge(holds, HOLD_S + 1 + IDLE_S, moving=[B]).idle == {A}


def test_after_a_time_of_which_nothing_is_known_all_begins_anew(holds: Holds) -> None:
    judge(holds, 0, more=[A])
    holds.reset()

    assert judge(holds, 100, more=[A]) == HoldState(NOBODY, {A}, NOBODY)
    assert judge(holds, 100 + HOLD_S, more=[A]).left_out == {A}


def test_a_partition_that_brings_only_what_is_refused_is_idle(holds: Holds) -> None:
    """Nothing that it brings tells the time."""
    judge(holds, 0, moving=[A], heard=[])

    assert judge(holds, IDLE_S, moving=[A], heard=[]).idle == {A, B}


def test_a_partition_that_is_read_no_more_is_forgotten(holds: Holds) -> None:
    judge(holds, 0)

    assert holds.judge({A: False}, (), (), (), IDLE_S).idle == {A}
    assert holds.judge({A: False, B: False}, (), (), (), IDLE_S + 1).idle == {A}


def test_a_timer_calls_what_was_quiet_all_the_time() -> None:
    timer = QuietTimer(2.0)

    assert timer.over([A, B], 0.0) == NOBODY
    assert timer.over([A], 1.0) == NOBODY
    assert timer.over([A, B], 2.0) == {A}
    assert timer.over([A, B], 4.0) == BOTH


# -- backpressure --------------------------------------------------------------------------------------------


def test_a_partition_is_full_with_its_share_and_until_half_of_it_is_gone() -> None:
    backpressure = Backpressure(2 * MEGABYTE)

    assert backpressure.update({A: MEGABYTE - 1, B: MEGABYTE}, 2) == {B}
    assert backpressure.update({A: MEGABYTE - 1, B: MEGABYTE - 1}, 2) == {B}
    assert backpressure.update({A: MEGABYTE - 1, B: MEGABYTE // 2 - 1}, 2) == NOBODY


def test_a_partition_of_which_nothing_is_in_hand_is_not_full() -> None:
    backpressure = Backpressure(2 * MEGABYTE)
    backpressure.update({A: 2 * MEGABYTE}, 2)

    assert backpressure.update({}, 2) == NOBODY


def test_a_share_is_no_smaller_than_the_beginning_of_a_partition_that_is_waited_for() -> None:
    """Else neither would be read on."""
    assert Backpressure(MEGABYTE).update({A: ENOUGH_BYTES - 1, B: ENOUGH_BYTES}, 1_000) == {B}
