"""The user's own metrics of outcomes that wait: which are kept, and that outcomes without any cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monitor.join.results import Joined, JoinVerdict
from monitor.pipeline.early_metrics import EarlyMetrics
from tests.monitor.events.decoding import an_outcome, decode

NOTHING = np.zeros(0, np.int64)


class Looked(np.ndarray[Any, Any]):
    """A column that counts the rows that are looked at one by one."""

    rows = 0

    def __getitem__(self, at: Any) -> Any:
        Looked.rows += 1
        return super().__getitem__(at)


def add(it: EarlyMetrics, outcomes: Sequence[tuple[str, dict[str, float] | None]]) -> list[int]:
    """Add outcomes that wait, given by request and metrics; returns their keys."""
    events, refused = decode(*(an_outcome(request_id=request, metrics=metrics) for request, metrics in outcomes))
    assert not refused
    Looked.rows = 0
    verdict = np.full(len(events.lo), JoinVerdict.JOINED, np.uint8)
    it.add(replace(events, model=events.model.view(Looked)), Joined(verdict, NOTHING, (), ()))  # type: ignore[arg-type]
    return [int(key) for key in events.lo]


def waiting() -> EarlyMetrics:
    return EarlyMetrics(lambda k: np.ones(len(k), np.bool_), lambda k: np.zeros(len(k), np.bool_), lambda m, n: True, 4)


def test_outcomes_without_metrics_are_not_looked_at_one_by_one() -> None:
    it = waiting()
    add(it, [(f"r{i}", None) for i in range(500)])
    none = Looked.rows
    kept = add(it, [("early", {"cost": 1.0})])
    add(it, [(f"r{i}", None) for i in range(500)])

    assert none == Looked.rows == 0
    assert it.by_request == {kept[0]: {"cost": 1.0}}


def test_a_later_outcome_without_metrics_voids_those_of_an_earlier_one() -> None:
    """In the same batch, in another one, and where they were stored in between."""
    together, apart, stored = waiting(), waiting(), waiting()
    add(together, [("r", {"cost": 1.0}), ("s", None), ("r", None)])
    for it in (apart, stored):
        key = add(it, [("r", {"cost": 1.0})])[0]
        if it is stored:
            it.drain_changes(0)
        add(it, [("s", None), ("r", None)])

    assert together.by_request == apart.by_request == stored.by_request == {key: {}}


def test_rows_of_which_little_waits_are_written_together() -> None:
    """Else one request that waits would keep all that were ever stored beside it."""
    ended: set[int] = set()
    it = EarlyMetrics(
        lambda keys: np.array([key not in ended for key in keys.tolist()], np.bool_),
        lambda keys: np.zeros(len(keys), np.bool_), lambda model, name: True, 1,
    )  # fmt: skip
    rows: dict[str, bytes] = {}
    for commit in range(50):
        keys = add(it, [(f"r{commit}-{i}", {"cost": 1.0}) for i in range(20)])
        stored, over = it.drain_changes(0)
        rows |= dict(stored)
        ended |= set(keys[1:])
        it.forget(np.array(keys[1:], np.uint64))
        rows = {subject: body for subject, body in rows.items() if subject not in over}

    assert len(rows) <= 3
    assert len(it.by_request) == 50
    it.restore({}, {0: {subject: [body] for subject, body in rows.items()}})
    assert len(it.by_request) == 50
