"""The calls of one request: models, business rules, the ensemble, and the events that tell of them.

Standard library only. Pure, apart from the models that it is given to call. Used by `router`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallback.chain import apply_rules
from fallback.types import BusinessRule, Scalar, Tier

Features = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the answer of a model.

    Attributes:
        prediction: A finite number or a label.
        scores: Probability of each class, where the model gives them.
        metrics: Metrics of the user's own, by name.
    """

    prediction: Scalar
    scores: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None


Model = Callable[[Features], Answer | Scalar]
Combine = Callable[[Sequence[Answer]], Answer]
Timer = Callable[[], float]  # seconds since any fixed moment


# The names of these three are on the wire: the `error` of an event is the name of the exception.


class NotDeployedError(LookupError):
    """Signal that a decision names a version for which the application has no model."""


class NoPredictionError(ValueError):
    """Signal that a model answered with nothing, or with a number that is not finite."""


class NobodyAnsweredError(LookupError):
    """Signal that all versions of an ensemble failed."""


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """Hold an answer and the time it took; None without a timer or without a call."""

    answer: Answer
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold what one event tells: an answer, or the name of an error.

    Attributes:
        version: The version that was called, or the name of the tier if that has no version.
        answer: The answer; None after a failure.
        error: Name of the exception; None after an answer.
        seconds: Time of the call; None if it was not measured.
        served_by: The tier; None for a shadow.
        served: Whether the application answers with it.
    """

    version: str
    answer: Answer | None
    error: str | None
    seconds: float | None
    served_by: Tier | None
    served: bool

    def fields(self, assigned: str) -> dict[str, Any]:
        """Return the fields of the event that differ between the attempts of a request.

        Args:
            assigned: The version that routing chose for the request.
        """
        answer = self.answer
        return {
            "version": self.version,
            # A shadow was not meant to answer, so it did not answer in the place of another either.
            "assigned": assigned if self.served_by is not None else None,
            "served": self.served,
            "served_by": (self.served_by or Tier.PRIMARY).value,
            "prediction": None if answer is None else answer.prediction,
            "scores": None if answer is None or answer.scores is None else dict(answer.scores),
            "latency_ms": None if self.seconds is None else self.seconds * 1000,
            "error": self.error,
            "metrics": None if answer is None or answer.metrics is None else dict(answer.metrics),
        }


class Attempts:
    """Call models for one request and record an attempt for each event to emit.

    A version is called at most once, because an event is identified by request and version.
    """

    def __init__(self, models: Mapping[str, Model], features: Features, timer: Timer | None) -> None:
        """Start without attempts; arguments are those of `Router`, and the features of the request."""
        self._models, self._features, self._timer = models, features, timer
        self._answers: dict[str, TimedAnswer | None] = {}
        self.recorded: list[Attempt] = []

    def record(self, version: str, timed: TimedAnswer, *, served_by: Tier | None, served: bool) -> None:
        """Record an answer; failures are recorded where they happen."""
        self.recorded.append(Attempt(version, timed.answer, None, timed.seconds, served_by, served))

    def call(self, version: str, tier: Tier | None) -> TimedAnswer | None:
        """Return the answer of a version, or None if it failed, now or at an earlier tier."""
        if version not in self._answers:
            self._answers[version] = self._guarded(version, lambda: self._model(version)(self._features), tier)
        return self._answers[version]

    def rules(self, rules: Sequence[BusinessRule]) -> TimedAnswer | None:
        """Return the answer of the business rules, or None if none applies, which is not a failure."""
        try:
            return TimedAnswer(Answer(apply_rules(rules, self._features)), None)
        except LookupError:
            return None

    def ensemble(self, versions: Sequence[str], combine: Combine) -> TimedAnswer | None:
        """Return the combined answer of those versions that answer, or None if all fail."""

        def together() -> Answer:
            called = [self.call(version, Tier.ENSEMBLE) for version in versions]
            answers = [timed.answer for timed in called if timed is not None]
            if not answers:
                raise NobodyAnsweredError(", ".join(versions))
            return combine(answers)

        return self._guarded(Tier.ENSEMBLE.value, together, Tier.ENSEMBLE)

    def shadow(self, version: str) -> None:
        """Call a shadow, unless an attempt of it is recorded or the application does not have it."""
        if version in self._models and all(attempt.version != version for attempt in self.recorded):
            timed = self.call(version, None)
            if timed is not None:
                self.record(version, timed, served_by=None, served=False)

    def _model(self, version: str) -> Model:
        model = self._models.get(version)
        if model is None:
            raise NotDeployedError(version)
        return model

    def _guarded(self, version: str, call: Callable[[], Answer | Scalar], tier: Tier | None) -> TimedAnswer | None:
        """Call and time; record a failure and return None for it."""
        began = self._timer() if self._timer is not None else None
        try:
            answer, error = _checked(call()), None
        except Exception as fault:  # noqa: BLE001 - whatever a model raises, the next tier answers
            answer, error = None, type(fault).__name__
        seconds = self._timer() - began if self._timer is not None and began is not None else None
        if answer is None:
            self.recorded.append(Attempt(version, None, error, seconds, tier, served=False))
            return None
        return TimedAnswer(answer, seconds)


def combined(answers: Sequence[Answer]) -> Answer:
    """Combine the answers of an ensemble into one.

    If all answers have scores, the result is the class with the largest mean probability. If all are floating-point
    numbers, it is their mean; whole numbers may be labels, so they do not count as such. Otherwise it is the most
    frequent answer. Of equally good labels the first wins.

    Args:
        answers: At least one answer.
    """
    tables = [answer.scores for answer in answers if answer.scores]
    if len(tables) == len(answers):
        names = dict.fromkeys(name for table in tables for name in table)
        scores = {name: sum(table.get(name, 0.0) for table in tables) / len(tables) for name in names}
        return Answer(max(scores, key=lambda name: scores[name]), scores)
    predictions = [answer.prediction for answer in answers]
    numbers = [p for p in predictions if isinstance(p, float)]
    if len(numbers) == len(predictions):
        return Answer(math.fsum(numbers) / len(numbers))
    return Answer(Counter(predictions).most_common(1)[0][0])


def _checked(found: Answer | Scalar) -> Answer:
    answer = found if isinstance(found, Answer) else Answer(found)
    prediction = answer.prediction
    if prediction is None or (isinstance(prediction, float) and not math.isfinite(prediction)):
        raise NoPredictionError(f"{prediction!r} is no prediction")
    return answer
