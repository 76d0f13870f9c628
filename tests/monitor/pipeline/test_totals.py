"""The numbers of the status document against those of an auditor who counts record by record."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.spec import CoreSpec
from tests.monitor.auditor import Auditor, Watched, audited
from tests.monitor.kit import (
    SECOND,
    T0,
    WALL,
    Record,
    Run,
    a_core,
    a_model,
    ends_of,
    outcome,
    prediction,
    records_of,
    some_outcomes,
)
from tests.monitor.random_streams import a_busy_core, random_records


def without_references(lateness: int) -> CoreSpec:
    core = a_busy_core(lateness=lateness)
    return replace(core, models=tuple(replace(m, drift=None, rules=()) for m in core.models))


def an_auditor(core: CoreSpec, records: list[Record]) -> Auditor:
    models = {
        m.name: Watched(
            m.task.value,
            m.window.pane,
            m.outcomes.prediction_ttl if m.outcomes else 0,
            m.outcomes.outcome_ttl if m.outcomes else 0,
            m.window.pane > 0 and m.outcomes is not None and bool(m.serving.shadows or m.serving.ensemble),
        )
        for m in core.models
    }
    auditor = Auditor(models, core.allowed_lateness, core.max_future, WALL)
    return audited(auditor, [(r.partition.number, r.value) for r in records])


@pytest.mark.slow
@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.sampled_from((1, 2, 4)),
    st.sampled_from((0, 2, 8)),
    st.lists(st.integers(7, 300), min_size=1, max_size=5),
)
def test_a_replay_counts_what_an_auditor_counts(seed: int, partitions: int, lateness: int, sizes: list[int]) -> None:
    core = without_references(lateness * SECOND)
    records = random_records(random.Random(seed), 700, core, partitions=partitions)
    run = Run(core, ends_of(records))
    run.feed(records, sizes)
    status = run.finish().status

    auditor = an_auditor(core, records)

    wanted = dict.fromkeys(status["events"], 0) | dict(auditor.events) | {"ignored": dict(auditor.ignored)}
    assert status["events"] == wanted
    assert status["join"] == {**auditor.join(), "early_metrics_dropped": 0}
    counted = {
        (model, version): (found["predictions"], found["outcomes"])
        for model, of_model in status["models"].items()
        for version, found in of_model["versions"].items()
        if found["predictions"]
    }
    assert counted == auditor.versions()


def test_the_auditor_sees_everything_that_can_happen_to_a_record() -> None:
    """Or the law above would prove little."""
    core = without_references(2 * SECOND)
    records = random_records(random.Random(1), 3_000, core, partitions=2)
    auditor = an_auditor(core, records)

    assert min(auditor.events.values()) > 10
    assert min(auditor.join().values()) > 10


@pytest.mark.parametrize("failed", [False, True])
def test_a_request_with_a_shadow_joins_twice_and_a_failed_attempt_does_not_join(failed: bool) -> None:
    """`joined` counts answers; an attempt that failed before the fallback has nothing to be scored."""
    shadow: dict[str, Any] = {"served": False, "version": "v0", **({"error": "Timeout"} if failed else {})}
    run = Run(a_core(a_model(outcomes=some_outcomes())))
    run.events(
        prediction("1", T0, 1.0),
        prediction("1", T0, None if failed else 2.0, **shadow),
        outcome("1", T0 + SECOND, 1.5),
    )
    told = run.told()

    assert told.status["join"]["joined"] == (1 if failed else 2)
    assert told.status["models"]["m"]["versions"]["v0"]["predictions"] == 1


@pytest.mark.parametrize("served_first", [True, False])
def test_where_no_outcomes_come_an_answer_beside_the_served_one_takes_nothing_from_it(served_first: bool) -> None:
    answers = [prediction("1", T0, 1.0), prediction("1", T0, 2.0, version="v2", served=False)]
    run = Run(a_core(a_model()))
    run.events(*(answers if served_first else reversed(answers)), *answers)

    versions = run.told().status["models"]["m"]["versions"]
    assert {version: found["predictions"] for version, found in versions.items()} == {"v1": 1, "v2": 1}
    assert run.told().status["join"]["duplicates"] == 2


def test_times_in_seconds_are_dead_letters_that_ask_for_the_unit() -> None:
    """Taken for milliseconds, all of a stream would be of one hour in January 1970."""
    seconds = T0 // 1_000
    run = Run(a_core(a_model(outcomes=some_outcomes())))
    run.events(*(prediction(f"{i}", seconds + i, 1.0) for i in range(3)), outcome("1", seconds + 60, 1.5))
    told = run.finish()

    assert [(d["reason"], d["detail"].rpartition(" ")[2]) for d in told.dead_letters] == [("bad_time", "seconds?")] * 4
    assert told.status["models"]["m"]["versions"] == {}


def test_dead_letters_say_where_they_lay_and_why() -> None:
    run = Run(replace(a_core(a_model()), refuse_unknown_models=True), partitions=(0, 1))
    run.feed(records_of([b"{", prediction("1", T0), prediction("1", T0 + 5, model="who")], [0, 1, 1]))
    told = run.finish()

    assert [(d["partition"], d["offset"], d["reason"]) for d in told.dead_letters] == [
        (0, 0, "not_json"),
        (1, 1, "unknown_model"),
    ]
    assert told.status["dead_letters_by_reason"] == {"not_json": 1, "unknown_model": 1}
