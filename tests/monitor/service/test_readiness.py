"""Readiness: the reasons that are shown, and who is told that the loop goes on."""

from __future__ import annotations

import pytest

from monitor.service.readiness import Readiness
from monitor.web.metrics import Telemetry
from tests.monitor.service.stepping import Heard, SteppedClock


class Shown:
    """Readiness, and what comes of it."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.telemetry, self.watchdog = Telemetry(self.clock), Heard()
        self.readiness = Readiness(self.telemetry, self.watchdog)

    def why_not(self) -> str | None:
        return None if self.telemetry.ready else self.telemetry.why_not


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_it_is_not_ready_before_it_has_begun(shown: Shown) -> None:
    assert shown.why_not() == "starting"

    shown.readiness.begin()

    assert shown.why_not() is None
    assert shown.watchdog.readies == ["running"]


def test_all_reasons_are_shown(shown: Shown) -> None:
    shown.readiness.begin()
    shown.readiness.set_unready("stream", "the stream is away")
    shown.readiness.set_unready("store", "the database is away")

    assert shown.why_not() == "the stream is away; the database is away"


def test_it_is_ready_when_the_last_reason_is_gone(shown: Shown) -> None:
    shown.readiness.set_unready("stream", "the stream is away")
    shown.readiness.set_unready("store", "the database is away")

    assert shown.readiness.clear("stream")
    assert shown.why_not() == "the database is away"
    assert shown.readiness.clear("store")
    assert shown.why_not() is None


def test_clearing_what_is_no_reason_does_not_make_it_ready(shown: Shown) -> None:
    assert not shown.readiness.clear("stream")

    assert shown.why_not() == "starting"


def test_the_later_reason_of_a_part_replaces_the_earlier(shown: Shown) -> None:
    shown.readiness.set_unready("stream", "topics are missing")
    shown.readiness.set_unready("stream", "the stream is away")

    assert shown.why_not() == "the stream is away"


def test_one_reason_can_take_the_place_of_all_others(shown: Shown) -> None:
    shown.readiness.set_unready("relay", "cannot publish")
    shown.readiness.set_unready("owner", "another daemon owns the store", only=True)

    assert shown.why_not() == "another daemon owns the store"
    assert shown.readiness.is_unready("owner")
    assert not shown.readiness.is_unready("relay")


def test_a_heartbeat_reaches_the_watchdog_and_the_page(shown: Shown) -> None:
    shown.clock.sleep(30)
    assert shown.telemetry.loop_age_s() == 30

    shown.readiness.heartbeat("waiting")

    assert shown.telemetry.loop_age_s() == 0
    assert shown.watchdog.signals == ["waiting"]
