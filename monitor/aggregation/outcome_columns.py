"""What an outcome pane counts and adds up: one row of two tables, column by column. Pure definitions."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from monitor.aggregation.metrics import USER_METRICS

BASELINE_PANE: Final = (1 << 32) - 1  # the row of the first pairs of a version, which its later panes are held to
DROPPED_PANE: Final = BASELINE_PANE - 1  # of answers whose own pane is gone: their pairs say nothing of any window
_STAGED: Final = 8
# Rows of pairs that wait until they are old enough for the baseline, in turns.
STAGED_PANES: Final = tuple(DROPPED_PANE - 1 - i for i in range(_STAGED))
CALIBRATION_BINS: Final = 10


class Count(IntEnum):
    """Integer columns; after them come the calibration bins' events and hits and the user metrics' numbers."""

    SCORABLE = 0  # answers that an outcome can score
    JOINED = 1
    SCORED = 2  # joined, and with a prediction
    CORRECT = 3
    TRUE_POSITIVE = 4
    FALSE_POSITIVE = 5
    FALSE_NEGATIVE = 6
    TRUE_NEGATIVE = 7
    RELATIVE = 8  # with an actual value other than zero
    PROBABLE = 9  # with a score
    PAIRED = 10  # with another answer to the same request
    AGREED = 11
    BINNED = 12  # 1 where a pane has more distinct scores than are kept


class Total(IntEnum):
    """Floating-point columns; after them come the calibration bins' scores and the user metrics' sums."""

    ABSOLUTE = 0  # |error|
    SQUARE = 1
    FOURTH = 2
    RELATIVE = 3
    RELATIVE_SQUARE = 4
    ACTUAL = 5  # less the pane's origin
    ACTUAL_SQUARE = 6
    LOG_LOSS = 7
    LOG_LOSS_SQUARE = 8
    BRIER = 9
    BRIER_SQUARE = 10
    DELAY = 11  # seconds
    DELAY_SQUARE = 12
    ORIGIN = 13  # the first actual value of the pane, which its own are taken less of


BIN_EVENTS: Final = len(Count)
BIN_HITS: Final = BIN_EVENTS + CALIBRATION_BINS
USER_COUNTS: Final = BIN_HITS + CALIBRATION_BINS
USER_END: Final = USER_COUNTS + USER_METRICS
# Appended after 0.1.0, whose columns end here: what is stored names columns by their numbers.
UNKNOWN: Final = USER_END  # scored, but nobody knows whether it is right: the labels cannot be compared
PROBABILITIES: Final = USER_END + 1  # answers, and pairs, that surely are probabilities or have one beside them
DOUBTFUL_PAIRS: Final = USER_END + 2  # of answers that are 0 or 1: 2 × answer + whether the positive class came true
COUNTS: Final = DOUBTFUL_PAIRS + 4
BIN_SCORES: Final = len(Total)
USER_TOTALS: Final = BIN_SCORES + CALIBRATION_BINS
TOTALS: Final = USER_TOTALS + 2 * USER_METRICS
