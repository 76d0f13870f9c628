"""Random streams for the tests of the join, and the way from an event to a row."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.join.rows import JoinRows, RowKind
from tests.monitor.join.one_by_one import Event

VARIANTS = (1, 2, 3, 65)  # 1 and 65 share a bit of the mark
T0 = 1_000


def random_events(r: random.Random, count: int, requests: int) -> list[Event]:
    """Answers served and not, outcomes before and after them, repeats, contradictions, pauses."""
    clock, events = T0, []
    for _ in range(count):
        clock += r.choice((0, 0, 1, 3))
        time = clock - r.randrange(5)
        request, value = r.randrange(requests), float(r.randrange(3))
        if r.random() < 0.4:
            events.append(Event(request, time, clock, value, effective=clock + r.choice((0, 0, 0, 5))))
        else:
            served = r.random() < 0.6
            waits = served or r.random() < 0.8
            events.append(Event(request, time, clock, value, r.choice(VARIANTS), served, waits))
    return events


def keys_for(r: random.Random, requests: int, *, crowded: bool = False) -> NDArray[np.uint64]:
    """Distinct keys; crowded ones all want the same few cells of an index."""
    if crowded:
        return (np.arange(1, requests + 1, dtype=np.uint64) << np.uint64(40)) | np.uint64(4000)
    drawn = np.random.default_rng(r.getrandbits(32)).choice(2**40, requests, replace=False).astype(np.uint64)
    return (drawn << np.uint64(20)) + drawn + np.uint64(1)


def rows_of(
    events: Sequence[Event],
    keys: NDArray[np.uint64],
    prediction_ttl: int,
    outcome_ttl: int,
    pane: int = 0,
    *,
    keeps: bool = False,
) -> JoinRows:
    """Rows of a batch."""
    lo = keys[[e.request for e in events]]
    count = len(events)
    kinds = [RowKind.OUTCOME if e.variant is None else RowKind.SERVED if e.served else RowKind.UNSERVED for e in events]
    return JoinRows(
        lo=lo,
        hi=lo + np.uint64(1),
        kind=np.array(kinds, np.uint8),
        waits=np.array([e.waits for e in events], np.bool_),
        watermark=np.array([e.clock for e in events], np.int64),
        effective_time=np.array([e.own_time for e in events], np.int64),
        prediction_ttl=np.full(count, prediction_ttl, np.int64),
        outcome_ttl=np.full(count, outcome_ttl, np.int64),
        pane_width=np.full(count, pane, np.int64),
        keeps_outcome=np.full(count, keeps, np.bool_),
        payload={
            "time": np.array([e.time for e in events], np.int64),
            "value": np.array([e.value for e in events], np.float64),
            "score": np.zeros(count, np.float32),
            "variant": np.array([e.variant or 0 for e in events], np.uint16),
            "segment": np.zeros(count, np.uint16),
            "served_by": np.zeros(count, np.uint8),
        },
    )
