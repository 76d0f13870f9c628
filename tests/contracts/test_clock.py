"""What every clock keeps: the system's, and the one that tests step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monitor.clock import Clock, SystemClock
from tests.monitor.service.stepping import SteppedClock

CLOCKS = pytest.mark.parametrize("make", [SystemClock, SteppedClock])
SHORT_S = 0.02


@CLOCKS
def test_sleeping_takes_at_least_as_long_as_was_asked_for(make: Callable[[], Clock]) -> None:
    clock = make()
    before = clock.monotonic()

    clock.sleep(SHORT_S)

    assert clock.monotonic() - before >= SHORT_S


@CLOCKS
def test_monotonic_time_never_goes_back(make: Callable[[], Clock]) -> None:
    clock = make()
    seen = []
    for _ in range(100):
        seen.append(clock.monotonic())
        clock.sleep(0.0)

    assert seen == sorted(seen)


@CLOCKS
def test_the_time_of_day_goes_on_while_somebody_sleeps(make: Callable[[], Clock]) -> None:
    clock = make()
    before = clock.wall_ms()

    clock.sleep(SHORT_S)

    assert clock.wall_ms() > before
