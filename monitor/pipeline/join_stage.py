"""The join of a batch of events: what waits for how long, what meets.

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
from monitor.spec import CoreSpec, ModelSpec
from monitor.stream.watermark import UNKNOWN

_MOST_BEHIND: Final = (1 << 32) - 1  # ms that an outcome's own time can be behind its effective time
_UNSERVED_TTL: Final = 600_000  # ms that answers beside a served one may precede it where no outcome is expected


class JoinStage:
    """Joins the events of all models."""

    def __init__(self, spec: CoreSpec, variants: Variants) -> None:
        self._variants = variants
        self.ended_kept = spec.limits.ended  # requests of which details are stored, about
        self.table = JoinTable(spec.limits.pending, spec.limits.seen, note_ended=spec.limits.ended > 0)
        self.log = JoinLog(self.table)
        self._expects = np.array([m.outcomes is not None for m in spec.models], np.bool_)
        self._pane = np.array([m.window.pane for m in spec.models], np.int64)
        expected = [m.outcomes for m in spec.models]
        self._prediction_ttl = np.array([o.prediction_ttl if o else _UNSERVED_TTL for o in expected], np.int64)
        self._outcome_ttl = np.array([o.outcome_ttl if o else 0 for o in expected], np.int64)
        self._keeps_outcome = np.array([compares_by_time(m) for m in spec.models], np.bool_)

    def join(self, events: Events, watermark: IntArray, late: BoolArray) -> Joined:
        """Join what can be joined.

        Args:
            events: The batch.
            watermark: Stream time at each event, ms, below zero where not known.
            late: Which events count nowhere; they are not joined.

        Returns:
            The result by event.
        """
        model = events.model
        answer = events.kind <= EventKind.UNSERVED
        outcome = events.kind == EventKind.OUTCOME
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
                effective_time=_effective_time(events, rows),
                prediction_ttl=self._prediction_ttl[model[rows]],
                outcome_ttl=self._outcome_ttl[model[rows]],
                pane_width=self._pane[model[rows]],
                keeps_outcome=self._keeps_outcome[model[rows]],
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
        return joined.spread(rows, len(events))

    def expire(self, watermark: int, *, everything: bool) -> None:
        """Give up what has waited too long, and keep the number of waiting predictions bounded."""
        owner = self._variants.model_of()
        ttls = (
            np.where(owner >= 0, column[np.maximum(owner, 0)], 0)
            for column in (self._prediction_ttl, self._outcome_ttl, self._pane)
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


def compares_by_time(model: ModelSpec) -> bool:
    """Tell whether answers beside the served one are configured, which may come last in windows by time."""
    return (
        not model.window.counted
        and model.outcomes is not None
        and bool(model.serving.shadows or model.serving.ensemble)
    )


def _effective_time(events: Events, rows: IntArray) -> IntArray:
    """Effective times as the join can keep them."""
    time = events.time[rows]
    result: IntArray = np.minimum(np.maximum(events.effective_time[rows], time), time + _MOST_BEHIND)
    return result
