"""Counts of predictions that came before the reference that they are compared with.

They were kept as they came, in panes that are still open; once the reference is in force they are counted. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.types import FloatArray, IntArray
from monitor.aggregation.predictions import groups_of
from monitor.events.codes import Labels
from monitor.events.features import FeatureDecoder, FeatureTable
from monitor.events.readings import LabelCode
from monitor.events.schema import ignored_names
from monitor.reference.feature_reader import FeatureColumns
from monitor.reference.pane_rows import RAW, SCORE, TIME, VALUE, VARIANT, Rows
from monitor.spec import ModelSpec

_AT_ONCE: Final = 10_000  # features that are decoded together: bounds memory


@dataclass(frozen=True, slots=True)
class LateCounts:
    """What predictions of an open pane count against a reference that was not in force when they came."""

    variant: int
    pane: int
    counts: Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Sealed:
    """What follows for panes from the end of one.

    Attributes:
        late: What predictions of later panes count against references that panes are counted against from now on.
        void: Names of vectors that nothing is compared with any more.
    """

    late: list[LateCounts]
    void: tuple[str, ...] = ()


def late_features(
    spec: ModelSpec,
    reference: Comparison,
    read: Callable[[FeatureTable, IntArray], FeatureColumns | None],
    rows: Rows,
) -> list[LateCounts]:
    """Count kept features against a reference.

    Args:
        spec: The model.
        reference: Of its features; in force from a pane on that has begun.
        read: Reads what the reference compares of features and the times (ms) of their predictions.
        rows: Time, version and undecoded features of each prediction.
    """
    found: list[LateCounts] = []
    raws = rows[RAW].tolist()
    decoder = FeatureDecoder(ignored_names(spec.feature_kinds), sys.maxsize)
    for start in range(0, len(raws), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        columns = read(_decoded(decoder, raws[part]), rows[TIME][part])
        if columns is not None:
            for variant, pane, at in groups_of(rows[VARIANT][part], rows[TIME][part] // spec.window.pane):
                time = rows[TIME][part][at]
                found.append(LateCounts(variant, pane, feature_counts(reference, columns, at, time)))
    return found


def feature_counts(reference: Comparison, columns: FeatureColumns, at: IntArray, time: IntArray) -> dict[str, Counts]:
    """Count features of some predictions against a reference, with values of another type where there are any.

    Args:
        reference: Of the features.
        columns: The features of all predictions.
        at: Indices of the predictions that are counted.
        time: Their times, ms.
    """
    counts = reference.bin_counts(columns.numbers[at], [codes[at] for codes in columns.codes], time)
    if columns.mistyped_at:
        mistyped = np.zeros(columns.numbers.shape[1], np.int64)
        for feature, rows in columns.mistyped_at.items():
            mistyped[feature] = np.count_nonzero(rows[at])
        if mistyped.any():
            counts[reference.mistyped] = Counts(len(mistyped), None, mistyped)
    return counts


def _decoded(decoder: FeatureDecoder, raws: Sequence[bytes]) -> FeatureTable:
    table, bad = decoder.decode(raws)
    if bad:  # accepted under another configuration of what is ignored
        unusable = set(bad)
        table, _ = decoder.decode([b"" if i in unusable else raw for i, raw in enumerate(raws)])
    return table


def late_answers(spec: ModelSpec, labels: Labels, reference: Comparison, rows: Rows) -> list[LateCounts]:
    """Count kept predictions and scores of a version against a reference."""
    value, score = rows[VALUE], rows[SCORE]
    return [
        LateCounts(
            variant,
            pane,
            reference.bin_counts(*answer_columns(labels, reference, value[at], score[at]), rows[TIME][at]),
        )
        for variant, pane, at in groups_of(rows[VARIANT], rows[TIME] // spec.window.pane)
    ]


def answer_columns(
    labels: Labels, reference: Comparison, value: FloatArray, score: FloatArray
) -> tuple[FloatArray, list[IntArray]]:
    """Make predictions and scores the features of a comparison: (numbers, cells of labels).

    Answers of exactly 0 and 1 are read as those of the reference were: as probabilities where it has scores.
    """
    scored = any(r.name == "score" for r in reference.numeric_cells.references)
    value, score = labels.readings.read(value, score, probabilities=scored)
    columns = {"prediction": value, "score": score}
    numbers = [columns[r.name] for r in reference.numeric_cells.references]
    matrix = np.column_stack(numbers) if numbers else np.zeros((len(value), 0))
    return matrix, [_label_cells(labels, reference, f, value) for f in range(len(reference.category_cells))]


def _label_cells(labels: Labels, reference: Comparison, feature: int, values: FloatArray) -> IntArray:
    """Cells of label codes. A table may call a label by another of its names than the stream does."""
    codes = reference.category_cells.codes[feature]
    categories = reference.category_cells.references[feature].categories
    values = labels.codes.settled_values(values)
    of_label = {labels.find(text): i for i, text in enumerate(categories)}
    distinct, where = np.unique(values, return_inverse=True)
    seen = [LabelCode(int(c)) for c in distinct.tolist()]
    cells = [of_label.get(c, codes[labels.text(c)]) for c in seen]
    result: IntArray = np.array(cells, np.int64)[where]
    return result
