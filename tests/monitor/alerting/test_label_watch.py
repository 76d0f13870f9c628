"""Alerts about labels by which quality cannot be judged."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerting.label_watch import CALM, LabelWatch, SavedLabels
from monitor.alerting.records import AlertKind, AlertRecord
from monitor.events.codes import SHARED

NAMES = "abcdefghij"


def a_watch(*, binary: bool = True, by_pane: bool = False) -> LabelWatch:
    return LabelWatch("m", 7, lambda code: NAMES[code], binary=binary, by_pane=by_pane)


def told(watch: LabelWatch, actual: Sequence[float], start: int = 0) -> list[tuple[int, AlertRecord]]:
    """What pairs made clear whose predictions are all right; one a millisecond."""
    labels = np.array(actual, np.float64)
    return watch.add(labels, labels, start + np.arange(len(labels)))


def test_known_labels_are_no_news() -> None:
    assert told(a_watch(), [0, 1, 1, 0, np.nan]) == []
    assert told(a_watch(binary=False), [0, 1, 5, 9]) == []


def test_labels_that_are_neither_class_are_told_with_what_to_set() -> None:
    ((row, record),) = told(a_watch(by_pane=True), [0, 3, 1, 2, 3])

    assert (row, record.subject.kind, record.begins, record.starts_at) == (1, AlertKind.BLIND, True, 1)
    assert record.summary == "labels c, d are neither yes nor no: set positive:; left out of quality until then"


def test_one_after_the_other_each_new_label_is_told_at_its_pair() -> None:
    found = told(a_watch(), [0, 3, 1, 3, 2])

    assert [(row, record.begins, record.summary.partition(" neither")[0]) for row, record in found] == [
        (1, True, "label d is"), (4, False, "labels c, d are"),
    ]  # fmt: skip


def test_five_labels_are_named_and_no_more() -> None:
    watch = a_watch(by_pane=True)
    ((_, record),) = told(watch, [9, 8, 7, 6, 5, 4, 3])

    assert record.summary.startswith("labels d, e, f, g, h and maybe others are")
    assert told(watch, [2, 2]) == []


def test_labels_past_the_limit_are_told_once_with_the_limit() -> None:
    watch = a_watch(binary=False)
    ((row, record),) = told(watch, [4, SHARED, 5, SHARED])

    assert (row, record.summary.partition(":")[0]) == (1, "more than 7 labels")
    assert "raise limits.labels" in record.summary
    assert told(watch, [SHARED]) == []


def test_it_ends_after_enough_pairs_in_a_row_without() -> None:
    watch = a_watch(binary=False)
    told(watch, [SHARED])
    found = told(watch, [1] * (CALM - 1) + [SHARED] + [1] * CALM + [SHARED], start=1)

    assert [(row, record.ends_at is None) for row, record in found] == [(2 * CALM - 1, False), (2 * CALM, True)]


@given(st.lists(st.sampled_from([0, 1, 2, 3, SHARED, -CALM]), max_size=12), st.lists(st.integers(1, 900), max_size=12))
def test_the_cut_into_batches_and_restarts_change_nothing(kinds: list[float], cuts: list[int]) -> None:
    """-CALM stands for as many pairs of a known label."""
    labels = [label for kind in kinds for label in ([1.0] * CALM if kind == -CALM else [kind])]
    whole = [(row, record) for row, record in told(a_watch(), labels)]

    pieces: list[tuple[int, AlertRecord]] = []
    watch, start = a_watch(), 0
    for size in [*cuts, len(labels)]:
        part = labels[start : start + size]
        pieces += [(start + row, record) for row, record in told(watch, part, start)] if part else []
        start += size
        saved = msgspec.json.decode(msgspec.json.encode(watch.state), type=SavedLabels)
        watch = a_watch()
        watch.restore(saved)

    assert pieces == whole


def test_a_new_episode_names_no_label_of_an_earlier_one() -> None:
    """However its pairs come: the same record, at the same pair."""
    labels = [3.0, *[1.0] * (CALM + 5), 2.0, 3.0]
    whole = [(row, record.summary) for row, record in told(a_watch(), labels)]
    watch, one_by_one = a_watch(), []
    for row, label in enumerate(labels):
        one_by_one += [(row, record.summary) for _, record in told(watch, [label], row)]

    assert whole == one_by_one
    assert [text.partition(" neither")[0] for _, text in whole] == [
        "label d is", "no longer: label d is", "label c is", "labels c, d are",
    ]  # fmt: skip


def test_stored_names_of_an_episode_that_has_ended_are_not_taken_over() -> None:
    """An earlier release kept them."""
    watch = a_watch()
    watch.restore(SavedLabels(names=["old"]))

    ((_, record),) = told(watch, [3])
    assert record.summary.startswith("label d is")
