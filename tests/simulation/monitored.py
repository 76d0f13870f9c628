"""The evaluation that ships, fed pane by pane: a model as the daemon holds it, without reading and joining of events.

Alarms are counted from the alert records that come out of `monitor.pipeline.simulation.SimulatedModel`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import Profile
from detectors.reference_builder import Column, build_features
from detectors.types import BoolArray, FloatArray, IntArray
from detectors.window import Slice
from fallback.types import Decision
from monitor.aggregation.metrics import SUMS_SIZE
from monitor.aggregation.outcomes import ScoredPairs
from monitor.aggregation.panes import Panes
from monitor.aggregation.predictions import Predictions
from monitor.alerting.records import AlertKind, AlertRecord
from monitor.config import build
from monitor.config.load import parse
from monitor.evaluation.budget import Allowed
from monitor.events.columns import EventColumns, EventKind
from monitor.events.features import NO_FEATURES
from monitor.pipeline.simulation import SimulatedModel
from monitor.spec import ModelSpec
from tests.simulation.families import CATEGORIES, Marginal

WINDOW: Final = 1_000  # events
PANE: Final = 100  # events
STEP_MS: Final = 1_000  # between two events
START_MS: Final = 1_700_000_000_000
FALSE_ALARMS: Final = frozenset({AlertKind.DRIFT, AlertKind.DATA_QUALITY, AlertKind.METRIC})
_CONFIG: Final = """\
stream: {{url: "file:./stream", events: [events]}}
store: {{url: "sqlite:///driftd.db"}}
models:
  m:
    champion: v1
    reference: reference.csv
    window: {window}
{model}"""


def spec_of(model: str, *, window: str = f"{{events: {WINDOW}, every: {PANE}}}") -> ModelSpec:
    """Return the specification of a model with version v1, from the lines of the file that follow its window.

    It has a reference, since without one drift has no budget; what that is, `Monitored` is told.
    """
    text = _CONFIG.format(window=window, model="".join(f"    {line}\n" for line in model.splitlines()))
    (spec,) = build.core(parse(text, {})).models
    return spec


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a pane with their outcomes.

    Attributes:
        predicted: Labels (0 and 1) or numbers, shape (events,).
        actual: The same of outcomes.
        latency: ms, shape (events,).
        failed: Which answers failed; these have no prediction.
    """

    predicted: FloatArray
    actual: FloatArray
    latency: FloatArray
    failed: BoolArray


def profile_of(values: FloatArray, marginal: Marginal, points: int) -> Profile:
    """Return the profile of a table of features x0, x1, … in time order, shape (rows, features)."""
    names = [f"x{i}" for i in range(values.shape[1])]
    columns: dict[str, Column] = {}
    for i, name in enumerate(names):
        column = values[:, i]
        columns[name] = column if marginal.numeric else [CATEGORIES[c] for c in column.astype(np.int64).tolist()]
    features = build_features(dict.fromkeys(names, marginal.numeric), columns, len(values), points)
    return Profile(features, len(values), ordered=True)


class FeaturePanes:
    """Counts features against a profile, once for all models that are compared with it."""

    def __init__(self, comparison: Comparison, marginal: Marginal) -> None:
        self._comparison, self._numeric = comparison, marginal.numeric
        codes = comparison.category_cells.codes
        self._codes = [np.array([known[text] for text in CATEGORIES], np.int64) for known in codes]

    def counts(self, values: FloatArray, time: IntArray | None = None) -> dict[str, Counts]:
        """Return the counts of a pane of values, shape (events, features); a season needs their times (ms)."""
        if self._numeric:
            return self._comparison.bin_counts(values, [], time)
        chosen = values.astype(np.int64)
        columns = [codes[chosen[:, f]] for f, codes in enumerate(self._codes)]
        return self._comparison.bin_counts(np.zeros((len(values), 0)), columns)


def feature_slice(number: int, events: int, counts: dict[str, Counts]) -> Slice:
    """Return a closed pane that has features only."""
    start = START_MS + number * events * STEP_MS
    return Slice(number, start, start + (events - 1) * STEP_MS, events, counts, np.zeros(SUMS_SIZE))


def answer_slice(number: int, answers: Answers, counts: dict[str, Counts], code: int = 1) -> Slice:
    """Return a closed pane with its answers, as stage one counts them."""
    events = len(answers.latency)
    columns = EventColumns(events)
    columns.time[:] = START_MS + (number * events + np.arange(events)) * STEP_MS
    columns.latency, columns.failed = answers.latency, answers.failed
    rows = np.arange(events)
    made = columns.events(rows, np.full(events, EventKind.SERVED, np.uint8))
    predictions = Predictions(rows, made, np.full(events, code), ~answers.failed, np.full(events, np.nan), NO_FEATURES)
    panes = Panes(lambda name: None)
    panes.add(predictions, np.full(events, number), lambda variant, rows: counts)
    return panes.close(code, number, 0)[0]


@dataclass(slots=True)
class Raised:
    """What one pane raised: alarms that began, and decisions."""

    alarms: list[AlertRecord] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)


class Monitored:
    """One model with one version, v1."""

    def __init__(self, spec: ModelSpec, profile: Profile | None) -> None:
        self.spec = spec
        self._model = SimulatedModel(spec, profile, START_MS)

    @property
    def allowed(self) -> Allowed:
        """How many false alarms the next check may raise on average."""
        return self._model.allowed

    def panes(self, marginal: Marginal) -> FeaturePanes:
        """Return what counts features for this model, and for all with the same profile."""
        (features,) = self._model.comparisons
        return FeaturePanes(features, marginal)

    def add(self, pane: Slice, answers: Answers | None = None) -> Raised:
        """Take in a closed pane and, where there are any, the outcomes of its answers; return what was raised."""
        raised = Raised()
        for what in self._model.add(pane, None if answers is None else _pairs(pane, answers)):
            if isinstance(what, Decision):
                raised.decisions.append(what)
            elif what.begins and what.subject.kind in FALSE_ALARMS:
                raised.alarms.append(what)
        return raised


def _pairs(pane: Slice, answers: Answers) -> ScoredPairs:
    scorable = np.flatnonzero(~answers.failed)
    count = len(scorable)
    return ScoredPairs(
        np.full(count, pane.pane), answers.predicted[scorable], np.full(count, np.nan), answers.actual[scorable],
        np.zeros(count), [None] * count,
    )  # fmt: skip
