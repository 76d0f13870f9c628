"""Features of a batch of predictions as columns.

An event's features arrive as undecoded JSON. Where the reference is known they are decoded straight into a
row of named fields, so that a batch becomes a matrix without a dictionary per event. A value of the wrong
type is not worth losing the prediction for: it counts as missing and is told. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from detectors.categorical import CategoryCells
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import FloatArray, IntArray
from monitor.refusals import LARGEST_INTEGER
from monitor.spec import FeatureKind

RESERVED = ("prediction", "score")  # names under which answers are compared; no feature may have them
Scalar = str | int | float | bool | None

_decode_any: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)


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
    """Reads the features of one model against one profile; without a profile it only checks them."""

    def __init__(
        self, profile: Profile | None, kinds: Mapping[str, FeatureKind], limit: int, *, learning: bool
    ) -> None:
        features = profile.features if profile else ()
        ignored = {name for name, kind in kinds.items() if kind is FeatureKind.IGNORE} | set(RESERVED)
        self.numeric = [f for f in features if isinstance(f, NumericReference) and f.name not in ignored]
        self.categorical = [f for f in features if isinstance(f, CategoricalReference) and f.name not in ignored]
        self.mistyped = 0  # values of another type than the reference's, cumulative
        self._learning = learning
        self._limit = limit
        self._cells = CategoryCells(self.categorical)
        self._decode = _row_decoder([f.name for f in self.numeric], [f.name for f in self.categorical])
        self._row: type[msgspec.Struct] = self._decode.type
        self._numbers = attrgetter(*(f"n{i}" for i in range(len(self.numeric)))) if self.numeric else None
        self._texts = attrgetter(*(f"c{i}" for i in range(len(self.categorical)))) if self.categorical else None

    @property
    def reads(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.numeric or self.categorical)

    def read(self, raws: Sequence[bytes]) -> tuple[FeatureRows, list[int]]:
        """Columns of the features, and the positions of rows that must be refused.

        Refused rows are NaN and -1 in the columns; `refusals.examine` says why.
        """
        if not self.reads:
            bad = [i for i, raw in enumerate(raws) if not self._acceptable(raw)]
            empty = np.zeros((len(raws), 0))
            return FeatureRows(empty, (), raws if self._learning else ()), bad
        rows, bad = self._rows(raws)
        numbers = self._matrix(rows)
        # A large whole number is fine as a float and a fault as an integer: only the text can tell.
        suspects = np.flatnonzero((np.abs(numbers) > LARGEST_INTEGER).any(axis=1))
        bad += [i for i in suspects.tolist() if not self._acceptable(raws[i])]
        too_long = 6 * self._limit  # the shortest member is `"a":1,`
        bad += [i for i, raw in enumerate(raws) if len(raw) > too_long and not self._acceptable(raw)]
        return FeatureRows(numbers, self._columns(rows), ()), bad

    def _rows(self, raws: Sequence[bytes]) -> tuple[list[msgspec.Struct], list[int]]:
        decode = self._decode.decode
        try:
            return list(map(decode, raws)), []
        except _FAULTS:
            pass
        rows, bad = [], []
        for i, raw in enumerate(raws):
            try:
                rows.append(decode(raw))
            except _FAULTS:
                row = self._lenient(raw)
                if row is None:
                    bad.append(i)
                rows.append(row or self._row())
        return rows, bad

    def _lenient(self, raw: bytes) -> msgspec.Struct | None:
        """A row in which values of another type are missing; None if it must be refused."""
        if not self._acceptable(raw):
            return None
        values = _members(raw)
        row: dict[str, Scalar] = {}
        for i, feature in enumerate(self.numeric):
            value = values.get(feature.name)
            if isinstance(value, bool | str):
                self.mistyped += 1
                value = None
            row[f"n{i}"] = value
        for i, level in enumerate(self.categorical):
            row[f"c{i}"] = values.get(level.name)
        return self._row(**row)

    def _acceptable(self, raw: bytes) -> bool:
        try:
            values = _members(raw)
        except _FAULTS:
            return False
        if len(values) > self._limit:
            return False
        return not any(
            isinstance(value, dict | list)
            or (type(value) is int and abs(value) > LARGEST_INTEGER)
            or (type(value) is str and "\0" in value)
            for value in values.values()
        )

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


def _members(raw: bytes) -> dict[str, Any]:
    return _decode_any(raw) if raw not in (b"", b"null") else {}


def scalars(raw: bytes) -> dict[str, Scalar]:
    """All features of one event that `FeatureReader.read` did not refuse."""
    return _members(raw)


def _row_decoder(numeric: Sequence[str], categorical: Sequence[str]) -> msgspec.json.Decoder[Any]:
    """Decoder into a struct with fields n0, n1 … and c0, c1 … for features of any name."""
    fields: list[tuple[str, Any, Any]] = [(f"n{i}", float | None, None) for i in range(len(numeric))]
    fields += [(f"c{i}", str | int | float | bool | None, None) for i in range(len(categorical))]
    rename = {f"n{i}": name for i, name in enumerate(numeric)} | {f"c{i}": name for i, name in enumerate(categorical)}
    return msgspec.json.Decoder(msgspec.defstruct("FeatureRow", fields, rename=rename, gc=False))
