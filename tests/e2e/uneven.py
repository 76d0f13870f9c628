"""A stream that makes the order of partitions matter, if anything can: three models, fifteen partitions of uneven load.

Of twelve partitions of predictions one has 40 % of the records, one eight in all, one none, one two that lie some
hours apart; outcomes have a topic of three of their own. The stream has shadows, a challenger that fails and a
champion that fails, drift of features and of errors, delayed, early, late and repeated events, some that are ahead of
their time, many of one and the same time, and refused ones. The same seed and end give the same bytes.

Everything is decided by the log of each partition alone, also for a live daemon that is told of records in small steps:
an event is at most `DELAY` old when it is written and at most `AHEAD` ahead, a step takes `STEP`, and all of these
together are less than `LATENESS`. So a partition without records may be idle, and what comes in it later is not too
late for the others. The exceptions are late predictions, which are old enough to be late in a partition that is busy
enough to know the time; `late` says how many there are.

The stream ends with a tail: events of the model `clock` in every partition but the empty one, at a time when every
window has closed and nothing is waited for any more. A live daemon that has read the tail follows the time of day, a
replay ends with its last event; of the models that are compared both have nothing left to do by then. So what they
come to is compared without a word about how they end, and the model `clock` is not compared at all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.workload import RUBBISH

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
LATENESS: Final = 90 * SECOND
DELAY: Final = 20 * SECOND
AHEAD: Final = 30 * SECOND
STEP: Final = 36 * SECOND
PANE: Final = MINUTE
LARGE_PANE: Final = 15 * MINUTE  # of the model `kinds`: more answers than twice as many as it learns from
WITHIN: Final = 30 * MINUTE
EARLY: Final = 10 * MINUTE
MAX_SPAN: Final = 30 * MINUTE
TAIL: Final = WITHIN + EARLY + MAX_SPAN + 10 * MINUTE  # from the last event to the tail
TAIL_EVENTS: Final = 20  # in each partition: more than it takes to believe that time has jumped
CLOCK: Final = "clock"

TOGETHER: Final = 10 * SECOND  # outcomes that come soon are of so few times that many share one

PREDICTIONS, OUTCOMES = "predictions", "outcomes"
PARTITIONS: Final = {PREDICTIONS: 12, OUTCOMES: 3}
FEW, EMPTY, SPARSE, POISONED = 1, 2, 3, 4
BUSY: Final = (0, 4, 5, 6)  # have several records a minute
# When the partitions with only a few records have them, as shares of the stream. In between they are idle for long
# enough, also where the whole stream is written in some seconds: so that a live daemon closes panes as it goes.
FEW_AT: Final = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
SPARSE_AT: Final = (0.04, 0.68)
SHARES: Final = {0: 40, 4: 20, 5: 12, 6: 9, 7: 7, 8: 5, 9: 3, 10: 2.5, 11: 1.5}  # percent of the requests
BURSTS, BURST = 3, 60  # of refused records, in the partition POISONED
PER_REQUEST: Final = 2.15  # records, on average

_MODELS: Final = ("prices", "clicks", "kinds")
_LABELS: Final = {"clicks": ("yes", "no"), "kinds": ("cat", "dog", "owl")}
_CHAMPIONS: Final = {"prices": "v2", "clicks": "c2", "kinds": "k1"}
_SHADOWS: Final = {"prices": "v1", "clicks": "c1"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A record: when it is written, in ms, and where; `late` where it has to be counted as late."""

    at: int
    number: int
    topic: str = field(compare=False)
    partition: int = field(compare=False)
    value: bytes = field(compare=False)
    late: bool = field(compare=False, default=False)


@dataclass(frozen=True, slots=True)
class Uneven:
    """About `records` records, of which the last ones before the tail are of `end` (ms, at the full hour)."""

    records: int
    seed: int
    end: int
    hours: float = 3.0

    @property
    def start(self) -> int:
        """Time of the first events, ms."""
        return self.end - round(self.hours * 60) * MINUTE

    @property
    def tail(self) -> int:
        """Time of the tail, ms."""
        return self.end + TAIL

    def lines(self) -> list[Line]:
        """All records, in the order in which they are written."""
        chance = random.Random(self.seed)
        found: list[Line] = []
        requests = max(round(self.records / PER_REQUEST), 500)
        places = chance.choices(list(SHARES), list(SHARES.values()), k=requests)
        for number, place in enumerate(places):
            time = self.start + (self.end - self.start) * number // requests
            self._add(found, self._request(chance, f"r{number}", place, time))
        for name, partition, shares in (("few", FEW, FEW_AT), ("sparse", SPARSE, SPARSE_AT)):
            for i, share in enumerate(shares):
                time = self.start + round((self.end - self.start) * share)
                self._add(found, self._plain(chance, f"{name}{i}", partition, time))
        self._add(found, self._rubbish(chance))
        found += self._tail(len(found))
        return sorted(found)

    def steps(self) -> Iterator[list[Line]]:
        """The records as a live daemon is told of them: by global time, the tail at last."""
        step: list[Line] = []
        until = self.start + STEP
        for line in self.lines():
            while line.at >= until and until <= self.end + WITHIN + 2 * STEP:
                if step:
                    yield step
                step, until = [], until + STEP
            step.append(line)
        yield step

    @staticmethod
    def _add(found: list[Line], rows: Iterator[tuple[int, str, int, Any, bool]]) -> None:
        for at, topic, partition, event, late in rows:
            value = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
            found.append(Line(at, len(found), topic, partition, value, late))

    # -- requests ----------------------------------------------------------------------------------------

    def _share(self, time: int) -> float:
        """How much of the stream is over, 0 to 1."""
        return (time - self.start) / (self.end - self.start)

    def _request(
        self, chance: random.Random, request: str, partition: int, time: int
    ) -> Iterator[tuple[int, str, int, Any, bool]]:
        model = chance.choices(_MODELS, (45, 35, 20))[0]
        version = self._version(chance, model, time)
        actual, predicted = self._values(chance, model, time)
        answer = self._answer(chance, request, model, version, time) | {"prediction": predicted}
        if chance.random() < self._failure(model, version, time):
            answer = {k: v for k, v in answer.items() if k != "prediction"} | {"error": "Timeout"}
        written = time + chance.randrange(0, DELAY)
        if chance.random() < 0.02:  # a clock that is ahead, by less than the lateness or by far more
            far = partition in BUSY and chance.random() < 0.02
            written = time - (chance.randrange(3 * MINUTE, 9 * MINUTE) if far else chance.randrange(0, AHEAD))
        rows = [answer]
        if model in _SHADOWS and chance.random() < 0.35:
            shadow = {**answer, "version": _SHADOWS[model], "served": False, "prediction": predicted}
            shadow.pop("error", None)
            rows.insert(chance.randrange(2), shadow)
        for event in rows:
            yield written, PREDICTIONS, partition, event, False
        if chance.random() < 0.01:
            yield written + chance.randrange(1, DELAY), PREDICTIONS, partition, {**answer, "latency_ms": 1}, False
        if model != "kinds" and partition in BUSY and self._share(time) > 0.05 and chance.random() < 0.008:
            old = time - LATENESS - 3 * PANE
            late = {**answer, "request_id": f"{request}-late", "time": old}
            yield time, PREDICTIONS, partition, late, True
            yield time, OUTCOMES, partition % 3, _outcome(f"{request}-late", model, time, actual), False
        yield from self._outcomes(chance, request, model, partition % 3, time, actual)

    def _outcomes(
        self, chance: random.Random, request: str, model: str, partition: int, time: int, actual: Any
    ) -> Iterator[tuple[int, str, int, Any, bool]]:
        kind = chance.random()
        if kind < 0.15:
            return
        if kind < 0.20:
            comes = time - chance.randrange(0, DELAY)  # before its prediction
        elif kind < 0.90:
            comes = time + chance.randrange(5 * SECOND, 5 * MINUTE)
            comes = -(-comes // TOGETHER) * TOGETHER
        elif kind < 0.985:
            comes = time + chance.randrange(5 * MINUTE, WITHIN - 5 * MINUTE)
        else:
            comes = time + WITHIN + LATENESS + 5 * MINUTE  # nobody waits for it any more
        comes = min(comes, self.end + WITHIN)
        event = _outcome(request, model, comes, actual)
        yield comes, OUTCOMES, partition, event, False
        again = comes + 10 * SECOND
        if 0.20 <= kind < 0.21:
            yield again, OUTCOMES, partition, {**event, "time": again}, False
        elif 0.21 <= kind < 0.22:
            yield again, OUTCOMES, partition, {**event, "time": again, "actual": _other(model, actual)}, False
        elif 0.22 <= kind < 0.23:
            yield comes, OUTCOMES, partition, {**event, "request_id": f"{request}-nobody"}, False

    def _plain(
        self, chance: random.Random, request: str, partition: int, time: int
    ) -> Iterator[tuple[int, str, int, Any, bool]]:
        """A request of a partition that has only a few."""
        actual, predicted = self._values(chance, "prices", time)
        answer = self._answer(chance, request, "prices", "v2", time) | {"prediction": predicted}
        yield time + chance.randrange(0, DELAY), PREDICTIONS, partition, answer, False
        yield time + MINUTE, OUTCOMES, partition % 3, _outcome(request, "prices", time + MINUTE, actual), False

    def _answer(self, chance: random.Random, request: str, model: str, version: str, time: int) -> dict[str, Any]:
        share = self._share(time)
        cities = ["aa", "bb", "cc", "cc"] if share < 0.6 or model == "prices" else ["aa", "dd", "dd", "cc"]
        size = round(chance.gauss(1.5 if share >= 0.6 and model == "prices" else 0.0, 1.0), 3)
        return {
            "type": "prediction", "request_id": request, "time": time, "model": model, "version": version,
            "latency_ms": chance.randrange(5, 80), "segment": chance.choice(["eu", "us"]),
            "features": {"size": size, "age": chance.randrange(18, 90), "city": chance.choice(cities)},
        }  # fmt: skip

    def _version(self, chance: random.Random, model: str, time: int) -> str:
        """The challenger of `prices` gets a tenth, until an application has heard that it failed."""
        challenged = model == "prices" and self._share(time) < 0.5 and chance.random() < 0.1
        return "v3" if challenged else _CHAMPIONS[model]

    def _failure(self, model: str, version: str, time: int) -> float:
        share = self._share(time)
        if (version == "v3" and share >= 0.3) or (model == "clicks" and 0.5 <= share < 0.6):
            return 0.6
        return 0.01

    def _values(self, chance: random.Random, model: str, time: int) -> tuple[Any, Any]:
        """(what was actual, what was predicted): errors grow in the last quarter."""
        worse = self._share(time) >= 0.75
        if model == "prices":
            actual, most = chance.randrange(0, 800) / 8, 48 if worse else 8
            return actual, actual + chance.randrange(-most, most + 1) / 8
        label = chance.choice(_LABELS[model])
        wrong = 0.5 if worse and model == "kinds" else 0.15
        return label, _other(model, label) if chance.random() < wrong else label

    # -- the rest ----------------------------------------------------------------------------------------

    def _rubbish(self, chance: random.Random) -> Iterator[tuple[int, str, int, Any, bool]]:
        for i in range(30):
            at = self.start + chance.randrange(self.end - self.start)
            yield at, *((OUTCOMES, i % 3) if i % 2 else (PREDICTIONS, 5)), RUBBISH[i % len(RUBBISH)][0], False
        for burst in range(BURSTS):
            at = self.start + (self.end - self.start) * (burst + 1) // (BURSTS + 1)
            for _ in range(BURST):
                yield at, PREDICTIONS, POISONED, b"{", False

    def _tail(self, number: int) -> Iterator[Line]:
        for i in range(TAIL_EVENTS):
            for topic, partitions in PARTITIONS.items():
                for partition in range(partitions):
                    if (topic, partition) == (PREDICTIONS, EMPTY):
                        continue
                    at = self.tail + i * SECOND
                    event = {"type": "resources", "model": CLOCK, "version": "tick", "time": at, "memory_mb": 1.0}
                    number += 1
                    yield Line(at, number, topic, partition, json.dumps(event).encode())


def _outcome(request: str, model: str, time: int, actual: Any) -> dict[str, Any]:
    return {"type": "outcome", "request_id": request, "model": model, "time": time, "actual": actual}


def _other(model: str, value: Any) -> Any:
    """A wrong value."""
    if model == "prices":
        return value + 1
    labels = _LABELS[model]
    return labels[(labels.index(value) + 1) % len(labels)]


def late_in(lines: Sequence[Line]) -> int:
    """How many of the records are late predictions."""
    return sum(line.late for line in lines)


def models() -> dict[str, Any]:
    """The configuration: learned references, baselines, concept drift, and rules with and without a consequence."""
    errors = {
        "name": "errors", "metric": "error_rate", "above": 0.3, "hard": True, "severity": "critical",
        "for": "2 checks", "min_n": 20, "then": "rollback",
    }  # fmt: skip
    worse = {"name": "mae", "metric": "mae", "above": "150% of baseline", "for": "2 checks"}
    wrong = {"name": "accuracy", "metric": "accuracy", "drop": "10 points", "for": "2 checks"}
    return {
        "prices": {
            **_model("regression", "v2", 1_500, [errors, worse], 300),
            "previous": "v1", "shadows": ["v1"], "routes": {"v3": "10%"},
        },
        "clicks": {
            **_model("binary", "c2", 1_000, [{**errors, "then": "fallback"}, wrong], 200),
            "previous": "c1", "shadows": ["c1"],
        },
        "kinds": {**_model("multiclass", "k1", 100, [wrong], 200), "window": _window(LARGE_PANE, LARGE_PANE)},
        CLOCK: {"task": "regression", "champion": "tick", "outcomes": None, "drift": None, "rules": []},
    }  # fmt: skip


def _window(span: int, pane: int) -> dict[str, Any]:
    return {"span": f"{span}ms", "pane": f"{pane}ms", "min_events": 150, "max_span": f"{MAX_SPAN}ms"}


def _model(task: str, champion: str, learn: int, rules: list[dict[str, Any]], baseline: int) -> dict[str, Any]:
    return {
        "task": task,
        "champion": champion,
        "reference": {"learn": learn},
        "window": _window(5 * MINUTE, PANE),
        "outcomes": {
            "within": f"{WITHIN}ms", "early": f"{EARLY}ms", "min_coverage": "60%", "baseline_n": baseline,
            "concept_drift": "adwin",
        },
        "rules": rules,
        # By the clock on the wall: never within a test.
        "fallback": {"chain": ["previous", "default"], "default": {"value": 0}, "recover_after": "7d"},
    }  # fmt: skip
