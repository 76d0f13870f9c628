"""Answers requests inside a serving application as the latest decision says.

The decision chooses who answers; the router calls it, goes down the chain where it fails, calls the shadows,
and says which events to emit. Standard library only. Pure apart from what it is given to call: time comes in
as an argument, and the caller sends the events. One router serves any number of threads: a request sees one
decision from beginning to end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallback.chain import apply_rules, available, below
from fallback.routing import choose, weights
from fallback.types import SCHEMA, BusinessRule, Condition, Route, Scalar, Serving, Tier

Features = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says: a number or a label, class probabilities where it has them, metrics of the user's own."""

    prediction: Scalar
    scores: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None


Model = Callable[[Features], Answer | Scalar]
Combine = Callable[[Sequence[Answer]], Answer]
Timer = Callable[[], float]  # seconds, from any beginning


class NotDeployedError(LookupError):
    """The decision names a version for which the application has no model."""


class NoPredictionError(ValueError):
    """A model answered with nothing, or with a number that is not finite."""


class NobodyAnsweredError(LookupError):
    """All versions of an ensemble failed."""


class NoAnswerError(Exception):
    """All levels failed, and the chain has no default. `events` tell of the failed attempts."""

    def __init__(self, model: str, events: tuple[dict[str, Any], ...]) -> None:
        super().__init__(f"{model}: every level failed, and the chain has no default")
        self.model, self.events = model, events


@dataclass(frozen=True, slots=True)
class Served:
    """What the application answers, and the events to emit: the served answer, failed attempts, shadows."""

    answer: Answer
    version: str  # that answered; the level's name where no version did
    served_by: Tier
    assigned: str  # the version that routing chose
    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `key` is what routing sticks to, by default the request's id."""

    request_id: str
    time: str | int  # RFC 3339, or milliseconds since the epoch
    features: Features
    key: str | None = None
    cohort: str | None = None
    override: str | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class _Following:
    """A decision as the router needs it."""

    generation: int
    salt: str
    serving: Serving


class Router:
    """Follows the decisions of one model. `models` are the versions that the application can call."""

    def __init__(
        self,
        model: str,
        decision: Mapping[str, Any],
        models: Mapping[str, Model],
        *,
        combine: Combine | None = None,
        timer: Timer | None = None,
    ) -> None:
        """Begin with this decision.

        `combine` makes one answer of those of an ensemble (by default `combined`); without `timer` events
        have no latency. Raises ValueError as `follow` does, and where the decision is of another model.
        """
        if decision["model"] != model:
            raise ValueError(f"a decision of {decision['model']} is none of {model}")
        self.model = model
        self._models = models
        self._combine = combined if combine is None else combine
        self._timer = timer
        self._following = _followed(decision)

    @property
    def generation(self) -> int:
        """Of the decision that is followed."""
        return self._following.generation

    def follow(self, decision: Mapping[str, Any]) -> bool:
        """Follow a published decision from the next request on. -> whether it is news.

        One of another model, and one that is not younger, is ignored. Raises ValueError where the decision
        has a newer schema or makes no sense; then the one before stays in force.
        """
        if decision["model"] != self.model or decision["generation"] <= self.generation:
            return False
        self._following = _followed(decision)
        return True

    def answer(self, request: Request) -> Served:
        """Answer a request. Raises NoAnswerError where all levels fail and none of them is a default."""
        following = self._following
        serving = following.serving
        key = request.request_id if request.key is None else request.key
        assigned = choose(serving, following.salt, key, cohort=request.cohort, override=request.override)
        attempts = _Attempts(self._models, request.features, self._timer)
        for tier in _order(serving):
            version = _version(serving, tier, assigned)
            said = self._ask(attempts, serving, tier, version)
            if said is not None:
                attempts.note(version, said, served_by=tier, served=True)
                for shadow in serving.shadows:
                    attempts.shadow(shadow)
                return Served(said.answer, version, tier, assigned, self._events(attempts, request, assigned))
        raise NoAnswerError(self.model, self._events(attempts, request, assigned))

    def _ask(self, attempts: _Attempts, serving: Serving, tier: Tier, version: str) -> _Said | None:
        """The answer of a level; None where it fails or has nothing to say."""
        match tier:
            case Tier.RULES:
                return attempts.rules(serving.rules)
            case Tier.ENSEMBLE:
                return attempts.ensemble(serving.ensemble, self._combine)
            case Tier.DEFAULT:
                return _Said(Answer(serving.default), None)
            case _:
                return attempts.call(version, tier)

    def _events(self, attempts: _Attempts, request: Request, assigned: str) -> tuple[dict[str, Any], ...]:
        common = {
            "schema": SCHEMA,
            "type": "prediction",
            "request_id": request.request_id,
            "time": request.time,
            "model": self.model,
            "key": request.request_id if request.key is None else request.key,
            "segment": request.segment,
            "features": dict(request.features),
        }
        return tuple(common | note.fields(assigned) for note in attempts.notes)


@dataclass(frozen=True, slots=True)
class _Said:
    answer: Answer
    seconds: float | None


@dataclass(frozen=True, slots=True)
class _Note:
    """One event: an answer, or the name of an error. `served_by` is None for a shadow."""

    version: str
    answer: Answer | None
    error: str | None
    seconds: float | None
    served_by: Tier | None
    served: bool

    def fields(self, assigned: str) -> dict[str, Any]:
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


class _Attempts:
    """The calls of one request. A version is called once: its event is identified by request and version."""

    def __init__(self, models: Mapping[str, Model], features: Features, timer: Timer | None) -> None:
        self._models, self._features, self._timer = models, features, timer
        self._said: dict[str, _Said | None] = {}
        self.notes: list[_Note] = []

    def note(self, version: str, said: _Said, *, served_by: Tier | None, served: bool) -> None:
        """There is an answer to tell of."""
        self.notes.append(_Note(version, said.answer, None, said.seconds, served_by, served))

    def call(self, version: str, tier: Tier | None) -> _Said | None:
        """The answer of a version; None where it failed, now or before. A failure is noted."""
        if version not in self._said:
            self._said[version] = self._guarded(version, lambda: self._model(version)(self._features), tier)
        return self._said[version]

    def rules(self, rules: Sequence[BusinessRule]) -> _Said | None:
        """The answer of the business rules; None where none of them applies, which is no failure."""
        try:
            return _Said(Answer(apply_rules(rules, self._features)), None)
        except LookupError:
            return None

    def ensemble(self, versions: Sequence[str], combine: Combine) -> _Said | None:
        """What those of the versions that answer say together."""

        def together() -> Answer:
            said = [self.call(version, Tier.ENSEMBLE) for version in versions]
            answers = [s.answer for s in said if s is not None]
            if not answers:
                raise NobodyAnsweredError(", ".join(versions))
            return combine(answers)

        return self._guarded(Tier.ENSEMBLE.value, together, Tier.ENSEMBLE)

    def shadow(self, version: str) -> None:
        """Call a shadow, unless its answer was told or the application does not have it."""
        if version in self._models and all(note.version != version for note in self.notes):
            said = self.call(version, None)
            if said is not None:
                self.note(version, said, served_by=None, served=False)

    def _model(self, version: str) -> Model:
        model = self._models.get(version)
        if model is None:
            raise NotDeployedError(version)
        return model

    def _guarded(self, version: str, call: Callable[[], Answer | Scalar], tier: Tier | None) -> _Said | None:
        began = self._timer() if self._timer is not None else None
        try:
            answer, error = _checked(call()), None
        except Exception as fault:  # noqa: BLE001 - whatever a model raises, the next level answers
            answer, error = None, type(fault).__name__
        seconds = self._timer() - began if self._timer is not None and began is not None else None
        if answer is None:
            self.notes.append(_Note(version, None, error, seconds, tier, served=False))
            return None
        return _Said(answer, seconds)


def combined(answers: Sequence[Answer]) -> Answer:
    """One answer of several: the likeliest class by mean probability, the mean number, or the most frequent label.

    Probabilities where all have them; the mean where all are floating-point numbers, since whole numbers may
    be labels. Of equally good labels the one that came first.
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


def _checked(said: Answer | Scalar) -> Answer:
    answer = said if isinstance(said, Answer) else Answer(said)
    prediction = answer.prediction
    if prediction is None or (isinstance(prediction, float) and not math.isfinite(prediction)):
        raise NoPredictionError(f"{prediction!r} is no prediction")
    return answer


def _order(serving: Serving) -> Iterator[Tier]:
    """The active level, and those after it that are there."""
    if available(serving, serving.active):
        yield serving.active
    yield from below(serving, serving.active)


def _version(serving: Serving, tier: Tier, assigned: str) -> str:
    match tier:
        case Tier.PRIMARY:
            return assigned
        case Tier.PREVIOUS:
            return serving.previous or tier.value
        case _:
            return tier.value


def _followed(decision: Mapping[str, Any]) -> _Following:
    """A published document (`decisions.document`) as what it was made of.

    Raises:
        ValueError: a newer schema, a field that is missing, a level that is none, or shares that do not sum to
            the whole.
    """
    if decision["schema"] > SCHEMA:
        raise ValueError(f"a decision of schema {decision['schema']}, this release knows {SCHEMA}")
    try:
        return _Following(decision["generation"], decision["salt"], _serving(decision))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a decision without what it needs: {error!r}") from error


def _serving(decision: Mapping[str, Any]) -> Serving:
    champion, tiers = decision["champion"], decision["levels"]
    routes = tuple(Route(route["version"], route["weight"]) for route in decision["routes"])
    challengers = tuple(route for route in routes if route.version != champion)
    if set(weights(champion, challengers)) != set(routes):
        raise ValueError("the shares do not sum to 10 000, the champion's included")
    chain = tuple(map(Tier, decision["chain"]))
    if Tier.PRIMARY in chain:
        raise ValueError("a chain begins after the primary level")
    default = tiers.get("default")
    return Serving(
        champion=champion,
        previous=tiers.get("previous"),
        challengers=challengers,
        shadows=tuple(decision["shadows"]),
        cohorts=dict(decision["cohorts"]),
        chain=chain,
        ensemble=tuple(tiers.get("ensemble") or ()),
        rules=tuple(map(_rule, tiers.get("rules") or ())),
        default=None if default is None else default["value"],
        has_default=default is not None,
        active=Tier(decision["active_level"]),
    )


def _rule(saved: Mapping[str, Any]) -> BusinessRule:
    return BusinessRule(tuple(map(_condition, saved["when"])), saved["then"])


def _condition(saved: Mapping[str, Any]) -> Condition:
    value = saved["value"]
    return Condition(saved["feature"], saved["op"], tuple(value) if isinstance(value, list) else value)
