"""Answer requests inside a serving application as the latest decision says.

The decision tells which version answers a request. The router calls it, goes down the fallback chain if it fails, calls
the shadows, and returns the events to emit. Standard library only. Pure, apart from the models that it is given to
call: time comes in as an argument, and the caller sends the events. One router may be used by any number of threads: a
request sees one decision from beginning to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fallback.attempts import (
    Answer,
    Attempts,
    Combine,
    Features,
    Model,
    NobodyAnsweredError,
    NoPredictionError,
    NotDeployedError,
    TimedAnswer,
    Timer,
    combined,
)
from fallback.chain import available, below
from fallback.decisions import serving_of
from fallback.routing import choose
from fallback.types import SCHEMA, Serving, Tier

__all__ = [
    "Answer",
    "Combine",
    "Features",
    "Model",
    "NoAnswerError",
    "NoPredictionError",
    "NobodyAnsweredError",
    "NotDeployedError",
    "Request",
    "Router",
    "Served",
    "Timer",
    "combined",
]


class NoAnswerError(Exception):
    """Signal that all tiers failed and that the chain has no default.

    Attributes:
        model: Name of the model.
        events: The events of the failed attempts, to emit as usual.
    """

    def __init__(self, model: str, events: tuple[dict[str, Any], ...]) -> None:
        """Tell of the failed attempts of a request."""
        super().__init__(f"{model}: every level failed, and the chain has no default")
        self.model, self.events = model, events


@dataclass(frozen=True, slots=True)
class Served:
    """Hold the answer to a request.

    Attributes:
        answer: What the application answers.
        version: The version that answered, or the name of the tier if that has no version.
        served_by: The tier that answered.
        assigned: The version that routing chose.
        events: Prediction events to emit: failed attempts, the served answer, shadows.
    """

    answer: Answer
    version: str
    served_by: Tier
    assigned: str
    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Hold one request.

    Attributes:
        request_id: Identifies the request; joins predictions with outcomes.
        time: RFC 3339 text, or milliseconds since the epoch.
        features: Features by name.
        key: The sticky unit of routing, such as a user; by default the request_id.
        cohort: Name of a cohort, whose version the decision tells.
        override: The version that has to answer, whatever the decision says.
        segment: Name of a segment by which metrics are split.
    """

    request_id: str
    time: str | int
    features: Features
    key: str | None = None
    cohort: str | None = None
    override: str | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class _Followed:
    """The decision that is followed, as the router needs it."""

    generation: int
    salt: str
    serving: Serving


class Router:
    """Answer requests for one model by its latest decision."""

    def __init__(
        self,
        model: str,
        decision: Mapping[str, Any],
        models: Mapping[str, Model],
        *,
        combine: Combine | None = None,
        timer: Timer | None = None,
    ) -> None:
        """Start with a decision.

        Args:
            model: Name of the model.
            decision: A published decision of this model.
            models: The versions that the application can call.
            combine: Combines the answers of an ensemble; by default `combined`.
            timer: Returns seconds since any fixed moment; without it events have no latency.

        Raises:
            ValueError: The decision is of another model, has a newer schema, or is invalid.
        """
        if decision["model"] != model:
            raise ValueError(f"a decision of {decision['model']} is none of {model}")
        self.model = model
        self._models = models
        self._combine = combined if combine is None else combine
        self._timer = timer
        self._followed = _parsed(decision)

    @property
    def generation(self) -> int:
        """Return the generation of the decision that is followed."""
        return self._followed.generation

    def follow(self, decision: Mapping[str, Any]) -> bool:
        """Follow a published decision from the next request on.

        Args:
            decision: A record of the decision topic. One of another model, or not newer, is ignored.

        Returns:
            Whether it is followed from now on.

        Raises:
            ValueError: The decision has a newer schema or is invalid; the one before stays in force.
        """
        if decision["model"] != self.model or decision["generation"] <= self.generation:
            return False
        self._followed = _parsed(decision)
        return True

    def answer(self, request: Request) -> Served:
        """Answer a request by the first tier that can.

        Raises:
            NoAnswerError: All tiers failed, and the chain has no default.
        """
        followed = self._followed  # read once: another thread may follow a new decision meanwhile
        serving = followed.serving
        key = request.request_id if request.key is None else request.key
        assigned = choose(serving, followed.salt, key, cohort=request.cohort, override=request.override)
        attempts = Attempts(self._models, request.features, self._timer)
        for tier in _order(serving):
            version = _version(serving, tier, assigned)
            timed = self._ask(attempts, serving, tier, version)
            if timed is not None:
                attempts.record(version, timed, served_by=tier, served=True)
                for shadow in serving.shadows:
                    attempts.shadow(shadow)
                return Served(timed.answer, version, tier, assigned, self._events(attempts, request, assigned))
        raise NoAnswerError(self.model, self._events(attempts, request, assigned))

    def _ask(self, attempts: Attempts, serving: Serving, tier: Tier, version: str) -> TimedAnswer | None:
        """Return the answer of a tier, or None if it fails or has none."""
        match tier:
            case Tier.RULES:
                return attempts.rules(serving.rules)
            case Tier.ENSEMBLE:
                return attempts.ensemble(serving.ensemble, self._combine)
            case Tier.DEFAULT:
                return TimedAnswer(Answer(serving.default), None)
            case _:
                return attempts.call(version, tier)

    def _events(self, attempts: Attempts, request: Request, assigned: str) -> tuple[dict[str, Any], ...]:
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
        return tuple(common | attempt.fields(assigned) for attempt in attempts.recorded)


def _order(serving: Serving) -> Iterator[Tier]:
    """Yield the active tier and the tiers after it, as far as they are available."""
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


def _parsed(decision: Mapping[str, Any]) -> _Followed:
    """Parse what `decisions.document` made.

    Raises:
        ValueError: The schema is newer, a field is missing, a tier is unknown, or the shares do not sum to the whole.
    """
    if decision["schema"] > SCHEMA:
        raise ValueError(f"a decision of schema {decision['schema']}, this release knows {SCHEMA}")
    try:
        return _Followed(decision["generation"], decision["salt"], serving_of(decision))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a decision without what it needs: {error!r}") from error
