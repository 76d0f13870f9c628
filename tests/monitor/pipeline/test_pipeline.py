"""The pipeline as a whole: what it tells depends on the stream, and on nothing else.

Not on how the stream was cut into batches, not on commits, and not on restarts: a run that was begun again from
its database after random commits tells exactly what a run tells that was never interrupted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detectors.reference import Profile
from fallback.types import Route, ServingSpec, Tier
from monitor.pipeline.commands import CommandName
from monitor.spec import Consequence, CoreSpec, LimitBasis, Task
from monitor.store.engine import connect
from monitor.stream.types import Batch
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    WALL,
    Event,
    Record,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    believed,
    counted,
    ends_of,
    from_file,
    learned,
    outcome,
    prediction,
    records_of,
    resources,
    some_outcomes,
    timed,
)
from tests.monitor.random_streams import a_busy_core, a_reference, random_records

BUSY = a_busy_core()
Order = tuple[CommandName, str, Mapping[str, Any]]
Script = list[tuple[Sequence[Record], Order | None]]


def profiles_of(seed: int) -> dict[str, Profile]:
    """The references from files of `a_busy_core`."""
    return {"reg": a_profile(a_reference(random.Random(seed)))}


def an_order(r: random.Random) -> Order:
    """What an operator may ask for."""
    model = r.choice(("bin", "reg", "cls"))
    reference = a_profile(a_reference(r, 120))
    orders: list[Order] = [
        (CommandName.SILENCE, model, {"for_ms": r.choice((5, 30, 90)) * SECOND}),
        (CommandName.SILENCE, model, {"for_ms": 60 * SECOND, "kind": "metric", "version": "v1"}),
        (CommandName.ROLLBACK, model, {"to": r.choice(("v0", "v2", "v9", "v77"))}),
        (CommandName.RECOVER, model, {}),
        (CommandName.RELEARN, model, {"events": 100}),
        (CommandName.REFERENCE, model, {"profile": reference}),
    ]
    return r.choice(orders)


def a_script(seed: int, count: int, *, partitions: int = 1, orders: bool = True) -> Script:
    """A random stream with an order now and then. Nobody gives orders to a replay, which has some records in hand.

    Each partition begins with nine equal events: live, stream time may run ahead of disorder before nine are seen.
    """
    r = random.Random(seed)
    first = believed(resources(T0 - 12 * SECOND, model="reg"))
    records = records_of(first * partitions, [i // len(first) for i in range(len(first) * partitions)])
    records += [
        record._replace(offset=record.offset + len(first))
        for record in random_records(r, count, BUSY, partitions=partitions)
    ]
    script: Script = []
    start = 0
    while start < len(records):
        stop = start + r.randrange(count // 4, count // 2)
        script.append((records[start:stop], an_order(r) if orders and stop < len(records) else None))
        start = stop
    return script


def everything(script: Script) -> list[Record]:
    return [record for records, _ in script for record in records]


def play(run: Run, script: Script, sizes: Iterator[int] | None = None) -> Told:
    """Feed a run; `sizes` cut the records into batches."""
    for records, order in script:
        start = 0
        while start < len(records):
            size = len(records) if sizes is None else next(sizes)
            run.feed(records[start : start + size])
            start += size
            if isinstance(run, StoredRun):
                interrupt(run)
        if order is not None:
            name, model, arguments = order
            run.command(name, model, **arguments)
    return run.finish()


def interrupt(run: StoredRun) -> None:
    """Commit now and then, and forget everything that is in memory now and then."""
    drawn = run.dice.random()
    if drawn < 0.5:
        run.commit()
    if drawn < 0.25:
        run.restart()


def sizes_of(r: random.Random, choices: Sequence[int]) -> Iterator[int]:
    while True:
        yield r.choice(choices)


# -- batches ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=10)
@given(
    st.integers(0, 10**6),
    st.sampled_from((1, 2, 3)),
    st.lists(st.integers(1, 200), min_size=1, max_size=30),
    st.booleans(),
)
@example(1, 1, [1], True)
@example(2, 2, [3, 1, 80], True)
@example(2, 1, [3, 1, 80], False)
def test_what_is_told_does_not_depend_on_how_the_stream_was_cut(
    seed: int, partitions: int, sizes: list[int], replay: bool
) -> None:
    """Live where there is one partition: counted windows keep the order of processing (`test_any_order`)."""
    partitions = partitions if replay else 1
    script = a_script(seed, 350, partitions=partitions, orders=not replay)
    ends = ends_of(everything(script)) if replay else None

    def told(cuts: Iterator[int] | None) -> Told:
        return play(Run(BUSY, ends, profiles_of(seed), range(partitions)), script, cuts)

    assert told(sizes_of(random.Random(seed), sizes)) == told(None)


@pytest.mark.parametrize("sizes", [None, [1]])
def test_which_metrics_of_the_users_own_have_a_place_depends_on_the_stream_alone(sizes: list[int] | None) -> None:
    """There are sixteen places. Answers and outcomes compete for them, in the order of the stream."""
    events: list[Event] = []
    for i in range(12):
        events.append(prediction(f"r{i}", T0 + i, 1.0, metrics={f"of answer {i}": 1.0, "none": None}))
        events.append(outcome(f"r{i}", T0 + i, 1.0, metrics={f"of outcome {i}": 1.0}))
    run = Run(a_core(a_model(window=counted(12, 12), outcomes=some_outcomes())))

    run.feed(records_of(events), sizes)

    names = {f"of {what} {i}" for i in range(8) for what in ("answer", "outcome")}
    assert set(run.finish().status["models"]["m"]["versions"]["v1"]["metrics"]) >= names
    assert set(run.model.user_metrics) == names


@pytest.mark.parametrize("sizes", [None, [1]])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_metrics_of_an_outcome_count_for_every_answer_of_its_request(
    order: tuple[int, ...], sizes: list[int] | None
) -> None:
    """Whichever of the three comes first."""
    three = [
        prediction("1", T0, 1.0),
        prediction("1", T0, 2.0, version="v2", served=False),
        outcome("1", T0, 1.5, metrics={"revenue": 7.0}),
    ]
    run = Run(a_core(a_model(window=counted(1, 1), outcomes=some_outcomes())))

    run.feed(records_of([three[i] for i in order]), sizes)
    told = run.finish()

    # An answer that was not served has nothing to wait for once its request is complete.
    complete = order[2] == 1
    assert [row[2] for row in told.values("revenue")] == [7.0]
    assert [row[2] for row in told.values("revenue", version="v2")] == ([] if complete else [7.0])
    assert run.told_so_far[-1].shard["waiting_metrics"] == {}


# -- restarts --------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from((1, 2)), st.booleans())
@example(4, 2, True)
@example(1056, 1, False)
def test_a_run_that_was_begun_again_and_again_tells_what_an_uninterrupted_one_tells(
    tmp_path_factory: pytest.TempPathFactory, seed: int, partitions: int, replay: bool
) -> None:
    """Everything at once: published records with their ids, dead letters, history, totals, status.

    Both are given the same batches: live these are the order of several partitions.
    """
    script = a_script(seed, 600, partitions=partitions, orders=not replay)
    ends = ends_of(everything(script)) if replay else None
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('store')}/driftd.db")
    run = StoredRun(BUSY, ends, profiles_of(seed), range(partitions), engine=engine, dice=random.Random(seed))

    interrupted = play(run, script, sizes_of(random.Random(seed), (10, 40, 150)))
    engine.dispose()

    uninterrupted = Run(BUSY, ends, profiles_of(seed), range(partitions))
    assert interrupted == play(uninterrupted, script, sizes_of(random.Random(seed), (10, 40, 150)))


@pytest.mark.postgres
def test_the_same_holds_on_postgresql(postgres_url: str) -> None:
    script = a_script(5, 600)
    engine = connect(postgres_url)
    run = StoredRun(BUSY, None, profiles_of(5), engine=engine, dice=random.Random(5))

    interrupted = play(run, script, sizes_of(random.Random(5), (20, 100)))
    engine.dispose()

    assert run.restarts > 1
    assert interrupted == play(Run(BUSY, None, profiles_of(5)), script)


def moderate(seed: int, *, shifted: range = range(0), step: int = 250, count: int = 800) -> Iterator[Event]:
    """Predictions of `m`, one every quarter of a second; the feature x and the scores move within `shifted`."""
    r = random.Random(seed)
    for i in range(count):
        moved = i in shifted
        features = {"x": round(r.gauss(2.0 if moved else 0.0, 1), 3), "word": r.choice("ab" if moved else "abcd")}
        score = min(max(round(r.gauss(0.8 if moved else 0.4, 0.15), 3), 0), 1)
        yield prediction(f"r{i}", T0 + i * step, score, features=features, latency_ms=100.0 if moved else 10.0)


def with_outcomes(events: Iterable[Event], *, after: int = 40, wrong: range = range(0)) -> Iterator[Event]:
    """The same, each outcome so many events later: right, but wrong within `wrong`; every seventh never comes."""
    owed: list[Event] = []
    for i, event in enumerate(events):
        yield event
        positive = event["prediction"] >= 0.5
        at = event["time"] + after * 250
        if i % 7:
            owed.append(outcome(f"r{i}", at, int(positive != (i in wrong)), metrics={"revenue": float(i % 5)}))
        if len(owed) > after:
            yield owed.pop(0)
    yield from owed


PANES = timed(10 * SECOND, 30 * SECOND, longest=60 * SECOND, min_events=60)
HUNDREDS = counted(100, 50)
FILE = {"m": a_profile([event["features"] for event in moderate(99)])}


def by_time(**more: Any) -> CoreSpec:
    return a_core(a_model(task=Task.BINARY, window=PANES, **more))


def by_number(**more: Any) -> CoreSpec:
    return a_core(a_model(task=Task.BINARY, window=HUNDREDS, **more))


def kinds_of(told: Told) -> list[tuple[str, str]]:
    return [(a["kind"], a["status"]) for a in told.alerts()]


DRIFTS = {"drift": a_drift(period=HOUR, resolve_after=2), "reference": from_file()}
LEARNS = {"drift": a_drift(events=100_000, resolve_after=2), "reference": learned(300)}
SLOW = a_rule("slow", "latency_p95_ms", above=50, checks=3, hard=True)
WRONG = a_rule("wrong", "accuracy", below=-0.2, of=LimitBasis.POINTS, checks=2, min_n=20)
EXPIRING = some_outcomes(10 * SECOND, outcome_ttl=3 * SECOND, min_coverage=0.5, pane=10 * SECOND)
SERVING = ServingSpec(
    "v1", previous="v0", chain=(Tier.PREVIOUS, Tier.DEFAULT), default=0, has_default=True, routes=(Route("v2", 500),)
)


@dataclass(frozen=True)
class Scenario:
    """A stream, who watches it, and what has to be told of it, so that nothing is proved about nothing."""

    core: CoreSpec
    events: list[Event]
    tells: Callable[[Told], bool]


def a_silence_between_two_events() -> list[Event]:
    events = list(moderate(1, count=300))
    return [*events[:200], *({**event, "time": event["time"] + 5 * MINUTE} for event in events[200:])]


def outcomes_at_any_time() -> list[Event]:
    """Early ones that wait, early ones that wait in vain, timely ones, late ones, and none."""
    distances = (-SECOND, -6 * SECOND, 5 * SECOND, 20 * SECOND, None)
    placed: list[tuple[int, Event]] = []
    for i, event in enumerate(moderate(1)):
        placed.append((event["time"], event))
        distance = distances[i % len(distances)]
        if distance is not None:
            at = max(event["time"] + distance, T0)
            placed.append((at, outcome(f"r{i}", at, 1, metrics={"revenue": float(i % 5)})))
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


SCENARIOS = {
    "drift by time, from a file": Scenario(
        by_time(**DRIFTS),
        list(moderate(1, shifted=range(300, 500))),
        lambda told: {("drift", "firing"), ("drift", "resolved")} <= set(kinds_of(told)),
    ),
    "drift counted, learned": Scenario(
        by_number(**LEARNS),
        list(moderate(1, shifted=range(500, 600))),
        lambda told: {("drift", "firing"), ("drift", "resolved")} <= set(kinds_of(told)),
    ),
    "a rule that is pending": Scenario(
        by_time(rules=(SLOW,)),
        list(moderate(1, shifted=range(300, 550))),
        lambda told: kinds_of(told) == [("metric", "firing"), ("metric", "resolved")],
    ),
    "a rule with a dwell": Scenario(
        by_number(rules=(replace(SLOW, checks=1, dwell=20 * SECOND),)),
        list(moderate(1, shifted=range(300, 550))),
        lambda told: kinds_of(told) == [("metric", "firing"), ("metric", "resolved")],
    ),
    "quality by time": Scenario(
        by_time(outcomes=some_outcomes(pane=10 * SECOND, min_coverage=0.5, baseline_n=400), rules=(WRONG,)),
        list(with_outcomes(moderate(1, count=2_400), wrong=range(1_200, 1_800))),
        lambda told: dict.fromkeys(kinds_of(told)) == dict.fromkeys([("metric", "firing"), ("metric", "resolved")]),
    ),
    "quality counted": Scenario(
        by_number(outcomes=some_outcomes(min_coverage=0.5, baseline_n=400), rules=(WRONG,)),
        list(with_outcomes(moderate(1, count=2_400), wrong=range(1_200, 1_800))),
        lambda told: dict.fromkeys(kinds_of(told)) == dict.fromkeys([("metric", "firing"), ("metric", "resolved")]),
    ),
    "outcomes early, late and never": Scenario(
        by_time(outcomes=EXPIRING),
        outcomes_at_any_time(),
        lambda told: all(told.status["join"][name] > 100 for name in ("joined", "expired", "orphans", "late")),
    ),
    "outcomes after all patience": Scenario(
        by_time(outcomes=EXPIRING),
        list(with_outcomes(moderate(1), after=60)),
        lambda told: told.status["join"]["late"] > 100,
    ),
    "resources": Scenario(
        by_number(rules=(a_rule("memory", "memory_mb", above=2.0, of=LimitBasis.SHARE, hard=True),)),
        [
            e
            for i, event in enumerate(moderate(1, count=2_000))
            for e in (event, resources(event["time"], memory_mb=100 + 200 * (i > 1_200)))
        ],
        lambda told: ("metric", "firing") in kinds_of(told),
    ),
    "no data": Scenario(
        by_time(no_data_after=MINUTE),
        a_silence_between_two_events(),
        lambda told: kinds_of(told) == [("no_data", "firing"), ("no_data", "resolved")],
    ),
    "fallback and recovery": Scenario(
        by_time(rules=(replace(SLOW, then=Consequence.FALLBACK),), serving=SERVING),
        list(moderate(1, shifted=range(300, 550))),
        lambda told: [d["reason"] for d in told.decisions()] == ["initial", "fallback_engaged", "recovered"],
    ),
    "rollback": Scenario(
        by_time(rules=(replace(SLOW, then=Consequence.ROLLBACK),), serving=SERVING),
        list(moderate(1, shifted=range(300, 550))),
        lambda told: [d["champion"] for d in told.decisions()] == ["v1", "v0"],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_goes_on_across_restarts(tmp_path: Path, name: str) -> None:
    """Begun again after every commit, and a commit after every forty records."""
    scenario = SCENARIOS[name]
    records = records_of(scenario.events)
    whole = Run(scenario.core, profiles=FILE)
    whole.feed(records)
    wanted = whole.finish()
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(scenario.core, profiles=FILE, engine=engine)

    for start in range(0, len(records), 40):
        run.feed(records[start : start + 40])
        run.commit()
        run.restart()
    told = run.finish()
    engine.dispose()

    assert scenario.tells(wanted)
    assert told == wanted


def test_an_operators_silence_outlives_a_restart(tmp_path: Path) -> None:
    """What is silenced is on record and not published; when the silence is over, what still fires is said."""
    core = by_time(rules=(SLOW,))
    records = records_of(moderate(1, shifted=range(100, 800)))
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(core, engine=engine)
    run.feed(records[:50])
    run.command(CommandName.SILENCE, for_ms=150 * SECOND)
    for start in range(50, len(records), 50):
        run.feed(records[start : start + 50])
        run.commit()
        run.restart()
    alerts = run.finish().alerts()
    engine.dispose()

    assert [(a["status"], a["silenced"], a["seq"]) for a in alerts] == [("firing", True, 1), ("firing", False, 2)]
    assert alerts[0]["event_id"] == alerts[1]["event_id"]


def test_a_reference_that_an_operator_had_learned_anew_stays_so_after_a_restart(tmp_path: Path) -> None:
    """Neither while it is learned nor afterwards does the old one come back."""
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(by_time(**DRIFTS), profiles=FILE, engine=engine)
    records = records_of(moderate(1, shifted=range(800)))
    run.feed(records[:50])
    run.command(CommandName.RELEARN, events=200)
    for start in range(50, len(records), 50):
        run.restart()
        run.feed(records[start : start + 50])
        run.commit()
        held = run.model.references
        assert (held.profile is None) == (start < 250)  # the pane in which there are 200 ends with the 280th record
    told = run.finish()
    engine.dispose()

    assert held.profile is not None
    assert held.profile.rows == 230
    assert told.alerts("drift") == []


def test_a_restart_adds_no_decision(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(by_time(), engine=engine)
    run.feed(records_of(moderate(1, count=10)))
    run.commit()
    run.restart()
    run.feed([], wall=WALL)
    run.process(Batch.empty(), WALL)
    run.commit()

    assert [d["reason"] for d in run.told().decisions()] == ["initial"]
    engine.dispose()
