"""Define what goes into the join of a batch. Pure definitions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import Columns, Keys, Mask, Milliseconds

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


@dataclass(frozen=True, slots=True)
class JoinRows:
    """Rows of a batch in processing order: predictions (answers) and outcomes.

    Attributes:
        lo: Low half of the hash of each row's request id: its key.
        hi: High half, to tell requests apart that share a key.
        kind: `RowKind` as uint8.
        waits: False for an answer that no outcome can score: it is remembered, but does not wait.
        watermark: Stream time when the row is processed, ms, never decreasing. It decides what is forgotten, nothing
            else.
        effective_time: Effective time of the row's event, ms: at least its event time, less than `2**32` ms later.
        prediction_ttl: The least time from a prediction of the row's model to an outcome that is late for it, ms.
        outcome_ttl: The least time from an outcome of the row's model to a prediction that it is too early for, ms.
        pane_width: How far a prediction of the row's model may be behind stream time, ms.
        keeps_outcome: Whether an outcome is kept for answers that were not served, after it met the served one.
        payload: The columns of PAYLOAD, and optionally "pane", the outcome panes of answers where they are
            known before the join; the others are given afterwards (`JoinTable.assign_panes`).
    """

    lo: Keys
    hi: Keys
    kind: NDArray[np.uint8]
    waits: Mask
    watermark: Milliseconds
    effective_time: Milliseconds
    prediction_ttl: Milliseconds
    outcome_ttl: Milliseconds
    pane_width: Milliseconds
    keeps_outcome: Mask
    payload: Columns

    def __len__(self) -> int:
        return len(self.lo)
