"""Predictions and actual values as numbers: values of a regression, codes of labels, scores. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.categorical import text_of
from detectors.types import FloatArray, IntArray
from monitor.events.codes import NEGATIVE, POSITIVE, LabelCode, Labels
from monitor.events.columns import EventColumns, EventKind, numbers_of
from monitor.events.refusals import Refusal
from monitor.spec import Limits, ModelSpec, Task


class AnswerDecoder:
    """Fills the columns `value`, `score` and `probability`. Owns the codes of labels.

    Attributes:
        labels: By model index.
    """

    def __init__(self, models: Sequence[ModelSpec], limits: Limits) -> None:
        self._tasks = [model.task for model in models]
        self._thresholds = [model.threshold for model in models]
        self.labels = [
            Labels(m.name, limits.labels, binary=m.task is Task.BINARY, positive=m.positive, pane=m.window.pane)
            for m in models
        ]

    def numbers(
        self, c: EventColumns, at: IntArray, records: list[Any], field: str, found: dict[int, Refusal | None]
    ) -> None:
        """Fill the values of regressions.

        Args:
            c: The columns; `model` is filled.
            at: Positions of the events that have the field.
            records: Their records.
            field: `prediction` or `actual`.
            found: Receives the positions of values that are no numbers.
        """
        values = list(map(attrgetter(field), records))
        for model, mine in by_model(c.model[at]):
            if self._tasks[model] is not Task.REGRESSION:
                continue
            picked = values if len(mine) == len(values) else [values[i] for i in mine.tolist()]
            if set(map(type, picked)) <= {int, float, NoneType}:
                c.value[at[mine]] = numbers_of(picked)
            else:
                for i, value in zip(at[mine].tolist(), picked, strict=True):
                    if isinstance(value, bool | str):
                        found[i] = None

    def classes(self, c: EventColumns, kinds: NDArray[np.uint8], records: list[Any]) -> None:
        """Fill the label codes and scores of classifiers, giving codes in the order of events."""
        for model, rows in by_model(c.model):
            if self._tasks[model] is Task.REGRESSION:
                continue
            told = kinds == EventKind.OUTCOME
            at = rows[kinds[rows] != EventKind.RESOURCES]
            its = records if len(at) == len(records) else [records[i] for i in at.tolist()]
            if told[at].any():
                values = [r.actual if t else r.prediction for r, t in zip(its, told[at].tolist(), strict=True)]
                said = np.flatnonzero(~told[at])
                answers = [its[i] for i in said.tolist()]
            else:
                values, said, answers = list(map(attrgetter("prediction"), its)), np.arange(len(at)), its
            probable = self._probable(model, values, said)
            code = self.labels[model].code
            codes: list[int | None] = [None if v is None else code(v) for v in values]
            scores = np.full(len(values), np.nan)
            for i, (label, score) in probable.items():
                codes[i], scores[i] = label, score
            c.value[at] = numbers_of(codes)
            self._scores(model, scores, said, answers)
            c.score[at] = scores
            c.probability[at] = scores if self._tasks[model] is Task.BINARY else _largest(len(values), said, answers)

    def _probable(self, model: int, values: list[Any], said: IntArray) -> dict[int, tuple[LabelCode, float]]:
        """Take predictions that are probabilities out of `values`: (label, score) by position.

        In a binary task a number between the labels 0 and 1 is a probability of the positive class, not a label.
        """
        found: dict[int, tuple[LabelCode, float]] = {}
        if self._tasks[model] is not Task.BINARY or float not in set(map(type, values)):
            return found
        for i in said.tolist():
            value = values[i]
            if type(value) is float and 0 < value < 1:
                found[i] = (POSITIVE if value >= self._thresholds[model] else NEGATIVE, value)
                values[i] = None
        return found

    def _scores(self, model: int, scores: FloatArray, said: IntArray, answers: list[Any]) -> None:
        """Fill P(positive) in a binary task, else the probability of the predicted class, where it is given."""
        given = list(map(attrgetter("scores"), answers))
        labels = self.labels[model]
        if not any(given):
            return
        if self._tasks[model] is Task.BINARY:
            for i, ps in compress(zip(said.tolist(), given, strict=True), given):
                scores[i] = next((p for name, p in ps.items() if labels.is_positive(name)), scores[i])
            return
        for i, answer in compress(zip(said.tolist(), answers, strict=True), given):
            scores[i] = _score_of(answer.prediction, answer.scores)


def by_model(models: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each model index with the positions at which it occurs."""
    for model in np.unique(models).tolist():
        yield model, np.flatnonzero(models == model)


def _largest(count: int, said: IntArray, answers: list[Any]) -> FloatArray:
    """Probability of the most likely class of each prediction, NaN where there are no scores."""
    largest = np.full(count, np.nan)
    given = list(map(attrgetter("scores"), answers))
    for i, scores in compress(zip(said.tolist(), given, strict=True), given):
        largest[i] = max(scores.values())
    return largest


def _score_of(predicted: object, scores: Mapping[str, float]) -> float:
    """Return the probability of the predicted class, NaN where it is not among the scores."""
    if predicted is None:
        return np.nan
    text = text_of(predicted)
    if text in scores:
        return scores[text]
    return next((p for name, p in scores.items() if text_of(name) == text), np.nan)
