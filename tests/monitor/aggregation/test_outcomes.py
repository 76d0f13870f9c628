"""Metrics of quality and of answers against a recount that shares nothing with them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    LATENCY_ERROR,
    METRICS,
    Estimate,
    latencies_above,
    latency_cells,
    latency_quantile,
)
from monitor.aggregation.outcome_columns import BASELINE_PANE, STAGED_PANES
from monitor.aggregation.outcome_windows import OutcomeWindow, OutcomeWindows
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.aggregation.score_counts import AUC_SCORES
from monitor.spec import Task

NAN = float("nan")


@dataclass(frozen=True)
class Pair:
    """An answer with its outcome. Labels of a binary task are 0 and 1; a score is P(1), or NaN."""

    pane: int
    predicted: float
    actual: float
    score: float = NAN
    delay: float = 1.0


def scored(pairs: Sequence[Pair]) -> ScoredPairs:
    return ScoredPairs(
        np.array([p.pane for p in pairs], np.int64),
        np.array([p.predicted for p in pairs]),
        np.array([np.float32(p.score) for p in pairs], np.float64),  # waiting answers keep 32 bits of it
        np.array([p.actual for p in pairs]),
        np.array([p.delay for p in pairs]),
        [None] * len(pairs),
    )


def no_metric(name: str) -> None:
    return None


def table_of(task: Task, pairs: Sequence[Pair], *, cuts: Sequence[int] = (), baseline_n: int = 0) -> OutcomeTable:
    """A table that was told of these pairs in parts that end at `cuts`."""
    table = OutcomeTable(task, baseline_n)
    ends = sorted({min(cut, len(pairs)) for cut in cuts} | {0, len(pairs)})
    for start, stop in pairwise(ends):
        table.expect(np.array([p.pane for p in pairs[start:stop] if not math.isnan(p.predicted)], np.int64))
        table.add(scored(pairs[start:stop]), no_metric)
    return table


def measured(task: Task, pairs: Sequence[Pair]) -> dict[str, float]:
    """All metrics of all pairs."""
    found = table_of(task, pairs).metrics(0, BASELINE_PANE - 1, ())
    return {name: estimate.value for name, estimate in found.items()}


# -- the recount: plain Python, from the definitions -----------------------------------------------------


def divided(a: float, b: float) -> float | None:
    return a / b if b else None


def recount_labels(pairs: Sequence[Pair]) -> dict[str, float | None]:
    known = [p for p in pairs if not math.isnan(p.predicted)]
    labels = sorted({p.predicted for p in known} | {p.actual for p in known})
    f1 = []
    for label in labels:
        hit = sum(p.predicted == label == p.actual for p in known)
        f1.append(2 * hit / (sum(p.predicted == label for p in known) + sum(p.actual == label for p in known)))
    return {
        "accuracy": divided(sum(p.predicted == p.actual for p in known), len(known)),
        "f1_macro": divided(math.fsum(f1), len(f1)),
        "label_delay_s": divided(math.fsum(p.delay for p in pairs), len(pairs)),
    }


def recount_binary(pairs: Sequence[Pair]) -> dict[str, float | None]:
    known = [p for p in pairs if not math.isnan(p.predicted)]
    table = {(a, b): sum((p.predicted, p.actual) == (a, b) for p in known) for a, b in product((0, 1), repeat=2)}
    hit, false_alarm, miss = table[1, 1], table[1, 0], table[0, 1]
    found: dict[str, float | None] = {
        **recount_labels(pairs),
        "precision": divided(hit, hit + false_alarm),
        "recall": divided(hit, hit + miss),
        "f1": divided(2 * hit, 2 * hit + false_alarm + miss),
    }
    probable = [(float(np.float32(p.score)), int(p.actual == 1)) for p in known if not math.isnan(p.score)]
    losses = [-math.log(min(max(s if y else 1 - s, 1e-7), 1)) for s, y in probable]
    found["log_loss"] = divided(math.fsum(losses), len(losses))
    found["brier"] = divided(math.fsum((s - y) ** 2 for s, y in probable), len(probable))
    found["ece"] = recount_calibration(probable)
    found["roc_auc"] = recount_auc(probable)
    return found


def recount_auc(probable: Sequence[tuple[float, int]]) -> float | None:
    """The share of pairs of a positive and a negative that are in the right order, ties counted half."""
    positives, negatives = ([s for s, y in probable if y == wanted] for wanted in (1, 0))
    won = math.fsum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return divided(won, len(positives) * len(negatives))


def recount_calibration(probable: Sequence[tuple[float, int]]) -> float | None:
    gaps = []
    for b in range(10):
        mine = [(s, y) for s, y in probable if b / 10 <= s < (b + 1) / 10 or (b == 9 and s == 1)]
        gaps.append(abs(math.fsum(s for s, _ in mine) - sum(y for _, y in mine)))
    return divided(math.fsum(gaps), len(probable))


def recount_numbers(pairs: Sequence[Pair]) -> dict[str, float | None]:
    known = [p for p in pairs if not math.isnan(p.predicted)]
    n = len(known)
    errors = [p.predicted - p.actual for p in known]
    square = divided(math.fsum(e * e for e in errors), n)
    mean = math.fsum(p.actual for p in known) / n if n else 0.0
    spread = math.fsum((p.actual - mean) ** 2 for p in known)
    relative = [abs(e / p.actual) for e, p in zip(errors, known, strict=True) if p.actual != 0]
    return {
        "mae": divided(math.fsum(map(abs, errors)), n),
        "mse": square,
        "rmse": None if square is None else math.sqrt(square),
        "r2": None if n < 2 or not spread else 1 - math.fsum(e * e for e in errors) / spread,
        "mape": divided(math.fsum(relative), len(relative)),
        "label_delay_s": divided(math.fsum(p.delay for p in pairs), len(pairs)),
    }


def assert_equal(found: Mapping[str, float], wanted: Mapping[str, float | None]) -> None:
    """The same metrics, with the same values."""
    present = {name: value for name, value in wanted.items() if value is not None}
    assert {name for name in found if name != "coverage"} == set(present)
    for name, value in present.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


panes = st.integers(0, 3)
labels = st.sampled_from((0.0, 1.0))
scores = st.one_of(st.just(NAN), st.sampled_from((0.0, 0.1, 0.5, 0.7, 0.85, 1.0)), st.floats(0, 1, width=32))
amounts = st.one_of(st.sampled_from((0.0, 1.0, -2.0)), st.floats(-1e4, 1e4).map(lambda x: round(x, 3)))


@settings(max_examples=200)
@given(st.lists(st.builds(Pair, panes, st.one_of(st.just(NAN), labels), labels, scores), max_size=60))
def test_metrics_of_a_binary_task_equal_a_recount(pairs: list[Pair]) -> None:
    """With ties, missing scores, answers without a prediction, and where only one class was seen."""
    assert_equal(measured(Task.BINARY, pairs), recount_binary(pairs))


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(Pair, panes, st.sampled_from((NAN, 0, 1, 2, 7)), st.sampled_from((0, 1, 2, 7)), st.just(NAN)),
        max_size=60,
    )
)
def test_metrics_of_a_task_of_many_classes_equal_a_recount(pairs: list[Pair]) -> None:
    assert_equal(measured(Task.MULTICLASS, pairs), recount_labels(pairs))


@settings(max_examples=200)
@given(st.lists(st.builds(Pair, panes, st.one_of(st.just(NAN), amounts), amounts), max_size=60))
def test_metrics_of_a_regression_equal_a_recount(pairs: list[Pair]) -> None:
    """With actual zeros, of which no relative error is taken."""
    wanted = recount_numbers(pairs)
    found = measured(Task.REGRESSION, pairs)
    if "r2" not in found and wanted["r2"] is not None:
        # Actual values that differ by rounding only count as constant.
        assert np.ptp([p.actual for p in pairs if not np.isnan(p.predicted)]) <= 1e-2
        del wanted["r2"]
    r2, its = found.pop("r2", None), wanted.pop("r2", None)
    assert r2 == pytest.approx(its, rel=1e-6, abs=1e-6) if its is not None else r2 is None
    assert_equal(found, wanted)


@pytest.mark.parametrize("task", list(Task))
@given(st.data())
def test_a_table_that_takes_over_another_one_measures_the_pairs_of_both(task: Task, data: st.DataObject) -> None:
    """Whatever first value the sums of either are less of; the baseline of the other one is not taken over."""
    values = labels if task is not Task.REGRESSION else st.integers(-9, 9).map(lambda i: 1e6 + i)
    pair = st.builds(Pair, panes, st.one_of(st.just(NAN), values), values, scores)
    mine, its = data.draw(st.lists(pair, max_size=30)), data.draw(st.lists(pair, max_size=30))
    table, other = table_of(task, mine), table_of(task, its, baseline_n=5)

    changed = table.absorb(other)

    assert changed == sorted({p.pane for p in its})
    found = table.metrics(0, BASELINE_PANE - 1, ())
    wanted = table_of(task, mine + its).metrics(0, BASELINE_PANE - 1, ())
    assert found.keys() == wanted.keys()
    for name, estimate in wanted.items():
        assert found[name].value == pytest.approx(estimate.value, rel=1e-6), name
        assert found[name].n == estimate.n, name
    assert table.baseline_pairs == 0


def test_a_multiclass_score_is_that_of_the_predicted_class() -> None:
    """Of what is known of the probabilities, only the calibration can be told."""
    pairs = [Pair(0, 1, 1, 0.9), Pair(0, 1, 2, 0.9), Pair(0, 2, 2, 0.4)]

    found = measured(Task.MULTICLASS, pairs)

    assert found["ece"] == pytest.approx((abs(2 * 0.9 - 1) + abs(0.4 - 1)) / 3, rel=1e-6)
    assert not {"brier", "log_loss", "roc_auc"} & set(found)


def test_relative_errors_leave_actual_zeros_out_and_say_so() -> None:
    found = table_of(Task.REGRESSION, [Pair(0, 1, 0), Pair(0, 3, 2), Pair(0, 1, 2)]).metrics(0, 0, ())

    assert (found["mape"].value, found["mape"].n) == (0.5, 2)
    assert found["mae"].n == 3


def test_large_actual_values_keep_the_digits_of_their_spread() -> None:
    """Sums of squares of timestamps would lose them."""
    r = np.random.default_rng(1)
    actual = 1.7e12 + r.normal(0, 1, 500)
    pairs = [Pair(0, a + e, a) for a, e in zip(actual.tolist(), r.normal(0, 0.1, 500).tolist(), strict=True)]

    assert measured(Task.REGRESSION, pairs)["r2"] == pytest.approx(0.99, abs=0.005)


# -- laws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", Task)
@settings(max_examples=40)
@given(
    st.lists(st.builds(Pair, panes, labels, labels, scores), max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
    st.integers(0, 25),
)
def test_metrics_do_not_depend_on_how_pairs_were_cut_into_batches(
    task: Task, pairs: list[Pair], cuts: list[int], baseline_n: int
) -> None:
    whole = table_of(task, pairs, baseline_n=baseline_n)
    parts = table_of(task, pairs, cuts=cuts, baseline_n=baseline_n)

    for first, last in ((0, 3), (1, 2), (BASELINE_PANE, BASELINE_PANE)):
        assert repr(whole.metrics(first, last, ())) == repr(parts.metrics(first, last, ()))


@pytest.mark.parametrize("task", Task)
@settings(max_examples=40)
@given(st.lists(st.builds(Pair, panes, labels, labels, scores), max_size=40))
def test_metrics_of_a_window_are_those_of_the_pairs_in_its_panes(task: Task, pairs: list[Pair]) -> None:
    """Merging panes is addition."""
    inside = [p for p in pairs if 1 <= p.pane <= 2]

    window = table_of(task, pairs).metrics(1, 2, ())
    alone = table_of(task, inside).metrics(0, 3, ())

    assert set(window) == set(alone)
    for name, estimate in alone.items():
        assert window[name].value == pytest.approx(estimate.value, rel=1e-6, abs=1e-9)
        assert window[name].n == estimate.n


@pytest.mark.parametrize("task", Task)
def test_a_restored_table_goes_on_exactly(task: Task) -> None:
    """Changed panes are stored as they are; a later row replaces an earlier one."""
    r = np.random.default_rng(3)
    pairs = [
        Pair(int(r.integers(4)), float(r.integers(2)), float(r.integers(2)), float(r.random()), float(r.random()))
        for _ in range(300)
    ]
    lived = table_of(task, pairs[:200], cuts=range(1, 20), baseline_n=50)
    restored = OutcomeTable(task, 50)
    restored.restore(lived.snapshot(lived.drain_dirty()))

    for table in (lived, restored):
        table.add(scored(pairs[200:]), no_metric)
    again = OutcomeTable(task, 50)
    for row in (lived.snapshot(), restored.snapshot(restored.drain_dirty())):
        again.restore(row)

    for table in (restored, again):
        assert repr(table.metrics(0, 3, ())) == repr(lived.metrics(0, 3, ()))
        assert repr(table.metrics(BASELINE_PANE, BASELINE_PANE, ())) == repr(
            lived.metrics(BASELINE_PANE, BASELINE_PANE, ())
        )


def test_the_baseline_is_of_the_first_pairs_and_frozen() -> None:
    right, wrong = [Pair(0, 1, 1)] * 10, [Pair(1, 1, 0)] * 10
    table = table_of(Task.BINARY, right + wrong, cuts=(7,), baseline_n=12)

    assert table.metrics(BASELINE_PANE, BASELINE_PANE, ())["accuracy"] == Estimate.share(10, 12)
    assert table.metrics(0, 1, ())["accuracy"] == Estimate.share(10, 20)


def test_coverage_is_the_share_of_answers_that_could_be_scored_and_were() -> None:
    """A failed answer meets its outcome too, but there was nothing to score."""
    table = OutcomeTable(Task.BINARY, 0)
    table.expect(np.zeros(4, np.int64))
    table.add(scored([Pair(0, 1, 1), Pair(0, 0, 1), Pair(0, NAN, 1), Pair(0, NAN, 0)]), no_metric)

    found = table.metrics(0, 0, ())

    assert found["coverage"] == Estimate.share(2, 4)
    assert found["label_delay_s"].n == 4
    assert [column.tolist() for column in table.coverage()] == [[0], [4], [2]]


def test_only_listed_metrics_are_kept_beside_coverage_and_delay() -> None:
    table = OutcomeTable(Task.BINARY, 0, ["recall"])
    table.expect(np.zeros(2, np.int64))
    table.add(scored([Pair(0, 1, 1, 0.9), Pair(0, 0, 0, 0.2)]), no_metric)

    assert set(table.metrics(0, 0, ())) == {"recall", "coverage", "label_delay_s"}


def test_user_metrics_are_means_of_what_came_with_outcomes() -> None:
    table = OutcomeTable(Task.BINARY, 0)
    pairs = ScoredPairs(
        np.zeros(3, np.int64), np.ones(3), np.full(3, NAN), np.ones(3), np.zeros(3),
        [{"revenue": 2.0}, {"revenue": 4.0, "beyond the limit": 1.0}, {"revenue": None}],
    )  # fmt: skip

    table.add(pairs, {"revenue": 0}.get)

    found = table.metrics(0, 0, ["revenue"])
    assert (found["revenue"].value, found["revenue"].n) == (3.0, 2)


def test_a_pane_that_is_dropped_is_gone_and_the_baseline_stays() -> None:
    pairs = [Pair(pane, 1, 1, 0.5) for pane in (1, 2, 3)]
    table = table_of(Task.BINARY, pairs, baseline_n=3)

    table.drop(3)

    assert table.metrics(0, 3, ())["accuracy"].n == 1
    assert table.metrics(BASELINE_PANE, BASELINE_PANE, ())["accuracy"].n == 3


# -- AUC with more scores than are kept ------------------------------------------------------------------


def panes_above(count: int, *, panes: int = 1) -> list[Pair]:
    """Scores that all differ, the positives above by a quarter on average."""
    r = np.random.default_rng(7)
    truth = r.integers(0, 2, count)
    score = np.clip(r.random(count) * 0.75 + 0.25 * truth, 0, 1)
    return [
        Pair(i % panes, float(y), float(y), float(s))
        for i, (y, s) in enumerate(zip(truth.tolist(), score.tolist(), strict=True))
    ]


def exact_auc(pairs: Sequence[Pair]) -> float:
    s = np.array([np.float32(p.score) for p in pairs], np.float64)
    y = np.array([p.actual for p in pairs])
    positives, negatives = s[y == 1], np.sort(s[y == 0])
    below = np.searchsorted(negatives, positives) + np.searchsorted(negatives, positives, "right")
    return float(below.sum() / 2 / len(positives) / len(negatives))


def seven_digits(score: float) -> float:
    """The distance from the nearer end, cut to seven binary digits; negative from the upper end."""
    kept = float(np.float32(score))
    mantissa, exponent = math.frexp(min(kept, 1 - kept))
    near = math.ldexp(math.floor(mantissa * 128) / 128, exponent)
    return near if kept < 0.5 else 1 - near


@pytest.mark.parametrize("scale", [1e-3, 1 - 1e-3])
def test_the_auc_of_scores_near_an_end_is_nearly_that_of_all_of_them(scale: float) -> None:
    """Fraud is rare: all scores are small, and their order is what counts."""
    r = np.random.default_rng(5)
    truth = r.random(20_000) < 0.1
    small = np.clip(np.exp(r.normal(-8, 1, 20_000) + 0.7 * truth), 0, 0.5)
    scores = small if scale < 0.5 else 1 - small
    pairs = [Pair(0, 0, float(y), float(s)) for y, s in zip(truth, scores, strict=True)]

    assert measured(Task.BINARY, pairs)["roc_auc"] == pytest.approx(exact_auc(pairs), abs=2e-3)


def test_r2_does_not_depend_on_values_that_have_left_the_window() -> None:
    """Nor on how far from zero all of them are."""
    r = np.random.default_rng(6)
    actual = r.normal(20, 3, 500)
    pairs = [Pair(1, a + e, a) for a, e in zip(actual.tolist(), r.normal(0, 1, 500).tolist(), strict=True)]
    odd = Pair(0, 5.0, -999_999_999.0)
    far = [Pair(1, p.predicted + 1.7e9, p.actual + 1.7e9) for p in pairs]

    expected = table_of(Task.REGRESSION, pairs).metrics(1, 1, ())["r2"].value
    assert table_of(Task.REGRESSION, [odd, *pairs]).metrics(1, 1, ())["r2"].value == expected
    assert table_of(Task.REGRESSION, [odd, *far]).metrics(1, 1, ())["r2"].value == pytest.approx(expected, abs=1e-6)


def test_the_auc_is_exact_up_to_4096_distinct_scores() -> None:
    pairs = panes_above(AUC_SCORES)

    assert measured(Task.BINARY, pairs)["roc_auc"] == pytest.approx(exact_auc(pairs), abs=1e-12)


@pytest.mark.parametrize("panes", [1, 3])
def test_beyond_that_its_error_is_at_most_half_the_share_of_pairs_in_one_bin(panes: int) -> None:
    """Also where only some panes of the window have so many."""
    pairs = [*panes_above(20_000, panes=panes), *(Pair(5, p.predicted, p.actual, p.score) for p in panes_above(500))]
    _, bins = np.unique([seven_digits(p.score) for p in pairs], return_inverse=True)
    truth = np.array([p.actual for p in pairs]) == 1
    positives, negatives = (np.bincount(bins[mask], minlength=AUC_SCORES) for mask in (truth, ~truth))
    bound = (positives * negatives).sum() / positives.sum() / negatives.sum() / 2

    table = table_of(Task.BINARY, pairs)

    assert abs(table.metrics(0, 5, ())["roc_auc"].value - exact_auc(pairs)) <= bound
    assert sum(len(c.between(0, 5)[0]) for c in (table._scores.negative, table._scores.positive)) <= 2 * (
        panes * AUC_SCORES + 500
    )


def test_a_score_as_it_is_and_the_middle_of_its_bin_are_not_compared() -> None:
    """One pane has too many scores, the other has not: each positive lies above a negative of its bin, if barely."""
    edges = np.arange(AUC_SCORES) / AUC_SCORES
    negatives = [Pair(0, 0, 0, float(e + d)) for d in (2.0**-16, 2.0**-15) for e in edges]
    positives = [Pair(1, 1, 1, float(e + 2.0**-14)) for e in edges]

    found = measured(Task.BINARY, negatives + positives)["roc_auc"]

    assert abs(found - exact_auc(negatives + positives)) <= 0.5 / AUC_SCORES


def test_whether_scores_are_binned_does_not_depend_on_when_somebody_looked() -> None:
    """Commits bound the memory in between; the metrics are the same."""
    pairs = panes_above(12_000, panes=2)
    asked, not_asked = OutcomeTable(Task.BINARY, 100), OutcomeTable(Task.BINARY, 100)
    for start in range(0, len(pairs), 1_000):
        for table in (asked, not_asked):
            table.add(scored(pairs[start : start + 1_000]), no_metric)
        asked.bound_scores()
        asked.metrics(0, 0, ())

    assert repr(asked.metrics(0, 1, ())) == repr(not_asked.metrics(0, 1, ()))


# -- uncertainty -----------------------------------------------------------------------------------------


def binary_sample(r: np.random.Generator) -> list[Pair]:
    truth = r.random(400) < 0.4
    score = np.clip(r.normal(0.45 + 0.2 * truth, 0.2), 0, 1)
    return [
        Pair(0, float(s > 0.5), float(y), float(s)) for s, y in zip(score.tolist(), truth.tolist(), strict=True)
    ]  # fmt: skip


def number_sample(r: np.random.Generator) -> list[Pair]:
    actual = r.normal(10, 3, 400)
    return [Pair(0, a + e, a) for a, e in zip(actual.tolist(), r.normal(0, 1, 400).tolist(), strict=True)]


@pytest.mark.parametrize(
    ("task", "sample", "names"),
    [
        (Task.BINARY, binary_sample, ("f1", "f1_macro", "log_loss", "brier", "roc_auc")),
        (Task.REGRESSION, number_sample, ("mae", "mse", "rmse", "mape")),
    ],
)
def test_a_metric_knows_how_much_it_varies(
    task: Task, sample: Callable[[np.random.Generator], list[Pair]], names: tuple[str, ...]
) -> None:
    """Rules rely on it: the variance stated is that seen over many samples, within a third."""
    found = [table_of(task, sample(np.random.default_rng(seed))).metrics(0, 0, ()) for seed in range(300)]

    for name in names:
        seen = np.var([f[name].value for f in found], ddof=1)
        stated = np.mean([f[name].variance for f in found])
        assert stated == pytest.approx(seen, rel=0.35), name


# -- latency ---------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=200), st.sampled_from((0.0, 0.5, 0.9, 0.95, 0.99, 1.0)))
def test_a_latency_quantile_is_within_one_percent(values: list[float], q: float) -> None:
    counts = latency_cells(np.array(values))

    # Interpolation between two order statistics keeps the relative error of both.
    assert latency_quantile(counts, q) == pytest.approx(float(np.quantile(values, q)), rel=LATENCY_ERROR * 1.0001)


@given(st.lists(st.floats(0, 1e9), max_size=50), st.lists(st.floats(0, 1e9), max_size=50))
def test_latencies_of_two_panes_add_up(one: list[float], other: list[float]) -> None:
    both = latency_cells(np.array(one + other, np.float64))

    assert both.tolist() == (latency_cells(np.array(one)) + latency_cells(np.array(other))).tolist()
    assert len(both) == LATENCY_CELLS
    assert both.sum() == len(one) + len(other)


def test_missing_latencies_are_left_out_and_no_latencies_have_no_quantile() -> None:
    counts = latency_cells(np.array([NAN, 5.0, NAN]))

    assert counts.sum() == 1
    assert latency_quantile(counts, 0.95) == pytest.approx(5.0, rel=LATENCY_ERROR)
    assert math.isnan(latency_quantile(latency_cells(np.array([NAN])), 0.5))


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=100), st.floats(0.01, 1e6))
def test_latencies_above_a_limit_are_counted_but_for_those_within_a_cell_of_it(
    values: list[float], limit: float
) -> None:
    above, total = latencies_above(latency_cells(np.array(values)), limit)

    assert total == len(values)
    assert sum(v > limit * 1.0203 for v in values) <= above <= sum(v > limit for v in values)


# -- means -----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50), st.floats(-1e3, 1e3))
def test_the_mean_of_values_less_an_offset_is_the_mean_of_the_values(values: list[float], offset: float) -> None:
    shifted: NDArray[np.float64] = np.array(values) - offset

    estimate = Estimate.mean(float(shifted.sum()), float((shifted**2).sum()), len(values), offset)

    assert estimate.value == pytest.approx(float(np.mean(values)), abs=1e-6)
    assert estimate.variance * len(values) == pytest.approx(float(np.var(values, ddof=1)), rel=1e-6, abs=1e-6)


def test_every_metric_of_the_list_says_which_way_is_better_and_what_it_is() -> None:
    assert all(info.help and info.better for info in METRICS.values())


# -- windows that wait for outcomes ----------------------------------------------------------------------


def a_window(last: int, *, first: int | None = None, closed_at: int = -1, final_at: int = 1_000) -> OutcomeWindow:
    first = last if first is None else first
    return OutcomeWindow(first, last, 10 * first, 10 * last + 10, closed_at, final_at)


def covered(share: float, panes: int = 10) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """So much of every pane."""
    return np.arange(panes), np.full(panes, 100), np.full(panes, round(100 * share))


def test_a_window_is_judged_once_when_enough_outcomes_are_there() -> None:
    windows = OutcomeWindows()
    windows.note(a_window(3))

    assert windows.eligible(covered(0.79), 0.8, clock=50) == []
    assert [w.last for w in windows.eligible(covered(0.8), 0.8, clock=50)] == [3]
    assert windows.eligible(covered(1.0), 0.8, clock=50) == []


def test_a_window_is_judged_when_no_outcome_can_come_any_more() -> None:
    windows = OutcomeWindows()
    windows.note(a_window(3, final_at=60))

    assert windows.eligible(covered(0.1), 0.8, clock=59) == []
    assert windows.first_final_at == 60
    assert [w.last for w in windows.eligible(covered(0.1), 0.8, clock=60)] == [3]
    assert windows.first_final_at is None


def test_a_window_to_which_answers_may_still_be_added_waits() -> None:
    windows = OutcomeWindows()
    windows.note(a_window(3, closed_at=70))

    assert windows.eligible(covered(1.0), 0.8, clock=69) == []
    assert windows.dirty(clock=69) == []
    assert [w.last for w in windows.eligible(covered(1.0), 0.8, clock=70)] == [3]
    assert [w.last for w in windows.dirty(clock=70)] == [3]


def test_a_window_older_than_one_that_was_judged_is_not_judged_any_more() -> None:
    windows = OutcomeWindows()
    panes, wanted, met = covered(1.0)
    met[2] = 0
    windows.note(a_window(2))
    windows.note(a_window(3))

    assert [w.last for w in windows.eligible((panes, wanted, met), 0.8, clock=50)] == [3]
    assert windows.eligible(covered(1.0), 0.8, clock=5_000) == []


def test_a_window_with_the_same_last_pane_replaces_the_one_before() -> None:
    windows = OutcomeWindows()
    windows.note(a_window(3, first=1))
    windows.note(a_window(3, first=2))

    assert len(windows) == 1
    assert windows.first_pane == 2
    assert windows.drain_fresh().tolist() == [[2, 3, 20, 40, -1, 1000]]


def test_outcomes_make_the_rows_of_exactly_those_windows_stale_that_hold_their_pane() -> None:
    windows = OutcomeWindows()
    for last in range(5):
        windows.note(a_window(last, first=max(last - 1, 0)))
    windows.dirty(clock=0)

    windows.touch([2])

    assert [w.last for w in windows.dirty(clock=0)] == [3, 2]


def test_a_window_leaves_when_it_is_final_and_judged() -> None:
    """Not earlier: whether it was judged must not depend on when a commit looked."""
    windows = OutcomeWindows()
    windows.note(a_window(3, final_at=60))

    assert windows.finished(clock=100) == []
    windows.eligible(covered(0.0), 0.8, clock=100)
    assert [w.last for w in windows.finished(clock=100)] == [3]
    assert windows.first_pane is None


def test_windows_come_back_from_their_rows() -> None:
    windows, restored = OutcomeWindows(), OutcomeWindows()
    rows = []
    for last in range(6):
        windows.note(a_window(last, final_at=50 + last))
        windows.note(a_window(last, final_at=50 + last))
        rows.append(windows.drain_fresh())
    windows.eligible(covered(1.0), 0.8, clock=52)
    windows.finished(clock=52)

    restored.restore(rows, windows.judged, clock=52)

    assert restored.drain_fresh(everything=True).tolist() == windows.drain_fresh(everything=True).tolist()
    assert restored.judged == windows.judged == 5


@pytest.mark.parametrize("value", [sys.float_info.max, -sys.float_info.max, 1.7976931348e308, 5e-324])
def test_a_value_at_the_end_of_the_floats_is_rounded_to_one(value: float) -> None:
    """Rounded up, the largest of all would be none."""
    assert Estimate(value, 1, 0.0).settled().value == pytest.approx(value)


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION, Task.MULTICLASS])
def test_pairs_that_waited_in_rows_of_their_own_are_in_the_baseline_as_if_they_had_come_at_once(task: Task) -> None:
    rng = np.random.default_rng(1)
    score = rng.random(200) if task is Task.BINARY else np.full(200, NAN)
    labels = rng.integers(0, 2, (2, 200)).astype(np.float64) + (100 * (task is Task.REGRESSION))
    pairs = scored([Pair(1, p, a, s) for p, a, s in zip(*labels, score, strict=True)])
    parts = [pairs.first(120), ScoredPairs(*(getattr(pairs, name)[120:] for name in ScoredPairs.__slots__))]
    at_once, waited = OutcomeTable(task, 0), OutcomeTable(task, 0)
    at_once.add_to_baseline(pairs, no_metric)
    for part, row in zip(parts, STAGED_PANES, strict=False):
        waited.add_to_baseline(part, no_metric, row)
    waited.add_to_baseline(parts[0], no_metric, STAGED_PANES[3])
    waited.forget(STAGED_PANES[3])

    assert waited.baseline_pairs == 0
    assert not len(waited.coverage()[0])
    for row in STAGED_PANES[:5]:
        waited.merge_into_baseline(row)
    one, other = (t.metrics(BASELINE_PANE, BASELINE_PANE, ()) for t in (at_once, waited))
    assert {name: e.value for name, e in other.items()} == pytest.approx({name: e.value for name, e in one.items()})
    assert waited.baseline_pairs == 200
