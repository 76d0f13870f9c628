"""A stream of events of which most are mutated, through the pipeline, a store, status, page and metrics.

Each record is accepted, refused with a reason, or ignored; counts add up; what is as it should be among them counts;
and after a restart from the store everything is as it was.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from monitor.config import build
from monitor.config.load import parse
from monitor.publishing.outbox import Outbox
from monitor.store import reader
from monitor.store.engine import connect
from monitor.web.metrics import MetricsSnapshot, Telemetry
from monitor.web.page import render
from tests.e2e import odd
from tests.e2e.odd import Fault
from tests.monitor.kit import SECOND, T0, Record, StoredRun, outcome, prediction, records_of, resources

BATCHES: Final = 12
FIELDS: Final = (
    "schema", "type", "request_id", "time", "model", "version", "assigned", "assigned_by", "synthetic", "key", "served",
    "served_by", "segment", "features", "prediction", "scores", "latency_ms", "error", "metrics", "batch", "actual",
    "memory_mb", "cpu_percent", "gpu_percent", "of my own",
)  # fmt: skip
CONFIGURATION: Final = {
    "stream": {"url": "file:./s", "events": ["events"], "lateness": "1s"},
    "store": {"url": "sqlite:///x.db"},
    "limits": {"features": 50, "event_bytes": 65_536, "pending": 20_000, "seen": 50_000, "labels": 1_000},
    "models": {
        "price": {
            "task": "regression", "champion": "v1", "previous": "v0", "routes": {"v2": "5%"}, "shadows": ["v3"],
            "reference": {"learn": 200}, "window": {"events": 200, "every": 50},
            "drift": {"false_alarms": "1 per 1000 events", "numeric": ["ks", "wasserstein", "psi"]},
            "outcomes": {"within": "1h", "concept_drift": "adwin", "baseline_n": 20},
            "metrics": {"cost": "lower", "gain": "higher"}, "no_data": "10m",
            "rules": [
                {"name": "cost", "metric": "cost", "above": 5, "hard": True, "min_n": 1},
                {"name": "error", "metric": "mae", "above": "105% of baseline", "min_n": 1},
                {"name": "slow", "metric": "latency_p99_ms", "above": 50, "min_n": 1, "then": "fallback"},
                {"name": "fails", "metric": "error_rate", "above": "1%", "min_n": 1, "then": "rollback"},
                {"name": "fit", "metric": "r2", "drop": "3 points", "min_n": 1},
                {"name": "memory", "metric": "memory_mb", "above": 10, "min_n": 1},
            ],
            "fallback": {"recover_after": "1s", "default": {"value": 0}, "ensemble": ["v1", "v0"]},
        },
        "spam": {
            "task": "binary", "champion": "v1", "shadows": ["v2"], "reference": {"learn": 100},
            "window": {"span": "60s", "pane": "10s", "min_events": 5}, "outcomes": {"within": "10m"},
        },
        "kind": {
            "task": "multiclass", "champion": "v1", "reference": {"learn": 150},
            "window": {"span": "60s", "pane": "10s", "min_events": 5}, "outcomes": None,
        },
    },
}  # fmt: skip
ANSWERS: Final[Mapping[str, Callable[[random.Random], Any]]] = {
    "price": lambda chance: chance.gauss(10, 2),
    "spam": lambda chance: chance.choice([0, 1, chance.random()]),
    "kind": lambda chance: chance.choice("abc"),
}


class _Events:
    """Events in the order of time, each as it should be."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.count, self.now = 0, T0

    def next(self) -> dict[str, Any]:
        chance = self._chance
        self.count += 1
        self.now += chance.choice([0, 50, 200])
        model = chance.choice(sorted(ANSWERS))
        answer = ANSWERS[model](chance)
        request = f"r{self.count if chance.random() < 0.7 else chance.randrange(self.count)}"
        match chance.choices(("prediction", "outcome", "resources"), (65, 30, 5))[0]:
            case "prediction":
                features = {
                    "load": chance.gauss(10, 2),
                    "fuel": chance.choice(["gas", "oil"]),
                    "n": chance.randrange(5),
                }
                return dict(
                    prediction(
                        request, self.now, answer, model=model, version=chance.choice(["v1", "v1", "v1", "v2", "v3"]),
                        features=features, latency_ms=chance.expovariate(0.1), metrics={"cost": chance.random()},
                    )
                )  # fmt: skip
            case "outcome":
                actual = round(answer) if model == "spam" else answer
                return dict(outcome(request, self.now, actual, model=model, metrics={"gain": chance.random()}))
            case _:
                return dict(resources(self.now, model=model, memory_mb=100, cpu_percent=5))


def mutated(chance: random.Random, event: dict[str, Any]) -> bytes:
    """The event with one to three changes, as bytes."""
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        name = chance.choice([*event, *FIELDS])
        inner = event.get(name)
        match chance.randrange(6):
            case 0 if event:
                event.pop(chance.choice(list(event)))
            case 1 if isinstance(inner, dict):
                event[name] = inner | {chance.choice([*inner, *odd.TEXTS]): odd.value(chance)}
            case 2:
                wide = chance.choice([1, 49, 50, 51, 2_000])
                event["features"] = {f"f{i}": chance.choice(odd.NUMBERS) for i in range(wide)}
            case 3 if isinstance(event.get("time"), int):
                event["time"] += chance.choice([599 * SECOND, 601 * SECOND, -(10**9), -(10**12), 10**15])
            case _:
                event[name] = odd.value(chance)
    text = odd.written(event)
    if chance.random() < 0.1 and event:  # a field twice
        text = text[:-1] + f",{odd.written({chance.choice(list(event)): odd.value(chance)})[1:]}"
    raw = text.encode("utf-8", "surrogatepass")
    return odd.damaged(chance, raw) if chance.random() < 0.15 else raw


def a_round(chance: random.Random, folder: Path) -> tuple[Counter[str], list[Fault]]:
    """Some batches with a restart among them."""
    tried: Counter[str] = Counter()
    faults: list[Fault] = []
    engine = connect(f"sqlite:///{folder}/fuzz.db")
    run = StoredRun(build.core(parse(json.dumps(CONFIGURATION), {})), engine=engine)
    events, offset = _Events(chance), 0
    try:
        for number in range(BATCHES):
            values, good = _batch(chance, events)
            records = [record._replace(offset=offset + record.offset) for record in records_of(values)]
            offset += len(records)
            tried.update({"as they should be": len(good), "mutated": len(values) - len(good)})
            whole = b"\n".join(value or b"" for value in values)
            with odd.caught(faults, whole):
                _take(run, records, {records[i].offset for i in good}, events.now)
                _look(run, Outbox(engine), offset)
                if number == BATCHES // 2:
                    _restart(run)
            if faults:
                break
        tried.update({f"refused: {why}": n for why, n in run.pipeline.totals.dead_letters_by_reason.items()})
    finally:
        engine.dispose()
    return tried, faults


def _batch(chance: random.Random, events: _Events) -> tuple[list[bytes | None], list[int]]:
    """Records, and which of them are as they should be."""
    values: list[bytes | None] = []
    good = []
    for _ in range(chance.choice([1, 7, 100, 200])):
        event = events.next()
        if chance.random() < 0.4:
            good.append(len(values))
            values.append(json.dumps(event).encode())
        else:
            values.append(chance.choices([mutated(chance, event), None, b""], (98, 1, 1))[0])
    return values, good


def _take(run: StoredRun, records: Sequence[Record], good: set[int], now: int) -> None:
    """Process and commit a batch: none of what is as it should be is refused, but for a second, other outcome."""
    run.feed(records, wall=now + SECOND)
    told = run.commit()
    del run.told_so_far[:-1]
    wrong = [(x.offset, x.reason, x.detail) for x in told.dead_letters if x.offset in good and x.reason != "conflict"]
    assert not wrong, f"refused, although they are as they should be: {wrong[:5]}"
    assert all(x.reason and x.detail for x in told.dead_letters), "a dead letter without a reason"


def _look(run: StoredRun, outbox: Outbox, offset: int) -> None:
    """Ask everything that shows something, and add up the counts."""
    status = run.pipeline.status()
    events, refused = status["events"], status["dead_letters_by_reason"]
    counted = sum(events[kind] for kind in ("predictions", "outcomes", "resources", "synthetic", "dead_letters"))
    counted += sum(events["ignored"].values()) - sum(refused.get(why, 0) for why in ("conflict", "hash_collision"))
    assert events["read"] == offset == counted, f"{offset} records: {events}, {refused}"
    json.dumps(status, allow_nan=False)
    telemetry = Telemetry()
    telemetry.publish(MetricsSnapshot(status))
    telemetry.scrape()
    render(status, ready=True, why_not="")
    sent = outbox.oldest(10_000)
    for message in sent:
        if message.value is not None:
            json.loads(message.value)
    outbox.remove(sent)


def _restart(run: StoredRun) -> None:
    """Go on from the store: counts are what they were."""
    assert run.engine is not None
    json.dumps(reader.status(run.engine), allow_nan=False)
    before = run.pipeline.status()["events"]
    run.restart()
    assert run.pipeline.status()["events"] == before, "a restart changed the counts"
