"""Find out what is wrong with a record in driftd's own format: why it is refused, or which of its values are unusable.

Slow: every rule is checked one by one. It runs only for records that the fast decoder does not take, and refuses
exactly those that cannot be mended. What a record must have to mean something refuses it; any other value that cannot
be used is left out of it. Pure. Called by `formats.driftd`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from monitor.events.formats.json_text import (
    BrokenRule,
    check_is_json,
    check_values,
    integer_id,
    is_number,
    kind_of,
    load,
    show,
)
from monitor.events.formats.optional import OptionalFields
from monitor.events.refusals import FieldFault, Refusal
from monitor.events.schema import ASSIGNED_BY, SCHEMA, SERVED_BY, TYPES, ModelSchema
from monitor.spec import Limits
from monitor.times import parse_event_time, unit_hint

_ANY_MODEL: Final = ModelSchema(numeric=False, ignored=frozenset())
SchemaOf = Callable[[object], ModelSchema | None]


def mend(raw: bytes | None, limits: Limits, schema_of: SchemaOf) -> tuple[Mapping[str, Any], tuple[FieldFault, ...]]:
    """Leave out of a record what cannot be used.

    Args:
        raw: The bytes of the record, None for a tombstone.
        limits: Sizes and lengths that are allowed.
        schema_of: From the name of a model to its schema, None for a model that is not configured. Which models are
            configured, and whether a time is in the future, is left to the caller.

    Returns:
        The fields that are known, without unusable values; and what these were.

    Raises:
        BrokenRule: the record is refused.
    """
    if raw and len(raw) > limits.event_bytes:
        raise BrokenRule(Refusal.TOO_LARGE, f"{len(raw)} bytes, at most {limits.event_bytes}")
    if not raw or not raw.strip():
        raise BrokenRule(Refusal.EMPTY, "the record has no value")
    event = load(raw)
    if not isinstance(event, dict):
        raise BrokenRule(Refusal.NOT_AN_OBJECT, f"the record is {kind_of(event)}, not an object")
    check_is_json(raw, event)
    _schema(event)
    kind = _type(event)
    model = event.get("model")
    schema = (schema_of(model) if isinstance(model, str) else None) or _ANY_MODEL
    for name in _NEEDED[kind]:
        if name == "request_id":
            event[name] = integer_id(event.get(name))
        if name == "time":
            _check_time(event.get(name))
        else:
            check_values(event.get(name), name, 0)
    for name in _IDENTITY[kind]:
        _identity(event, name, limits)
    _time(event)
    _BY_TYPE[kind](event, limits, schema)
    known = {name: event[name] for name in ("schema", "type", *_NEEDED[kind]) if name in event}
    optional = OptionalFields(event, limits, schema)
    return known | optional.of(kind), tuple(optional.faults)


def model_of(raw: bytes | None, limits: Limits) -> str | None:
    """Return the name of the model of a record, whatever else is wrong with it; None where it has none."""
    if not raw or len(raw) > limits.event_bytes:
        return None
    try:
        event = load(raw)
        model = event.get("model") if isinstance(event, dict) else None
        check_values(model, "model", 0)
    except BrokenRule:
        return None
    return model if isinstance(model, str) and model else None


def _check_time(time: object) -> None:
    """As `check_values`; of a number beyond 2^53 the detail says which unit it may be in."""
    try:
        check_values(time, "time", 0)
    except BrokenRule as stop:
        reason, detail = stop.finding
        hint = unit_hint(int(str(time))) if reason is Refusal.INTEGER_TOO_LARGE and str(time).isdigit() else ""
        raise BrokenRule(reason, detail + hint) from None


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
# Fields that say what an event is and counts as: nothing in their place can be guessed.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction": (
        *_IDENTITY["prediction"], "time", "assigned", "assigned_by", "served", "served_by", "synthetic", "prediction",
        "error",
    ),
    "outcome": (*_IDENTITY["outcome"], "time", "actual", "synthetic"),
    "resources": (*_IDENTITY["resources"], "time"),
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
    if name == "request_id" and isinstance(value, int) and not isinstance(value, bool):
        return  # the same as its digits
    if not isinstance(value, str):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{name}: {show(value)}: text is needed, not {kind_of(value)}")
    _bounded(value, name, limits)


def _prediction(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    if not isinstance(event.get("served", True), bool):
        raise BrokenRule(Refusal.WRONG_TYPE, f"served: {show(event['served'])}: true or false is needed")
    served_by = event.get("served_by", SERVED_BY[0])
    if served_by not in SERVED_BY:
        raise BrokenRule(Refusal.BAD_VALUE, f"served_by: {show(served_by)}: one of {', '.join(SERVED_BY)} is needed")
    assigned_by = event.get("assigned_by")
    if assigned_by is not None and assigned_by not in ASSIGNED_BY:
        needed = f"one of {', '.join(ASSIGNED_BY)} is needed"
        raise BrokenRule(Refusal.BAD_VALUE, f"assigned_by: {show(assigned_by)}: {needed}")
    _synthetic(event)
    for name in ("assigned", "error"):
        _text(event, name, limits)
    prediction = event.get("prediction")
    if prediction is None and event.get("error") is None:
        raise BrokenRule(Refusal.MISSING_FIELD, "prediction: is needed where there is no error")
    _value(prediction, "prediction", limits, schema)


def _outcome(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    _synthetic(event)
    if event.get("actual") is None:
        raise BrokenRule(Refusal.MISSING_FIELD, "actual: is needed")
    _value(event["actual"], "actual", limits, schema)


def _resources(event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
    """Nothing but who and when."""


_BY_TYPE: Final = {"prediction": _prediction, "outcome": _outcome, "resources": _resources}


def _synthetic(event: Mapping[str, Any]) -> None:
    if not isinstance(event.get("synthetic"), bool | None):
        raise BrokenRule(Refusal.WRONG_TYPE, f"synthetic: {show(event['synthetic'])}: true or false is needed")


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
