"""The sections `reference`, `window`, `drift` and `outcomes` of a model: what is checked against what.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from detectors.registry import CATEGORICAL, CONCEPT, MIN_EFFECT, NUMERIC
from detectors.season import Season
from monitor.config.sections.base import (
    HOUR,
    Budget,
    ConfigIssue,
    Count,
    Duration,
    Name,
    Number,
    Section,
    Share,
    Text,
    among,
    raise_if_any,
)
from monitor.times import duration_text

MOST_PANES: Final = 2_000  # of a window
MOST_MULTIPLE: Final = 100.0  # of a window
MOST_WINDOWS: Final = 20
DEFAULT_SPAN: Final = 15 * 60_000
DEFAULT_PANE: Final = 30_000
DEFAULT_MIN_EVENTS: Final = 1_000


class ColumnsSection(Section):
    """Columns of a table that are no features: by default, if any, those called like the keys; null if they are."""

    prediction: Name | None = Field("prediction", description="the model's predictions; null: no column has them")
    score: Name | None = Field("score", description="their scores; null: no column has them")
    actual: Name | None = Field("actual", description="the actual values, for the baselines of quality; null: none")
    time: Name | None = Field("time", description="the times of the rows; null: no column has them")

    @property
    def given(self) -> dict[str, str | None]:
        """Return the keys that are there."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}

    @model_validator(mode="after")
    def _apart(self) -> ColumnsSection:
        seen: dict[str, str] = {}
        found = []
        for key, name in self.given.items():
            if name is not None and name in seen:
                found.append(ConfigIssue(key, name, f"is the column of `{seen[name]}` already"))
            elif name is not None:
                seen[name] = key
        raise_if_any(found)
        return self


class ReferenceSection(Section):
    """The reference: the distributions that windows are compared with."""

    path: Text | None = Field(
        None,
        description="a built profile, or a table (CSV, CSV.gz, JSON lines, Parquet), relative to the working directory",
    )
    learn: Count = Field(
        0,
        ge=0,
        description="instead of a path: learn it from this many first predictions or more, at least 100; with windows "
        "by time from all of whole panes, up to twice as many",
    )
    points: Count = Field(
        2_048, ge=16, le=100_000, description="points that summarise the distribution of a numeric feature"
    )
    season: Season | None = Field(
        None,
        description="compare a window with the same hours of the day, hours of the week or weeks of the year (UTC) of "
        "the reference: its rows need times, and should span at least two periods",
    )
    rolling: Duration | None = Field(
        None,
        description="renew the reference, at each thirtieth of this time, from the predictions of the latest stretch "
        "that is so long, while no alarm stands; the first one is that of `path` or `learn`. At least ten times the "
        "longest window; windows by time only",
    )
    columns: ColumnsSection = Field(
        ColumnsSection(), description="columns of a table that are no features: the answers, actual values and times"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ReferenceSection:
        found = []
        if (self.path is None) == (self.learn == 0):
            found.append(ConfigIssue("path", None, "give either path or learn"))
        if self.learn and self.learn < 100:
            found.append(ConfigIssue("learn", self.learn, "at least 100 predictions are needed"))
        if self.columns.given and self.path is None:
            found.append(ConfigIssue("columns", None, "are those of a table, under `path`"))
        raise_if_any(found)
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
        raise_if_any(self._misfits() if self.events is None else self._counted_misfits(self.events))
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
        span, pane, words = self.span or DEFAULT_SPAN, self.pane or DEFAULT_PANE, duration_text
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
        description="minimum effect size by detector, or one number for all; a smaller effect is no drift, whatever "
        "its p-value; 0: whatever is significant is drift, and critical; by default "
        + ", ".join(f"{name} {effect:g}" for name, effect in MIN_EFFECT.items()),
    )
    resolve_after: Count = Field(3, ge=1, description="consecutive calm checks that resolve an alert")
    windows: list[Number] = Field(
        [0.2, 0.5, 1, 2, 5],
        description="windows that are checked for drift at once, as multiples of `window`: short ones find large "
        "changes early, long ones find small changes; each has an equal part of the budget. `[1]`: `window` alone",
    )

    @field_validator("min_effect", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        return dict.fromkeys(MIN_EFFECT, value) if isinstance(value, int | float) else value

    @field_validator("min_effect")
    @classmethod
    def _known_detectors(cls, value: dict[str, float]) -> dict[str, float]:
        raise_if_any(
            ConfigIssue(name, None, f"unknown detector; {among(name, MIN_EFFECT)}")
            if name not in MIN_EFFECT
            else ConfigIssue(name, effect, "at least 0; with 0 whatever is significant counts")
            for name, effect in value.items()
            if name not in MIN_EFFECT or effect < 0
        )
        return value

    @model_validator(mode="after")
    def _multiples(self) -> DriftSection:
        raise_if_any(self._window_misfits())
        return self

    def _window_misfits(self) -> Iterator[ConfigIssue]:
        if len(self.windows) > MOST_WINDOWS:
            yield ConfigIssue("windows", None, f"{len(self.windows)} of them, at most {MOST_WINDOWS}")
        for i, multiple in enumerate(self.windows):
            if not 0 < multiple <= MOST_MULTIPLE:
                hint = f"a multiple of the window lies above 0 and is at most {MOST_MULTIPLE:g}"
                yield ConfigIssue(f"windows[{i}]", multiple, hint)
            elif multiple in self.windows[:i]:
                yield ConfigIssue(f"windows[{i}]", multiple, "is listed twice: leave one out")
        if 1 not in self.windows:
            yield ConfigIssue("windows", self.windows, "must contain 1, the configured window: add it")

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
        1_000,
        ge=10,
        description="predictions of each version from which on its baselines and its own reference are used, with an "
        "outcome where quality is measured",
    )
    baseline_max: Count = Field(
        20,
        ge=1,
        le=1_000,
        description="windows that the baseline of a version spans at most: it grows while the version is healthy, five "
        "windows later; in counted windows it is the first `baseline_n`",
    )
    concept_drift: Literal["adwin"] | None = Field(
        None, description=f"detector of changes in the errors: {', '.join(CONCEPT)}; off by default"
    )
