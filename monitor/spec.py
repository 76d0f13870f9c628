"""Specifications of the core: models, windows, rules and limits. Immutable, and with few defaults.

`config` builds them from the YAML file, and holds the defaults and their documentation; tests build them directly.
All durations are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from detectors.season import Season
from fallback.types import ServingSpec


class Task(StrEnum):
    """What a model predicts."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"


class AnswerReading(StrEnum):
    """What the numbers 0 and 1 are as answers of a binary task."""

    AUTO = "auto"  # whatever the answers around them say
    LABEL = "label"
    PROBABILITY = "probability"


class FeatureKind(StrEnum):
    """How a feature is compared, where its JSON type would mislead."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    IGNORE = "ignore"


class Severity(StrEnum):
    """Severity of an alert."""

    WARNING = "warning"
    CRITICAL = "critical"


class Consequence(StrEnum):
    """What a rule does when it fires, beside raising an alert."""

    NONE = "none"
    FALLBACK = "fallback"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A sliding window, by time (`pane`, `span`, `longest`, `min_events`) or counted (`events`, `every`).

    Attributes:
        pane: Width of a pane in ms; the window is checked at each end of a pane.
        span: Minimum extent in ms, a multiple of `pane`.
        longest: Maximum extent in ms.
        min_events: Minimum number of predictions; the window extends up to `longest` to reach it.
        events: Number of predictions of a counted window; 0 for a window by time, whose other fields are then 0.
        every: Number of predictions between two checks of a counted window; divides `events`.
    """

    pane: int = 0
    span: int = 0
    longest: int = 0
    min_events: int = 0
    events: int = 0
    every: int = 0

    @property
    def counted(self) -> bool:
        """Whether the window is counted in events."""
        return self.events > 0


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """A false-alarm budget: `alarms` in `period` ms, or in `events` events; the other one is 0."""

    alarms: float
    period: int = 0
    events: int = 0


def default_budget(window: WindowSpec) -> BudgetSpec:
    """Return the budget of a model that states none: by events where its windows are counted, else by time."""
    return BudgetSpec(1, events=1_000_000) if window.counted else BudgetSpec(1, period=30 * 86_400_000)


@dataclass(frozen=True, slots=True)
class DriftSpec:
    """Drift detection of a model.

    Attributes:
        numeric: Names of the detectors of numeric features.
        categorical: Names of the detectors of categorical features.
        budget: False alarms accepted for the whole model.
        min_effect: Effect size by detector below which no alarm is raised.
        resolve_after: Consecutive calm checks that resolve an alert.
        windows: Extents of the windows that are checked, in multiples of the configured one, which is 1.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    budget: BudgetSpec
    min_effect: Mapping[str, float]
    resolve_after: int
    windows: tuple[float, ...] = (1.0,)


LEARNING: Final = 200_000  # default of `limits.learning`
BASELINE_MAX: Final = 20  # default of `outcomes.baseline_max`
BASELINE_N: Final = 1000  # answers of a version's baseline and own reference where a model expects no outcomes


@dataclass(frozen=True, slots=True)
class OutcomesSpec:
    """Outcomes of a model.

    Attributes:
        prediction_ttl: How long a prediction waits for its outcome, in ms.
        outcome_ttl: How long an outcome waits for its prediction, in ms.
        min_coverage: Share of outcomes at which a window is judged before its outcomes are final.
        pane: Width of the panes of quality in ms; 0 where windows are counted.
        baseline_n: Matched pairs, and answers, of a version from which on its baselines are used; by time, whole panes.
        concept_drift: Name of the detector of concept drift; None: off.
        metrics: Quality metrics to keep; None: all of the task.
        baseline_max: Windows by time that a growing baseline spans at most.
    """

    prediction_ttl: int
    outcome_ttl: int
    min_coverage: float
    pane: int
    baseline_n: int
    concept_drift: str | None
    metrics: tuple[str, ...] | None
    baseline_max: int = BASELINE_MAX


class Bound(StrEnum):
    """On which side of its limit a metric breaches."""

    ABOVE = "above"
    BELOW = "below"


class LimitBasis(StrEnum):
    """What the limit of a rule is relative to."""

    NOTHING = "nothing"  # the limit is absolute
    SHARE = "share"  # the limit is `limit` times the baseline
    POINTS = "points"  # the limit is the baseline plus `limit`


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A limit on a metric of each version.

    A rule fires once it has breached for `checks` consecutive checks (then `dwell` is 0) or for `dwell` ms (then
    `checks` is 1). With `hard` the value alone is compared with the limit; otherwise the breach must also be
    statistically significant. With fewer than `min_n` events behind the metric the rule is not evaluated.
    """

    name: str
    metric: str
    bound: Bound
    limit: float
    reference: LimitBasis
    severity: Severity
    checks: int
    dwell: int
    then: Consequence
    hard: bool
    min_n: int


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """Where the reference of a model comes from; without `path` and `learn` there are no drift checks.

    Attributes:
        path: File of a table or of a built profile.
        learn: Least number of first predictions to learn the reference from; 0: not learned.
        points: Number of points that summarise the distribution of a numeric feature.
        season: What repeats itself, by which rows are told apart; None: nothing.
        columns: Column of a table that holds the prediction, the score, the actual value or the time, by that; None
            where no column does. By default the column of that name.
        rolling: Renew it from the latest stretch of stream time that is so long, in ms; None: it stays.
    """

    path: str | None
    learn: int
    points: int
    columns: Mapping[str, str | None] = field(default_factory=dict)
    season: Season | None = None
    rolling: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds that keep memory and messages finite."""

    features: int = 500
    event_bytes: int = 1 << 20
    id_length: int = 256
    versions: int = 20
    segments: int = 200
    labels: int = 50_000
    user_metrics: int = 16
    pending: int = 1_500_000
    seen: int = 3_500_000
    ended: int = 1_000_000
    learning: int = LEARNING


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model."""

    name: str
    task: Task
    positive: str | None
    threshold: float
    agreement_tolerance: float  # regression: maximum relative difference of two answers that agree
    reference: ReferenceSpec
    feature_kinds: Mapping[str, FeatureKind]  # by `names.shown_name`
    window: WindowSpec
    drift: DriftSpec | None
    outcomes: OutcomesSpec | None
    rules: tuple[RuleSpec, ...]
    recover_after: int
    no_data_after: int  # 0: never
    serving: ServingSpec
    answers: AnswerReading = AnswerReading.AUTO
    user_metrics: tuple[str, ...] = ()  # the user's own that are configured: they have their places first
    own_rules: bool = False  # whether the configuration has `rules:`, or these are the default ones
    false_alarms: BudgetSpec | None = None  # as stated without a reference; None: the default

    @property
    def budget(self) -> BudgetSpec:
        """The false alarms that are accepted, of rules alone where drift is not watched."""
        if self.drift is not None:
            return self.drift.budget
        return self.false_alarms or default_budget(self.window)


@dataclass(frozen=True, slots=True)
class CoreSpec:
    """The specification of the pipeline.

    Attributes:
        models: In the order of the configuration.
        allowed_lateness: How far an event may lag behind the latest one of its partition, in ms.
        max_future: How far an event may be ahead of its record's timestamp, in ms.
        limits: Upper bounds.
        max_past: How much older than its record's timestamp an event may be, in ms; None: any age.
        refuse_unknown_models: Refuse events of models that are not configured, instead of ignoring them.
    """

    models: tuple[ModelSpec, ...]
    allowed_lateness: int
    max_future: int
    limits: Limits = field(default_factory=Limits)
    max_past: int | None = None
    refuse_unknown_models: bool = False
