"""What stage one hands to a model: columns of one batch, as values.

Pure. A batch of events and the result of its join are split by model here. `position` is always the row of
the batch that an entry belongs to, so that a model can put everything into the order of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.pair_readings import unknown_pairs
from monitor.aggregation.pairs import MatchedPairs, ShadowComparisons, UserMetrics
from monitor.aggregation.predictions import Predictions
from monitor.events.columns import EventKind, Events
from monitor.events.features import NO_FEATURES
from monitor.join.results import ComparedAnswers, Joined, JoinedPairs
from monitor.spec import ModelSpec, Task


@dataclass(frozen=True, slots=True)
class ResourceSamples:
    """Reported resources of versions of one model. `amounts` is (samples, 3): memory in MB, CPU and GPU in percent."""

    position: IntArray
    variant: IntArray
    time: IntArray
    amounts: FloatArray


@dataclass(frozen=True, slots=True)
class ModelBatch:
    """Everything that one batch brings to one model."""

    predictions: Predictions
    pairs: MatchedPairs
    comparisons: ShadowComparisons
    resources: ResourceSamples


def predictions_of(
    model: int, task: Task, events: Events, taken: BoolArray, joined: Joined, settled: Callable[[IntArray], IntArray]
) -> Predictions:
    """Select the predictions of a model that are `taken`: accepted, in time, and no repeats.

    Args:
        model: Index of the model.
        task: What it predicts.
        events: The batch.
        taken: Which events are.
        joined: What became of each event.
        settled: From variants as they came to those that they are counted under.
    """
    rows = np.flatnonzero(taken & (events.model == model))
    features = events.features.get(model, NO_FEATURES)
    its = events if len(rows) == len(events) else events.take(rows)
    wanted = its.feature_row
    if len(wanted) != len(features) or (wanted != np.arange(len(wanted))).any():  # merged: in another order
        features = features.take(wanted)
    return Predictions(
        position=rows,
        events=its,
        variant=settled(its.variant.astype(np.int64)),
        scorable=(joined.slot[rows] >= 0) & ~np.isnan(its.value),
        measured=_measured(task, its),
        features=features,
    )


def _measured(task: Task, its: Events) -> FloatArray:
    if task is Task.REGRESSION:
        return its.value
    return its.probability if task is Task.BINARY else its.score


def matched_pairs_of(
    model: int, events: Events, pairs: JoinedPairs, owner: IntArray, early: Mapping[int, UserMetrics]
) -> MatchedPairs:
    """Select the pairs of a model.

    Args:
        model: Index of the model.
        events: The batch.
        pairs: Of all models.
        owner: Index of the model by variant code.
        early: Metrics that came with outcomes before their predictions, by the low half of the request's hash.
    """
    mine = np.flatnonzero(owner[pairs.variant] == model)
    row = pairs.row[mine]
    metrics: list[UserMetrics | None] = [None] * len(mine)
    if len(mine):
        by_outcome = events.kind[row] == EventKind.OUTCOME
        given = events.metrics[row]
        requests = pairs.request[mine].tolist() if early else ()
        metrics = [m if outcome else None for m, outcome in zip(given, by_outcome.tolist(), strict=True)]
        for i, request in enumerate(requests):
            if not by_outcome[i]:
                metrics[i] = early.get(request)
    return MatchedPairs(
        position=row,
        request=pairs.request[mine],
        hi=pairs.hi[mine],
        pair_time=pairs.pair_time[mine],
        variant=pairs.variant[mine],
        pane=pairs.pane[mine],
        predicted=pairs.predicted[mine],
        score=pairs.score[mine],
        actual=pairs.actual[mine],
        time=pairs.outcome_time[mine],
        delay=(pairs.outcome_time[mine] - pairs.time[mine]) / 1000,
        metrics=metrics,
    )


def shadow_comparisons_of(
    model: int,
    spec: ModelSpec,
    compared: ComparedAnswers,
    owner: IntArray,
    settled: Callable[[FloatArray], FloatArray],
) -> ShadowComparisons:
    """Select the comparisons of a model; numbers agree within the configured tolerance, labels where they are equal.

    Args:
        model: Index of the model.
        spec: The model.
        compared: Of all models.
        owner: Index of the model by variant code.
        settled: From codes of labels as they came to those that they are compared by; see `Labels.compared`.
    """
    missing = np.isnan(compared.served_value) | np.isnan(compared.other_value)
    return agreement_of(spec, compared.take(np.flatnonzero((owner[compared.variant] == model) & ~missing)), settled)


def agreement_of(
    spec: ModelSpec, compared: ComparedAnswers, settled: Callable[[FloatArray], FloatArray]
) -> ShadowComparisons:
    """Tell of answers of one model, none of them NaN, which agree; see `shadow_comparisons_of`."""
    served, other = compared.served_value, compared.other_value
    if spec.task is Task.REGRESSION:
        agreed = np.abs(other - served) <= spec.agreement_tolerance * np.abs(served)
    else:
        served, other = settled(served), settled(other)
        unknown = unknown_pairs(spec.task, other, served)
        if unknown.any():
            compared, served, other = compared.take(np.flatnonzero(~unknown)), served[~unknown], other[~unknown]
        agreed = served == other
    return ShadowComparisons(
        compared.row, compared.request, compared.hi, compared.pair_time, compared.variant, compared.pane, agreed
    )  # fmt: skip


def resource_samples_of(
    model: int, events: Events, late: BoolArray, settled: Callable[[IntArray], IntArray]
) -> ResourceSamples:
    """Select the reported resources of a model that are not late."""
    mine = np.flatnonzero((events.kind == EventKind.RESOURCES) & (events.model == model) & ~late)
    variant = settled(events.variant[mine].astype(np.int64))
    return ResourceSamples(mine, variant, events.time[mine], events.resources[mine])
