"""Windows of several extents over one stream: which one finds what, what is stored, and what a restart changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.spec import ModelSpec, WindowSpec
from monitor.store.engine import connect
from monitor.times import parse_time
from tests.monitor.kit import (
    SECOND,
    T0,
    Event,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    counted,
    from_file,
    prediction,
    records_of,
    timed,
)

ALL = (0.2, 0.5, 1.0, 2.0, 5.0)


def stream(count: int, shift: Callable[[int], float], seed: int = 5) -> Iterator[Event]:
    """An answer a second; the feature x is shifted as `shift` says for each of them."""
    r = random.Random(seed)
    for i in range(count):
        features = {"x": round(r.gauss(0, 1) + shift(i), 4), "y": round(r.gauss(0, 1), 4)}
        yield prediction(f"r{i}", T0 + i * SECOND, 1.0, features=features)


PROFILE = {"m": a_profile([event["features"] for event in stream(3_000, lambda i: 0.0, seed=1)])}


def spec_of(windows: Sequence[float] = ALL, window: WindowSpec | None = None) -> ModelSpec:
    drift = replace(a_drift(events=1_000_000), windows=tuple(windows))
    return a_model(window=window or counted(500, 50), drift=drift, reference=from_file())


def told_of(spec: ModelSpec, events: Iterator[Event]) -> Told:
    run = Run(a_core(spec), profiles=PROFILE)
    run.feed(records_of(events))
    run.commit(last=True)
    return run.told()


def seen_in(record: dict[str, Any]) -> list[str]:
    return [window["window"] for window in record["windows"]]


def after(record: dict[str, Any], at: int) -> int:
    """Events between event `at` and the end of the window that began the episode."""
    return (parse_time(record["starts_at"]) - T0) // SECOND + 1 - at


# -- what is found ---------------------------------------------------------------------------------------


def test_a_large_change_is_found_by_a_short_window_first() -> None:
    first = told_of(spec_of(), stream(6_000, lambda i: 1.5 * (i >= 4_000))).alerts("drift")[0]
    alone = told_of(spec_of([1.0]), stream(6_000, lambda i: 1.5 * (i >= 4_000))).alerts("drift")[0]

    assert after(first, 4_000) == 50 < after(alone, 4_000)
    assert seen_in(first) == ["100 events", "250 events"]
    assert [(f["name"], f["window"]) for f in first["features"]] == [("x", "100 events")]
    assert first["window"]["events"] == 500
    assert sum(first["features"][0]["current"]["counts"]) == 100


def test_a_small_change_is_found_by_a_long_window_only() -> None:
    """Which keeps the episode open while the configured one sees nothing."""
    found = told_of(spec_of(), stream(9_000, lambda i: 0.13 * (i >= 4_000))).alerts("drift")
    alone = told_of(spec_of([1.0]), stream(9_000, lambda i: 0.13 * (i >= 4_000))).alerts("drift")

    assert alone == []
    assert [(record["status"], seen_in(record)) for record in found] == [("firing", ["2500 events"])]
    assert found[0]["summary"] == "1 of 3 features drifted: x (seen in 2500 events)"


def test_an_alert_says_when_the_change_began() -> None:
    for at in (3_525, 4_000, 4_310):
        first = told_of(spec_of(), stream(6_000, lambda i, at=at: 0.8 * (i >= at))).alerts("drift")[0]  # type: ignore[misc]
        since = {name: (parse_time(time) - T0) // SECOND for name, time in first["since"].items()}

        assert since["from"] <= at <= since["to"] + 1
        assert since["from"] <= since["at"] <= since["to"]
        assert since["to"] - since["from"] <= 200


def test_what_is_over_is_one_episode() -> None:
    """Though the longest window holds it for two thousand events more."""
    records = told_of(spec_of(), stream(9_000, lambda i: 1.0 * (4_000 <= i < 4_800))).alerts("drift")

    assert len({record["event_id"] for record in records}) == 1
    assert records[-1]["status"] == "resolved"
    assert after({"starts_at": records[-1]["ends_at"]}, 4_800) <= 750


def test_a_healthy_stream_raises_nothing() -> None:
    assert told_of(spec_of(), stream(20_000, lambda i: 0.0, seed=7)).alerts() == []


def test_windows_by_time_are_multiples_too() -> None:
    """A pane of a minute without events now and then."""
    window = timed(20 * SECOND, 200 * SECOND, longest=2_000 * SECOND, min_events=150)
    events = [e for i, e in enumerate(stream(9_000, lambda i: 0.25 * (i >= 5_000))) if i // 20 % 9]
    first = told_of(spec_of(window=window), iter(events)).alerts("drift")[0]

    assert seen_in(first) in (["400s"], ["1000s"])
    assert first["window"]["events"] < 250


# -- what is stored --------------------------------------------------------------------------------------


def test_the_history_of_the_configured_window_is_the_same_and_others_have_rows_where_they_change() -> None:
    events = list(stream(8_000, lambda i: 1.0 * (4_000 <= i < 5_000)))
    several, alone = told_of(spec_of(), iter(events)), told_of(spec_of([1.0]), iter(events))
    configured = {key: row for key, row in several.history.items() if ".predictions" in row["values"]}
    others = several.history.keys() - configured.keys()

    assert configured == alone.history
    assert 4 <= len(others) <= 20
    assert {end - start for *_, start, end in others} == {(n - 1) * SECOND for n in (100, 250, 1_000, 2_500)}


@pytest.mark.parametrize("window", [counted(500, 50), timed(50 * SECOND, 500 * SECOND, min_events=400)])
def test_restarts_at_any_commit_change_nothing(tmp_path: Path, window: WindowSpec) -> None:
    """Panes of the longest window are stored, and what the others have shown."""
    events = list(stream(5_000, lambda i: 0.35 * (2_500 <= i < 3_400) + 0.14 * (i > 3_800)))
    told, panes = [], []
    for restarts in (False, True):
        engine = connect(f"sqlite:///{tmp_path}/{restarts}.db")
        run, dice = StoredRun(a_core(spec_of(window=window)), engine=engine, profiles=PROFILE), random.Random(3)
        at = 0
        while at < len(events):
            size = dice.randrange(40, 400)
            run.events(*events[at : at + size])
            at += size
            if restarts:
                run.restart()
        run.events()
        found = run.told()
        told.append((found.published, found.history, found.status["models"]))
        with engine.connect() as c:
            panes.append(c.exec_driver_sql("SELECT count(DISTINCT pane) FROM pane").scalar())
        engine.dispose()

    assert told[0] == told[1]
    assert len([record for record in told[0][0] if record.get("kind") == "drift"]) >= 2
    assert panes[0] == panes[1]
    assert 50 <= (panes[0] or 0) <= 53


def test_a_store_of_the_configured_window_alone_is_gone_on_with(tmp_path: Path) -> None:
    """It has fewer panes: longer windows fill up, and are judged from then on."""
    events = list(stream(7_000, lambda i: 0.0))
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_core(spec_of([1.0])), engine=engine, profiles=PROFILE)
    run.events(*events[:4_000])
    before = run.history()
    run.restart(a_core(spec_of()))
    state = next(state for state in run.model.versions.states.values() if state.version == "v1")

    assert run.session.restored
    assert [len(o.window) for o in state.others] == [2, 5, 10, 10]
    run.events(*events[4_000:])
    assert [len(o.window) for o in state.others] == [2, 5, 20, 50]
    assert before.items() <= run.history().items()
    engine.dispose()
