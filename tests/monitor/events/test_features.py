"""Features: what is accepted by the schema, what it is decoded into, and what is gathered to learn a reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from detectors.reference import CategoricalReference, NumericReference
from monitor.events.features import FeatureDecoder, members
from monitor.events.schema import ignored_names
from monitor.reference.learning import FeatureLearner
from monitor.spec import FeatureKind

LIMIT = 500
IGNORED = ignored_names({"note": FeatureKind.IGNORE})


def written(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


@pytest.mark.parametrize("raw", [b"[1]", b'"x"', b"1", b"true", b"{", b'{"load": [1]}', b'{"z": 1e999}', b'{"z": {}}'])
def test_what_cannot_be_compared_is_told_by_its_position(raw: bytes) -> None:
    """Alone and between others, before and after the decoder has seen such features."""
    it = FeatureDecoder(IGNORED, LIMIT)

    assert it.decode([b'{"load": 1}', raw, b'{"load": 3}'])[1] == [1]
    assert it.decode([b'{"load": 1, "z": 2}', b'{"load": 3}'])[1] == []
    assert it.decode([raw, b'{"load": 1}', raw])[1] == [0, 2]


def test_ignored_features_may_be_anything_and_count_as_features() -> None:
    """Their values are not decoded."""
    it = FeatureDecoder(IGNORED, 2)
    anything = [b'{"note": [1], "load": 1}', b'{"note": 1e999}', b'{"note": {"a": 1}}']

    for _ in range(2):
        assert it.decode(anything)[1] == []
        assert it.decode([*anything, b'{"note": 1, "score": 2, "load": 3}'])[1] == [3]


def test_a_feature_that_is_always_null_has_no_column_to_be_looked_through() -> None:
    """Until a value comes, which makes it a feature of that kind."""
    it = FeatureDecoder(IGNORED, LIMIT)

    nothing, _ = it.decode(written([{"load": 1, "z": None}, {"z": None}]))
    number, _ = it.decode(written([{"load": 2, "z": None}, {"z": 3}]))

    assert (list(nothing.names), list(number.names)) == (["load"], ["load", "z"])
    assert nothing.are_numbers(("z",))
    np.testing.assert_array_equal(nothing.matrix(("load", "z")), [[1, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(number.matrix(("load", "z")), [[2, np.nan], [np.nan, 3]])


def test_there_is_a_column_for_each_feature_that_was_sent() -> None:
    """A feature that once had a text stays one that may have one; ignored ones have no column."""
    it = FeatureDecoder(IGNORED, LIMIT)
    it.decode(written([{"load": 1, "kind": "gas", "note": [1]}]))
    it.decode(written([{"load": 2}, {"z": None}]))

    table, _ = it.decode(written([{"load": 3, "kind": 7, "z": 4.5}, {}]))

    assert table.are_numbers(("load", "z"))
    assert not any(table.are_numbers((name,)) for name in ("kind", "note", "unheard of"))
    np.testing.assert_array_equal(table.matrix(("load", "z")), [[3, 4.5], [np.nan, np.nan]])
    assert list(table.values("kind")) == [7, None]
    assert list(table.values("note")) == list(table.values("unheard of")) == [None, None]
    assert table.mappings is None


def test_the_layout_stays_when_nothing_new_comes() -> None:
    """Else every batch would pay for a new one; two equal names, or null for none, are nothing new."""
    it = FeatureDecoder(IGNORED, LIMIT)
    first, _ = it.decode([b'{"load": 1}'])

    second, bad = it.decode([b'{"load": "x", "load": 2}', b"null", b'{"load": 3}'])

    assert not bad
    assert second._layout is first._layout
    np.testing.assert_array_equal(second.matrix(("load",)), [[2], [np.nan], [3]])


def test_more_features_than_an_event_may_have_are_no_columns() -> None:
    """Each event has few enough; then the layout begins anew with those of one batch."""
    it = FeatureDecoder(IGNORED, 2)
    it.decode(written([{"a": 1, "b": 2}]))

    without, bad = it.decode(written([{"c": 3}, {"a": 4, "d": "x"}]))
    assert not bad
    assert without.mappings == [{"c": 3}, {"a": 4, "d": "x"}]
    assert not without.are_numbers(("c",))
    assert list(without.values("d")) == [None, "x"]

    it.decode(written([{"e": 1}, {"f": 1}]))
    again, _ = it.decode(written([{"e": 5, "f": 6}]))
    assert again.mappings is None
    assert again.are_numbers(("e", "f"))


@pytest.mark.parametrize("rows", [[{"load": 1}], [{'"': 1}]])
def test_undecoded_features_are_kept_on_demand(rows: list[dict[str, Any]]) -> None:
    """Only what learns a reference wants them."""
    it, raws = FeatureDecoder(IGNORED, LIMIT), written(rows)

    assert [list(it.decode(raws, keep_raw=True)[0].raw) for _ in range(2)] == [raws, raws]
    assert len(it.decode(raws)[0].raw) == 0
    assert len(it.decode(raws)[0]) == 1


def test_taking_rows_keeps_them_together() -> None:
    """What was sent, and what it was decoded into."""
    rows = written([{"load": x, "kind": "abcd"[x]} for x in range(4)])
    table, _ = FeatureDecoder(IGNORED, LIMIT).decode(rows, keep_raw=True)

    some = table.take(np.array([3, 1]))

    assert [json.loads(raw) for raw in some.raw] == [{"load": 3, "kind": "d"}, {"load": 1, "kind": "b"}]
    assert some.matrix(("load",)).tolist() == [[3], [1]]
    assert list(some.values("kind")) == ["d", "b"]


def test_members_are_those_that_are_looked_at() -> None:
    """The rest is not even decoded, where it cannot be."""
    assert members(b'{"a": 1, "note": [1], "score": 2}', IGNORED) == {"a": 1, "score": 2}
    assert members(b'{"a": 1, "note": 1e999}', IGNORED) == {"a": 1}
    assert members(b'{"a": 1e999, "note": 1}', IGNORED) is None


def test_a_reference_can_be_learned_from_events_with_anything_in_what_is_ignored() -> None:
    """Such events are accepted while it is learned, so they must not stop it at the end."""
    kinds = {"note": FeatureKind.IGNORE}
    raws = [b'{"load": 1, "note": 1e999}', b'{"load": 2.5, "note": [1]}', b"null", b'{"load": 4, "note": "x"}']
    accepted, bad = FeatureDecoder(IGNORED, LIMIT).decode(raws, keep_raw=True)
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
    assert features[3].categories == ("1", "10115")
