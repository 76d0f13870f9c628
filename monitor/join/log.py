"""The durable form of the join: log-structured columns.

Each commit appends one segment, the entries that opened or changed since the last one, and one row of the
keys that closed. Nothing is updated in place. Segments in which little is still open are rewritten from
memory; before the record of closed keys is dropped, which of the rows are still open is written down as
bits. Pure: it makes rows and reads rows, `store` moves them.

Recovery takes, of every key, the last row that is not known to be closed. An id is never both open and in a
retained record of closed keys.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import zstandard
from numpy.typing import NDArray

from monitor.errors import SchemaTooNew, StoreError
from monitor.join.index import I64
from monitor.join.slots import FREE, SAVED
from monitor.join.table import EMPTIED, Closed, JoinTable

_MAGIC, _SCHEMA = b"DJ", 1
_HEAD = struct.Struct("<2sBBIIqI")  # magic, schema, flags, rows, raw size, time base, checksum of the rest
_LONG_TIMES = 1
_RANDOM = ("lo", "hi")  # hashes do not compress
_FEW_LIVE = 4096  # a segment with fewer open rows is a candidate for rewriting
_LOW_SHARE = 0.25
_CANDIDATES = 16
_REWRITE_AT_MOST = 1 << 16
_CLOSED_ROWS = 64  # rows of one generation beyond which they are put together

_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Entries that were open at commit `id`."""

    id: int
    rows: int
    min_time: int
    max_time: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AliveRow:
    """Which rows of segment `id` were open at commit `as_of`, a bit each (`encode_alive`)."""

    id: int
    as_of: int
    bits: bytes


@dataclass(frozen=True, slots=True)
class ClosedRow:
    """Keys closed by commit `seq`, all of one generation, which began at stream time `clock`."""

    seq: int
    generation: int
    clock: int
    body: bytes


@dataclass(frozen=True, slots=True)
class JoinCommit:
    """What one commit writes and deletes."""

    segment: SegmentRow | None
    closed: tuple[ClosedRow, ...]  # written after `drop_closed`
    alive: tuple[AliveRow, ...]
    drop_segments: tuple[int, ...]
    drop_closed: tuple[int, ...]
    forget: tuple[int, ...]  # generations to forget in memory, once this is committed
    release: I64  # slots to release then


class JoinLog:
    """Keeps book of what of a `JoinTable` is in the database. One worker owns it."""

    def __init__(self, table: JoinTable) -> None:
        self._table = table
        self._rows: dict[int, int] = {}  # segment → rows in it
        self._live: dict[int, int] = {}  # segment → rows that are the latest of an open key
        self._closed: list[tuple[int, int]] = []  # (seq, generation) of the retained rows
        self._latest: list[Closed] = []  # the keys of those of the latest generation
        self._latest_began = 0

    @property
    def segments(self) -> int:
        """Segments in the database."""
        return len(self._rows)

    def delta(self, seq: int, clock: int, *, rewrite: bool = False) -> JoinCommit:
        """What commit `seq` has to write. `rewrite`: all segments, so that nothing stale is left behind."""
        table = self._table
        generation, began = table.generation, table.generation_began
        opened, closed = table.take_changes()
        column = table.slots.column
        gone = table.slots.retired()
        self._retire(column["segment_id"][gone])
        self._retire(column["segment_id"][opened])
        column["segment_id"][gone] = -1
        column["segment_id"][opened] = -1
        merged = list(self._rows) if rewrite else self._to_merge()
        if merged:
            moved = np.flatnonzero((column["state"] != FREE) & np.isin(column["segment_id"], merged))
            opened = np.concatenate([opened, moved])
        dead = [s for s, live in self._live.items() if not live or s in merged]
        for s in dead:
            del self._rows[s], self._live[s]
        segment = self._new_segment(seq, opened)
        forget = table.generations_to_drop(clock)
        alive = self._fold(seq) if forget else ()
        closed_rows, drop_closed = self._close(seq, generation, began, closed, forget)
        return JoinCommit(segment, closed_rows, alive, tuple(dead), drop_closed, tuple(forget), gone)

    def committed(self, delta: JoinCommit) -> None:
        """The delta is in the database: what it gave up may be used again."""
        self._table.slots.release(delta.release)
        self._table.forget(list(delta.forget))
        self._table.index.sweep()

    def _retire(self, segment_ids: I64) -> None:
        ids, counts = np.unique(segment_ids[segment_ids >= 0], return_counts=True)
        for s, count in zip(ids.tolist(), counts.tolist(), strict=True):
            self._live[s] -= count

    def _to_merge(self) -> list[int]:
        """At most one rewrite a commit, of the oldest segments with little left."""
        candidates = [
            s for s, live in self._live.items() if live and (live < _FEW_LIVE or live < _LOW_SHARE * self._rows[s])
        ]
        rows = sum(self._live[s] for s in candidates)
        if len(candidates) < _CANDIDATES and rows < _REWRITE_AT_MOST:
            return []
        chosen: list[int] = []
        total = 0
        for s in sorted(candidates):
            if total + self._live[s] > _REWRITE_AT_MOST and chosen:
                break
            chosen.append(s)
            total += self._live[s]
        return chosen

    def _new_segment(self, seq: int, opened: I64) -> SegmentRow | None:
        if not len(opened):
            return None
        column = self._table.slots.column
        column["segment_id"][opened] = seq
        column["row"][opened] = np.arange(len(opened))
        self._rows[seq] = self._live[seq] = len(opened)
        times = column["time"][opened]
        body = encode_segment({name: column[name][opened] for name in SAVED})
        return SegmentRow(seq, len(opened), int(times.min()), int(times.max()), body)

    def _fold(self, seq: int) -> tuple[AliveRow, ...]:
        """Which rows are open, from memory: the record of closed keys is about to lose entries."""
        column = self._table.slots.column
        held = np.flatnonzero((column["state"] != FREE) & (column["segment_id"] >= 0))
        ids = np.array(sorted(self._rows), np.int64)
        ends = np.cumsum([self._rows[s] for s in ids.tolist()])
        starts = np.concatenate([[0], ends]).astype(np.int64)
        flat = np.zeros(int(starts[-1]), np.bool_)
        flat[starts[np.searchsorted(ids, column["segment_id"][held])] + column["row"][held]] = True
        return tuple(
            AliveRow(s, seq, encode_alive(flat[starts[i] : starts[i + 1]])) for i, s in enumerate(ids.tolist())
        )

    def _close(
        self, seq: int, generation: int, began: int, closed: Closed, forget: list[int]
    ) -> tuple[tuple[ClosedRow, ...], tuple[int, ...]]:
        """Rows to write and rows to drop, so that a generation is a few rows while it grows and one after."""
        dropped = [s for s, g in self._closed if g in forget]
        self._closed = [row for row in self._closed if row[1] not in forget]
        if not len(closed.lo) or generation in forget:
            return (), tuple(dropped)
        written = []
        latest = self._closed[-1][1] if self._closed else generation
        mine = [s for s, g in self._closed if g == latest]
        if latest != generation:
            if len(mine) > 1:
                whole = self._put_together(self._latest)
                written.append(ClosedRow(mine[-1], latest, self._latest_began, encode_closed(whole)))
                self._closed = [row for row in self._closed if row[1] != latest] + [(mine[-1], latest)]
                dropped += mine
            self._latest = []
        elif len(mine) >= _CLOSED_ROWS:
            closed = self._put_together([*self._latest, closed])
            self._closed = [row for row in self._closed if row[1] != latest]
            self._latest = []
            dropped += mine
        self._closed.append((seq, generation))
        self._latest.append(closed)
        self._latest_began = began
        written.append(ClosedRow(seq, generation, began, encode_closed(closed)))
        return tuple(written), tuple(dropped)

    def _put_together(self, parts: list[Closed]) -> Closed:
        """One record for several. Vacated keys that are open again drop out: their new rows came later."""
        lo = np.concatenate([part.lo for part in parts])
        note = np.concatenate([part.note for part in parts])
        cell = self._table.index.find(lo)
        open_again = (note == EMPTIED) & (cell >= 0) & (self._table.index.value[np.maximum(cell, 0)] >= 0)
        return Closed(lo[~open_again], note[~open_again])

    def restore(
        self, segments: Iterable[SegmentRow], alive: Iterable[AliveRow], closed: Iterable[ClosedRow], clock: int
    ) -> None:
        """Fill an empty table from all rows of the database; `clock` is stream time of the last commit.

        Raises:
            StoreError: a blob is damaged. Nothing is skipped: what it held cannot be guessed.
            SchemaTooNew: a blob is of a newer release.
        """
        closed_rows = sorted(closed, key=lambda row: row.seq)
        keys = [(row, decode_closed(row.body)) for row in closed_rows]
        self._closed = [(row.seq, row.generation) for row in closed_rows]
        self._latest = [k for row, k in keys if row.generation == closed_rows[-1].generation]
        self._latest_began = closed_rows[-1].clock if closed_rows else 0
        bits = {a.id: a.bits for a in sorted(alive, key=lambda a: a.as_of)}
        parts = []
        for segment in sorted(segments, key=lambda s: s.id):
            columns = decode_segment(segment.body)
            columns["segment_id"] = np.full(segment.rows, segment.id, np.int64)
            columns["row"] = np.arange(segment.rows, dtype=np.int32)
            if segment.id in bits:
                open_ = decode_alive(bits[segment.id])
                columns = {name: c[open_] for name, c in columns.items()}
            self._rows[segment.id], self._live[segment.id] = segment.rows, 0
            parts.append(columns)
        columns = _joined(parts)
        columns = {name: c[_survivors(columns, keys)] for name, c in columns.items()}
        ids, counts = np.unique(columns["segment_id"], return_counts=True)
        self._live.update(zip(ids.tolist(), counts.tolist(), strict=True))
        done = [(row.generation, row.clock, _really_closed(k)) for row, k in keys]
        self._table.restore(columns, done, clock)


def _survivors(columns: dict[str, NDArray[Any]], keys: list[tuple[ClosedRow, Closed]]) -> I64:
    """Rows that are the last of their key and were not closed, or vacated at or after their segment."""
    lo = columns["lo"]
    _, last = np.unique(lo[::-1], return_index=True)
    alive = np.zeros(len(lo), np.bool_)
    alive[len(lo) - 1 - last] = True
    if not keys or not len(lo):
        return np.flatnonzero(alive)
    closed = np.concatenate([k.lo for _, k in keys])
    vacated = np.concatenate([k.note for _, k in keys]) == EMPTIED
    alive &= ~np.isin(lo, closed[~vacated])
    if vacated.any():
        seq = np.concatenate([np.full(len(k.lo), row.seq) for row, k in keys])[vacated]
        # The latest commit that vacated a key: rows are in order of commits, so its last mention.
        key, mention = np.unique(closed[vacated][::-1], return_index=True)
        latest = seq[::-1][mention]
        at = np.minimum(np.searchsorted(key, lo), len(key) - 1)
        alive &= ~((key[at] == lo) & (columns["segment_id"] < latest[at]))
    return np.flatnonzero(alive)


def _really_closed(closed: Closed) -> Closed:
    kept = closed.note != EMPTIED
    return Closed(closed.lo[kept], closed.note[kept])


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    kinds = SAVED | {"segment_id": np.int64, "row": np.int32}
    return {name: np.concatenate([np.zeros(0, kind), *(p[name] for p in parts)]) for name, kind in kinds.items()}


# -- blobs -----------------------------------------------------------------------------------------------


def encode_segment(columns: dict[str, NDArray[Any]]) -> bytes:
    """Keys as they are, the other columns byte-shuffled and compressed: about 28 bytes an entry."""
    count = len(columns["lo"])
    base = int(columns["time"].min()) if count else 0
    times = columns["time"] - base
    long = bool(count) and int(times.max()) >= 1 << 32
    parts = []
    for name, kind in SAVED.items():
        if name in _RANDOM:
            continue
        column = columns[name]
        if name == "time":
            column = times if long else times.astype(np.uint32)
        parts.append(_shuffle(np.ascontiguousarray(column.astype(kind if name != "time" else column.dtype))))
    raw = b"".join(parts)
    tail = b"".join([*(columns[name].tobytes() for name in _RANDOM), _compress(raw)])
    flags = _LONG_TIMES if long else 0
    return _HEAD.pack(_MAGIC, _SCHEMA, flags, count, len(raw), base, crc32c.crc32c(tail)) + tail


def decode_segment(body: bytes) -> dict[str, NDArray[Any]]:
    """The inverse of `encode_segment`. Raises `StoreError` and `SchemaTooNew`."""
    flags, count, size, base, tail = _opened(body, "join segment")
    columns: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(_RANDOM):
        columns[name] = np.frombuffer(tail, np.uint64, count, 8 * count * i)
    raw = _decompress(tail[16 * count :], max_output_size=max(size, 1))
    at = 0
    for name, kind in SAVED.items():
        if name in _RANDOM:
            continue
        dtype = np.dtype(kind)
        if name == "time" and not flags & _LONG_TIMES:
            dtype = np.dtype(np.uint32)
        length = count * dtype.itemsize
        columns[name] = _unshuffle(raw[at : at + length], dtype, count)
        at += length
    columns["time"] = columns["time"].astype(np.int64) + base
    return columns


def encode_closed(closed: Closed) -> bytes:
    """12 bytes a key, the notes compressed."""
    raw = _shuffle(closed.note)
    tail = closed.lo.tobytes() + _compress(raw)
    return _HEAD.pack(_MAGIC, _SCHEMA, 0, len(closed.lo), len(raw), 0, crc32c.crc32c(tail)) + tail


def decode_closed(body: bytes) -> Closed:
    """The inverse of `encode_closed`. Raises `StoreError` and `SchemaTooNew`."""
    _, count, size, _, tail = _opened(body, "record of closed keys")
    lo = np.frombuffer(tail, np.uint64, count)
    note = _unshuffle(_decompress(tail[8 * count :], max_output_size=max(size, 1)), np.dtype(np.uint32), count)
    return Closed(lo, note)


def encode_alive(alive: NDArray[np.bool_]) -> bytes:
    """A bit a row."""
    tail = np.packbits(alive).tobytes()
    return _HEAD.pack(_MAGIC, _SCHEMA, 0, len(alive), len(tail), 0, crc32c.crc32c(tail)) + tail


def decode_alive(body: bytes) -> NDArray[np.bool_]:
    """The inverse of `encode_alive`. Raises `StoreError` and `SchemaTooNew`."""
    _, count, _, _, tail = _opened(body, "record of open rows")
    return np.unpackbits(np.frombuffer(tail, np.uint8), count=count).astype(np.bool_)


def _opened(body: bytes, what: str) -> tuple[int, int, int, int, bytes]:
    if len(body) < _HEAD.size or body[:2] != _MAGIC:
        raise StoreError(f"a {what} is damaged; restore the database from a backup", retryable=False)
    _, schema, flags, count, size, base, checksum = _HEAD.unpack_from(body)
    if schema > _SCHEMA:
        raise SchemaTooNew(f"a {what}", schema, _SCHEMA)
    tail = body[_HEAD.size :]
    if crc32c.crc32c(tail) != checksum:
        raise StoreError(f"a {what} is damaged; restore the database from a backup", retryable=False)
    return flags, count, size, base, tail


def _shuffle(column: NDArray[Any]) -> bytes:
    width = column.dtype.itemsize
    return column.tobytes() if width == 1 else column.view(np.uint8).reshape(-1, width).T.tobytes()


def _unshuffle(raw: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if dtype.itemsize == 1:
        return np.frombuffer(raw, dtype, count)
    planes = np.frombuffer(raw, np.uint8, count * dtype.itemsize).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).view(dtype).ravel()
