"""What the core is told: models, windows, rules, limits. Frozen, plain, without defaults of its own.

`config` makes these of the YAML file, and that is where defaults and explanations live; tests make them by
hand. Durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fallback.types import ServingSpec


class Task(StrEnum):
    """What a model predicts."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"


class FeatureKind(StrEnum):
    """How a feature is compared, where its values should not decide."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    IGNORE = "ignore"


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    CRITICAL = "critical"


class Consequence(StrEnum):
    """What a rule does beyond telling."""

    NONE = "none"
    FALLBACK = "fallback"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Either by time (`pane`, `span`, `longest`, `min_events`) or counted (`events`, `every`); the rest is 0."""

    pane: int = 0
    span: int = 0
    longest: int = 0
    min_events: int = 0
    events: int = 0
    every: int = 0

    @property
    def counted(self) -> bool:
        """Whether panes are numbers of events."""
        return self.events > 0


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """`alarms` false alarms in `period` ms, or in `events` events; the other of the two is 0."""

    alarms: float
    period: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class DriftSpec:
    """Detectors by name, what they may cost in false alarms, and how small an effect is not worth an alarm."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    budget: BudgetSpec
    min_effect: Mapping[str, float]
    resolve_after: int


@dataclass(frozen=True, slots=True)
class OutcomesSpec:
    """How long predictions and outcomes wait for each other, and what is made of them.

    `pane` is 0 where windows are counted.
    """

    prediction_ttl: int
    outcome_ttl: int
    min_coverage: float
    pane: int
    baseline_n: int
    concept_drift: str | None
    metrics: tuple[str, ...] | None  # None: all of the task


class Bound(StrEnum):
    """On which side of its limit a metric is bad."""

    ABOVE = "above"
    BELOW = "below"


class LimitBasis(StrEnum):
    """What a rule's limit is measured from."""

    NOTHING = "nothing"  # the limit is the number itself
    SHARE = "share"  # the limit is `limit` times the baseline
    POINTS = "points"  # the limit is the baseline plus `limit`


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A condition on a metric of one version.

    It has to hold for `checks` checks or for `dwell` ms (the other is 0 or 1) before it fires. `hard`
    compares the bare number; otherwise chance must be excluded as well.
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
    """A file (`path`), or the first `learn` predictions (0: not learned); neither: no drift checks."""

    path: str | None
    learn: int
    points: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything is bounded."""

    features: int = 500
    event_bytes: int = 1 << 20
    id_length: int = 256
    versions: int = 20
    segments: int = 200
    labels: int = 1000
    user_metrics: int = 16
    pending: int = 1_500_000
    seen: int = 3_500_000


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model."""

    name: str
    task: Task
    positive: str | None
    threshold: float
    agreement_tolerance: float  # regression: answers this close, relative to the served one, agree
    reference: ReferenceSpec
    feature_kinds: Mapping[str, FeatureKind]
    window: WindowSpec
    drift: DriftSpec | None
    outcomes: OutcomesSpec | None
    rules: tuple[RuleSpec, ...]
    recover_after: int
    no_data_after: int  # 0: never
    directions: Mapping[str, str]  # the user's metrics: higher or lower is better
    serving: ServingSpec


@dataclass(frozen=True, slots=True)
class CoreSpec:
    """All that the pipeline needs to know."""

    models: tuple[ModelSpec, ...]
    lateness: int
    max_future: int
    limits: Limits = field(default_factory=Limits)
