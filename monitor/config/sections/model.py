"""The section of one model, and the constraints between its keys.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from detectors.categorical import text_of
from fallback.types import WHOLE, Tier
from monitor.aggregation.metrics import METRICS, OF_TASK, SHARES, USER_METRICS
from monitor.config.sections.base import (
    HOUR,
    ConfigIssue,
    Duration,
    Misfits,
    Name,
    Section,
    Share,
    Text,
    among,
    raise_if_any,
)
from monitor.config.sections.checks import (
    DEFAULT_PANE,
    DEFAULT_SPAN,
    DriftSection,
    OutcomesSection,
    ReferenceSection,
    WindowSection,
)
from monitor.config.sections.fallback import FallbackSection
from monitor.config.sections.rules import RuleSection
from monitor.events.codes import OTHER
from monitor.spec import AnswerReading, FeatureKind, Task
from monitor.times import duration_text

_WINDOWS_TO_ROLL: Final = 10  # long windows in a rolling reference
_PERIODS_TO_ROLL: Final = 2.1
_METRIC: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]{0,63}")
_NOT_BINARY: Final = ConfigIssue("positive", None, "only a binary task has a positive class")
_NO_PROBABILITY: Final = ConfigIssue("answers", None, "only predictions of a binary task may be probabilities")


class ModelSection(Section):
    """A model."""

    task: Task = Field(description="regression, binary or multiclass")
    champion: Name = Field(description="version that serves by default")
    previous: Name | None = Field(None, description="version that a rollback of the champion returns to")
    routes: dict[Name, Share] = Field({}, description="shares of challengers; the rest goes to the champion")
    shadows: list[Name] = Field([], description="versions that answer every request without being served")
    cohorts: dict[Name, Name] = Field({}, description="cohort → version that serves it")
    positive: Text | None = Field(None, description="positive class of a binary task; by default 1, true, t, yes or y")
    threshold: Share = Field(0.5, description="binary task: probability from which a prediction is positive")
    answers: AnswerReading = Field(
        AnswerReading.AUTO,
        description="binary task: whether predictions of exactly 0 and 1 are labels or probabilities. auto: "
        "probabilities in a window where any prediction lies between 0 and 1 or has `scores`, else labels",
    )
    agreement_tolerance: Share = Field(
        0.1, description="regression: largest relative difference of a shadow's answer that agrees with the served one"
    )
    reference: ReferenceSection | None = Field(
        None, description="a path, or {learn: 10000}; without a reference drift is not checked"
    )
    features: dict[Name, FeatureKind] = Field(
        {},
        description="kind of features whose values mislead: numeric, categorical or ignore. `prediction` and `score` "
        "are the model's own answers; features of these names are `features.prediction`, `features.score`",
    )
    window: WindowSection = Field(WindowSection(), description="the sliding window of a check")
    drift: DriftSection | None = Field(DriftSection(), description="drift detection; `drift: null` switches it off")
    outcomes: OutcomesSection | None = Field(
        OutcomesSection(), description="outcomes of predictions; null for a model without"
    )
    rules: list[RuleSection] | None = Field(None, description="rules instead of the default ones; [] for none")
    metrics: dict[Name, Literal["higher", "lower"]] = Field({}, description="metrics of your own: which way is better")
    fallback: FallbackSection = Field(
        FallbackSection(), description="the fallback tiers, which answer when the champion fails"
    )
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
        raise_if_any(
            [*self._versions(), *self._routes(), *self._rules(), *self._outcomes(), *self._own_metrics()]
            + ([] if self.positive is None or self.task is Task.BINARY else [_NOT_BINARY])
            + [*self._columns(), *self._rolling()]
            + ([] if self.answers is AnswerReading.AUTO or self.task is Task.BINARY else [_NO_PROBABILITY])
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

    def _columns(self) -> Iterator[ConfigIssue]:
        given = {} if self.reference is None else self.reference.columns.given
        if given.get("score") is not None and self.task is Task.REGRESSION:
            yield ConfigIssue("reference.columns.score", given["score"], "a regression has no scores")

    def _rolling(self) -> Iterator[ConfigIssue]:
        reference, key = self.reference, "reference.rolling"
        if reference is None or reference.rolling is None:
            return
        got, season = duration_text(reference.rolling), reference.season
        if self.window.events is not None:
            hint = "counted windows know no time: give the window a `span` instead of `events`, or leave rolling out"
            yield ConfigIssue(key, got, hint)
            return
        multiples = (1.0,) if self.drift is None else self.drift.windows
        longest = round((self.window.span or DEFAULT_SPAN) * max(multiples))
        if reference.rolling < _WINDOWS_TO_ROLL * longest:
            hint = f"at least {duration_text(_WINDOWS_TO_ROLL * longest)}, ten times the longest window"
            yield ConfigIssue(
                key, got, f"{hint} ({duration_text(longest)}): raise it, or leave long ones out of drift.windows"
            )
        if season is not None and reference.rolling < _PERIODS_TO_ROLL * season.period:
            least = duration_text(-(-round(_PERIODS_TO_ROLL * season.period) // HOUR) * HOUR)
            hint = f"at least {least}, 2.1 periods of {season}: raise it, or choose a shorter season"
            yield ConfigIssue(key, got, hint)

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
            return None if metric in self.metrics else f"unknown metric; {among(metric, [*known, *self.metrics])}"
        if not info.needs_outcomes:
            return None
        if self.outcomes is None:
            return "needs outcomes, which are off"
        if info.of_quality and metric not in OF_TASK[self.task]:
            return f"a {self.task} has none; {among(metric, sorted(OF_TASK[self.task]))}"
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
                yield ConfigIssue(f"outcomes.metrics[{i}]", name, f"no metric of a {self.task}; {among(name, kept)}")
        if self.outcomes.pane is None:
            return
        pane = self.window.pane or DEFAULT_PANE
        got = duration_text(self.outcomes.pane)
        if self.window.events is not None:
            yield ConfigIssue("outcomes.pane", got, "a counted window keeps quality by its own panes")
        elif self.outcomes.pane % pane:
            yield ConfigIssue("outcomes.pane", got, f"must be a multiple of window.pane ({duration_text(pane)})")

    def _own_metrics(self) -> Iterator[ConfigIssue]:
        for name in self.metrics:
            if name in METRICS:
                yield ConfigIssue(f"metrics.{name}", None, "is the name of a built-in metric")
            elif not _METRIC.fullmatch(name):
                yield ConfigIssue(f"metrics.{name}", None, "a name of letters, digits, _ and ., at most 64, is needed")
        if len(self.metrics) > USER_METRICS:
            yield ConfigIssue("metrics", None, f"{len(self.metrics)} of them, at most {USER_METRICS}")
