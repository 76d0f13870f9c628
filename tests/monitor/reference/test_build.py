"""Building of references: the profile of a table is a recount of its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.reference import CategoricalReference, NumericReference, Profile
from monitor.reference.build import build, load
from monitor.reference.table_roles import TableSpec
from monitor.spec import AnswerReading, FeatureKind, Task
from tests.monitor.reference.profiles import PLAIN, Rows, categorical, counts, numeric, profile_of

UNORDERED = "no time column: the order of the rows is taken for the order of time, which is an assumption"


# -- counts ----------------------------------------------------------------------------------------------

values = st.none() | st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
texts = st.none() | st.sampled_from(["gas", "oil", "wood", "True", "7"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(values, texts), min_size=1, max_size=60), st.sampled_from(["t.jsonl", "t.parquet"]))
def test_a_profile_is_a_recount_of_its_rows(tmp_path: Path, rows: list[tuple[Any, Any]], form: str) -> None:
    """Where there are no more rows than points, every value is kept with its multiplicity."""
    present = [float(x) for x, _ in rows if x is not None]
    categories = [{"True": "true"}.get(t, t) for _, t in rows if t is not None]
    table = [{"x": None if x is None else float(x), "t": t} for x, t in rows]
    if not categories:
        return  # nothing but gaps: of no type
    profile = profile_of(tmp_path, table, name=form)

    x, t = numeric(profile, "x"), categorical(profile, "t")
    distinct, multiplicity = np.unique(np.array(present), return_counts=True)
    assert (x.points.tolist(), x.weights.tolist()) == (distinct.tolist(), multiplicity.tolist())
    assert (x.rows, x.missing, x.ks_error) == (len(present), len(rows) - len(present), 0.0)
    assert counts(t) == {level: categories.count(level) for level in set(categories)}
    assert (t.rows, t.missing, t.other) == (len(categories), len(rows) - len(categories), 0)


def test_many_rows_are_thinned_within_the_stated_error(tmp_path: Path) -> None:
    """No quantile of the kept points is further off than that."""
    rng = np.random.default_rng(1)
    raw = np.sort(rng.gamma(2.0, size=50_000))
    pq.write_table(pa.table({"x": rng.permutation(raw)}), tmp_path / "t.parquet")
    x = numeric(load(tmp_path / "t.parquet", TableSpec(points=256)), "x")

    ours = np.cumsum(x.weights) / x.weights.sum()
    at = np.concatenate([x.points, raw])
    gap = np.abs(
        np.concatenate([[0.0], ours])[np.searchsorted(x.points, at, "right")]
        - np.searchsorted(raw, at, "right") / len(raw)
    ).max()
    assert len(x.points) <= 256
    assert x.rows == 50_000
    assert gap <= x.ks_error < 0.003


def test_a_constant_column_one_row_and_a_column_of_gaps(tmp_path: Path) -> None:
    """Each is a reference, if a poor one."""
    constant = numeric(profile_of(tmp_path, [{"x": 5}] * 50), "x")
    (alone,) = profile_of(tmp_path, [{"x": 5}]).features
    gaps = [
        numeric(profile_of(tmp_path, [{"x": None, "y": 1}] * 3, name=form), "x")
        for form in ("t.csv", "t.jsonl", "t.parquet")
    ]

    assert constant.sd == 0.0
    assert (constant.points.tolist(), constant.weights.tolist()) == ([5.0], [50])
    assert (alone.rows, alone.missing) == (1, 0)
    assert [(x.rows, x.missing, len(x.points)) for x in gaps] == [(0, 3, 0)] * 3


@pytest.mark.parametrize("gap", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
def test_what_stands_for_a_gap_in_csv(tmp_path: Path, gap: str) -> None:
    """Among numbers. Among texts only an empty field is one: a region may be NA, a cladding None."""
    (tmp_path / "t.csv").write_text(f"x,t\n1,a\n{gap},{gap}\n2,b\n", encoding="utf-8")
    profile = load(tmp_path / "t.csv", PLAIN)

    assert [(f.rows, f.missing) for f in profile.features] == [(2, 1), (2, 1) if not gap else (3, 0)]
    assert any(f"t: '{gap}' is taken for a text" in notice for notice in profile.notices) == bool(gap)


def test_infinite_values_are_missing(tmp_path: Path) -> None:
    """As they would be refused in an event; and no metric is made of them."""
    (tmp_path / "t.csv").write_text("x,prediction,actual\n1,1,1.5\ninf,inf,1\n-inf,2,-inf\n", encoding="utf-8")
    profile = load(tmp_path / "t.csv", TableSpec(Task.REGRESSION))

    assert (numeric(profile, "x").rows, numeric(profile, "x").missing) == (1, 2)
    assert (profile.baselines["mae"].value, profile.baselines["mae"].n) == (0.5, 1)
    assert Profile.from_bytes(profile.to_bytes()).baselines == profile.baselines


# -- types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet"])
def test_numbers_are_numeric_texts_and_booleans_are_categorical(tmp_path: Path, form: str) -> None:
    """As in events."""
    rows = [{"i": 1, "f": 1.5, "t": "a", "b": True}, {"i": 2, "f": 2.5, "t": "b", "b": False}]
    profile = profile_of(tmp_path, rows, name=form)

    assert [type(f) for f in profile.features] == [
        NumericReference, NumericReference, CategoricalReference, CategoricalReference,
    ]  # fmt: skip
    assert counts(categorical(profile, "b")) == {"false": 1, "true": 1}


@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet"])
def test_the_configuration_may_know_better(tmp_path: Path, form: str) -> None:
    """`features: {zip: categorical, note: ignore}`; whole numbers are texts without a fraction."""
    rows: Rows = [{"zip": 10115.0, "note": "a", "x": 1}, {"zip": None, "note": "b", "x": 2}, {"zip": 1234.0, "x": 3}]
    kinds = {"zip": FeatureKind.CATEGORICAL, "note": FeatureKind.IGNORE}
    profile = profile_of(tmp_path, rows, TableSpec(kinds=kinds), form)

    assert [f.name for f in profile.features] == ["zip", "x"]
    assert counts(categorical(profile, "zip")) == {"10115": 1, "1234": 1}


def test_leading_zeros_of_a_category_stay(tmp_path: Path) -> None:
    """01234 is a postal code, and 1234 is another."""
    (tmp_path / "t.csv").write_text("zip\n01234\n1234\n", encoding="utf-8")
    profile = load(tmp_path / "t.csv", TableSpec(kinds={"zip": FeatureKind.CATEGORICAL}))

    assert counts(categorical(profile, "zip")) == {"01234": 1, "1234": 1}


def test_a_text_in_a_column_that_is_declared_numeric_is_missing(tmp_path: Path) -> None:
    """As it is in an event of that kind."""
    (tmp_path / "t.csv").write_text("x\nn.a.\n1\n2.5\n", encoding="utf-8")
    spec = TableSpec(kinds={"x": FeatureKind.NUMERIC})

    from_csv = numeric(load(tmp_path / "t.csv", spec), "x")
    from_json = numeric(profile_of(tmp_path, [{"x": "n.a."}, {"x": 1}, {"x": 2.5}], spec), "x")

    assert from_csv.points.tolist() == from_json.points.tolist() == [1.0, 2.5]
    assert (from_csv.missing, from_json.missing) == (1, 1)


def test_whole_numbers_may_turn_into_fractions_and_gaps_further_down(tmp_path: Path) -> None:
    """A type is not what the first block happens to have."""
    (tmp_path / "t.csv").write_text("x,y\n" + "1,2\n" * 10 + "1.5,\n", encoding="utf-8")
    profile = load(tmp_path / "t.csv", PLAIN)

    assert numeric(profile, "x").points.tolist() == [1.0, 1.5]
    assert numeric(profile, "y").missing == 1


def test_parquet_of_many_types(tmp_path: Path) -> None:
    """Whatever a data frame may have: dictionaries, decimals, small floats, names with dots."""
    from decimal import Decimal

    table = pa.table(
        {
            "dictionary": pa.array(["x", "y"]).dictionary_encode(),
            "numbers": pa.array([1, 2]).dictionary_encode(),
            "decimal": pa.array([Decimal("1.50"), None]),
            "half": pa.array([1, 2], pa.float16()),
            "large": pa.array(["x", None], pa.large_string()),
            "user.age": pa.array([1, 2], pa.uint8()),
            "when": pa.array([0, 1], pa.timestamp("s")),
            "list": pa.array([[1], [2]]),
            "bytes": pa.array([b"x", b"y"]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    profile = load(tmp_path / "t.parquet", PLAIN)

    assert {f.name: (isinstance(f, NumericReference), f.rows) for f in profile.features} == {
        "dictionary": (False, 2), "numbers": (False, 2), "decimal": (True, 1), "half": (True, 2), "large": (False, 1),
        "user.age": (True, 2),
    }  # fmt: skip
    assert [notice.partition(":")[0] for notice in profile.notices[:3]] == ["when", "list", "bytes"]


def test_columns_of_no_use_are_ignored_with_a_notice(tmp_path: Path) -> None:
    """Lists and objects in JSON lines; identifiers; never in silence."""
    rows = [{"id": f"u{i}", "history": [i], "more": {"a": i}, "x": i} for i in range(200)]
    profile = profile_of(tmp_path, rows)

    assert [f.name for f in profile.features] == ["x"]
    assert profile.notices == (
        "history: ignored, its values are neither numbers nor texts",
        "more: ignored, its values are neither numbers nor texts",
        "id: ignored, nearly every value is different, as in an identifier",
        UNORDERED,
    )


def test_an_identifier_is_known_in_a_large_table_too(tmp_path: Path) -> None:
    """Where there are more texts than are remembered; a category with many categories that come again is none."""
    count = 30_000
    table = pa.table({"id": [f"u{i}" for i in range(count)], "product": [f"p{i % 12_000}" for i in range(count)]})
    pq.write_table(table, tmp_path / "t.parquet")
    profile = load(tmp_path / "t.parquet", PLAIN)

    assert [f.name for f in profile.features] == ["product"]
    assert not categorical(profile, "product").complete


def test_a_declared_category_is_kept_whatever_it_looks_like(tmp_path: Path) -> None:
    """And so are predictions."""
    rows = [{"id": f"u{i}", "prediction": f"p{i}"} for i in range(200)]
    spec = TableSpec(Task.MULTICLASS, kinds={"id": FeatureKind.CATEGORICAL})

    profile = profile_of(tmp_path, rows, spec)

    assert [f.name for f in (*profile.features, *profile.answers)] == ["id", "prediction"]


# -- time ------------------------------------------------------------------------------------------------

T = 1_795_253_400_000


@pytest.mark.parametrize(
    "time",
    [
        lambda i: T + i, lambda i: float(T + i), lambda i: f"2026-11-21T09:30:00.{i:03d}Z",
        lambda i: f"2026-11-21 09:30:00.{i:03d}", lambda i: f"2026-11-21T10:30:00.{i:03d}+01:00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet"])
def test_the_time_column_says_when_the_rows_were(tmp_path: Path, time: Callable[[int], object], form: str) -> None:
    """In milliseconds or as text; without a zone it is UTC. It is no feature."""
    profile = profile_of(tmp_path, [{"time": time(i), "x": i} for i in range(3)], name=form)

    assert (profile.first_ms, profile.last_ms, profile.ordered) == (T, T + 2, True)
    assert [f.name for f in profile.features] == ["x"]
    assert profile.notices == ()


def test_timestamps_of_parquet_are_times(tmp_path: Path) -> None:
    """Of any unit, with a zone or without."""
    for kind in (pa.timestamp("s"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns")):
        column = pa.array([T // 1000, T // 1000 + 1], pa.timestamp("s")).cast(kind)
        pq.write_table(pa.table({"time": column, "x": [1, 2]}), tmp_path / "t.parquet")

        assert load(tmp_path / "t.parquet", PLAIN).first_ms == T


@pytest.mark.parametrize(
    ("times", "ordered", "notice"),
    [
        ([T, T, T + 1], True, None),
        (
            [T + 1, T, T + 2],
            False,
            "rows are not in the order of time: the promise of the false-alarm budget is an assumption",
        ),
        ([T, "yesterday", T + 1], False, "time: 1 values are no time"),
        ([None, None, None], False, "time: 3 values are no time"),
    ],
)
def test_rows_out_of_order_are_told(tmp_path: Path, times: list[object], ordered: bool, notice: str | None) -> None:
    """Without their order nobody knows how much windows vary by themselves."""
    profile = profile_of(tmp_path, [{"time": t, "x": 1} for t in times])

    assert profile.ordered is ordered
    assert [n[: len(notice or "")] for n in profile.notices] == ([] if notice is None else [notice])


def test_order_is_seen_across_batches(tmp_path: Path) -> None:
    """A table is read in parts."""
    for late, ordered in ((0, False), (200_000, True)):
        time = np.arange(150_000)
        time[-1] = late
        pq.write_table(pa.table({"time": T + time, "x": time}), tmp_path / "t.parquet")

        assert load(tmp_path / "t.parquet", PLAIN).ordered is ordered


# -- baselines -------------------------------------------------------------------------------------------


def test_the_baselines_of_a_regression_are_a_recount(tmp_path: Path) -> None:
    """Of the rows that have both, the prediction and the actual value."""
    rng = np.random.default_rng(2)
    actual = rng.normal(10, 3, 300)
    predicted = actual + rng.normal(0, 0.5, 300)
    rows = [{"prediction": p, "actual": a, "x": 1} for p, a in zip(predicted.tolist(), actual.tolist(), strict=True)]
    rows += [{"prediction": 1.0, "actual": None, "x": 1}, {"prediction": None, "actual": 1.0, "x": 1}]
    baselines = profile_of(tmp_path, rows, TableSpec(Task.REGRESSION)).baselines

    error = predicted - actual
    expected = {
        "mae": np.abs(error).mean(), "mse": (error**2).mean(), "rmse": np.sqrt((error**2).mean()),
        "r2": 1 - (error**2).sum() / ((actual - actual.mean()) ** 2).sum(), "mape": np.abs(error / actual).mean(),
    }  # fmt: skip
    assert {name: b.value for name, b in baselines.items()} == pytest.approx(expected)
    assert {b.n for b in baselines.values()} == {300}
    assert baselines["mae"].variance == pytest.approx(np.var(np.abs(error), ddof=1) / 300)


BINARY = [(0.9, 1), (0.8, 0), (0.6, 1), (0.4, 1), (0.3, 0), (0.2, 0), (0.1, 0), (0.55, 0)]


@pytest.mark.parametrize("form", ["t.csv", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize(
    ("yes", "no", "positive"),
    [(1, 0, None), ("yes", "no", None), ("spam", "ham", "spam"), (1, 0, "1"), ("True", "False", None)],
)
def test_the_baselines_of_a_binary_task_are_a_recount(
    tmp_path: Path, form: str, yes: object, no: object, positive: str | None
) -> None:
    """Whatever its classes are called; a prediction is a probability, cut at the threshold."""
    rows = [{"prediction": p, "actual": yes if a else no} for p, a in BINARY]
    baselines = profile_of(tmp_path, rows, TableSpec(Task.BINARY, positive), form).baselines

    tp, fp, fn = 2, 2, 1
    assert baselines["accuracy"].value == pytest.approx(5 / 8)
    assert baselines["precision"].value == pytest.approx(tp / (tp + fp))
    assert baselines["recall"].value == pytest.approx(tp / (tp + fn))
    assert baselines["f1"].value == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert baselines["brier"].value == pytest.approx(np.mean([(p - a) ** 2 for p, a in BINARY]))
    pairs = [(p, q) for p, a in BINARY for q, b in BINARY if a and not b]
    assert baselines["roc_auc"].value == pytest.approx(np.mean([p > q for p, q in pairs]))


@pytest.mark.parametrize(
    ("predictions", "positive", "categories"),
    [
        ([0.9, 0.2, 0.7], None, {"1": 2, "0": 1}),
        ([0.9, 0.2, 0.7], "spam", {"spam": 2, "0": 1}),
        (["spam", "ham", "spam"], "spam", {"spam": 2, "0": 1}),
        (["yes", "no", "yes"], None, {"1": 2, "0": 1}),
        ([1, 0, 1], None, {"1": 2, "0": 1}),
        ([1, 0, 1], "1", {"1": 2, "0": 1}),
        ([True, False, True], None, {"1": 2, "0": 1}),
        (["spam", "ham", "spam"], None, {"spam": 2, "ham": 1}),
        ([0, 1, 0], "0", {"0": 2, "1": 1}),
        ([0.2, 1.00000005, 0.9], None, {"1": 2, "0": 1}),
    ],
)
def test_binary_predictions_are_called_as_the_streams_answers_are(
    tmp_path: Path, predictions: list[object], positive: str | None, categories: dict[str, int]
) -> None:
    """Otherwise every answer of the stream would be a level that the table never had."""
    profile = profile_of(tmp_path, [{"prediction": p} for p in predictions], TableSpec(Task.BINARY, positive))

    assert counts(categorical(profile, "prediction")) == categories


@pytest.mark.parametrize(
    ("how", "threshold", "categories"),
    [
        (AnswerReading.AUTO, 0.5, {"1": 2, "0": 2}),
        (AnswerReading.PROBABILITY, 0.0, {"1": 4}),
        (AnswerReading.LABEL, 0.5, {"1": 1, "0": 1, "0.25": 1, "0.75": 1}),
    ],
)
def test_numbers_are_read_as_the_model_says(
    tmp_path: Path, how: AnswerReading, threshold: float, categories: dict[str, int]
) -> None:
    spec = TableSpec(Task.BINARY, threshold=threshold, answers=how)
    profile = profile_of(tmp_path, [{"prediction": p} for p in (0, 1, 0.25, 0.75)], spec)

    assert counts(categorical(profile, "prediction")) == categories


def test_the_score_of_a_table_is_that_of_its_column(tmp_path: Path) -> None:
    """Beside labels; what lies outside of 0 and 1 is none."""
    rows = [{"prediction": "yes", "actual": "yes", "score": s} for s in (0.9, 0.7, 1.5)]
    profile = profile_of(tmp_path, rows, TableSpec(Task.BINARY))

    assert profile.baselines["brier"].value == pytest.approx((0.1**2 + 0.3**2) / 2)
    assert profile.baselines["brier"].n == 2
    assert isinstance(profile.answer("score"), NumericReference)


def test_the_baselines_of_more_classes(tmp_path: Path) -> None:
    """Accuracy and macro F1; labels are compared as texts."""
    rows = [{"prediction": p, "actual": a} for p, a in (("a", "a"), ("b", "a"), ("c", "c"), (1, "1"))]
    baselines = profile_of(tmp_path, rows, TableSpec(Task.MULTICLASS)).baselines

    assert baselines["accuracy"].value == 0.75
    assert baselines["f1_macro"].value == pytest.approx((2 / 3 + 0 + 1 + 1) / 4)


@pytest.mark.parametrize("missing", ["prediction", "actual"])
def test_without_predictions_or_actual_values_there_are_no_baselines(tmp_path: Path, missing: str) -> None:
    """They come from the stream, then."""
    rows = [{n: 1.0 for n in ("prediction", "actual", "x") if n != missing}] * 5

    assert profile_of(tmp_path, rows, TableSpec(Task.REGRESSION)).baselines == {}


# -- progress ----------------------------------------------------------------------------------------------


def test_progress_tells_the_rows_of_both_readings(tmp_path: Path) -> None:
    """A large table takes minutes."""
    count = 150_000
    pq.write_table(pa.table({"x": np.arange(count) % 10}), tmp_path / "t.parquet")
    seen: list[int] = []
    build(tmp_path / "t.parquet", PLAIN, seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == 2 * count
    assert len(seen) >= 6
