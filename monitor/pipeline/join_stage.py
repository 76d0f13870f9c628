"""The join of a batch of events: which are late, what waits for how long, what meets.

Pure. This is where models and their configuration meet the join, which knows of neither.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.types import BoolArray, IntArray
from monitor.events.codes import Variants
from monitor.events.columns import EventKind, Events
from monitor.join.log import JoinLog
from monitor.join.results import Joined
from monitor.join.rows import JoinRows
from monitor.join.table import JoinTable
from monitor.spec import CoreSpec
from monitor.stream.watermark import UNKNOWN

_UNSERVED_TTL: Final = 600_000  # ms that answers beside a served one may precede it where no outcome is expected


class JoinStage:
    """Joins the events of all models."""

    def __init__(self, spec: CoreSpec, variants: Variants) -> None:
        self._variants = variants
        self.table = JoinTable(spec.limits.pending, spec.limits.seen)
        self.log = JoinLog(self.table)
        self._allowed_lateness = spec.allowed_lateness
        self._pane = np.array([m.window.pane for m in spec.models], np.int64)
        self._expects = np.array([m.outcomes is not None for m in spec.models], np.bool_)
        expected = [m.outcomes for m in spec.models]
        self._prediction_ttl = np.array([o.prediction_ttl if o else _UNSERVED_TTL for o in expected], np.int64)
        self._outcome_ttl = np.array([o.outcome_ttl if o else 0 for o in expected], np.int64)

    def join(self, events: Events, watermark: IntArray) -> tuple[Joined, BoolArray]:
        """Join what can be joined.

        Args:
            events: The batch.
            watermark: Stream time at each event, ms, below zero where not known.

        Returns:
            The result by event, and which events came after their pane had closed.
        """
        model = events.model
        answer = events.kind <= EventKind.UNSERVED
        outcome = events.kind == EventKind.OUTCOME
        late = ~outcome & self._late(events, watermark)
        expects = self._expects[model]
        rows = np.flatnonzero((answer & ~late) | (outcome & expects))
        self.table.count_orphans(int(np.count_nonzero(outcome & ~expects)))
        failed_attempt = events.failed & (events.kind == EventKind.UNSERVED)
        joined = self.table.join(
            JoinRows(
                lo=events.lo[rows],
                hi=events.hi[rows],
                kind=events.kind[rows],
                waits=(expects & ~failed_attempt)[rows],
                watermark=np.maximum(watermark[rows], 0),
                prediction_ttl=self._prediction_ttl[model[rows]],
                outcome_ttl=self._outcome_ttl[model[rows]],
                payload={
                    "time": events.time[rows],
                    "value": events.value[rows],
                    "score": events.score[rows].astype(np.float32),
                    "variant": events.variant[rows],
                    "segment": events.segment[rows],
                    "served_by": events.served_by[rows],
                },
            )
        )
        return joined.spread(rows, len(events)), late

    def _late(self, events: Events, watermark: IntArray) -> BoolArray:
        """Events whose pane has closed, and those so old that repeats of them may be forgotten."""
        width = self._pane[events.model]
        closes = (events.time // np.maximum(width, 1) + 1) * width
        late: BoolArray = (width > 0) & (closes <= watermark)
        if self.table.horizon is not None:
            late |= events.time < self.table.horizon + self._allowed_lateness
        return late

    def expire(self, watermark: int, *, everything: bool) -> None:
        """Give up what has waited too long, and keep the number of waiting predictions bounded."""
        owner = self._variants.model_of()
        ttls = (
            np.where(owner >= 0, column[np.maximum(owner, 0)], 0)
            for column in (self._prediction_ttl, self._outcome_ttl)
        )
        if watermark != UNKNOWN:
            self.table.expire(watermark, *ttls, everything=everything)
        self.table.downsample_pending()

    def totals(self) -> dict[str, int]:
        """Return the cumulative counts that the status shows."""
        c = self.table.counts
        return {
            "joined": c.joined, "duplicates": c.duplicates, "conflicts": c.conflicts, "orphans": c.orphans,
            "late": c.late, "expired": c.expired, "pending": self.table.waiting,
        }  # fmt: skip
