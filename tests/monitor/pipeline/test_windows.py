"""Which answers a window is made of, when it is checked, and where outcomes belong."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.spec import LimitBasis, ModelSpec, Task
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    Told,
    a_core,
    a_model,
    a_rule,
    believed,
    counted,
    outcome,
    prediction,
    records_of,
    replay_of,
    resources,
    some_outcomes,
    timed,
)

TENS = timed(10 * SECOND, 10 * SECOND)


def replayed(model: ModelSpec, events: Sequence[Event], lateness: int = 0) -> Told:
    return replay_of(a_core(model, lateness=lateness), events)


def at(*seconds: float, **more: Any) -> list[Event]:
    """Predictions so many seconds after T0."""
    return [prediction(f"{s}", T0 + round(s * SECOND), 1.0, **more) for s in seconds]


def windows(told: Told, metric: str = "predictions", **more: Any) -> list[tuple[float, float, float]]:
    """(start, end, value) in seconds after T0."""
    return [
        ((start - T0) / SECOND, (end - T0) / SECOND, value) for start, end, value, _ in told.values(metric, **more)
    ]  # fmt: skip


# -- by time ---------------------------------------------------------------------------------------------


def test_a_pane_begins_at_a_multiple_of_its_width_since_the_epoch_and_does_not_hold_its_end() -> None:
    told = replayed(a_model(window=TENS), at(3, 9.999, 10, 19.999, 20))

    assert windows(told) == [(0, 10, 2), (10, 20, 2)]


def test_a_pane_closes_when_stream_time_passes_its_end() -> None:
    """Stream time lags behind the latest event by the lateness, and then earlier events have no window any more."""
    run = Run(a_core(a_model(window=TENS), lateness=3 * SECOND))
    run.events(*at(5), *believed(*at(12.999)))
    assert windows(run.told()) == []
    run.events(*at(9))
    run.events(*at(13, 9.5))

    told = run.told()
    assert windows(told) == [(0, 10, 2)]
    assert told.status["events"]["late_predictions"] == 1


def test_a_late_prediction_is_neither_counted_nor_joined_nor_remembered() -> None:
    model = a_model(window=TENS, outcomes=some_outcomes(pane=10 * SECOND))
    late = prediction("late", T0 + SECOND, 1.0)
    told = replayed(model, [*at(5), *believed(*at(25)), late, late, outcome("late", T0 + 26 * SECOND, 1.0)])

    assert told.status["events"]["late_predictions"] == 2
    assert told.status["join"] == {
        "joined": 0, "duplicates": 8, "conflicts": 0, "orphans": 1, "late": 0, "expired": 0, "pending": 2,
            "early_metrics_dropped": 0,
    }  # fmt: skip
    assert told.status["models"]["m"]["versions"]["v1"]["predictions"] == 2


def test_a_window_reaches_back_over_its_span() -> None:
    told = replayed(a_model(window=timed(10 * SECOND, 30 * SECOND)), at(1, 11, 21, 31, 41, 51))

    assert windows(told) == [(0, 10, 1), (0, 20, 2), (0, 30, 3), (10, 40, 3), (20, 50, 3)]


def test_a_window_with_too_few_events_reaches_back_further_but_not_beyond_its_longest() -> None:
    window = timed(10 * SECOND, 20 * SECOND, longest=50 * SECOND, min_events=4)
    told = replayed(a_model(window=window), at(1, 2, 3, 11, 21, 31, 41, 51, 61))

    assert windows(told) == [
        (0, 10, 3), (0, 20, 4), (0, 30, 5), (0, 40, 6), (10, 50, 4), (20, 60, 4),
    ]  # fmt: skip
    sparse = replayed(a_model(window=window), at(1, 21, 41, 61, 81, 101))
    assert [end - start for start, end, _ in windows(sparse)][-1] == 50


def test_a_pane_without_answers_of_a_version_is_no_check_of_it() -> None:
    rule = a_rule("any", "predictions", above=0, checks=2, hard=True)
    told = replayed(a_model(window=TENS, rules=(rule,)), at(1, 31, 61))

    assert windows(told) == [(0, 10, 1), (30, 40, 1)]
    (alert,) = told.alerts()
    assert alert["window"]["events"] == 1


def test_an_episode_begins_at_the_end_of_the_window_that_raised_it() -> None:
    """And not when the window was looked at."""
    rule = a_rule("any", "predictions", above=0, hard=True)
    told = replayed(a_model(window=TENS, rules=(rule,)), at(1, 3_000))

    (alert,) = told.alerts()
    assert alert["starts_at"] == alert["issued_at"] == alert["window"]["end"]
    assert alert["window"]["end"].endswith(":10.000Z")


def test_the_champion_is_checked_first_and_then_the_others_by_name() -> None:
    rule = a_rule("any", "predictions", above=0, hard=True)
    events = [e for i, version in enumerate(("v9", "v0", "v1", "v5")) for e in at(1 + i, version=version)]

    told = replayed(a_model(window=TENS, rules=(rule,)), [*events, *at(30)])

    began = [a["version"] for a in told.alerts() if a["status"] == "firing"]
    assert began == ["v1", "v0", "v5", "v9"]


def test_the_end_of_a_replay_closes_complete_panes_only() -> None:
    """Stream time becomes the last event's time and the lateness."""
    events = at(1, 11, 17)

    assert windows(replayed(a_model(window=TENS), events, lateness=2 * SECOND)) == [(0, 10, 1)]
    assert windows(replayed(a_model(window=TENS), events, lateness=3 * SECOND)) == [(0, 10, 1), (10, 20, 2)]


def test_resources_belong_to_the_pane_of_their_time() -> None:
    reports = [resources(T0 + s * SECOND, memory_mb=float(mb)) for s, mb in ((2, 100), (4, 200), (12, 900))]

    told = replayed(a_model(window=TENS), [*at(1), *reports, *at(15, 30)])

    assert windows(told, "memory_mb") == [(0, 10, 150), (10, 20, 900)]


# -- counted ---------------------------------------------------------------------------------------------


def test_a_counted_window_is_checked_when_it_is_full_and_after_every_so_many() -> None:
    told = replayed(a_model(window=counted(4, 2)), at(*range(9)))

    assert windows(told) == [(0, 3, 4), (2, 5, 4), (4, 7, 4), (6, 8, 3)]


def test_versions_are_counted_apart() -> None:
    events = [e for i in range(6) for e in at(i, version="v1" if i % 3 else "v2")]

    told = replayed(a_model(window=counted(2, 2)), events)

    assert windows(told) == [(1, 2, 2), (4, 5, 2)]
    assert windows(told, version="v2") == [(0, 3, 2)]


def test_a_window_that_never_filled_is_in_the_history_with_its_n_and_not_checked() -> None:
    rule = a_rule("any", "predictions", above=0, hard=True)
    model = a_model(window=counted(5, 5), rules=(rule,), outcomes=some_outcomes())

    told = replayed(model, [*at(0, 1, 2), outcome("1", T0 + 3 * SECOND, 2.0)])

    assert told.alerts() == []
    assert told.values("predictions") == [(T0, T0 + 2 * SECOND, 3.0, 3)]
    assert told.values("mae") == [(T0, T0 + 2 * SECOND, 1.0, 1)]


def test_a_live_stream_that_stops_leaves_no_partial_window_behind() -> None:
    """More may come."""
    run = Run(a_core(a_model(window=counted(5, 5))))
    run.feed(records_of(at(0, 1, 2)))

    assert run.finish().history == {}


def test_resources_belong_to_the_counted_pane_that_was_filling_when_they_came() -> None:
    """Whichever batch they came in."""
    events: list[Event] = []
    for i in range(6):
        events += [*at(i), resources(T0 + i * SECOND, memory_mb=float(i))]

    told = replayed(a_model(window=counted(2, 2)), events)

    # The report after the second answer of a pane is the first of the next one.
    assert windows(told, "memory_mb") == [(0, 1, 0), (1, 3, 1.5), (3, 5, 3.5)]


# -- outcomes --------------------------------------------------------------------------------------------

BY_TIME = a_model(window=TENS, outcomes=some_outcomes(60 * SECOND, pane=10 * SECOND, min_coverage=0.5))


def test_an_outcome_belongs_to_the_window_of_its_predictions_time() -> None:
    events = [*at(1, 2, 11), outcome("1", T0 + 15 * SECOND, 3.0), outcome("11", T0 + 16 * SECOND, 1.0), *at(40)]

    assert windows(replayed(BY_TIME, events), "mae") == [(0, 10, 2), (10, 20, 0)]


def test_a_row_is_written_again_as_outcomes_land() -> None:
    """They do when the pane in which they came ends."""
    run = Run(a_core(BY_TIME))
    run.events(*at(1, 2, 3, 4), *believed(*at(11)))
    seen: list[tuple[Any, ...]] = []
    for request, actual in ((1, 1.0), (2, 2.0), (3, 4.0)):
        run.events(outcome(str(request), T0 + (2 + 10 * request) * SECOND, actual))
        assert len(run.told().values("mae")) == min(len(seen) // 2, 1)
        run.events(*believed(*at(11 + 10 * request)))
        seen += run.told().values("mae") + [
            (row["coverage"],) for row in run.told().history.values() if row["coverage"]
        ]

    start, end = T0, T0 + 10 * SECOND
    assert seen == [
        (start, end, 0.0, 1), (0.25,), (start, end, 0.5, 2), (0.5,), (start, end, pytest.approx(4 / 3), 3), (0.75,),
    ]  # fmt: skip


def test_a_window_to_which_no_outcome_came_says_so_once_none_can_come() -> None:
    run = Run(a_core(BY_TIME))
    run.events(*at(1), *believed(*at(11, 69)))
    assert not any(row["coverage"] is not None for row in run.told().history.values())
    run.events(*believed(*at(71)))

    assert windows(run.told(), "coverage") == [(0, 10, 0)]


def test_quality_is_judged_by_the_newest_window_that_is_covered() -> None:
    rule = a_rule("wrong", "mae", above=0.5, hard=True)
    model = a_model(window=TENS, outcomes=BY_TIME.outcomes, rules=(rule,))
    run = Run(a_core(model))
    run.events(*at(1, 2, 3, 4), *believed(*at(11)))
    run.events(outcome("1", T0 + 12 * SECOND, 9.0), *believed(*at(21)))
    assert run.told().alerts() == []
    run.events(outcome("2", T0 + 22 * SECOND, 9.0), *believed(*at(31)))

    (alert,) = run.told().alerts()
    assert alert["window"]["events"] == 4
    assert alert["metric"]["n"] == 2


def test_outcome_panes_may_be_wider_than_panes() -> None:
    """A window of quality is the outcome panes that its answers lie in: the latest of those that end with the same."""
    model = a_model(
        window=timed(10 * SECOND, 20 * SECOND), outcomes=some_outcomes(60 * SECOND, pane=20 * SECOND, min_coverage=0.5)
    )
    events = [e for s in (1, 11, 21, 31) for e in (*at(s), outcome(str(s), T0 + s * SECOND + 1, 2.0))]

    told = replayed(model, [*events, *at(45)])

    assert windows(told, "mae") == [(0, 20, 1), (20, 40, 1)]
    assert [n for *_, n in told.values("mae")] == [2, 2]


def test_an_answer_whose_outcome_comes_too_late_is_never_scored() -> None:
    told = replayed(BY_TIME, [*at(1), *at(61.5), outcome("1", T0 + 62 * SECOND, 5.0), *at(80)])

    assert windows(told, "mae") == []
    assert told.status["join"]["late"] == told.status["join"]["expired"] == 1


def test_shadow_answers_are_compared_with_the_served_ones_in_the_shadows_window() -> None:
    def shadowed(i: int) -> list[Event]:
        time = T0 + i * SECOND
        served = prediction(f"{i}", time, 10.0)
        shadow = prediction(f"{i}", time, 10.5 if i < 5 else 20.0, version="v2", served=False)
        return [served, shadow] if i % 2 else [shadow, served]

    model = a_model(window=TENS, outcomes=BY_TIME.outcomes)
    told = replayed(model, [e for i in range(10) for e in shadowed(i)] + at(15))

    assert windows(told, "agreement", version="v2") == [(0, 10, 0.5)]


# -- against a recount -----------------------------------------------------------------------------------


def answers_of(r: random.Random, count: int) -> list[Event]:
    """A binary model's answers and outcomes in disorder."""
    events: list[tuple[float, Event]] = []
    for i in range(count):
        time = T0 + i * 700 + r.randrange(1_500)
        failed = r.random() < 0.1
        more: dict[str, Any] = {"error": "Timeout"} if failed else {"scores": {"1": round(r.random(), 2)}}
        if r.random() < 0.8:
            more["latency_ms"] = round(r.expovariate(0.05), 2)
        value = None if failed else r.randrange(2)
        events.append((i * 700, prediction(f"r{i}", time, value, version=r.choice(("v1", "v2")), **more)))
        if r.random() < 0.8:
            events.append((i * 700 + r.randrange(25_000), outcome(f"r{i}", time + SECOND, r.randrange(2))))
    return [event for _, event in sorted(events, key=lambda pair: pair[0])]


def recounted(events: Sequence[Event], answered: Sequence[Event]) -> dict[str, tuple[float | None, int]]:
    """Metrics of some answers, each with the outcome that any event says."""
    actual = {e["request_id"]: e["actual"] for e in events if e["type"] == "outcome"}
    valid = [a for a in answered if "error" not in a]
    latencies = sorted(a["latency_ms"] for a in answered if "latency_ms" in a)
    pairs = [(a["prediction"], actual[a["request_id"]]) for a in valid if a["request_id"] in actual]
    joined = sum(a["request_id"] in actual for a in answered)
    scores = [a["scores"]["1"] for a in valid]
    found: dict[str, tuple[float | None, int]] = {
        "predictions": (len(answered), len(answered)),
        "error_rate": (1 - len(valid) / len(answered), len(answered)),
        "prediction_mean": (math.fsum(scores) / len(scores) if scores else None, len(scores)),
        "latency_p50_ms": (middle(latencies), len(latencies)),
        "accuracy": (sum(p == a for p, a in pairs) / len(pairs) if pairs else None, len(pairs)),
        "coverage": (len(pairs) / len(valid) if valid and joined else None, len(valid)),
    }
    return found


def middle(values: Sequence[float]) -> float | None:
    if not values:
        return None
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def assert_history(told: Told, version: str, start: int, end: int, wanted: dict[str, tuple[float | None, int]]) -> None:
    for metric, (value, n) in wanted.items():
        mine = [(v, its_n) for s, e, v, its_n in told.values(metric, version=version) if (s, e) == (start, end)]
        assert len(mine) == (value is not None), (metric, start, end)
        if value is not None:
            tolerance = 0.0101 if metric.startswith("latency") else 1e-6
            assert mine[0] == (pytest.approx(value, rel=tolerance), n), metric


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from((1, 3)))
def test_windows_by_time_equal_a_recount_from_scratch(seed: int, panes: int) -> None:
    events = answers_of(random.Random(seed), 200)
    width = 10 * SECOND
    model = a_model(
        task=Task.BINARY,
        window=timed(width, panes * width),
        outcomes=some_outcomes(60 * MINUTE, outcome_ttl=60 * MINUTE, pane=width, min_coverage=0.5),
    )
    told = replayed(model, events, lateness=5 * SECOND)

    assert told.status["events"]["late_predictions"] == 0
    answered = [e for e in events if e["type"] == "prediction"]
    last = (max(e["time"] for e in events) + 5 * SECOND) // width
    for version in ("v1", "v2"):
        mine = [a for a in answered if a["version"] == version]
        held = sorted({a["time"] // width for a in mine if a["time"] // width < last})
        for pane in held:
            first = min(p for p in held if p > pane - panes)
            inside = [a for a in mine if first <= a["time"] // width <= pane]
            assert_history(told, version, first * width, (pane + 1) * width, recounted(events, inside))
        assert len(told.values("predictions", version=version)) == len(held)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from(((10, 10), (30, 10), (7, 7))))
def test_counted_windows_equal_a_recount_from_scratch(seed: int, size: tuple[int, int]) -> None:
    events = answers_of(random.Random(seed), 200)
    model = a_model(
        task=Task.BINARY,
        window=counted(*size),
        outcomes=some_outcomes(60 * MINUTE, outcome_ttl=60 * MINUTE, min_coverage=0.5),
    )
    told = replayed(model, events)

    for version in ("v1", "v2"):
        mine = [e for e in events if e["type"] == "prediction" and e["version"] == version]
        for stop in range(size[0], len(mine) + 1, size[1]):
            inside = mine[stop - size[0] : stop]
            times = [a["time"] for a in inside]
            assert_history(told, version, min(times), max(times), recounted(events, inside))


def test_every_window_of_a_rule_with_a_baseline_waits_for_the_baseline() -> None:
    """A thousand answers in whole panes: the windows before have nothing to be held to."""
    rule = a_rule("more", "error_rate", above=2.0, of=LimitBasis.SHARE, hard=True)
    events = [
        prediction(f"{i}", T0 + i, None if i % 10 == 0 or (i >= 1_100 and i % 2) else 1.0, error="Timeout")
        if i % 10 == 0 or (i >= 1_100 and i % 2)
        else prediction(f"{i}", T0 + i, 1.0)
        for i in range(1_200)
    ]
    run = Run(a_core(a_model(window=counted(100, 100), rules=(rule,))))
    run.feed(records_of(events[:1_000]))
    assert [w.rules[0].verdict.value for w in run.model.versions.states.values() if w.version == "v1"] == ["ok"]
    run.feed([r._replace(offset=r.offset + 1_000) for r in records_of(events[1_000:])])
    run.commit()

    (alert,) = run.told().alerts()
    assert alert["metric"]["baseline"] == 0.1


# -- odd values ------------------------------------------------------------------------------------------


def test_what_came_first_does_not_spoil_later_windows() -> None:
    """A placeholder among the predictions and among the outcomes, once: only the window that holds it shows it."""
    r = random.Random(7)
    events: list[Event] = []
    for i in range(300):
        value = -999_999_999.0 if i == 0 else r.gauss(20, 3)
        events += [prediction(f"r{i}", T0 + i, value), outcome(f"r{i}", T0 + i, value if i == 0 else value + 1.0)]
    run = Run(a_core(a_model(window=counted(100, 100), outcomes=some_outcomes())))
    run.events(*events)
    told = run.finish()

    sd = [row[2] for row in told.values("prediction_sd")]
    assert sd[0] > 1e7
    assert all(2.5 < value < 3.5 for value in sd[1:])
    assert all(0.8 < row[2] < 0.95 for row in told.values("r2")[1:])


def test_metrics_of_outcomes_say_how_many_outcomes_they_rest_on() -> None:
    """Each is over what it counts: precision over predicted positives, recall over actual ones."""
    r = random.Random(3)
    events: list[Event] = []
    for i in range(100):
        events.append(prediction(f"r{i}", T0 + i, int(r.random() < 0.3)))
        events.append(outcome(f"r{i}", T0 + i, int(r.random() < 0.3)))
    run = Run(a_core(a_model(task=Task.BINARY, window=counted(100, 100), outcomes=some_outcomes())))
    run.events(*events)
    told = run.finish()

    tp, fp, fn = 8, 12, 24
    for metric, n in (
        ("accuracy", 100), ("precision", tp + fp), ("recall", tp + fn),
        ("f1", tp + fp + fn), ("f1_macro", tp + fp + fn),
    ):  # fmt: skip
        assert [row[3] for row in told.values(metric)] == [n]


def test_scores_are_calibrated_as_they_were_sent() -> None:
    """0.7 lies in the bin that begins there, and not in the one below."""
    run = Run(a_core(a_model(task=Task.BINARY, window=counted(10, 10), outcomes=some_outcomes())))
    for i, actual in enumerate([1, 1, 1, 1, 1, 1, 1, 0, 0, 0]):
        score = 0.7 if i % 2 else 0.75
        run.events(prediction(f"r{i}", T0 + i, score), outcome(f"r{i}", T0 + i, actual))

    assert [row[2] for row in run.finish().values("ece")] == [pytest.approx(0.025, abs=1e-12)]


@pytest.mark.slow
def test_a_metric_of_ones_own_that_is_far_from_zero_is_not_certain_to_the_last_digit() -> None:
    """The squares of a time in seconds have lost the digits in which it varies: nothing may be read from those."""
    r = random.Random(4)
    rule = a_rule("ts", "ts", above=1.0, of=LimitBasis.SHARE, min_n=5)
    run = Run(a_core(a_model(window=counted(50, 50), outcomes=some_outcomes(baseline_n=50), rules=(rule,))))
    for i in range(1_000):
        run.events(prediction(f"r{i}", T0 + i, 1.0, metrics={"ts": 1.7e9 + r.gauss(0, 1)}))

    assert run.finish().alerts("metric") == []
