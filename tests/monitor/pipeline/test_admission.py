"""Versions and labels past their limits: who is counted by name does not depend on how the stream was read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from monitor.events.codes import OTHER
from monitor.spec import CoreSpec, Limits, Task
from monitor.store.engine import connect
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    SMALL,
    T0,
    Event,
    Record,
    Run,
    StoredRun,
    Told,
    a_core,
    a_model,
    believed,
    counted,
    cut,
    ends_of,
    outcome,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

LIMITS: Limits = replace(SMALL, versions=3, labels=3, segments=3)
NAMES = "jihgfedcba"


def the_core(**parts: Any) -> CoreSpec:
    known = {"task": Task.MULTICLASS, "window": timed(MINUTE, 2 * MINUTE), "outcomes": some_outcomes(pane=MINUTE)}
    return a_core(a_model(**{**known, **parts}), limits=LIMITS)


def logs_of(dice: random.Random, partitions: int) -> list[list[Event]]:
    """Partitions in the order of time, each with names of its own choice; v1 ends all panes."""
    logs = []
    for number in range(partitions):
        log: list[Event] = []
        for i in range(dice.randint(5, 40)):
            at = T0 + dice.randrange(6 * MINUTE)
            name = dice.choice(NAMES[: 4 + at % 7])
            more: dict[str, Any] = {"version": name, "segment": name, "latency_ms": 8, "metrics": {"cost": 2.0}}
            log.append(prediction(f"{number}.{i}", at, name, **more))
            log.append(outcome(f"{number}.{i}", at + dice.randrange(90) * SECOND, name))
        log.append(prediction(f"{number}.end", T0 + 10 * MINUTE, log[0]["prediction"]))
        logs.append(sorted(log, key=lambda event: event["time"]))
    return logs


def interleaved(logs: list[list[Event]], dice: random.Random) -> list[Record]:
    """All events in an order that the dice choose."""
    rest = {number: list(log) for number, log in enumerate(logs)}
    events, numbers = [], []
    while any(rest.values()):
        number = dice.choice([number for number, log in rest.items() if log])
        events.append(rest[number].pop(0))
        numbers.append(number)
    return records_of(events, numbers)


def counts(told: Told) -> dict[Any, Any]:
    """What is counted: by version and window, all of predictions, and of outcomes how many there are of them."""
    found = {}
    for (_, version, of_outcomes, start, end), row in told.history.items():
        wanted = {".accuracy", ".label_delay_s"} if of_outcomes else row["values"].keys() - {".throughput"}
        found[version, of_outcomes, start, end] = (
            {n: v for n, v in row["values"].items() if n in wanted},
            row["coverage"],
        )
    versions = told.status["models"]["m"]["versions"]
    return found | {v: (its["predictions"], its["outcomes"]) for v, its in versions.items()}


def admitted(run: Run) -> dict[str, set[str]]:
    versions = {v.version for v in run.pipeline.variants.table if v.version and not run.model.versions.is_alias(v.code)}
    return {
        "versions": versions,
        "labels": set(run.model.labels.codes.texts.values()),
        "segments": set(run.pipeline.decoder.segments.texts.values()),
    }


def by_hand(logs: list[list[Event]], *, have: frozenset[str]) -> set[str]:
    """The first names by pane and alphabet, beside those that have a place anyway."""
    first: dict[str, int] = {}
    for event in (event for log in logs for event in log if event["time"] < T0 + 10 * MINUTE):
        name = event.get("prediction", event.get("actual"))
        first[name] = min(first.get(name, event["time"]), event["time"])
    ranked = sorted((at // MINUTE, name) for name, at in first.items() if name not in have)
    return {name for _, name in ranked[: 3 - len(have)]} | have


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
@example(7, 3)
def test_any_interleaving_counts_the_same_by_version(seed: int, partitions: int) -> None:
    logs = logs_of(random.Random(seed), partitions)
    found = []
    for order in (1, 2):
        dice = random.Random(seed + order)
        records = interleaved(logs, dice)
        run = Run(the_core(), ends_of(records))
        run.feed(records, [dice.choice((1, 3, 10, 100)) for _ in range(50)])
        told = run.finish()
        found.append((counts(told), admitted(run)))

    assert found[0] == found[1]
    assert found[0][1]["versions"] - {OTHER} == by_hand(logs, have=frozenset({"v1"}))
    assert found[0][1]["labels"] - {OTHER} == by_hand(logs, have=frozenset())


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('store')}/driftd.db")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("seed", range(4))
def test_a_run_begun_again_while_texts_wait_counts_the_same(seed: int, engine: Engine) -> None:
    """Provisional codes and aliases come back, and nothing of an alias is counted twice."""
    logs = logs_of(random.Random(seed), 3)
    dice = random.Random(seed)
    records = interleaved(logs, dice)
    run = StoredRun(the_core(), ends_of(records), engine=engine)
    for part in cut(records, [9]):
        run.feed(part)
        run.commit()
        if dice.random() < 0.5:
            run.restart()
    interrupted = run.finish()
    straight = Run(the_core(), ends_of(records))
    straight.feed(records)

    assert run.restarts > 3
    assert counts(interrupted) == counts(straight.finish())
    assert admitted(run) == admitted(straight)


def test_a_version_that_is_not_admitted_is_counted_as_other_from_its_first_answer() -> None:
    """Its pane is part of the pane of OTHER when that is closed, and its own state is gone."""
    names = ["d", "b", "c", "a"]  # v1 has a place, two are left
    events = [prediction(f"{name}{i}", T0 + i, "x", version=name) for name in names for i in range(5)]
    run = Run(the_core())
    run.events(*events)
    assert run.told().status["models"]["m"]["versions"].keys() == {
        "a",
        "b",
        "c",
        "d",
        "v1",
    }  # the champion, which sent nothing

    run.events(*believed(prediction("end", T0 + MINUTE, "x")), prediction("d9", T0 + MINUTE, "x", version="d"))

    versions = run.told().status["models"]["m"]["versions"]
    assert {version: its["predictions"] for version, its in versions.items()} == {
        "a": 5, "b": 5, OTHER: 11, "v1": 1,
    }  # fmt: skip
    assert [row[2:] for row in run.told().values("predictions", version=OTHER)] == [(10.0, 10)]


def test_a_repeat_of_an_answer_of_a_version_that_was_not_admitted_is_a_duplicate() -> None:
    """Under whatever code it was counted first."""
    first = [prediction("1", T0, "x", version=name) for name in ("c", "b", "a")]
    run = Run(the_core())
    run.events(*first, prediction("end", T0 + MINUTE, "x"))
    run.events(prediction("2", T0 + MINUTE, "x", version="c"), prediction("2", T0 + MINUTE, "x", version="c"))

    assert run.told().status["join"]["duplicates"] == 1


def test_counted_windows_admit_at_once() -> None:
    """In the order of processing, as in 0.1.0."""
    run = Run(the_core(window=counted(10, 10), outcomes=some_outcomes()))
    run.events(*(prediction(name, T0, name, version=name) for name in "dcba"))

    assert run.told().status["models"]["m"]["versions"].keys() == {"d", "c", "v1", OTHER}
    assert set(run.model.labels.codes.texts.values()) == {"d", "c", "b", OTHER}
