"""Features: rows of JSON against a reference, and what is gathered to learn one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.reference import CategoricalReference, NumericReference
from monitor.events.features import FeatureReader, ignored_names, members
from monitor.reference.learning import FeatureLearner
from monitor.spec import FeatureKind
from tests.monitor.events.decoding import AWKWARD, PLAIN, profile

LIMIT = 500
scalars = (
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e9, 1e9) | st.sampled_from(["gas", "7", "x"])
)
rows_of_features = st.lists(st.dictionaries(st.sampled_from(["load", "flow", "kind", "z"]), scalars), max_size=12)


def reader(names: tuple[str, ...] = PLAIN, **kinds: FeatureKind) -> FeatureReader:
    return FeatureReader(profile(names), kinds, LIMIT, learning=False)


def written(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


@given(rows_of_features)
def test_rows_are_read_the_same_one_by_one_as_all_at_once(rows: list[dict[str, Any]]) -> None:
    """The lenient way, which a value of another type leads to, gives the columns of the fast one."""
    at_once, one_by_one = reader(), reader()
    raws = written(rows)

    together, bad = at_once.read(raws)
    apart = [one_by_one.read([raw])[0] for raw in raws]

    assert not bad
    assert at_once.mistyped == one_by_one.mistyped
    if rows:
        np.testing.assert_array_equal(together.numbers, np.concatenate([r.numbers for r in apart]))
        np.testing.assert_array_equal(together.codes[0], np.concatenate([r.codes[0] for r in apart]))


def test_an_ignored_feature_is_not_compared() -> None:
    """Nor are the names under which answers are."""
    it = FeatureReader(profile((*PLAIN, "score")), {"load": FeatureKind.IGNORE}, LIMIT, learning=False)

    assert [f.name for f in it.numeric] == ["flow", "note"]
    assert [it.looks_at(name) for name in ("load", "score", "flow", "kind", "z")] == [False, False, True, True, False]


def test_without_anything_to_compare_all_but_ignored_features_are_looked_at() -> None:
    """Any of them may become part of a reference."""
    it = FeatureReader(None, {"note": FeatureKind.IGNORE}, LIMIT, learning=False)

    assert not it.reads
    assert [it.looks_at(name) for name in ("load", "note", "prediction")] == [True, False, False]


@pytest.mark.parametrize("name", ['"', "\\", "\n", "\x00", "a\tb"])
def test_any_name_can_be_compared(name: str) -> None:
    """A learned reference has the names that a producer chose."""
    it = reader((name, "load"))

    rows, bad = it.read(written([{name: 1, "load": 2}, {name: "x"}, {}]))

    assert not bad
    np.testing.assert_array_equal(rows.numbers, [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])
    assert it.mistyped == 1


@pytest.mark.parametrize("names", [PLAIN, AWKWARD])
@pytest.mark.parametrize("raw", [b"{}", b"null", b"", msgspec.Raw(b"null"), msgspec.Raw(b"")])
def test_no_features_are_missing_features(raw: bytes, names: tuple[str, ...]) -> None:
    """However it is written that there are none."""
    rows, bad = reader(names).read([raw])

    assert not bad
    assert np.isnan(rows.numbers).all()
    assert rows.codes[0].tolist() == [-1]


@pytest.mark.parametrize("raw", [b"[1]", b'"x"', b"1", b"true", b"{", b'{"load": [1]}', b'{"load": 1e999}'])
def test_what_cannot_be_compared_is_told_by_its_position(raw: bytes) -> None:
    """And is missing in the columns, so that the rows keep their places."""
    rows, bad = reader().read([b'{"load": 1}', raw, b'{"load": 3}'])

    assert bad == [1]
    np.testing.assert_array_equal(rows.numbers[:, 0], [1, np.nan, 3])


def test_mistyped_values_are_counted_only_when_all_rows_are_good() -> None:
    """The decoder asks again without the bad ones."""
    it = reader()
    raws = [b'{"load": "x"}', b'{"load": [1]}']

    assert it.read(raws)[1] == [1]
    assert it.mistyped == 0
    assert it.read(raws[:1])[1] == []
    assert it.mistyped == 1


def test_members_are_those_that_are_looked_at() -> None:
    """The rest is not even decoded, where it cannot be."""
    ignored = ignored_names({"note": FeatureKind.IGNORE})

    assert members(b'{"a": 1, "note": [1], "score": 2}', ignored) == {"a": 1}
    assert members(b'{"a": 1, "note": 1e999}', ignored) == {"a": 1}
    assert members(b'{"a": 1, "b": 1e999}', ignored, only=frozenset({"a"})) == {"a": 1}
    assert members(b'{"a": 1, "b": 2}', ignored, limit=1) is None
    assert members(b'{"a": 1e999, "note": 1}', ignored) is None


def test_a_reference_can_be_learned_from_events_with_anything_in_what_is_ignored() -> None:
    """Such events are accepted while it is learned, so they must not stop it at the end."""
    kinds = {"note": FeatureKind.IGNORE}
    raws = [b'{"load": 1, "note": 1e999}', b'{"load": 2.5, "note": [1]}', b"null", b'{"load": 4, "score": 1}']
    accepted, bad = FeatureReader(None, kinds, LIMIT, learning=True).read(raws)
    learner = FeatureLearner(4, 2048, kinds)
    learner.add(accepted.raw, np.arange(4))

    learned = learner.profile()

    assert not bad
    assert [f.name for f in learned.features] == ["load"]
    assert (learned.features[0].rows, learned.features[0].missing) == (3, 1)


def test_a_feature_is_learned_as_what_most_of_its_values_are() -> None:
    """Unless the configuration says otherwise; a boolean is a category."""
    rows = [{"load": 1, "zip": 10115, "kind": "gas", "flag": True}] * 3 + [
        {"load": "x", "zip": 1, "kind": 7, "flag": False}
    ]
    learner = FeatureLearner(4, 2048, {"zip": FeatureKind.CATEGORICAL})
    learner.add(written(rows), np.arange(4))

    features = learner.profile().features

    assert [(f.name, type(f)) for f in features] == [
        ("flag", CategoricalReference), ("kind", CategoricalReference), ("load", NumericReference),
        ("zip", CategoricalReference),
    ]  # fmt: skip
    assert features[2].missing == 1
    assert isinstance(features[3], CategoricalReference)
    assert features[3].levels == ("1", "10115")
