"""Pairs that need care before they are added up: labels that cannot be compared, answers of exactly 0 and 1. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.outcome_columns import (
    BIN_EVENTS,
    BIN_HITS,
    BIN_SCORES,
    CALIBRATION_BINS,
    Count,
    Total,
)
from monitor.events.codes import SHARED
from monitor.events.readings import NEGATIVE, POSITIVE
from monitor.spec import Task

CLIP: Final = 1e-7  # of probabilities in the log loss
_CONFUSION: Final = {
    (True, True): Count.TRUE_POSITIVE,
    (True, False): Count.FALSE_POSITIVE,
    (False, True): Count.FALSE_NEGATIVE,
    (False, False): Count.TRUE_NEGATIVE,
}


def unknown_pairs(task: Task, predicted: FloatArray, actual: FloatArray) -> BoolArray:
    """Return of which pairs nobody knows whether they are right.

    With many classes: the actual one has no code of its own, while another prediction of a known class is wrong for
    sure. In a binary task: one label is neither class, and the other one is a class or shares its code.
    """
    shared: BoolArray = actual == SHARED
    if task is not Task.BINARY:
        return shared
    shared |= (predicted == SHARED) | (_is_class(predicted) != _is_class(actual))
    return shared


def _is_class(values: FloatArray) -> BoolArray:
    result: BoolArray = (values == POSITIVE) | (values == NEGATIVE)
    return result


def with_ends(
    count: IntArray, total: FloatArray, ends: IntArray, classes: tuple[int, int], *, probabilities: bool
) -> tuple[IntArray, FloatArray]:
    """Add the pairs of answers of exactly 0 and 1 to sums, read one way.

    Args:
        count: Counts of the other pairs.
        total: Their sums.
        ends: Shape (2, 2): pairs by answer and by whether the positive class came true.
        classes: What the answers 0 and 1 stand for.
        probabilities: Whether they are probabilities as well.
    """
    count, total = count.copy(), total.copy()
    for number in (0, 1):
        for truth in (0, 1):
            n, yes = int(ends[number, truth]), classes[number] == POSITIVE
            count[Count.CORRECT] += n * (yes == bool(truth))
            count[_CONFUSION[yes, bool(truth)]] += n
            if not probabilities:
                continue
            missed = float(number != truth)
            loss = -float(np.log(CLIP)) if missed else 0.0
            edge = (CALIBRATION_BINS - 1) * number
            count[Count.PROBABLE] += n
            count[BIN_EVENTS + edge] += n
            count[BIN_HITS + edge] += n * truth
            total[BIN_SCORES + edge] += n * number
            for column, value in (
                (Total.BRIER, missed), (Total.BRIER_SQUARE, missed),
                (Total.LOG_LOSS, loss), (Total.LOG_LOSS_SQUARE, loss**2),
            ):  # fmt: skip
                total[column] += n * value
    return count, total
