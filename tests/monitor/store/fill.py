"""Commits for the tests of the store, and a look at everything that is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.pipeline.commit import PipelineCommit
from monitor.spec import Consequence, CoreSpec, Task
from monitor.store import tables as t
from monitor.store.subscriptions import STREAM_SUBSCRIPTION, Subscription
from monitor.store.writer import Claim, StoreWriter
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    Event,
    Run,
    a_core,
    a_drift,
    a_model,
    a_rule,
    counted,
    learned,
    outcome,
    prediction,
    resources,
    some_outcomes,
)

DAY = 24 * HOUR
ERRORS = a_rule("errors", "error_rate", above=0.5, hard=True, then=Consequence.FALLBACK)


def a_watched_core() -> CoreSpec:
    """A model that learns its reference, has outcomes, and an alert when its answers fail."""
    return a_core(
        a_model(
            task=Task.BINARY,
            window=counted(20, 10),
            drift=a_drift(events=10_000),
            reference=learned(150),
            outcomes=some_outcomes(),
            rules=(ERRORS,),
        )
    )


def some_events(start: int, stop: int, *, failing: bool = False) -> list[Event]:
    """A prediction a second with its outcome and resources; and rubbish now and then."""
    events: list[Event] = []
    for i in range(start, stop):
        at = T0 + i * SECOND
        more = {"error": "Timeout"} if failing else {"scores": {"1": 0.75}}
        features = {"x": float(i % 17), "word": "ab"[i % 2]}
        events.append(prediction(f"r{i}", at, None if failing else 1, features=features, **more))
        if i % 3:
            events.append(outcome(f"r{i}", at, i % 2, metrics={"revenue": float(i)}))
        if not i % 10:
            events += [resources(at, memory_mb=100.0), {"type": "rubbish", "time": at}]
    return events


def deltas(count: int) -> list[PipelineCommit]:
    """So many commits of a run, the latter ones with an alert that fires and ends, and decisions."""
    run = Run(a_watched_core())
    for i in range(count):
        run.events(*some_events(50 * i, 50 * i + 50, failing=i % 4 == 2))
    return run.told_so_far


def a_writer(
    engine: Engine,
    owner: str = "me",
    *,
    retention: int = 90 * DAY,
    subscriptions: Sequence[Subscription] = (STREAM_SUBSCRIPTION,),
) -> StoreWriter:
    """The owner of the store."""
    writer = StoreWriter(engine, owner, retention, subscriptions=subscriptions)
    assert isinstance(writer.claim(0.0, lambda name: True), Claim)
    return writer


def written(engine: Engine, count: int = 4) -> StoreWriter:
    """A store with so many commits, and its owner."""
    writer = a_writer(engine)
    for delta in deltas(count):
        writer.commit(delta, identities={"events": "topic 1"})
    return writer


def rows(engine: Engine, table: sa.Table) -> list[tuple[Any, ...]]:
    """All rows of a table, in order of its key."""
    with engine.connect() as c:
        found = c.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
    return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in found]


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    return {table.name: rows(engine, table) for table in t.metadata.sorted_tables}
