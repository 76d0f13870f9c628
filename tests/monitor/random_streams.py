"""Random streams for the laws of the core: several models, versions and partitions, and everything that goes wrong.

`a_busy_core` watches them with rules that fire and recover every now and then, so that alerts, decisions and
drift episodes are many.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fallback.types import BusinessRule, Condition, Route, ServingSpec, Tier
from monitor.spec import Consequence, CoreSpec, LimitBasis, Limits, ModelSpec, Severity, Task
from tests.monitor.kit import (
    HOUR,
    SECOND,
    SMALL,
    T0,
    Event,
    Record,
    a_drift,
    a_model,
    a_rule,
    counted,
    from_file,
    learned,
    outcome,
    prediction,
    records_of,
    resources,
    some_outcomes,
    timed,
)

_WORDS = ("red", "green", "blue")
_RUBBISH = (b"", None, b"{", b'"text"', b'{"type":"prediction"}', b'{"type":"joke","request_id":"1"}', b"\xff\xfe")

_SERVING = ServingSpec(
    champion="v1",
    previous="v0",
    routes=(Route("v2", 1_000),),
    shadows=("v3",),
    chain=(Tier.PREVIOUS, Tier.RULES, Tier.DEFAULT),
    rules=(BusinessRule((Condition("x", ">", 0.5),), 1),),
    default=0,
    has_default=True,
)
_RULES = (
    a_rule("errors", "error_rate", above=0.2, severity=Severity.CRITICAL, then=Consequence.FALLBACK, min_n=5),
    a_rule("slow", "latency_p95_ms", above=60, checks=2, hard=True),
    a_rule("much", "prediction_mean", above=1.2, of=LimitBasis.SHARE, min_n=5, dwell=20 * SECOND),
    a_rule("cost", "cost", above=0.9, hard=True),
    a_rule("disagrees", "agreement", below=0.5, min_n=3),
    a_rule("memory", "memory_mb", above=1.1, of=LimitBasis.SHARE, min_n=2),
)


def a_busy_core(*, lateness: int = 2 * SECOND, limits: Limits = SMALL) -> CoreSpec:
    """A binary model by time with a learned reference, a regression counted, with one from a file, and classes."""
    by_time = a_model(
        "bin",
        Task.BINARY,
        window=timed(10 * SECOND, 20 * SECOND, longest=60 * SECOND, min_events=25),
        reference=learned(60),
        drift=a_drift(100, period=3_600 * SECOND, resolve_after=2),
        outcomes=some_outcomes(25 * SECOND, outcome_ttl=9 * SECOND, min_coverage=0.5, pane=20 * SECOND, baseline_n=20),
        rules=(
            *_RULES,
            a_rule(
                "accuracy", "accuracy", below=-0.05, of=LimitBasis.POINTS, then=Consequence.ROLLBACK, min_n=5, checks=2
            ),
            a_rule("auc", "roc_auc", below=0.45, hard=True, min_n=5),
            a_rule("revenue", "revenue", below=0.3, hard=True),
        ),
        no_data_after=7 * SECOND,
        serving=_SERVING,
        recover_after=15 * SECOND,
    )
    by_number = a_model(
        "reg",
        Task.REGRESSION,
        window=counted(40, 20),
        reference=from_file(),
        drift=a_drift(100, events=50_000, resolve_after=2),
        outcomes=some_outcomes(
            40 * SECOND, outcome_ttl=9 * SECOND, min_coverage=0.5, baseline_n=20, concept_drift="adwin"
        ),
        rules=(*_RULES, a_rule("error", "mae", above=1.3, of=LimitBasis.SHARE, then=Consequence.ROLLBACK, min_n=5)),
        no_data_after=9 * SECOND,
        serving=replace(_SERVING, shadows=()),
    )
    classes = a_model(
        "cls",
        Task.MULTICLASS,
        window=counted(30, 30),
        reference=learned(40),
        drift=a_drift(100, period=3_600 * SECOND),
        outcomes=some_outcomes(30 * SECOND, outcome_ttl=5 * SECOND, min_coverage=0.3, baseline_n=10),
        rules=(a_rule("f1", "f1_macro", below=0.9, of=LimitBasis.SHARE, hard=True, min_n=5), *_RULES[:2]),
    )
    silent = a_model(
        "mute",
        Task.REGRESSION,
        window=timed(2 * SECOND, 6 * SECOND),
        rules=(
            a_rule("errors", "error_rate", above=0.2, then=Consequence.FALLBACK, hard=True),
            a_rule("wild", "prediction_sd", above=4.3, hard=True, then=Consequence.ROLLBACK, min_n=9),
        ),
        serving=replace(_SERVING, previous=None),
    )
    return CoreSpec((by_time, by_number, classes, silent), lateness, 600 * SECOND, limits)


def a_reference(r: random.Random, rows: int = 300) -> list[dict[str, Any]]:
    """Rows of features as `random_events` makes them while all is well."""
    return [_features(r, drifted=False) for _ in range(rows)]


def _features(r: random.Random, *, drifted: bool) -> dict[str, Any]:
    features: dict[str, Any] = {
        "x": round(r.gauss(1.5 if drifted else 0.0, 1.0), 3),
        "word": r.choice(_WORDS[:1] if drifted else _WORDS),
        "count": r.choice((0, 0, 0, 1, 2)),
    }
    if r.random() < (0.5 if drifted else 0.05):
        features["x"] = None
    if r.random() < 0.02:
        features["x"] = "oops"
    if r.random() < 0.02:
        features["note"] = r.choice(({"deep": 1}, "a text", [1]))
    return features


class _Stream:
    """The state of a random stream: what was asked and not answered yet."""

    def __init__(self, r: random.Random, models: tuple[ModelSpec, ...]) -> None:
        self.r = r
        self.models = {m.name: m for m in models}
        self.now = T0
        self.number = 0
        self.said: list[Event] = []
        self.owed: list[Event] = []
        self.troubled = False

    def events(self, count: int) -> Iterator[Event | bytes | None]:
        """Events in the order of the stream."""
        r = self.r
        made = 0
        while made < count:
            if r.random() < 0.01:
                self.troubled = not self.troubled
            self.now += r.choice((0, 50, 200, 400))
            if r.random() < 0.003:
                self.now += r.choice((8, 15, 40)) * SECOND
            for event in self._next():
                made += 1
                yield event

    def _next(self) -> Iterator[Event | bytes | None]:
        r = self.r
        kind = r.random()
        if kind < 0.5:
            yield from self._request()
        elif kind < 0.86 and self.owed:
            yield self.owed.pop(r.randrange(len(self.owed)) if r.random() < 0.3 else 0)
        elif kind < 0.90 and self.said:
            yield r.choice(self.said[-30:])
        elif kind < 0.93:
            yield resources(
                self._time(), model=r.choice(["bin", "reg"]), version=r.choice(("v1", "v2")),
                memory_mb=round(r.gauss(130 if self.troubled else 100, 5), 2), cpu_percent=r.choice((None, 50.0)),
            )  # fmt: skip
        elif kind < 0.95:
            yield r.choice(_RUBBISH)
        elif kind < 0.97:
            yield outcome(f"nobody {r.randrange(50)}", self._time(), 1, model=r.choice(["bin", "reg", "mute", "none"]))
        else:
            yield prediction(f"far {self.number}", self.now + 2_000 * HOUR, 1.0, model="reg")

    def _time(self) -> int:
        return self.now - self.r.choice((0, 0, 0, 0, 300, 1_500, 4_000, 12_000))

    def _request(self) -> Iterator[Event]:
        r = self.r
        self.number += 1
        model = r.choice(("bin", "bin", "reg", "reg", "cls", "mute"))
        request = f"{model} {self.number}"
        version = r.choice(("v1",) * 7 + ("v2",) * 3 + ("v9",))
        actual = self._actual(model)
        served = self._answer(model, request, version, actual)
        answers = [served]
        if r.random() < 0.25:
            shadow = self._answer(model, request, r.choice(("v3", "v2", "v1")), actual)
            answers.insert(r.randrange(2), {**shadow, "served": False})
        if r.random() < 0.85:
            self.owed.append(self._outcome(request, model, actual))
        if r.random() < 0.04:
            self.owed.append(self._outcome(request, model, self._actual(model)))
        if r.random() < 0.05:
            yield self._outcome(request, model, actual)
        self.said += answers
        yield from answers

    def _outcome(self, request: str, model: str, actual: Any) -> Event:
        r = self.r
        more = {"metrics": {"revenue": round(r.random(), 2)}} if r.random() < 0.3 else {}
        return outcome(request, self.now + r.randrange(3) * SECOND, actual, model=model, **more)

    def _actual(self, model: str) -> Any:
        r = self.r
        if model == "cls":
            return r.choice(("cat", "dog", "owl"))
        if model == "bin":
            return r.choice((0, 1, 1, True, "no"))
        return r.choice((0, round(r.gauss(10, 3), 2), round(r.gauss(10, 3), 2)))

    def _answer(self, model: str, request: str, version: str, actual: Any) -> Event:
        r = self.r
        more: dict[str, Any] = {"features": _features(r, drifted=self.troubled)}
        if r.random() < 0.7:
            more["latency_ms"] = round(r.expovariate(1 / (80 if self.troubled else 15)), 2)
        if r.random() < 0.3:
            more["metrics"] = {"cost": round(r.random() + 0.6 * self.troubled, 2), r.choice("ab"): 1.5, "c": None}
        if r.random() < 0.05:
            more["batch"] = {"size": 4, "ms": round(r.random() * 9, 1)}
        if r.random() < 0.1:
            more |= {
                "segment": r.choice(("eu", "us")),
                "assigned": "v1",
                "served_by": r.choice(("primary", "previous")),
            }
        if r.random() < (0.45 if self.troubled else 0.05):
            return prediction(request, self._time(), None, model=model, version=version, error="Timeout", **more)
        wrong = r.random() < (0.6 if self.troubled else 0.2)
        value: Any = self._actual(model) if wrong else actual
        if model == "bin" and r.random() < 0.8:
            positive = value in (1, True) and not isinstance(value, str)
            more["scores"] = {"1": round(min(max(r.gauss(0.7 if positive else 0.3, 0.2), 0), 1), 3)}
        if model == "cls" and r.random() < 0.5:
            more["scores"] = {"cat": 0.5, "dog": 0.3, "owl": 0.2}
        if model in ("reg", "mute"):
            value = value + round(r.gauss(3 if self.troubled else 0, 1), 3)
        return prediction(request, self._time(), value, model=model, version=version, **more)


def random_records(r: random.Random, count: int, core: CoreSpec, *, partitions: int = 1) -> list[Record]:
    """About `count` records."""
    events = list(_Stream(r, core.models).events(count))
    return records_of(events, [r.randrange(partitions) for _ in events])
