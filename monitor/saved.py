"""Stored states: dataclasses and structs to values that JSON knows, and back. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
import zstandard

from detectors.saved import DamagedError
from monitor.errors import StoreError

T = TypeVar("T")
# What decoding raises where bytes or texts are not what was written, whatever it is that was damaged.
_DAMAGE: Final = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, msgspec.MsgspecError,
    struct.error, zstandard.ZstdError,
)  # fmt: skip
_SHOWN: Final = 200  # characters of an error


@contextmanager
def damage_in(where: str) -> Iterator[None]:
    """Within this context, take errors of decoding for damage of what is stored.

    Args:
        where: Table and row that are decoded.

    Raises:
        StoreError: What is stored is damaged.
    """
    try:
        yield
    except _DAMAGE as error:
        raise StoreError(damaged(where, str(error) or type(error).__name__), retryable=False) from error


def damaged(where: str, why: str) -> str:
    """Return the text of the error for what is damaged, with the way out."""
    return f"the store is damaged: {where}: {why[:_SHOWN]}; restore it from a backup"


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
