"""What a serving application could write: two models, their answers, outcomes, repeats, and rubbish.

The same seed gives the same bytes. Values are multiples of an eighth, so that sums are exact and can be compared
with `==` whatever the order in which they were added.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

PREDICTIONS: Final = "predictions"
OUTCOMES: Final = "outcomes"
TOPICS: Final = (PREDICTIONS, OUTCOMES)

T0: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z: at the full minute
SECOND: Final = 1_000
LATENESS: Final = 4 * SECOND
PANE: Final = 5 * SECOND
SPAN: Final = 2 * PANE
LONGEST: Final = 12 * PANE
MIN_EVENTS: Final = 150
WITHIN: Final = 60 * SECOND
EARLY: Final = 20 * SECOND
LIMIT: Final = 0.3  # of the error rate
CHECKS: Final = 2

_OTHER: Final = {"yes": "no", "no": "yes"}

RUBBISH: Final[tuple[tuple[bytes, str], ...]] = (
    (b"{", "not_json"),
    (b"", "empty"),
    (b"[1, 2]", "not_an_object"),
    (b'{"type":"prediction","request_id":"x","time":1700000000000,"model":"prices","version":"v2"}', "missing_field"),
    (
        b'{"type":"prediction","request_id":"x","time":1700000000000,"model":"nobody","version":"v","prediction":1}',
        "unknown_model",
    ),
    (b'{"type":"outcome","request_id":"x","time":1700000000000,"model":"prices","actual":NaN}', "not_finite"),
    (b'{"type":"prediction","request_id":"x","time":4e15,"model":"prices","version":"v2","prediction":1}', "bad_time"),
    (b'{"type":"news","request_id":"x"}', "unknown_type"),
)


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A record as it is produced: when, to which topic, and its bytes. `reason` is why it must be refused."""

    at: int
    number: int
    topic: str = field(compare=False)
    value: bytes = field(compare=False)
    reason: str | None = field(compare=False, default=None)


@dataclass(frozen=True, slots=True)
class Workload:
    """`seconds` of stream time with so many requests each.

    With `ordered`, the stream has events whose fate depends on the total order of all records: late predictions
    and late outcomes. Without it every order that keeps the one of each partition gives the same results.
    """

    seed: int
    seconds: int
    per_second: int = 20
    ordered: bool = False
    rubbish: bool = True
    resources: bool = True

    def lines(self) -> list[Line]:
        """All records in the order in which they are produced."""
        chance = random.Random(self.seed)
        found: list[Line] = []
        for topic, at, event in self._events(chance):
            found.append(Line(at, len(found), topic, _encoded(event)))
        if self.rubbish:
            for i, (value, reason) in enumerate(RUBBISH * 3):
                at = T0 + (i * 7_919) % (self.seconds * SECOND)
                found.append(Line(at, len(found), OUTCOMES if i % 3 else PREDICTIONS, value, reason))
        return sorted(found)

    def _events(self, chance: random.Random) -> Iterator[tuple[str, int, dict[str, Any]]]:
        step = SECOND // self.per_second
        for number in range(self.seconds * self.per_second):
            time = T0 + number * step
            model = "prices" if number % 3 else "clicks"
            yield from self._request(chance, f"r{number}", model, time)
            if self.resources and number % (5 * self.per_second) == 0:
                memory = {"type": "resources", "model": model, "version": "v2", "time": time, "memory_mb": 512.5}
                yield PREDICTIONS, time, memory

    def _request(
        self, chance: random.Random, request: str, model: str, time: int
    ) -> Iterator[tuple[str, int, dict[str, Any]]]:
        fails = chance.random() < (0.6 if self._is_bad(model, time) else 0.02)
        actual, predicted = _values(chance, model)
        arrives = time + chance.randrange(0, 1_500)  # a little out of order, less than the lateness
        answer = {
            "type": "prediction", "request_id": request, "time": time, "model": model, "version": "v2",
            "latency_ms": chance.randrange(5, 80), "segment": chance.choice(["eu", "us"]),
            "features": {"size": self._size(chance, time), "city": chance.choice(["aa", "bb", "cc"])},
        }  # fmt: skip
        answer |= {"error": "Timeout"} if fails else {"prediction": predicted}
        shadow = {**answer, "version": "v1", "served": False, "prediction": predicted}
        shadow.pop("error", None)
        shadows = chance.random() < 0.3
        # One that comes after its request was joined is not joined: whether it does is a matter of the total order.
        first = not self.ordered or chance.random() < 0.5
        if shadows and first:
            yield PREDICTIONS, arrives, shadow
        yield PREDICTIONS, arrives, answer
        if shadows and not first:
            yield PREDICTIONS, arrives + 1, shadow
        if chance.random() < 0.01:
            yield PREDICTIONS, arrives + chance.randrange(1, 200), {**answer, "latency_ms": 1}  # again
        if chance.random() < 0.002:
            yield PREDICTIONS, arrives, {**answer, "request_id": f"{request}-new", "version": "v9"}  # not configured
        yield from self._outcome(chance, request, model, time, actual)
        if self.ordered and chance.random() < 0.004:
            late = time + 2 * SPAN + LATENESS
            yield PREDICTIONS, late, {**answer, "request_id": f"{request}-late"}

    def _outcome(
        self, chance: random.Random, request: str, model: str, time: int, actual: float | str
    ) -> Iterator[tuple[str, int, dict[str, Any]]]:
        kind = chance.random()
        outcome = {"type": "outcome", "request_id": request, "model": model, "actual": actual}
        if kind < 0.1:
            if self.ordered and kind < 0.02:
                comes = time + 3 * WITHIN
                yield OUTCOMES, comes, {**outcome, "time": comes}
            return
        comes = time + (chance.randrange(-2_000, 0) if kind < 0.15 else chance.randrange(2_000, 30_000))
        yield OUTCOMES, comes, {**outcome, "time": comes}
        if kind > 0.98:
            yield OUTCOMES, comes + 10, {**outcome, "time": comes + 10}  # again
        elif kind > 0.97:
            other = actual + 1 if isinstance(actual, float) else _OTHER[actual]
            yield OUTCOMES, comes + 10, {**outcome, "time": comes + 10, "actual": other}  # something else
        elif kind > 0.96:
            yield OUTCOMES, comes, {**outcome, "time": comes, "request_id": f"{request}-nobody"}

    def _is_bad(self, model: str, time: int) -> bool:
        """In the second and the fourth fifth of the time: `prices` at once, `clicks` a little later."""
        elapsed = (time - T0) / (self.seconds * SECOND) - (0.02 if model == "clicks" else 0.0)
        return 0.2 <= elapsed < 0.4 or 0.6 <= elapsed < 0.8

    def _size(self, chance: random.Random, time: int) -> float:
        """A feature that drifts in the second half."""
        drifted = time - T0 > self.seconds * SECOND // 2
        return round(chance.gauss(3.0 if drifted else 0.0, 1.0), 3)


def _values(chance: random.Random, model: str) -> tuple[float | str, float | str]:
    """(what was actual, what was predicted)."""
    if model == "prices":
        actual = chance.randrange(0, 800) / 8
        return actual, actual + chance.randrange(-8, 9) / 8
    label = chance.choice(["yes", "no"])
    return label, label if chance.random() < 0.8 else _OTHER[label]


def _encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def reference_table(seed: int, rows: int = 2_000) -> str:
    """A CSV of what `size` and `city` are like before they drift."""
    chance = random.Random(seed)
    lines = [f"{chance.gauss(0.0, 1.0):.3f},{chance.choice(['aa', 'bb', 'cc'])}" for _ in range(rows)]
    return "\n".join(["size,city", *lines]) + "\n"


def models(*, drift: bool = True) -> dict[str, Any]:
    """The configuration of the two models, as `auditor` understands it."""
    return {
        "prices": _model("regression", ["mae"], "rollback", drift={"reference": "reference.csv"} if drift else {}),
        "clicks": _model("binary", ["accuracy"], "fallback", drift={"reference": {"learn": 500}} if drift else {}),
    }


def _model(task: str, metrics: list[str], then: str, *, drift: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        "champion": "v2",
        "previous": "v1",
        "shadows": [],
        "window": {
            "span": f"{SPAN}ms", "pane": f"{PANE}ms", "min_events": MIN_EVENTS, "max_span": f"{LONGEST}ms",
        },
        **(drift or {"drift": None}),
        "outcomes": {
            "within": f"{WITHIN}ms", "early": f"{EARLY}ms", "min_coverage": "100%", "metrics": metrics,
        },
        "rules": [
            {
                "name": "errors", "metric": "error_rate", "above": LIMIT, "hard": True, "severity": "critical",
                "for": f"{CHECKS} checks", "min_n": 1, "then": then,
            }
        ],
        # By the clock on the wall: never within a test.
        "fallback": {"chain": ["previous", "default"], "default": {"value": 0}, "recover_after": "7d"},
    }  # fmt: skip
