"""Decompression that stops at a limit, for the codecs of Kafka. Pure.

A few kilobytes may hold gigabytes: what they come to is known only while they are decompressed, so it is done in steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

import lz4.frame
import snappy
import xxhash
import zstandard

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4  # the numbers of Kafka's format

_STEP: Final = 1 << 20  # bytes of one step: most batches are whole after the first
_GZIP_WINDOW: Final = 31  # of zlib: with header and checksum of gzip
_XERIAL: Final = b"\x82SNAPPY\x00"  # blocks of Snappy, as Java's library writes them
_XERIAL_HEADER: Final = 16
_LENGTH: Final = 4
_LZ4_SIZED: Final = 0x08  # in the flags of a frame: its size is stated
_LZ4_HEADER: Final = 7


class TooLarge(Exception):
    """Data come to more bytes than allowed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"it decompresses to more than {limit} bytes")


def decompress(codec: int, data: bytes, limit: int) -> bytearray:
    """Decompress data of which at most `limit` bytes may come.

    Args:
        codec: `GZIP`, `SNAPPY`, `LZ4` or `ZSTD`.
        data: Compressed bytes.
        limit: Most bytes that may come of them.

    Returns:
        The decompressed bytes.

    Raises:
        TooLarge: More than `limit` bytes would come; little more than that was ever held.
        ValueError: The data end too early. The codec of Zstandard does not tell: then the records end too early.
        Exception: The codec's own errors of damaged data.
    """
    found = bytearray()
    for step in _STEPS[codec](data, limit):
        found += step
        if len(found) > limit:
            raise TooLarge(limit)
    return found


def with_right_checksum(data: bytes) -> bytes:
    """Correct the checksum of an LZ4 frame's header as Kafka wrote it before 0.10.

    Args:
        data: A frame of LZ4 in a message of format 0.

    Returns:
        The same with the checksum that the format asks for.
    """
    size = _LZ4_HEADER + (8 if data[4] & _LZ4_SIZED else 0)
    checksum = xxhash.xxh32(data[4 : size - 1]).digest()[-2:-1]
    return data[: size - 1] + checksum + data[size:]


def _gzip(data: bytes, limit: int) -> Iterator[bytes]:
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            step = member.decompress(data, _STEP)
            data = member.unconsumed_tail
            if not step and not data and not member.eof:
                raise ValueError("the data of gzip end too early")
            yield step
        data = member.unused_data.lstrip(b"\0")  # members may follow one another, and zeros the last one


def _lz4(data: bytes, limit: int) -> Iterator[bytes]:
    while data:
        frame = lz4.frame.LZ4FrameDecompressor()
        step = frame.decompress(data, _STEP)
        yield step
        while not frame.eof:
            step = frame.decompress(b"", _STEP)
            if not step and not frame.eof:
                raise ValueError("the data of lz4 end too early")
            yield step
        data = frame.unused_data or b""


def _zstd(data: bytes, limit: int) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while step := reader.read(_STEP):
            yield step


def _snappy(data: bytes, limit: int) -> Iterator[bytes]:
    """Blocks of Snappy say first what they come to; each is taken as a whole."""
    if not data.startswith(_XERIAL):
        yield _snappy_block(data, limit, limit)
        return
    at, left = _XERIAL_HEADER, limit
    while at < len(data):
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            raise ValueError("the data of snappy end too early")
        block = _snappy_block(data[start:at], left, limit)
        left -= len(block)
        yield block


def _snappy_block(block: bytes, left: int, limit: int) -> bytes:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > left:
        raise TooLarge(limit)
    return bytes(snappy.uncompress(block))


_STEPS: Final[dict[int, Callable[[bytes, int], Iterator[bytes]]]] = {
    GZIP: _gzip,
    SNAPPY: _snappy,
    LZ4: _lz4,
    ZSTD: _zstd,
}
