"""Which keys the configuration has, what they default to, and what they may be.

Pure. Every field's description is what `config/driftd.yaml` and the documentation say of it; unknown keys are
refused. What concerns several keys at once is checked here too, so that all errors come together.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from detectors.registry import CATEGORICAL, CONCEPT, MIN_EFFECT, NUMERIC
from fallback.types import Level
from monitor.config import units
from monitor.metrics import METRICS
from monitor.spec import BudgetSpec, Consequence, FeatureKind, Severity, Task

Duration = Annotated[int, BeforeValidator(units.duration_ms)]
Share = Annotated[float, BeforeValidator(units.share)]
Budget = Annotated[BudgetSpec, BeforeValidator(units.budget)]
LimitValue = Annotated[units.Limit, BeforeValidator(units.limit)]
Points = Annotated[float, BeforeValidator(units.points)]
Dwell = Annotated[tuple[int, int], BeforeValidator(units.dwell)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Scalar = bool | int | float | str | None

HOUR: Final = 3_600_000
MOST_PANES: Final = 2_000  # of a window


class Section(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SecuritySection(Section):
    """How to be sure of the brokers and known to them."""

    tls: bool = Field(False, description="encrypt the connection and check the brokers' names")
    ca_file: str | None = Field(None, description="certificates of the authorities, PEM")
    cert_file: str | None = Field(None, description="our own certificate, for mutual TLS")
    key_file: str | None = Field(None, description="its key, where that is not in cert_file")
    key_password: str | None = Field(None, repr=False, description="password of the key")
    key_password_file: str | None = Field(None, description="a file that holds it")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(None, description="of SASL")
    username: str | None = Field(None, description="of SASL")
    password: str | None = Field(None, repr=False, description="of SASL")
    password_file: str | None = Field(None, description="a file that holds it")
    allow_insecure: bool = Field(False, description="send a password without TLS")


class StreamSection(Section):
    """Where events come from and where alerts and decisions go."""

    url: str = Field(description="kafka://host:9092,host2:9092, or file:./directory of JSON-lines topics")
    events: list[Topic] = Field(["ml.predictions", "ml.outcomes"], min_length=1, description="topics of events")
    alerts: Topic = Field("driftd.alerts", description="topic of alerts, compacted, keyed by fingerprint")
    decisions: Topic = Field("driftd.decisions", description="topic of decisions, compacted, keyed by model")
    dead_letters: Topic = Field("driftd.dead-letters", description="topic of refused records")
    group: Name = Field("driftd", description="consumer group under which progress is shown")
    start: Literal["earliest", "latest"] = Field("earliest", description="where a partition begins that was never read")
    lateness: Duration = Field(5_000, description="how much later than others an event may come and still count")
    idle_after: Duration = Field(
        10_000, description="a partition at whose end nothing comes for so long holds nobody up"
    )
    max_future: Duration = Field(600_000, description="events further ahead of their record than this are refused")
    session_timeout: Duration = Field(
        10_000, description="a broker that is silent for so long is given up and asked anew"
    )
    heartbeat: Duration = Field(300_000, description="how often the last record of a firing alert is repeated")
    dead_letters_per_minute: int = Field(
        10_000, ge=1, description="refused records of a partition before it has to wait"
    )
    security: SecuritySection = Field(SecuritySection(), description="TLS and SASL")

    @model_validator(mode="after")
    def _topics_differ(self) -> StreamSection:
        outputs = [self.alerts, self.decisions, self.dead_letters]
        if len({*outputs, *self.events}) < 3 + len(self.events):
            raise ValueError("events, alerts, decisions and dead_letters must be different topics")
        return self


class StoreSection(Section):
    """The database."""

    url: str | None = Field(
        None, repr=False, description="sqlite:///driftd.db, or postgresql+psycopg://user@host/database"
    )
    url_file: str | None = Field(None, description="a file that holds the URL, where it has a password")
    retention: Duration = Field(90 * 24 * HOUR, description="how long history and alerts are kept, in stream time")
    lease: Duration = Field(
        10_000, description="a second daemon takes over after so long without a commit of the first"
    )
    commit_every: Duration = Field(1_000, description="the longest time between commits")

    @model_validator(mode="after")
    def _one_url(self) -> StoreSection:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give either url or url_file")
        if self.commit_every * 3 > self.lease:
            raise ValueError("lease must be at least three times commit_every, or a live daemon looks dead")
        return self


class HttpSection(Section):
    """Metrics and probes."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(9464, ge=0, le=65_535, description="0 takes any free port and logs which")


class LimitsSection(Section):
    """Everything is bounded."""

    features: int = Field(500, ge=1, le=10_000, description="features of an event")
    event_bytes: int = Field(1 << 20, ge=1_024, description="size of an event")
    id_length: int = Field(256, ge=16, le=4_096, description="characters of an id, a name or a label")
    versions: int = Field(20, ge=1, le=1_000, description="versions of a model; more are measured together")
    segments: int = Field(200, ge=1, le=10_000, description="segments; more share one")
    labels: int = Field(1_000, ge=2, le=100_000, description="classes of a model; more share one")
    pending: int = Field(1_000_000, ge=1_000, description="answers that wait for their outcome; beyond, a sample waits")
    seen: int = Field(4_000_000, ge=1_000, description="requests remembered to recognise repeats")
    outbox: int = Field(50_000, ge=1_000, description="messages waiting to be published; beyond, reading waits")


class ReferenceSection(Section):
    """What normal is."""

    path: str | None = Field(None, description="a built profile, or a table: CSV, CSV.gz, JSON lines, Parquet")
    learn: int = Field(0, ge=0, description="learn it from the first so many predictions instead")
    points: int = Field(2_048, ge=16, le=100_000, description="points kept of a numeric feature")

    @model_validator(mode="after")
    def _one_source(self) -> ReferenceSection:
        if (self.path is None) == (self.learn == 0):
            raise ValueError("give either path or learn")
        if self.learn and self.learn < 100:
            raise ValueError("learn: at least 100 predictions are needed")
        return self


class WindowSection(Section):
    """What a check looks at: by time, or counted."""

    span: Duration | None = Field(None, description="reaches back at least so long (default 15m)")
    min_events: int | None = Field(None, ge=1, description="and over at least so many predictions (default 1000)")
    pane: Duration | None = Field(None, description="checked every so often; divides span (default 30s)")
    max_span: Duration | None = Field(None, description="but never further back than this (default 10 times span)")
    events: int | None = Field(None, ge=1, description="counted: the last so many predictions of a version")
    every: int | None = Field(None, ge=1, description="counted: checked every so many; divides events (default events)")

    @model_validator(mode="after")
    def _fits(self) -> WindowSection:
        timed = [n for n in ("span", "min_events", "pane", "max_span") if getattr(self, n) is not None]
        if self.events is not None:
            if timed:
                raise ValueError(f"a counted window has no {', '.join(timed)}")
            if self.events % (self.every or self.events):
                raise ValueError(f"events ({self.events}) must be a multiple of every ({self.every})")
            if self.events // (self.every or self.events) > MOST_PANES:
                raise ValueError(f"at most {MOST_PANES} checks fit into a window: raise every")
            return self
        if self.every is not None:
            raise ValueError("every needs events")
        span, pane = self.span or 15 * 60_000, self.pane or 30_000
        if pane < 1_000:
            raise ValueError("pane: at least 1s")
        if span % pane:
            raise ValueError("span must be a multiple of pane")
        if span // pane > MOST_PANES:
            raise ValueError(f"at most {MOST_PANES} panes fit into a window: raise pane")
        if self.max_span is not None and (self.max_span < span or self.max_span // pane > 10 * MOST_PANES):
            raise ValueError(f"max_span lies between span and {10 * MOST_PANES} panes")
        return self


class DriftSection(Section):
    """Which detectors run, and what they may cost in false alarms."""

    numeric: list[Literal["ks", "wasserstein", "psi"]] = Field(
        ["ks", "wasserstein"], description=f"for numbers: {', '.join(NUMERIC)}"
    )
    categorical: list[Literal["chi_square", "jensen_shannon"]] = Field(
        ["chi_square", "jensen_shannon"], description=f"for texts and booleans: {', '.join(CATEGORICAL)}"
    )
    false_alarms: Budget | None = Field(
        None, description="of the whole model; 1 per 30d, in counted windows 1 per 1000000 events"
    )
    min_effect: dict[str, float] = Field({}, description="smaller effects are no drift, whatever the p-value")
    resolve_after: int = Field(3, ge=1, description="calm checks in a row that end an alert")

    @field_validator("min_effect")
    @classmethod
    def _known_detectors(cls, value: dict[str, float]) -> dict[str, float]:
        for name, effect in value.items():
            if name not in MIN_EFFECT:
                raise ValueError(f"{name}: not one of {', '.join(MIN_EFFECT)}")
            if not effect > 0:
                raise ValueError(f"{name}: must be above zero")
        return {**MIN_EFFECT, **value}


class OutcomesSection(Section):
    """Outcomes arrive later, and tell how good the predictions were."""

    within: Duration = Field(7 * 24 * HOUR, description="an outcome later than this after its prediction is late")
    early: Duration = Field(HOUR, description="an outcome waits so long for its prediction")
    min_coverage: Share = Field(
        0.8, description="share of outcomes from which a window is judged before all can be there"
    )
    pane: Duration | None = Field(None, description="width in which quality is kept; a multiple of window.pane")
    metrics: list[str] | None = Field(
        None, description="built-in metrics of quality to keep; by default all of the task. Your own are always kept"
    )
    baseline_n: int = Field(1_000, ge=10, description="first pairs of a version that its quality is held to")
    concept_drift: Literal["adwin"] | None = Field(None, description=f"watch errors for a change: {', '.join(CONCEPT)}")


class RuleSection(Section):
    """A metric that must not pass a limit."""

    name: Name = Field(description="names the alert; unique in the model")
    metric: str = Field(description="name of a metric")
    above: LimitValue | None = Field(None, description="750, 1%, or `105% of baseline`")
    below: LimitValue | None = Field(None, description="the same, for metrics that fall")
    drop: Points | None = Field(None, description="3 points below the baseline")
    rise: Points | None = Field(None, description="3 points above the baseline")
    severity: Severity = Field(Severity.WARNING, description="warning or critical")
    dwell: Dwell = Field((1, 0), alias="for", description="how long: `3 checks` or 30m")
    then: Consequence = Field(Consequence.NONE, description="none, fallback or rollback")
    hard: bool = Field(False, description="compare the bare number, chance or not")
    min_n: int = Field(30, ge=1, description="with fewer events the rule is skipped")

    @model_validator(mode="after")
    def _one_limit(self) -> RuleSection:
        if sum(getattr(self, n) is not None for n in ("above", "below", "drop", "rise")) != 1:
            raise ValueError("a rule has one of above, below, drop and rise")
        return self


class ConditionSection(Section):
    """A comparison of a feature."""

    feature: Name = Field(description="its name")
    op: Literal["<", "<=", ">", ">=", "==", "!=", "in"] = Field(description="how it is compared")
    value: Scalar | list[Scalar] = Field(description="with what; a list for `in`")

    @model_validator(mode="after")
    def _list_for_in(self) -> ConditionSection:
        if isinstance(self.value, list) != (self.op == "in"):
            raise ValueError("`in` needs a list, and only `in`")
        return self


class BusinessRuleSection(Section):
    """An answer by rule."""

    when: ConditionSection | list[ConditionSection] = Field(description="all of these must hold")
    then: Scalar = Field(description="the answer")


class DefaultSection(Section):
    """The answer that cannot fail."""

    value: Scalar = Field(description="the answer")


class FallbackSection(Section):
    """Who answers when the champion fails."""

    chain: list[Literal["previous", "rules", "ensemble", "default"]] = Field(
        ["previous", "rules", "ensemble", "default"],
        description="levels in order; those that are not there are skipped",
    )
    recover_after: Duration = Field(600_000, description="healthy for so long, and the failed level answers again")
    ensemble: list[Name] = Field([], description="versions whose answers are combined")
    rule_based: list[BusinessRuleSection] = Field([], description="answers of the level `rules`")
    default: DefaultSection | None = Field(None, description="the answer of the level `default`")

    @field_validator("chain")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a level stands twice")
        return value


class ModelSection(Section):
    """One model."""

    task: Task = Field(description="regression, binary or multiclass")
    champion: Name = Field(description="the version that serves by default")
    previous: Name | None = Field(None, description="the version to go back to")
    routes: dict[Name, Share] = Field({}, description="shares of challengers; the rest goes to the champion")
    shadows: list[Name] = Field([], description="versions that answer without being served")
    cohorts: dict[Name, Name] = Field({}, description="cohort → version that serves it")
    positive: str | None = Field(None, description="positive class of a binary task; by default 1, true or yes")
    threshold: Share = Field(0.5, description="where a binary prediction between 0 and 1 becomes positive")
    agreement_tolerance: Share = Field(0.1, description="regression: answers this close, relatively, agree")
    reference: ReferenceSection | None = Field(
        None, description="a path, or {learn: 10000}; without it drift is not watched"
    )
    features: dict[Name, FeatureKind] = Field({}, description="numeric, categorical or ignore, where values mislead")
    window: WindowSection = Field(WindowSection(), description="what a check looks at")
    drift: DriftSection | None = Field(DriftSection(), description="detectors; `drift: null` switches them off")
    outcomes: OutcomesSection | None = Field(OutcomesSection(), description="outcomes; null where none come")
    rules: list[RuleSection] | None = Field(None, description="replace the default rules; [] switches them off")
    metrics: dict[Name, Literal["higher", "lower"]] = Field({}, description="metrics of your own: which way is better")
    fallback: FallbackSection = Field(FallbackSection(), description="who answers when the champion fails")
    no_data: Duration | None = Field(None, description="alert when no prediction comes for so long")

    @field_validator("reference", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if isinstance(value, dict) and "rollout" in value:
            raise ValueError(
                "rollout: staged rollouts are not part of this release; use routes, and rules that roll back"
            )
        return value

    @model_validator(mode="after")
    def _fits(self) -> ModelSection:
        self._check_routes()
        self._check_rules()
        self._check_outcomes()
        if self.positive is not None and self.task is not Task.BINARY:
            raise ValueError("positive: only a binary task has a positive class")
        for name in self.metrics:
            if name in METRICS or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.]{0,63}", name):
                raise ValueError(f"metrics.{name}: a name of letters, digits, _ and . that is not a built-in metric")
        return self

    def _check_routes(self) -> None:
        if self.champion in self.routes:
            raise ValueError("routes: the champion has what the challengers leave; list challengers only")
        if sum(self.routes.values()) > 1:
            raise ValueError(f"routes: the shares sum to {sum(self.routes.values()):.0%}, at most 100%")
        if self.previous == self.champion:
            raise ValueError("previous: is the champion itself")
        reserved = {level.value for level in Level} | {"__other__"}
        for name in (self.champion, self.previous, *self.routes, *self.shadows, *self.fallback.ensemble):
            if name in reserved:
                raise ValueError(f"{name}: is the name of a level and cannot be a version")

    def _check_rules(self) -> None:
        names = [rule.name for rule in self.rules or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rules: two are called {name}")
        for i, rule in enumerate(self.rules or ()):
            if rule.metric not in METRICS and rule.metric not in self.metrics:
                known = ", ".join([*METRICS, *self.metrics])
                raise ValueError(f"rules[{i}].metric: {rule.metric}: not one of {known}")
            info = METRICS.get(rule.metric)
            if info is not None and info.needs_outcomes and self.outcomes is None:
                raise ValueError(f"rules[{i}].metric: {rule.metric}: needs outcomes, which are off")
            listed = None if self.outcomes is None else self.outcomes.metrics
            if info is not None and info.of_quality and listed is not None and rule.metric not in listed:
                raise ValueError(f"rules[{i}].metric: {rule.metric}: not listed in outcomes.metrics")

    def _check_outcomes(self) -> None:
        if self.outcomes is None:
            return
        for name in self.outcomes.metrics or ():
            info = METRICS.get(name)
            if name not in self.metrics and (info is None or not info.needs_outcomes):
                known = ", ".join(n for n, i in METRICS.items() if i.needs_outcomes)
                raise ValueError(f"outcomes.metrics: {name}: not one of {known}")
        if self.outcomes.pane is not None:
            pane = self.window.pane or 30_000
            if self.window.events is not None:
                raise ValueError("outcomes.pane: a counted window keeps quality by its own panes")
            if self.outcomes.pane % pane:
                raise ValueError("outcomes.pane: must be a multiple of window.pane")


class Configuration(Section):
    """The whole file."""

    stream: StreamSection = Field(description="where events come from and where alerts and decisions go")
    store: StoreSection = Field(description="the database")
    http: HttpSection = Field(HttpSection(), description="metrics and probes")
    limits: LimitsSection = Field(LimitsSection(), description="everything is bounded")
    models: dict[Name, ModelSection] = Field(min_length=1, description="the models that are watched")
