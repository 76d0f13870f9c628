"""car loan: four features and the score change at row 25 000 of 50 000, the other three never do.

Drift: window 1 000/100, 1 alarm per 1 000 000 events. Values per chunk of 5 000 against published ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.times import parse_time
from tests.acceptance.recording import Replayed, replay, rows_of, write_table, write_topic

CHANGE, LATEST = 25_000, 27_500
DRIFTED = ("car_value", "salary_range", "repaid_loan_on_prev_car", "loan_length", "score")
STABLE = ("debt_to_income_ratio", "size_of_downpayment", "driver_tenure")
NUMERIC = ("car_value", "debt_to_income_ratio", "loan_length", "driver_tenure")
RENAMED = {"y_pred": "prediction", "y_pred_proba": "score", "repaid": "actual", "timestamp": "time"}
DELAY = 200  # rows after which an outcome arrives
CONFIG = """\
stream: {url: "file:./stream", events: [predictions, outcomes]}
store: {url: "sqlite:///driftd.db", retention: 3650d}
models:
  car_loan:
    task: binary
    champion: v1
    reference: reference.csv
    window: WINDOW
    drift: {false_alarms: 1 per 1000000 events}
    outcomes: {within: 30d}
"""


def folder_with_data(data: Path, folder: Path) -> Path:
    source = data / "nannyml_car_loan"
    reference = rows_of(source / "reference.csv.gz")
    names = list(reference[0])
    write_table(
        folder / "reference.csv", [RENAMED.get(n, n) for n in names], ([r[n] for n in names] for r in reference)
    )
    analysis = rows_of(source / "analysis.csv.gz")
    actual = {r["id"]: r["repaid"] for r in rows_of(source / "analysis_target.csv.gz")}
    write_topic(folder / "stream", "predictions", map(prediction, analysis))
    write_topic(folder / "stream", "outcomes", outcomes(analysis, actual))
    return folder


def prediction(row: dict[str, str]) -> dict[str, Any]:
    skipped = ("id", "timestamp", "y_pred_proba", "y_pred")
    features = {k: float(v) if k in NUMERIC else v for k, v in row.items() if k not in skipped and v != ""}
    return {
        "type": "prediction", "request_id": row["id"], "time": time_of(row), "model": "car_loan", "version": "v1",
        "features": features, "prediction": int(row["y_pred"]), "scores": {"1": float(row["y_pred_proba"])},
    }  # fmt: skip


def outcomes(rows: list[dict[str, str]], actual: dict[str, str]) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(rows):
        at = time_of(rows[min(i + DELAY, len(rows) - 1)])
        yield {
            "type": "outcome", "request_id": row["id"], "time": at, "model": "car_loan",
            "actual": int(actual[row["id"]]),
        }  # fmt: skip


def time_of(row: dict[str, str]) -> str:
    return row["timestamp"].replace(" ", "T") + "Z"


@pytest.fixture(scope="module")
def row_of(data: Path) -> dict[int, int]:
    """Time → row of the analysis table."""
    rows = rows_of(data / "nannyml_car_loan" / "analysis.csv.gz")
    return {parse_time(time_of(r)): i for i, r in enumerate(rows)}


@pytest.fixture(scope="module")
def sliding(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = folder_with_data(data, tmp_path_factory.mktemp("sliding"))
    return replay(folder, CONFIG.replace("WINDOW", "{events: 1000, every: 100}"))


@pytest.fixture(scope="module")
def chunks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = folder_with_data(data, tmp_path_factory.mktemp("chunks"))
    return replay(folder, CONFIG.replace("WINDOW", "{events: 5000, every: 5000}"))


@pytest.mark.parametrize("name", DRIFTED)
def test_what_drifted_is_named_in_time(sliding: Replayed, row_of: dict[int, int], name: str) -> None:
    named = [
        row_of[parse_time(a["issued_at"])]
        for a in sliding.of_kind("drift")
        if a["status"] == "firing" and name in {f["name"] for f in a["features"]}
    ]
    assert named, f"{name} is in no alert"
    assert CHANGE <= min(named) <= LATEST


@pytest.mark.parametrize("name", STABLE)
def test_what_is_stable_is_never_named(sliding: Replayed, name: str) -> None:
    assert not [a for a in sliding.alerts if name in {f["name"] for f in a["features"]}]


def test_nothing_alarms_before_the_change(sliding: Replayed, row_of: dict[int, int]) -> None:
    assert min(row_of[parse_time(a["starts_at"])] for a in sliding.alerts) >= CHANGE


def test_everything_is_joined(sliding: Replayed) -> None:
    assert sliding.summary["join"]["joined"] == 50_000
    assert sliding.summary["events"]["dead_letters"] == 0


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy"])
def test_values_per_chunk_equal_the_published_ones(chunks: Replayed, data: Path, metric: str) -> None:
    meta = json.loads((data / "nannyml_car_loan" / "meta.json").read_text(encoding="utf-8"))
    rows = chunks.history("car_loan", "--metric", metric)
    published = meta["published"][f"realized_{metric}"]
    assert [r["value"] for r in rows] == pytest.approx(published, abs=1e-6)
    assert {r["coverage"] for r in rows} == {1.0}
    rarer = metric == "roc_auc"  # n is what a metric is over: of this one the answers of the rarer class
    assert all(0 < r["n"] <= 2_500 if rarer else r["n"] == 5_000 for r in rows)
