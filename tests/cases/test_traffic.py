"""Who sends little, nothing or by the hour: what cannot be judged is told, and a day is no drift."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cases.kit import HOUR, MINUTE, T0, UNLABELLED, Event, Replay, answer, label, replay

DAY: Final = 24 * HOUR
MONTHLY: Final = {"span": "30d", "pane": "1d", "min_events": 100}


def a_few_a_day(folder: Path, days: int, **window: Any) -> Replay:
    """Ten predictions a day. After half of the days a feature is higher, and errors are ten times as large."""
    chance = random.Random(14)
    predictions, outcomes = [], []
    for i in range(days * 10):
        late, time = i >= days * 5, T0 + i * DAY // 10
        x = chance.gauss(5 if late else 0, 1)
        predictions.append(answer(i, x, {"x": x}, time=time))
        outcomes.append(label(i, x + chance.gauss(0, 5 if late else 0.5), time=time + HOUR))
    model: dict[str, Any] = {"task": "regression", "champion": "v1", "reference": {"learn": 100}, **window}
    return replay(folder, {"m": model}, predictions, outcomes)


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"window": {"span": "1h", "pane": "10m"}},
        {"window": {"span": "1d", "pane": "1h", "min_events": 50, "max_span": "2d"}},
    ],
)
def test_a_window_that_never_holds_enough_is_told_with_one_that_would(tmp_path: Path, window: dict[str, Any]) -> None:
    replayed = a_few_a_day(tmp_path, 40, **window)

    assert replayed.kinds() == {"blind"}
    assert "set window." in replayed.summaries("blind")


@pytest.mark.parametrize(("window", "days"), [(MONTHLY, 160), ({"events": 200, "every": 100}, 240)])
def test_a_window_that_holds_enough_finds_what_changed(tmp_path: Path, window: dict[str, Any], days: int) -> None:
    replayed = a_few_a_day(tmp_path, days, window=window)

    assert replayed.alerts("blind") == []
    assert "x" in replayed.features("drift")
    assert replayed.alerts("metric") != []


# -- versions ----------------------------------------------------------------------------------------------

STAGED: Final[dict[str, Any]] = {
    "task": "regression",
    "champion": "v1",
    "previous": "v0",
    "reference": {"learn": 300},
    "window": {"span": "5m", "pane": "30s", "min_events": 50},
    "outcomes": {"within": "1h"},
    "no_data": "5m",
}


def staged(folder: Path, versions: Any, seconds: int = 1_500, **model: Any) -> Replay:
    """One prediction a second; `versions` says of which version."""
    chance = random.Random(15)
    predictions: list[Event] = []
    outcomes: list[Event] = []
    for i in range(seconds):
        x = chance.gauss(0, 1)
        predictions.append(answer(i, x, {"x": x}, version=versions(i), latency_ms=chance.uniform(5, 9)))
        outcomes.append(label(i, x + chance.gauss(0, 0.5)))
    return replay(folder, {"m": STAGED | model}, predictions, outcomes)


@pytest.mark.parametrize(
    "serving",
    [{"routes": {"v2": "10%"}}, {"shadows": ["v2"]}, {"cohorts": {"north": "v2"}}],
)
def test_a_version_that_is_expected_and_never_sends_is_told_and_nothing_is_rolled_back(
    tmp_path: Path, serving: dict[str, Any]
) -> None:
    replayed = staged(tmp_path, lambda _: "v1", **serving)

    assert {(a["kind"], a["version"]) for a in replayed.alerts()} == {("blind", "v2")}
    assert "no predictions of v2" in replayed.summaries("blind")
    assert len(replayed.decisions()) == 1
    assert replayed.status["models"]["m"]["versions"]["v2"]["health"] == "unknown"


def test_a_version_that_falls_silent_is_told_and_no_longer_called_healthy(tmp_path: Path) -> None:
    replayed = staged(tmp_path, lambda i: "v3" if i < 900 and i % 5 == 0 else "v1", seconds=2_400, routes={"v3": "10%"})

    assert {(a["kind"], a["version"]) for a in replayed.alerts()} == {("blind", "v3")}
    assert len(replayed.decisions()) == 1
    assert replayed.status["models"]["m"]["versions"]["v3"]["health"] == "unknown"


def test_who_stands_by_is_not_expected(tmp_path: Path) -> None:
    assert staged(tmp_path, lambda _: "v1").alerts() == []


# -- the time of day ---------------------------------------------------------------------------------------


def by_the_sun(folder: Path, days: int, **window: Any) -> Replay:
    """A prediction every five minutes of a feature that follows the sun."""
    chance = random.Random(22)
    events = [
        answer(i, 1.0, {"x": 3 * math.sin(i / 288 * math.tau) + chance.gauss(0, 1)}, time=T0 + i * 5 * MINUTE)
        for i in range(days * 288)
    ]
    model = {"task": "regression", "champion": "v1", "reference": {"learn": 1_152}, "window": window, **UNLABELLED}
    return replay(folder, {"m": model}, events)


def test_a_window_of_a_day_is_calm_by_night_and_by_day(tmp_path: Path) -> None:
    replayed = by_the_sun(tmp_path, 14, span="1d", pane="1h", min_events=200)

    assert replayed.alerts() == []


def test_a_window_shorter_than_the_rhythm_of_the_data_is_told_beside_answers_that_can_be_judged(tmp_path: Path) -> None:
    replayed = by_the_sun(tmp_path, 14, span="2h", pane="1h", min_events=20)

    assert replayed.kinds() == {"blind"}
    assert "no difference of x could be significant" in replayed.summaries("blind")
