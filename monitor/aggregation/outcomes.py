"""How good a version's answers were: sums over pairs of prediction and outcome, by the prediction's pane.

Outcomes come late, so these sums live as long as outcomes may come, and a pane's metrics change until then.
A batch of pairs is added column by column in the order in which the pairs were joined, so that results do not
depend on how the stream was cut. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.keyed_counts import SparseCounts
from monitor.aggregation.label_counts import LabelCounts
from monitor.aggregation.metrics import METRICS, Estimate
from monitor.aggregation.outcome_columns import (
    BASELINE_PANE,
    BIN_EVENTS,
    BIN_HITS,
    BIN_SCORES,
    CALIBRATION_BINS,
    COUNTS,
    DOUBTFUL_PAIRS,
    PROBABILITIES,
    STAGED_PANES,
    TOTALS,
    UNKNOWN,
    USER_COUNTS,
    USER_TOTALS,
    Count,
    Total,
)
from monitor.aggregation.pair_readings import CLIP, unknown_pairs, with_ends
from monitor.aggregation.pane_table import PaneTable
from monitor.aggregation.quality_metrics import calibration_error, confusion_metrics, regression_metrics, spread_of
from monitor.aggregation.score_counts import ScoreCounts
from monitor.events.readings import DOUBTFUL, POSITIVE, Readings, is_doubtful
from monitor.spec import Task

_OF_BASELINE: Final = (BASELINE_PANE, *STAGED_PANES)


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Answers of one variant with their outcomes, in the order in which they met."""

    pane: IntArray
    predicted: FloatArray
    score: FloatArray
    actual: FloatArray
    delay: FloatArray  # seconds
    metrics: Sequence[Mapping[str, float | None] | None]

    def __len__(self) -> int:
        return len(self.pane)

    def first(self, count: int, pane: int = BASELINE_PANE) -> ScoredPairs:
        """The first pairs, put down to the baseline, or to another pane."""
        return ScoredPairs(
            np.full(count, pane), self.predicted[:count], self.score[:count], self.actual[:count],
            self.delay[:count], self.metrics[:count],
        )  # fmt: skip


class OutcomeTable:
    """The sums of one version.

    The first `baseline_n` pairs are its baseline too. `listed` are the built-in metrics that are made of the sums;
    None: all of the task. `readings` say what answers of exactly 0 and 1 are in a binary task: their pairs are kept
    apart, and whoever reads panes reads all of them one way.
    """

    def __init__(
        self,
        task: Task,
        baseline_n: int,
        listed: Collection[str] | None = None,
        readings: Readings = Readings(),  # noqa: B008 - immutable
    ) -> None:
        self.task = task
        self._readings = readings
        self._baseline_n = baseline_n
        self.listed = listed
        self._unlisted = _unlisted(listed)
        self._table = PaneTable(COUNTS, TOTALS)
        self._scores, self._labels = ScoreCounts(), LabelCounts()

    # -- adding ------------------------------------------------------------------------------------------

    def expect(self, panes: IntArray, probable: BoolArray | None = None) -> None:
        """Count predictions that an outcome can score, by pane; `probable` says which surely are probabilities."""
        rows = self._table.rows(panes)
        self._table.bump(rows, Count.SCORABLE)
        if probable is not None:
            self._table.bump(rows[probable], PROBABILITIES)

    def agree(self, panes: IntArray, agreed: BoolArray) -> None:
        """Count answers compared with the one that was served, by pane."""
        rows = self._table.rows(panes)
        self._table.bump(rows, Count.PAIRED)
        self._table.bump(rows[agreed], Count.AGREED)

    def add(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None]) -> None:
        """Count pairs; `user_metric` gives a metric's place, None where there is none left."""
        if not len(pairs):
            return
        self._add(pairs, user_metric)
        missing = self._baseline_n - self.baseline_pairs
        if missing > 0:
            self.add_to_baseline(pairs.first(min(missing, len(pairs))), user_metric)

    def add_to_baseline(
        self, pairs: ScoredPairs, user_metric: Callable[[str], int | None], row: int = BASELINE_PANE
    ) -> None:
        """Count pairs of any pane in the baseline, or in one of `STAGED_PANES`."""
        self._add(pairs.first(len(pairs), row), user_metric)

    def merge_into_baseline(self, row: int) -> None:
        """Move one of `STAGED_PANES` into the baseline."""
        counts, totals = self._table.select(row, row)
        if not len(counts):
            return  # panes of another shape were dropped
        self._add_rows(np.array([BASELINE_PANE]), counts, totals)
        for mine in self._sparse():
            mine.copy_pane(row, BASELINE_PANE)
        if self._table.count_of(BASELINE_PANE, Count.BINNED):
            self._table.mark([BASELINE_PANE], Count.BINNED)
            self._scores.bin(np.array([BASELINE_PANE]))
        self.forget(row)

    def forget(self, row: int) -> None:
        """Forget what one of `STAGED_PANES` holds."""
        self._table.clear(row)
        nothing = np.zeros(0, np.int64)
        for mine in self._sparse():
            mine.replace_panes(np.array([row]), nothing.astype(np.uint64), nothing)

    def _add(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None]) -> None:
        table = self._table
        rows = table.rows(pairs.pane)
        table.bump(rows, Count.JOINED)
        table.sum(rows, Total.DELAY, pairs.delay)
        table.sum(rows, Total.DELAY_SQUARE, pairs.delay**2)
        scored = ~np.isnan(pairs.predicted)
        at, predicted, actual = rows[scored], pairs.predicted[scored], pairs.actual[scored]
        table.set_origin(at, actual, Count.SCORED, Total.ORIGIN)
        table.bump(at, Count.SCORED)
        if self.task is Task.REGRESSION:
            self._add_errors(at, predicted, actual)
        else:
            self._add_labels(at, pairs.pane[scored], predicted, actual, pairs.score[scored])
        self._add_user_metrics(rows, pairs.metrics, user_metric)

    def absorb(self, other: OutcomeTable) -> list[int]:
        """Add the panes of another version, which is this one from now on, and return them; its baseline is left out.

        Pairs that were summed up less another origin are moved to the one of this table.
        """
        panes, counts, totals = other._table.everything(_OF_BASELINE)
        self._add_rows(panes, counts, totals)
        for mine, its in zip(self._sparse(), other._sparse(), strict=True):
            mine.absorb(*its.of_panes(panes))
        changed: list[int] = panes.tolist()
        return changed

    def _add_rows(self, panes: IntArray, counts: IntArray, totals: FloatArray) -> None:
        """Add whole rows to those of these panes."""
        rows = self._table.rows(panes)
        if self.task is Task.REGRESSION:
            fresh = self._table.counts_at(rows, Count.SCORED) == 0
            self._table.put(rows[fresh], Total.ORIGIN, totals[fresh, Total.ORIGIN])
            shift = totals[:, Total.ORIGIN] - self._table.totals_at(rows, Total.ORIGIN)
            level, scored = totals[:, Total.ACTUAL].copy(), counts[:, Count.SCORED]
            totals[:, Total.ACTUAL] += scored * shift
            totals[:, Total.ACTUAL_SQUARE] += 2 * shift * level + scored * shift**2
        totals[:, Total.ORIGIN] = 0.0
        self._table.add_rows(rows, counts, totals)

    def _add_errors(self, rows: IntArray, predicted: FloatArray, actual: FloatArray) -> None:
        table = self._table
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            square = (predicted - actual) ** 2
            table.sum(rows, Total.ABSOLUTE, np.abs(predicted - actual))
            table.sum(rows, Total.SQUARE, square)
            table.sum(rows, Total.FOURTH, square**2)
            level = actual - table.totals_at(rows, Total.ORIGIN)
            table.sum(rows, Total.ACTUAL, level)
            table.sum(rows, Total.ACTUAL_SQUARE, level**2)
            relative = actual != 0
            share = np.abs((predicted - actual)[relative] / actual[relative])
            table.bump(rows[relative], Count.RELATIVE)
            table.sum(rows[relative], Total.RELATIVE, share)
            table.sum(rows[relative], Total.RELATIVE_SQUARE, share**2)

    def _add_labels(
        self, rows: IntArray, panes: IntArray, predicted: FloatArray, actual: FloatArray, score: FloatArray
    ) -> None:
        unknown = unknown_pairs(self.task, predicted, actual)
        doubtful = ~unknown & is_doubtful(score)
        kept = ~(unknown | doubtful)
        if not kept.all():
            self._table.bump(rows[unknown], UNKNOWN)
            cell = 2 * (score[doubtful] > DOUBTFUL) + (actual[doubtful] == POSITIVE)
            self._table.bump(rows[doubtful], DOUBTFUL_PAIRS + cell)
            rows, panes = rows[kept], panes[kept]
            predicted, actual, score = predicted[kept], actual[kept], score[kept]
        correct = predicted == actual
        self._table.bump(rows[correct], Count.CORRECT)
        if self.task is Task.BINARY:
            classes = actual <= POSITIVE  # others are equal or not, and that is all
            yes, truth = predicted == POSITIVE, actual == POSITIVE
            for column, where in (
                (Count.TRUE_POSITIVE, yes & truth), (Count.FALSE_POSITIVE, yes & ~truth),
                (Count.FALSE_NEGATIVE, ~yes & truth), (Count.TRUE_NEGATIVE, classes & ~yes & ~truth),
            ):  # fmt: skip
                self._table.bump(rows[where], column)
        else:
            truth = correct
            self._labels.add(panes, predicted, actual, correct)
        probable = ~np.isnan(score)
        self._add_scores(rows[probable], panes[probable], score[probable], truth[probable])

    def _add_scores(self, rows: IntArray, panes: IntArray, score: FloatArray, truth: BoolArray) -> None:
        """Add scores in [0, 1] of what is true or not: the positive class, or that the prediction is right."""
        if not len(score):
            return
        table = self._table
        table.bump(rows, Count.PROBABLE)
        table.bump(rows, PROBABILITIES)
        bins = np.minimum((score * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        table.bump(rows, BIN_EVENTS + bins)
        table.bump(rows[truth], BIN_HITS + bins[truth])
        table.sum(rows, BIN_SCORES + bins, score)
        if self.task is not Task.BINARY:
            return  # the probabilities of the other classes are not kept
        brier = (score - truth) ** 2
        loss = -np.log(np.clip(np.where(truth, score, 1 - score), CLIP, 1.0))
        for column, values in (
            (Total.BRIER, brier), (Total.BRIER_SQUARE, brier**2),
            (Total.LOG_LOSS, loss), (Total.LOG_LOSS_SQUARE, loss**2),
        ):  # fmt: skip
            table.sum(rows, column, values)
        self._scores.add(panes, score, truth, table.counts_at(rows, Count.BINNED) > 0)

    def _add_user_metrics(
        self,
        rows: IntArray,
        metrics: Sequence[Mapping[str, float | None] | None],
        place_of: Callable[[str], int | None],
    ) -> None:
        for row, values in zip(rows.tolist(), metrics, strict=True):
            for name, value in (values or {}).items():
                place = place_of(name)
                if place is not None and value is not None:
                    at = USER_TOTALS + 2 * place
                    self._table.add_one(row, USER_COUNTS + place, {at: value, at + 1: value * value})

    # -- reading -----------------------------------------------------------------------------------------

    @property
    def baseline_pairs(self) -> int:
        """Pairs in the baseline so far."""
        return self._table.count_of(BASELINE_PANE, Count.JOINED)

    def coverage(self) -> tuple[IntArray, IntArray, IntArray]:
        """Return (panes ascending, predictions that an outcome can score, those that one has), without the baseline."""
        panes, counts = self._table.column([Count.SCORABLE, Count.SCORED], _OF_BASELINE)
        return panes, counts[:, 0], counts[:, 1]

    def agreement(self, first: int, last: int) -> Estimate | None:
        """Share of answers of the panes from `first` to `last` that agreed with the served ones."""
        paired, agreed = self._table.summed(first, last, [Count.PAIRED, Count.AGREED])
        return Estimate.share(float(agreed), paired) if paired else None

    def metrics(self, first: int, last: int, user_metrics: Sequence[str]) -> dict[str, Estimate]:
        """Compute the listed metrics of the panes from `first` to `last`; those without data are left out.

        Coverage, the delay of outcomes and the user's own metrics are never left out.
        """
        counts, totals = self._table.select(first, last)
        with np.errstate(over="ignore", invalid="ignore"):
            count, total = counts.sum(axis=0), totals.sum(axis=0)
        found: dict[str, Estimate] = {}
        joined = int(count[Count.JOINED])
        if count[Count.SCORABLE] and last != BASELINE_PANE:
            found["coverage"] = Estimate.share(int(count[Count.SCORED]), int(count[Count.SCORABLE]))
        if joined:
            found["label_delay_s"] = Estimate.mean(total[Total.DELAY], total[Total.DELAY_SQUARE], joined)
        if count[Count.SCORED]:
            if self.task is Task.REGRESSION:
                found |= regression_metrics(count, total, spread_of(counts[:, Count.SCORED], totals))
            else:
                found |= self._label_metrics(count, total, first, last)
        found = {name: estimate for name, estimate in found.items() if name not in self._unlisted}
        for place, name in enumerate(user_metrics):
            if n := int(count[USER_COUNTS + place]):
                at = USER_TOTALS + 2 * place
                found[name] = Estimate.mean(float(total[at]), float(total[at + 1]), n)
        return found

    def reading(self, first: int, last: int) -> bool | None:
        """Return whether numbers are probabilities in these panes, or labels; None without any number."""
        if self.task is not Task.BINARY:
            return None
        columns = [PROBABILITIES, *range(DOUBTFUL_PAIRS, DOUBTFUL_PAIRS + 4)]
        sure, *doubtful = self._table.summed(first, last, columns)
        return sure > 0 if sure or any(doubtful) else None

    def _label_metrics(self, count: IntArray, total: FloatArray, first: int, last: int) -> dict[str, Estimate]:
        ends = np.zeros((2, 2), np.int64)
        if self.task is Task.BINARY:
            probabilities = bool(count[PROBABILITIES])
            ends = count[DOUBTFUL_PAIRS : DOUBTFUL_PAIRS + 4].reshape(2, 2)
            readings = self._readings
            classes = readings.probabilities if probabilities else readings.labels
            count, total = with_ends(count, total, ends, classes, probabilities=probabilities)
            ends = ends if probabilities else np.zeros_like(ends)
        n = int(count[Count.SCORED] - count[UNKNOWN])
        if not n:
            return {}
        found: dict[str, Estimate | None] = {"accuracy": Estimate.share(float(count[Count.CORRECT]), n)}
        if self.task is Task.BINARY:
            found |= confusion_metrics(count)
        elif "f1_macro" not in self._unlisted:
            found["f1_macro"] = self._labels.macro_f1(first, last)
        if probable := int(count[Count.PROBABLE]):
            found["ece"] = calibration_error(count, total, probable)
            if self.task is Task.BINARY:
                found["brier"] = Estimate.mean(total[Total.BRIER], total[Total.BRIER_SQUARE], probable)
                found["log_loss"] = Estimate.mean(total[Total.LOG_LOSS], total[Total.LOG_LOSS_SQUARE], probable)
                if "roc_auc" not in self._unlisted:
                    self.bound_scores(first, last)
                    (binned,) = self._table.summed(first, last, [Count.BINNED])
                    found["roc_auc"] = self._scores.auc(first, last, ends, binned=binned > 0)
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    # -- keeping -----------------------------------------------------------------------------------------

    def bound_scores(self, first: int = 0, last: int = BASELINE_PANE) -> None:
        """Bin the scores of panes with more distinct scores of a class than are kept.

        Done before every reading, so whether a pane is binned is a matter of its scores and not of who asked when.
        """
        panes = self._scores.panes_above(first, last) if self.task is Task.BINARY else set()
        if panes:
            self._table.mark(panes, Count.BINNED)
            self._scores.bin(np.array(sorted(panes), np.int64))

    def touch(self) -> None:
        """Count all panes as changed."""
        self._table.touch()

    def drain_dirty(self) -> set[int]:
        """Return the panes changed since this was last called; called by the commit."""
        return self._table.drain_dirty()

    def drop(self, before: int) -> None:
        """Forget panes before `before`; the baseline stays."""
        if self._table.drop(before):
            for counts in self._sparse():
                counts.drop(before, BASELINE_PANE)

    def _sparse(self) -> Iterable[SparseCounts]:
        scores, labels = self._scores, self._labels
        return scores.negative, scores.positive, labels.right, labels.predicted, labels.actual

    def snapshot(self, panes: Iterable[int] | None = None) -> dict[str, NDArray[Any]]:
        """Return arrays that say all of these panes, or of all; absolute values: a later one replaces an earlier."""
        arrays = self._table.snapshot(panes)
        for i, counts in enumerate(self._sparse()):
            arrays[f"key{i}"], arrays[f"keyed{i}"] = counts.of_panes(arrays["pane"])
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a snapshot in, in place of what is known of its panes."""
        panes = self._table.restore(arrays)
        for i, counts in enumerate(self._sparse()):
            counts.replace_panes(panes, arrays[f"key{i}"].astype(np.uint64), arrays[f"keyed{i}"].astype(np.int64))

    @property
    def panes(self) -> int:
        """Rows held."""
        return len(self._table)


def _unlisted(listed: Collection[str] | None) -> frozenset[str]:
    """Metrics of quality that nobody asked for."""
    if listed is None:
        return frozenset()
    return frozenset(name for name, info in METRICS.items() if info.of_quality and name not in listed)
