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
from monitor.events.codes import Labels
from monitor.events.columns import EventColumns, EventKind, numbers_of
from monitor.events.readings import NEGATIVE, POSITIVE, ROUNDING, is_doubtful, plain_label, probabilities_in
from monitor.events.refusals import Aside, Refusal
from monitor.spec import AnswerReading, Limits, ModelSpec, Task


class AnswerDecoder:
    """Fills the columns `value`, `score` and `probability`. Owns the codes of labels.

    Attributes:
        labels: By model index.
    """

    def __init__(self, models: Sequence[ModelSpec], limits: Limits) -> None:
        self._tasks = [model.task for model in models]
        self._readings = [model.answers for model in models]
        self._thresholds = [model.threshold for model in models]
        self.labels = [
            Labels(
                m.name, limits.labels, binary=m.task is Task.BINARY, positive=m.positive, pane=m.window.pane,
                threshold=m.threshold,
            )
            for m in models
        ]  # fmt: skip

    def numbers(
        self, c: EventColumns, at: IntArray, records: list[Any], field: str, found: dict[int, Refusal | Aside | None]
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
            given = list(map(attrgetter("scores"), answers))
            codes, scores = self._numbers(model, values, said, given)
            code = self.labels[model].code
            rest = np.flatnonzero(np.isnan(codes))
            named = values if len(rest) == len(values) else [values[i] for i in rest.tolist()]
            codes[rest] = numbers_of([None if v is None else code(v) for v in named])
            self._scores(model, scores, said, answers, given)
            c.value[at], c.score[at] = codes, scores
            if self._tasks[model] is Task.BINARY:
                c.probability[at] = np.where(is_doubtful(scores), np.nan, scores)
            else:
                c.probability[at] = _largest(len(values), said, given)

    def _numbers(
        self, model: int, values: list[Any], said: IntArray, given: list[Mapping[str, float] | None]
    ) -> tuple[FloatArray, FloatArray]:
        """Take the predictions of a binary task that are probabilities, or may be: (codes, scores), NaN for others.

        Args:
            model: Index of the model.
            values: Predictions and outcomes.
            said: Positions of the predictions.
            given: `scores` of each prediction. Beside them a number is a label, unless it can only be a probability.
        """
        codes, scores = np.full(len(values), np.nan), np.full(len(values), np.nan)
        how = self._readings[model]
        if self._tasks[model] is not Task.BINARY or how is AnswerReading.LABEL:
            return codes, scores
        answers = values if len(said) == len(values) else [values[i] for i in said.tolist()]
        if not {int, float} & set(map(type, answers)):
            return codes, scores
        number = probabilities_in(answers)
        if how is AnswerReading.AUTO:
            beside = np.fromiter(map(bool, given), np.bool_, len(given))
            number[beside & ((number == 0) | (number == 1))] = np.nan
        readings, doubts = self.labels[model].readings, how is AnswerReading.AUTO
        codes[said], scores[said] = readings.take(number, self._thresholds[model], doubts=doubts)
        return codes, scores

    def _scores(
        self,
        model: int,
        scores: FloatArray,
        said: IntArray,
        answers: list[Any],
        given: list[Mapping[str, float] | None],
    ) -> None:
        """Fill P(positive) in a binary task, else the probability of the predicted class, where it is given."""
        labels = self.labels[model]
        if not any(given):
            return
        if self._tasks[model] is Task.BINARY:
            for i, ps in compress(zip(said.tolist(), given, strict=True), given):
                scores[i] = _positive_score(labels, ps or {}, scores[i])
            return
        for i, answer in compress(zip(said.tolist(), answers, strict=True), given):
            scores[i] = _score_of(answer.prediction, answer.scores)


def by_model(models: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each model index with the positions at which it occurs."""
    for model in np.unique(models).tolist():
        yield model, np.flatnonzero(models == model)


def _largest(count: int, said: IntArray, given: list[Mapping[str, float] | None]) -> FloatArray:
    """Probability of the most likely class of each prediction, NaN where there are no scores."""
    largest = np.full(count, np.nan)
    for i, scores in compress(zip(said.tolist(), given, strict=True), given):
        largest[i] = max((scores or {}).values())
    return largest


def _positive_score(labels: Labels, scores: Mapping[str, float], default: float) -> float:
    """Return P(positive): as it is given, or what the negative class leaves of 1 where no other name is given."""
    negative = 0.0
    for name, p in scores.items():
        meaning = labels.class_of(name)
        if meaning == POSITIVE:
            return p
        negative += p if meaning == NEGATIVE else np.nan
    return default if not negative <= 1 + ROUNDING else max(1.0 - negative, 0.0)


def _score_of(predicted: object, scores: Mapping[str, float]) -> float:
    """Return the probability of the predicted class, NaN where it is not among the scores."""
    if predicted is None:
        return np.nan
    text = plain_label(text_of(predicted))
    if text in scores:
        return scores[text]
    return next((p for name, p in scores.items() if plain_label(text_of(name)) == text), np.nan)
