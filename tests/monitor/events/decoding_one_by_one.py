"""The decoder again, one record after the other, with nothing but `json`: what `monitor.events.decoder` is held to.

It knows the rules of the events and none of the ways in which the real one is fast. Codes are left out:
texts are texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monitor.events.codes import OTHER
from monitor.events.codes import VERSIONLESS_TIERS as FALLBACK_LEVELS
from monitor.events.columns import EventKind, Events
from monitor.events.decoder import EventDecoder
from monitor.events.features import NO_FEATURES
from monitor.reference.feature_reader import FeatureColumns, FeatureReader
from monitor.spec import CoreSpec, FeatureKind, Task
from monitor.times import parse_event_time
from tests.monitor.events.decoding import CHAMPION, VERSIONLESS_TIERS

NAN = float("nan")
YES = {"1", "true", "t", "yes", "y"}
NO = {"0", "false", "f", "no", "n"}
MOST = 2**53
SERVED_BY = ("primary", "previous", "rules", "ensemble", "default", "champion")


class Refuse(Exception):
    """This record is not accepted, or this value of it cannot be used."""


@dataclass(slots=True)
class OneByOne:
    """Decodes one record at a time. `compared` are the numeric features of the first model's reference.

    They decide what is read of the features, never what is accepted.
    """

    spec: CoreSpec
    wall: int
    compared: Sequence[str] = ()
    mistyped: int = 0
    versions: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    segments: list[str] = field(default_factory=lambda: [""])

    def decode(self, raw: bytes | None) -> dict[str, Any] | None:
        """What the record says, None if it is refused."""
        try:
            return self._decode(raw)
        except Refuse:
            return None

    def _decode(self, raw: bytes | None) -> dict[str, Any]:
        limits = self.spec.limits
        refuse_if(not raw or len(raw) > limits.event_bytes)
        event = loaded(raw or b"")
        refuse_if(not isinstance(event, dict))
        schema = event.get("schema", 1)
        refuse_if(type(schema) is not int or schema != 1)
        said: dict[str, Any] = {"kind": event.get("type")}
        for name in {"prediction": "rmv", "outcome": "rm", "resources": "mv"}.get(str(said["kind"]), "?"):
            full = {"r": "request_id", "m": "model", "v": "version"}.get(name)
            refuse_if(full is None)
            said[str(full)] = ident(event.get(str(full)), limits.id_length, numbers=full == "request_id")
        said["time"] = time_of(event.get("time"))
        refuse_if(said["time"] > self.wall + self.spec.max_future)
        model = next((m for m in self.spec.models if m.name == said["model"]), None)
        match event["type"]:
            case "prediction":
                self._prediction(event, said, None if model is None else model.task)
            case "outcome":
                said["value"] = scalar(event.get("actual"), limits.id_length)
                refuse_if(said["value"] is None)
                said["metrics"] = metrics_of(event.get("metrics"))
            case _:
                said["amounts"] = [usable(amount, event.get(n)) for n in ("memory_mb", "cpu_percent", "gpu_percent")]
        refuse_if(model is None)
        if model is not None:
            self._settle(said, model.task, model.positive, model.threshold)
        return said

    def _prediction(self, event: Mapping[str, Any], said: dict[str, Any], task: Task | None) -> None:
        most = self.spec.limits.id_length
        said["served"] = event.get("served", True)
        refuse_if(not isinstance(said["served"], bool))
        said["served_by"] = event.get("served_by", "primary")
        refuse_if(not isinstance(said["served_by"], str) or said["served_by"] not in SERVED_BY)
        assigned_by = event.get("assigned_by")
        refuse_if(assigned_by is not None and assigned_by not in ("weight", "cohort", "override", "environment"))
        texts = {name: event.get(name) for name in ("assigned", "error")}
        for value in texts.values():
            refuse_if(value is not None and not isinstance(value, str))
            scalar(value, most)
        segment = event.get("segment")
        said["segment"] = segment if isinstance(segment, str) and is_usable(segment, most) else ""
        said["failed"] = texts["error"] is not None and (texts["error"] != "" or event.get("prediction") is None)
        said["contaminated"] = bool(texts["assigned"]) and (
            texts["assigned"] != said["version"] and said["served_by"] == "primary"
        )
        said["value"] = scalar(event.get("prediction"), most)
        refuse_if(said["value"] is None and not said["failed"])
        said["latency"] = usable(amount, event.get("latency_ms"))
        said["metrics"] = metrics_of(event.get("metrics"))
        batch = event.get("batch")
        said["batch"] = [NAN, NAN]
        if isinstance(batch, dict):
            said["batch"] = [usable(amount, batch.get(name)) for name in ("size", "ms")]
            if any(map(math.isnan, said["batch"])):
                said["batch"] = [NAN, NAN]
        scores = event.get("scores")
        given = {n: usable(score_of, p) for n, p in scores.items()} if isinstance(scores, dict) else {}
        said["scores"] = {name: p for name, p in given.items() if not math.isnan(p) and storable(name)}
        self._features(event.get("features"), said)

    def _features(self, features: object, said: dict[str, Any]) -> None:
        values: dict[str, Any] = features if isinstance(features, dict) else {}
        refuse_if(len(values) > self.spec.limits.features)
        model = next((m for m in self.spec.models if m.name == said["model"]), None)
        if model is None:
            return
        comparing = bool(self.compared) and model is self.spec.models[0]
        unseen = {n for n, kind in model.feature_kinds.items() if kind is FeatureKind.IGNORE} | {"prediction", "score"}
        values = {n: v for n, v in values.items() if is_usable(v, MOST)}
        if comparing:
            numbers = {name: values.get(name) for name in self.compared if name not in unseen}
            said["mistyped"] = sum(isinstance(v, str | bool) for v in numbers.values())
            said["numbers"] = [NAN if v is None or isinstance(v, str | bool) else float(v) for v in numbers.values()]
            said["cell"] = cell(values.get("kind"))

    def _settle(self, said: dict[str, Any], task: Task, positive: str | None, threshold: float) -> None:
        """What depends on the model and on what was there before. Nothing is refused any more after this."""
        regression = task is Task.REGRESSION
        value = said.get("value")
        refuse_if(regression and isinstance(value, str | bool))
        self.mistyped += said.pop("mistyped", 0)
        if "version" in said:
            said["version"] = self._version(said["model"], said["version"])
        if "segment" in said:
            said["segment"] = within(self.segments, said["segment"], self.spec.limits.segments)
        if said["kind"] == "resources":
            return
        scores = said.pop("scores", {})
        if regression:
            said["value"] = NAN if value is None else float(value)
            return
        predicting = said["kind"] == "prediction"
        yes = {positive} if positive is not None else YES
        score = NAN
        if task is Task.BINARY:
            if predicting and isinstance(value, float) and 0 < value < 1:
                score, value = value, "yes!" if value >= threshold else "no!"
            elif predicting and not scores and isinstance(value, int | float) and value in (0, 1):
                # A label, or a probability that reached an end; a number is no label where the class is a word.
                score = NAN if isinstance(value, bool) else 2.0 + value
                if positive is not None and not isinstance(value, bool):
                    value = "yes!" if value else "no!"
            keys = {name: text_of(name).strip().lower() for name in scores}
            no = NO if positive is None else set(keys.values()) - yes
            if scores and all(key in no for key in keys.values()) and sum(scores.values()) <= 1 + 1e-6:
                score = max(1 - sum(scores.values()), 0.0)
            score = next((p for name, p in scores.items() if keys[name] in yes), score)
        elif value is not None:
            score = next((p for name, p in scores.items() if text_of(name) == text_of(value)), NAN)
        said["score"] = score
        said["value"] = None if value is None else self._label(said["model"], text_of(value), task, positive, yes)

    def _label(self, model: str, text: str, task: Task, positive: str | None, yes: set[str]) -> str:
        if task is Task.BINARY:
            if text == "yes!" or text.strip().lower() in yes:
                return "positive"
            if text == "no!" or positive is not None or text.strip().lower() in NO:
                return "negative"
        return within(self.labels.setdefault(model, []), text, self.spec.limits.labels)

    def _version(self, model: str, version: str) -> str:
        if version in FALLBACK_LEVELS:
            return version
        return within(self.versions.setdefault(model, [CHAMPION]), version, self.spec.limits.versions)


def loaded(raw: bytes) -> Any:
    def no_constant(name: str) -> float:
        raise Refuse

    try:
        text = raw.decode()
        event = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Refuse from None
    return event


def storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def usable(read: Callable[[Any], float], value: object) -> float:
    """What is read of a value, NaN where it cannot be used."""
    try:
        return read(value)
    except Refuse:
        return NAN


def refuse_if(condition: object) -> None:
    if condition:
        raise Refuse


def is_usable(value: object, most: int) -> bool:
    return not math.isnan(usable(lambda value: len(str(scalar(value, most))), value))


def ident(value: object, most: int, *, numbers: bool) -> str:
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        refuse_if(not -(2**63) <= value < 2**64)
        return str(value)
    refuse_if(not isinstance(value, str) or not value)
    return str(scalar(value, most))


def time_of(value: object) -> int:
    refuse_if(not isinstance(value, str | int | float))
    try:
        return parse_event_time(value)  # type: ignore[arg-type]  # has tests of its own
    except ValueError:
        raise Refuse from None


def bounded(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) <= MOST


def scalar(value: object, most: int) -> Any:
    refuse_if(isinstance(value, dict | list) or not bounded(value))
    refuse_if(isinstance(value, str) and (len(value) > most or not storable(value)))
    return value


def number(value: object) -> float:
    refuse_if(isinstance(value, bool) or not isinstance(value, int | float) or not bounded(value))
    return value  # type: ignore[return-value]  # the line before


def amount(value: object) -> float:
    if value is None:
        return NAN
    refuse_if(not 0 <= number(value) <= MOST)
    return float(number(value))


def score_of(value: object) -> float:
    refuse_if(not -1e-6 <= number(value) <= 1 + 1e-6)
    return min(max(number(value), 0), 1)


def metrics_of(value: object) -> dict[str, float | None] | None:
    found = {n: usable(number, v) for n, v in value.items() if storable(n)} if isinstance(value, dict) else {}
    return {n: None if math.isnan(v) else v for n, v in found.items()} or None


def text_of(value: object) -> str:
    if isinstance(value, bool) or value in ("True", "TRUE", "False", "FALSE"):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def cell(value: object) -> int:
    """Of the feature `kind`, whose levels in the reference are sorted; no level there is rare."""
    if value is None:
        return -1
    levels = sorted(VERSIONLESS_TIERS)
    return levels.index(text_of(value)) if text_of(value) in levels else len(levels) + 1


def within(known: list[str], text: str, most: int) -> str:
    if text not in known and text != OTHER and len(known) < most:
        known.append(text)
    return text if text in known else OTHER


# -- the same of the real one ----------------------------------------------------------------------------


def readable(
    events: Events, decoder: EventDecoder, spec: CoreSpec, compared: FeatureColumns | None
) -> list[dict[str, Any]]:
    """Decoded events in the form of `OneByOne.decode`; `compared` are the columns of the first model."""
    return [_one(events, i, decoder, spec, compared) for i in range(len(events))]


def read(events: Events, reader: FeatureReader | None) -> FeatureColumns | None:
    """What the first model compares of these events."""
    return None if reader is None else reader.read(events.features.get(0, NO_FEATURES))


def _one(e: Events, i: int, decoder: EventDecoder, spec: CoreSpec, compared: FeatureColumns | None) -> dict[str, Any]:
    model = spec.models[int(e.model[i])]
    variant = decoder._variants.table[int(e.variant[i])]
    kind = EventKind(int(e.kind[i]))
    said: dict[str, Any] = {
        "kind": "prediction" if kind <= EventKind.UNSERVED else kind.name.lower(),
        "model": model.name,
        "time": int(e.time[i]),
    }
    if kind is EventKind.RESOURCES:
        return said | {"version": variant.version, "amounts": e.resources[i].tolist()}
    value, labels = float(e.value[i]), decoder.labels[int(e.model[i])]
    said["value"] = value
    if model.task is not Task.REGRESSION:
        said["score"] = float(e.score[i])
        said["value"] = None if math.isnan(value) else labels.codes.texts.get(int(value))
        if model.task is Task.BINARY and value in (0, 1):
            said["value"] = ("negative", "positive")[int(value)]
    said["metrics"] = e.metrics[i]
    if kind is EventKind.OUTCOME:
        return said
    said |= {
        "version": variant.version,
        "served": kind is EventKind.SERVED,
        "served_by": SERVED_BY[e.served_by[i]],
        "segment": decoder.segments.texts[int(e.segment[i])],
        "failed": bool(e.failed[i]),
        "contaminated": bool(e.contaminated[i]),
        "latency": float(e.latency[i]),
        "batch": [float(e.batch_size[i]), float(e.batch_ms[i])],
    }
    if compared is not None and e.model[i] == 0:
        at = int(e.feature_row[i])
        said |= {"numbers": compared.numbers[at].tolist(), "cell": int(compared.codes[0][at])}
    return said


def same(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> bool:
    """Equal where NaN equals NaN."""
    return len(left) == len(right) and all(map(_same, left, right))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)


def ids_of(events: Events) -> list[tuple[int, int]]:
    """The hashed ids, for comparing two runs of the real one."""
    return list(zip(events.lo.tolist(), events.hi.tolist(), strict=True))


def columns_of(events: Events) -> dict[str, list[Any]]:
    """All columns but the features and the row, as lists."""
    names = [n for n in Events.__slots__ if n not in ("row", "features", "feature_row")]
    return {name: np.asarray(getattr(events, name)).tolist() for name in names}
