"""Which events come too late for their pane, by their partition's own time or because it was not waited for.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.types import BoolArray, IntArray
from monitor.events.columns import EventKind, Events
from monitor.spec import CoreSpec


@dataclass(frozen=True, slots=True)
class Late:
    """Events that count nowhere, a flag for each.

    Attributes:
        by_partition: Their pane had ended by partition time: a matter of their partition's log alone.
        after_idle: Their pane was closed while their partition was idle or left out.
    """

    by_partition: BoolArray
    after_idle: BoolArray

    @property
    def either(self) -> BoolArray:
        """Either of both."""
        late: BoolArray = self.by_partition | self.after_idle
        return late


class Lateness:
    """Judges events of all models."""

    def __init__(self, spec: CoreSpec) -> None:
        self._allowed_lateness = spec.allowed_lateness
        self._pane = np.array([m.window.pane for m in spec.models], np.int64)

    def judge(self, events: Events, reached: IntArray, watermark: IntArray, horizon: int | None) -> Late:
        """Find predictions and reports that come too late. Outcomes are judged by the join.

        Args:
            events: The batch.
            reached: Partition time less the allowed lateness at each event, ms, below zero where not known.
            watermark: Stream time at each event, ms, below zero where not known.
            horizon: Stream time before which repeats may be forgotten, ms.
        """
        width = self._pane[events.model]
        windowed = (events.kind != EventKind.OUTCOME) & (width > 0)
        closes = (events.time // np.maximum(width, 1) + 1) * width
        by_partition = windowed & (closes <= reached)
        if horizon is not None:
            forgotten = events.time < horizon + self._allowed_lateness
            by_partition |= (events.kind != EventKind.OUTCOME) & forgotten
        return Late(by_partition, windowed & ~by_partition & (closes <= watermark))
