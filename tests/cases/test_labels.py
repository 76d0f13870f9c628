"""Answers and labels in every spelling: equal where they are equal, told where they cannot be compared."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cases.kit import COUNTED, Event, Replay, answer, configure, label, replay
from tests.in_process import driftd

WITHIN: dict[str, Any] = {"champion": "v1", **COUNTED, "outcomes": {"within": "1d"}}
LOW_RULES: list[dict[str, Any]] = [
    {"name": "recall", "metric": "recall", "below": "50%"},
    {"name": "accuracy", "metric": "accuracy", "below": "50%"},
]
BINARY: dict[str, Any] = {"task": "binary", **WITHIN, "rules": LOW_RULES}


def judged(folder: Path, model: dict[str, Any], pairs: Sequence[tuple[Any, Any]], **sections: Any) -> Replay:
    """A replay of answers with what was right."""
    predictions: list[Event] = [answer(i, value) for i, (value, _) in enumerate(pairs)]
    outcomes: list[Event] = [label(i, actual) for i, (_, actual) in enumerate(pairs)]
    return replay(folder, {"m": model}, predictions, outcomes, **sections)


# -- binary ------------------------------------------------------------------------------------------------

NEITHER: Final = "neither yes nor no: set positive:"
Pair = tuple[Any, Any]  # an answer and its label
EQUAL: Final[Mapping[str, tuple[Pair, Pair]]] = {
    "true": ((1, True), (0, False)),
    "quoted 1": ((1, "1"), (0, "0")),
    "quoted 1.0": ((1, "1.0"), (0, "0.0")),
    "floats": ((1.0, 1), (0.0, 0)),
    "probability and float": ((0.9, 1.0), (0.1, 0.0)),
    "Y": ((0.9, "Y"), (0.1, "N")),
    "t": ((0.9, "t"), (0.1, "f")),
    "TRUE": ((0.9, "TRUE"), (0.1, "FALSE")),
    "blanks": ((0.9, " yes "), (0.1, " no ")),
    "Yes and yes": (("Yes", "yes"), ("No", "no")),
    "true and Yes": ((True, "Yes"), (False, "No")),
    "quoted true and 1.0": (("true", 1.0), ("false", 0.0)),
}
UNKNOWN: Final[Mapping[str, tuple[Pair, Pair]]] = {
    ">50K": ((">50K", ">50K"), ("<=50K", "<=50K")),
    "positive": ((0.9, "positive"), (0.1, "negative")),
    "-1": ((0.9, "1"), (0.1, "-1")),
    "good": (("good", "good"), ("bad", "bad")),
}
NAMED: Final[Mapping[str, tuple[Any, Pair, Pair]]] = {
    ">50K": (">50K", (">50K", ">50K"), ("<=50K", "<=50K")),
    "positive": ("positive", (0.9, "positive"), (0.1, "negative")),
    "2": (2, (2, "2.0"), (1, 1)),
    "quoted 2": ("2", (2.0, 2), (1.0, "1")),
    "bad": ("bad", ("bad", "bad"), ("good", "good")),
    "0": (0, (0, "0.0"), (1, "1.0")),
    "quoted true": ("true", (0.9, "Yes"), (0.1, "No")),
}


@pytest.fixture(scope="module")
def spelt(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """A perfect model of each spelling. Their names are `equal.…`, `unknown.…` and `named.…`."""
    chance = random.Random(6)
    spellings: dict[str, tuple[Any, Pair, Pair]] = {
        **{f"equal.{name}": (None, yes, no) for name, (yes, no) in EQUAL.items()},
        **{f"unknown.{name}": (None, yes, no) for name, (yes, no) in UNKNOWN.items()},
        **{f"named.{name}": spelling for name, spelling in NAMED.items()},
    }
    predictions, outcomes = [], []
    for i in range(600):
        for name, (_, yes, no) in spellings.items():
            given, actual = chance.choice([yes, no, no])
            predictions.append(answer(i, given, model=name))
            outcomes.append(label(i, actual, model=name))
    models = {
        name: BINARY | ({} if positive is None else {"positive": positive})
        for name, (positive, *_) in spellings.items()
    }
    return replay(tmp_path_factory.mktemp("spelt"), models, predictions, outcomes)


@pytest.mark.parametrize("name", [*(f"equal.{name}" for name in EQUAL), *(f"named.{name}" for name in NAMED)])
def test_a_perfect_model_is_perfect_in_every_spelling(spelt: Replay, name: str) -> None:
    assert spelt.values("accuracy", model=name) == {1.0}
    assert spelt.values("recall", model=name) == {1.0}
    assert spelt.alerts(model=name) == []


@pytest.mark.parametrize("name", [f"unknown.{name}" for name in UNKNOWN])
def test_labels_that_are_neither_class_are_told_with_what_to_set(spelt: Replay, name: str) -> None:
    """Not a third class, and no low accuracy of a perfect model."""
    told = spelt.alerts(model=name)

    assert {alert["labels"].get("cause") for alert in told} == {"labels"}
    assert all(NEITHER in alert["summary"] for alert in told)


def test_positive_that_yaml_would_take_for_something_else_is_refused(tmp_path: Path) -> None:
    path = configure(tmp_path, {"m": {**BINARY, "positive": True}})

    told = driftd("check-config", "-c", str(path))

    assert told.code == 78
    assert "models.m.positive: True: YAML reads this as true or false: put it in quotes" in told.err


@pytest.mark.parametrize("first", [0, 200, 700])
def test_a_probability_of_exactly_zero_or_one_is_a_probability(tmp_path: Path, first: int) -> None:
    """A forest of ten trees whose first answers all agree, and what is right has a name."""
    chance = random.Random(3)
    scores = [chance.choice([0.0, 1.0] if i < first else [0.0, 0.1, 0.2, 0.8, 0.9, 1.0]) for i in range(2_000)]
    pairs = [(score, "spam" if score >= 0.5 else "ham") for score in scores]

    replayed = judged(tmp_path, {"task": "binary", "positive": "spam", **WITHIN}, pairs)

    last = {name: replayed.metric(name)[-1] for name in ("accuracy", "recall", "precision", "roc_auc", "brier")}
    assert {name: row["value"] for name, row in last.items() if name != "brier"} == {
        "accuracy": 1.0, "recall": 1.0, "precision": 1.0, "roc_auc": 1.0,
    }  # fmt: skip
    expected = sum((score - (score >= 0.5)) ** 2 for score in scores[-500:]) / 500
    assert last["brier"]["value"] == pytest.approx(expected)
    assert last["brier"]["n"] == 500


# -- many classes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_label", ["art{}".format, int, str])
@pytest.mark.parametrize("labels", [1_000, 100_000])
def test_a_model_of_thousands_of_classes_that_is_always_wrong_is_told(
    tmp_path: Path, as_label: Any, labels: int
) -> None:
    """Past the limit labels are not known; they never count as right."""
    chance = random.Random(12)
    pairs = []
    for _ in range(3_000):
        picked = chance.randrange(4_000)
        bought = (picked + 1 + chance.randrange(3_998)) % 4_000
        pairs.append((as_label(picked), as_label(bought)))
    rules = [{"name": "acc", "metric": "accuracy", "below": "20%", "hard": True}]

    replayed = judged(tmp_path, {"task": "multiclass", **WITHIN, "rules": rules}, pairs, limits={"labels": labels})

    assert replayed.values("accuracy") == {0.0}
    assert replayed.alerts("metric")[0]["rule"] == "acc"
    assert ("limits.labels" in replayed.summaries("blind")) == (labels < 4_000)


@pytest.mark.parametrize("spelt", [(str, int), (int, float), (float, "{}.0".format), (str, str)])
def test_a_perfect_model_of_many_classes_is_perfect_however_labels_are_spelt(
    tmp_path: Path, spelt: tuple[Any, Any]
) -> None:
    chance = random.Random(13)
    codes = [chance.randrange(10_000, 12_000) for _ in range(1_500)]

    replayed = judged(tmp_path, {"task": "multiclass", **WITHIN}, [(spelt[0](c), spelt[1](c)) for c in codes])

    assert replayed.values("accuracy") == {1.0}
    assert replayed.alerts() == []


# -- at the edges of what can be judged --------------------------------------------------------------------


def rare(positives: float, count: int, seed: int) -> list[tuple[float, int]]:
    """A steady model that finds about half of what is rare."""
    chance = random.Random(seed)
    pairs = []
    for _ in range(count):
        actual = chance.random() < positives
        pairs.append((chance.uniform(0.3, 0.9) if actual else chance.uniform(0.01, 0.45), int(actual)))
    return pairs


@pytest.mark.parametrize("seed", [18, 19])
def test_a_handful_of_positives_is_no_evidence(tmp_path: Path, seed: int) -> None:
    rules = [
        {"name": "recall", "metric": "recall", "drop": "10 points"},
        {"name": "auc", "metric": "roc_auc", "drop": "10 points"},
        {"name": "low", "metric": "recall", "below": "50%"},
        {"name": "precision", "metric": "precision", "drop": "10 points"},
    ]

    replayed = judged(tmp_path, {"task": "binary", **WITHIN, "rules": rules}, rare(0.002, 6_000, seed))

    assert replayed.alerts("metric") == []
    assert all(row["n"] <= 10 for row in replayed.metric("recall"))  # it counts the rare thing


@pytest.mark.parametrize("actual", [0, 1])
def test_a_rule_about_two_classes_is_told_when_there_is_one(tmp_path: Path, actual: int) -> None:
    """Neither fires nor is taken for met."""
    chance = random.Random(21)
    rules = [{"name": "auc", "metric": "roc_auc", "below": "70%"}]
    pairs = [(chance.uniform(0.01, 0.4) + actual / 2, actual) for _ in range(6_000)]

    replayed = judged(tmp_path, {"task": "binary", **WITHIN, "rules": rules}, pairs)

    assert replayed.kinds() == {"blind"}
    assert "auc" in replayed.summaries("blind")
    assert replayed.metric("roc_auc") == []
    assert replayed.values("accuracy") == {1.0}


def test_a_constant_answer_has_an_auc_of_a_half(tmp_path: Path) -> None:
    chance = random.Random(22)

    replayed = judged(tmp_path, {"task": "binary", **WITHIN}, [(0.3, int(chance.random() < 0.3)) for _ in range(1_500)])

    assert replayed.values("roc_auc") == {0.5}
    assert replayed.values("sharpness") == {0.0}
    assert replayed.alerts() == []


def test_metrics_that_are_undefined_are_told_and_not_zero(tmp_path: Path) -> None:
    """Every actual is 0: there is no percentage of it, and nothing of its variance to explain."""
    chance = random.Random(23)
    rules = [
        {"name": "mape", "metric": "mape", "above": "10%"},
        {"name": "r2", "metric": "r2", "below": "50%"},
    ]

    replayed = judged(
        tmp_path, {"task": "regression", **WITHIN, "rules": rules}, [(chance.gauss(0, 1), 0) for _ in range(6_000)]
    )

    assert replayed.kinds() == {"blind"}
    assert replayed.metric("mape") == replayed.metric("r2") == []
    assert "mape" in replayed.summaries("blind")
    assert "r2" in replayed.summaries("blind")


def test_a_percentage_error_is_over_the_actuals_that_are_not_zero(tmp_path: Path) -> None:
    chance = random.Random(24)
    actuals = [10 * (i % 2) for i in range(1_000)]
    model = {"task": "regression", **WITHIN, "champion": 'v "q" x'}
    predictions = [answer(i, a + chance.choice([-1, 1]), version='v "q" x') for i, a in enumerate(actuals)]

    replayed = replay(tmp_path, {"m": model}, predictions, [label(i, a) for i, a in enumerate(actuals)])

    assert replayed.values("mape") == {0.1}
    assert {row["n"] for row in replayed.metric("mape")} == {250}
    assert replayed.values("mae") == {1.0}
