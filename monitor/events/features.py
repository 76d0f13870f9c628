"""Features of predictions: decoded once, and checked against the schema of their model alone.

A value is accepted if it is a number, text, boolean or null within bounds; the features that the configuration
ignores may be anything. Which of them a reference compares is decided later (`reference.feature_reader`). Pure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from detectors.types import IntArray
from monitor.events.schema import LARGEST_INTEGER, Scalar, Whole

_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
_decode_any: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
_decode_parts: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_part: Callable[[msgspec.Raw], Any] = msgspec.json.Decoder(Any).decode
# What msgspec does not allow as the encoded name of a field.
_AWKWARD = re.compile(r'["\\\x00-\x1f]')


class FieldKind(Enum):
    """Which values a field of a row takes."""

    NUMBER = "number"
    SCALAR = "scalar"
    IGNORED = "ignored"


_TYPES: Final[Mapping[FieldKind, Any]] = {
    FieldKind.NUMBER: Whole | float | None,
    FieldKind.SCALAR: str | Whole | float | bool | None,
    FieldKind.IGNORED: msgspec.Raw,
}


class RowLayout:
    """A struct with a field for each feature, into which JSON objects are decoded.

    An object with another feature, or with a value of another kind, is not decoded.

    Attributes:
        kinds: The features and what their values are.
        fields: Feature to attribute of the struct.
        decode: From the JSON of an object to a struct; absent features are None. Raises one of msgspec's errors.
    """

    def __init__(self, kinds: Mapping[str, FieldKind]) -> None:
        self.kinds = dict(kinds)
        self.fields = {name: f"f{i}" for i, name in enumerate(kinds)}
        definition = [(self.fields[name], _TYPES[kind], None) for name, kind in kinds.items()]
        rename = {field: name for name, field in self.fields.items()}
        self._struct = msgspec.defstruct("FeatureRow", definition, rename=rename, forbid_unknown_fields=True, gc=False)
        self.decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(self._struct).decode

    def row(self, values: Mapping[str, Scalar]) -> msgspec.Struct:
        """Make a struct of values that were decoded otherwise; they must fit the layout."""
        return self._struct(**{self.fields[name]: value for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features of some predictions of one model.

    Attributes:
        raw: The undecoded JSON object of each prediction, for learning a reference; may be empty or null.
        values: The same, decoded: structs of `layout`, or mappings from feature to value where that is None.
        layout: Which attribute of a struct is which feature.
    """

    raw: Sequence[bytes]
    values: Sequence[Any]
    layout: RowLayout | None

    def __len__(self) -> int:
        return len(self.raw)

    def take(self, rows: IntArray) -> FeatureRows:
        """Select predictions."""
        at = rows.tolist()
        return FeatureRows([self.raw[i] for i in at], [self.values[i] for i in at], self.layout)


NO_FEATURES: Final = FeatureRows((), (), None)


class FeatureDecoder:
    """Decodes and checks the features of one model.

    It keeps a layout of the features that the model has sent so far, and decodes straight into it: one pass in C
    that checks all values, without a dictionary per event. Whatever does not fit the layout is decoded the slow way
    and widens it. The layout affects speed only, never what is accepted or read.

    Args:
        ignored: Features that may be anything.
        limit: Features of an event, the ignored ones included.
    """

    def __init__(self, ignored: frozenset[str], limit: int) -> None:
        self._ignored = ignored
        self._limit = limit
        # Never more fields than an event may have features, so what fits it needs no counting.
        self._layout = RowLayout({})

    def decode(self, raws: Sequence[bytes]) -> tuple[FeatureRows, list[int]]:
        """Decode the features of some events.

        Args:
            raws: JSON of each event's `features`; "" and null stand for none.

        Returns:
            The rows, and the positions of events that must be refused. Where there are any, the rows are empty and
            the caller asks again without those events.
        """
        layout = self._layout
        try:
            return FeatureRows(raws, list(map(layout.decode, raws)), layout), []
        except _FAULTS:
            pass
        odd, bad = self._apart(raws)
        if bad:
            return NO_FEATURES, bad
        kinds = self._widened(layout.kinds, odd.values())
        if not self._fits(kinds):
            return self._without_layout(raws, odd), []
        if kinds != layout.kinds:
            layout = self._layout = RowLayout(kinds)
        rows = [layout.row(odd[i]) if i in odd else layout.decode(raw) for i, raw in enumerate(raws)]
        return FeatureRows(raws, rows, layout), []

    def _apart(self, raws: Sequence[bytes]) -> tuple[dict[int, dict[str, Scalar]], list[int]]:
        """Find the events that do not fit the layout: their values by position, and positions of unusable ones."""
        decode = self._layout.decode
        odd: dict[int, dict[str, Scalar]] = {}
        bad: list[int] = []
        for i, raw in enumerate(raws):
            try:
                decode(raw)
            except _FAULTS:
                values = _checked(raw, self._ignored, self._limit)
                if values is None:
                    bad.append(i)
                else:
                    odd[i] = values
        return odd, bad

    def _without_layout(self, raws: Sequence[bytes], odd: Mapping[int, dict[str, Scalar]]) -> FeatureRows:
        """Decode into mappings, and begin the layout anew with the features of these events."""
        rows = [odd[i] if i in odd else _checked(raw, self._ignored, self._limit) or {} for i, raw in enumerate(raws)]
        kinds = self._widened({}, rows)
        if self._fits(kinds):
            self._layout = RowLayout(kinds)
        return FeatureRows(raws, rows, None)

    def _fits(self, kinds: Mapping[str, FieldKind]) -> bool:
        return len(kinds) <= self._limit and not any(map(_AWKWARD.search, kinds))

    def _widened(self, kinds: Mapping[str, FieldKind], rows: Iterable[Mapping[str, Scalar]]) -> dict[str, FieldKind]:
        found = dict(kinds)
        for values in rows:
            for name, value in values.items():
                if name in self._ignored:
                    found[name] = FieldKind.IGNORED
                elif isinstance(value, bool | str):
                    found[name] = FieldKind.SCALAR
                else:
                    found.setdefault(name, FieldKind.NUMBER)
        return found


def members(raw: bytes, ignored: frozenset[str]) -> dict[str, Scalar] | None:
    """Decode the features of one event that are not ignored; None if one of them cannot be used."""
    values = _checked(raw, ignored, sys.maxsize)
    if values is None or ignored.isdisjoint(values):
        return values
    return {name: value for name, value in values.items() if name not in ignored}


def _checked(raw: bytes, ignored: frozenset[str], limit: int) -> dict[str, Scalar] | None:
    """Decode the features of one event, the ignored ones as None; None if it must be refused for them."""
    if not raw or (len(raw) == 4 and bytes(raw) == b"null"):
        return {}
    values: dict[str, Any] | None
    try:
        values = _decode_any(raw)
    except _FAULTS:
        values = _decoded_apart(raw, ignored)
    if values is None or len(values) > limit:
        return None
    for name in ignored & values.keys():
        values[name] = None
    kinds = set(map(type, values.values()))
    if dict in kinds or list in kinds:
        return None
    if int in kinds and any(type(v) is int and abs(v) > LARGEST_INTEGER for v in values.values()):
        return None
    return values


def _decoded_apart(raw: bytes, ignored: frozenset[str]) -> dict[str, Any] | None:
    """Decode one value at a time: an ignored feature may be a number beyond the largest float."""
    try:
        parts = _decode_parts(raw)
        return {name: None if name in ignored else _decode_part(part) for name, part in parts.items()}
    except _FAULTS:
        return None
