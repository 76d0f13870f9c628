"""Scores of a binary task by outcome pane, negatives and positives apart: what the area under the ROC curve needs.

Pure. Scores are kept exactly up to a bound, beyond it in bins that are narrow near 0 and 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.keyed_counts import SparseCounts
from monitor.aggregation.metrics import Estimate

AUC_SCORES: Final = 4096  # distinct scores of a class in a pane up to which the AUC is exact


class ScoreCounts:
    """Counts of scores, as the bits of 32-bit floats: those from 0 on sort like their bits."""

    def __init__(self) -> None:
        self.negative, self.positive = SparseCounts(), SparseCounts()

    def add(self, panes: IntArray, score: FloatArray, truth: BoolArray, binned: BoolArray) -> None:
        """Count scores by pane.

        Args:
            panes: Outcome pane of each answer.
            score: P(positive), from 0 to 1.
            truth: Whether the positive class came true.
            binned: Whether the pane of the answer keeps its scores in bins.
        """
        kept = np.where(binned, _binned(score), score) if binned.any() else score
        bits = kept.astype(np.float32).view(np.uint32)
        self.negative.add(panes[~truth], bits[~truth])
        self.positive.add(panes[truth], bits[truth])

    def panes_above(self, first: int, last: int) -> set[int]:
        """Find panes with more distinct scores of a class than are kept exactly."""
        both = (self.negative, self.positive)
        return {pane for counts in both for pane in counts.panes_above(first, last, AUC_SCORES)}

    def bin(self, panes: IntArray) -> None:
        """Put the scores of these panes into bins."""
        for counts in (self.negative, self.positive):
            counts.replace_lower(panes, _binned_bits)

    def auc(self, first: int, last: int, ends: IntArray, *, binned: bool) -> Estimate | None:
        """Area under the ROC curve of the panes from `first` to `last`; None where a class is missing.

        Args:
            first: First outcome pane.
            last: Last outcome pane.
            ends: Further answers, shape (2, 2): by score (exactly 0 or 1), and by whether the positive class came true.
            binned: Whether one of them is binned. Then all are: a score and the middle of its own bin would have
                a wrong order.
        """
        both = [counts.between(first, last) for counts in (self.negative, self.positive)]
        if binned:
            both = [(_binned_bits(bits), counts) for bits, counts in both]
        if ends.any():
            both = [
                (np.concatenate([bits, _END_BITS]), np.concatenate([counts, ends[:, truth]]))
                for truth, (bits, counts) in enumerate(both)
            ]
        return _roc_auc(*both)


def _roc_auc(
    negatives: tuple[NDArray[np.uint32], IntArray], positives: tuple[NDArray[np.uint32], IntArray]
) -> Estimate | None:
    """Area under the ROC curve, ties counted half, with the variance of DeLong et al. (1988).

    Each class gets one more answer that says nothing: of a perfect order of few answers no certainty comes. `n` is how
    many the rarer class has: the area is as uncertain as that is small.
    """
    if not negatives[1].any() or not positives[1].any():
        return None
    scores = np.union1d(negatives[0], positives[0])
    neg = np.bincount(np.searchsorted(scores, negatives[0]), negatives[1], minlength=len(scores))
    pos = np.bincount(np.searchsorted(scores, positives[0]), positives[1], minlength=len(scores))
    m, n = neg.sum(), pos.sum()
    below = (np.cumsum(neg) - neg + neg / 2) / m  # share of negatives below each score
    above = 1 - (np.cumsum(pos) - pos + pos / 2) / n
    auc = float((pos * below).sum() / n)
    doubt = (auc - 0.5) ** 2
    of_positives = (float((pos * (below - auc) ** 2).sum()) + doubt) / n**2
    of_negatives = (float((neg * (above - auc) ** 2).sum()) + doubt) / m**2
    return Estimate(auc, int(min(m, n)), of_positives + of_negatives)


_END_BITS: Final = np.array([0.0, 1.0], np.float32).view(np.uint32)
_SEVEN_DIGITS: Final = np.uint32(0xFFFE0000)  # of a 32-bit float: sign, exponent, the first and six more


def _binned_bits(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The same of scores as the bits of 32-bit floats."""
    return _binned(bits.view(np.float32).astype(np.float64)).astype(np.float32).view(np.uint32)


def _binned(score: FloatArray) -> FloatArray:
    """Scores whose distance from the nearer end, 0 or 1, is cut to 7 binary digits: near an end bins are narrow.

    At most AUC_SCORES of them. The AUC moves by at most half the share of pairs of a positive and a negative in one
    bin, whose odds differ by less than a sixty-fourth part.
    """
    score = score.astype(np.float32).astype(np.float64)
    near = np.minimum(score, 1 - score).astype(np.float32)  # exact: from 1/2 on scores are multiples of 2**-24
    near = (near.view(np.uint32) & _SEVEN_DIGITS).view(np.float32).astype(np.float64)
    near[near < 2.0**-30] = 0.0
    result: FloatArray = np.where(score < 0.5, near, 1 - near)
    return result
