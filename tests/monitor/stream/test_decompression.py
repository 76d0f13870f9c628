"""Decompression that stops at a limit: what comes is what went in, and of a bomb little more than the limit is held."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import codec

from monitor.stream.decompression import GZIP, LZ4, SNAPPY, ZSTD, TooLarge, decompress

MIB = 1 << 20
LIMIT = 4 * MIB

PACK: dict[int, Any] = {
    GZIP: codec.gzip_encode,
    SNAPPY: codec.snappy_encode,
    LZ4: codec.lz4_encode,
    ZSTD: codec.zstd_encode,
}
CODECS = pytest.mark.parametrize("kind", [GZIP, SNAPPY, LZ4, ZSTD])


def bare_snappy(data: bytes) -> bytes:
    """Without the blocks of Java's library, as librdkafka writes it."""
    found: bytes = codec.snappy_encode(data, xerial_compatible=False)
    return found


@CODECS
@given(data=st.binary(max_size=5_000), times=st.integers(1, 500))
def test_what_went_in_comes_out(kind: int, data: bytes, times: int) -> None:
    whole = data * times

    assert decompress(kind, PACK[kind](whole), len(whole)) == whole


@CODECS
def test_a_byte_more_than_the_limit_is_too_large(kind: int) -> None:
    packed = PACK[kind](b"x" * (3 * MIB))

    assert len(decompress(kind, packed, 3 * MIB)) == 3 * MIB
    with pytest.raises(TooLarge, match="decompresses to more than 3145727 bytes"):
        decompress(kind, packed, 3 * MIB - 1)


@CODECS
def test_of_a_bomb_little_more_than_the_limit_is_held(kind: int) -> None:
    packed = PACK[kind](b"\0" * (200 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(kind, packed, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * LIMIT


def test_a_bare_block_of_snappy_is_refused_by_what_it_says_of_its_size() -> None:
    packed = bare_snappy(b"x" * (5 * MIB))

    assert len(decompress(SNAPPY, packed, 5 * MIB)) == 5 * MIB
    with pytest.raises(TooLarge):
        decompress(SNAPPY, packed, LIMIT)


@pytest.mark.parametrize("kind", [GZIP, LZ4, ZSTD])
def test_frames_may_follow_one_another(kind: int) -> None:
    """And together they are limited as one."""
    packed = PACK[kind](b"a" * 3 * MIB) + PACK[kind](b"b" * 3 * MIB)

    assert decompress(kind, packed, 6 * MIB) == b"a" * 3 * MIB + b"b" * 3 * MIB
    with pytest.raises(TooLarge):
        decompress(kind, packed, LIMIT)


@pytest.mark.parametrize("kind", [GZIP, SNAPPY, LZ4])
@given(share=st.floats(0.1, 0.99))
def test_data_that_end_too_early_are_an_error(kind: int, share: float) -> None:
    packed = PACK[kind](bytes(range(256)) * 50)

    with pytest.raises(Exception):  # noqa: B017, PT011 - each codec has its own
        decompress(kind, packed[: max(int(len(packed) * share), 1)], LIMIT)
