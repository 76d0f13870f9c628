"""The numbers of section 11 of the architecture, as a person would count them: one record at a time.

Dictionaries and the standard library only. Nothing of the product is used; the join one by one is that of
the join's own tests. It audits models without references, so that a record is refused for its own sake only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.monitor.join.one_by_one import Event, OneByOne

UNSERVED_TTL = 600_000  # ms for which an answer beside the served one is remembered where no outcomes come
POSITIVE, NEGATIVE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass(frozen=True)
class Watched:
    """What the auditor knows of a model. `pane` is 0 where windows are counted, `prediction_ttl` 0 without outcomes."""

    task: str
    pane: int
    prediction_ttl: int
    outcome_ttl: int


class Clock:
    """Stream time of a replay: the least of the latest event times of unfinished partitions, less the lateness."""

    def __init__(self, lateness: int, ends: Mapping[int, int]) -> None:
        self.lateness, self.ends = lateness, ends
        self.latest: dict[int, int | None] = dict.fromkeys(ends)
        self.read = dict.fromkeys(ends, 0)
        self.now = -1

    def tell(self, partition: int, time: int | None) -> int:
        """A record was read. -> stream time at it."""
        held = self.latest[partition]
        if time is not None:
            self.latest[partition] = time if held is None else max(held, time)
        unfinished = [p for p, end in self.ends.items() if self.read[p] < end]
        self.read[partition] += 1
        known = [self.latest[p] for p in unfinished]
        if known and None not in known:
            self.now = max(self.now, min(at for at in known if at is not None) - self.lateness)
        return self.now

    def end(self) -> int:
        """Stream time after the last record."""
        times = [at for at in self.latest.values() if at is not None]
        return max(self.now, max(times, default=-1 - self.lateness) + self.lateness)


class Auditor:
    """Counts the records of a replay."""

    def __init__(
        self, models: Mapping[str, Watched], lateness: int, max_future: int, wall: int, ends: Mapping[int, int]
    ) -> None:
        self.models, self.latest_time = models, wall + max_future
        self.clock = Clock(lateness, ends)
        self.events: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.joins = {name: OneByOne(m.prediction_ttl or UNSERVED_TTL, m.outcome_ttl) for name, m in models.items()}
        self.numbers: dict[str, int] = {}  # of request ids and versions
        self.verdicts: Counter[str] = Counter()
        self.orphans = 0

    def read(self, partition: int, raw: bytes | None) -> None:
        """One record."""
        self.events["read"] += 1
        event = self.accepted(raw)
        clock = self.clock.tell(partition, None if event is None else event["time"])
        if event is None:
            self.events["dead_letters"] += 1
            return
        self.events[{"prediction": "predictions", "outcome": "outcomes"}.get(event["type"], "resources")] += 1
        if event["type"] == "prediction":
            self.prediction(event, clock)
        elif event["type"] == "outcome":
            self.outcome(event, clock)

    def accepted(self, raw: bytes | None) -> dict[str, Any] | None:
        """The event, None where it is refused."""
        try:
            event = json.loads(raw or b"")
        except ValueError:
            return None
        needed = {
            "prediction": ("request_id", "time", "model", "version"),
            "outcome": ("request_id", "time", "model", "actual"),
            "resources": ("time", "model", "version"),
        }
        if not isinstance(event, dict) or event.get("type") not in needed:
            return None
        if any(event.get(name) is None for name in needed[event["type"]]) or event["model"] not in self.models:
            return None
        if event["type"] == "prediction" and event.get("prediction") is None and event.get("error") is None:
            return None
        if any(isinstance(value, dict | list) for value in event.get("features", {}).values()):
            return None
        return event if event["time"] <= self.latest_time else None

    def prediction(self, event: Mapping[str, Any], clock: int) -> None:
        name, model = event["model"], self.models[event["model"]]
        if model.pane and (event["time"] // model.pane + 1) * model.pane <= clock:
            self.events["late_predictions"] += 1
            return
        served = event.get("served", True)
        verdict = self.joins[name].put(
            Event(
                request=self.number(event["request_id"]),
                time=event["time"],
                clock=max(clock, 0),
                value=0.0,
                variant=self.number("version " + event["version"]),
                served=served,
                waits=model.prediction_ttl > 0 and (served or "error" not in event),
            )
        )
        self.verdicts[verdict] += 1
        self.answers[name, event["version"]] += verdict == "ACCEPTED"

    def outcome(self, event: Mapping[str, Any], clock: int) -> None:
        name, model = event["model"], self.models[event["model"]]
        if not model.prediction_ttl:
            self.orphans += 1
            return
        value = self.value(model, event["actual"])
        put = Event(self.number(event["request_id"]), event["time"], max(clock, 0), value)
        verdict = self.joins[name].put(put)
        self.verdicts[verdict] += 1
        self.events["dead_letters"] += verdict == "CONFLICT"

    def value(self, model: Watched, actual: Any) -> float:
        if model.task == "regression":
            return float(actual)
        text = str(actual).lower() if isinstance(actual, bool) else str(actual)
        if model.task == "binary":
            return 1.0 if text in POSITIVE else 0.0 if text in NEGATIVE else float(self.number("label " + text))
        return float(self.number("label " + text))

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)

    def join(self) -> dict[str, int]:
        """Counts of the join once the replay is over."""
        clock = self.clock.end()
        found: Counter[str] = Counter(dict.fromkeys(("joined", "orphans", "expired", "pending"), 0))
        found["orphans"] += self.orphans
        for name, model in self.models.items():
            join = self.joins[name]
            found["joined"] += len(join.pairs)
            found["expired"] += join.expired
            found["orphans"] += join.orphans
            for request in join.requests.values():
                answers = [a for a in (request.served, *request.others.values()) if a is not None and a.open]
                over = sum(clock - answer.time >= model.prediction_ttl for answer in answers)
                found["expired"] += over
                found["pending"] += len(answers) - over
                found["orphans"] += request.outcome is not None and not request.met
        return {
            **found,
            "duplicates": self.verdicts["DUPLICATE"],
            "conflicts": self.verdicts["CONFLICT"],
            "late": self.verdicts["LATE"],
        }

    def versions(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(predictions, outcomes) of each version of each model."""
        met: Counter[tuple[str, str]] = Counter()
        texts = {number: text for text, number in self.numbers.items()}
        for name, join in self.joins.items():
            for pair in join.pairs:
                met[name, texts[pair.variant].removeprefix("version ")] += 1
        return {key: (count, met[key]) for key, count in self.answers.items() if count}


def audited(auditor: Auditor, records: Sequence[tuple[int, bytes | None]]) -> Auditor:
    """After all (partition, value)."""
    for partition, raw in records:
        auditor.read(partition, raw)
    return auditor
