"""Times as producers write them: read, or refused with the likely unit; one wrong clock moves nobody."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.cases.kit import MINUTE, SECOND, T0, Event, Replay, answer, label, of_stream_time, replay

LOAD: dict[str, Any] = {
    "task": "regression",
    "champion": "v1",
    "reference": {"learn": 300},
    "window": {"span": "5m", "pane": "1m", "min_events": 100},
    "outcomes": {"within": "1d"},
}
AT = T0 // SECOND  # the same moment in seconds


def timed(folder: Path, *times: Any) -> Replay:
    """Predictions that say their times so."""
    return replay(folder, {"m": LOAD}, [answer(i, 1.0, {"load": 1.0}, time=time) for i, time in enumerate(times)])


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (AT, "seconds?"),
        (AT + 0.25, "seconds?"),
        (T0 * 1_000, "microseconds?"),
        (T0 * 1_000_000, "nanoseconds?"),
        (str(T0), "milliseconds are a number without quotes"),
        (str(AT), "milliseconds are a number without quotes"),
        ("2023-11-14T22:13:20", "has no time zone"),
        ("14.11.2023 22:13", "is not a time like"),
        ("Tue, 14 Nov 2023 22:13:20 GMT", "is not a time like"),
        (0, "is before 1970-03-01"),
        (-AT, "is not between the years 1970 and 9999"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused_with_the_likely_unit(tmp_path: Path, written: Any, why: str) -> None:
    replayed = timed(tmp_path, written)

    assert replayed.events["predictions"] == 0
    (letter,) = replayed.refused()
    assert letter["detail"].startswith("time: ")
    assert why in letter["detail"]


@pytest.mark.parametrize(
    "written",
    [T0, float(T0), "2023-11-14T22:13:20Z", "2023-11-14 23:13:20.123456+01:00", "2023-11-14T22:13:20.123456789Z"],
)
def test_a_time_that_says_what_it_means_is_read(tmp_path: Path, written: Any) -> None:
    replayed = timed(tmp_path, written)

    assert replayed.events["predictions"] == 1
    assert replayed.refused() == []


def test_a_producer_of_seconds_is_refused_and_its_model_is_not_called_healthy(tmp_path: Path) -> None:
    """Never accepted as 1970, where no window would ever hold anything."""
    events = [answer(i, 1.0, {"load": 1.0}, time=AT + i) for i in range(600)]
    outcomes = [label(i, 1.0, time=AT + i + 60) for i in range(600)]

    replayed = replay(tmp_path, {"m": LOAD}, events, outcomes)

    assert replayed.status["dead_letters_by_reason"] == {"bad_time": 1_200}
    assert replayed.status["models"]["m"]["versions"] == {}


def test_the_same_load_in_milliseconds_is_watched(tmp_path: Path) -> None:
    """The counterpart: it doubles half-way."""
    chance = random.Random(1)
    loads = [chance.gauss(10 if i < 600 else 20, 2) for i in range(1_200)]

    replayed = replay(tmp_path, {"m": LOAD}, [answer(i, 3 * load, {"load": load}) for i, load in enumerate(loads)])

    assert "load" in replayed.features("drift")


# -- clocks ------------------------------------------------------------------------------------------------


def skewed(ahead: int, of: int) -> tuple[list[Event], list[Event]]:
    """One event in so many comes from a host whose clock is this far ahead; a feature shifts half-way."""
    chance = random.Random(2)
    predictions, outcomes = [], []
    for i in range(1_500):
        time = T0 + i * SECOND + (ahead if i % of == 0 else 0)
        predictions.append(answer(i, 1.0, {"x": chance.gauss(5 if i > 750 else 0, 1)}, time=time))
        outcomes.append(label(i, 1.0, time=T0 + i * SECOND))
    return predictions, outcomes


@pytest.mark.parametrize(("ahead", "of"), [(5 * MINUTE, 50), (9 * MINUTE, 20), (-20 * MINUTE, 50)])
def test_a_few_wrong_clocks_make_nothing_of_the_others_late(tmp_path: Path, ahead: int, of: int) -> None:
    predictions, outcomes = skewed(ahead, of)

    replayed = replay(tmp_path, {"m": LOAD}, predictions, outcomes)

    wrong = 1_500 // of
    assert replayed.events["late_predictions"] <= wrong
    assert replayed.status["join"]["joined"] >= 1_500 - wrong
    assert replayed.features("drift") == {"x"}


@pytest.mark.parametrize("window", [{"span": "5m", "pane": "1m", "min_events": 100}, {"events": 500, "every": 100}])
def test_what_a_rebalance_repeats_counts_once(tmp_path: Path, window: dict[str, Any]) -> None:
    """Everything three times, out of order within four seconds; the error of each answer is exactly 1."""
    chance = random.Random(3)
    arrivals = [(i * SECOND + chance.uniform(0, 4_000), i) for i in range(1_000) for _ in range(3)]
    order = [number for _, number in sorted(arrivals)]

    replayed = replay(
        tmp_path,
        {"m": {**LOAD, "reference": None, "window": window}},
        [answer(i, 10.0) for i in order],
        [label(i, 11.0) for i in order],
    )

    assert replayed.events["predictions"] == 3_000
    assert (replayed.status["join"]["joined"], replayed.status["join"]["duplicates"]) == (1_000, 4_000)
    assert replayed.values("mae") == {1.0}
    assert replayed.alerts() == []


def test_of_outcomes_that_differ_the_first_one_counts_and_the_other_is_told(tmp_path: Path) -> None:
    labels = [label(i, 11.0) for i in range(600)] + [
        label(i, 99.0, time=T0 + i * SECOND + 2 * MINUTE) for i in range(9)
    ]

    replayed = replay(
        tmp_path, {"m": {**LOAD, "reference": None}}, [answer(i, 10.0) for i in range(600)], of_stream_time(labels)
    )

    assert replayed.status["join"]["conflicts"] == 9
    assert {letter["reason"] for letter in replayed.refused()} == {"conflict"}
    assert replayed.values("mae") == {1.0}
