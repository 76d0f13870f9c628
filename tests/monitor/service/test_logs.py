"""Logs: what a library repeats is not repeated in ours."""

from __future__ import annotations

import logging

import pytest

from monitor.service.logs import Seldom, shown


def said(filtered: Seldom, message: str, at: float, *, name: str = "kafka.cluster") -> str | None:
    """What is written of a message; None: nothing."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)
    record.created = at
    return record.getMessage() if filtered.filter(record) else None


def test_the_same_thing_is_said_once_a_minute_with_how_often_it_was_left_out() -> None:
    seldom = Seldom("kafka", 60)
    found = [said(seldom, "Topic t.7 not found", at) for at in (0.0, 0.1, 59.9, 60.1, 60.2)]

    assert found == ["Topic t.7 not found", None, None, "Topic t.7 not found (2 more like it since the last one)", None]


def test_numbers_make_no_difference_and_words_do() -> None:
    seldom = Seldom("kafka", 60)
    said(seldom, "Request 17 timed out at 0x7f5502", 0)

    assert said(seldom, "Request 18 timed out at 0x7f55ff", 1) is None
    assert said(seldom, "Request 18 was refused", 1) == "Request 18 was refused"


@pytest.mark.parametrize("name", ["monitor.service.worker", "kafkaesque", "root"])
def test_others_may_repeat_themselves(name: str) -> None:
    seldom = Seldom("kafka", 60)

    assert [said(seldom, "again", at, name=name) for at in (0, 1)] == ["again", "again"]


def test_names_from_events_are_printable_in_logs_for_people() -> None:
    event = {"event": "alert.began", "version": "v\x1b]0;owned\x07", "n": 3, "exception": "Trace\n  line\x1b[2J"}

    assert shown(None, "info", event) == {
        "event": "alert.began", "version": r"v\x1b]0;owned\x07", "n": 3, "exception": "Trace\n  line\\x1b[2J",
    }  # fmt: skip
