"""Decide what each commit stores of the join: log-structured columns.

Each commit appends one segment, the entries that opened or changed since the last one, and one row of the
keys that closed. Nothing is updated in place. Segments in which little is still open are rewritten from
memory; before the record of closed keys is dropped, which of the rows are still open is written down as
bits. Pure: it makes rows and reads rows, `store` moves them, `blobs` has their format.

Recovery takes, of every key, the last row that is not known to be closed. An id is never both open and in a
retained record of closed keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import Columns, RowIndices, SlotIndices
from monitor.join.blobs import (
    decode_alive,
    decode_closed,
    decode_segment,
    encode_alive,
    encode_closed,
    encode_segment,
)
from monitor.join.closed import EMPTIED, Closings, StoredClosings
from monitor.join.ended import EndedRequests
from monitor.join.slots import FREE, SAVED
from monitor.join.table import JoinTable
from monitor.saved import damage_in

_FEW_LIVE = 4096  # a segment with fewer open rows is a candidate for rewriting
_LOW_SHARE = 0.25
_CANDIDATES = 16
_REWRITE_AT_MOST = 1 << 16
_CLOSED_ROWS = 64  # rows of one generation beyond which they are put together


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Entries that were open at commit `id`; times in ms, `body` made by `encode_segment`."""

    id: int
    rows: int
    min_time: int
    max_time: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AliveRow:
    """Which rows of segment `id` were open at commit `as_of`; `bits` made by `encode_alive`."""

    id: int
    as_of: int
    bits: bytes


@dataclass(frozen=True, slots=True)
class ClosedRow:
    """Keys closed by commit `seq`, all of one generation, which began at stream time `clock` (ms)."""

    seq: int
    generation: int
    clock: int
    body: bytes


@dataclass(frozen=True, slots=True)
class JoinCommit:
    """What one commit writes and deletes. A value: it can be written again if that fails.

    Attributes:
        segment: To write, if anything is open that was not.
        closed: To write, after `drop_closed`.
        alive: To write.
        drop_segments: Segments to delete, with their `AliveRow`.
        drop_closed: `seq` of rows of closed keys to delete.
        forget: Generations to forget in memory, once this is committed.
        release: Slots to release then.
        ended: What is known of answers and outcomes that have ended since the last commit.
    """

    segment: SegmentRow | None
    closed: tuple[ClosedRow, ...]
    alive: tuple[AliveRow, ...]
    drop_segments: tuple[int, ...]
    drop_closed: tuple[int, ...]
    forget: tuple[int, ...]
    release: SlotIndices
    ended: EndedRequests = field(default_factory=EndedRequests.none)


class JoinLog:
    """Keep book of what of a `JoinTable` is in the database. One worker owns it."""

    def __init__(self, table: JoinTable) -> None:
        self._entries = table.entries
        self._rows: dict[int, int] = {}  # segment → rows in it
        self._live: dict[int, int] = {}  # segment → rows that are the latest of an open key
        self._closed: list[tuple[int, int]] = []  # (seq, generation) of the retained rows
        self._latest: list[Closings] = []  # the keys of those of the latest generation
        self._latest_start = 0

    @property
    def segments(self) -> int:
        """Count the segments in the database."""
        return len(self._rows)

    def prepare_commit(self, seq: int, watermark: int, *, rewrite: bool = False) -> JoinCommit:
        """Take the changes since the last commit as rows to write. Only here are they taken.

        Args:
            seq: Number of the commit, increasing.
            watermark: Stream time, ms.
            rewrite: Rewrite all segments, so that nothing stale is left behind.

        Returns:
            What to write; `on_committed` must follow once it is written.
        """
        entries = self._entries
        generation, start = entries.closed.generation, entries.closed.generation_start
        opened, closings = entries.drain_changed(), entries.closed.drain_changes()
        column = entries.slots.column
        retired = entries.slots.retired()
        self._retire(column["segment_id"][retired])
        self._retire(column["segment_id"][opened])
        column["segment_id"][retired] = -1
        column["segment_id"][opened] = -1
        merged = list(self._rows) if rewrite else self._to_merge()
        if merged:
            moved = np.flatnonzero((column["state"] != FREE) & np.isin(column["segment_id"], merged))
            opened = np.concatenate([opened, moved])
        dead = [s for s, live in self._live.items() if not live or s in merged]
        for s in dead:
            del self._rows[s], self._live[s]
        segment = self._new_segment(seq, opened)
        forget = entries.closed.generations_to_drop(watermark)
        alive = self._fold(seq) if forget else ()
        closed_rows, drop_closed = self._close(seq, generation, start, closings, forget)
        ended = entries.ended.drain(column)
        return JoinCommit(segment, closed_rows, alive, tuple(dead), drop_closed, tuple(forget), retired, ended)

    def on_committed(self, commit: JoinCommit) -> None:
        """Let go in memory of what a commit, which is in the database now, has ended."""
        self._entries.slots.release(commit.release)
        self._entries.closed.forget(commit.forget)
        self._entries.index.sweep()

    def _retire(self, segment_ids: NDArray[np.int64]) -> None:
        """Count rows of these segments (-1: none) as not live any more."""
        ids, counts = np.unique(segment_ids[segment_ids >= 0], return_counts=True)
        for s, count in zip(ids.tolist(), counts.tolist(), strict=True):
            self._live[s] -= count

    def _to_merge(self) -> list[int]:
        """Choose the oldest segments with little left, to be rewritten as one."""
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

    def _new_segment(self, seq: int, opened: SlotIndices) -> SegmentRow | None:
        if not len(opened):
            return None
        column = self._entries.slots.column
        column["segment_id"][opened] = seq
        column["row"][opened] = np.arange(len(opened))
        self._rows[seq] = self._live[seq] = len(opened)
        times = column["time"][opened]
        body = encode_segment({name: column[name][opened] for name in SAVED})
        return SegmentRow(seq, len(opened), int(times.min()), int(times.max()), body)

    def _fold(self, seq: int) -> tuple[AliveRow, ...]:
        """Write down which rows are open, from memory: the record of closed keys is about to lose entries."""
        column = self._entries.slots.column
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
        self, seq: int, generation: int, start: int, closings: Closings, forget: list[int]
    ) -> tuple[tuple[ClosedRow, ...], tuple[int, ...]]:
        """Make rows to write and list rows to drop: a growing generation is a few rows, a full one is one."""
        dropped = [s for s, g in self._closed if g in forget]
        self._closed = [row for row in self._closed if row[1] not in forget]
        if not len(closings.keys) or generation in forget:
            return (), tuple(dropped)
        written = []
        latest = self._closed[-1][1] if self._closed else generation
        mine = [s for s, g in self._closed if g == latest]
        if latest != generation:
            if len(mine) > 1:
                whole = self._put_together(self._latest)
                written.append(ClosedRow(mine[-1], latest, self._latest_start, encode_closed(whole)))
                self._closed = [row for row in self._closed if row[1] != latest] + [(mine[-1], latest)]
                dropped += mine
            self._latest = []
        elif len(mine) >= _CLOSED_ROWS:
            closings = self._put_together([*self._latest, closings])
            self._closed = [row for row in self._closed if row[1] != latest]
            self._latest = []
            dropped += mine
        self._closed.append((seq, generation))
        self._latest.append(closings)
        self._latest_start = start
        written.append(ClosedRow(seq, generation, start, encode_closed(closings)))
        return tuple(written), tuple(dropped)

    def _put_together(self, parts: list[Closings]) -> Closings:
        """Make one record of several. Emptied keys that are open again drop out: their new rows came later."""
        keys = np.concatenate([part.keys for part in parts])
        tags = np.concatenate([part.tags for part in parts])
        index = self._entries.index
        open_again = (tags == EMPTIED) & (index.value_at(index.find(keys)) >= 0)
        return Closings(keys[~open_again], tags[~open_again])

    def restore(
        self, segments: Iterable[SegmentRow], alive: Iterable[AliveRow], closed: Iterable[ClosedRow], watermark: int
    ) -> None:
        """Fill an empty table with the entries that were open at the last commit.

        Args:
            segments: All rows of the database, in any order; likewise `alive` and `closed`.
            alive: See `segments`.
            closed: See `segments`.
            watermark: Stream time of the last commit, ms.

        Raises:
            StoreError: A blob is damaged. Nothing is skipped: what it held cannot be guessed.
            SchemaTooNew: A blob is of a newer release.
        """
        closed_rows = sorted(closed, key=lambda row: row.seq)
        keys = [(row, _closings(row)) for row in closed_rows]
        self._closed = [(row.seq, row.generation) for row in closed_rows]
        self._latest = [k for row, k in keys if row.generation == closed_rows[-1].generation]
        self._latest_start = closed_rows[-1].clock if closed_rows else 0
        columns = self._open_rows(segments, {a.id: a.bits for a in sorted(alive, key=lambda a: a.as_of)})
        survivors = _survivors(columns, keys)
        columns = {name: c[survivors] for name, c in columns.items()}
        ids, counts = np.unique(columns["segment_id"], return_counts=True)
        self._live.update(zip(ids.tolist(), counts.tolist(), strict=True))
        done = [StoredClosings(row.generation, row.clock, _without_emptied(k)) for row, k in keys]
        self._entries.closed.restore(done, watermark)
        self._entries.restore(columns)

    def _open_rows(self, segments: Iterable[SegmentRow], bits: dict[int, bytes]) -> Columns:
        """Read the rows of all segments, without those that are not open by the latest `bits` of a segment."""
        parts = []
        for segment in sorted(segments, key=lambda s: s.id):
            with damage_in(f"table join_segment, row {segment.id}"):
                columns = decode_segment(segment.body)
                columns["segment_id"] = np.full(segment.rows, segment.id, np.int64)
                columns["row"] = np.arange(segment.rows, dtype=np.int32)
            if segment.id in bits:
                with damage_in(f"table join_alive, row {segment.id}"):
                    is_open = decode_alive(bits[segment.id])
                    columns = {name: c[is_open] for name, c in columns.items()}
            self._rows[segment.id], self._live[segment.id] = segment.rows, 0
            parts.append(columns)
        return _joined(parts)


def _closings(row: ClosedRow) -> Closings:
    with damage_in(f"table join_closed, row {row.seq}"):
        return decode_closed(row.body)


def _survivors(columns: Columns, keys: list[tuple[ClosedRow, Closings]]) -> RowIndices:
    """Find the rows that are the last of their key and were neither closed nor emptied since."""
    lo = columns["lo"]
    _, last = np.unique(lo[::-1], return_index=True)
    alive = np.zeros(len(lo), np.bool_)
    alive[len(lo) - 1 - last] = True
    if not keys or not len(lo):
        return np.flatnonzero(alive)
    closed = np.concatenate([k.keys for _, k in keys])
    emptied = np.concatenate([k.tags for _, k in keys]) == EMPTIED
    alive &= ~np.isin(lo, closed[~emptied])
    if emptied.any():
        seq = np.concatenate([np.full(len(k.keys), row.seq) for row, k in keys])[emptied]
        # The latest commit that emptied a key: rows are in order of commits, so its last mention.
        key, mention = np.unique(closed[emptied][::-1], return_index=True)
        latest = seq[::-1][mention]
        at = np.minimum(np.searchsorted(key, lo), len(key) - 1)
        alive &= ~((key[at] == lo) & (columns["segment_id"] < latest[at]))
    return np.flatnonzero(alive)


def _without_emptied(closings: Closings) -> Closings:
    kept = closings.tags != EMPTIED
    return Closings(closings.keys[kept], closings.tags[kept])


def _joined(parts: list[dict[str, NDArray[Any]]]) -> Columns:
    kinds = SAVED | {"segment_id": np.int64, "row": np.int32}
    return {name: np.concatenate([np.zeros(0, kind), *(p[name] for p in parts)]) for name, kind in kinds.items()}
