"""The join as a person would explain it: one event at a time, dictionaries, no numpy.

It shares nothing with the product but the names of verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """One event of a stream. `variant` is None for an outcome; `clock` is stream time at its processing."""

    request: int
    time: int
    clock: int
    value: float
    variant: int | None = None
    served: bool = True
    waits: bool = True


class Pair(NamedTuple):
    """An answer that met its outcome."""

    request: int
    variant: int
    predicted: float
    actual: float
    answer_time: int
    outcome_time: int


@dataclass
class _Answer:
    variant: int
    time: int
    value: float
    open: bool = True


@dataclass
class _Request:
    served: _Answer | None = None
    others: dict[int, _Answer] = field(default_factory=dict)
    outcome: tuple[int, float] | None = None  # waits for the served answer
    met: bool = False
    closed: bool = False
    actual: float | None = None


class OneByOne:
    """`prediction_ttl` and `outcome_ttl` are in the unit of time of the events."""

    def __init__(self, prediction_ttl: int, outcome_ttl: int) -> None:
        self.prediction_ttl, self.outcome_ttl = prediction_ttl, outcome_ttl
        self.requests: dict[int, _Request] = {}
        self.pairs: list[Pair] = []
        self.agreements: list[tuple[int, int, int]] = []  # request, served variant, other variant
        self.orphans = 0
        self.expired = 0

    def put(self, event: Event) -> str:
        """Process one event; the verdict's name."""
        request = self.requests.setdefault(event.request, _Request())
        self._expire(event.request, request, event.clock)
        return self._outcome(request, event) if event.variant is None else self._answer(request, event)

    def _expire(self, key: int, request: _Request, clock: int) -> None:
        served = request.served
        if served is not None and served.open and clock - served.time >= self.prediction_ttl:
            served.open = False
            self.expired += 1
            request.closed = True
        if request.outcome is not None and clock - request.outcome[0] >= self.outcome_ttl:
            if request.met:
                request.closed, request.actual = True, request.outcome[1]
            else:
                self.orphans += 1
                request.closed = bool(request.others)
            request.outcome = None
        elif served is None and request.outcome is None and request.others and not request.closed:
            latest = max(other.time for other in request.others.values())
            request.closed = clock - latest >= self.prediction_ttl

    def _answer(self, request: _Request, event: Event) -> str:
        assert event.variant is not None
        variant = event.variant
        # Of a closed request only the answers beside the served one are remembered by variant: a repeat of
        # the served answer says that it was served, so it is known anyway.
        known = variant in request.others or (
            request.served is not None and request.served.variant == variant and not request.closed
        )
        if known or (event.served and request.closed):
            return "DUPLICATE"
        answer = _Answer(variant, event.time, event.value)
        if event.served and request.served is None:
            request.served = answer
            self.agreements += [(event.request, variant, o.variant) for o in request.others.values() if o.open]
            if request.outcome is not None:
                self._pair(answer, event, request.outcome)
                request.closed, request.actual = True, request.outcome[1]
                request.outcome = None
            elif not event.waits:
                answer.open = False
                request.closed = True
            return "ACCEPTED"
        request.others[variant] = answer
        if request.closed or not event.waits:
            answer.open = False
            return "ACCEPTED"
        if request.served is not None and request.served.open:
            self.agreements.append((event.request, request.served.variant, variant))
        if request.outcome is not None:
            self._pair(answer, event, request.outcome)
            request.met = True
        return "ACCEPTED"

    def _outcome(self, request: _Request, event: Event) -> str:
        if request.closed and request.actual is None:
            request.actual = event.value
            return "LATE"
        if request.closed:
            return "DUPLICATE" if request.actual == event.value else "CONFLICT"
        if request.outcome is not None:
            return "DUPLICATE" if request.outcome[1] == event.value else "CONFLICT"
        outcome = (event.time, event.value)
        met = ran_out = False
        for other in request.others.values():
            if other.open and event.clock - other.time >= self.prediction_ttl:
                other.open = False
                self.expired += 1
                ran_out = True
            elif other.open:
                self._pair(other, event, outcome)
                met = True
        if request.served is not None:
            self._pair(request.served, event, outcome)
            request.closed, request.actual = True, event.value
            return "JOINED"
        if ran_out and not met:
            request.closed, request.actual = True, event.value
            return "LATE"
        request.outcome, request.met = outcome, met
        return "JOINED" if met else "WAITING"

    def _pair(self, answer: _Answer, event: Event, outcome: tuple[int, float]) -> None:
        answer.open = False
        self.pairs.append(Pair(event.request, answer.variant, answer.value, outcome[1], answer.time, outcome[0]))

    def finish(self) -> tuple[int, int]:
        """(expired answers, orphans) once everything has expired."""
        expired, orphans = self.expired, self.orphans
        for request in self.requests.values():
            answers = [a for a in (request.served, *request.others.values()) if a is not None]
            expired += sum(a.open for a in answers)
            orphans += request.outcome is not None and not request.met
        return expired, orphans
