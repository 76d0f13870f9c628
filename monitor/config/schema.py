"""The keys of the configuration, with their defaults and allowed values.

Pure. The description of each field is its documentation (`docs/build.py`); unknown keys are refused. Constraints
between several keys are checked here as well, so that all errors are reported together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from detectors.categorical import text_of
from detectors.registry import CATEGORICAL, CONCEPT, MIN_EFFECT, NUMERIC
from fallback.types import WHOLE, Tier
from monitor.aggregation.metrics import METRICS, OF_TASK, SHARES, USER_METRICS
from monitor.config import units
from monitor.events.codes import OTHER
from monitor.publishing.destinations.webhook import parse_keys
from monitor.spec import BudgetSpec, Consequence, FeatureKind, Severity, Task
from monitor.store.subscriptions import STREAM

Duration = Annotated[int, BeforeValidator(units.duration_ms)]
Share = Annotated[float, BeforeValidator(units.share)]
Budget = Annotated[BudgetSpec, BeforeValidator(units.budget)]
LimitValue = Annotated[units.Limit, BeforeValidator(units.limit)]
Points = Annotated[units.Limit, BeforeValidator(units.points)]
Dwell = Annotated[tuple[int, int], BeforeValidator(units.dwell)]
Count = Annotated[int, BeforeValidator(units.whole)]
Number = Annotated[float, BeforeValidator(units.number)]
Text = Annotated[str, BeforeValidator(units.text)]
Scalar = Annotated[units.Scalar, BeforeValidator(units.label)]
Name = Annotated[str, BeforeValidator(units.text), Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Topic = Annotated[str, BeforeValidator(units.text), Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]

HOUR: Final = 3_600_000
MOST_PANES: Final = 2_000  # of a window
DEFAULT_SPAN: Final = 15 * 60_000
DEFAULT_PANE: Final = 30_000
DEFAULT_MIN_EVENTS: Final = 1_000
_MOST_VARIANTS: Final = 1 << 16  # versions of all models: their codes are 16 bits wide
_URL: Final = re.compile(r"[\x21-\x7e]+")
_OF_ITS_OWN: Final = 8  # codes of a model beside its versions: itself, the levels, __other__
_METRIC: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]{0,63}")


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """An error found by a check of several keys.

    Attributes:
        path: Key, relative to the section that was checked.
        got: The value found; None where it is not shown.
        hint: What is accepted instead.
    """

    path: str
    got: object
    hint: str


class Misfits(ValueError):
    """All errors found by a check of several keys."""

    def __init__(self, found: list[ConfigIssue]) -> None:
        self.found = found
        super().__init__("; ".join(f"{misfit.path}: {misfit.hint}" for misfit in found))


def _raise_if_any(found: Iterable[ConfigIssue]) -> None:
    misfits = list(found)
    if misfits:
        raise Misfits(misfits)


def _among(name: str, names: Iterable[str]) -> str:
    """Return the hint for a name that is not one of `names`."""
    known = list(names)
    nearest = difflib.get_close_matches(name, known, 1)
    return f"did you mean {nearest[0]}?" if nearest else f"one of {', '.join(known)} is needed"


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SecuritySection(Section):
    """TLS and authentication of the connection to Kafka."""

    tls: bool = Field(False, description="encrypt the connection, and verify the certificates and names of the brokers")
    ca_file: Text | None = Field(
        None, description="certificates of the authorities, PEM; those of the operating system by default"
    )
    cert_file: Text | None = Field(None, description="client certificate, PEM, for mutual TLS")
    key_file: Text | None = Field(None, description="private key of the client certificate, if not in `cert_file`")
    key_password: Text | None = Field(None, repr=False, description="password of the private key")
    key_password_file: Text | None = Field(None, description="file with the password of the private key")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; no SASL by default"
    )
    username: Text | None = Field(None, description="SASL username")
    password: Text | None = Field(None, repr=False, description="SASL password")
    password_file: Text | None = Field(None, description="file with the SASL password")
    allow_insecure: bool = Field(False, description="allow SASL without TLS, which sends the password in the clear")

    @model_validator(mode="after")
    def _one_of_each(self) -> SecuritySection:
        _raise_if_any(
            ConfigIssue(f"{name}_file", None, f"give either {name} or {name}_file")
            for name in ("key_password", "password")
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None
        )
        return self


class StreamSection(Section):
    """The source of events, and the topics of alerts and decisions."""

    url: Text = Field(
        description="address of the stream: kafka://host:9092,host2:9092, or file:./directory of JSON-lines topics, "
        "relative to the working directory"
    )
    events: list[Topic] = Field(["ml.predictions", "ml.outcomes"], min_length=1, description="topics of events")
    alerts: Topic = Field("driftd.alerts", description="topic of alerts, compacted, keyed by fingerprint")
    decisions: Topic = Field("driftd.decisions", description="topic of decisions, compacted, keyed by model")
    dead_letters: Topic = Field("driftd.dead-letters", description="topic of refused records")
    group: Name = Field("driftd", description="consumer group to which progress is committed; it has no members")
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="where to begin reading a partition that was never read: earliest or latest"
    )
    lateness: Duration = Field(5_000, description="how much later than others an event may come and still count")
    idle_after: Duration = Field(
        10_000,
        description="idle timeout: a partition with no new records for this long no longer holds back the watermark",
    )
    max_future: Duration = Field(
        600_000, description="events whose time is further ahead of their record's timestamp than this are refused"
    )
    session_timeout: Duration = Field(
        10_000, description="a request to a broker without an answer for this long fails and is retried"
    )
    heartbeat: Duration = Field(
        300_000, description="interval at which the latest record of a firing alert is published again"
    )
    dead_letters_per_minute: Count = Field(
        10_000, ge=1, description="refused records of a partition in a minute beyond which it pauses until the next one"
    )
    security: SecuritySection = Field(SecuritySection(), description="TLS and SASL")

    @model_validator(mode="after")
    def _topics_differ(self) -> StreamSection:
        taken = set(self.events)
        found = []
        if len(taken) < len(self.events):
            found.append(ConfigIssue("events", None, "a topic stands twice"))
        for name in ("alerts", "decisions", "dead_letters"):
            topic = getattr(self, name)
            if topic in taken:
                found.append(
                    ConfigIssue(name, topic, "events, alerts, decisions and dead_letters must be different topics")
                )
            taken.add(topic)
        _raise_if_any(found)
        return self


class StoreSection(Section):
    """The database: state, progress and history."""

    url: Text | None = Field(
        None,
        repr=False,
        description="sqlite:///driftd.db, relative to the working directory (four slashes for an absolute path), or "
        "postgresql+psycopg://user@host/database; this or `url_file` is needed",
    )
    url_file: Text | None = Field(None, description="file with the URL, for a URL with a password")
    retention: Duration = Field(90 * 24 * HOUR, description="how long history and alerts are kept, in stream time")
    lease: Duration = Field(
        10_000, description="a standby daemon takes over after this long without a commit of the owner"
    )
    commit_every: Duration = Field(1_000, description="longest time between two commits")

    @model_validator(mode="after")
    def _fits(self) -> StoreSection:
        found = []
        if (self.url is None) == (self.url_file is None):
            found.append(ConfigIssue("url", None, "give either url or url_file"))
        if self.commit_every * 3 > self.lease:
            hint = "at least three times commit_every is needed, or a live daemon looks dead"
            found.append(ConfigIssue("lease", units.in_words(self.lease), hint))
        _raise_if_any(found)
        return self


class HttpSection(Section):
    """The HTTP server of metrics, probes and the status page."""

    host: Text = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: Count = Field(9464, ge=0, le=65_535, description="port to listen on; 0 takes any free port and logs it")


class LimitsSection(Section):
    """Upper bounds that keep memory and messages finite."""

    features: Count = Field(500, ge=1, le=10_000, description="features of an event; an event with more is refused")
    event_bytes: Count = Field(1 << 20, ge=1_024, description="bytes of an event; a larger one is refused")
    id_length: Count = Field(
        256,
        ge=16,
        le=4_096,
        description="characters of an id, a name or a label; an event with a longer one is refused",
    )
    versions: Count = Field(
        20, ge=1, le=1_000, description="versions of a model; further ones are measured together as `__other__`"
    )
    segments: Count = Field(200, ge=1, le=10_000, description="segments; further ones are counted as one")
    labels: Count = Field(1_000, ge=2, le=100_000, description="classes of a model; further ones are counted as one")
    pending: Count = Field(
        1_500_000, ge=1_000, description="predictions waiting for their outcome; beyond, only a sample of them waits"
    )
    seen: Count = Field(3_500_000, ge=1_000, description="requests remembered to recognise duplicates")
    outbox: Count = Field(50_000, ge=1_000, description="messages waiting to be published; beyond, reading pauses")


class WebhookSection(Section):
    """An HTTP endpoint that gets alerts or decisions as signed requests (Standard Webhooks)."""

    name: Name = Field(description="names it in metrics, logs and alerts; unique")
    url: Text = Field(
        repr=False, description="http:// or https:// with host and path; a token in it belongs into the environment"
    )
    secret: Text | None = Field(
        None,
        repr=False,
        description="signs every request: `whsec_` and 24 to 64 bytes in base64; several, separated by spaces, while "
        "it is being changed; this or `secret_file` is needed",
    )
    secret_file: Text | None = Field(None, description="a file that holds the secret")
    kinds: list[Literal["alert", "decision"]] = Field(
        ["alert"], min_length=1, description="what is sent: alert, decision or both"
    )
    timeout: Duration = Field(15_000, description="how long connecting and waiting for the answer may take each")
    max_age: Duration = Field(24 * HOUR, description="a message not taken for so long is given up, with an alert")

    @field_validator("url")
    @classmethod
    def _usable(cls, value: str) -> str:
        hint = _why_no_webhook(value)
        if hint is not None:
            raise ValueError(hint)
        return value

    @field_validator("secret")
    @classmethod
    def _signs(cls, value: str | None) -> str | None:
        if value is not None:
            parse_keys(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> WebhookSection:
        found = []
        if (self.secret is None) == (self.secret_file is None):
            found.append(ConfigIssue("secret", None, "give either secret or secret_file"))
        if self.name == STREAM:
            found.append(ConfigIssue("name", self.name, "is the name of the stream itself"))
        _raise_if_any(found)
        return self


def _why_no_webhook(url: str) -> str | None:
    """Why a URL cannot be that of a webhook. Without the URL, which may hold a token."""
    wanted = "a URL like https://host/path is needed"
    try:
        parsed = urlsplit(url)
        port = parsed.port
    except ValueError:
        return wanted
    if parsed.scheme not in ("http", "https") or not parsed.hostname or port == 0 or not _URL.fullmatch(url):
        return wanted
    if "@" in parsed.netloc:
        return "no user and password here: requests are signed with the secret"
    return "nothing after a # is ever sent; leave it out" if parsed.fragment else None


class ReferenceSection(Section):
    """The reference: the distributions that windows are compared with."""

    path: Text | None = Field(
        None,
        description="a built profile, or a table (CSV, CSV.gz, JSON lines, Parquet), relative to the working directory",
    )
    learn: Count = Field(
        0, ge=0, description="instead of a path: learn it from this many first predictions, at least 100"
    )
    points: Count = Field(
        2_048, ge=16, le=100_000, description="points that summarise the distribution of a numeric feature"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ReferenceSection:
        found = []
        if (self.path is None) == (self.learn == 0):
            found.append(ConfigIssue("path", None, "give either path or learn"))
        if self.learn and self.learn < 100:
            found.append(ConfigIssue("learn", self.learn, "at least 100 predictions are needed"))
        _raise_if_any(found)
        return self


class WindowSection(Section):
    """The sliding window of a check, by time or counted in predictions."""

    span: Duration | None = Field(None, description="reaches back at least this far (by default 15m)")
    min_events: Count | None = Field(None, ge=1, description="and over at least so many predictions (by default 1000)")
    pane: Duration | None = Field(None, description="interval between two checks; divides `span` (by default 30s)")
    max_span: Duration | None = Field(None, description="reaches back at most this far (by default 10 times `span`)")
    events: Count | None = Field(None, ge=1, description="counted window: number of latest predictions of a version")
    every: Count | None = Field(
        None,
        ge=1,
        description="counted window: predictions between two checks; divides `events` (by default `events`)",
    )

    @model_validator(mode="after")
    def _fits(self) -> WindowSection:
        _raise_if_any(self._misfits() if self.events is None else self._counted_misfits(self.events))
        return self

    def _counted_misfits(self, events: int) -> Iterator[ConfigIssue]:
        for name in ("span", "min_events", "pane", "max_span"):
            if getattr(self, name) is not None:
                yield ConfigIssue(name, None, "a counted window (events) has none")
        every = self.every or events
        if events % every:
            yield ConfigIssue("events", events, f"must be a multiple of every ({every})")
        elif events // every > MOST_PANES:
            yield ConfigIssue(
                "every", every, f"at most {MOST_PANES} checks fit into a window: at least {events // MOST_PANES}"
            )

    def _misfits(self) -> Iterator[ConfigIssue]:
        if self.every is not None:
            yield ConfigIssue("every", self.every, "needs events: it belongs to a counted window")
        span, pane, words = self.span or DEFAULT_SPAN, self.pane or DEFAULT_PANE, units.in_words
        if pane < 1_000:
            yield ConfigIssue("pane", words(pane), "at least 1s")
        elif span % pane:
            where, got = ("span", words(span)) if self.span is not None else ("pane", words(pane))
            yield ConfigIssue(where, got, f"span ({words(span)}) must be a multiple of pane ({words(pane)})")
        elif span // pane > MOST_PANES:
            yield ConfigIssue("pane", words(pane), f"at most {MOST_PANES} panes fit into a window: raise pane")
        if self.max_span is not None and (self.max_span < span or self.max_span // pane > 10 * MOST_PANES):
            yield ConfigIssue(
                "max_span", words(self.max_span), f"lies between span ({words(span)}) and {10 * MOST_PANES} panes"
            )


class DriftSection(Section):
    """The detectors of drift, and their false-alarm budget."""

    numeric: list[Literal["ks", "wasserstein", "psi"]] = Field(
        ["ks", "wasserstein"], description=f"detectors of numeric features: {', '.join(NUMERIC)}"
    )
    categorical: list[Literal["chi_square", "jensen_shannon"]] = Field(
        ["chi_square", "jensen_shannon"], description=f"detectors of texts and booleans: {', '.join(CATEGORICAL)}"
    )
    false_alarms: Budget | None = Field(
        None,
        description="false alarms accepted for the whole model, all features and detectors together; by default "
        "`1 per 30d`, in counted windows `1 per 1000000 events`",
    )
    min_effect: dict[str, Number] = Field(
        {},
        description="minimum effect size by detector; a smaller effect is no drift, whatever its p-value; by default "
        + ", ".join(f"{name} {effect:g}" for name, effect in MIN_EFFECT.items()),
    )
    resolve_after: Count = Field(3, ge=1, description="consecutive calm checks that resolve an alert")

    @field_validator("min_effect")
    @classmethod
    def _known_detectors(cls, value: dict[str, float]) -> dict[str, float]:
        _raise_if_any(
            ConfigIssue(name, None, f"unknown detector; {_among(name, MIN_EFFECT)}")
            if name not in MIN_EFFECT
            else ConfigIssue(name, effect, "must be above zero")
            for name, effect in value.items()
            if name not in MIN_EFFECT or effect <= 0
        )
        return value

    @property
    def min_effects(self) -> dict[str, float]:
        """The minimum effect of each detector, defaults included."""
        return {**MIN_EFFECT, **self.min_effect}


class OutcomesSection(Section):
    """The outcomes of predictions: how long to wait for them, and how quality is measured."""

    within: Duration = Field(7 * 24 * HOUR, description="how long a prediction waits for its outcome (TTL)")
    early: Duration = Field(HOUR, description="how long an outcome waits for its prediction (TTL)")
    min_coverage: Share = Field(
        0.8, description="share of outcomes from which a window is judged before its outcomes are final"
    )
    pane: Duration | None = Field(
        None, description="width of the panes of quality; a multiple of `window.pane`, chosen automatically by default"
    )
    metrics: list[Text] | None = Field(
        None, description="built-in quality metrics to keep; by default all of the task. Your own are always kept"
    )
    baseline_n: Count = Field(
        1_000, ge=10, description="first predictions with an outcome of each version that form its baseline"
    )
    concept_drift: Literal["adwin"] | None = Field(
        None, description=f"detector of changes in the errors: {', '.join(CONCEPT)}; off by default"
    )


class RuleSection(Section):
    """A limit on a metric."""

    name: Name = Field(description="name of the alert; unique in the model")
    metric: Text = Field(description="name of a metric, built-in or your own")
    above: LimitValue | None = Field(None, description="breached above this: 750, 1%, or `105% of baseline`")
    below: LimitValue | None = Field(None, description="breached below this: 0.9, 75%, or `95% of baseline`")
    drop: Points | None = Field(None, description="breached this far below the baseline: `3 points`")
    rise: Points | None = Field(None, description="breached this far above the baseline: `3 points`")
    severity: Severity = Field(Severity.WARNING, description="warning or critical")
    dwell: Dwell = Field((1, 0), alias="for", description="how long it has to hold: `3 checks` or 30m")
    then: Consequence = Field(Consequence.NONE, description="consequence of a breach: none, fallback or rollback")
    hard: bool = Field(
        False, description="compare the value alone; by default a breach must be statistically significant as well"
    )
    min_n: Count = Field(30, ge=1, description="with fewer events in the window the rule is not evaluated")

    @model_validator(mode="after")
    def _one_limit(self) -> RuleSection:
        given = [name for name in ("above", "below", "drop", "rise") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a rule has one of above, below, drop and rise; this one has {' and '.join(given) or 'none'}"
            )
        return self

    @property
    def limit(self) -> tuple[str, units.Limit]:
        """The one key that is set, and its value."""
        return next((n, limit) for n in ("above", "below", "drop", "rise") if (limit := getattr(self, n)) is not None)


class ConditionSection(Section):
    """A condition on a feature."""

    feature: Name = Field(description="name of the feature")
    op: Literal["<", "<=", ">", ">=", "==", "!=", "in"] = Field(description="one of < <= > >= == != in")
    value: Any = Field(description="value to compare with: a number, text, boolean or null; a list of them for `in`")

    @field_validator("value", mode="before")
    @classmethod
    def _scalars(cls, value: object) -> object:
        return [units.label(v) for v in value] if isinstance(value, list) else units.label(value)

    @model_validator(mode="after")
    def _list_for_in(self) -> ConditionSection:
        if isinstance(self.value, list) != (self.op == "in"):
            raise Misfits([ConfigIssue("value", None, "`in` needs a list, and only `in`")])
        return self


class BusinessRuleSection(Section):
    """A business rule: conditions and the answer."""

    when: list[ConditionSection] = Field(
        min_length=1, description="conditions that must all hold; a single one needs no list"
    )
    then: Scalar = Field(description="the answer")

    @field_validator("when", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value


class DefaultSection(Section):
    """The answer of the level `default`, which needs no model."""

    value: Scalar = Field(description="the answer")


class FallbackSection(Section):
    """The levels that answer when the champion fails."""

    chain: list[Literal["previous", "rules", "ensemble", "default"]] = Field(
        ["previous", "rules", "ensemble", "default"],
        description="levels in order; those that are not configured are skipped",
    )
    recover_after: Duration = Field(
        600_000, description="how long a failed level must be healthy before it answers again"
    )
    ensemble: list[Name] = Field([], description="level `ensemble`: versions whose answers are combined")
    rule_based: list[BusinessRuleSection] = Field(
        [], description="level `rules`: the first rule whose conditions hold gives the answer"
    )
    default: DefaultSection | None = Field(None, description="level `default`: a fixed answer")

    @field_validator("chain")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a level stands twice")
        return value


class ModelSection(Section):
    """A model."""

    task: Task = Field(description="regression, binary or multiclass")
    champion: Name = Field(description="version that serves by default")
    previous: Name | None = Field(None, description="version that a rollback of the champion returns to")
    routes: dict[Name, Share] = Field({}, description="shares of challengers; the rest goes to the champion")
    shadows: list[Name] = Field([], description="versions that answer every request without being served")
    cohorts: dict[Name, Name] = Field({}, description="cohort → version that serves it")
    positive: Text | None = Field(None, description="positive class of a binary task; by default 1, true or yes")
    threshold: Share = Field(0.5, description="binary task: probability from which a prediction is positive")
    agreement_tolerance: Share = Field(
        0.1, description="regression: largest relative difference of a shadow's answer that agrees with the served one"
    )
    reference: ReferenceSection | None = Field(
        None, description="a path, or {learn: 10000}; without a reference drift is not checked"
    )
    features: dict[Name, FeatureKind] = Field(
        {}, description="kind of features whose values mislead: numeric, categorical or ignore"
    )
    window: WindowSection = Field(WindowSection(), description="the sliding window of a check")
    drift: DriftSection | None = Field(DriftSection(), description="drift detection; `drift: null` switches it off")
    outcomes: OutcomesSection | None = Field(
        OutcomesSection(), description="outcomes of predictions; null for a model without"
    )
    rules: list[RuleSection] | None = Field(None, description="rules instead of the default ones; [] for none")
    metrics: dict[Name, Literal["higher", "lower"]] = Field({}, description="metrics of your own: which way is better")
    fallback: FallbackSection = Field(FallbackSection(), description="the levels that answer when the champion fails")
    no_data: Duration | None = Field(
        None, description="raise an alert when no prediction has arrived for this long; never by default"
    )

    @field_validator("reference", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict):
            return value
        if isinstance(value, str):
            return {"path": value}
        raise ValueError("a path, or {learn: 10000}, is needed")

    @field_validator("positive", mode="before")
    @classmethod
    def _any_label(cls, value: Any) -> Any:
        """Accept numbers, as labels are compared as texts; refuse a bare `yes`, which YAML reads as true."""
        return text_of(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="before")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if isinstance(value, dict) and "rollout" in value:
            hint = "staged rollouts are not part of this release; use routes, and rules that roll back"
            raise Misfits([ConfigIssue("rollout", None, hint)])
        return value

    @model_validator(mode="after")
    def _fits(self) -> ModelSection:
        _raise_if_any(
            [*self._versions(), *self._routes(), *self._rules(), *self._outcomes(), *self._own_metrics()]
            + ([] if self.positive is None or self.task is Task.BINARY else [_NOT_BINARY])
        )
        return self

    def _versions(self) -> Iterator[ConfigIssue]:
        reserved = {*(level.value for level in Tier), OTHER}
        named = [("champion", self.champion), ("previous", self.previous)]
        named += [(f"routes.{name}", name) for name in self.routes]
        named += [(f"shadows[{i}]", name) for i, name in enumerate(self.shadows)]
        named += [(f"cohorts.{cohort}", name) for cohort, name in self.cohorts.items()]
        named += [(f"fallback.ensemble[{i}]", name) for i, name in enumerate(self.fallback.ensemble)]
        for path, name in named:
            if name in reserved:
                yield ConfigIssue(path, name, "is the name of a fallback level and cannot be a version")
        if self.previous == self.champion:
            yield ConfigIssue("previous", self.previous, "is the champion itself")
        if self.champion in self.shadows:
            yield ConfigIssue("shadows", self.champion, "is the champion: it answers anyway")

    def _routes(self) -> Iterator[ConfigIssue]:
        weights = {version: round(share * WHOLE) for version, share in self.routes.items()}
        if self.champion in weights:
            hint = "the champion has what the challengers leave; list challengers only"
            yield ConfigIssue(f"routes.{self.champion}", None, hint)
        for version, weight in weights.items():
            if self.routes[version] and not weight:
                yield ConfigIssue(f"routes.{version}", self.routes[version], "shares are counted in steps of 0.01%")
        if sum(weights.values()) > WHOLE:
            yield ConfigIssue("routes", None, f"the shares sum to {sum(weights.values()) / WHOLE:.2%}, at most 100%")

    def _rules(self) -> Iterator[ConfigIssue]:
        names = [rule.name for rule in self.rules or ()]
        for i, rule in enumerate(self.rules or ()):
            if rule.name in names[:i]:
                yield ConfigIssue(f"rules[{i}].name", rule.name, "another rule has this name")
            hint = self._why_not_judged(rule.metric)
            if hint is not None:
                yield ConfigIssue(f"rules[{i}].metric", rule.metric, hint)
            key, limit = rule.limit
            if limit.percent and rule.metric in METRICS and rule.metric not in SHARES:
                hint = f"{rule.metric} is no share: a number in its own unit is needed, or `105% of baseline`"
                yield ConfigIssue(f"rules[{i}].{key}", None, hint)

    def _why_not_judged(self, metric: str) -> str | None:
        """Return why a rule on this metric could never fire; None if it can."""
        info = METRICS.get(metric)
        if info is None:
            known = [name for name in METRICS if self._why_not_judged(name) is None]
            return None if metric in self.metrics else f"unknown metric; {_among(metric, [*known, *self.metrics])}"
        if not info.needs_outcomes:
            return None
        if self.outcomes is None:
            return "needs outcomes, which are off"
        if info.of_quality and metric not in OF_TASK[self.task]:
            return f"a {self.task} has none; {_among(metric, sorted(OF_TASK[self.task]))}"
        if info.of_quality and self.outcomes.metrics is not None and metric not in self.outcomes.metrics:
            return "not listed in outcomes.metrics"
        return None

    def _outcomes(self) -> Iterator[ConfigIssue]:
        if self.outcomes is None:
            return
        kept = [*(name for name in METRICS if name in OF_TASK[self.task]), *self.metrics]
        always = {name for name, info in METRICS.items() if info.always}
        for i, name in enumerate(self.outcomes.metrics or ()):
            if name not in kept and name not in always:
                yield ConfigIssue(f"outcomes.metrics[{i}]", name, f"no metric of a {self.task}; {_among(name, kept)}")
        if self.outcomes.pane is None:
            return
        pane = self.window.pane or DEFAULT_PANE
        got = units.in_words(self.outcomes.pane)
        if self.window.events is not None:
            yield ConfigIssue("outcomes.pane", got, "a counted window keeps quality by its own panes")
        elif self.outcomes.pane % pane:
            yield ConfigIssue("outcomes.pane", got, f"must be a multiple of window.pane ({units.in_words(pane)})")

    def _own_metrics(self) -> Iterator[ConfigIssue]:
        for name in self.metrics:
            if name in METRICS:
                yield ConfigIssue(f"metrics.{name}", None, "is the name of a built-in metric")
            elif not _METRIC.fullmatch(name):
                yield ConfigIssue(f"metrics.{name}", None, "a name of letters, digits, _ and ., at most 64, is needed")
        if len(self.metrics) > USER_METRICS:
            yield ConfigIssue("metrics", None, f"{len(self.metrics)} of them, at most {USER_METRICS}")


_NOT_BINARY: Final = ConfigIssue("positive", None, "only a binary task has a positive class")


class Configuration(Section):
    """The whole file."""

    stream: StreamSection = Field(description="source of events, and topics of alerts and decisions")
    store: StoreSection = Field(description="the database: state, progress and history")
    http: HttpSection = Field(HttpSection(), description="the HTTP server of metrics, probes and the status page")
    limits: LimitsSection = Field(LimitsSection(), description="upper bounds that keep memory and messages finite")
    models: dict[Name, ModelSection] = Field(min_length=1, description="the watched models, by name")
    webhooks: list[WebhookSection] = Field([], description="endpoints that get alerts or decisions beside the topics")

    @model_validator(mode="after")
    def _webhooks_differ(self) -> Configuration:
        names = [webhook.name for webhook in self.webhooks]
        _raise_if_any(
            ConfigIssue(f"webhooks[{i}].name", name, "another webhook has this name")
            for i, name in enumerate(names)
            if name in names[:i]
        )
        return self

    @model_validator(mode="after")
    def _codes_suffice(self) -> Configuration:
        if len(self.models) * (self.limits.versions + _OF_ITS_OWN) >= _MOST_VARIANTS:
            most = _MOST_VARIANTS // len(self.models) - _OF_ITS_OWN - 1
            hint = f"with {len(self.models)} models at most {most} versions of each"
            raise Misfits([ConfigIssue("limits.versions", self.limits.versions, hint)])
        return self
