"""All that is kept of one version of a model.

Pure. `model` feeds it; this is the state between checks, with the parts of it that have rules of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from detectors.findings import Family
from detectors.pane import Counts, pack_counts, unpack_counts
from detectors.types import BoolArray, IntArray
from detectors.window import Slice, Window, WindowRule
from fallback.health import HealthState
from fallback.types import Health
from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    SUMS_SIZE,
    TALLY_SIZE,
    AnswerSums,
    Estimate,
    answer_metrics,
    joined_sums,
    widened,
)
from monitor.aggregation.outcome_windows import OutcomeWindows
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.aggregation.panes import OpenPane, slice_of
from monitor.alerting.episodes import DriftEpisode, SimpleEpisode
from monitor.alerting.records import AlertKind, Subject
from monitor.evaluation.concept_drift import ConceptDrift
from monitor.evaluation.rules import RuleState, RuleVerdict
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.spec import ModelSpec, RuleSpec, WindowSpec


def window_rule(spec: WindowSpec) -> WindowRule:
    """How far windows reach back, in panes."""
    if spec.counted:
        span = spec.events // spec.every
        return WindowRule(span, span, spec.events)
    return WindowRule(spec.span // spec.pane, max(spec.longest, spec.span) // spec.pane, spec.min_events)


class AnswerBaseline:
    """The first answers of a version in whole panes: what latency, errors and resources are held to."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._tally = np.zeros(TALLY_SIZE, np.int64)
        self._latency = np.zeros(LATENCY_CELLS, np.int64)
        self._sums = np.zeros(SUMS_SIZE)
        self._events = 0

    @property
    def complete(self) -> bool:
        """Whether it is frozen."""
        return self._events >= self._wanted

    def add(self, piece: Slice) -> None:
        """Take a closed pane in, unless there are enough."""
        if self.complete:
            return
        self._events += piece.events
        self._sums = joined_sums([self._sums, piece.sums])
        for name, total in (("tally", self._tally), ("latency", self._latency)):
            if name in piece.counts:
                piece.counts[name].add_to(total)

    def metrics(self, user_metrics: Sequence[str]) -> tuple[AnswerSums, dict[str, Estimate]]:
        """(sums, metrics) of these answers."""
        sums = AnswerSums(self._tally, self._sums, self._latency)
        return sums, answer_metrics(sums, user_metrics)

    def state(self) -> str:
        """To be stored."""
        counts = {"tally": Counts.of(self._tally), "latency": Counts.of(self._latency)}
        body = pack_counts({"events": self._events}, counts, {"sums": self._sums})
        return base64.b64encode(body).decode()

    def restore(self, state: str) -> None:
        """The inverse of `state`."""
        header, counts, plain = unpack_counts(base64.b64decode(state))
        self._events, self._sums = header["events"], widened(plain["sums"])
        self._tally, self._latency = counts["tally"].dense().copy(), counts["latency"].dense().copy()


@dataclass(slots=True)
class RuleInstance:
    """One rule on one version: its state, its alert, and what it said last."""

    rule: RuleSpec
    alert: SimpleEpisode
    state: RuleState = field(default_factory=RuleState)
    verdict: RuleVerdict = RuleVerdict.NO_DATA


class VersionState:
    """The state of one version."""

    def __init__(self, code: int, version: str, spec: ModelSpec, baseline_n: int) -> None:
        self.code, self.version = code, version
        self.window = Window(window_rule(spec.window))
        self.counted = 0  # accepted answers: where the next one falls in counted panes
        self.predictions = 0  # answers in closed or open panes
        self.joined = 0
        self._spec, self._baseline_n = spec, baseline_n
        self.baseline = AnswerBaseline(baseline_n)
        resolve_after = spec.drift.resolve_after if spec.drift else 3
        self.drift = DriftEpisode(spec.name, version, Family.DRIFT, resolve_after)
        self.quality = DriftEpisode(spec.name, version, Family.DATA_QUALITY, resolve_after)
        self.rules = [
            RuleInstance(rule, SimpleEpisode(Subject(spec.name, version, AlertKind.METRIC, rule.name)))
            for rule in spec.rules
        ]
        self.health = HealthState()
        self.outcomes = OutcomeTable(spec.task, baseline_n, spec.outcomes.metrics) if spec.outcomes else None
        self.concept: ConceptDrift | None = None
        if spec.outcomes and spec.outcomes.concept_drift and version not in (*VERSIONLESS_TIERS, OTHER):
            self.concept = ConceptDrift(spec.name, version, spec.task, baseline_n)
        self.windows = OutcomeWindows()
        self.landed = 0  # pairs since outcomes were last looked at
        self.metrics: dict[str, Estimate] = {}  # of the latest window
        self.outcome_metrics: dict[str, Estimate] = {}  # of the newest window that was judged
        self.served_by: dict[str, int] = {}  # of the latest window
        self.skipped: Mapping[str, str] = {}  # features that the latest check could not judge, and why
        self.checks: dict[str, int] = {}  # checks by what they said, cumulative

    def forget_answers(self) -> None:
        """Answers are of another kind from now on: what they are held to, and how good they were, begins anew."""
        self.baseline = AnswerBaseline(self._baseline_n)
        if self.outcomes is not None:
            self.outcomes = OutcomeTable(self.outcomes.task, self._baseline_n, self.outcomes.listed)

    # -- what comes in -----------------------------------------------------------------------------------

    def number(self, count: int) -> IntArray:
        """Number the next `count` accepted answers: where they fall in counted panes."""
        numbers = self.counted + np.arange(count)
        self.counted += count
        return numbers

    def expect(self, predictions: int, scorable: IntArray) -> None:
        """Count predictions that are in panes now; `scorable` are outcome panes of those that an outcome can score."""
        self.predictions += predictions
        if self.outcomes is not None:
            self.outcomes.expect(scorable)

    def push(self, closed: Slice) -> None:
        """Move the window on by a closed pane; the first ones are the baseline too."""
        self.window.push(closed)
        self.baseline.add(closed)

    def count_pairs(self, joined: int, landed: int) -> None:
        """Count pairs: all of them, and those that fall into a pane."""
        self.joined += joined
        self.landed += landed

    def add_outcomes(self, pairs: ScoredPairs, user_metric: Callable[[str], int | None]) -> None:
        """Add pairs to the sums of their outcome panes."""
        if self.outcomes is not None:
            self.outcomes.add(pairs, user_metric)
            self.windows.touch(np.unique(pairs.pane).tolist())

    def add_agreement(self, panes: IntArray, agreed: BoolArray) -> None:
        """Add comparisons with the served answers to their outcome panes."""
        if self.outcomes is not None:
            self.outcomes.agree(panes, agreed)

    def restore_pane(self, pane: int, held: OpenPane, width: int) -> None:
        """Take back a closed pane of the window."""
        self.window.push(slice_of(pane, held, width))

    def forget_vectors(self, names: Sequence[str]) -> None:
        """Drop vectors from the window: what they were counted against is no longer the reference."""
        for name in names:
            self.window.forget(name)

    def reset_window(self) -> None:
        """Begin counting anew, under another configuration of windows."""
        self.counted = self.landed = 0

    # -- what is read ------------------------------------------------------------------------------------

    def measured(
        self, user_metrics: Sequence[str], window: Window | None = None
    ) -> tuple[AnswerSums, dict[str, Estimate]]:
        """(sums, metrics) of the version's window, or of another one of it."""
        w = self.window if window is None else window
        pieces = joined_sums([piece.sums for piece in w])
        sums = AnswerSums(_total(w, "tally", TALLY_SIZE), pieces, _total(w, "latency", LATENCY_CELLS))
        return sums, answer_metrics(sums, user_metrics)

    def count_check(self, said: str) -> None:
        """One more check with this result."""
        self.checks[said] = self.checks.get(said, 0) + 1

    @property
    def firing(self) -> list[RuleInstance]:
        """Rules that fire."""
        return [rule for rule in self.rules if rule.state.firing]

    def state(self) -> dict[str, Any]:
        """To be stored; panes, outcomes and learned rows are stored apart."""
        return {
            "version": self.version,
            "counted": self.counted,
            "predictions": self.predictions,
            "joined": self.joined,
            "baseline": self.baseline.state(),
            "drift": self.drift.state(),
            "quality": self.quality.state(),
            "rules": {
                watch.rule.name: {
                    "state": watch.state.state(),
                    "alert": watch.alert.state(),
                    "verdict": watch.verdict.value,
                }
                for watch in self.rules
            },
            "concept": self.concept.state() if self.concept else None,
            "health": asdict(self.health),
            "judged": self.windows.judged,
            "landed": self.landed,
            "metrics": {name: asdict(e) for name, e in self.metrics.items()},
            "outcome_metrics": {name: asdict(e) for name, e in self.outcome_metrics.items()},
            "served_by": self.served_by,
            "skipped": dict(self.skipped),
            "checks": self.checks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. A rule that is new begins anew, one that is gone is forgotten."""
        self.counted, self.predictions, self.joined = state["counted"], state["predictions"], state["joined"]
        self.baseline.restore(state["baseline"])
        self.drift.restore(state["drift"])
        self.quality.restore(state["quality"])
        for watch in self.rules:
            saved = state["rules"].get(watch.rule.name)
            if saved is not None:
                watch.state = RuleState.restored(saved["state"])
                watch.alert.restore(saved["alert"])
                watch.verdict = RuleVerdict(saved["verdict"])
        if self.concept is not None and state.get("concept") is not None:
            self.concept.restore(state["concept"])
        self.health = HealthState(Health(state["health"]["health"]), state["health"]["better_since"])
        self.landed = state["landed"]
        self.metrics = {name: Estimate(**e) for name, e in state["metrics"].items()}
        self.outcome_metrics = {name: Estimate(**e) for name, e in state["outcome_metrics"].items()}
        self.served_by, self.skipped, self.checks = state["served_by"], state["skipped"], state["checks"]


def _total(window: Window, name: str, size: int) -> IntArray:
    total = window.total(name)
    return np.zeros(size, np.int64) if total is None else total


def removed_alerts(watch: VersionState, state: Mapping[str, Any], spec: ModelSpec) -> list[SimpleEpisode]:
    """Alerts of rules and of concept drift that fired when they were stored and are not configured any more."""
    names = {rule.rule.name for rule in watch.rules}
    gone = [
        (Subject(spec.name, watch.version, AlertKind.METRIC, name), saved["alert"])
        for name, saved in state["rules"].items()
        if name not in names
    ]
    concept = state.get("concept")
    if concept is not None and watch.concept is None:
        gone.append((Subject(spec.name, watch.version, AlertKind.CONCEPT_DRIFT), concept["alert"]))
    episodes = []
    for subject, saved in gone:
        episode = SimpleEpisode(subject)
        episode.restore(saved)
        episodes.append(episode)
    return [episode for episode in episodes if episode.firing]
