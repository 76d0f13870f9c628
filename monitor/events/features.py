"""Features of predictions: decoded once, and checked against the schema of their model alone.

A value is accepted if it is a number, text, boolean or null within bounds; the features that the configuration
ignores may be anything. Which of them a reference compares is decided later (`reference.feature_reader`). Pure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain, repeat
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

    EMPTY = "empty"  # null, if any
    NUMBER = "number"
    SCALAR = "scalar"
    IGNORED = "ignored"  # by the configuration: anything


_TYPES: Final[Mapping[ValueKind, Any]] = {
    ValueKind.EMPTY: None,
    ValueKind.NUMBER: Whole | float | None,
    ValueKind.SCALAR: str | Whole | float | bool | None,
    ValueKind.IGNORED: msgspec.Raw,
}
_FILLED: Final = (ValueKind.NUMBER, ValueKind.SCALAR)


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
        self._getters: dict[tuple[str, ...], Callable[[msgspec.Struct], Any]] = {}

    def row(self, values: Mapping[str, Scalar]) -> msgspec.Struct:
        """Make a struct of values that were decoded otherwise; they must fit the layout."""
        return self._struct(**{self._fields[name]: value for name, value in values.items()})

    def mapping(self, row: msgspec.Struct) -> dict[str, Scalar]:
        """Return the features that a struct has, but for those that are null, absent or ignored."""
        values = ((name, getattr(row, field)) for name, field in self._fields.items() if self._is_read(name))
        return {name: value for name, value in values if value is not None}

    def _is_read(self, name: str) -> bool:
        return self.kinds[name] is not ValueKind.IGNORED

    def getter(self, names: tuple[str, ...]) -> Callable[[msgspec.Struct], Any]:
        """Return a function from a struct to the values of these features, a tuple where there are several."""
        found = self._getters.get(names)
        if found is None:
            found = self._getters[names] = attrgetter(*(self._fields[name] for name in names))
        return found

    def matrix(self, rows: Sequence[msgspec.Struct], names: tuple[str, ...]) -> FloatArray:
        """Make columns of these features, which are numbers, NaN for None."""
        width = len(names)
        if not width or not rows:
            return np.zeros((len(rows), width))
        values = self.getter(names)
        if width == 1:
            return np.array(list(map(values, rows)), np.float64).reshape(-1, 1)
        try:
            flat = chain.from_iterable(map(values, rows))
            return np.fromiter(flat, np.float64, len(rows) * width).reshape(-1, width)
        except TypeError:  # None somewhere, which `np.array` reads as NaN, at twice the price
            return np.array(list(map(values, rows)), np.float64).reshape(-1, width)


class FeatureTable:
    """Features of some predictions of one model. A column is made when it is asked for: most events have more.

    Args:
        rows: A struct of the layout for each prediction.
        layout: Of these structs.
        mappings: The features of each prediction where they do not fit one layout; then there are no structs.
        raw: The undecoded JSON of each prediction, maybe empty or null; () unless it was asked for.
    """

    def __init__(
        self,
        rows: Sequence[msgspec.Struct],
        layout: _Layout,
        mappings: Sequence[Mapping[str, Scalar]] | None = None,
        raw: Sequence[bytes] = (),
    ) -> None:
        self._rows, self._layout = rows, layout
        self.mappings, self.raw = mappings, raw

    def __len__(self) -> int:
        return len(self._rows) if self.mappings is None else len(self.mappings)

    def take(self, rows: IntArray) -> FeatureTable:
        """Select predictions."""
        at = rows.tolist()
        return FeatureTable(
            [self._rows[i] for i in at] if self.mappings is None else (),
            self._layout,
            None if self.mappings is None else [self.mappings[i] for i in at],
            [self.raw[i] for i in at] if self.raw else (),
        )

    @staticmethod
    def joined(tables: Sequence[FeatureTable]) -> FeatureTable:
        """Put tables of one model one after the other.

        Their raw JSON is kept where all of them have it.
        """
        filled = [table for table in tables if len(table)]
        if len(filled) < 2:
            return filled[0] if filled else NO_FEATURES
        raw = [text for table in filled for text in table.raw] if all(table.raw for table in filled) else ()
        layout = filled[-1]._layout
        if all(table._layout is layout and table.mappings is None for table in filled):
            return FeatureTable([row for table in filled for row in table._rows], layout, raw=raw)
        return FeatureTable((), layout, [values for table in filled for values in table._as_mappings()], raw)

    def _as_mappings(self) -> Sequence[Mapping[str, Scalar]]:
        return self.mappings if self.mappings is not None else [self._layout.mapping(row) for row in self._rows]

    @property
    def names(self) -> Iterable[str]:
        """Names of the features of which there is a column with values; some may be those of other predictions."""
        return () if self.mappings is not None else [n for n, kind in self._layout.kinds.items() if kind in _FILLED]

    def are_numbers(self, names: Iterable[str]) -> bool:
        """Tell whether all values of these features are numbers or null, and there is a column of each."""
        kinds = self._layout.kinds
        return self.mappings is None and all(kinds.get(name) in (ValueKind.NUMBER, ValueKind.EMPTY) for name in names)

    def matrix(self, names: tuple[str, ...]) -> FloatArray:
        """Make columns of features that `are_numbers`.

        Returns:
            Shape (predictions, names); NaN where a prediction does not have the feature.
        """
        return self._layout.matrix(self._rows, names)

    def values(self, name: str) -> Iterable[Scalar]:
        """Return the values of a feature; None where a prediction does not have it."""
        if self.mappings is not None:
            return (values.get(name) for values in self.mappings)
        if self._layout.kinds.get(name) in _FILLED:
            return map(self._layout.getter((name,)), self._rows)
        return repeat(None, len(self._rows))

    def first_value(self, name: str, rows: Iterable[int]) -> int | None:
        """Return the first of these rows in which a feature of `names` has a value, None if it has none."""
        get, its = self._layout.getter((name,)), self._rows
        return next((row for row in rows if get(its[row]) is not None), None)


NO_FEATURES: Final = FeatureTable((), _Layout({}))


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
            return FeatureTable(list(map(layout.decode, raws)), layout, raw=raw), []
        except _FAULTS:
            pass
        odd, bad = self._apart(raws)
        if bad:
            return NO_FEATURES, bad
        if not self._widen(odd.values()):
            mappings = self._without_layout(raws, odd)
            return FeatureTable((), self._layout, mappings, raw), []
        layout = self._layout
        rows = [layout.row(odd[i]) if i in odd else layout.decode(text) for i, text in enumerate(raws)]
        return FeatureTable(rows, layout, raw=raw), []

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
                elif value is None:
                    found.setdefault(name, ValueKind.EMPTY)
                elif found.get(name, ValueKind.EMPTY) is ValueKind.EMPTY:
                    found[name] = ValueKind.NUMBER
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
