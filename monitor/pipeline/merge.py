"""Merge partitions: whatever order their records are read in, they are processed in the order of partition time.

A source hands over what it has, partition by partition, often thousands of records at a time. Records are decoded
here, get a place (`PartitionTime.places`), and are handed on in the order (place, topic, partition, offset), up to the
smallest place at which another record may still come. A partition that has nothing to wait for holds nobody back; the
caller says which ones are waited for. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np

from detectors.types import IntArray
from monitor.events.columns import Events
from monitor.events.decoder import EventDecoder
from monitor.events.refusals import Refused, SetAside
from monitor.stream.partition_time import RECENT, UNKNOWN, PartitionTime
from monitor.stream.types import Batch, Partition, Run

MOST: Final = 5_000  # records handed on at a time
ENOUGH_BYTES: Final = 64 << 10  # in hand of a partition that begins: its first events are looked at together
_LEAST: Final = 64  # records of a partition that are decoded at a time, where so many are there
_RECORD_BYTES: Final = 64  # of a record beside its value
_SHARE: Final = 1.25  # of what a partition lately brought is decoded ahead
_SMOOTHING: Final = 0.3  # weight of the latest records in that
_CHUNKS: Final = 10  # of which records wait; then what is left of them is gathered
_PUT_OFF: Final = 10  # calls by which a few records are put off
_FAR: Final = 1 << 62
_Told = TypeVar("_Told", Refused, SetAside)


@dataclass(frozen=True, slots=True)
class Holding:
    """How partitions count now.

    Attributes:
        idle: They hold nothing back: nothing new for the idle timeout, or left out.
        waiting: They are waited for: they may bring records that come before those in hand.
        held: Their records are not to be handed on.
    """

    idle: Collection[Partition] = ()
    waiting: Collection[Partition] = ()
    held: Collection[Partition] = ()


@dataclass(frozen=True, slots=True)
class DecodedRecords:
    """Records in the order of processing, with what they hold.

    Attributes:
        batch: The records.
        place: Place of each in the order of processing, ms; never decreasing within a partition.
        partition_time: Partition time after each record, ms; `UNKNOWN` before the first accepted event.
        events: What was accepted; `row` points into the batch.
        refused: What was not, in order.
        aside: What counts nowhere, in order.
    """

    batch: Batch
    place: IntArray
    partition_time: IntArray
    events: Events
    refused: list[Refused]
    aside: list[SetAside]

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: IntArray) -> DecodedRecords:
        """Return these records, in this order. Features stay whole: `Events.feature_row` still points into them."""
        event = np.full(len(self), -1, np.int64)
        event[self.events.row] = np.arange(len(self.events))
        picked = event[rows]
        events = self.events.take(picked[picked >= 0])
        return DecodedRecords(
            self.batch.take(rows),
            self.place[rows],
            self.partition_time[rows],
            replace(events, row=np.flatnonzero(picked >= 0)),
            _picked(self.refused, rows, len(self)),
            _picked(self.aside, rows, len(self)),
        )

    @staticmethod
    def joined(parts: Sequence[DecodedRecords]) -> DecodedRecords:
        """Put records one after the other; all batches have the same partitions."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *map(len, parts[:-1])]).tolist()
        return DecodedRecords(
            Batch.joined([part.batch for part in parts]),
            np.concatenate([part.place for part in parts]),
            np.concatenate([part.partition_time for part in parts]),
            Events.joined([part.events for part in parts], starts),
            [replace(r, row=r.row + start) for part, start in zip(parts, starts, strict=True) for r in part.refused],
            [replace(a, row=a.row + start) for part, start in zip(parts, starts, strict=True) for a in part.aside],
        )


def _picked(told: Sequence[_Told], rows: IntArray, count: int) -> list[_Told]:
    """Return what is told of these rows of `count`, in their order."""
    if not told:
        return []
    at = np.full(count, -1, np.int64)
    at[rows] = np.arange(len(rows))
    moved = (replace(what, row=int(at[what.row])) for what in told)
    return sorted((what for what in moved if what.row >= 0), key=lambda what: what.row)


class _Chunk(NamedTuple):
    """Records that were decoded together, those of a partition in one piece, and their keys."""

    records: DecodedRecords
    keys: IntArray


@dataclass(slots=True)
class _Piece:
    """Decoded records of one partition that wait to be handed on: rows of a chunk."""

    chunk: _Chunk
    start: int
    stop: int

    @property
    def keys(self) -> IntArray:
        return self.chunk.keys[self.start : self.stop]


@dataclass(slots=True)
class _Inbox:
    """What is in hand of one partition.

    Attributes:
        rank: Its place among partitions in the order of names and numbers.
        clock: Its partition time, up to what is decoded.
        share: Of the records that were handed on lately.
        place: Of the last decoded record; `UNKNOWN` where none has one.
        runs: Records that are not decoded, the earliest first.
        raw: How many records that are.
        pieces: Decoded records, the earliest first.
        decoded: How many records that are.
        size: Of what is in hand, in bytes, about.
    """

    rank: int
    clock: PartitionTime
    share: float
    place: int = UNKNOWN
    runs: deque[Run] = field(default_factory=deque)
    raw: int = 0
    pieces: deque[_Piece] = field(default_factory=deque)
    decoded: int = 0
    size: float = 0.0

    @property
    def next_place(self) -> int:
        """Lower bound of the place of its next record; far in the past where nothing is known."""
        if self.pieces:
            first = self.pieces[0]
            return int(first.chunk.records.place[first.start])
        return self.place if self.place != UNKNOWN else -_FAR

    @property
    def is_beginning(self) -> bool:
        """Whether too few of its first events are there: their places depend on one another."""
        return len(self.clock.recent) < RECENT and self.raw < _LEAST and self.size < ENOUGH_BYTES

    def add(self, run: Run) -> None:
        self.runs.append(run)
        self.raw += len(run.values)
        self.size += sum(map(len, filter(None, run.values))) + _RECORD_BYTES * len(run.values)

    def cut(self, most: int) -> Iterator[Run]:
        """Take out records to be decoded, `most` at most."""
        while most and self.runs:
            run = self.runs.popleft()
            if len(run.values) > most:
                run, rest = _split(run, most)
                self.runs.appendleft(rest)
            most -= len(run.values)
            self.raw -= len(run.values)
            yield run

    def put(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.decoded += piece.stop - piece.start

    def ready(self, bound: int) -> Iterator[_Piece]:
        """Yield the decoded records whose key is at most `bound`."""
        for piece in self.pieces:
            count = int(np.searchsorted(piece.keys, bound, side="right"))
            if count:
                yield _Piece(piece.chunk, piece.start, piece.start + count)
            if count < piece.stop - piece.start:
                return

    def drop(self, count: int) -> None:
        """Drop the first `count` decoded records, which are handed on."""
        if count:
            self.size *= 1 - count / (self.raw + self.decoded)
        self.decoded -= count
        while count:
            first = self.pieces[0]
            taken = min(count, first.stop - first.start)
            first.start += taken
            count -= taken
            if first.start == first.stop:
                self.pieces.popleft()


class PartitionMerge:
    """Hands on the records of all assigned partitions in one order.

    Attributes:
        positions: Offset after the last record that was taken in, by partition.
    """

    def __init__(self, decoder: EventDecoder, ends: Mapping[Partition, int] | None = None, *, most: int = MOST) -> None:
        """Start without partitions.

        Args:
            decoder: Decodes the records.
            ends: Where the partitions of a replay end; None for a live stream, whose partitions may always bring more.
            most: Records handed on at a time; half of them do not wait for more.
        """
        self._decoder, self._ends, self._most, self._enough = decoder, ends, most, most // 2
        self._finished: set[Partition] = set()
        self.positions: dict[Partition, int] = {}
        self._inboxes: dict[Partition, _Inbox] = {}
        self._partitions: tuple[Partition, ...] = ()
        self._put_off = 0  # how often in a row a few records were ready and not handed on

    def assign(self, positions: Mapping[Partition, int], clocks: Mapping[Partition, PartitionTime]) -> None:
        """Read these partitions from these offsets; what is in hand is dropped, to be read again.

        Args:
            positions: Offset of the next record of each.
            clocks: Partition time of each before that record.
        """
        self.positions = dict(positions)
        self._partitions = tuple(sorted(clocks))
        share = 1 / max(len(clocks), 1)
        self._inboxes = {p: _Inbox(i, clocks[p].copy(), share) for i, p in enumerate(self._partitions)}
        for partition, clock in clocks.items():
            if len(clock.recent) == RECENT:  # else an earlier event may yet count
                self._inboxes[partition].place = clock.time

    def add(self, batch: Batch) -> None:
        """Take in records as the source gave them; those of a partition in the order of its log."""
        for run in batch.runs():
            self._inboxes[run.partition].add(run)
            self.positions[run.partition] = int(run.offset[-1]) + 1

    # -- what is in hand ---------------------------------------------------------------------------------

    def in_hand(self) -> dict[Partition, int]:
        """Return the approximate size in bytes of what is in hand, of partitions of which something is."""
        return {p: int(box.size) + 1 for p, box in self._inboxes.items() if box.raw or box.decoded}

    def next_places(self, holding: Holding) -> dict[Partition, int]:
        """Return a lower bound of the place of the next record, of all partitions of which another one is to come.

        Of those whose records are not to be handed on only if they are waited for.
        """
        return {
            p: box.next_place
            for p, box in self._inboxes.items()
            if p in holding.waiting or ((box.raw or box.decoded) and p not in holding.held)
        }

    def unread(self) -> Holding:
        """Return how partitions count where nothing is known: those of a replay are waited for until their ends."""
        ends = self._ends or {}
        return Holding(waiting={p for p, at in self.positions.items() if at < ends.get(p, 0)} - self._finished)

    def finish_reading(self, partitions: Collection[Partition]) -> None:
        """Wait no longer for partitions of a replay whose last offset holds no record that could be delivered."""
        self._finished |= set(partitions)

    # -- handing on --------------------------------------------------------------------------------------

    def next(
        self, wall: int, keep_raw: Collection[int], holding: Holding, *, at_once: bool = False
    ) -> DecodedRecords | None:
        """Return the next records, at most `most`; None where the order does not allow any.

        While partitions are waited for, a few records are put off for a few calls: batches cost by their number.

        Args:
            wall: Wall-clock time in ms, for the decoder.
            keep_raw: Models whose raw features are wanted.
            holding: How partitions count now.
            at_once: Put nothing off.
        """
        waiting, held = holding.waiting, holding.held
        pieces = self._ready(waiting, held)
        if _rows(pieces) < self._enough:
            if not at_once and self._put_off < _PUT_OFF and self._lacks(waiting):
                self._put_off += 1
                return None
            if self._decode(wall, keep_raw, waiting):
                pieces = self._ready(waiting, held)
        self._put_off = 0
        return self._with_raw(self._hand_on(pieces), wall, keep_raw) if pieces else None

    def _lacks(self, waiting: Collection[Partition]) -> bool:
        """Tell whether the next records of partitions that are waited for make more ready, or there are only a few."""
        if not waiting:
            return False
        in_hand = sum(box.raw + box.decoded for box in self._inboxes.values())
        return in_hand < self._enough or any(p in waiting and not box.raw for p, box in self._inboxes.items())

    def _ready(self, waiting: Collection[Partition], held: Collection[Partition]) -> list[_Piece]:
        """Return the decoded records that are next, whatever else may come."""
        bound = self._bound(waiting, held)
        boxes = [box for partition, box in self._inboxes.items() if box.pieces and partition not in held]
        return [piece for box in boxes for piece in box.ready(bound)]

    def nothing(self) -> DecodedRecords:
        """Return no records."""
        none = np.zeros(0, np.int64)
        events = self._decoder.decode(Batch.empty(), 0, ()).events
        return DecodedRecords(Batch.empty(), none, none, events, [], [])

    def _bound(self, waiting: Collection[Partition], held: Collection[Partition]) -> int:
        """Return the largest key up to which no other record can come in between."""
        bound = _FAR
        for partition, box in self._inboxes.items():
            if partition in held:
                if partition in waiting:
                    bound = min(bound, self._key(box.next_place, box.rank) - 1)
            elif box.raw or partition in waiting:
                bound = min(bound, self._key(box.place, box.rank))
        return bound

    def _key(self, place: int, rank: int) -> int:
        return -_FAR if place < UNKNOWN else place * len(self._partitions) + rank

    def _hand_on(self, pieces: Sequence[_Piece]) -> DecodedRecords:
        """Gather the first `most` rows of these pieces in the order of their keys."""
        chunks = list({id(piece.chunk): piece.chunk for piece in pieces}.values())
        starts = dict(zip(map(id, chunks), np.cumsum([0, *(len(c.keys) for c in chunks)]).tolist(), strict=False))
        rows = np.concatenate([starts[id(p.chunk)] + np.arange(p.start, p.stop) for p in pieces])
        keys = np.concatenate([piece.keys for piece in pieces])
        order = np.argsort(keys, kind="stable")[: self._most]  # of sorted runs: cheap
        everything, rows = DecodedRecords.joined([chunk.records for chunk in chunks]), rows[order]
        is_whole = len(rows) == len(everything) and bool((np.diff(rows) == 1).all())
        handed = everything if is_whole else everything.take(rows)
        brought = np.bincount(handed.batch.source, minlength=len(self._partitions))
        for box, its in zip(self._inboxes.values(), brought.tolist(), strict=True):
            box.drop(its)
            box.share += _SMOOTHING * (its / len(rows) - box.share)
        return handed

    def _with_raw(self, records: DecodedRecords, wall: int, keep_raw: Collection[int]) -> DecodedRecords:
        """Decode records again whose raw features are wanted now, and were not when they were decoded."""
        tables = records.events.features
        if all(tables[i].raw for i in keep_raw if i in tables and len(tables[i])):
            return records
        events = self._decoder.decode(records.batch, wall, keep_raw).events
        return replace(records, events=events.take(np.flatnonzero(np.isin(events.row, records.events.row))))

    # -- decoding ----------------------------------------------------------------------------------------

    def _decode(self, wall: int, keep_raw: Collection[int], waiting: Collection[Partition]) -> bool:
        """Decode some records of every partition that may be handed on. Returns whether there were any."""
        runs: list[Run] = []
        empty = (box.place for p, box in self._inboxes.items() if p in waiting and not box.raw)
        farthest = min(empty, default=_FAR)  # further records are not handed on before these partitions bring more
        for partition, box in self._inboxes.items():
            wanted = max(min(int(self._most * _SHARE * box.share), self._most), _LEAST)
            is_early = box.is_beginning and partition in waiting
            if box.raw and box.decoded < wanted and box.place <= farthest and not is_early:
                runs += box.cut(wanted - box.decoded)
        if not runs:
            return False
        self._gather_remains()
        batch = Batch.of_partitions(self._partitions, runs)
        decoded = self._decoder.decode(batch, wall, keep_raw)
        place, partition_time = self._places(batch, decoded.events, waiting)
        self._put(DecodedRecords(batch, place, partition_time, *decoded))
        return True

    def _put(self, records: DecodedRecords) -> None:
        """Let decoded records wait, those of a partition in one piece."""
        source = records.batch.source
        chunk = _Chunk(records, records.place * len(self._partitions) + source)
        cuts = [0, *(np.flatnonzero(np.diff(source)) + 1).tolist(), len(records)]
        for start, stop in pairwise(cuts):
            self._inboxes[self._partitions[source[start]]].put(_Piece(chunk, start, stop))

    def _gather_remains(self) -> None:
        """Put what is left of many chunks into one, so that no more is kept than what waits."""
        pieces = [piece for box in self._inboxes.values() for piece in box.pieces]
        chunks = {id(piece.chunk) for piece in pieces}
        if len(chunks) < _CHUNKS:
            return
        records = DecodedRecords.joined([p.chunk.records.take(np.arange(p.start, p.stop)) for p in pieces])
        for box in self._inboxes.values():
            box.pieces.clear()
            box.decoded = 0
        self._put(replace(records, events=records.events.compact()))

    def _places(self, batch: Batch, events: Events, waiting: Collection[Partition]) -> tuple[IntArray, IntArray]:
        """Return (place, partition time) of each record. A refused one has those of the event before it."""
        place, partition_time = np.full(len(batch), UNKNOWN, np.int64), np.full(len(batch), UNKNOWN, np.int64)
        source = batch.source[events.row]
        for rank in np.unique(batch.source).tolist():
            partition = self._partitions[rank]
            box, before = self._inboxes[partition], self._inboxes[partition].clock.time
            mine = np.flatnonzero(source == rank)
            row = events.row[mine]
            partition_time[row], found = box.clock.places(events.time[mine])
            may_bring_more = self._ends is None or box.raw or partition in waiting
            if len(box.clock.recent) == RECENT or not may_bring_more:  # else an earlier event may yet count
                place[row] = np.maximum(found, box.place)
            its = np.flatnonzero(batch.source == rank)
            _fill_forward(place, its, row, box.place if box.place != UNKNOWN or not len(row) else int(place[row[0]]))
            _fill_forward(partition_time, its, row, before)
            box.place = int(place[its[-1]])
        return place, partition_time


def _rows(pieces: Sequence[_Piece]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)


def _fill_forward(column: IntArray, rows: IntArray, known: IntArray, before: int) -> None:
    """Set the rows that are not known to the value of the known one before them, or to `before`."""
    if len(known) == len(rows):
        return
    last = np.searchsorted(known, rows, side="right") - 1
    column[rows] = np.where(last >= 0, column[known[np.maximum(last, 0)]] if len(known) else before, before)


def _split(run: Run, count: int) -> tuple[Run, Run]:
    def part(at: slice) -> Run:
        envelopes = None if run.envelopes is None else run.envelopes[at]
        return Run(run.partition, run.offset[at], run.timestamp[at], run.values[at], envelopes)

    return part(slice(count)), part(slice(count, None))
