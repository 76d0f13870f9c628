"""What rules can find: the level of each test, and the smallest change that every other window shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from detectors.pane_dependence import FEWEST_PANES, MetricDependence, supposed
from detectors.runs import run_level
from monitor.aggregation.metrics import METRICS, QUANTILES, Estimate
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.evaluation.baselines import Baseline, Baselines
from monitor.evaluation.metric_model import MetricModel
from monitor.evaluation.metric_panes import adds_up, dependence_beside, is_assumed, telling
from monitor.evaluation.rule_checks import STRETCHES, shared_part, stretch_part
from monitor.evaluation.rule_shares import part_of
from monitor.evaluation.rules import SKIPPED, RuleVerdict, limit_of
from monitor.evaluation.version_state import RuleInstance, VersionState
from monitor.spec import Bound, LimitBasis, ModelSpec, RuleSpec


@dataclass(frozen=True, slots=True)
class RuleChange:
    """The smallest value beyond its limit that every other stretch of so many windows shows to be no chance.

    Attributes:
        windows: Windows that the stretch spans.
        level: Largest p-value that is significant.
        value: The value of the metric; of a quantile the share of answers above what it is held to. None if none is.
        events: Events behind the metric until the rule fires.
        by_limit: Whether the limit decides; else the budget does.
    """

    windows: int
    level: float
    value: float | None
    events: int
    by_limit: bool


@dataclass(frozen=True, slots=True)
class RulePower:
    """What one rule can find on one version.

    Attributes:
        rule: The rule.
        limit: What the metric is held to now, in its unit; None where it has no baseline yet.
        value: The metric in the latest window; None where it has none.
        baseline: The metric in what it is compared with.
        baseline_n: Events behind that.
        n: Events behind the metric in a window.
        dependence: How much they depend on each other.
        panes: Panes before the window.
        telling: How many of them have an event of the rarer kind, and tell how events depend on each other.
        why: Why the rule is not judged now; None where it is.
        changes: What it finds; none of a rule that is hard, and where not enough is known.
    """

    rule: RuleSpec
    limit: float | None
    value: float | None
    baseline: float | None
    baseline_n: int
    n: int
    dependence: MetricDependence
    panes: int
    telling: int
    why: RuleVerdict | None
    changes: tuple[RuleChange, ...]

    @property
    def is_supposed(self) -> bool:
        """Whether its dependence is only supposed, as there are too few panes to learn it from."""
        return not self.rule.hard and self.telling < FEWEST_PANES

    @property
    def is_assumed(self) -> bool:
        """Whether the promise is only assumed for that."""
        return not self.rule.hard and is_assumed(self.panes, self.telling)


class RulePowers:
    """Computes what the rules of one version can find."""

    def __init__(
        self,
        spec: ModelSpec,
        version: VersionState,
        baselines: Baselines,
        user_metrics: Sequence[str],
        share: float,
        *,
        beside: bool = True,
    ) -> None:
        """Take note of what rules are judged by.

        Args:
            spec: The model.
            version: The version.
            baselines: What its metrics are compared with.
            user_metrics: Names of the user's own metrics.
            share: Share of the model's requests that the version answers.
            beside: Whether it answers beside the version that is served, so that their agreement is measured.
        """
        self._spec, self._version, self._baselines, self._beside = spec, version, baselines, beside
        self._user_metrics, self._before = user_metrics, supposed(share)

    def of_all(self, rate: float, expected: int) -> list[RulePower]:
        """Return what each rule can find, in order.

        Args:
            rate: False alarms that one check of the version may raise on average, by rules.
            expected: Events of a window, for metrics that no window had yet.
        """
        measured = [(rule, *self._numbers(rule)) for rule in self._version.rules]
        reasons = [self._why(rule, base) for rule, _, base in measured]
        judged = [rule for (rule, _, _), why in zip(measured, reasons, strict=True) if why is None]
        part = part_of(rate, [rule for rule in judged if not rule.rule.hard])
        return [
            self._power(rule, estimate, base, why, part, expected)
            for (rule, estimate, base), why in zip(measured, reasons, strict=True)
        ]

    def _numbers(self, rule: RuleInstance) -> tuple[Estimate | None, Baseline | None]:
        """Return (the metric of a rule in the latest window, its baseline)."""
        version, metric = self._version, rule.rule.metric
        of_outcomes = self._of_outcomes(rule)
        estimate = (version.outcome_metrics if of_outcomes else version.metrics).get(metric)
        if rule.rule.reference is LimitBasis.NOTHING:
            return estimate, None
        if not of_outcomes:
            return estimate, self._baselines.of_answers(version, self._user_metrics)(rule.rule)
        window = version.windows.newest or OutcomeWindow(0, -1, 0, 0, 0, 0)
        return estimate, self._baselines.of_outcomes(version, window, self._user_metrics)(rule.rule)

    @staticmethod
    def _of_outcomes(rule: RuleInstance) -> bool:
        info = METRICS.get(rule.rule.metric)
        return bool(rule.came_with_outcomes) if info is None else info.needs_outcomes

    def _why(self, rule: RuleInstance, base: Baseline | None) -> RuleVerdict | None:
        """Return why a rule is not judged; of a version without events only whether it could be."""
        if self._version.predictions:
            return rule.verdict if rule.verdict in SKIPPED else None
        if rule.rule.metric == "agreement" and not (self._beside and self._spec.outcomes is not None):
            return RuleVerdict.NO_DATA
        return RuleVerdict.NO_BASELINE if base is None and rule.rule.reference is not LimitBasis.NOTHING else None

    def _window(self, rule: RuleInstance) -> tuple[int, int]:
        """Return the first and the last pane of the latest window that the rule is judged on; of none before that."""
        window, outcomes = self._spec.window, self._spec.outcomes
        many = window.events // window.every if window.counted else window.span // window.pane
        by_outcomes = self._of_outcomes(rule) or rule.rule.metric == "agreement"
        if by_outcomes and outcomes is not None and not window.counted:
            many = max(window.span // outcomes.pane, 1)
        last = self._version.panes.latest(next(iter(self._version.panes.sources(rule.rule.metric))))
        return last - many + 1, last

    def _dependence(self, rule: RuleInstance, champion: VersionState | None) -> tuple[MetricDependence, int, int]:
        """Return (dependence of the metric, panes before the window, how many of these tell something)."""
        panes, (first, last) = self._version.panes, self._window(rule)
        names = panes.sources(rule.rule.metric)
        usable = {name: panes.usable(name, first, last) for name in names}
        tell = {name: telling(name, rows) for name, rows in usable.items()}
        if champion is None:
            known = panes.learned(rule.rule.metric, first, last, self._before)
            return known, min(map(len, usable.values())), min(tell.values())
        its = champion.panes
        found = [dependence_beside(name, usable[name], its[name], self._before) for name in names]
        common = min(len({*usable[name].pane.tolist()} & {*its[name].pane.tolist()}) for name in names)
        both = min(max(tell[name], telling(name, its[name])) for name in names)
        return max(found, key=lambda each: each.phi), common, min(both, common)

    def _power(
        self,
        instance: RuleInstance,
        estimate: Estimate | None,
        base: Baseline | None,
        why: RuleVerdict | None,
        rate: float,
        expected: int,
    ) -> RulePower:
        rule = instance.rule
        baseline = None if base is None else base.measured.estimate
        champion = None if base is None else base.champion
        dependence, panes, tell = self._dependence(instance, champion)
        first, last = self._window(instance)
        relative = rule.reference is not LimitBasis.NOTHING
        limit = None if relative and baseline is None else limit_of(rule, baseline)
        n = expected if estimate is None else estimate.n
        changes: tuple[RuleChange, ...] = ()
        if why is None and not rule.hard and limit is not None and rate > 0:
            like = MetricModel.of(rule, estimate, baseline, n, dependence)
            if like is not None:
                many = STRETCHES if adds_up(rule.metric) else ()
                part = stretch_part(rate, len(many))
                its = None if champion is None else n
                changes = tuple(
                    self._change(rule, like, limit, windows, part, last - first + 1, its) for windows in (1, *many)
                )
        return RulePower(
            rule, limit, None if estimate is None else estimate.value, None if baseline is None else baseline.value,
            0 if baseline is None else baseline.n, n, dependence, panes, tell, why, changes,
        )  # fmt: skip

    def _change(
        self, rule: RuleSpec, like: MetricModel, limit: float, windows: int, part: float, panes: int, beside: int | None
    ) -> RuleChange:
        """Find the smallest change that a stretch of so many windows shows.

        Args:
            rule: The rule.
            like: What the metric is like.
            limit: The limit.
            windows: Windows of the stretch.
            part: False alarms per check that it may raise.
            panes: Panes of a window.
            beside: Events of the champion in a window, where that is the baseline.
        """
        of = like.over(windows, both=beside is not None)
        checks = 2 if rule.dwell else rule.checks
        shared = 0.0 if beside is not None else shared_part(of.measured(of.acceptable), of.base)
        level = run_level(part, windows * panes, checks, shared, like.dependence.df)
        value = of.smallest(rule, limit, level)
        by_limit = False
        if value is not None and rule.metric not in QUANTILES:
            by_limit = limit > value if rule.bound is Bound.ABOVE else limit < value
            value = limit if by_limit else value
        window = self._spec.window
        more = rule.checks - 1 if window.counted else max(rule.checks - 1, math.ceil(rule.dwell / window.pane))
        return RuleChange(windows, level, value, round(like.n * (windows + more / max(panes, 1))), by_limit)
