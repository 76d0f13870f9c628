"""What goes into the join of a batch and what comes out. Pure definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.join.ids import U64
from monitor.join.index import I64, Bools

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
Columns = Mapping[str, NDArray[Any]]

PAYLOAD: dict[str, type[np.generic]] = {
    "time": np.int64,  # event time, ms
    "value": np.float64,  # number or label code predicted; of a waiting outcome the actual one
    "score": np.float32,
    "variant": np.uint16,
    "segment": np.uint16,
    "served_by": np.uint8,
}


class RowKind(IntEnum):
    """What a row of a batch is."""

    SERVED = 0
    UNSERVED = 1
    OUTCOME = 2


class JoinVerdict(IntEnum):
    """What became of a row of a batch."""

    ACCEPTED = 0  # an answer that counts
    DUPLICATE = 1
    JOINED = 2  # an outcome that met an answer
    WAITING = 3  # an outcome before its answer
    LATE = 4  # an outcome after its answer expired
    CONFLICT = 5  # another actual value for the same request
    COLLISION = 6  # two requests share 64 bits of hash
    UNSAMPLED = 7  # an outcome of a request that the bound on waiting answers left out


@dataclass(frozen=True, slots=True)
class JoinRows:
    """Rows in processing order.

    `clock` is stream time when the row is processed, in ms, never decreasing. `within` and `early` are the
    patience of the row's model, in ms. `waits` is False for an answer that no outcome can score: it is
    remembered, but does not wait.
    """

    lo: U64
    hi: U64
    kind: U8
    waits: Bools
    clock: I64
    within: I64
    early: I64
    payload: Columns

    def __len__(self) -> int:
        return len(self.lo)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers that met their outcome, in the order in which that happened.

    `row` is the row of the batch that completed the pair, `slot` is where the answer's payload lies until
    the next release, `request` the low half of the request's id.
    """

    row: I64
    slot: I64
    actual: F64
    outcome_time: I64
    request: U64


@dataclass(frozen=True, slots=True)
class Agreements:
    """Two answers to one request, the served one and another, at the row that brought the second."""

    row: I64
    served_slot: I64
    other_slot: I64


@dataclass(frozen=True, slots=True)
class Joined:
    """What a batch came to. `slot` is where an accepted answer lies, -1 where it was not kept."""

    verdict: U8
    slot: I64
    pairs: Pairs
    agreements: Agreements


@dataclass(slots=True)
class JoinCounts:
    """Cumulative. `joined` and `expired` count answers, the others events."""

    joined: int = 0
    duplicates: int = 0
    conflicts: int = 0
    orphans: int = 0
    late: int = 0
    expired: int = 0
    collisions: int = 0
    unsampled: int = 0
