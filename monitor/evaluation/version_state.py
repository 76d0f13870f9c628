"""The state of one version of a model between checks.

Pure. The model feeds it, the evaluator judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detectors.findings import Family
from detectors.types import BoolArray, IntArray
from detectors.window import Slice, Window
from fallback.health import HealthState
from fallback.types import Health
from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    TALLY_SIZE,
    AnswerSums,
    Estimate,
    answer_metrics,
    joined_sums,
)
from monitor.aggregation.outcome_windows import OutcomeWindows
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.aggregation.panes import OpenPane, slice_of
from monitor.alerting.drift_episodes import DriftEpisode, DriftEpisodeState
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, ClosedBecause, Subject
from monitor.evaluation.answer_baseline import AnswerBaseline
from monitor.evaluation.concept_drift import ConceptDrift, SavedConceptDrift
from monitor.evaluation.extents import WindowExtent, other_extents, window_label, window_rule
from monitor.evaluation.feature_courses import FeatureCourses
from monitor.evaluation.metric_panes import MetricPanes
from monitor.evaluation.quality_baseline import QualityBaseline, QualityBaselineState
from monitor.evaluation.rules import RuleState, RuleVerdict
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.events.readings import Readings
from monitor.spec import BASELINE_MAX, ModelSpec, RuleSpec

_RESOLVE_AFTER = 3  # checks, where drift is not monitored


def resolve_after(spec: ModelSpec) -> int:
    """Return after how many calm checks in a row alerts of drift and of rules resolve."""
    return spec.drift.resolve_after if spec.drift else _RESOLVE_AFTER


@dataclass(frozen=True, slots=True)
class OtherWindow:
    """A window of another extent than the configured one, over the same panes."""

    extent: WindowExtent
    window: Window


@dataclass(slots=True)
class RuleInstance:
    """A rule on one version: its state, its alert, and its latest verdict.

    `came_with_outcomes` is of a metric of the user's own: whether it last came with outcomes or with answers; None
    where it never came. `doubtful` is whether its metric differed from the baseline at the latest check,
    `reach` how often, at most, chance alone breaks the rule.
    """

    rule: RuleSpec
    alert: SimpleEpisode
    state: RuleState = field(default_factory=RuleState)
    verdict: RuleVerdict = RuleVerdict.NO_DATA
    came_with_outcomes: bool | None = None
    doubtful: bool = False
    reach: float = 1.0


class SavedRule(msgspec.Struct):
    """What is stored of a `RuleInstance`."""

    state: RuleState
    alert: EpisodeState
    verdict: RuleVerdict
    came_with_outcomes: bool | None = None
    doubtful: bool = False
    reach: float = 1.0


class SavedParts(msgspec.Struct, kw_only=True):
    """What is stored of parts of a `VersionState` that are objects of their own."""

    version: str
    baseline: str
    drift: DriftEpisodeState
    quality: DriftEpisodeState
    rules: dict[str, SavedRule]
    concept: SavedConceptDrift | None = None
    judged: int = -1
    quality_baseline: QualityBaselineState | None = None
    features: str = ""
    panes: str = ""


class SavedVersion(SavedParts, kw_only=True):
    """What is stored of a `VersionState`; panes, outcomes and learned rows are stored apart.

    The fields defined here are attributes of the same name.
    """

    counted: int
    predictions: int
    joined: int
    landed: int
    health: HealthState
    metrics: dict[str, Estimate]
    outcome_metrics: dict[str, Estimate]
    served_by: dict[str, int]
    skipped: dict[str, str]
    checks: dict[str, int]
    sent_until: int = -1
    closed: ClosedBecause | None = None
    found: dict[str, list[str]] = {}


_ATTRIBUTES = [name for name in SavedVersion.__struct_fields__ if name not in SavedParts.__struct_fields__]


class VersionState:
    """The state of one version.

    Attributes:
        window: The configured window, which everything is judged by but drift.
        others: Windows of other extents, which drift is judged by as well; the shortest first.
        found: Features that the latest check of each of these found to have drifted, by its label; only where any.
        counted: Accepted answers: where the next one falls in counted panes.
        predictions: Answers in closed or open panes.
        joined: Matched pairs.
        landed: Matched pairs that landed in a pane since outcomes were last judged.
        metrics: Estimates of the latest window of answers.
        outcome_metrics: Estimates of the newest window of outcomes that was judged.
        served_by: Answers of the latest window by the tier that served them.
        skipped: Features that the latest check could not judge, and why.
        checks: Checks by their result, cumulative.
        features: What checks found of single features.
        panes: What single panes had of the metrics that rules name.
    """

    def __init__(self, code: int, version: str, spec: ModelSpec, baseline_n: int) -> None:
        self.code, self.version = code, version
        self.window, self.window_label = Window(window_rule(spec.window)), window_label(spec.window)
        judged = version not in (*VERSIONLESS_TIERS, OTHER)
        self.others = tuple(OtherWindow(e, Window(e.rule)) for e in other_extents(spec) if judged)
        self.found: dict[str, list[str]] = {}
        self.counted = self.predictions = self.joined = self.landed = 0
        self._model, self._baseline_n = spec.name, baseline_n
        windows = spec.outcomes.baseline_max if spec.outcomes else BASELINE_MAX
        self._baseline_extent = windows * spec.window.span
        self.baseline = AnswerBaseline(baseline_n, self._baseline_extent, spec.window.span)
        self.drift = DriftEpisode(spec.name, version, Family.DRIFT, resolve_after(spec))
        self.quality = DriftEpisode(spec.name, version, Family.DATA_QUALITY, resolve_after(spec))
        self.rules = [RuleInstance(rule, SimpleEpisode(self._subject_of(rule.name))) for rule in spec.rules]
        self.health = HealthState()
        self.outcomes: OutcomeTable | None = None
        self.quality_baseline: QualityBaseline | None = None
        self._spec = spec
        self._begin_outcomes()
        self.concept: ConceptDrift | None = None
        if spec.outcomes and spec.outcomes.concept_drift and version not in (*VERSIONLESS_TIERS, OTHER):
            self.concept = ConceptDrift(spec.name, version, spec.task, baseline_n)
        self.windows = OutcomeWindows()
        self.metrics: dict[str, Estimate] = {}
        self.outcome_metrics: dict[str, Estimate] = {}
        self.served_by: dict[str, int] = {}
        self.skipped: Mapping[str, str] = {}
        self.checks: dict[str, int] = {}
        self.features = FeatureCourses()
        self.panes = MetricPanes(spec.rules, spec.window)
        self.sent_until = -1  # end of the latest pane with answers, or of counted ones the latest answer, ms
        self.closed: ClosedBecause | None = None  # why its alerts have ended and none begins

    def _subject_of(self, rule: str) -> Subject:
        return Subject(self._model, self.version, AlertKind.METRIC, rule)

    def _begin_outcomes(self) -> None:
        spec = self._spec
        if spec.outcomes is not None:
            first = self._baseline_n if spec.window.counted else 0
            readings = Readings.of(spec.positive, spec.threshold)
            self.outcomes = OutcomeTable(spec.task, first, spec.outcomes.metrics, readings)
            self.quality_baseline = None if spec.window.counted else QualityBaseline(spec.window, spec.outcomes)

    def forget_answers(self) -> None:
        """Reset the baselines of answers and of quality: answers are of another kind from now on."""
        self.baseline = AnswerBaseline(self._baseline_n, self._baseline_extent, self._spec.window.span)
        self._begin_outcomes()
        self.panes = MetricPanes(self._spec.rules, self._spec.window)

    # -- what comes in -----------------------------------------------------------------------------------

    def number(self, count: int) -> IntArray:
        """Number the next `count` accepted answers: where they fall in counted panes."""
        numbers = self.counted + np.arange(count)
        self.counted += count
        return numbers

    def expect(self, predictions: int, scorable: IntArray, probable: BoolArray) -> None:
        """Count predictions that are in panes now.

        Args:
            predictions: How many.
            scorable: Outcome panes of those that an outcome can score.
            probable: Which of these surely are probabilities, or have one beside them.
        """
        self.predictions += predictions
        if self.outcomes is not None:
            self.outcomes.expect(scorable, probable)

    def absorb(self, other: VersionState) -> None:
        """Take over what was counted of a version whose panes are still open: it is this one from now on."""
        for name in ("counted", "predictions", "joined", "landed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if self.outcomes is not None and other.outcomes is not None:
            self.windows.touch(self.outcomes.absorb(other.outcomes))

    @property
    def _is_judged_good(self) -> bool:
        """Whether it is healthy, and not only because nobody judges it."""
        return self.closed is None and self.health.health is Health.HEALTHY and not self._is_doubtful

    @property
    def _is_doubtful(self) -> bool:
        """Whether a metric differs so far from its baseline that this should not take it in."""
        return any(rule.doubtful for rule in self.rules)

    def push(self, closed: Slice) -> None:
        """Move the window on by a closed pane; the baseline takes it too while the version is healthy."""
        self._push(closed)
        self.sent_until = max(self.sent_until, closed.end)
        if self.closed is ClosedBecause.NO_TRAFFIC:
            self.closed = None
        self.baseline.add(closed, healthy=self._is_judged_good, firing=bool(self.firing))

    def add_outcomes(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None], time: int) -> None:
        """Add pairs to the sums of their outcome panes, and to the baseline; `time` (ms) is the latest pair time."""
        if self.outcomes is None:
            return
        self.outcomes.add(pairs, user_metric)
        self.windows.touch(np.unique(pairs.pane).tolist())
        if self.quality_baseline is not None:
            held, firing = self.outcomes.baseline_pairs, bool(self.firing)
            healthy = self.closed is None and not firing and not self._is_doubtful
            intake = self.quality_baseline.takes(held, time, healthy=healthy, firing=firing)
            for row in intake.dropped:
                self.outcomes.forget(row)
            for row in intake.merged:
                self.outcomes.merge_into_baseline(row)
            if intake.into is not None:
                self.outcomes.add_to_baseline(pairs, user_metric, intake.into)

    def add_agreement(self, panes: IntArray, agreed: BoolArray) -> None:
        """Add comparisons with the served answers to their outcome panes."""
        if self.outcomes is not None:
            self.outcomes.agree(panes, agreed)

    def _push(self, piece: Slice) -> None:
        kept = piece.narrowed()  # the longest window keeps many
        for window in self._windows:
            window.push(kept)

    @property
    def _windows(self) -> list[Window]:
        return [self.window, *(other.window for other in self.others)]

    @property
    def first_pane(self) -> int:
        """Number of the earliest pane that a window holds; there must be one."""
        return min(window.first_pane for window in self._windows)

    def restore_pane(self, pane: int, held: OpenPane, width: int) -> None:
        """Take back a closed pane of the window."""
        piece = slice_of(pane, held, width)
        self._push(piece)
        self.sent_until = max(self.sent_until, piece.end)  # an earlier release did not store it

    def forget_vectors(self, names: Sequence[str]) -> None:
        """Drop vectors from the windows, and what was found by them: a person has replaced the reference."""
        self.drop_vectors(names)
        self.features.clear()
        self.found = {}

    def drop_vectors(self, names: Sequence[str]) -> None:
        """Drop vectors from the windows: what they were counted against is no longer the reference."""
        for name in names:
            for window in self._windows:
                window.forget(name)

    def oldest_pane(self, after: int) -> int | None:
        """Return the first pane that a window holds; None where all are from before pane `after`."""
        held = [window for window in self._windows if len(window)]
        return None if not held or self.window.last_pane < after else min(window.first_pane for window in held)

    def reset_window(self) -> None:
        """Begin counting anew, under another configuration of windows."""
        self.counted = self.landed = 0
        self.panes = MetricPanes(self._spec.rules, self._spec.window)

    # -- what is read ------------------------------------------------------------------------------------

    def measured(
        self, user_metrics: Sequence[str], window: Window | None = None
    ) -> tuple[AnswerSums, dict[str, Estimate]]:
        """Return (sums, metrics) of the version's window, or of another window of it."""
        w = self.window if window is None else window
        pieces = joined_sums([piece.sums for piece in w])
        sums = AnswerSums(_total(w, "tally", TALLY_SIZE), pieces, _total(w, "latency", LATENCY_CELLS))
        return sums, answer_metrics(sums, user_metrics)

    def count_check(self, result: str) -> None:
        """Count one more check with this result."""
        self.checks[result] = self.checks.get(result, 0) + 1

    @property
    def firing(self) -> list[RuleInstance]:
        """Rules that fire."""
        return [rule for rule in self.rules if rule.state.firing]

    @property
    def is_alarmed(self) -> bool:
        """Whether an alert of its inputs or answers, or of a rule, fires."""
        return self.drift.firing or self.quality.firing or bool(self.firing)

    def close(self, now: int, because: ClosedBecause, why: str) -> list[AlertRecord]:
        """End all alerts of the version, the pending ones too.

        Args:
            now: Stream time, ms.
            because: Why they end.
            why: The same in words.

        Returns:
            The records of those that fired.
        """
        records = [episode.end(now, because, why) for episode in (self.drift, self.quality)]
        for rule in self.rules:
            rule.state = RuleState()
            records.append(rule.alert.resolve(why, now, because=because))
        if self.concept is not None:
            records.append(self.concept.alert.resolve(why, now, because=because))
        return [record for record in records if record is not None]

    def saved(self) -> SavedVersion:
        """Return what is stored of it. It shares the parts that change: encode it before anything else happens."""
        attributes = {name: getattr(self, name) for name in _ATTRIBUTES}
        return SavedVersion(
            version=self.version,
            baseline=self.baseline.saved(),
            drift=self.drift.state,
            quality=self.quality.state,
            rules={
                r.rule.name: SavedRule(r.state, r.alert.state, r.verdict, r.came_with_outcomes, r.doubtful, r.reach)
                for r in self.rules
            },
            concept=None if self.concept is None else self.concept.saved(),
            judged=self.windows.judged,
            quality_baseline=None if self.quality_baseline is None else self.quality_baseline.state,
            features=self.features.saved(),
            panes=self.panes.saved(),
            **attributes,
        )

    def restore(self, saved: SavedVersion) -> list[SimpleEpisode]:
        """Go on with what `saved` returned. A rule that is new starts anew.

        Returns:
            Firing alerts of rules and of concept drift that are no longer configured.
        """
        for name in _ATTRIBUTES:
            setattr(self, name, getattr(saved, name))
        self.baseline.restore(saved.baseline)
        if self.quality_baseline is not None and saved.quality_baseline is not None:
            self.quality_baseline.state = saved.quality_baseline
        self.drift.state, self.quality.state = saved.drift, saved.quality
        if self._spec.drift is not None:
            self.features.restore(saved.features)
        self.panes.restore(saved.panes)
        removed = dict(saved.rules)
        for rule in self.rules:
            known = removed.pop(rule.rule.name, None)
            if known is not None:
                rule.state, rule.alert.state, rule.verdict = known.state, known.alert, known.verdict
                rule.came_with_outcomes, rule.doubtful = known.came_with_outcomes, known.doubtful
                rule.reach = known.reach
        episodes = [SimpleEpisode(self._subject_of(name), rule.alert) for name, rule in removed.items()]
        if saved.concept is not None and self.concept is not None:
            self.concept.restore(saved.concept)
        elif saved.concept is not None:
            subject = Subject(self._model, self.version, AlertKind.CONCEPT_DRIFT)
            episodes.append(SimpleEpisode(subject, saved.concept.alert))
        return [episode for episode in episodes if episode.firing]


def _total(window: Window, name: str, size: int) -> IntArray:
    total = window.total(name)
    return np.zeros(size, np.int64) if total is None else total
