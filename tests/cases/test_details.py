"""One record of each kind of writing that producers have: a detail costs a field, and what makes no sense the event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cases.kit import Event, Replay, answer, label, replay

WITHIN: Final = {"champion": "v1", "outcomes": {"within": "1d"}}
MODELS: Final = {
    "price": {"task": "regression", **WITHIN},
    "spam": {"task": "binary", **WITHIN},
    "kind": {"task": "multiclass", **WITHIN},
}
KEPT: Final[Mapping[str, dict[str, Any]]] = {
    "nothing odd": {},
    "a latency below nought": {"latency_ms": -0.4},
    "a latency as text": {"latency_ms": "12.5"},
    "a probability rounded above one": {"model": "spam", "prediction": 1.0000001192092896},
    "a probability rounded below nought": {"model": "spam", "prediction": -1e-7},
    "a score rounded above one": {"model": "spam", "prediction": 1, "scores": {"1": 1.0000001192092896}},
    "scores as a list": {"model": "kind", "prediction": 2, "scores": [0.1, 0.2, 0.7]},
    "a score of null": {"model": "kind", "prediction": "a", "scores": {"a": 0.9, "b": None}},
    "a probability as text": {"model": "spam", "prediction": "yes"},
    "a request of digits": {"request_id": 12_345},
    "a segment of digits": {"segment": 3},
    "a failed request": {"error": "", "prediction": None},
    "an object in a feature": {"features": {"user": {"age": 41}}},
    "a list in a feature": {"features": {"embedding": [0.1, 0.2]}},
    "features as a list": {"features": [1, 2, 3]},
    "no features": {"features": None},
    "an identifier beyond 2^53": {"features": {"user": 2**60}},
    "a metric as text": {"metrics": {"cost": "0.1"}},
    "an emoji and a mark of direction": {"request_id": "ü😀\u202e"},
    "a field of one's own": {"shap": [1, {"x": None}]},
}
REFUSED: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    "a number as text": ({"prediction": "3.14"}, "a regression needs a number, not text"),
    "a list": ({"prediction": [0.1, 0.9]}, "not a list"),
    "an object": ({"prediction": {"yes": 0.9}}, "not an object"),
    "several labels": ({"model": "kind", "prediction": ["a", "b"]}, "not a list"),
    "a version of digits": ({"version": 3}, "version: 3: text is needed"),
    "a type in capitals": ({"type": "Prediction"}, "one of prediction, outcome, resources is needed"),
    "no answer": ({"prediction": None}, "prediction: is needed"),
}
WRITTEN: Final[Mapping[str, tuple[str, str, str]]] = {
    "NaN in a feature": ('"x": 1.0', '"x": NaN', "NaN: is not a JSON number"),
    "infinity in a feature": ('"x": 1.0', '"x": -Infinity', "-Infinity: is not a JSON number"),
    "NaN in a field of one's own": ('"x": 1.0}', '"x": 1.0}, "shap": [NaN]', "NaN: is not a JSON number"),
    "a mark of the order of bytes": ('{"type"', '\ufeff{"type"', "BOM"),
    "single quotes": ('"', "'", "double quotes"),
    "two events on a line": ('"x": 1.0}}', '"x": 1.0}}{}', "Extra data"),
    "a list of events": ('{"type"', '[{"type"', ""),
}


def one(**changed: Any) -> Event:
    """A prediction with something changed; what is None is left out."""
    event = {**answer(1, 1.0, {"x": 1.0}, model="price"), **changed}
    return {name: value for name, value in event.items() if value is not None or name == "features"}


def replayed(folder: Path, *events: Event | str) -> Replay:
    return replay(folder, MODELS, events)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Each of what is kept, in a request of its own."""
    events = [
        one(**{"request_id": f"k{number}"} | changed, time=answer(number, 0)["time"])
        for number, changed in enumerate(KEPT.values())
    ]
    return replay(tmp_path_factory.mktemp("kept"), MODELS, events)


def test_a_detail_does_not_cost_the_event(kept: Replay) -> None:
    assert kept.refused() == []
    assert kept.events["predictions"] == len(KEPT)


def test_what_cannot_be_used_is_counted_by_field_and_reason(kept: Replay) -> None:
    assert kept.status["unusable"] == {
        "kind": {"scores": {"wrong_type": 1}},
        "price": {
            "features": {"wrong_type": 1},
            "features.embedding": {"wrong_type": 1},
            "features.user": {"integer_too_large": 1, "wrong_type": 1},
            "latency_ms": {"bad_value": 1, "wrong_type": 1},
            "metrics.cost": {"wrong_type": 1},
            "segment": {"wrong_type": 1},
        },
    }


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_field_and_the_value(tmp_path: Path, what: str) -> None:
    changed, why = REFUSED[what]

    (letter,) = replayed(tmp_path, one(**changed)).refused()

    assert why in letter["detail"]


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_no_json_is_refused_with_the_place(tmp_path: Path, what: str) -> None:
    before, after, why = WRITTEN[what]
    text = json.dumps(one())
    assert before in text
    line = text.replace(before, after) + ("]" if after.startswith("[") else "")

    (letter,) = replayed(tmp_path, line).refused()

    assert why in letter["detail"]


@pytest.mark.parametrize("number", ["1e400", "-1e999", "9" * 400])
def test_a_number_beyond_floats_is_missing_and_told(tmp_path: Path, number: str) -> None:
    found = replayed(tmp_path, json.dumps(one()).replace('"x": 1.0', f'"x": {number}'))

    assert found.events["predictions"] == 1
    assert list(found.status["unusable"]["price"]) == ["features.x"]


@pytest.mark.parametrize("actual", [True, None, [1], "3.5", {"value": 1}])
def test_an_outcome_without_a_usable_actual_is_refused(tmp_path: Path, actual: Any) -> None:
    found = replay(tmp_path, MODELS, [one()], [label(1, actual, model="price")])

    (letter,) = found.refused()
    assert letter["detail"].startswith("actual: ")
