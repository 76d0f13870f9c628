"""Columns of a table are answers, actual values and times by configuration or by their names; others are features."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.reference import NumericReference
from monitor.errors import InputFileError
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec
from monitor.spec import FeatureKind, Task
from tests.monitor.reference.profiles import profile_of

FORMS = ["t.csv", "t.jsonl", "t.parquet"]
T = 1_795_253_400_000
# Features are called as answers, actual values and times are; these have names of the user's own.
ROWS: list[dict[str, Any]] = [
    {
        "score": 600 + i, "prediction": i % 3, "actual": i % 5, "time": i % 86_400,
        "y_hat": ("no", "yes")[i % 2], "p": 0.2 + 0.6 * (i % 2), "y": ("no", "yes")[i % 2], "asked": T + 1_000 * i,
    }
    for i in range(50)
]  # fmt: skip
COLUMNS = {"prediction": "y_hat", "score": "p", "actual": "y", "time": "asked"}


@pytest.mark.parametrize("form", FORMS)
def test_columns_that_are_named_are_taken_and_ours_are_features_then(tmp_path: Path, form: str) -> None:
    """Nothing is guessed, so there is nothing to say."""
    profile = profile_of(tmp_path, ROWS, TableSpec(Task.BINARY, columns=COLUMNS), form)

    assert [f.name for f in profile.features] == ["score", "prediction", "actual", "time"]
    assert all(isinstance(f, NumericReference) for f in profile.features)
    assert [f.name for f in profile.answers] == ["prediction", "score"]
    assert profile.baselines["accuracy"].value == 1.0
    assert profile.baselines["brier"].value == pytest.approx(0.04)
    assert (profile.first_ms, profile.ordered, profile.notices) == (T, True, ())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "spec",
    [
        TableSpec(Task.BINARY, columns=dict.fromkeys(COLUMNS)),
        TableSpec(
            Task.BINARY,
            kinds=dict.fromkeys(("features.score", "features.prediction", "actual", "time"), FeatureKind.NUMERIC),
        ),
    ],
    ids=["null", "declared"],
)
def test_what_is_said_to_be_a_feature_is_one(tmp_path: Path, spec: TableSpec, form: str) -> None:
    """By null for the column, or by its kind under `features:`."""
    rows = [{name: row[name] for name in ("score", "prediction", "actual", "time")} for row in ROWS]
    profile = profile_of(tmp_path, rows, spec, form)

    assert [f.name for f in profile.features] == ["score", "prediction", "actual", "time"]
    assert (profile.answers, profile.first_ms) == ((), None)
    assert [notice[:14] for notice in profile.notices] == ["no time column"]


@pytest.mark.parametrize("form", FORMS)
def test_where_nothing_is_said_columns_are_what_they_are_called_and_that_is_told(tmp_path: Path, form: str) -> None:
    """As in 0.1.0."""
    rows = [{"x": i, "prediction": "yes", "score": 0.7, "actual": "yes", "time": T + i} for i in range(9)]
    profile = profile_of(tmp_path, rows, TableSpec(Task.BINARY), form)

    assert [f.name for f in profile.features] == ["x"]
    assert [f.name for f in profile.answers] == ["prediction", "score"]
    assert "brier" in profile.baselines
    (notice,) = profile.notices
    assert notice.startswith("prediction, score, actual: taken for the model's answers and the actual values")
    assert "reference.columns" in notice


@pytest.mark.parametrize("form", FORMS)
def test_a_regression_has_no_scores_so_the_score_is_a_feature(tmp_path: Path, form: str) -> None:
    """And that is told."""
    profile = profile_of(tmp_path, [{"score": 600 + i} for i in range(9)], TableSpec(Task.REGRESSION), form)

    assert [f.name for f in profile.features] == ["score"]
    assert "score: taken for a feature, since a regression has no scores" in profile.notices


def test_an_answer_may_have_the_column_that_is_called_like_another_one(tmp_path: Path) -> None:
    """Then it is that, and no score."""
    profile = profile_of(
        tmp_path, [{"score": 0.7, "x": 1}] * 9, TableSpec(Task.BINARY, columns={"prediction": "score"})
    )

    assert [f.name for f in profile.features] == ["x"]
    assert [f.name for f in profile.answers] == ["prediction"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("role", COLUMNS)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, form: str, role: str) -> None:
    with pytest.raises(InputFileError) as found:
        profile_of(tmp_path, [{"x": 1, "yhat": 2}], TableSpec(Task.BINARY, columns={role: "y_hat"}), form)

    assert found.value.path.endswith(form)
    assert f"has no column 'y_hat', named for the {role}" in found.value.detail
    assert found.value.detail.endswith("it has 'x', 'yhat'")


def test_a_column_cannot_be_two_things(tmp_path: Path) -> None:
    spec = TableSpec(Task.BINARY, columns={"prediction": "p", "score": "p"})
    with pytest.raises(InputFileError, match="'p' is named for the score and for the prediction"):
        profile_of(tmp_path, [{"p": 0.5}], spec)


def test_a_column_that_holds_neither_numbers_nor_texts_is_no_answer(tmp_path: Path) -> None:
    spec = TableSpec(Task.BINARY, columns={"score": "p"})
    with pytest.raises(InputFileError, match=r"'p', named for the score .* is neither a number nor a text"):
        profile_of(tmp_path, [{"p": [0.5], "x": 1}], spec)


def test_times_may_be_of_any_type_whatever_their_column_is_called(tmp_path: Path) -> None:
    """Timestamps are no feature, and the one column of them that is used is no reason for a notice."""
    times = [datetime(2026, 11, 21, tzinfo=UTC) + timedelta(minutes=i) for i in range(3)]
    pq.write_table(pa.table({"asked": times, "time": [5, 6, 7]}), tmp_path / "t.parquet")
    profile = load(tmp_path / "t.parquet", TableSpec(columns={"time": "asked"}))

    assert [f.name for f in profile.features] == ["time"]
    assert (profile.ordered, profile.notices) == (True, ())


def test_leading_zeros_of_a_declared_prediction_stay(tmp_path: Path) -> None:
    """`prediction` under `features:` is the model's own, whatever its column is called."""
    (tmp_path / "t.csv").write_text("code,x\n01,1\n1,2\n", encoding="utf-8")
    spec = TableSpec(
        Task.MULTICLASS, kinds={"prediction": FeatureKind.CATEGORICAL}, columns={"prediction": "code"}
    )  # fmt: skip
    (answer,) = load(tmp_path / "t.csv", spec).answers

    assert getattr(answer, "categories", None) == ("01", "1")


def test_an_answer_that_is_ignored_is_not_compared(tmp_path: Path) -> None:
    """`features: {score: ignore}`; the quality of the table is known all the same."""
    spec = TableSpec(Task.BINARY, kinds={"score": FeatureKind.IGNORE})
    rows = [{"x": 1, "prediction": "yes", "actual": "yes", "score": 0.9}] * 9
    profile = profile_of(tmp_path, rows, spec)

    assert [f.name for f in profile.answers] == ["prediction"]
    assert "brier" in profile.baselines
