"""Encode and decode what the join stores: segments of entries, records of closed keys, bits of open rows.

Every blob begins with the same head and a checksum of the rest. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import crc32c
import numpy as np
import zstandard
from numpy.typing import NDArray

from detectors.saved import DamagedError
from monitor.errors import SchemaTooNew
from monitor.join.arrays import Mask
from monitor.join.closed import Closings
from monitor.join.slots import SAVED

_MAGIC, _SCHEMA = b"DJ", 1
_HEAD = struct.Struct("<2sBBIIqI")  # magic, schema, flags, rows, raw size, time base, checksum of the rest
_LONG_TIMES = 1
_RANDOM = ("lo", "hi")  # hashes do not compress

_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


def encode_segment(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode entries: keys as they are, the other columns byte-shuffled and compressed, about 28 bytes an entry.

    Args:
        columns: The columns of `SAVED`, of equal length.

    Returns:
        The blob.
    """
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
    """Decode what `encode_segment` made.

    Raises:
        DamagedError: The blob is damaged.
        SchemaTooNew: The blob is of a newer release.
    """
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


def encode_closed(closings: Closings) -> bytes:
    """Encode closed keys: 12 bytes a key, the tags compressed."""
    raw = _shuffle(closings.tags)
    tail = closings.keys.tobytes() + _compress(raw)
    return _HEAD.pack(_MAGIC, _SCHEMA, 0, len(closings.keys), len(raw), 0, crc32c.crc32c(tail)) + tail


def decode_closed(body: bytes) -> Closings:
    """Decode what `encode_closed` made; raises as `decode_segment`."""
    _, count, size, _, tail = _opened(body, "record of closed keys")
    keys = np.frombuffer(tail, np.uint64, count)
    tags = _unshuffle(_decompress(tail[8 * count :], max_output_size=max(size, 1)), np.dtype(np.uint32), count)
    return Closings(keys, tags)


def encode_alive(alive: Mask) -> bytes:
    """Encode which rows of a segment are open, a bit a row."""
    tail = np.packbits(alive).tobytes()
    return _HEAD.pack(_MAGIC, _SCHEMA, 0, len(alive), len(tail), 0, crc32c.crc32c(tail)) + tail


def decode_alive(body: bytes) -> Mask:
    """Decode what `encode_alive` made; raises as `decode_segment`."""
    _, count, _, _, tail = _opened(body, "record of open rows")
    return np.unpackbits(np.frombuffer(tail, np.uint8), count=count).astype(np.bool_)


def _opened(body: bytes, what: str) -> tuple[int, int, int, int, bytes]:
    """Check a blob and take it apart: flags, rows, raw size, time base, and what follows the head."""
    if len(body) < _HEAD.size or body[:2] != _MAGIC:
        raise DamagedError(f"a {what} is damaged")
    _, schema, flags, count, size, base, checksum = _HEAD.unpack_from(body)
    if schema > _SCHEMA:
        raise SchemaTooNew(f"a {what}", schema, _SCHEMA)
    tail = body[_HEAD.size :]
    if crc32c.crc32c(tail) != checksum:
        raise DamagedError(f"a {what} is damaged")
    return flags, count, size, base, tail


def _shuffle(column: NDArray[Any]) -> bytes:
    width = column.dtype.itemsize
    return column.tobytes() if width == 1 else column.view(np.uint8).reshape(-1, width).T.tobytes()


def _unshuffle(raw: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if dtype.itemsize == 1:
        return np.frombuffer(raw, dtype, count)
    planes = np.frombuffer(raw, np.uint8, count * dtype.itemsize).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).view(dtype).ravel()
