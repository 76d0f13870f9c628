"""Accepted predictions of one model: what stage one counts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.events.columns import Events
from monitor.events.features import FeatureTable


@dataclass(frozen=True, slots=True)
class Predictions:
    """Accepted predictions of one model, in the order of the stream.

    Attributes:
        position: Row of each in the batch, ascending.
        events: The events themselves, a row each: a field that events gain is here at once.
        variant: Code of the version that answered.
        scorable: Whether an outcome can score it.
        measured: What `prediction_mean` is of: the number of a regression, the score of a classifier, NaN without.
        features: One row for each prediction.
    """

    position: IntArray
    events: Events
    variant: IntArray
    scorable: BoolArray
    measured: FloatArray
    features: FeatureTable

    def __len__(self) -> int:
        """Number of predictions."""
        return len(self.position)

    @property
    def time(self) -> IntArray:
        """Event times, ms."""
        return self.events.time


def groups_of(variant: IntArray, pane: IntArray) -> list[tuple[int, int, IntArray]]:
    """Return (variant, pane, rows in order) of every pane that rows belong to, by pane and variant."""
    if not len(variant):
        return []
    if (variant == variant[0]).all() and (pane == pane[0]).all():
        return [(int(variant[0]), int(pane[0]), np.arange(len(variant)))]
    order = np.lexsort((variant, pane))
    v, p = variant[order], pane[order]
    starts = np.flatnonzero(np.concatenate([[True], (v[1:] != v[:-1]) | (p[1:] != p[:-1])]))
    parts = np.split(order, starts[1:])
    return [(int(v[s]), int(p[s]), rows) for s, rows in zip(starts.tolist(), parts, strict=True)]
