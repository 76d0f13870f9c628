"""Saved numbers: what comes back is what was saved, and what was damaged does not come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from detectors.saved import DamagedError, pack, unpack

MAGIC = b"DRIFTTST"
kinds = st.sampled_from(["<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "<f8", "<f4", ">i8", ">f8"])
arrays = st.dictionaries(
    st.text(max_size=8),
    kinds.flatmap(lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=0, max_side=4, min_side=0))),
    max_size=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
headers = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


@given(headers, arrays)
def test_what_was_packed_comes_back(header: dict[str, Any], named: dict[str, NDArray[Any]]) -> None:
    """Values, shapes and types; NaN and all."""
    back, found = unpack(MAGIC, pack(MAGIC, header, named))

    assert back == header
    assert list(found) == list(named)
    for name, array in named.items():
        assert found[name].dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(found[name], array)


@given(headers, arrays)
def test_the_same_content_has_the_same_bytes(header: dict[str, Any], named: dict[str, NDArray[Any]]) -> None:
    """A hash of them identifies it, whatever the layout in memory was."""
    turned = {name: np.asfortranarray(array) for name, array in named.items()}

    assert pack(MAGIC, header, named) == pack(MAGIC, header, turned)


@given(headers, arrays, st.data())
def test_a_changed_byte_is_found(header: dict[str, Any], named: dict[str, NDArray[Any]], data: st.DataObject) -> None:
    """Anywhere."""
    blob = bytearray(pack(MAGIC, header, named))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DamagedError):
        unpack(MAGIC, bytes(blob))


@given(headers, arrays, st.data())
def test_lost_bytes_are_found(header: dict[str, Any], named: dict[str, NDArray[Any]], data: st.DataObject) -> None:
    """A torn write, or too much of one."""
    blob = pack(MAGIC, header, named)
    torn = blob[: data.draw(st.integers(0, len(blob) - 1))]

    for damaged in (torn, blob + b"\0"):
        with pytest.raises(DamagedError):
            unpack(MAGIC, damaged)


@given(st.binary(max_size=200))
def test_bytes_of_another_origin_are_refused(blob: bytes) -> None:
    """Not with an error of whatever reads them first."""
    with pytest.raises(DamagedError):
        unpack(MAGIC, blob)


def test_another_magic_is_refused() -> None:
    """A pane is no profile."""
    with pytest.raises(DamagedError, match="does not begin with b'DRIFTTST'"):
        unpack(MAGIC, pack(b"DRIFTREF", {}, {}))


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([object()]), np.array([1j]), np.array([True])])
def test_what_is_no_number_cannot_be_saved(array: NDArray[Any]) -> None:
    """So nothing that is read can be anything but numbers."""
    with pytest.raises(TypeError, match="array 'a' of type"):
        pack(MAGIC, {}, {"a": array})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_header_is_json_that_everybody_reads(value: float) -> None:
    """NaN is not."""
    with pytest.raises(ValueError, match="JSON"):
        pack(MAGIC, {"value": value}, {})
