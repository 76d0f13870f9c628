"""Blocks of a reference: rows in a row, counted by cell, in the order of time.

A profile keeps up to 512 of them, with the same boundaries for all features, so whoever resamples blocks keeps how
neighbouring rows depend on each other and how features move together. A cell is a group of neighbouring points of a
number, or one category, or the rare ones together. Blocks stay compressed until they are asked for. Pure.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.saved import DamagedError, pack, unpack
from detectors.types import BoolArray, FloatArray, IntArray, NumberArray

MAGIC: Final = b"DRIFTBLK"
MOST_BLOCKS: Final = 512
_CELLS: Final = 64  # of a feature, without that of the rows without a value,
_CELLS_OF_MANY: Final = 32  # and where there are many features: 200 of them take 5 MB at most
_MANY: Final = 100  # features
_MOST_BYTES: Final = 1 << 28  # of blocks that are not compressed
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBlocks:
    """Hold the blocks of one feature.

    Attributes:
        cell: Cell of each place: of each point of a number, or of each category and of all others; shape (places,).
        counts: Rows by block and cell, and last those without a value; shape (blocks, cells + 1).
    """

    cell: IntArray
    counts: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Hold the blocks of rows in a row, of all features of a profile, compressed.

    Attributes:
        size: Rows of a block, a power of two.
        rows: Rows of all blocks; the last one may have fewer than the others.
        times: Time of the first and of the last row of each block, ms, shape (blocks, 2); None where rows have none, or
            are not in their order.
        names: What the features are called, so that they and the answers of the model are told apart.
        digest: Of the counts, hexadecimal: the same on every platform.
        body: The counts, compressed.
    """

    size: int
    rows: int
    times: IntArray | None
    names: tuple[str, ...]
    digest: str
    body: bytes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blocks):
            return NotImplemented
        same = (self.size, self.rows, self.names) == (other.size, other.rows, other.names)
        same = same and self.digest == other.digest
        if self.times is None or other.times is None:
            return same and self.times is other.times
        return same and np.array_equal(self.times, other.times)

    __hash__ = None  # type: ignore[assignment]  # of a value that holds an array

    def __len__(self) -> int:
        return -(-self.rows // self.size)

    @staticmethod
    def of(size: int, rows: int, times: IntArray | None, features: Mapping[str, FeatureBlocks]) -> Blocks:
        """Compress the blocks of features.

        Args:
            size: Rows of a block.
            rows: Rows of all blocks.
            times: As in `times`.
            features: The counts by name, as in `names`.
        """
        arrays: dict[str, NumberArray] = {}
        for i, held in enumerate(features.values()):
            arrays[f"{i}.cell"] = held.cell.astype(np.uint8)
            arrays[f"{i}.counts"] = _planes(held.counts)
        raw = pack(MAGIC, {}, arrays)
        digest = hashlib.sha256(raw).hexdigest()[:_DIGITS]
        return Blocks(size, rows, times, tuple(features), digest, zlib.compress(raw))

    def features(self) -> dict[str, FeatureBlocks]:
        """Return the counts of each feature by name, decompressed.

        Raises:
            DamagedError: The bytes are damaged.
        """
        reader = zlib.decompressobj()
        try:
            raw = reader.decompress(self.body, _MOST_BYTES)
        except zlib.error as error:
            raise DamagedError(f"its blocks are damaged: {error}") from error
        if not reader.eof:
            raise DamagedError(f"its blocks take more than {_MOST_BYTES >> 20} MiB, or are cut off")
        _, arrays = unpack(MAGIC, raw)
        found = {}
        for i, name in enumerate(self.names):
            cell, counts = arrays[f"{i}.cell"].astype(np.int64), _of_planes(arrays[f"{i}.counts"])
            if len(counts) != len(self) or (len(cell) and int(cell.max()) + 2 != counts.shape[1]):
                raise DamagedError(f"the blocks of {name!r} do not fit")
            found[name] = FeatureBlocks(cell, counts)
        return found

    def coarser(self) -> Blocks:
        """Return blocks of twice the size: each joined with its neighbour."""
        pairs = np.arange(0, len(self), 2)
        features = {
            name: FeatureBlocks(held.cell, np.add.reduceat(held.counts, pairs))
            for name, held in self.features().items()
        }
        times = None
        if self.times is not None:
            ends = np.append(self.times[1::2, 1], self.times[-1:, 1])[: len(pairs)]
            times = np.column_stack([self.times[::2, 0], ends])
        return Blocks.of(2 * self.size, self.rows, times, features)


def saved_blocks(series: Sequence[Blocks], arrays: dict[str, NumberArray], *, whole: bool) -> list[dict[str, Any]]:
    """Return what a header says of blocks, and add the arrays.

    Args:
        series: Blocks of rows in a row; there are several where profiles were merged.
        arrays: Where arrays are added.
        whole: Whether the counts are among them; otherwise their digest stands for them.
    """
    for i, blocks in enumerate(series):
        if blocks.times is not None:
            arrays[f"blocks.{i}.times"] = blocks.times
        if whole:
            arrays[f"blocks.{i}.body"] = np.frombuffer(blocks.body, np.uint8)
    return [{"size": b.size, "rows": b.rows, "names": list(b.names), "digest": b.digest} for b in series]


def restored_blocks(saved: Sequence[Mapping[str, Any]], arrays: Mapping[str, NumberArray]) -> tuple[Blocks, ...]:
    """Return what `saved_blocks` was given."""
    found = []
    for i, its in enumerate(saved):
        times, body = arrays.get(f"blocks.{i}.times"), arrays[f"blocks.{i}.body"].tobytes()
        found.append(Blocks(its["size"], its["rows"], times, tuple(its["names"]), its["digest"], body))
    return tuple(found)


def block_size(rows: int) -> int:
    """Return the rows of a block where so many rows are kept: the smallest power of two that is enough."""
    size = 1
    while size * MOST_BLOCKS < rows:
        size *= 2
    return size


def cells_for(features: int) -> int:
    """Return the largest number of cells of each of so many features."""
    return _CELLS if features < _MANY else _CELLS_OF_MANY


def cells_of_points(weights: IntArray | FloatArray, most: int) -> IntArray:
    """Group points into cells of about equal weight.

    Args:
        weights: Weight of each point, ascending by point, shape (k,).
        most: Largest number of cells.

    Returns:
        The cell of each point, shape (k,).
    """
    if len(weights) <= most:
        return np.arange(len(weights))
    ends = np.cumsum(weights)
    place = ((ends - weights / 2) / ends[-1] * most).astype(np.int64)
    found: IntArray = np.unique(place, return_inverse=True)[1].astype(np.int64)
    return found


def cells_of_categories(counts: IntArray, most: int) -> IntArray:
    """Give the frequent categories a cell each, and all others one together.

    Args:
        counts: Rows of each category, the last of them all others; shape (k,).
        most: Largest number of cells.

    Returns:
        The cell of each category, shape (k,).
    """
    if len(counts) <= most:
        return np.arange(len(counts))
    frequent = np.sort(np.argsort(-counts[:-1], kind="stable")[: most - 1])
    cell = np.full(len(counts), most - 1)
    cell[frequent] = np.arange(most - 1)
    return cell


class BlockCounter:
    """Count the rows of one feature by block and cell, in batches."""

    def __init__(self, cell: IntArray, rows: int) -> None:
        """Start without rows.

        Args:
            cell: Cell of each place, shape (places,).
            rows: How many rows will be added.
        """
        self._cell = cell
        self._size = block_size(rows)
        self._missing = int(cell.max()) + 1 if len(cell) else 0
        self._counts = np.zeros((-(-rows // self._size), self._missing + 1), np.uint32)
        self._rows = 0

    def add(self, present: BoolArray, places: IntArray) -> None:
        """Add rows in the order of time: which have a value, shape (rows,), and the place of each that has one."""
        rows, width = len(present), self._missing + 1
        if not rows:
            return
        cells = np.full(rows, self._missing)
        cells[present] = self._cell[places]
        first = self._rows // self._size
        cells += ((self._rows + np.arange(rows)) // self._size - first) * width
        self._rows += rows
        last = (self._rows - 1) // self._size
        held = np.bincount(cells, minlength=(last - first + 1) * width).reshape(-1, width)
        self._counts[first : last + 1] += held.astype(np.uint32)

    def result(self) -> FeatureBlocks:
        """Return the counts of all rows that were added."""
        return FeatureBlocks(self._cell, self._counts.astype(np.int64))


class BlockTimes:
    """Keep the times of the rows at which blocks begin and end, in batches, of any number of rows."""

    def __init__(self) -> None:
        """Start without rows."""
        self._size = 1
        self._kept: list[int] = []  # of each block's first row
        self._ends: list[int] = []  # of each whole block's last row
        self._rows = 0
        self._last = 0

    def add(self, times: IntArray) -> None:
        """Add the times of rows, ms, shape (rows,)."""
        at = 0
        while at < len(times):  # as many rows as blocks of this size hold
            some = times[at : at + MOST_BLOCKS * self._size - self._rows]
            self._kept += some[-self._rows % self._size :: self._size].tolist()
            self._ends += some[(-self._rows - 1) % self._size :: self._size].tolist()
            self._rows += len(some)
            at += len(some)
            if at < len(times):
                self._size *= 2
                self._kept, self._ends = self._kept[::2], self._ends[1::2]
        if len(times):
            self._last = int(times[-1])

    def result(self) -> IntArray:
        """Return the time of the first and of the last row of each block, ms, shape (blocks, 2)."""
        ends = [*self._ends, self._last][: len(self._kept)]
        return np.array([self._kept, ends], np.int64).T


def _planes(counts: IntArray) -> NumberArray:
    """Return the bytes of counts, all lowest ones first: the higher ones are nearly all 0, and take no room."""
    top = int(counts.max()) if counts.size else 0
    width = 1 if top < 1 << 8 else 2 if top < 1 << 16 else 4
    held = np.ascontiguousarray(counts.astype(f"<u{width}")).view(np.uint8)
    return held.reshape(*counts.shape, width).transpose(2, 0, 1)


def _of_planes(planes: NumberArray) -> IntArray:
    width, *shape = planes.shape
    held = np.ascontiguousarray(planes.transpose(1, 2, 0)).view(f"<u{width}")
    return held.reshape(shape).astype(np.int64)
