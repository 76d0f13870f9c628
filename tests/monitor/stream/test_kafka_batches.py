"""Batches of the library with a limit: every format and codec reads as it did, and what is too much is refused."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from monitor.stream.kafka_batches import BatchTooLarge, BoundedPartitionRecords, BoundedRecords

MIB = 1 << 20
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
FORMATS = [(magic, name) for magic in (0, 1, 2) for name in CODECS if magic == 2 or name != "zstd"]
PLACE = TopicPartition("events", 0)


def batch(values: Sequence[bytes | None], *, magic: int = 2, codec: str = "none", first: int = 0, **more: Any) -> bytes:
    """A batch as a broker keeps it."""
    builder = MemoryRecordsBuilder(magic, CODECS[codec], 1 << 30, offset=first)
    for i, value in enumerate(values):
        builder.append(1_000 + i, b"key %d" % i if i % 2 else None, value, **more)
    builder.close()
    data = bytes(builder.buffer())
    # A broker gives the message that holds the others the offset of the last one.
    return data if magic == 2 or codec == "none" else struct.pack(">q", first + len(values) - 1) + data[8:]


def read(records: Any) -> list[tuple[Any, ...]]:
    found = []
    while (one := records.next_batch()) is not None:
        assert one.validate_crc()
        found += [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers, r.size_in_bytes) for r in one]
    return found


def part_of(data: bytes, limit: int = 64 * MIB, at: int = 0) -> Any:
    return BoundedPartitionRecords(limit, at, PLACE, MemoryRecords(data))


@pytest.mark.parametrize(("magic", "codec"), FORMATS)
def test_records_are_those_that_the_library_reads(magic: int, codec: str) -> None:
    values = [b"value %d" % i * 50 for i in range(100)] + [None, b"", b"long" * 100_000]
    data = batch(values, magic=magic, codec=codec) + batch(values, magic=magic, codec=codec, first=103)

    found = read(BoundedRecords(data, 64 * MIB))

    assert found == read(MemoryRecords(data))
    assert len(found) == 206


def test_headers_are_those_that_the_library_reads() -> None:
    data = batch([b"value"] * 3, headers=[("näme", b"value"), ("none", None), ("", b"")])

    assert read(BoundedRecords(data, MIB)) == read(MemoryRecords(data))


@pytest.mark.parametrize(("magic", "codec"), [f for f in FORMATS if f[1] != "none"])
def test_a_batch_that_comes_to_too_much_is_refused_and_names_what_is_behind_it(magic: int, codec: str) -> None:
    data = batch([b"\0" * MIB] * 5, magic=magic, codec=codec)

    with pytest.raises(BatchTooLarge, match=r"decompresses to more than \d+ bytes \(stream.batch_bytes\)") as raised:
        read(BoundedRecords(data, 4 * MIB))

    assert raised.value.behind == 5


def test_fifty_to_one_is_no_bomb() -> None:
    """A megabyte, as much as brokers take, of events that look alike."""
    event = b'{"type":"prediction","request_id":"%032d","model":"prices","version":"v2","features":{%s}}'
    values = [event % (i * 7_919, b",".join(b'"feature_%02d":0.0' % k for k in range(60))) for i in range(40_000)]
    data = batch(values, codec="zstd")

    assert len(data) < MIB
    assert sum(map(len, values)) > 40 * MIB
    assert len(read(BoundedRecords(data, 64 * MIB))) == 40_000


def test_a_record_of_a_million_headers_is_refused() -> None:
    """They would take a hundred times as much memory as bytes."""
    data = batch([b"value"], codec="gzip", headers=[("", b"")] * 200_000)

    with pytest.raises(CorruptRecordError, match="200000 headers, at most 10000"):
        read(BoundedRecords(data, 64 * MIB))


def test_one_turn_takes_so_many_bytes_and_at_least_one_record() -> None:
    part = part_of(batch([b"x" * MIB] * 10, codec="zstd"))

    part.most_bytes = 3 * MIB
    assert [r.offset for r in part.take(100)] == [0, 1, 2]
    part.most_bytes = 0
    assert [r.offset for r in part.take(100)] == [3]
    part.most_bytes = 100 * MIB
    assert [r.offset for r in part.take(4)] == [4, 5, 6, 7]


def test_what_comes_before_a_bomb_is_delivered_first() -> None:
    part = part_of(batch([b"good"] * 3) + batch([b"\0" * (5 * MIB)], codec="gzip", first=3), limit=MIB)
    part.most_bytes = MIB

    assert [r.offset for r in part.take(100)] == [0, 1, 2]
    with pytest.raises(BatchTooLarge) as raised:
        part.take(100)
    assert part.next_fetch_offset == 3
    assert raised.value.behind == 4


def test_only_a_large_batch_is_not_worth_keeping() -> None:
    small, large = part_of(batch([b"x"] * 10)), part_of(batch([b"x" * MIB] * 6, codec="zstd"))
    for part in (small, large):
        part.take(1)

    assert (small.is_large, large.is_large) == (False, True)
    large.drain()
    assert not large.is_large
