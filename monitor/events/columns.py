"""Events as columns: what the stages after the decoder work on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.events.features import NO_FEATURES, FeatureTable


class EventKind(IntEnum):
    """What an event is. The first three are what the join knows (`join.rows.EventKind`)."""

    SERVED = 0
    UNSERVED = 1
    OUTCOME = 2
    RESOURCES = 3


@dataclass(frozen=True, slots=True)
class Events:
    """Accepted events of a batch in order, as columns of equal length.

    A value that an event does not have is NaN, 0 or None.

    Attributes:
        row: Position of the record in the batch.
        kind: `EventKind`.
        model: Index of the model in the configuration.
        variant: `VariantCode`; of an outcome that of its model.
        time: The event's own time in milliseconds since the epoch.
        effective_time: The later of that and its partition's time less the allowed lateness, ms: an event counts as
            no older than what its partition may still bring in time. Filled by the pipeline.
        lo, hi: 128-bit hash of (model, request id).
        value: The predicted or actual number, or its `LabelCode`; NaN without one.
        score: Probability of the positive (binary) or of the predicted class (multiclass).
        probability: Of the positive (binary) or of the most likely class (multiclass); NaN without scores.
        segment: Code of the segment, 0 without one.
        served_by: Index in `schema.SERVED_BY`.
        failed: The answer is an error.
        contaminated: Another version than the assigned one answered at the primary tier.
        latency: Milliseconds.
        batch_size, batch_ms: Size and duration of the batch of predictions.
        resources: Shape (events, 3): memory in MB, CPU and GPU in percent.
        metrics: The user's own metrics: a dict, or None.
        faults: What cannot be used of the record and counts as missing: a tuple of `FieldFault`, or None.
        feature_row: Row of a prediction in its model's features, -1 for other events.
        features: By model index. They satisfy the schema; no reference is involved.
    """

    row: IntArray
    kind: NDArray[np.uint8]
    model: IntArray
    variant: NDArray[np.uint16]
    time: IntArray
    effective_time: IntArray
    lo: NDArray[np.uint64]
    hi: NDArray[np.uint64]
    value: FloatArray
    score: FloatArray
    probability: FloatArray
    segment: NDArray[np.uint16]
    served_by: NDArray[np.uint8]
    failed: BoolArray
    contaminated: BoolArray
    latency: FloatArray
    batch_size: FloatArray
    batch_ms: FloatArray
    resources: FloatArray
    metrics: NDArray[np.object_]
    faults: NDArray[np.object_]
    feature_row: IntArray
    features: Mapping[int, FeatureTable]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: IntArray) -> Events:
        """Select events. The features stay whole: `feature_row` still points into them."""
        return Events(**{f.name: _taken(getattr(self, f.name), rows) for f in fields(self)})

    def compact(self) -> Events:
        """Drop the features that no event points at any more."""
        features, feature_row = dict(self.features), self.feature_row.copy()
        for model, table in self.features.items():
            mine = np.flatnonzero((self.model == model) & (feature_row >= 0))
            features[model] = table.take(feature_row[mine])
            feature_row[mine] = np.arange(len(mine))
        return replace(self, features=features, feature_row=feature_row)

    @staticmethod
    def joined(parts: Sequence[Events], rows: Sequence[int]) -> Events:
        """Put events one after the other.

        Args:
            parts: At least one.
            rows: What is added to `row` of the events of each part.
        """
        columns = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Events)
            if f.name not in ("row", "feature_row", "features")
        }
        features = {
            model: FeatureTable.joined([part.features.get(model, NO_FEATURES) for part in parts])
            for model in sorted({model for part in parts for model in part.features})
        }
        return Events(
            row=np.concatenate([part.row + first for part, first in zip(parts, rows, strict=True)]),
            feature_row=np.concatenate(_feature_rows(parts)),
            features=features,
            **columns,
        )


def _feature_rows(parts: Sequence[Events]) -> list[IntArray]:
    """Return the feature rows of each part in the joined tables."""
    found, first = [], dict.fromkeys((model for part in parts for model in part.features), 0)
    for part in parts:
        moved = part.feature_row.copy()
        for model, table in part.features.items():
            moved[(part.model == model) & (moved >= 0)] += first[model]
            first[model] += len(table)
        found.append(moved)
    return found


def _taken(column: Any, rows: IntArray) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else column


class EventColumns:
    """Columns of `count` events while the decoder fills them."""

    def __init__(self, count: int) -> None:
        self.time = np.zeros(count, np.int64)
        self.effective_time = np.zeros(count, np.int64)
        self.model = np.zeros(count, np.int64)
        self.variant = np.zeros(count, np.uint16)
        self.lo = np.zeros(count, np.uint64)
        self.hi = np.zeros(count, np.uint64)
        self.value = np.full(count, np.nan)
        self.score = np.full(count, np.nan)
        self.probability = np.full(count, np.nan)
        self.segment = np.zeros(count, np.uint16)
        self.served_by = np.zeros(count, np.uint8)
        self.failed = np.zeros(count, np.bool_)
        self.contaminated = np.zeros(count, np.bool_)
        self.latency = np.full(count, np.nan)
        self.batch_size = np.full(count, np.nan)
        self.batch_ms = np.full(count, np.nan)
        self.resources = np.full((count, 3), np.nan)
        self.metrics = np.full(count, None, np.object_)
        self.faults = np.full(count, None, np.object_)
        self.feature_row = np.full(count, -1, np.int64)
        self.features: dict[int, FeatureTable] = {}

    def events(self, row: IntArray, kind: NDArray[np.uint8]) -> Events:
        """Return the columns as events."""
        return Events(row=row, kind=kind, **vars(self))


def numbers_of(values: Sequence[float | None]) -> FloatArray:
    """Convert numbers to an array, with NaN for None."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except TypeError:
        return np.array(values, np.float64)
