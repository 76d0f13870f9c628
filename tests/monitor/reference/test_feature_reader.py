"""Reading features against a reference, whatever they are decoded into."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.events.features import FeatureDecoder, FeatureTable
from monitor.events.schema import ignored_names
from monitor.reference.feature_reader import FeatureColumns, FeatureReader
from monitor.spec import FeatureKind
from tests.monitor.events.decoding import AWKWARD, PLAIN, profile
from tests.monitor.kit import a_profile

LIMIT = 500
scalars = (
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e9, 1e9) | st.sampled_from(["gas", "7", "x"])
)
rows_of_features = st.lists(st.dictionaries(st.sampled_from(["load", "flow", "kind", "z"]), scalars), max_size=12)


def reader(names: tuple[str, ...] = PLAIN, **kinds: FeatureKind) -> FeatureReader:
    return FeatureReader(profile(names), kinds)


def decoded(raws: list[bytes], limit: int = LIMIT) -> FeatureTable:
    rows, bad = FeatureDecoder(ignored_names({}), limit).decode(raws)
    assert not bad
    return rows


def written(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


@given(rows_of_features)
def test_rows_are_read_the_same_one_by_one_as_all_at_once(rows: list[dict[str, Any]]) -> None:
    """In one batch a value of another type makes its column be read the slow way."""
    raws = written(rows)

    together = reader().read(decoded(raws))
    apart = [reader().read(decoded([raw])) for raw in raws]

    assert together.mistyped == sum(columns.mistyped for columns in apart)
    if rows:
        np.testing.assert_array_equal(together.numbers, np.concatenate([columns.numbers for columns in apart]))
        np.testing.assert_array_equal(together.codes[0], np.concatenate([columns.codes[0] for columns in apart]))


@given(rows_of_features)
def test_mappings_are_read_as_columns_are(rows: list[dict[str, Any]]) -> None:
    """Features whose names cannot be fields come as mappings, and so do those beside them."""
    plain, beside_awkward = decoded(written(rows)), decoded([*written(rows), b'{"\\"": 1}'])
    assert beside_awkward.mappings is not None

    columns, mappings = reader().read(plain), reader().read(beside_awkward)

    assert mappings.mistyped == columns.mistyped
    np.testing.assert_array_equal(mappings.numbers[:-1], columns.numbers)
    np.testing.assert_array_equal(mappings.codes[0][:-1], columns.codes[0])


def test_a_feature_that_no_event_has_is_missing() -> None:
    """Neither of a kind nor another."""
    columns = reader().read(decoded(written([{"load": 1}, {}])))

    np.testing.assert_array_equal(columns.numbers[:, :2], [[1, np.nan], [np.nan, np.nan]])
    assert columns.codes[0].tolist() == [-1, -1]
    assert columns.mistyped == 0


def test_an_ignored_feature_is_not_compared() -> None:
    """One called like an answer by the name under which it is shown; without it that speaks of the answer."""
    it = reader((*PLAIN, "score"), load=FeatureKind.IGNORE, score=FeatureKind.IGNORE)
    other = reader((*PLAIN, "score"), **{"features.score": FeatureKind.IGNORE})

    assert [f.name for f in it.numeric] == ["flow", "note", "features.score"]
    assert [f.name for f in it.categorical] == ["kind"]
    assert [f.name for f in other.numeric] == [*PLAIN]


def test_a_feature_called_like_an_answer_is_read_by_its_own_name() -> None:
    """Numbers and texts."""
    rows = [{"score": 5.0, "prediction": "a"}, {"score": 6.0, "prediction": "b"}]
    it = FeatureReader(a_profile([{"score": float(i), "prediction": "ab"[i % 2]} for i in range(10)]), {})
    columns = it.read(decoded(written(rows)))

    assert [f.name for f in it.numeric] == ["features.score"]
    assert [f.name for f in it.categorical] == ["features.prediction"]
    assert columns.numbers[:, 0].tolist() == [5.0, 6.0]
    assert columns.codes[0].tolist() == [0, 1]


def test_a_reference_of_ignored_features_compares_nothing() -> None:
    """There is no matrix to read."""
    ignored = dict.fromkeys((*PLAIN, "kind"), FeatureKind.IGNORE)

    assert not FeatureReader(profile(), ignored).reads
    assert reader().reads


@pytest.mark.parametrize("name", ['"', "\\", "\n", "\x00", "a\tb"])
def test_any_name_can_be_compared(name: str) -> None:
    """A learned reference has the names that a producer chose."""
    columns = reader((name, "load")).read(decoded(written([{name: 1, "load": 2}, {name: "x"}, {}])))

    np.testing.assert_array_equal(columns.numbers, [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])
    assert columns.mistyped == 1


@pytest.mark.parametrize("names", [PLAIN, AWKWARD])
@pytest.mark.parametrize("raw", [b"{}", b"null", b"", msgspec.Raw(b"null"), msgspec.Raw(b"")])
def test_no_features_are_missing_features(raw: bytes, names: tuple[str, ...]) -> None:
    """However it is written that there are none."""
    columns = reader(names).read(decoded([raw]))

    assert np.isnan(columns.numbers).all()
    assert columns.codes[0].tolist() == [-1]


def test_tables_with_other_columns_are_read_in_turn() -> None:
    """A new feature, or a value of another type, changes the columns from one batch to the next."""
    it, decoder = reader(), FeatureDecoder(ignored_names({}), LIMIT)

    def read(*rows: dict[str, Any]) -> FeatureColumns:
        return it.read(decoder.decode(written(list(rows)))[0])

    assert read({"flow": 1}).numbers[0, 1] == 1
    assert read({"load": 2, "flow": 3}).numbers[0, :2].tolist() == [2, 3]
    assert read({"load": "x", "flow": 4}).mistyped == 1
    assert read({"load": 5, "flow": 6}).numbers[0, :2].tolist() == [5, 6]
