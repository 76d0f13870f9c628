"""What counts as standing still."""

from __future__ import annotations

from monitor.stream.progress import ProgressWatch
from monitor.stream.types import Partition

A, B = Partition("a", 0), Partition("b", 0)


def watch_until(now_s: int, watch: ProgressWatch, step_s: int = 1, start_s: int = 0) -> list[int]:
    """Poll every `step_s`; the times at which the watch wanted to look."""
    return [at for at in range(start_s, now_s + 1, step_s) if watch.is_due(at)]


def test_a_partition_that_lags_at_the_same_position_twice_is_stuck() -> None:
    """Once may be bad luck of the moment; the others are not touched."""
    watch = ProgressWatch(10)
    assert watch_until(10, watch) == [10]
    assert watch.stuck(10, {A: 5, B: 5}, {A: 9, B: 5}) == set()
    assert watch_until(20, watch, start_s=11) == [20]
    assert watch.stuck(20, {A: 5, B: 5}, {A: 9, B: 9}) == {A}


def test_a_partition_that_moves_or_has_nothing_to_read_is_not_stuck() -> None:
    """However much it lags."""
    watch = ProgressWatch(10)
    watch_until(10, watch)
    assert watch.stuck(10, {A: 5, B: 5}, {A: 1_000, B: 5}) == set()
    watch_until(20, watch, start_s=11)
    assert watch.stuck(20, {A: 6, B: 5}, {A: 1_000, B: 5}) == set()


def test_a_partition_that_was_not_to_move_in_between_begins_anew() -> None:
    """Paused partitions are not asked about."""
    watch = ProgressWatch(10)
    watch_until(10, watch)
    watch.stuck(10, {A: 5}, {A: 9})
    watch_until(20, watch, start_s=11)
    watch.stuck(20, {}, {})
    watch_until(30, watch, start_s=21)
    assert watch.stuck(30, {A: 5}, {A: 9}) == set()


def test_a_daemon_that_did_not_poll_proves_nothing() -> None:
    """The database was away: of course nothing moved."""
    watch = ProgressWatch(10)
    watch_until(10, watch)
    watch.stuck(10, {A: 5}, {A: 9})

    assert not watch.is_due(60)
    assert watch_until(70, watch, start_s=61) == [70]
    assert watch.stuck(70, {A: 5}, {A: 9}) == set()
