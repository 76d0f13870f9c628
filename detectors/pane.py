"""The counts of a pane, the smallest slice of a stream that is summarised.

A pane holds named vectors of integers, each stored sparse or dense. Because they are integers, panes and fragments of
panes add up exactly in any order. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.saved import DamagedError, pack, unpack
from detectors.types import IntArray

MAGIC = b"DRIFTPAN"
SCHEMA = 1
_SPARSE_BELOW = 1 / 4  # share of cells in use up to which pairs of index and count need less memory


@dataclass(frozen=True, slots=True)
class Counts:
    """Hold a vector of integers, sparse or dense.

    Attributes:
        size: Length of the vector.
        index: Cells in use, ascending; None for a dense vector.
        value: Values of the cells in use; of all cells for a dense vector.
    """

    size: int
    index: IntArray | None
    value: IntArray

    @staticmethod
    def of(dense: IntArray) -> Counts:
        """Store a dense vector in the smaller of both forms."""
        used = np.flatnonzero(dense)
        if len(used) > len(dense) * _SPARSE_BELOW:
            return Counts(len(dense), None, dense)
        return Counts(len(dense), used, dense[used])

    @staticmethod
    def zeros(size: int) -> Counts:
        """Return a vector of zeros."""
        none = np.zeros(0, np.int64)
        return Counts(size, none, none)

    def dense(self) -> IntArray:
        """Return all values, shape (size,); the caller must not write to them."""
        if self.index is None:
            return self.value
        out = np.zeros(self.size, np.int64)
        out[self.index] = self.value
        return out

    def narrowed(self) -> Counts:
        """Return the same counts in as few bytes as hold them, to be kept and added to totals."""
        index = None if self.index is None else self.index.astype(np.int32)
        return Counts(self.size, index, _narrow(self.value))  # type: ignore[arg-type]  # any integers add up

    def add_to(self, total: IntArray, sign: int = 1) -> None:
        """Add the vector to `total` in place, or subtract it if `sign` is negative."""
        where = slice(None) if self.index is None else self.index
        if sign > 0:
            total[where] += self.value
        else:
            total[where] -= self.value

    def __add__(self, other: Counts) -> Counts:
        if self.size != other.size:
            raise ValueError(f"vectors of {self.size} and {other.size} cells do not add up")
        if self.index is not None and not len(self.index):
            return other
        total = self.dense().astype(np.int64)
        other.add_to(total)
        return Counts.of(total)

    @property
    def total(self) -> int:
        """Return the sum of all values."""
        return int(self.value.sum())


CountsByName = Mapping[str, Counts]


def merge(panes: Iterable[CountsByName]) -> dict[str, Counts]:
    """Add up panes; a vector that a pane lacks counts as zeros."""
    merged: dict[str, Counts] = {}
    for pane in panes:
        for name, counts in pane.items():
            merged[name] = merged[name] + counts if name in merged else counts
    return merged


def pack_counts(header: Mapping[str, Any], vectors: CountsByName, plain: Mapping[str, Any]) -> bytes:
    """Encode a pane or a fragment of one.

    Args:
        header: Values that JSON can represent, without the keys `schema` and `sizes`.
        vectors: The counts by name.
        plain: Other arrays of numbers by name, saved as they are.
    """
    arrays: dict[str, Any] = {f"plain.{name}": array for name, array in plain.items()}
    sizes: dict[str, int] = {}
    for name, counts in vectors.items():
        sizes[name] = counts.size
        arrays[f"value.{name}"] = _narrow(counts.value)
        if counts.index is not None:
            arrays[f"index.{name}"] = _narrow(counts.index)
    return pack(MAGIC, {"schema": SCHEMA, "sizes": sizes, **header}, arrays)


def unpack_counts(blob: bytes) -> tuple[dict[str, Any], dict[str, Counts], dict[str, Any]]:
    """Decode the header, the counts and the plain arrays that `pack_counts` encoded.

    Raises:
        DamagedError: The bytes are damaged or were written by a newer release.
    """
    header, arrays = unpack(MAGIC, blob)
    if header["schema"] > SCHEMA:
        raise DamagedError(f"pane has schema {header['schema']}, this release knows {SCHEMA}")
    counts = {}
    for name, size in header["sizes"].items():
        index = arrays.get(f"index.{name}")
        wide = None if index is None else index.astype(np.int64)
        counts[name] = Counts(size, wide, arrays[f"value.{name}"].astype(np.int64))
    plain = {name[6:]: array.copy() for name, array in arrays.items() if name.startswith("plain.")}
    return header, counts, plain


def _narrow(values: IntArray) -> Any:
    """Convert to the smallest integer type that holds all values."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return values.astype(kind)
    return values
