"""Rows that wait until whole panes hold enough of them to learn a reference from.

A reference is learned from all rows of whole panes up to the first pane in which their number reaches what is wanted;
of too many the ones with the smallest hashes. So it is a function of the rows, whatever their order was and whenever
panes closed. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from detectors.saved import pack, unpack
from detectors.types import BoolArray, IntArray
from monitor.reference.learning import MAGIC

TIME: Final = "time"
HASH: Final = "hash"
VARIANT: Final = "variant"
KEPT: Final = 50_000  # rows of later panes beyond which nothing more is read while a reference is made
RAW: Final = "raw"  # undecoded features
VALUE: Final = "value"
SCORE: Final = "score"

Rows = Mapping[str, NDArray[Any]]  # columns of equal length; TIME, HASH and VARIANT are among them
Hashes = NDArray[np.uint64]

_HIGHEST: Final = np.uint64((1 << 64) - 1)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def hash_rows(columns: Iterable[NDArray[Any]], variant: IntArray, versions: Mapping[int, str]) -> Hashes:
    """Hash what rows consist of together with the names of the versions that answered.

    Rows with the same contents have the same hash, and it makes no difference which of them is taken. A hash of the
    request would not do: that is seeded anew for every store, and a replay has a store of its own.

    Args:
        columns: What tells rows apart: float64, int64 or uint64 columns.
        variant: Variant code of each row. Codes follow the order of processing, so they are not hashed.
        versions: Name by variant code.
    """
    hashes = hashes_of_texts(variant, versions)
    for column in columns:
        hashes = mixed(hashes ^ column.view(np.uint64))
    return hashes


def hashes_of_texts(codes: IntArray, texts: Mapping[int, str]) -> Hashes:
    """Return the hash of the text of each code."""
    known = np.array(sorted(texts), np.int64)
    hashes = np.array([xxhash.xxh3_64_intdigest(texts[code].encode()) for code in known.tolist()], np.uint64)
    found: Hashes = hashes[np.searchsorted(known, codes)] if len(known) else np.zeros(len(codes), np.uint64)
    return found


def mixed(values: Hashes) -> Hashes:
    """Return the output of SplitMix64 (Steele, Lea & Flood, 2014) for these states."""
    state = values + _GOLDEN
    for shift, factor in _MIX:
        state = (state ^ (state >> shift)) * factor
    found: Hashes = state ^ (state >> np.uint64(31))
    return found


def most_rows(wanted: int, limit: int) -> int:
    """Return how many rows are learned from at most: twice what is wanted or `limit`, but not less than is wanted."""
    return max(wanted, min(2 * wanted, limit))


class PaneRows:
    """Rows of one subject, those stored by a commit and those gathered since.

    Args:
        wanted: Rows from which on a pane is the last one to learn from.
        most: Rows to learn from at most; no less than `wanted`.
    """

    def __init__(self, wanted: int, most: int) -> None:
        self._wanted, self._most = wanted, most
        self._stored: list[Rows] = []
        self._fresh: list[Rows] = []
        self._certain = 0  # rows before this time, ms, are of panes that will be learned
        self._bound = _HIGHEST  # of those none with a larger hash can be among the smallest
        self._trim_at = 2 * most
        self.held = 0

    @property
    def missing(self) -> int:
        """Rows still needed."""
        return max(self._wanted - self.held, 0)

    @property
    def is_full(self) -> bool:
        """Whether so many rows of later panes are kept that it would take a while to count them."""
        return sum(int(np.count_nonzero(rows[TIME] >= self._certain)) for rows in self._all()) > KEPT

    def bytes(self, name: str) -> int:
        """Return the length of all values of a column of bytes."""
        return sum(len(value) for rows in self._all() for value in rows[name])

    def useful(self, time: IntArray, hashes: Hashes) -> BoolArray:
        """Tell which rows may be learned from, or counted later; the others need not be added."""
        found: BoolArray = (time >= self._certain) | (hashes <= self._bound)
        return found

    def add(self, rows: Rows) -> None:
        """Take rows in."""
        if not len(rows[TIME]):
            return
        self._fresh.append(rows)
        self.held += len(rows[TIME])
        if self.held > self._trim_at:
            self._trim()
            self._trim_at = self.held + self._most

    def advance(self, end: int) -> None:
        """Take note that panes have ended, and that the next one, which will be learned from, ends at `end` ms.

        All panes before it were offered to `enough`, which did not find enough.
        """
        self._certain = max(self._certain, end)

    def enough(self, end: int) -> bool:
        """Tell whether panes that end at `end` ms or before hold what is wanted."""
        if self.missing:
            return False
        return sum(int(np.count_nonzero(rows[TIME] < end)) for rows in self._all()) >= self._wanted

    def until(self, end: int) -> Callable[[], Rows]:
        """Return what gives the rows to learn from where panes up to `end` ms are learned.

        It gives them in the order of (time, hash), whatever is added meanwhile, and may be called in another thread.
        """
        chunks, most = tuple(self._all()), self._most

        def rows() -> Rows:
            early = sorted_rows([taken_rows(chunk, np.flatnonzero(chunk[TIME] < end)) for chunk in chunks])
            if len(early[TIME]) <= most:
                return early
            return taken_rows(early, np.sort(np.argpartition(early[HASH], most - 1)[:most]))

        return rows

    def later(self, end: int) -> Rows:
        """Return all rows of panes after `end` ms, in the order of (time, hash)."""
        return sorted_rows([taken_rows(chunk, np.flatnonzero(chunk[TIME] >= end)) for chunk in self._all()])

    def distinct(self, name: str) -> NDArray[Any]:
        """Return the distinct values of a column."""
        return np.unique(np.concatenate([np.unique(chunk[name]) for chunk in self._all()]))

    def settle(self) -> Rows | None:
        """Return the rows gathered since this was last called, as far as they are of use: they will be stored."""
        if not self._fresh:
            return None
        fresh, self._fresh = joined_rows(self._fresh), []
        fresh = taken_rows(fresh, np.flatnonzero(self.useful(fresh[TIME], fresh[HASH])))
        if len(fresh[TIME]):
            self._stored.append(fresh)
        self.held = sum(len(rows[TIME]) for rows in self._stored)
        return fresh if len(fresh[TIME]) else None

    def restore(self, bodies: Sequence[Rows]) -> None:
        """Take back what `settle` returned."""
        self._stored = list(bodies)
        self.held = sum(len(rows[TIME]) for rows in self._stored)

    def _all(self) -> list[Rows]:
        return self._stored + self._fresh

    def _trim(self) -> None:
        """Drop rows of panes that will be learned from which cannot be among those with the smallest hashes."""
        hashes = np.concatenate([rows[HASH][rows[TIME] < self._certain] for rows in self._all()])
        if len(hashes) <= self._most:
            return
        self._bound = np.partition(hashes, self._most - 1)[self._most - 1]
        for chunks in (self._stored, self._fresh):
            if chunks:
                joined = joined_rows(chunks)
                chunks[:] = [taken_rows(joined, np.flatnonzero(self.useful(joined[TIME], joined[HASH])))]
        self.held = sum(len(rows[TIME]) for rows in self._all())


def packed_rows(rows: Rows) -> bytes:
    """Encode rows for the database; undecoded features are compressed."""
    if RAW not in rows:
        return pack(MAGIC, {}, rows)
    raws = rows[RAW].tolist()
    text = b"".join(raws)
    compressed = zstandard.ZstdCompressor(level=1).compress(text)  # one of its own: another thread may be here
    arrays: dict[str, NDArray[Any]] = {
        "text": np.frombuffer(compressed, np.uint8),
        "length": np.array([len(raw) for raw in raws], np.int64),
        **{name: column for name, column in rows.items() if name != RAW},
    }
    return pack(MAGIC, {"raw": len(text)}, arrays)


def unpacked_rows(body: bytes) -> Rows:
    """Decode what `packed_rows` encoded."""
    header, arrays = unpack(MAGIC, body)
    if "text" not in arrays:
        return arrays
    decompress = zstandard.ZstdDecompressor().decompress
    text = decompress(arrays["text"].tobytes(), max_output_size=max(header["raw"], 1))
    ends = np.cumsum(arrays["length"])
    raw = np.empty(len(ends), np.object_)
    raw[:] = [text[end - n : end] for end, n in zip(ends.tolist(), arrays["length"].tolist(), strict=True)]
    return {RAW: raw, **{name: column for name, column in arrays.items() if name not in ("text", "length")}}


def sorted_rows(chunks: Sequence[Rows]) -> Rows:
    """Return the rows of all chunks, of which there must be one, in the order of (time, hash)."""
    rows = joined_rows(chunks)
    return taken_rows(rows, np.lexsort((rows[HASH], rows[TIME])))


def joined_rows(chunks: Sequence[Rows]) -> Rows:
    """Return the rows of all chunks, of which there must be one, one after the other."""
    if len(chunks) == 1:
        return chunks[0]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def taken_rows(rows: Rows, at: IntArray) -> Rows:
    """Return the rows at some places."""
    return {name: column[at] for name, column in rows.items()}
