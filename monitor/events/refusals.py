"""Reasons for which a record, or a field of it, is not used. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """Why a record is refused: metric label, log field and field `reason` of the dead letter."""

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
    TIME_IN_PAST = "time_in_past"
    TOO_MANY_FEATURES = "too_many_features"
    UNKNOWN_MODEL = "unknown_model"
    CONFLICT = "conflict"
    HASH_COLLISION = "hash_collision"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is not accepted.

    Attributes:
        row: Position in the batch.
        reason: The rule that it breaks.
        detail: The field and the value, in at most 500 characters without NUL or lone surrogates.
    """

    row: int
    reason: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A value of an accepted record that cannot be used and counts as missing.

    Attributes:
        field: Its path, such as `features.load`; without a name that cannot be shown.
        reason: The rule that it breaks.
    """

    field: str
    reason: Refusal


class Aside(StrEnum):
    """Why a record that is not refused counts nowhere."""

    IGNORED = "ignored"  # its model is not configured
    SYNTHETIC = "synthetic"  # it says so itself


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that is neither accepted nor refused.

    Attributes:
        row: Position in the batch.
        why: The reason.
        model: Name of its model.
    """

    row: int
    why: Aside
    model: str


Finding = tuple[Refusal, str]  # reason and detail
