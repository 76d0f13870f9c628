"""The numbers of section 11 of the architecture, as a person would count them: one record at a time.

Dictionaries and the standard library only. Nothing of the product is used; the join one by one is that of
the join's own tests. It audits models without references, so that a record is refused for its own sake only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, NamedTuple

from tests.monitor.join.one_by_one import Event, OneByOne

UNSERVED_TTL = 600_000  # ms for which an answer beside the served one is remembered where no outcomes come
POSITIVE, NEGATIVE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass(frozen=True)
class Watched:
    """What the auditor knows of a model. `pane` is 0 where windows are counted, `prediction_ttl` 0 without outcomes.

    `keeps_outcomes`: answers beside the served one are configured, and may come last.
    """

    task: str
    pane: int
    prediction_ttl: int
    outcome_ttl: int
    keeps_outcomes: bool


class PartitionClock:
    """Partition time: the rule of section 13 of the architecture, event by event."""

    def __init__(self, lateness: int) -> None:
        self.lateness = lateness
        self.seen: list[int] = []
        self.time = -1

    def tell(self, time: int) -> int:
        """An event was accepted. -> partition time after it."""
        self.seen.append(time)
        recent = self.seen[-9:]
        ahead = [t for t in recent if t > self.time + self.lateness]
        if len(recent) < 9:
            self.time = min(recent)
        elif time not in ahead:
            self.time = max(self.time, time)
        elif len(ahead) > len(recent) / 2:
            self.time = median_low(recent)
            for later in sorted(t for t in recent if t > self.time):
                self.time = later if later - self.time <= self.lateness else self.time
        return self.time


class Placed(NamedTuple):
    """A record in the order of a replay."""

    place: int
    partition: int
    offset: int
    partition_time: int
    event: Mapping[str, Any] | None


def placed(partition: int, events: Sequence[Mapping[str, Any] | None], lateness: int) -> list[Placed]:
    """The records of a partition; of its first eight events the least that is still to come says where they go."""
    clock = PartitionClock(lateness)
    after = [clock.tell(event["time"]) if event else -1 for event in events]
    accepted = [i for i, event in enumerate(events) if event]
    found, place, now = [], -1, -1
    for i, event in enumerate(events):
        if event:
            number = accepted.index(i)
            now = after[i]
            first = [events[j]["time"] for j in accepted[number:8]]  # type: ignore[index]
            place = max(place, min([*first, *(after[j] for j in accepted[8:9])]) if number < 8 else now)
        found.append(Placed(place, partition, i, now, event))
    behind = next((record.place for record in found if record.place >= 0), -1)
    return [record if record.place >= 0 else record._replace(place=behind) for record in found]


class Auditor:
    """Counts the records of a replay."""

    def __init__(self, models: Mapping[str, Watched], lateness: int, max_future: int, wall: int) -> None:
        self.models, self.latest_time, self.lateness = models, wall + max_future, lateness
        self.now = self.end = -1  # stream time, and the latest of the last nine events of any partition
        self.events: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()  # events by model, of models that are not configured
        self.answers: Counter[tuple[str, str]] = Counter()
        self.joins = {
            name: OneByOne(m.prediction_ttl or UNSERVED_TTL, m.outcome_ttl, m.pane, keeps=m.keeps_outcomes)
            for name, m in models.items()
        }
        self.numbers: dict[str, int] = {}  # of request ids and versions
        self.verdicts: Counter[str] = Counter()
        self.orphans = 0

    def read(self, logs: Mapping[int, Sequence[bytes | None]]) -> None:
        """All records, in the order of a replay."""
        records = []
        for partition, raws in logs.items():
            events = [self.accepted(raw) for raw in raws]
            records += placed(partition, events, self.lateness)
            self.end = max([self.end, *[event["time"] for event in events if event][-9:]])
        for record in sorted(records, key=lambda r: r[:3]):
            self.process(record)

    def process(self, record: Placed) -> None:
        """One record."""
        event = record.event
        self.events["read"] += 1
        if record.place >= 0:
            self.now = max(self.now, record.place - self.lateness)
        if not event:
            self.events["dead_letters"] += event is None
            return
        self.events[{"prediction": "predictions", "outcome": "outcomes"}.get(event["type"], "resources")] += 1
        if event["type"] == "prediction":
            self.prediction(event, record.partition_time - self.lateness, self.now)
        elif event["type"] == "outcome":
            self.outcome(event, self.now)

    def accepted(self, raw: bytes | None) -> dict[str, Any] | None:
        """The event; None where it is refused, an empty one where its model is not configured."""
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
        if any(event.get(name) is None for name in needed[event["type"]]):
            return None
        if event["model"] not in self.models:
            self.ignored[event["model"]] += 1
            return {}
        if event["type"] == "prediction" and event.get("prediction") is None and event.get("error") is None:
            return None
        return event if event["time"] <= self.latest_time else None

    def prediction(self, event: Mapping[str, Any], reached: int, clock: int) -> None:
        name, model = event["model"], self.models[event["model"]]
        if model.pane and (event["time"] // model.pane + 1) * model.pane <= reached:
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
        clock = max(self.now, self.end + self.lateness)
        found: Counter[str] = Counter(dict.fromkeys(("joined", "orphans", "expired", "pending", "late"), 0))
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
                outcome = request.outcome
                found["orphans"] += outcome is not None and not (outcome.met or outcome.ran_out)
            found["late"] += join.late
        return {
            **found,
            "duplicates": self.verdicts["DUPLICATE"],
            "conflicts": self.verdicts["CONFLICT"],
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
    logs: dict[int, list[bytes | None]] = {}
    for partition, raw in records:
        logs.setdefault(partition, []).append(raw)
    auditor.read(logs)
    return auditor
