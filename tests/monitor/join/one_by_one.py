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
    effective: int = -1

    @property
    def own_time(self) -> int:
        """Effective time: by default what is behind stream time counts as no older than that."""
        return max(self.time, self.clock, self.effective)


class Pair(NamedTuple):
    """An answer that met its outcome; `pair_time` is the later of the two, the outcome taken by its effective time."""

    request: int
    variant: int
    predicted: float
    actual: float
    answer_time: int
    outcome_time: int
    pair_time: int


@dataclass
class _Answer:
    variant: int
    time: int
    value: float
    open: bool = True


@dataclass
class _Outcome:
    time: int
    own_time: int
    value: float
    met: bool = False  # paired with an answer
    ran_out: bool = False  # too late for an answer, and in time for none


@dataclass
class _Request:
    served: _Answer | None = None
    others: dict[int, _Answer] = field(default_factory=dict)
    outcome: _Outcome | None = None  # waits for answers
    closed: bool = False
    actual: float | None = None
    marked: int = 0  # of one that has neither a served answer nor an outcome: when the latest of the others was given


class OneByOne:
    """Times and durations are in the unit of time of the events.

    `pane` is how far predictions may be behind stream time; `keeps` whether an outcome that met the served answer waits
    for others.
    """

    def __init__(self, prediction_ttl: int, outcome_ttl: int, pane: int = 0, *, keeps: bool = False) -> None:
        self.prediction_ttl, self.outcome_ttl = prediction_ttl, outcome_ttl
        self.pane, self.keeps = pane, keeps
        self.requests: dict[int, _Request] = {}
        self.pairs: list[Pair] = []
        self.agreements: list[tuple[int, int, int]] = []  # request, served variant, other variant
        self.orphans = 0
        self.expired = 0
        self.late = 0

    def put(self, event: Event) -> str:
        """Process one event; the verdict's name."""
        request = self.requests.setdefault(event.request, _Request())
        self._forget(request, event.clock)
        if event.variant is not None:
            return self._answer(request, event)
        verdict = self._outcome(request, event)
        self.late += verdict == "LATE"
        self.orphans += verdict == "ORPHAN"
        return verdict

    def _forget(self, request: _Request, clock: int) -> None:
        """What stream time has left behind."""
        served, outcome = request.served, request.outcome
        if served is not None and served.open and clock - served.time >= self.prediction_ttl:
            served.open = False
            self.expired += 1
            request.closed = True
        if outcome is not None and clock - outcome.own_time >= self.outcome_ttl + self.pane:
            if outcome.met or outcome.ran_out:
                request.closed, request.actual = True, outcome.value
            else:
                self.orphans += 1
                request.marked = outcome.own_time + self.outcome_ttl + self.pane
            request.outcome = None
        if served is None and request.outcome is None and request.others and not request.closed:
            request.closed = clock - request.marked >= self.prediction_ttl + self.pane

    def _meet(self, answer: _Answer, request: int, outcome: _Outcome) -> str:
        """Pair the two, or say by how they miss each other."""
        if outcome.own_time - answer.time >= self.prediction_ttl:
            answer.open = False
            self.expired += 1
            return "late"
        if answer.time - outcome.own_time >= self.outcome_ttl:
            return "early"
        answer.open = False
        outcome.met = True
        times = answer.time, outcome.time, max(answer.time, outcome.own_time)
        self.pairs.append(Pair(request, answer.variant, answer.value, outcome.value, *times))
        return "met"

    def _complete(self, request: _Request, outcome: _Outcome) -> None:
        """The served answer has ended with this outcome."""
        if self.keeps:
            outcome.ran_out = not outcome.met
            request.outcome = outcome
        else:
            request.closed, request.actual, request.outcome = True, outcome.value, None

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
            self._serve(request, answer, event)
        else:
            self._beside(request, answer, event)
        return "ACCEPTED"

    def _serve(self, request: _Request, answer: _Answer, event: Event) -> None:
        request.served = answer
        self.agreements += [(event.request, answer.variant, o.variant) for o in request.others.values() if o.open]
        outcome = request.outcome
        if outcome is not None:
            alone = not (outcome.met or outcome.ran_out)
            how = self._meet(answer, event.request, outcome)
            self.late += alone and how == "late"
            self.orphans += alone and how == "early"
            if how != "early":
                self._complete(request, outcome)
                return
            request.outcome = None
        if not event.waits:
            answer.open = False
            request.closed = True

    def _beside(self, request: _Request, answer: _Answer, event: Event) -> None:
        request.others[answer.variant] = answer
        answer.open = event.waits and not request.closed
        if request.closed:
            self.expired += event.waits and self.keeps
            return
        outcome = request.outcome
        if request.served is None and outcome is None:
            request.marked = max(request.marked, answer.time)
        late = outcome is not None and outcome.own_time - answer.time >= self.prediction_ttl
        if outcome is not None and late and not (outcome.met or outcome.ran_out):
            outcome.ran_out = True
            self.late += 1
        if not answer.open:
            return
        if request.served is not None and request.served.open:
            self.agreements.append((event.request, request.served.variant, answer.variant))
        if outcome is not None:
            self._meet(answer, event.request, outcome)

    def _outcome(self, request: _Request, event: Event) -> str:
        if request.closed and request.actual is None:
            request.actual = event.value
            return "LATE"
        if request.closed:
            return "DUPLICATE" if request.actual == event.value else "CONFLICT"
        if request.outcome is not None:
            return "DUPLICATE" if request.outcome.value == event.value else "CONFLICT"
        outcome = _Outcome(event.time, event.own_time, event.value)
        for other in request.others.values():
            if other.open:
                self._meet(other, event.request, outcome)
        if request.served is not None:
            how = self._meet(request.served, event.request, outcome)
            if how != "early":
                self._complete(request, outcome)
            return "JOINED" if outcome.met else "LATE" if how == "late" else "ORPHAN"
        if request.others and not outcome.met:
            outcome.ran_out = outcome.own_time - request.marked >= self.prediction_ttl
        request.outcome = outcome
        return "JOINED" if outcome.met else "LATE" if outcome.ran_out else "WAITING"

    def finish(self) -> tuple[int, int]:
        """(expired answers, orphans) once everything has expired."""
        expired, orphans = self.expired, self.orphans
        for request in self.requests.values():
            answers = [a for a in (request.served, *request.others.values()) if a is not None]
            expired += sum(a.open for a in answers)
            outcome = request.outcome
            orphans += outcome is not None and not (outcome.met or outcome.ran_out)
        return expired, orphans
