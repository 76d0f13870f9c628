"""Why a record is refused, and the slow way to find out.

Pure. `events` decodes the normal case; what it stumbles over comes here, where each rule is checked one by
one until one gives a reason that names the field and the value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from monitor.spec import Limits
from monitor.times import parse_time

LARGEST_INTEGER: Final = 1 << 53  # beyond it a float cannot hold every integer
SERVED_BY: Final = ("primary", "previous", "rules", "ensemble", "default")
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


class _Stop(Exception):
    def __init__(self, reason: Refusal, detail: str) -> None:
        self.finding = (reason, detail)
        super().__init__(detail)


def examine(raw: bytes | None, limits: Limits, numeric: bool | None = None) -> Finding | None:
    """The first rule that a record breaks, None if it breaks none.

    `numeric` tells whether the record's model predicts numbers; None where that is not known.
    """
    try:
        _examine(raw, limits, numeric)
    except _Stop as stop:
        return stop.finding
    return None


def _examine(raw: bytes | None, limits: Limits, numeric: bool | None) -> None:
    if not raw or not raw.strip():
        raise _Stop(Refusal.EMPTY, "the record has no value")
    if len(raw) > limits.event_bytes:
        raise _Stop(Refusal.TOO_LARGE, f"{len(raw)} bytes, at most {limits.event_bytes}")
    event = _load(raw)
    if not isinstance(event, dict):
        raise _Stop(Refusal.NOT_AN_OBJECT, f"the record is {_kind(event)}, not an object")
    _texts(event, "", 0)
    schema = event.get("schema", SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise _Stop(Refusal.WRONG_TYPE, f"schema: {_show(schema)}: an integer is needed")
    if schema > SCHEMA:
        raise _Stop(Refusal.NEWER_SCHEMA, f"schema: {schema}: this release knows {SCHEMA}")
    if schema < SCHEMA:
        raise _Stop(Refusal.BAD_VALUE, f"schema: {schema}: the first schema is {SCHEMA}")
    kind = event.get("type")
    if kind not in TYPES:
        raise _Stop(
            Refusal.MISSING_FIELD if kind is None else Refusal.UNKNOWN_TYPE,
            f"type: {_show(kind)}: one of {', '.join(TYPES)} is needed",
        )
    for name in _IDENTITY[kind]:
        _identity(event, name, limits)
    if "time" not in event or event["time"] is None:
        raise _Stop(Refusal.MISSING_FIELD, "time: is needed")
    try:
        parse_time(event["time"])
    except ValueError as error:
        raise _Stop(Refusal.BAD_TIME, f"time: {error}") from None
    _BY_TYPE[kind](event, limits, numeric)


_IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction": ("request_id", "model", "version"),
    "outcome": ("request_id", "model"),
    "resources": ("model", "version"),
}


def _load(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_constant=_no_constant, parse_int=_integer, parse_float=_number)
    except _Stop:
        raise
    except RecursionError:
        raise _Stop(Refusal.TOO_DEEP, f"nested deeper than {_DEEPEST} levels") from None
    except (ValueError, MemoryError) as error:
        raise _Stop(Refusal.NOT_JSON, f"{_show_bytes(raw)}: {error}") from None


def _no_constant(name: str) -> float:
    raise _Stop(Refusal.NOT_FINITE, f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > LARGEST_INTEGER:
        raise _Stop(Refusal.INTEGER_TOO_LARGE, f"{digits[:_SHOWN]}: integers lie between -2^53 and 2^53")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Stop(Refusal.NOT_FINITE, f"{digits[:_SHOWN]} is beyond the largest float")
    return value


def _texts(value: object, path: str, depth: int) -> None:
    """No lone surrogates and no NUL, in names and values, however deep."""
    if depth > _DEEPEST:
        raise _Stop(Refusal.TOO_DEEP, f"nested deeper than {_DEEPEST} levels")
    if isinstance(value, str):
        if "\0" in value:
            raise _Stop(Refusal.BAD_TEXT, f"{path or 'a name'}: has a NUL character")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise _Stop(Refusal.BAD_TEXT, f"{path or 'a name'}: has half of a surrogate pair")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _texts(name, "", depth)
            _texts(inner, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _texts(inner, path, depth + 1)


def _identity(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is None or value == "":
        raise _Stop(Refusal.MISSING_FIELD, f"{name}: is needed")
    if not isinstance(value, str):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: text is needed, not {_kind(value)}")
    if len(value) > limits.id_length:
        raise _Stop(Refusal.ID_TOO_LONG, f"{name}: {len(value)} characters, at most {limits.id_length}")


def _prediction(event: Mapping[str, Any], limits: Limits, numeric: bool | None) -> None:
    _flag(event, "served")
    served_by = event.get("served_by", "primary")
    if served_by not in SERVED_BY:
        raise _Stop(Refusal.BAD_VALUE, f"served_by: {_show(served_by)}: one of {', '.join(SERVED_BY)} is needed")
    for name in ("assigned", "segment", "error"):
        _text(event, name, limits)
    prediction, error = event.get("prediction"), event.get("error")
    if prediction is None and error is None:
        raise _Stop(Refusal.MISSING_FIELD, "prediction: is needed where there is no error")
    _value(prediction, "prediction", limits, numeric)
    _scores(event.get("scores"), limits)
    _amount(event, "latency_ms")
    _metrics(event.get("metrics"))
    batch = event.get("batch")
    if batch is not None:
        if not isinstance(batch, dict):
            raise _Stop(Refusal.WRONG_TYPE, f"batch: {_show(batch)}: an object is needed")
        for name in ("size", "ms"):
            _amount(batch, name, "batch.")
    _features(event.get("features"), limits)


def _outcome(event: Mapping[str, Any], limits: Limits, numeric: bool | None) -> None:
    if event.get("actual") is None:
        raise _Stop(Refusal.MISSING_FIELD, "actual: is needed")
    _value(event["actual"], "actual", limits, numeric)
    _metrics(event.get("metrics"))


def _resources(event: Mapping[str, Any], limits: Limits, numeric: bool | None) -> None:
    for name in ("memory_mb", "cpu_percent", "gpu_percent"):
        _amount(event, name)


_BY_TYPE: Final = {"prediction": _prediction, "outcome": _outcome, "resources": _resources}


def _value(value: object, name: str, limits: Limits, numeric: bool | None) -> None:
    """A number for a regression, any scalar as a label otherwise."""
    if isinstance(value, dict | list):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_kind(value)}: a number or a label is needed")
    if numeric and value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: a regression needs a number")
    if isinstance(value, str) and len(value) > limits.id_length:
        raise _Stop(Refusal.ID_TOO_LONG, f"{name}: {len(value)} characters, at most {limits.id_length}")


def _scores(scores: object, limits: Limits) -> None:
    if scores is None:
        return
    if not isinstance(scores, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"scores: {_show(scores)}: an object of probabilities is needed")
    if len(scores) > limits.labels:
        raise _Stop(Refusal.BAD_VALUE, f"scores: {len(scores)} classes, at most {limits.labels}")
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise _Stop(Refusal.WRONG_TYPE, f"scores.{name[:_SHOWN]}: {_show(score)}: a number is needed")
        if not 0 <= score <= 1:
            raise _Stop(Refusal.BAD_VALUE, f"scores.{name[:_SHOWN]}: {score}: a probability lies between 0 and 1")


def _metrics(metrics: object) -> None:
    if metrics is None:
        return
    if not isinstance(metrics, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"metrics: {_show(metrics)}: an object of numbers is needed")
    for name, value in metrics.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _Stop(Refusal.WRONG_TYPE, f"metrics.{name[:_SHOWN]}: {_show(value)}: a number is needed")


def _features(features: object, limits: Limits) -> None:
    if features is None:
        return
    if not isinstance(features, dict):
        raise _Stop(Refusal.WRONG_TYPE, f"features: {_show(features)}: an object is needed")
    if len(features) > limits.features:
        raise _Stop(Refusal.TOO_MANY_FEATURES, f"features: {len(features)} of them, at most {limits.features}")
    for name, value in features.items():
        if isinstance(value, dict | list):
            detail = f"features.{name[:_SHOWN]}: {_kind(value)}: a number, text, boolean or null is needed"
            raise _Stop(Refusal.WRONG_TYPE, detail)


def _flag(event: Mapping[str, Any], name: str) -> None:
    if not isinstance(event.get(name, True), bool):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(event[name])}: true or false is needed")


def _text(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is not None and not isinstance(value, str):
        raise _Stop(Refusal.WRONG_TYPE, f"{name}: {_show(value)}: text is needed")
    if value is not None and len(value) > limits.id_length:
        raise _Stop(Refusal.ID_TOO_LONG, f"{name}: {len(value)} characters, at most {limits.id_length}")


def _amount(event: Mapping[str, Any], name: str, prefix: str = "") -> None:
    value = event.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Stop(Refusal.WRONG_TYPE, f"{prefix}{name}: {_show(value)}: a number is needed")
    if value < 0:
        raise _Stop(Refusal.BAD_VALUE, f"{prefix}{name}: {value}: cannot be negative")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", type(None): "null"}
    return names[type(value)]


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _show_bytes(raw: bytes) -> str:
    return _show(raw.decode("utf-8", "replace"))
