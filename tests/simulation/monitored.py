"""The evaluation that ships, fed pane by pane: a model as the daemon holds it, without reading and joining of events.

What a pane brings goes the way of `monitor.pipeline.model`: outcomes into the sums of their panes, the closed pane into
the window and the baseline, then the check of the window, then the rules on quality. Alarms are counted from the alert
records that come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import Profile
from detectors.reference_builder import Column, build_features
from detectors.types import BoolArray, FloatArray
from detectors.window import Slice
from fallback.types import Decision
from monitor.aggregation.metrics import SUMS_SIZE
from monitor.aggregation.outcome_windows import window_of_check
from monitor.aggregation.outcomes import ScoredPairs
from monitor.aggregation.panes import Panes
from monitor.aggregation.predictions import Predictions
from monitor.alerting.records import AlertKind, AlertRecord
from monitor.config import build
from monitor.config.load import parse
from monitor.events.codes import Labels, Variants
from monitor.events.columns import EventColumns, EventKind
from monitor.events.features import NO_FEATURES
from monitor.pipeline.model import ModelMonitor
from monitor.spec import Limits, ModelSpec, Task
from tests.simulation.families import CATEGORIES, Marginal

WINDOW: Final = 1_000  # events
PANE: Final = 100  # events
STEP_MS: Final = 1_000  # between two events
START_MS: Final = 1_700_000_000_000
_FORGET: Final = 20  # panes, after which those that nobody needs are dropped
_FALSE_ALARMS: Final = frozenset({AlertKind.DRIFT, AlertKind.DATA_QUALITY, AlertKind.METRIC})
_CONFIG: Final = """\
stream: {{url: "file:./stream", events: [events]}}
store: {{url: "sqlite:///driftd.db"}}
models:
  m:
    champion: v1
    reference: reference.csv
    window: {{events: {window}, every: {pane}}}
{model}"""


def spec_of(model: str, *, window: int = WINDOW, pane: int = PANE) -> ModelSpec:
    """Return the specification of a model with version v1, from the lines of the file that follow its window.

    It has a reference, since without one drift has no budget; what that is, `Monitored` is told.
    """
    text = _CONFIG.format(window=window, pane=pane, model="".join(f"    {line}\n" for line in model.splitlines()))
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

    def counts(self, values: FloatArray) -> dict[str, Counts]:
        """Return the counts of a pane of values, shape (events, features)."""
        if self._numeric:
            return self._comparison.bin_counts(values, [])
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
        variants = Variants([spec.name], {spec.name: ("v1",)}, Limits().versions)
        labels = Labels(spec.name, Limits().labels, binary=spec.task is Task.BINARY, positive=spec.positive)
        self.spec, self._model = spec, ModelMonitor(spec, Limits(), variants, labels)
        if profile is not None:
            self._model.references.replace(profile)
        self._model.apply_config_changes(None, START_MS, None)
        self.state = self._model.versions[variants[spec.name, "v1"]]

    def panes(self, marginal: Marginal) -> FeaturePanes:
        """Return what counts features for this model, and for all with the same profile."""
        features = self._model.references.features
        if features is None:
            raise ValueError("the model has no reference")
        return FeaturePanes(features, marginal)

    @property
    def full(self) -> bool:
        """Whether the window is full, so that every pane is followed by a check."""
        return len(self.state.window) >= self.state.window.rule.span

    def add(self, pane: Slice, answers: Answers | None = None) -> Raised:
        """Take in a closed pane and, where there are any, the outcomes of its answers; return what was raised."""
        state, found = self.state, list[AlertRecord | Decision]()
        if answers is not None:
            self._add_outcomes(pane, answers)
        state.push(pane)
        if not self.full:
            return Raised()
        noted = None
        if self.spec.outcomes is not None:
            window = window_of_check(self.spec.window, self.spec.outcomes, state.window)
            state.windows.note(window)
            noted = window.first, window.last
        evaluator = self._model.evaluator
        found += evaluator.check(state, noted, [], None).published
        if answers is not None:
            found += evaluator.judge_outcomes(state, pane.end, pane.end, [], None).published
            if pane.pane % _FORGET == 0:
                self._forget(pane)
        return _raised(found)

    def _add_outcomes(self, pane: Slice, answers: Answers) -> None:
        scorable = np.flatnonzero(~answers.failed)
        at = np.full(len(scorable), pane.pane)
        self.state.expect(pane.events, at, np.zeros(len(at), np.bool_))
        nothing = np.full(len(at), np.nan)
        pairs = ScoredPairs(
            at, answers.predicted[scorable], nothing, answers.actual[scorable], np.zeros(len(at)), [None] * len(at)
        )
        self.state.add_outcomes(pairs, self._model.user_metric, pane.end)

    def _forget(self, pane: Slice) -> None:
        """Drop what no window needs any more, as the daemon does when it commits."""
        self.state.windows.finished(pane.end)
        first = self.state.windows.first_pane
        if self.state.outcomes is not None:
            self.state.outcomes.drop(min(self.state.window.first_pane, pane.pane if first is None else first))


def _raised(published: Iterable[AlertRecord | Decision]) -> Raised:
    raised = Raised()
    for what in published:
        if isinstance(what, Decision):
            raised.decisions.append(what)
        elif what.begins and what.subject.kind in _FALSE_ALARMS:
            raised.alarms.append(what)
    return raised
