"""Names of features that the reference does not have: where each first came, at a cost that follows the events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.events.features import FeatureDecoder, FeatureTable
from monitor.events.schema import Scalar
from monitor.reference import stray_names
from monitor.reference.stray_names import StrayNames

KNOWN = {"x"}
ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.dictionaries(st.sampled_from("xabcde"), st.sampled_from([None, 1, "t"]))),
    max_size=20,
)


def first_places(rows: Sequence[tuple[int, Mapping[str, Scalar]]], most: int) -> dict[str, int]:
    """Where each name first came with a value, of the `most` that came first."""
    found: dict[str, int] = {}
    for place, values in rows:
        for name, value in values.items():
            if value is not None and name not in KNOWN:
                found[name] = min(found.get(name, place), place)
    return dict(sorted(found.items(), key=lambda entry: (entry[1], entry[0]))[:most])


@given(rows=ROWS, cuts=st.lists(st.integers(1, 7), min_size=1), limit=st.sampled_from([2, 100]), most=st.integers(1, 6))
def test_a_name_first_came_at_the_smallest_place_however_the_stream_is_cut(
    rows: list[tuple[int, dict[str, Scalar]]], cuts: list[int], limit: int, most: int
) -> None:
    """Whether or not all events fit one layout, where places come in any order."""
    decoder, it = FeatureDecoder(frozenset(), 100), StrayNames()
    wide = FeatureDecoder(frozenset(), 100)
    at = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stray_names, "MOST", most)
        while at < len(rows):
            part = rows[at : at + cuts[at % len(cuts)]]
            raws = [json.dumps(values).encode() for _, values in part]
            table = (decoder if limit == 100 else wide).decode(raws)[0]
            if limit == 2:  # as where there are more names than a layout may have
                table = FeatureTable((), table._layout, [values for _, values in part])
            it.note(table, np.array([place for place, _ in part]), KNOWN)
            at += len(part)

    assert it.first == first_places(rows, most)


class Counted(dict[str, Any]):
    """Features of an event that count how often their names are looked at."""

    looked = 0

    def __getitem__(self, name: str) -> Any:
        Counted.looked += 1
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        Counted.looked += 1
        return super().get(name, default)


def test_an_id_in_the_name_of_a_feature_costs_no_more_than_the_names_that_are_kept() -> None:
    """A name is looked at in the event that has it, and none beyond those that are kept."""
    rows = [Counted({"x": 1.0, f"user_{i}": 1.0}) for i in range(3_000)]
    Counted.looked = 0
    it = StrayNames()

    it.note(FeatureTable((), FeatureDecoder(frozenset(), 9)._layout, rows), np.arange(len(rows)), KNOWN)

    assert sorted(it.first.values()) == list(range(stray_names.MOST))
    assert Counted.looked <= 2 * stray_names.MOST + 2


def test_a_name_that_is_settled_is_not_looked_at_again() -> None:
    """Nor one that came before the events of the batch."""
    it = StrayNames()
    it.first, it.settled = {"a": 0, "b": 7}, 5
    rows = [Counted({"a": 1.0, "b": 2.0}) for _ in range(100)]
    Counted.looked = 0

    it.note(FeatureTable((), FeatureDecoder(frozenset(), 9)._layout, rows), np.arange(10, 110), KNOWN)

    assert it.first == {"a": 0, "b": 7}
    assert Counted.looked <= 1
