"""What a core tells of models with time windows does not depend on the order in which partitions are read.

The order within a partition is always the same, and here no event is behind its partition by more than the lateness.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fallback.types import ServingSpec
from monitor.spec import Consequence, CoreSpec, LimitBasis, Task
from monitor.store.engine import connect
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Event,
    Record,
    Run,
    StoredRun,
    Told,
    a_core,
    a_model,
    a_rule,
    batch_of,
    believed,
    ends_of,
    outcome,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

LATENESS = 5 * SECOND
OUTCOMES = some_outcomes(
    40 * SECOND, outcome_ttl=6 * SECOND, pane=10 * SECOND, min_coverage=0.5, baseline_n=60, concept_drift="adwin"
)
RULES = (
    a_rule("wrong", "accuracy", below=-0.2, of=LimitBasis.POINTS, min_n=5, then=Consequence.ROLLBACK, hard=True),
    a_rule("worse", "accuracy", below=-0.2, of=LimitBasis.POINTS, min_n=5),
    a_rule("few", "coverage", below=0.6, hard=True, checks=2),
    a_rule("cost", "cost", above=0.6, hard=True),
)


def a_watched_core() -> CoreSpec:
    serving = ServingSpec("v1", previous="v0", shadows=("v3",))
    watched = a_model(
        task=Task.BINARY, window=timed(10 * SECOND, 30 * SECOND), outcomes=OUTCOMES, rules=RULES,
        serving=serving, no_data_after=12 * SECOND,
    )  # fmt: skip
    return a_core(watched, a_model("n", window=timed(MINUTE, MINUTE)), lateness=LATENESS)


def partitions_of(seed: int, count: int = 500) -> list[list[Event]]:
    """Answers in two partitions, outcomes in a third, another model in the fourth; each nearly in order of time."""
    r = random.Random(seed)
    placed: list[list[tuple[int, int, Event]]] = [[], [], [], []]
    now, errs, number = T0, 0.1, 0
    for i in range(count):
        now += r.choice((100, 300, 500))
        if r.random() < 0.01:
            now += 20 * SECOND
        if r.random() < 0.02:
            errs = r.choice((0.05, 0.1, 0.7))
        actual = r.randrange(2)
        said = 1 - actual if r.random() < errs else actual
        at = now - r.randrange(3 * SECOND)
        answers = [prediction(f"r{i}", at, said, version=r.choice(("v1", "v1", "v2")))]
        if r.random() < 0.3:
            answers.append(prediction(f"r{i}", at, r.randrange(2), version="v3", served=False))
        places: list[tuple[int, Event]] = [(r.randrange(2), event) for event in answers]
        if r.random() < 0.9:
            delay = r.choice((-8_000, -2_000, 1_000, 5_000, 20_000, 39_900, 41_000))
            metrics = {"cost": round(r.random(), 2)}
            places.append((2, outcome(f"r{i}", max(at + delay, T0), actual, metrics=metrics)))
        if r.random() < 0.2:
            places.append((3, prediction(f"n{i}", now, 1.0, model="n")))
        for partition, event in places:
            number += 1
            placed[partition].append((int(event["time"]) + r.randrange(LATENESS - SECOND), number, event))
    return [[event for *_, event in sorted(part, key=lambda row: row[:2])] for part in placed]


def interleaved(parts: list[list[Event]], r: random.Random, greed: int) -> Iterator[tuple[int, Event]]:
    """(partition, event): portions of up to `greed` events of one partition after another."""
    left = {partition: list(events) for partition, events in enumerate(parts) if events}
    while left:
        partition = r.choice(list(left))
        for _ in range(r.randint(1, greed)):
            if left[partition]:
                yield partition, left[partition].pop(0)
        if not left[partition]:
            del left[partition]


def records_in(parts: list[list[Event]], seed: int, greed: int) -> list[Record]:
    order = list(interleaved(parts, random.Random(seed), greed))
    return records_of([event for _, event in order], [partition for partition, _ in order])


def by_model(told: Told) -> dict[str, list[dict[str, Any]]]:
    """What was published of each model, in order. When a model begins is dated by the first event that is read."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for what in told.published:
        found[what["model"]].append({**what, "issued_at": ""} if what.get("reason") == "initial" else what)
    return found


def replayed(records: list[Record], sizes: list[int]) -> Told:
    run = Run(a_watched_core(), ends_of(records))
    run.feed(records, sizes)
    return run.finish()


def assert_same(one: Told, other: Told) -> None:
    assert by_model(one) == by_model(other)
    assert one.history == other.history
    assert one.status["join"] == other.status["join"]
    assert one.status["events"] == other.status["events"]
    for name, model in one.status["models"].items():
        assert model["versions"] == other.status["models"][name]["versions"]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from((1, 10, 10_000)), st.integers(1, 400))
@example(1, 10_000, 37)
def test_any_order_of_partitions_tells_the_same(seed: int, greed: int, size: int) -> None:
    """Alerts and decisions in their order, history, counts; a backlog of one partition first, or all at a time."""
    parts = partitions_of(seed)

    assert_same(replayed(records_in(parts, seed, greed), [size]), replayed(records_in(parts, 0, 1), [1_000]))


def test_the_stream_of_that_law_has_everything_in_it() -> None:
    """Or it would prove little."""
    told = replayed(records_in(partitions_of(3, 3_000), 3, 1), [100])

    assert {"metric", "no_data", "concept_drift"} <= {alert["kind"] for alert in told.alerts()}
    assert len(told.decisions()) > 2
    assert all(told.status["join"][name] > 20 for name in ("joined", "late", "orphans", "expired"))
    assert told.status["models"]["m"]["versions"]["v3"]["outcomes"] > 100
    assert sum(n for *_, n in told.values("agreement", version="v3")) > 500


def what_waits(run: Run) -> tuple[int, int]:
    """(pairs, answers) of the watched model."""
    landing = run.pipeline.models[0].landing
    return len(landing.waiting), len(landing.answers)


@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_and_answers_that_wait_survive_a_crash(tmp_path: Path, seed: int) -> None:
    """Each is stored once; when nothing of a row is needed any more it is gone."""
    records = records_in(partitions_of(seed), seed, 3)
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_watched_core(), ends_of(records), engine=engine)
    held = []
    for start in range(0, len(records), 60):
        run.feed(records[start : start + 60])
        for _ in range(11):  # a few records are put off for some calls
            run.process(batch_of([]))
        run.commit()
        held.append(what_waits(run))
        run.restart()
        assert what_waits(run) == held[-1]
    told = run.finish()
    with engine.connect() as c:
        left = c.exec_driver_sql("SELECT count(*) FROM learned").scalar()
    engine.dispose()

    assert [max(counts) > 10 for counts in zip(*held, strict=True)] == [True, True]
    assert left == 0
    assert_same(told, replayed(records, [1_000]))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_answers_are_compared_once_wherever_their_outcome_comes(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Before them, between them, after them; with a restart after each."""
    events = [
        prediction("a", T0 + 2 * SECOND, 1),
        prediction("a", T0 + 4 * SECOND, 1, version="v3", served=False),
        outcome("a", T0 + 3 * SECOND, 1),
    ]
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_watched_core(), engine=engine)
    for i in order:
        run.events(*believed(events[i]))
        run.restart()
    run.events(*believed(prediction("b", T0 + 60 * SECOND, 1)))
    told = run.finish()
    engine.dispose()

    compared = told.values("agreement", version="v3")
    assert (len(compared) > 0, {(value, n) for *_, value, n in compared}) == (True, {(1.0, 1)})
