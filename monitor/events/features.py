"""Features of a batch of predictions as columns.

An event's features arrive as undecoded JSON. Where the reference is known they are decoded straight into a
row of named fields, so that a batch becomes a matrix without a dictionary per event. A value of the wrong
type is not worth losing the prediction for: it counts as missing and is told. Pure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

from detectors.categorical import CategoryCells
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import FloatArray, IntArray
from monitor.events.refusals import LARGEST_INTEGER
from monitor.spec import FeatureKind

RESERVED = ("prediction", "score")  # names under which answers are compared; no feature may have them
Scalar = str | int | float | bool | None
Whole = Annotated[int, msgspec.Meta(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]

_decode_any: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
_decode_parts: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_part: Callable[[msgspec.Raw], Any] = msgspec.json.Decoder(Any).decode
_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
_ALL: frozenset[str] = frozenset()
# What msgspec cannot give to a field as its name; such features are read one event at a time.
_AWKWARD = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features of some predictions: a matrix of the numeric ones, codes of each categorical one.

    `raw` are the undecoded features, for learning. NaN and -1 are missing values.
    """

    numbers: FloatArray
    codes: tuple[IntArray, ...]
    raw: Sequence[bytes]

    def take(self, rows: IntArray) -> FeatureRows:
        """These rows."""
        raw = [self.raw[i] for i in rows.tolist()] if self.raw else self.raw
        return FeatureRows(self.numbers[rows], tuple(c[rows] for c in self.codes), raw)


class FeatureReader:
    """Reads the features of one model against one profile; without a profile it only checks them.

    Without a profile every feature that is not configured to be ignored is looked at, since any of them may
    become part of one; with a profile, those of the profile. What is not looked at may be anything.
    """

    def __init__(
        self, profile: Profile | None, kinds: Mapping[str, FeatureKind], limit: int, *, learning: bool
    ) -> None:
        features = profile.features if profile else ()
        self._ignored = ignored_names(kinds)
        compared = [f for f in features if f.name not in self._ignored]
        self.numeric = [f for f in compared if isinstance(f, NumericReference)]
        self.categorical = [f for f in compared if isinstance(f, CategoricalReference)]
        self._names = frozenset(f.name for f in compared)
        self.mistyped = 0  # values of another type than the reference's, cumulative
        self._learning = learning
        self._limit = limit
        self._cells = CategoryCells(self.categorical)
        self._at_once = not any(map(_AWKWARD.search, self._names))
        self._decode = _row_decoder([f.name for f in self.numeric], [f.name for f in self.categorical], self._at_once)
        self._row: type[msgspec.Struct] = self._decode.type
        self._numbers = attrgetter(*(f"n{i}" for i in range(len(self.numeric)))) if self.numeric else None
        self._texts = attrgetter(*(f"c{i}" for i in range(len(self.categorical)))) if self.categorical else None

    @property
    def reads(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self._names)

    def looks_at(self, name: str) -> bool:
        """Whether a feature's values have to be such that they can be compared."""
        return name in self._names if self._names else name not in self._ignored

    def read(self, raws: Sequence[bytes]) -> tuple[FeatureRows, list[int]]:
        """Columns of the features, and the positions of rows that must be refused.

        Refused rows are NaN and -1 in the columns; `refusals.examine` says why. Where there are any, the
        caller is expected to ask again without them: mistyped values are counted only then.
        """
        if not self.reads:
            bad = [i for i, raw in enumerate(raws) if self._members(raw) is None]
            empty = np.zeros((len(raws), 0))
            return FeatureRows(empty, (), raws if self._learning else ()), bad
        rows, bad, mistyped = self._rows(raws)
        too_long = 6 * self._limit  # the shortest member is `"a":1,`
        bad += [i for i, raw in enumerate(raws) if len(raw) > too_long and self._members(raw) is None]
        if not bad:
            self.mistyped += mistyped
        return FeatureRows(self._matrix(rows), self._columns(rows), ()), bad

    def _rows(self, raws: Sequence[bytes]) -> tuple[list[msgspec.Struct], list[int], int]:
        """(rows, positions of those to refuse, number of values of another type)."""
        decode = self._decode.decode
        if self._at_once:
            try:
                return list(map(decode, raws)), [], 0
            except _FAULTS:
                pass
        rows, bad, mistyped = [], [], 0
        for i, raw in enumerate(raws):
            row = None
            if self._at_once:
                with suppress(*_FAULTS):
                    row = decode(raw)
            if row is None:
                values = self._members(raw)
                if values is None:
                    bad.append(i)
                row, wrong = self._lenient(values or {})
                mistyped += wrong
            rows.append(row)
        return rows, bad, mistyped

    def _lenient(self, values: Mapping[str, Scalar]) -> tuple[msgspec.Struct, int]:
        """(a row in which values of another type are missing, how many those are)."""
        row: dict[str, Scalar] = {}
        mistyped = 0
        for i, feature in enumerate(self.numeric):
            value = values.get(feature.name)
            if isinstance(value, bool | str):
                mistyped += 1
                value = None
            row[f"n{i}"] = value
        for i, level in enumerate(self.categorical):
            row[f"c{i}"] = values.get(level.name)
        return self._row(**row), mistyped

    def _members(self, raw: bytes) -> dict[str, Scalar] | None:
        """The features that are looked at, None where the event must be refused for them."""
        return members(raw, self._ignored, self._names, self._limit)

    def _matrix(self, rows: Sequence[msgspec.Struct]) -> FloatArray:
        width = len(self.numeric)
        if self._numbers is None:
            return np.zeros((len(rows), 0))
        if width == 1:
            return np.array(list(map(self._numbers, rows)), np.float64).reshape(-1, 1)
        picked = map(self._numbers, rows)
        try:
            return np.fromiter(chain.from_iterable(picked), np.float64, len(rows) * width).reshape(-1, width)
        except TypeError:  # None somewhere, which `np.array` reads as NaN, at twice the price
            return np.array(list(map(self._numbers, rows)), np.float64).reshape(-1, width)

    def _columns(self, rows: Sequence[msgspec.Struct]) -> tuple[IntArray, ...]:
        if self._texts is None or not rows:
            return tuple(np.zeros(0, np.int64) for _ in self.categorical)
        picked = list(map(self._texts, rows))
        columns = [picked] if len(self.categorical) == 1 else list(zip(*picked, strict=True))
        return tuple(
            np.fromiter(map(codes.__getitem__, column), np.int64, len(rows))
            for codes, column in zip(self._cells.codes, columns, strict=True)
        )


def ignored_names(kinds: Mapping[str, FeatureKind]) -> frozenset[str]:
    """Features that are never looked at."""
    return frozenset(name for name, kind in kinds.items() if kind is FeatureKind.IGNORE) | frozenset(RESERVED)


def members(
    raw: bytes, ignored: frozenset[str], only: frozenset[str] = _ALL, limit: int = sys.maxsize
) -> dict[str, Scalar] | None:
    """The features of an event that are looked at; None if one of them is no scalar, or all are too many."""
    if not raw or (len(raw) == 4 and bytes(raw) == b"null"):
        return {}
    values: dict[str, Any] | None
    try:
        values = _decode_any(raw)
    except _FAULTS:
        values = _decoded_apart(raw, ignored, only)
    if values is None or len(values) > limit:
        return None
    if only:
        values = {name: value for name, value in values.items() if name in only}
    if not ignored.isdisjoint(values):
        values = {name: value for name, value in values.items() if name not in ignored}
    kinds = set(map(type, values.values()))
    if dict in kinds or list in kinds:
        return None
    if int in kinds and any(type(v) is int and abs(v) > LARGEST_INTEGER for v in values.values()):
        return None
    return values


def _decoded_apart(raw: bytes, ignored: frozenset[str], only: frozenset[str]) -> dict[str, Any] | None:
    """One value at a time: what nobody looks at may be a number beyond the largest float."""
    try:
        parts = _decode_parts(raw)
        return {
            name: _decode_part(part) if (name in only if only else name not in ignored) else None
            for name, part in parts.items()
        }
    except _FAULTS:
        return None


def _row_decoder(numeric: Sequence[str], categorical: Sequence[str], renamed: bool) -> msgspec.json.Decoder[Any]:
    """Decoder into a struct with fields n0, n1 … and c0, c1 …, which are `renamed` to what the features are called."""
    fields: list[tuple[str, Any, Any]] = [(f"n{i}", Whole | float | None, None) for i in range(len(numeric))]
    fields += [(f"c{i}", str | Whole | float | bool | None, None) for i in range(len(categorical))]
    rename = {f"n{i}": name for i, name in enumerate(numeric)} | {f"c{i}": name for i, name in enumerate(categorical)}
    return msgspec.json.Decoder(msgspec.defstruct("FeatureRow", fields, rename=rename if renamed else None, gc=False))
