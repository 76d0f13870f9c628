"""Binary format for a JSON header and arrays of numbers, without pickle.

The bytes are a magic number, the length of the header, a checksum, the header in JSON, and the raw arrays. Reading them
never runs code. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALLOWED = frozenset({"<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "<f8", "<f4"})
_FRAME = struct.Struct("<II")  # length of the header, checksum of that length and of all after it


class DamagedError(ValueError):
    """Signal that bytes are not what `pack` wrote, or that they are damaged."""


def pack(magic: bytes, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode a header and named arrays.

    Args:
        magic: First bytes of the result; they tell what kind of content it is.
        header: Values that JSON can represent.
        arrays: Arrays of integers or floats of any shape.

    Raises:
        TypeError: An array has a data type that is not saved.
        ValueError: The header holds NaN or infinity.
    """
    listed: list[tuple[str, str, list[int]]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array)
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
        if plain.dtype.str not in _ALLOWED:
            raise TypeError(f"array {name!r} of type {plain.dtype} cannot be saved")
        listed.append((name, plain.dtype.str, list(plain.shape)))
        parts.append(plain.tobytes())
    text = json.dumps({"header": header, "arrays": listed}, ensure_ascii=True, allow_nan=False).encode()
    tail = b"".join([text, *parts])
    return magic + _FRAME.pack(len(text), zlib.crc32(tail, len(text))) + tail


def unpack(magic: bytes, blob: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Decode the header and the arrays that `pack` encoded.

    The arrays are read-only views of `blob`.

    Raises:
        DamagedError: The bytes begin with another magic number, or the checksum or a length is wrong.
    """
    start = len(magic) + _FRAME.size
    if blob[: len(magic)] != magic or len(blob) < start:
        raise DamagedError(f"does not begin with {magic!r}")
    length, checksum = _FRAME.unpack_from(blob, len(magic))
    tail = memoryview(blob)[start:]
    if zlib.crc32(tail, length) != checksum:
        raise DamagedError("the checksum does not match")
    content = json.loads(bytes(tail[:length]))
    arrays: dict[str, NDArray[Any]] = {}
    at = length
    for name, kind, shape in content["arrays"]:
        if kind not in _ALLOWED:
            raise DamagedError(f"array {name!r} has type {kind!r}")
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(tail, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    if at != len(tail):
        raise DamagedError("bytes are left over")
    return content["header"], arrays
