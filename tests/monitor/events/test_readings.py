"""What labels and numbers of a binary task mean."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from monitor.events.codes import Labels
from monitor.events.columns import Events
from monitor.events.readings import (
    DOUBTFUL,
    NEGATIVE,
    POSITIVE,
    Readings,
    any_probability,
    class_of,
    is_doubtful,
    plain_label,
)
from monitor.spec import AnswerReading, Task
from tests.monitor.kit import T0, Run, a_core, a_model, batch_of, prediction, records_of


@pytest.mark.parametrize("yes", ["1", "true", "t", "T", "yes", "Yes", "y", "Y", " yes "])
@pytest.mark.parametrize("no", ["0", "false", "f", "F", "no", "No", "n", "N"])
def test_all_spellings_of_yes_and_no_are_known(yes: str, no: str) -> None:
    assert (class_of(yes, None), class_of(no, None)) == (POSITIVE, NEGATIVE)


@pytest.mark.parametrize("text", ["spam", ">50K", "2", "-1", ""])
def test_another_label_is_neither_class(text: str) -> None:
    assert class_of(text, None) is None


@pytest.mark.parametrize(
    ("positive", "text", "found"),
    [
        ("spam", "spam", POSITIVE), ("spam", "ham", NEGATIVE), ("spam", "yes", NEGATIVE), ("1", "true", POSITIVE),
        ("1", "Y", POSITIVE), ("1", "f", NEGATIVE), ("no", "false", POSITIVE), ("no", "true", NEGATIVE),
        ("0", "0", POSITIVE), ("0", "1", NEGATIVE), ("2", "2", POSITIVE), ("2", "1", NEGATIVE),
    ],
)  # fmt: skip
def test_spellings_of_the_configured_class_are_equal(positive: str, text: str, found: int) -> None:
    assert class_of(text, positive) == found


@pytest.mark.parametrize(
    ("text", "plain"), [("1.0", "1"), ("-3.00", "-3"), ("10.0", "10"), ("1.5", "1.5"), ("v1.0", "v1.0"), ("1.", "1.")]
)
def test_a_whole_number_with_decimals_is_the_whole_number(text: str, plain: str) -> None:
    assert plain_label(text) == plain


@pytest.mark.parametrize("binary", [True, False])
def test_a_text_of_a_whole_number_is_the_label_of_that_number(binary: bool) -> None:
    """A column of ints with a gap is written as floats by many tools."""
    labels = Labels("m", 10, binary=binary, positive=None)

    assert labels.code("1.0") == labels.code(1) == labels.code("1") == labels.find("1.0")


@pytest.mark.parametrize(
    ("positive", "labels"),
    [
        (None, (NEGATIVE, POSITIVE)), ("1", (NEGATIVE, POSITIVE)), ("spam", (NEGATIVE, POSITIVE)),
        ("0", (POSITIVE, NEGATIVE)), ("no", (POSITIVE, NEGATIVE)), ("2", (NEGATIVE, NEGATIVE)),
    ],
)  # fmt: skip
def test_the_numbers_0_and_1_as_labels_and_as_probabilities(positive: str | None, labels: tuple[int, int]) -> None:
    """A number names no class where the positive class is a word."""
    readings = Readings.of(positive, 0.5)

    assert readings.labels == labels
    assert readings.probabilities == (NEGATIVE, POSITIVE)


def test_reading_changes_doubtful_answers_and_no_others() -> None:
    value, score = np.array([1.0, 0.0, 1.0, 1.0]), np.array([DOUBTFUL, DOUBTFUL + 1, 0.25, np.nan])
    readings = Readings.of("0", 0.2)

    assert is_doubtful(score).tolist() == [True, True, False, False]
    assert any_probability(score)
    assert not any_probability(score[:2])
    as_labels, as_probabilities = (readings.read(value, score, probabilities=p) for p in (False, True))
    np.testing.assert_array_equal(as_labels, [value, [np.nan, np.nan, 0.25, np.nan]])
    np.testing.assert_array_equal(as_probabilities, [[0, 1, 1, 1], [0, 1, 0.25, np.nan]])


# -- decoding --------------------------------------------------------------------------------------------


def decoded(answers: AnswerReading, *fields: dict[str, Any], positive: str | None = None) -> Events:
    core = a_core(a_model(task=Task.BINARY, positive=positive, answers=answers))
    events = [json.loads(json.dumps(prediction(f"r{i}", T0 + i, **its))) for i, its in enumerate(fields)]
    found = Run(core).pipeline.decoder.decode(batch_of(records_of(events)), T0 + 100)
    assert not found.refused
    return found.events


ANSWERS = ({"value": 0}, {"value": 1.0}, {"value": 0.25}, {"value": "1"}, {"value": True}, {"value": 1.0000004})


def test_answers_of_exactly_0_and_1_are_doubtful_and_texts_are_not() -> None:
    events = decoded(AnswerReading.AUTO, *ANSWERS)

    np.testing.assert_array_equal(events.score, [DOUBTFUL, DOUBTFUL + 1, 0.25, np.nan, np.nan, 1.0])
    np.testing.assert_array_equal(events.probability, [np.nan, np.nan, 0.25, np.nan, np.nan, 1.0])
    assert events.value.tolist() == [0, 1, 0, 1, 1, 1]


def test_probabilities_by_configuration_are_never_doubtful() -> None:
    events = decoded(AnswerReading.PROBABILITY, *ANSWERS, positive="spam")

    np.testing.assert_array_equal(events.score, [0, 1, 0.25, np.nan, np.nan, 1.0])
    assert events.value[:3].tolist() == [0, 1, 0]


def test_labels_by_configuration_have_no_probability() -> None:
    events = decoded(AnswerReading.LABEL, *ANSWERS[:2], {"value": 2, "scores": {"1": 0.75}})

    np.testing.assert_array_equal(events.score, [np.nan, np.nan, 0.75])
    assert events.value[:2].tolist() == [0, 1]
    assert events.value[2] > POSITIVE


def test_a_number_beside_scores_is_a_label() -> None:
    events = decoded(AnswerReading.AUTO, {"value": 1, "scores": {"1": 1.0}}, {"value": 0, "scores": {"0": 0.7}})

    np.testing.assert_allclose(events.score, [1.0, 0.3])
    assert events.value.tolist() == [1, 0]
