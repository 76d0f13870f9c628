"""Find the reason why a record in driftd's own format is refused.

Slow: every rule is checked one by one until one is broken. It runs only for records that the fast decoder has
refused, and finds a fault in exactly those. Pure. Called by `formats.driftd`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from monitor.events.formats.json_text import (
    BrokenRule,
    check_not_repeated,
    check_text,
    check_values,
    is_number,
    kind_of,
    load,
    show,
    within,
)
from monitor.events.refusals import Finding, Refusal
from monitor.events.schema import LARGEST_INTEGER, SCHEMA, SERVED_BY, TYPES, ModelSchema
from monitor.spec import Limits
from monitor.times import parse_event_time, unit_hint

_ANY_MODEL: Final = ModelSchema(numeric=False, ignored=frozenset())


def examine(
    raw: bytes | None, limits: Limits, schema_of: Callable[[object], ModelSchema | None] = lambda model: None
) -> Finding | None:
    """Return the first rule that a record breaks, None if it breaks none.

    Which models are configured, and whether a time is in the future, is left to the caller.

    Args:
        raw: The bytes of the record, None for a tombstone.
        limits: Sizes and lengths that are allowed.
        schema_of: From the name of a model to its schema, None for a model that is not configured.
    """
    try:
        _examine(raw, limits, schema_of)
    except BrokenRule as stop:
        return stop.finding
    return None


def bad_text(raw: bytes) -> Finding | None:
    """Return what is wrong with the texts of a record that has been decoded, None if nothing is.

    JSON can spell a NUL, which a database cannot store.
    """
    try:
        check_values(load(raw), "", 0, numbers=False)
    except BrokenRule as stop:
        return stop.finding
    return None


def _examine(raw: bytes | None, limits: Limits, schema_of: Callable[[object], ModelSchema | None]) -> None:
    if raw and len(raw) > limits.event_bytes:
        raise BrokenRule(Refusal.TOO_LARGE, f"{len(raw)} bytes, at most {limits.event_bytes}")
    if not raw or not raw.strip():
        raise BrokenRule(Refusal.EMPTY, "the record has no value")
    event = load(raw)
    if not isinstance(event, dict):
        raise BrokenRule(Refusal.NOT_AN_OBJECT, f"the record is {kind_of(event)}, not an object")
    _schema(event)
    kind = _type(event)
    model = event.get("model")
    schema = (schema_of(model) if isinstance(model, str) else None) or _ANY_MODEL
    for name in _FIELDS[kind]:
        if name == "features":
            _check_features(event.get(name), schema)
        elif name == "time":
            _check_time(event.get(name))
        else:
            check_values(event.get(name), name, 0)
    for name in _IDENTITY[kind]:
        _identity(event, name, limits)
    _time(event)
    _BY_TYPE[kind](event, limits, schema)
    check_not_repeated(event, ("schema", "type", *_FIELDS[kind]), "")
    # What is ignored has to be JSON all the same.
    check_values(event, "", 0, numbers=False)


def _check_time(time: object) -> None:
    """As `check_values`; of a number beyond 2^53 the detail says which unit it may be in."""
    try:
        check_values(time, "time", 0)
    except BrokenRule as stop:
        reason, detail = stop.finding
        hint = unit_hint(int(str(time))) if reason is Refusal.INTEGER_TOO_LARGE and str(time).isdigit() else ""
        raise BrokenRule(reason, detail + hint) from None


def _check_features(features: object, schema: ModelSchema) -> None:
    """As `check_values`; the numbers of an ignored feature may be any."""
    if not isinstance(features, dict):
        check_values(features, "features", 0)
        return
    for name, value in features.items():
        check_text(name, "a name in features")
        if schema.checks(name) or isinstance(value, str):
            check_values(value, within("features", name), 1)


def _schema(event: Mapping[str, Any]) -> None:
    schema = event.get("schema", SCHEMA)
    check_values(schema, "schema", 0)
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise BrokenRule(Refusal.WRONG_TYPE, f"schema: {show(schema)}: an integer is needed")
    if schema > SCHEMA:
        raise BrokenRule(Refusal.NEWER_SCHEMA, f"schema: {schema}: this release knows {SCHEMA}")
    if schema < SCHEMA:
        raise BrokenRule(Refusal.BAD_VALUE, f"schema: {schema}: the first schema is {SCHEMA}")


def _type(event: Mapping[str, Any]) -> str:
    kind = event.get("type")
    check_values(kind, "type", 0)
    if kind is None:
        raise BrokenRule(Refusal.MISSING_FIELD, f"type: one of {', '.join(TYPES)} is needed")
    if not isinstance(kind, str) or kind not in TYPES:
        raise BrokenRule(Refusal.UNKNOWN_TYPE, f"type: {show(kind)}: one of {', '.join(TYPES)} is needed")
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
        raise BrokenRule(Refusal.MISSING_FIELD, "time: is needed")
    try:
        parse_event_time(event["time"])
    except ValueError as error:
        raise BrokenRule(Refusal.BAD_TIME, f"time: {error}") from None


def _identity(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is None or value == "":
        raise BrokenRule(Refusal.MISSING_FIELD, f"{name}: is needed")
    if not isinstance(value, str):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{name}: {show(value)}: text is needed, not {kind_of(value)}")
    _bounded(value, name, limits)


def _prediction(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    if not isinstance(event.get("served", True), bool):
        raise BrokenRule(Refusal.WRONG_TYPE, f"served: {show(event['served'])}: true or false is needed")
    served_by = event.get("served_by", SERVED_BY[0])
    if served_by not in SERVED_BY:
        raise BrokenRule(Refusal.BAD_VALUE, f"served_by: {show(served_by)}: one of {', '.join(SERVED_BY)} is needed")
    for name in ("assigned", "segment", "error"):
        _text(event, name, limits)
    prediction = event.get("prediction")
    if prediction is None and event.get("error") is None:
        raise BrokenRule(Refusal.MISSING_FIELD, "prediction: is needed where there is no error")
    _value(prediction, "prediction", limits, schema)
    _scores(event.get("scores"))
    _amount(event, "latency_ms")
    _metrics(event.get("metrics"))
    _batch(event.get("batch"))
    _features(event.get("features"), limits, schema)


def _outcome(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    if event.get("actual") is None:
        raise BrokenRule(Refusal.MISSING_FIELD, "actual: is needed")
    _value(event["actual"], "actual", limits, schema)
    _metrics(event.get("metrics"))


def _resources(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    for name in ("memory_mb", "cpu_percent", "gpu_percent"):
        _amount(event, name)


_BY_TYPE: Final = {"prediction": _prediction, "outcome": _outcome, "resources": _resources}


def _value(value: object, name: str, limits: Limits, schema: ModelSchema) -> None:
    """A number for a regression, any scalar as a label otherwise."""
    if isinstance(value, dict | list):
        raise BrokenRule(
            Refusal.WRONG_TYPE, f"{name}: {show(value)}: a number or a label is needed, not {kind_of(value)}"
        )
    if schema.numeric and value is not None and not is_number(value):
        raise BrokenRule(
            Refusal.WRONG_TYPE, f"{name}: {show(value)}: a regression needs a number, not {kind_of(value)}"
        )
    if isinstance(value, str):
        _bounded(value, name, limits)


def _scores(scores: object) -> None:
    if scores is None:
        return
    if not isinstance(scores, dict):
        raise BrokenRule(Refusal.WRONG_TYPE, f"scores: {show(scores)}: an object of probabilities is needed")
    for name, score in scores.items():
        path = within("scores", name)
        if not is_number(score):
            raise BrokenRule(Refusal.WRONG_TYPE, f"{path}: {show(score)}: a number is needed")
        if not 0 <= score <= 1:
            raise BrokenRule(Refusal.BAD_VALUE, f"{path}: {score}: a probability lies between 0 and 1")
    check_not_repeated(scores, scores, "scores")


def _metrics(metrics: object) -> None:
    if metrics is None:
        return
    if not isinstance(metrics, dict):
        raise BrokenRule(Refusal.WRONG_TYPE, f"metrics: {show(metrics)}: an object of numbers is needed")
    for name, value in metrics.items():
        if value is not None and not is_number(value):
            raise BrokenRule(Refusal.WRONG_TYPE, f"{within('metrics', name)}: {show(value)}: a number is needed")
    check_not_repeated(metrics, metrics, "metrics")


def _batch(batch: object) -> None:
    if batch is None:
        return
    if not isinstance(batch, dict):
        raise BrokenRule(Refusal.WRONG_TYPE, f"batch: {show(batch)}: an object is needed")
    for name in ("size", "ms"):
        if batch.get(name) is None:
            raise BrokenRule(Refusal.MISSING_FIELD, f"batch.{name}: is needed")
        _amount(batch, name, "batch")
    check_not_repeated(batch, ("size", "ms"), "batch")


def _features(features: object, limits: Limits, schema: ModelSchema) -> None:
    if features is None:
        return
    if not isinstance(features, dict):
        raise BrokenRule(Refusal.WRONG_TYPE, f"features: {show(features)}: an object is needed")
    if len(features) > limits.features:
        raise BrokenRule(Refusal.TOO_MANY_FEATURES, f"features: {len(features)} of them, at most {limits.features}")
    for name, value in features.items():
        if isinstance(value, dict | list) and schema.checks(name):
            needed = f"a number, text, boolean or null is needed, not {kind_of(value)}"
            raise BrokenRule(Refusal.WRONG_TYPE, f"{within('features', name)}: {show(value)}: {needed}")


def _text(event: Mapping[str, Any], name: str, limits: Limits) -> None:
    value = event.get(name)
    if value is None:
        return
    if not isinstance(value, str):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{name}: {show(value)}: text is needed, not {kind_of(value)}")
    _bounded(value, name, limits)


def _bounded(text: str, name: str, limits: Limits) -> None:
    if len(text) > limits.id_length:
        detail = f"{name}: {show(text)}: {len(text)} characters, at most {limits.id_length}"
        raise BrokenRule(Refusal.ID_TOO_LONG, detail)


def _amount(fields: Mapping[str, Any], name: str, path: str = "") -> None:
    value = fields.get(name)
    if value is None:
        return
    where = within(path, name)
    if not is_number(value):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{where}: {show(value)}: a number is needed")
    if value < 0:
        raise BrokenRule(Refusal.BAD_VALUE, f"{where}: {value}: cannot be negative")
    if value > LARGEST_INTEGER:
        raise BrokenRule(Refusal.BAD_VALUE, f"{where}: {value}: cannot be above 2^53")
