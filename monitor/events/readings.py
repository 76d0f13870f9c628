"""What labels and numbers of a binary task mean: which class a text names, and whether 0 and 1 are probabilities.

An answer that is exactly 0 or 1 is doubtful: a label, or a probability that reached an end. Which of them is a matter
of the answers around it, so it goes on as both (`DOUBTFUL`), and who sums up a window reads all of it one way. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NewType

import numpy as np

from detectors.categorical import text_of
from detectors.types import BoolArray, FloatArray

LabelCode = NewType("LabelCode", int)  # a label of one model

NEGATIVE, POSITIVE = LabelCode(0), LabelCode(1)  # label codes of a binary task, whatever the labels are called
DOUBTFUL: Final = 2.0  # added to an answer of exactly 0 or 1 where its score would stand
ROUNDING: Final = 1e-6  # beyond [0, 1]: a probability that was computed in single precision
_POSITIVE_TEXTS: Final = frozenset({"1", "true", "t", "yes", "y"})
_NEGATIVE_TEXTS: Final = frozenset({"0", "false", "f", "no", "n"})
_WHOLE: Final = re.compile(r"-?\d+\.0+")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def plain_label(text: str) -> str:
    """Return the text of a label without the decimals of a whole number: "1.0" is 1."""
    return text[: text.index(".")] if text.endswith("0") and _WHOLE.fullmatch(text) else text


def class_of(text: str, positive: str | None) -> LabelCode | None:
    """Return which class of a binary task a label names; None for one that is neither.

    Args:
        text: The label, as `text_of` and `plain_label` give it.
        positive: The configured positive class, in the same form. Every text that is not equal to it is negative;
            spellings of yes are equal, and so are those of no. None: yes is positive and no is negative.
    """
    meaning = text.strip().lower()
    if positive is None:
        return POSITIVE if meaning in _POSITIVE_TEXTS else NEGATIVE if meaning in _NEGATIVE_TEXTS else None
    if text == positive:
        return POSITIVE
    wanted = positive.lower()
    same = next((texts for texts in (_POSITIVE_TEXTS, _NEGATIVE_TEXTS) if wanted in texts), ())
    return POSITIVE if meaning in same else NEGATIVE


@dataclass(frozen=True, slots=True)
class Readings:
    """The class that an answer of exactly 0, and one of exactly 1, stands for in each reading.

    Attributes:
        labels: As labels, and where a single answer is compared with another one or with its outcome.
        probabilities: As probabilities of the positive class.
    """

    labels: tuple[LabelCode, LabelCode] = (NEGATIVE, POSITIVE)
    probabilities: tuple[LabelCode, LabelCode] = (NEGATIVE, POSITIVE)

    @staticmethod
    def of(positive: str | None, threshold: float) -> Readings:
        """Make those of a task. A number names no class where the positive class is a word, such as spam."""
        labels = (NEGATIVE, POSITIVE)
        positive = None if positive is None else plain_label(text_of(positive))
        meaning = None if positive is None else positive.lower()
        if meaning is not None and (_NUMBER.fullmatch(meaning) or meaning in _NEGATIVE_TEXTS):
            labels = class_of("0", positive) or NEGATIVE, class_of("1", positive) or NEGATIVE
        return Readings(labels, (POSITIVE if threshold <= 0 else NEGATIVE, POSITIVE if threshold <= 1 else NEGATIVE))

    def take(self, number: FloatArray, threshold: float, *, doubts: bool) -> tuple[FloatArray, FloatArray]:
        """Take answers that are probabilities, or may be.

        Args:
            number: Answers as `probabilities_in` gives them; NaN where an answer is a label.
            threshold: Probability from which on an answer is positive.
            doubts: Whether exactly 0 and 1 may be labels too.

        Returns:
            (label codes, scores), each NaN where the answer is a label.
        """
        score = np.clip(number, 0.0, 1.0)
        code = np.where(np.isnan(score), np.nan, np.where(score >= threshold, POSITIVE, NEGATIVE))
        end = (number == 0) | (number == 1)
        if doubts and end.any():
            code[end] = np.where(number[end] > 0, self.labels[1], self.labels[0])
            score[end] += DOUBTFUL
        return code, score

    def read(self, value: FloatArray, score: FloatArray, *, probabilities: bool) -> tuple[FloatArray, FloatArray]:
        """Read doubtful answers one way.

        Args:
            value: Label codes, as `labels` has them.
            score: Scores; of doubtful answers `DOUBTFUL` more than the number.
            probabilities: Whether numbers are probabilities.

        Returns:
            (label codes, scores, NaN without one); the same arrays where no answer is doubtful.
        """
        doubtful = is_doubtful(score)
        if not doubtful.any():
            return value, score
        if not probabilities:
            return value, np.where(doubtful, np.nan, score)
        number = score - DOUBTFUL
        code = np.where(number > 0, self.probabilities[1], self.probabilities[0])
        return np.where(doubtful, code, value), np.where(doubtful, number, score)


def probabilities_in(answers: Sequence[Any]) -> FloatArray:
    """Return the answers that may be probabilities of a binary task, NaN for all others, shape (n,)."""
    number = np.array(
        [v if isinstance(v, float) or (type(v) is int and 0 <= v <= 1) else np.nan for v in answers], np.float64
    )
    number[(number < -ROUNDING) | (number > 1 + ROUNDING)] = np.nan
    return number


def is_doubtful(score: FloatArray) -> BoolArray:
    """Return which scores are of answers that may be a label or a probability."""
    with np.errstate(invalid="ignore"):
        result: BoolArray = score >= DOUBTFUL
    return result


def any_probability(score: FloatArray) -> bool:
    """Return whether any answer is surely a probability, or has one beside it."""
    with np.errstate(invalid="ignore"):
        return bool((score < DOUBTFUL).any())
