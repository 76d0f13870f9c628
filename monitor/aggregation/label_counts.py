"""Labels of a multiclass task by outcome pane: right ones, predicted ones, actual ones. Pure."""

from __future__ import annotations

import math

import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.keyed_counts import SparseCounts
from monitor.aggregation.metrics import Estimate


class LabelCounts:
    """Counts of label codes."""

    def __init__(self) -> None:
        self.right, self.predicted, self.actual = SparseCounts(), SparseCounts(), SparseCounts()

    def add(self, panes: IntArray, predicted: FloatArray, actual: FloatArray, correct: BoolArray) -> None:
        """Count labels by pane; `correct` says where they are equal, and a predicted one may have no code (below 0)."""
        self.right.add(panes[correct], actual[correct].astype(np.uint32))
        named = predicted >= 0
        self.predicted.add(panes[named], predicted[named].astype(np.uint32))
        self.actual.add(panes, actual.astype(np.uint32))

    def macro_f1(self, first: int, last: int) -> Estimate | None:
        """Mean of the F1 of all labels that were predicted or actual; None where there are none."""
        parts = [counts.between(first, last) for counts in (self.right, self.predicted, self.actual)]
        size = max((int(labels.max()) + 1 for labels, _ in parts if len(labels)), default=0)
        right, predicted, actual = (np.bincount(labels, n, minlength=size) for labels, n in parts)
        present = predicted + actual > 0
        if not present.any():
            return None
        right, predicted, actual = right[present], predicted[present], actual[present]
        scores = 2 * right / (predicted + actual)
        # As if half an answer more of each kind were there: one class that was right once is no certainty.
        hits, false = right + 0.5, predicted + actual - 2 * right + 1.0
        variance = 4 * hits * false * (hits + false) / (2 * hits + false) ** 4
        classes = int(present.sum())
        # The exact sum: the order of labels is that in which they came, which says nothing about them.
        mean = math.fsum(scores.tolist()) / classes
        return Estimate(mean, int(actual.sum()), math.fsum(variance.tolist()) / classes**2)
