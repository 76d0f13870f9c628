"""What rules are judged by in one check: metrics, baselines, dependence, and the level of each test. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from detectors.pane_dependence import MetricDependence, supposed
from detectors.runs import run_level
from detectors.window import Slice
from fallback.types import Serving
from monitor.aggregation.metrics import LATENCY_CELLS, METRICS, TALLY_SIZE, AnswerSums, Estimate, answer_metrics
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.alerting.records import AlertWindow
from monitor.evaluation.baselines import Baseline, BaselineOf
from monitor.evaluation.metric_panes import LONGEST, PaneRows, adds_up, dependence_beside
from monitor.evaluation.rule_shares import part_of, reach_of
from monitor.evaluation.rules import SKIPPED, Judgement, Measured, RuleVerdict, Stretch, judge, skipped
from monitor.evaluation.version_state import RuleInstance, VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.serving.role import Role, role
from monitor.spec import LimitBasis, RuleSpec

STRETCHES: Final = (2, 3, LONGEST)  # windows that are tested beside the configured one
_LEAST_RATE: Final = 1e-290  # of alarms per check: a smaller one is no number
Above = Mapping[str, Callable[[float], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class RuleWindow:
    """A window as rules see it.

    Attributes:
        seen: The window as alerts show it.
        estimates: Its metrics.
        baseline: What the metrics are compared with.
        of_outcomes: Whether it is one of outcomes.
        panes: Numbers of its first and its last pane.
        above: Counts events above a limit, for metrics that are quantiles.
        outcome_panes: The same in outcome panes, for the agreement of answers; None where there are none.
    """

    seen: AlertWindow
    estimates: Mapping[str, Estimate]
    baseline: BaselineOf
    of_outcomes: bool
    panes: tuple[int, int]
    above: Above = field(default_factory=dict)
    outcome_panes: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class JudgedRule:
    """A rule with what was found of it.

    Attributes:
        rank: Its place among the rules of the version.
        rule: The rule on the version.
        measured: The metric in the window.
        judgement: The verdict.
    """

    rank: int
    rule: RuleInstance
    measured: Measured
    judgement: Judgement


def judged(version: VersionState, window: RuleWindow, rate: float, share: float) -> list[JudgedRule]:
    """Judge the rules of a version on a window, in order.

    Args:
        version: The version.
        window: The window.
        rate: False alarms that one check of the version may raise on average, by rules.
        share: Share of the model's requests that the version answers.
    """
    check = _Check(version, window, supposed(share))
    here = {rank: rule for rank, rule in enumerate(version.rules) if _is_due(rule, window)}
    numbers = {rank: check.numbers(rule.rule) for rank, rule in here.items()}
    able = {rank for rank, found in numbers.items() if _can_fire(here[rank].rule, *found)}
    for rank in able:
        here[rank].reach = check.reach(here[rank].rule, numbers[rank][0], rate)
    # Rules on what the other kind of window has take their part too, if they could be judged last.
    others = [r for rank, r in enumerate(version.rules) if rank not in here and not r.rule.hard]
    sharing = [here[rank] for rank in able] + [r for r in others if r.verdict not in SKIPPED]
    part = part_of(rate, sharing)
    found = []
    for rank, rule in here.items():
        measured, base = numbers[rank]
        if rank in able:
            judgement = check.judgement(rule.rule, measured, base, part)
        else:
            judgement = judge(rule.rule, measured, _numbers_of(base), 0.0)
        found.append(JudgedRule(rank, rule, measured, judgement))
    doubtful = {each.rule.rule.metric for each in found if each.judgement.doubtful}
    for metric in {here[rank].rule.metric for rank in able} - doubtful:
        check.note_calm(metric)
    return found


def _numbers_of(base: Baseline | None) -> Measured | None:
    return None if base is None else base.measured


def shared_part(measured: Measured, baseline: Measured | None) -> float:
    """Return which part of the variance of their difference is the baseline's, the same in every check."""
    if measured.estimate is None or baseline is None or baseline.estimate is None:
        return 0.0
    own, its = measured.estimate.n, baseline.estimate.n
    return own / (own + its) if own + its else 0.0


def stretch_part(rate: float, longer: int) -> float:
    """Return how many false alarms per check each stretch may raise, of the window and so many longer ones.

    They share panes: together four of them raise no more alarms than two would alone, by simulation.
    """
    return max(rate / (1 + longer / 3), _LEAST_RATE)


def _is_due(rule: RuleInstance, window: RuleWindow) -> bool:
    """Tell whether a rule is judged on a window, or on one of the other kind."""
    info = METRICS.get(rule.rule.metric)
    return _came(rule, window) if info is None else info.needs_outcomes == window.of_outcomes


def _came(rule: RuleInstance, window: RuleWindow) -> bool:
    """Tell whether a window has a rule's metric of the user's own, which may come with answers or with outcomes.

    Where it came with the others last, they tell when it is missing.
    """
    if rule.rule.metric in window.estimates:
        rule.came_with_outcomes = window.of_outcomes
        return True
    if rule.came_with_outcomes in (None, window.of_outcomes):
        rule.verdict = RuleVerdict.NO_DATA
    return False


def _can_fire(rule: RuleSpec, measured: Measured, base: Baseline | None) -> bool:
    return not rule.hard and skipped(rule, measured, _numbers_of(base)) is None


class _Check:
    """One check: what is learned of a metric is learned once for all rules on it."""

    def __init__(self, version: VersionState, window: RuleWindow, before: MetricDependence) -> None:
        self._version, self._window, self._before = version, window, before
        self._learned: dict[tuple[str, int], MetricDependence] = {}
        self._baselines: dict[tuple[str, int], Baseline | None] = {}

    def numbers(self, rule: RuleSpec) -> tuple[Measured, Baseline | None]:
        """Return (the metric of a rule in the window, its baseline)."""
        window = self._window
        measured = Measured(window.estimates.get(rule.metric), window.above.get(rule.metric))
        if rule.reference is LimitBasis.NOTHING:
            return measured, None
        return measured, self._baseline(rule)

    def _baseline(self, rule: RuleSpec) -> Baseline | None:
        key = rule.metric, rule.min_n
        if key not in self._baselines:
            self._baselines[key] = self._window.baseline(rule)
        return self._baselines[key]

    def reach(self, rule: RuleSpec, measured: Measured, rate: float) -> float:
        """Return how often, at most, a check breaks a rule by chance.

        What a champion is like now does not say what is normal for another version.
        """
        base = self._baseline(rule)
        if base is None or base.champion is not None:
            return 1.0
        known = replace(measured, dependence=self._dependence(rule.metric, None))
        return reach_of(rule, known, base.measured, rate, (1, *STRETCHES) if adds_up(rule.metric) else (1,))

    def judgement(self, rule: RuleSpec, measured: Measured, base: Baseline | None, rate: float) -> Judgement:
        """Judge a rule that may raise so many false alarms per check."""
        champion = None if base is None else base.champion
        dependence = self._dependence(rule.metric, champion)
        first, last = self._panes(rule.metric)
        panes = last - first + 1
        longer = [
            (many, pair)
            for many in STRETCHES
            if (pair := self._stretch(rule.metric, measured, base, last - many * panes + 1, last)) is not None
        ]
        part, checks = stretch_part(rate, len(longer)), 2 if rule.dwell else rule.checks

        def test(mine: Measured, its: Measured | None, many: int) -> Stretch:
            """Give a test its dependence and its level."""
            mine = replace(mine, dependence=dependence)
            its = None if its is None else replace(its, dependence=dependence)
            shared = 0.0 if champion is not None else shared_part(mine, its)
            return Stretch(mine, its, run_level(part, many * panes, checks, shared, dependence.df))

        own, *stretches = [test(measured, _numbers_of(base), 1), *(test(*pair, many) for many, pair in longer)]
        return judge(rule, own.measured, own.baseline, own.alpha, stretches)

    def note_calm(self, metric: str) -> None:
        """Take note that nothing seemed wrong with a metric."""
        for name in self._version.panes.sources(metric):
            self._version.panes.note_calm(name, self._panes(metric)[1])

    def _panes(self, metric: str) -> tuple[int, int]:
        if metric == "agreement" and self._window.outcome_panes is not None:
            return self._window.outcome_panes
        return self._window.panes

    def _dependence(self, metric: str, champion: VersionState | None) -> MetricDependence:
        key = metric, -1 if champion is None else champion.code
        if key not in self._learned:
            first, last = self._panes(metric)
            if champion is None:
                self._learned[key] = self._version.panes.learned(metric, first, last, self._before)
            else:
                self._learned[key] = self._dependence_beside(metric, champion, first, last)
        return self._learned[key]

    def _dependence_beside(self, metric: str, champion: VersionState, first: int, last: int) -> MetricDependence:
        mine, its = self._version.panes, champion.panes
        found = [
            dependence_beside(name, mine.usable(name, first, last), its[name], self._before)
            for name in mine.sources(metric)
        ]
        return max(found, key=lambda each: each.phi)

    def _stretch(
        self, metric: str, measured: Measured, base: Baseline | None, first: int, last: int
    ) -> tuple[Measured, Measured | None] | None:
        """Return (the metric from pane `first` on, its baseline); None where panes do not tell it."""
        if not adds_up(metric):
            return None
        mine = self._covering(self._version, metric, first, last)
        if mine is None:
            return None
        if base is None or base.champion is None:
            return Measured(mine.estimate()), _numbers_of(base)
        its = self._covering(base.champion, metric, first, last)
        return None if its is None else (Measured(mine.estimate()), Measured(its.estimate()))

    @staticmethod
    def _covering(version: VersionState, metric: str, first: int, last: int) -> PaneRows | None:
        rows = version.panes[metric]
        if not len(rows) or rows.pane[0] > first:
            return None
        found = rows.between(first, last)
        return found if len(found) else None


def share_of_requests(version: VersionState, versions: Mapping[int, VersionState], serving: Serving) -> float:
    """Return which share of the model's requests a version answers, in the latest windows; 1 for a shadow of all."""
    served = (Role.CHAMPION, Role.CHALLENGER)
    events = [v.window.events for v in versions.values() if len(v.window) and role(serving, v.version) in served]
    total = max(sum(events), version.window.events if len(version.window) else 0)
    if not total or version.version in (*VERSIONLESS_TIERS, OTHER):
        return 1.0
    return version.window.events / total if len(version.window) else 1.0


def note_answers(version: VersionState, user_metrics: Sequence[str], outcome_panes: tuple[int, int] | None) -> None:
    """Keep what the panes of a version's window that are new have of its metrics."""
    if not version.panes.names:
        return
    for piece in version.window:
        if piece.pane > version.panes.answers_until:
            sums = _sums_of(piece)
            version.panes.add(piece.pane, answer_metrics(sums, user_metrics))
            version.panes.add_latency(piece.pane, sums.latency, version.baseline.latency)
            version.panes.answers_until = piece.pane
    if version.outcomes is None or outcome_panes is None or "agreement" not in version.panes.names:
        return
    # The latest outcome pane may still grow.
    for pane in range(max(outcome_panes[0], version.panes.latest("agreement") + 1), outcome_panes[1]):
        agreement = version.outcomes.agreement(pane, pane)
        if agreement is not None:
            version.panes.add(pane, {"agreement": agreement})


def _sums_of(piece: Slice) -> AnswerSums:
    tally, latency = (
        piece.counts[name].dense() if name in piece.counts else np.zeros(size, np.int64)
        for name, size in (("tally", TALLY_SIZE), ("latency", LATENCY_CELLS))
    )
    return AnswerSums(tally, piece.sums, latency)


def note_outcomes(
    version: VersionState, user_metrics: Sequence[str], window: OutcomeWindow, clock: int, min_coverage: float
) -> None:
    """Keep what the panes up to the end of a window of outcomes have of its metrics, those that are new.

    A pane is kept once it has enough of its outcomes, or none can come any more; later ones wait for it.
    """
    table = version.outcomes
    if table is None or not version.panes.names:
        return
    panes, expected, joined = table.coverage()
    fresh = (panes > version.panes.outcomes_until) & (panes <= window.last)
    for pane, wanted, met in zip(panes[fresh].tolist(), expected[fresh].tolist(), joined[fresh].tolist(), strict=True):
        if met < min_coverage * wanted and window.final_at > clock:
            break
        version.panes.outcomes_until = pane
        if met:
            version.panes.add(pane, table.metrics(pane, pane, user_metrics))
