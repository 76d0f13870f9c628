"""Stored states: dataclasses and structs to values that JSON knows, and back. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from detectors.saved import DamagedError

T = TypeVar("T")


def to_plain(state: Any) -> Any:
    """Return a state as dicts, lists and scalars."""
    return msgspec.to_builtins(state, enc_hook=_number)


def from_plain(saved: Any, kind: type[T]) -> T:
    """Return the state of type `kind` that `to_plain` was given; unknown keys are ignored.

    Raises:
        DamagedError: A field is missing or of another type.
    """
    try:
        return msgspec.convert(saved, kind)
    except msgspec.ValidationError as error:
        raise DamagedError(f"a stored {kind.__name__} cannot be read: {error}") from error


def _number(value: Any) -> Any:
    """Return a number of numpy as one of Python."""
    return value.item()
