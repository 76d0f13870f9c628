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
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from detectors.types import FloatArray, IntArray
from monitor.events.schema import LARGEST_INTEGER, Scalar, Whole

_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
_decode_any: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
_decode_parts: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_part: Callable[[msgspec.Raw], Any] = msgspec.json.Decoder(Any).decode
# What msgspec does not allow as the encoded name of a field.
_AWKWARD = re.compile(r'["\\\x00-\x1f]')


class ValueKind(Enum):
    """Which values a feature has had so far."""

    NUMBER = "number"
    SCALAR = "scalar"
    IGNORED = "ignored"  # by the configuration: anything


_TYPES: Final[Mapping[ValueKind, Any]] = {
    ValueKind.NUMBER: Whole | float | None,
    ValueKind.SCALAR: str | Whole | float | bool | None,
    ValueKind.IGNORED: msgspec.Raw,
}


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features of some predictions of one model, as columns of what the model sends.

    Attributes:
        number_columns: Features whose values are all numbers, and their column in `numbers`.
        numbers: Shape (predictions, number columns); NaN where a prediction does not have the feature.
        scalars: Features with text or booleans among their values, and these values; None where missing.
        mappings: The features of each prediction where they could not be made columns; then there are no columns.
        raw: The undecoded JSON of each prediction, maybe empty or null; () unless it was asked for.
    """

    number_columns: Mapping[str, int]
    numbers: FloatArray
    scalars: Mapping[str, Sequence[Scalar]]
    mappings: Sequence[Mapping[str, Scalar]] | None = None
    raw: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: IntArray) -> FeatureTable:
        """Select predictions."""
        at = rows.tolist()
        return FeatureTable(
            self.number_columns,
            self.numbers[rows],
            {name: [values[i] for i in at] for name, values in self.scalars.items()},
            None if self.mappings is None else [self.mappings[i] for i in at],
            [self.raw[i] for i in at] if self.raw else (),
        )


NO_FEATURES: Final = FeatureTable({}, np.zeros((0, 0)), {})


class _Layout:
    """A struct with a field for each feature, and how to make columns of its instances.

    JSON with another feature, or with a value of another kind, is not decoded.

    Attributes:
        kinds: The features and what their values are.
        decode: From the JSON of an object to a struct; absent features are None. Raises one of _FAULTS.
    """

    def __init__(self, kinds: Mapping[str, ValueKind]) -> None:
        self.kinds = dict(kinds)
        self._fields = {name: f"f{i}" for i, name in enumerate(kinds)}
        definition = [(self._fields[name], _TYPES[kind], None) for name, kind in kinds.items()]
        rename = {field: name for name, field in self._fields.items()}
        self._struct = msgspec.defstruct("FeatureRow", definition, rename=rename, forbid_unknown_fields=True, gc=False)
        self.decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(self._struct).decode
        self._numbers = self._named(ValueKind.NUMBER)
        self._number_columns = {name: i for i, name in enumerate(self._numbers)}
        self._scalars = self._named(ValueKind.SCALAR)
        self._number_of = attrgetter(*self._numbers.values()) if self._numbers else None
        self._scalar_of = attrgetter(*self._scalars.values()) if self._scalars else None

    def _named(self, wanted: ValueKind) -> dict[str, str]:
        return {name: self._fields[name] for name, kind in self.kinds.items() if kind is wanted}

    def row(self, values: Mapping[str, Scalar]) -> msgspec.Struct:
        """Make a struct of values that were decoded otherwise; they must fit the layout."""
        return self._struct(**{self._fields[name]: value for name, value in values.items()})

    def table(self, rows: Sequence[msgspec.Struct], raw: Sequence[bytes]) -> FeatureTable:
        """Make columns of structs."""
        return FeatureTable(self._number_columns, self._matrix(rows), self._objects(rows), raw=raw)

    def _matrix(self, rows: Sequence[msgspec.Struct]) -> FloatArray:
        width = len(self._numbers)
        if self._number_of is None or not rows:
            return np.zeros((len(rows), width))
        if width == 1:
            return np.array(list(map(self._number_of, rows)), np.float64).reshape(-1, 1)
        picked = map(self._number_of, rows)
        try:
            return np.fromiter(chain.from_iterable(picked), np.float64, len(rows) * width).reshape(-1, width)
        except TypeError:  # None somewhere, which `np.array` reads as NaN, at twice the price
            return np.array(list(map(self._number_of, rows)), np.float64).reshape(-1, width)

    def _objects(self, rows: Sequence[msgspec.Struct]) -> dict[str, Sequence[Scalar]]:
        if self._scalar_of is None or not rows:
            return dict.fromkeys(self._scalars, ())
        picked = list(map(self._scalar_of, rows))
        columns = [picked] if len(self._scalars) == 1 else zip(*picked, strict=True)
        return dict(zip(self._scalars, columns, strict=True))


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
        self._layout = _Layout({})

    def decode(self, raws: Sequence[bytes], *, keep_raw: bool = False) -> tuple[FeatureTable, list[int]]:
        """Decode the features of some events.

        Args:
            raws: JSON of each event's `features`; "" and null stand for none.
            keep_raw: Keep the JSON beside the columns. It costs 3 % of a daemon's time, so it is kept on demand only.

        Returns:
            The columns, and the positions of events that must be refused. Where there are any, the columns are empty
            and the caller asks again without those events.
        """
        layout, raw = self._layout, raws if keep_raw else ()
        try:
            return layout.table(list(map(layout.decode, raws)), raw), []
        except _FAULTS:
            pass
        odd, bad = self._apart(raws)
        if bad:
            return NO_FEATURES, bad
        if not self._widen(odd.values()):
            mappings = self._without_layout(raws, odd)
            return FeatureTable({}, np.zeros((len(raws), 0)), {}, mappings, raw), []
        layout = self._layout
        rows = [layout.row(odd[i]) if i in odd else layout.decode(text) for i, text in enumerate(raws)]
        return layout.table(rows, raw), []

    def _apart(self, raws: Sequence[bytes]) -> tuple[dict[int, dict[str, Scalar]], list[int]]:
        """Find the events that do not fit the layout: their values by position, and positions of unusable ones."""
        odd: dict[int, dict[str, Scalar]] = {}
        bad: list[int] = []
        widen_at = 1  # then at twice as many, and so on: most of what follows fits soon, and making a layout is slow
        for i, raw in enumerate(raws):
            try:
                self._layout.decode(raw)
            except _FAULTS:
                values = _checked(raw, self._ignored, self._limit)
                if values is None:
                    bad.append(i)
                    continue
                odd[i] = values
                if len(odd) == widen_at:
                    self._widen(odd.values())
                    widen_at *= 2
        return odd, bad

    def _widen(self, rows: Iterable[Mapping[str, Scalar]]) -> bool:
        """Make the layout fit these features too. Returns whether it does."""
        kinds = self._kinds_of(rows, self._layout.kinds)
        if len(kinds) > self._limit or any(map(_AWKWARD.search, kinds)):
            return False
        if kinds != self._layout.kinds:
            self._layout = _Layout(kinds)
        return True

    def _without_layout(self, raws: Sequence[bytes], odd: Mapping[int, dict[str, Scalar]]) -> list[dict[str, Scalar]]:
        """Decode into mappings, and begin the layout anew with the features of these events."""
        rows = [odd[i] if i in odd else _checked(raw, self._ignored, self._limit) or {} for i, raw in enumerate(raws)]
        former, self._layout = self._layout, _Layout({})
        if not self._widen(rows):
            self._layout = former
        return rows

    def _kinds_of(self, rows: Iterable[Mapping[str, Scalar]], kinds: Mapping[str, ValueKind]) -> dict[str, ValueKind]:
        found = dict(kinds)
        for values in rows:
            for name, value in values.items():
                if name in self._ignored:
                    found[name] = ValueKind.IGNORED
                elif isinstance(value, bool | str):
                    found[name] = ValueKind.SCALAR
                else:
                    found.setdefault(name, ValueKind.NUMBER)
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
