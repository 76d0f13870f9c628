"""Record batches of kafka-python, decompressed to a limit only and delivered so many bytes at a time.

Shell. Called by `kafka_repairs` only. The library decompresses a whole batch at once, however much comes of it: a batch
of 25 kB may hold gigabytes. Values that are kept are copied once, and headers are counted before they are taken apart.
"""

# mypy: disable-error-code="misc, has-type, no-untyped-call"
# kafka-python has no types: its classes are Any, and the classes below are subclasses of Any.

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from monitor.stream.decompression import TooLarge, decompress, with_right_checksum

LEGACY_SHARE: Final = 4  # the library keeps ten times as much of each message of the formats 0 and 1
MOST_HEADERS: Final = 10_000  # of a record; each takes sixty bytes, and two in the batch
_LARGE: Final = 4 << 20  # bytes of a batch that is not kept while its partition is paused
_SMALL: Final = 1 << 16  # bytes that may be copied twice
_FORMAT_2: Final = 2
_BASE_OFFSET, _FIRST_TIME, _MAX_TIME = 0, 7, 8  # in the header of a batch


class BatchTooLarge(Exception):
    """A batch decompresses to more than is allowed.

    Attributes:
        behind: Offset of the first record behind it.
    """

    def __init__(self, limit: int, behind: int) -> None:
        self.behind = behind
        super().__init__(f"a batch of records decompresses to more than {limit} bytes (stream.batch_bytes)")


class BoundedBatch(DefaultRecordBatch):
    """A batch of format 2."""

    __slots__ = ("limit",)

    @property
    def is_exhausted(self) -> bool:
        """Whether all of its records were returned."""
        return bool(self._next_record_index >= self._num_records)

    def _maybe_uncompress(self) -> None:
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            self._assert_has_codec(self.compression_type)
            with memoryview(self._buffer) as view:
                data = bytes(view[self._pos :])
            try:
                self._buffer = decompress(self.compression_type, data, self.limit)
            except TooLarge as error:
                raise BatchTooLarge(self.limit, self.next_offset) from error
            self._pos = 0
        self._decompressed = True

    def _read_msg(self, decode_varint: Callable[..., Any] = decode_varint) -> Any:
        if self.is_control_batch:
            return super()._read_msg()
        buffer = self._buffer
        length, at = decode_varint(buffer, self._pos)
        end = at + length
        if end > len(buffer):
            raise CorruptRecordError("a record ends behind its batch")
        at += 1  # attributes, of which none is in use
        since, at = decode_varint(buffer, at)
        offset, at = decode_varint(buffer, at)
        key, at = _sized(buffer, at)
        value, at = _sized(buffer, at)
        count, at = decode_varint(buffer, at)
        headers, at = _headers(buffer, at, count) if count else ([], at)
        if at != end:
            raise CorruptRecordError(f"a record says that it has {length} bytes, and has {length + at - end}")
        self._pos = end
        header, kind = self._header_data, self.timestamp_type
        timestamp = header[_MAX_TIME] if kind == self.LOG_APPEND_TIME else header[_FIRST_TIME] + since
        return DefaultRecord(length, header[_BASE_OFFSET] + offset, timestamp, kind, key, value, headers)


def _sized(buffer: Any, at: int) -> tuple[bytes | None, int]:
    """Return bytes behind their length, copied once, and the place behind them."""
    size, at = decode_varint(buffer, at)
    if size < 0:
        return None, at
    end = at + size
    if end > len(buffer):
        raise CorruptRecordError("a record is longer than its batch")
    if size < _SMALL:
        return bytes(buffer[at:end]), end
    with memoryview(buffer) as view:
        return bytes(view[at:end]), end


def _headers(buffer: Any, at: int, count: int) -> tuple[list[tuple[str, bytes | None]], int]:
    if not 0 <= count <= MOST_HEADERS:
        raise CorruptRecordError(f"a record has {count} headers, at most {MOST_HEADERS} are read")
    headers = []
    for _ in range(count):
        name, at = _sized(buffer, at)
        if name is None:
            raise CorruptRecordError("a header has no name")
        value, at = _sized(buffer, at)
        headers.append((name.decode(), value))
    return headers, at


class BoundedLegacyBatch(LegacyRecordBatch):
    """A message of the formats 0 and 1, which may hold further ones."""

    __slots__ = ("limit",)

    def _decompress(self, key_offset: int) -> bytearray:
        self._assert_has_codec(self.compression_type)
        _, data = self._read_key_value(key_offset)
        if data is None:
            raise CorruptRecordError("a compressed message holds nothing")
        if self._magic == 0 and self.compression_type == self.CODEC_LZ4:
            data = with_right_checksum(data)
        limit = self.limit // LEGACY_SHARE
        try:
            return decompress(self.compression_type, data, limit)
        except TooLarge as error:
            raise BatchTooLarge(limit, self.base_offset + 1) from error  # it has the offset of its last one


class BoundedRecords(MemoryRecords):
    """The batches of an answer of a broker."""

    __slots__ = ("batch", "limit")

    def __init__(self, data: Any, limit: int) -> None:
        super().__init__(data)
        self.limit = limit
        self.batch: Any = None

    def next_batch(self, *arguments: Any) -> Any:
        """Return the next batch, None behind the last one."""
        self.batch = None  # its bytes can go
        piece = self._next_slice
        if piece is None:
            return None
        if len(piece) < self.MIN_SLICE:
            raise CorruptRecordError(f"a batch has {len(piece)} bytes, less than its header takes")
        self._cache_next()
        magic = piece[self.MAGIC_OFFSET]
        self.batch = BoundedLegacyBatch(piece, magic) if magic < _FORMAT_2 else BoundedBatch(piece)
        self.batch.limit = self.limit
        return self.batch


class BoundedPartitionRecords(Fetcher.PartitionRecords):
    """What was fetched of a partition.

    Attributes:
        most_bytes: How much the next `take` may return; at least one record.
    """

    def __init__(self, limit: int, fetch_offset: int, partition: Any, records: Any, **options: Any) -> None:
        self.most_bytes = 0
        self._batches: BoundedRecords | None = BoundedRecords(records._buffer, limit)
        super().__init__(fetch_offset, partition, self._batches, **options)

    @property
    def is_large(self) -> bool:
        """Whether it keeps more in memory than is worth keeping while its partition is paused."""
        return self._batches is not None and len(getattr(self._batches.batch, "_buffer", b"")) > _LARGE

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to decode, which the library finds out by the next `take` only."""
        batches = self._batches
        if batches is None:
            return True
        return isinstance(batches.batch, BoundedBatch) and batches.batch.is_exhausted and not batches.has_next()

    def drain(self) -> None:
        """Drop what was not delivered."""
        self._batches = None
        super().drain()

    def take(self, n: int | None = None) -> list[Any]:
        """Return the next records: `n` at most, and not many more bytes than `most_bytes`."""
        self._maybe_raise_next_inline_exception()
        records: list[Any] = []
        end = self.bytes_read + self.most_bytes
        try:
            for record in islice(self.record_iterator, 0, n):
                records.append(record)
                if self.bytes_read >= end:
                    break
        except Exception as error:
            if not records:
                raise
            self._next_inline_exception = error  # told by the next call
        return records
