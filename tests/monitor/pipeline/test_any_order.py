"""The same answers, however the stream was read: live in any order of partitions, as a replay, and over restarts.

Partitions are logs: the order within each is always the same, and that between them never. Every model that is judged
by time belongs into `MODELS`; what a model is compared by is in `Answers`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fallback.types import ServingSpec
from monitor.pipeline.merge import Holding
from monitor.spec import Consequence, CoreSpec, FeatureKind, LimitBasis, ModelSpec, Severity, Task
from monitor.store.engine import connect
from monitor.stream.types import Partition
from monitor.times import format_time
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    WALL,
    Event,
    HistoryKey,
    Record,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_rule,
    batch_of,
    believed,
    learned,
    outcome,
    prediction,
    records_of,
    resources,
    rolled,
    some_outcomes,
    timed,
)

LATENESS = 4 * SECOND
END = T0 + HOUR  # all streams end with some events at this time, so that all panes before close
RULES = (
    a_rule("slow", "latency_p95_ms", above=40, severity=Severity.CRITICAL),
    a_rule("errors", "error_rate", above=0.2, checks=2),
)
WITHIN = 20 * SECOND
OUTCOMES = some_outcomes(
    WITHIN, outcome_ttl=6 * SECOND, pane=10 * SECOND, min_coverage=0.4, baseline_n=25, concept_drift="adwin"
)
QUALITY = (
    a_rule("wrong", "accuracy", below=-0.1, of=LimitBasis.POINTS, min_n=5, then=Consequence.ROLLBACK, hard=True),
    a_rule("worse", "accuracy", below=-0.1, of=LimitBasis.POINTS, min_n=5),
    a_rule("few", "coverage", below=0.6, hard=True, checks=2),
    a_rule("cost", "cost", above=0.9, hard=True),
)
SERVING = ServingSpec("v1", previous="v0", shadows=("v3",))
LEARNING: dict[str, Any] = {
    "window": timed(10 * SECOND, 30 * SECOND, longest=60 * SECOND, min_events=20),
    "reference": learned(60),
    "drift": a_drift(100, period=HOUR, resolve_after=2),
}
MODELS: dict[str, ModelSpec] = {
    "panes": a_model(window=timed(10 * SECOND, 10 * SECOND), rules=RULES),
    "spans": a_model(window=timed(5 * SECOND, 30 * SECOND, longest=60 * SECOND, min_events=25), rules=RULES),
    "binary": a_model(task=Task.BINARY, window=timed(10 * SECOND, 20 * SECOND)),
    "gaps": a_model(window=timed(10 * SECOND, 10 * SECOND), no_data_after=12 * SECOND),
    "outcomes": a_model(
        task=Task.BINARY, window=timed(10 * SECOND, 30 * SECOND), outcomes=OUTCOMES, rules=QUALITY, serving=SERVING
    ),
    "learning": a_model(**LEARNING),
    "extents": a_model(**{**LEARNING, "drift": replace(LEARNING["drift"], windows=(1.0, 2.0, 4.0))}),
    "rolling": a_model(
        task=Task.BINARY,
        window=timed(10 * SECOND, 20 * SECOND, longest=40 * SECOND, min_events=5),
        reference=rolled(12, 60 * SECOND),
        drift=a_drift(period=HOUR, resolve_after=2),
        feature_kinds={"x": FeatureKind.IGNORE},
        outcomes=OUTCOMES,
        serving=SERVING,
    ),
    "everything": a_model(
        task=Task.BINARY,
        outcomes=OUTCOMES,
        rules=(*RULES, *QUALITY),
        serving=SERVING,
        no_data_after=12 * SECOND,
        **LEARNING,
    ),
}
Log = list[Record]
Logs = dict[Partition, Log]


class Answers(NamedTuple):
    """What must be the same."""

    events: dict[str, int]
    duplicates: int
    versions: dict[str, int]
    windows: dict[HistoryKey, dict[str, Any]]
    pairs: dict[str, int]
    references: dict[str, tuple[int, int]]
    records: dict[str, Any]
    published: list[dict[str, Any]]
    of_partitions: list[dict[str, Any]]


def answers(told: Told) -> Answers:
    """What happened up to the end of the streams: then a replay goes on to close its last panes.

    When a model begins is dated by the first event that is read, and is left out.
    """
    join, model = told.status["join"], told.status["models"]["m"]
    until = format_time(END - LATENESS)
    published = [without_last_digits(w) for w in told.published if w["issued_at"] <= until]
    return Answers(
        events=told.status["events"],
        duplicates=join["duplicates"],
        versions={name: v["predictions"] for name, v in model["versions"].items()},
        windows={key: rounded(row) for key, row in told.history.items() if is_final(key)},
        pairs={name: join[name] for name in ("joined", "late", "conflicts")},
        references={
            "": (model["reference_rows"], 0),
            **{name: (v["reference_rows"], v["baseline_rows"]) for name, v in model["versions"].items()},
        },
        records={name: model["reference"][name] for name in ("number", "origin", "since", "answers")},
        published=[w for w in published if w["model"] and w.get("reason") != "initial"],
        of_partitions=sorted((w for w in published if not w["model"]), key=lambda w: (w["fingerprint"], w["seq"])),
    )


def is_final(key: HistoryKey) -> bool:
    """Whether the window ended, and its last outcomes came, before the streams did."""
    _, _, of_outcomes, _, end = key
    return end + (WITHIN if of_outcomes else 0) <= END - LATENESS


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Without the last digits: sums are rounded, and so depend on the order of what is added."""
    values = {name: (f"{float(v):.9g}", n) for name, (v, n) in row["values"].items()}
    return {**row, "values": values}


def without_last_digits(what: Any) -> Any:
    """Sums are rounded, and so depend on the order of what is added."""
    match what:
        case float():
            return f"{what:.9g}"
        case dict():
            return {key: without_last_digits(value) for key, value in what.items()}
        case list():
            return [without_last_digits(value) for value in what]
    return what


# -- streams -------------------------------------------------------------------------------------------------


@dataclass
class Written:
    """The log of a partition while it is written: events with the time at which each is."""

    r: random.Random
    number: int
    events: list[tuple[int, Event | bytes | None]] = field(default_factory=list)

    def write(self, count: int) -> None:
        """Events in disorder, late ones, some far ahead, gaps, repeats, rubbish."""
        r = self.r
        now = T0 + r.randrange(5) * SECOND
        pace = r.choice((100, 700, 2_500))
        for i in range(count):
            now += r.choice((0, pace, 2 * pace)) + (r.random() < 0.02) * 90 * SECOND
            if r.random() < 0.05:
                self.events.append((now, r.choice((b"rubbish", None, b"{}"))))
                continue
            late = r.choice((0, 0, 0, 1, 3, 6, 20)) * SECOND
            ahead = (r.random() < 0.03) * r.choice((9, 55)) * 60 * SECOND
            event = an_event(r, f"{self.number} {i}", min(now - late + ahead, END - 30 * SECOND))
            self.events += [(now, event)] * (2 if r.random() < 0.05 else 1)

    def log(self) -> list[Event | bytes | None]:
        """In the order in which they are; the last ones end all panes."""
        self.events.sort(key=lambda at: at[0])
        return [event for _, event in self.events] + list(believed(prediction(f"{self.number} last", END, 1.0)))


def an_event(r: random.Random, name: str, time: int) -> Event:
    if r.random() < 0.1:
        return resources(time, memory_mb=r.randrange(400) / 4, version=r.choice(("v1", "v2")))
    moved = (time - T0) // (100 * SECOND) % 2
    more: dict[str, Any] = {"version": r.choice(("v1", "v1", "v2", "v9")), "latency_ms": r.randrange(200) / 4}
    more["features"] = {"x": round(r.gauss(3.0 * moved, 1.0), 3), "word": r.choice(("red", "green", "blue")[moved:])}
    if r.random() < 0.3:
        more["metrics"] = {"cost": r.randrange(8) / 4}
    if r.random() < 0.15:
        return prediction(name, time, None, error="Timeout", **more)
    return prediction(name, time, r.choice((0, 1)), **more)


def add_what_follows(r: random.Random, logs: Sequence[Written]) -> None:
    """Shadows answer some of the requests, and most have an outcome, each in any partition."""
    asked = {
        str(event["request_id"]): (now, event)
        for log in logs
        for now, event in log.events
        if isinstance(event, dict) and event["type"] == "prediction"
    }
    for request, (now, event) in asked.items():
        time, value = int(event["time"]), event.get("prediction")
        if r.random() < 0.3:
            shadow = prediction(request, time, r.choice((0, 1)), version="v3", served=False)
            r.choice(logs).events.append((now + r.choice((-1, 0, 3)) * SECOND, shadow))
        if r.random() < 0.85:
            fails = (time - T0) // (150 * SECOND) % 2
            actual = r.choice((0, 1)) if value is None else (1 - value if r.random() < 0.1 + 0.6 * fails else value)
            delay = r.choice((-8_000, -2_000, 1_000, 5_000, 15_000, WITHIN - 100, WITHIN + 1_000))
            at = min(max(time + delay, T0), END - 30 * SECOND)
            its = outcome(request, at, actual, metrics={"cost": r.randrange(8) / 4})
            r.choice(logs).events.append((now + delay + r.choice((0, 0, 2, 9)) * SECOND, its))


def logs_of(seed: int, sizes: Sequence[int]) -> Logs:
    r = random.Random(seed)
    logs = [Written(r, number) for number in range(len(sizes))]
    for log, size in zip(logs, sizes, strict=True):
        log.write(size)
    add_what_follows(r, logs)
    return {Partition("events", i): records_of(log.log(), [i] * 10_000) for i, log in enumerate(logs)}


# -- ways of reading -----------------------------------------------------------------------------------------


class Reader:
    """Feeds a run with what partitions hold, in any portions; a restart reads on where the last commit was."""

    def __init__(self, run: Run, logs: Logs, dice: random.Random) -> None:
        self.run, self.logs, self.dice = run, logs, dice

    @property
    def unread(self) -> list[Partition]:
        positions = self.run.pipeline.merge.positions
        return [p for p, log in self.logs.items() if positions[p] < len(log)]

    def read(self) -> Told:
        while self.unread:
            self.step()
            self.interrupt()
        return self.run.finish()

    def step(self) -> None:
        dice = self.dice
        portions = []
        for p in dice.sample(self.unread, dice.randint(0, len(self.unread))):
            start = self.run.pipeline.merge.positions[p]
            portions.append(iter(self.logs[p][start : start + dice.choice((1, 10, 100, 1_000))]))
        records: list[Record] = []
        while portions:  # in rows that are mixed
            portion = dice.choice(portions)
            record = next(portion, None)
            if record is None:
                portions.remove(portion)
            else:
                records.append(record)
        self.process(records)

    def process(self, records: list[Record]) -> None:
        """A replay knows by its ends whom it waits for."""
        self.run.session.process(batch_of(records), WALL)

    def interrupt(self) -> None:
        drawn = self.dice.random()
        if drawn < 0.3:
            self.run.commit()
        if drawn < 0.2 and isinstance(self.run, StoredRun):
            self.run.restart()


class LiveReader(Reader):
    """Waits now and then for some of those who have more to bring, and nobody is idle."""

    def process(self, records: list[Record]) -> None:
        unread = self.unread
        waiting = self.dice.sample(unread, self.dice.randint(0, len(unread)))
        self.run.session.process(batch_of(records), WALL, Holding(waiting=waiting))

    def read(self) -> Told:
        while self.unread:
            self.step()
            self.interrupt()
        self.run.session.process(batch_of([]), WALL)
        return self.run.finish()


class HeldReader(LiveReader):
    """Partitions are parked now and then, and the others wait for them."""

    def process(self, records: list[Record]) -> None:
        held = self.dice.sample(sorted(self.logs), self.dice.randint(0, len(self.logs)))
        waiting = {*held, *self.dice.sample(self.unread, self.dice.randint(0, len(self.unread)))}
        self.run.session.process(batch_of(records), WALL, Holding(waiting=waiting, held=held))


def ends_of(logs: Logs) -> dict[Partition, int]:
    return {p: len(log) for p, log in logs.items()}


def replay_of(core: CoreSpec, logs: Logs) -> Run:
    """All at once."""
    run = Run(core, ends_of(logs))
    run.feed([record for log in logs.values() for record in log])
    return run


def replayed(core: CoreSpec, logs: Logs) -> Answers:
    """What all others are compared with."""
    return answers(replay_of(core, logs).finish())


def begins_with_a_gap(replay: Run, told: Answers) -> bool:
    """Whether an alert says that a model was silent from when it was expected on, before anything of it came."""
    model = replay.model
    since = model.no_data.expected_from
    starts_at = None if since is None else format_time(since + model.spec.no_data_after)
    return any(record.get("kind") == "no_data" and record["starts_at"] == starts_at for record in told.published)


sizes = st.lists(st.sampled_from((0, 3, 30, 120, 300)), min_size=1, max_size=4)
seeds = st.integers(0, 10**6)
of_all_models = pytest.mark.parametrize("model", MODELS)


@pytest.mark.slow
@of_all_models
@settings(max_examples=12)
@given(seeds, sizes, seeds)
@pytest.mark.parametrize("reader", [LiveReader, HeldReader])
def test_live_in_any_order_of_partitions_it_is_as_in_a_replay(
    reader: type[Reader], model: str, seed: int, sizes: list[int], arrival: int
) -> None:
    """But of a model that never sent anything, which live is expected from the start on (docs/operations.md)."""
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(seed, sizes)
    replay, run = replay_of(core, logs), Run(core, partitions=range(len(sizes)))
    expected = answers(replay.finish())
    assume(not begins_with_a_gap(replay, expected))

    assert answers(reader(run, logs, random.Random(arrival)).read()) == expected


@pytest.mark.slow
@of_all_models
@settings(max_examples=12)
@given(seeds, sizes, seeds)
def test_a_replay_may_read_the_partitions_in_any_portions(
    model: str, seed: int, sizes: list[int], arrival: int
) -> None:
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(seed, sizes)
    run = Run(core, ends_of(logs))

    assert answers(Reader(run, logs, random.Random(arrival)).read()) == replayed(core, logs)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., StoredRun]:
    """Makes runs, each on a database of its own."""
    made: list[StoredRun] = []

    def make(core: CoreSpec, **options: Any) -> StoredRun:
        run = StoredRun(core, engine=connect(f"sqlite:///{tmp_path}/{len(made)}.db"), **options)
        made.append(run)
        return run

    return make


@pytest.mark.slow
@of_all_models
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds, sizes, seeds, st.booleans())
def test_restarts_at_random_commits_change_nothing(
    stored: Callable[..., StoredRun], model: str, seed: int, sizes: list[int], arrival: int, replay: bool
) -> None:
    """What was in hand and not processed is read again."""
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(seed, sizes)
    run = stored(core, ends=ends_of(logs)) if replay else stored(core, partitions=range(len(sizes)))
    reader = Reader if replay else LiveReader

    assert answers(reader(run, logs, random.Random(arrival)).read()) == replayed(core, logs)


@of_all_models
@pytest.mark.parametrize("reader", [Reader, LiveReader, HeldReader])
def test_one_stream_in_every_way(reader: type[Reader], model: str) -> None:
    """The quick one of the laws above."""
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(5, [120, 30, 3])
    run = Run(core, ends_of(logs)) if reader is Reader else Run(core, partitions=range(3))

    assert answers(reader(run, logs, random.Random(5)).read()) == replayed(core, logs)


def test_the_streams_hold_what_can_go_wrong() -> None:
    """Or the laws would prove little."""
    found = replayed(a_core(MODELS["everything"], lateness=LATENESS), logs_of(1, [300, 300, 120]))

    assert min(found.events[name] for name in ("late_predictions", "dead_letters", "resources", "outcomes")) > 10
    assert found.events["late_after_idle"] == 0
    assert found.duplicates > 10
    assert min(found.pairs["joined"], found.pairs["late"]) > 10
    assert len(found.windows) > 50
    assert found.references[""][0] >= 60
    assert all(found.references[name][0] > 0 for name, predictions in found.versions.items() if predictions)
    kinds = {what.get("kind") or what["reason"] for what in found.published}
    assert kinds >= {"metric", "drift", "data_quality", "no_data", "rule_breached", "rollback"}
