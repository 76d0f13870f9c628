"""Why a record is refused, and the slow way to find out.

Pure. `events` decodes the normal case; what it stumbles over comes here, where each rule is checked one by
one until one gives a reason that names the field and the value.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fallback.types import Tier
from monitor.spec import Limits
from monitor.times import parse_time

LARGEST_INTEGER: Final = 1 << 53  # beyond it a float cannot hold every integer
SERVED_BY: Final = tuple(tier.value for tier in Tier)
TYPES: Final = ("prediction", "outcome", "resources")
SCHEMA: Final = 1
_SHOWN = 60
_DEEPEST = 100


class Refusal(StrEnum):
    """Reasons of dead letters: metric label, log field and field of the record."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    BAD_TEXT = "bad_text"
    NOT_FINITE = "not_finite"
    INTEGER_TOO_LARGE = "integer_too_large"
    UNKNOWN_TYPE = "unknown_type"
    NEWER_SCHEMA = "newer_schema"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_VALUE = "bad_value"
    ID_TOO_LONG = "id_too_long"
    BAD_TIME = "bad_time"
    TIME_IN_FUTURE = "time_in_future"
    TOO_MANY_FEATURES = "too_many_features"
    UNKNOWN_MODEL = "unknown_model"
    CONFLICT = "conflict"
    HASH_COLLISION = "hash_collision"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is not accepted: its row in the batch, why, and which field and value."""

    row: int
    reason: Refusal
    detail: str


Finding = tuple[Refusal, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model makes of its events: whether it predicts numbers, and which features it looks at."""

    numeric: bool
    looks_at: Callable[[str], bool]


_ANYTHING: Final = Expected(numeric=False, looks_at=lambda name: True)


class _Stop(Exception):
    def __init__(self, reason: Refusal, detail: str) -> None:
        self.finding = (reason, detail)
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A number in the text that no event can have, kept until it is known in which field it stands."""

    reason: Refusal
    text: str
    why: str
    json: bool = True

    def __repr__(self) -> str:
        return self.text


class _Object(dict[str, Any]):
    """A JSON object that knows which of its names stood more than once; the last one counts."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: frozenset[str] = frozenset()
        if len(self) < len(pairs):
            times = Counter(name for name, _ in pairs)
            self.repeated = frozenset(name for name, count in times.items() if count > 1)


def examine(
    raw: bytes | None, limits: Limits, expected: Callable[[object], Expected | None] = lambda model: None
) -> Finding | None:
    """The first rule that a record breaks, None if it breaks none. `expected` knows the models by name.

    What is not known here is left to the caller: which models there are, and what time it is.
    """
    try:
        _examine(raw, limits, expected)
    except _Stop as stop:
        return stop.finding
    return None


def bad_text(raw: bytes) -> Finding | None:
    """What is wrong with the texts of a record that was decoded already: JSON can spell a NUL, a database cannot."""
    try:
        _fit(_load(raw), "", 0, numbers=False)
    except _Stop as stop:
        return stop.finding
    return None


def _examine(raw: bytes | None, limits: Limits, expected: Callable[[object], Expected | None]) -> None:
    if raw and len(raw) > limits.event_bytes:
        raise _Stop(Refusal.TOO_LARGE, f"{len(raw)} bytes, at most {limits.event_bytes}")
    if not raw or not raw.strip():
        raise _Stop(Refusal.EMPTY, "the record has no value")
    event = _load(raw)
    if not isinstance(event, dict):
        raise _Stop(Refusal.NOT_AN_OBJECT, f"the record is {_kind(event)}, not an object")
    _schema(event)
    kind = _type(event)
    model = event.get("model")
    told = (expected(model) if isinstance(model, str) else None) or _ANYTHING
    for name in _FIELDS[kind]:
        if name == "features":
            _fit_features(event.get(name), told)
        else:
            _fit(event.get(name), name, 0)
    for name in _IDENTITY[kind]:
        _identity(event, name, limits)
    _time(event)
    _BY_TYPE[kind](event, limits, told)
    _not_repeated(event, ("schema", "type", *_FIELDS[kind]), "")
    # What is ignored has to be JSON all the same.
    _fit(event, "", 0, numbers=False)


def _load(raw: bytes) -> Any:
    try:
        # Bytes that are not UTF-8 become lone surrogates, so that it can be told in which field they are.
        return json.loads(
            raw.decode("utf-8", "surrogateescape"),
            parse_constant=lambda name: _Unfit(Refusal.NOT_FINITE, name, "is not a JSON number", json=False),
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_Object,
        )
    except RecursionError:
        raise _Stop(Refusal.TOO_DEEP, f"nested deeper than {_DEEPEST} levels") from None
    except (ValueError, MemoryError) as error:
        raise _Stop(Refusal.NOT_JSON, f"{_show(raw.decode('utf-8', 'replace'))}: {error}") from None


def _integer(digits: str) -> int | _Unfit:
    if len(digits) > 17 or abs(int(digits)) > LARGEST_INTEGER:
        return _Unfit(Refusal.INTEGER_TOO_LARGE, _cut(digits), "integers lie between -2^53 and 2^53")
    return int(digits)


def _number(digits: str) -> float | _Unfit:
    value = float(digits)
    if not math.isfinite(value):
        return _Unfit(Refusal.NOT_FINITE, _cut(digits), "is beyond the largest float")
    return value


def _fit(value: object, path: str, depth: int, *, numbers: bool = True) -> None:
    """No lone surrogates, no NUL and (with `numbers`) no number too large, in names and values, however deep."""
    if depth > _DEEPEST:
        raise _Stop(Refusal.TOO_DEEP, f"{path}: nested deeper than {_DEEPEST} levels")
    if isinstance(value, _Unfit) and (numbers or not value.json):
        raise _Stop(value.reason, f"{path}: {value.text}: {value.why}")
    if isinstance(value, str):
        _fit_text(value, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _fit_text(name, f"a name in {path or 'the record'}")
            _fit(inner, _within(path, name) if depth < 2 else path, depth + 1, numbers=numbers)
    elif isinstance(value, list):
        for inner in value:
            _fit(inner, path, depth + 1, numbers=numbers)


def _fit_features(features: object, expected: Expected) -> None:
    """As `_fit`, but the numbers of a feature that nobody looks at may be any."""
    if not isinstance(features, dict):
        _fit(features, "features", 0)
        return
    for name, value in features.items():
        _fit_text(name, "a name in features")
        if expected.looks_at(name) or isinstance(value, str):
            _fit(value, _within("features", name), 1)


def _fit_text(text: str, path: str) -> None:
    if "\0" in text:
        raise _Stop(Refusal.BAD_TEXT, f"{path}: {_show(text)}: has a NUL character")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _Stop(Refusal.BAD_TEXT, f"{path}: {_show(text)}: has half a surrogate pair, or bytes that are not UTF-8")


def _schema(event: Mapping[str, Any]) -> None:
    schema = event.get("schema", SCHEMA)
    _fit(schema, "schema", 0)
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise _Stop(Refusal.WRONG_TYPE, f"schema: {_show(schema)}: an integer is needed")
    if schema > SCHEMA:
        raise _Stop(Refusal.NEWER_SCHEMA, f"schema: {schema}: this release knows {SCHEMA}")
    if schema < SCHEMA:
        raise _Stop(Refusal.BAD_VALUE, f"schema: {schema}: the first schema is {SCHEMA}")


def _type(event: Mapping[str, Any]) -> str:
    kind = event.get("type")
    _fit(kind, "type", 0)
    if kind is None:
        raise _Stop(Refusal.MISSING_FIELD, f"type: one of {', '.join(TYPES)} is needed")
    if not isinstance(kind, str) or kind not in TYPES:
        raise _Stop(Refusal.UNKNOWN_TYPE, f"type: {_show(kind)}: one of {', '.join(TYPES)} is needed")
    return kind


_IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction": ("request_id", "model", "version"),
    "outcome": ("request_id", "model"),
    "resources": ("model", "version"),
}
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction": (
        *_IDENTITY["prediction"], "time", "assigned", "served", "served_by", "segment", "features", "prediction",
        "scores", "latency_ms", "error", "metrics", "batch",
    ),
    "outcome": (*_IDENTITY["outcome"], "time", "actual", "metrics"),
    "resources": (*_IDENTITY["resources"], "time", "memory_mb", "cpu_percent", "gpu_percent"),
}  # fmt: skip


def _time(event: Mapping[str, Any]) -> None:
    if event.get("time") is None:
        raise _Stop(Refusal.MISSING_FIELD, "time: is needed")
    try:
        parse_time(event["time"])
    except ValueError as error:
        raise _Stop(Refusal.BAD_TIME, f"time: {error}") from None


def _not_repeated(fields: object, names: Iterable[str], path: str) -> None:
    """The last of two equal names counts, yet the first one is decoded too and may be what was refused."""
    if isinstance(fields, _Object):
        for name in names:
            if name in fields.repeated:
                raise _Stop(Refusal.BAD_VALUE, f"{_within(path, name)}: stands twice, with a value that cannot be")


def _identity(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is None or value == "":
        raise _Stop(Refusal.MISSING_FIELD, f"{name}: is needed")
    if not isinstance(value, str):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: text is needed, not {_kind(value)}")
    _bounded(value, name, limits)


def _prediction(event: Mapping[str, Any], limits: Limits, expected: Expected) -> None:
    if not isinstance(event.get("served", True), bool):
        raise _Stop(Refusal.WRONG_TYPE, f"served: {_show(event['served'])}: true or false is needed")
    served_by = event.get("served_by", SERVED_BY[0])
    if served_by not in SERVED_BY:
        raise _Stop(Refusal.BAD_VALUE, f"served_by: {_show(served_by)}: one of {', '.join(SERVED_BY)} is needed")
    for name in ("assigned", "segment", "error"):
        _text(event, name, limits)
    prediction = event.get("prediction")
    if prediction is None and event.get("error") is None:
        raise _Stop(Refusal.MISSING_FIELD, "prediction: is needed where there is no error")
    _value(prediction, "prediction", limits, expected)
    _scores(event.get("scores"))
    _amount(event, "latency_ms")
    _metrics(event.get("metrics"))
    _batch(event.get("batch"))
    _features(event.get("features"), limits, expected)


def _outcome(event: Mapping[str, Any], limits: Limits, expected: Expected) -> None:
    if event.get("actual") is None:
        raise _Stop(Refusal.MISSING_FIELD, "actual: is needed")
    _value(event["actual"], "actual", limits, expected)
    _metrics(event.get("metrics"))


def _resources(event: Mapping[str, Any], limits: Limits, expected: Expected) -> None:
    for name in ("memory_mb", "cpu_percent", "gpu_percent"):
        _amount(event, name)


_BY_TYPE: Final = {"prediction": _prediction, "outcome": _outcome, "resources": _resources}


def _value(value: object, name: str, limits: Limits, expected: Expected) -> None:
    """A number for a regression, any scalar as a label otherwise."""
    if isinstance(value, dict | list):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: a number or a label is needed, not {_kind(value)}")
    if expected.numeric and value is not None and not _is_number(value):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: a regression needs a number, not {_kind(value)}")
    if isinstance(value, str):
        _bounded(value, name, limits)


def _scores(scores: object) -> None:
    if scores is None:
        return
    if not isinstance(scores, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"scores: {_show(scores)}: an object of probabilities is needed")
    for name, score in scores.items():
        path = _within("scores", name)
        if not _is_number(score):
            raise _Stop(Refusal.WRONG_TYPE, f"{path}: {_show(score)}: a number is needed")
        if not 0 <= score <= 1:
            raise _Stop(Refusal.BAD_VALUE, f"{path}: {score}: a probability lies between 0 and 1")
    _not_repeated(scores, scores, "scores")


def _metrics(metrics: object) -> None:
    if metrics is None:
        return
    if not isinstance(metrics, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"metrics: {_show(metrics)}: an object of numbers is needed")
    for name, value in metrics.items():
        if value is not None and not _is_number(value):
            raise _Stop(Refusal.WRONG_TYPE, f"{_within('metrics', name)}: {_show(value)}: a number is needed")
    _not_repeated(metrics, metrics, "metrics")


def _batch(batch: object) -> None:
    if batch is None:
        return
    if not isinstance(batch, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"batch: {_show(batch)}: an object is needed")
    for name in ("size", "ms"):
        if batch.get(name) is None:
            raise _Stop(Refusal.MISSING_FIELD, f"batch.{name}: is needed")
        _amount(batch, name, "batch")
    _not_repeated(batch, ("size", "ms"), "batch")


def _features(features: object, limits: Limits, expected: Expected) -> None:
    if features is None:
        return
    if not isinstance(features, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"features: {_show(features)}: an object is needed")
    if len(features) > limits.features:
        raise _Stop(Refusal.TOO_MANY_FEATURES, f"features: {len(features)} of them, at most {limits.features}")
    for name, value in features.items():
        if isinstance(value, dict | list) and expected.looks_at(name):
            needed = f"a number, text, boolean or null is needed, not {_kind(value)}"
            raise _Stop(Refusal.WRONG_TYPE, f"{_within('features', name)}: {_show(value)}: {needed}")


def _text(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is None:
        return
    if not isinstance(value, str):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: text is needed, not {_kind(value)}")
    _bounded(value, name, limits)


def _bounded(text: str, name: str, limits: Limits) -> None:
    if len(text) > limits.id_length:
        detail = f"{name}: {_show(text)}: {len(text)} characters, at most {limits.id_length}"
        raise _Stop(Refusal.ID_TOO_LONG, detail)


def _amount(fields: Mapping[str, Any], name: str, path: str = "") -> None:
    value = fields.get(name)
    if value is None:
        return
    where = _within(path, name)
    if not _is_number(value):
        raise _Stop(Refusal.WRONG_TYPE, f"{where}: {_show(value)}: a number is needed")
    if value < 0:
        raise _Stop(Refusal.BAD_VALUE, f"{where}: {value}: cannot be negative")
    if value > LARGEST_INTEGER:
        raise _Stop(Refusal.BAD_VALUE, f"{where}: {value}: cannot be above 2^53")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            return "a number"


def _within(path: str, name: str) -> str:
    return f"{path}.{_cut(name)}" if path else _cut(name)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _show(value: object) -> str:
    return _cut(repr(value))
