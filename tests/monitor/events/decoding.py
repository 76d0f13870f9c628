"""Events, batches and decoders for the tests of the input side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from detectors.reference import Profile
from detectors.reference_builder import build_features
from monitor.config.build import core
from monitor.config.load import parse
from monitor.events.codes import Variants
from monitor.events.columns import Events
from monitor.events.decoder import EventDecoder
from monitor.events.refusals import Refused
from monitor.reference.feature_reader import FeatureReader
from monitor.spec import CoreSpec, Limits
from monitor.stream.types import Batch, Partition

T0: Final = 1_795_253_400_123
TIME: Final = "2026-11-21T09:30:00.123Z"
WALL: Final = T0 + 60_000
LIMITS: Final = Limits(features=6, event_bytes=4_000, id_length=16, versions=4, segments=3, labels=4)
MODELS: Final = ("heat", "churn", "spam", "fuel")  # regression, binary, binary with a positive class, multiclass
CHAMPION: Final = "v1"
# Windows are counted: codes are given in the order of events. `test_admission.py` has windows by time.
SPEC: Final[CoreSpec] = replace(
    core(
        parse(
            """
            stream: {url: "file:./stream", unknown_models: refuse}
            store: {url: "sqlite:///driftd.db"}
            models:
              heat: {task: regression, champion: v1, features: {note: ignore}, window: {events: 1000}}
              churn: {task: binary, champion: v1, window: {events: 1000}}
              spam: {task: binary, champion: v1, positive: spam, threshold: 0.8, window: {events: 1000}}
              fuel: {task: multiclass, champion: v1, window: {events: 1000}}
            """,
            {},
        )
    ),
    limits=LIMITS,
)

PLAIN: Final = ("load", "flow", "note")  # numeric features of a reference; the configuration ignores the last
AWKWARD: Final = ("load", 'a "quoted" one', "note")  # one has a name that msgspec cannot give to a field
VERSIONLESS_TIERS: Final = {"gas": 60, "oil": 40, "true": 20, "7": 10}


def profile(names: Sequence[str] = PLAIN) -> Profile:
    """Numeric features and a categorical one, `kind`, of 130 rows in time order."""
    numbers = np.linspace(0.0, 1.0, 130)
    texts = [level for level, count in VERSIONLESS_TIERS.items() for _ in range(count)]
    kinds = dict.fromkeys(names, True) | {"kind": False}
    return Profile(build_features(kinds, {**dict.fromkeys(names, numbers), "kind": texts}, 130), 130, ordered=True)


def decoder(spec: CoreSpec = SPEC) -> EventDecoder:
    """A decoder that has seen nothing."""
    names = [model.name for model in spec.models]
    return EventDecoder(spec, Variants(names, {name: [CHAMPION] for name in names}, spec.limits.versions), seed=1)


def reader(names: Sequence[str] = PLAIN) -> FeatureReader:
    """What compares the first model's features with a reference that has these numeric features and `kind`."""
    return FeatureReader(profile(names), SPEC.models[0].feature_kinds)


def batch_of(values: Sequence[bytes | None], stamps: Sequence[int] | None = None, first: int = 0) -> Batch:
    """Records of one partition, without timestamps of their own unless `stamps` has them."""
    count = len(values)
    return Batch(
        (Partition("events", 0),),
        np.zeros(count, np.int32),
        np.arange(first, first + count),
        np.full(count, -1, np.int64) if stamps is None else np.array(stamps, np.int64),
        list(values),
    )


def a_prediction(**fields: Any) -> dict[str, Any]:
    """An event with what it needs and the given fields; one that is ... is left out."""
    return _event(
        {"type": "prediction", "request_id": "r1", "time": TIME, "model": "heat", "version": "v1", "prediction": 0.5},
        fields,
    )


def an_outcome(**fields: Any) -> dict[str, Any]:
    """As `a_prediction`."""
    return _event({"type": "outcome", "request_id": "r1", "time": TIME, "model": "heat", "actual": 0.5}, fields)


def resources(**fields: Any) -> dict[str, Any]:
    """As `a_prediction`."""
    return _event({"type": "resources", "time": TIME, "model": "heat", "version": "v1", "memory_mb": 812}, fields)


def _event(needed: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**needed, **fields}.items() if value is not ...}


class Verbatim(str):
    """JSON that Python cannot write, such as 1e999: it stands in the record as it is."""

    __slots__ = ()


def raw(event: object) -> bytes:
    """An event as a producer writes it."""
    kept: list[str] = []

    def marked(value: object) -> object:
        if isinstance(value, Verbatim):
            kept.append(str(value))
            return f"@{len(kept) - 1}@"
        if isinstance(value, dict):
            return {name: marked(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [marked(inner) for inner in value]
        return value

    text = json.dumps(marked(event))
    for i, verbatim in enumerate(kept):
        text = text.replace(f'"@{i}@"', verbatim)
    return text.encode()


def decode(*events: object, using: EventDecoder | None = None) -> tuple[Events, list[Refused]]:
    """What becomes of events in one batch; bytes and None are records as they are."""
    records = [event if isinstance(event, bytes) or event is None else raw(event) for event in events]
    return (using or decoder()).decode(batch_of(records), WALL)[:2]
