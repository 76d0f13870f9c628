"""Checks: a window of a version is judged, and what follows from it is said and done.

Pure. `model` calls `check` when a window has moved on and `judge_outcomes` when outcomes have landed. Drift is
judged against what is normal, rules against limits and baselines; both share one false-alarm budget. Health
follows from the rules, and who serves from the health.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from detectors.evidence import Evidence
from detectors.findings import CheckResult
from detectors.significance import Budget
from detectors.types import IntArray
from fallback.health import observe, worst
from fallback.types import Health
from monitor.aggregation.metrics import METRICS, QUANTILES, Estimate, latencies_above
from monitor.aggregation.outcome_columns import BASELINE_PANE
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.alerting.episodes import AlertPublisher
from monitor.alerting.records import AlertWindow, MetricEvidence
from monitor.evaluation.rules import Judgement, Measured, judge
from monitor.evaluation.version_state import RuleInstance, VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import Role, ServingController
from monitor.spec import Bound, Consequence, LimitBasis, ModelSpec, RuleSpec, Severity

_HEALTH = {Severity.WARNING: Health.DEGRADED, Severity.CRITICAL: Health.FAILED}
_MONTH = 30 * 86_400_000
_RESOLVE_AFTER = 3  # checks, where drift is not watched
Above = Mapping[str, Callable[[float], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What one window was: one row of the history. `names` are (feature, metric)."""

    version: str
    outcomes: bool
    start: int
    end: int
    names: tuple[tuple[str, str], ...]
    values: tuple[float, ...]
    events: tuple[int, ...]
    coverage: float | None


class Evaluator:
    """Judges the windows of one model. `watches` belongs to the model and is read here."""

    def __init__(
        self,
        spec: ModelSpec,
        watches: Mapping[int, VersionState],
        references: ReferenceSet,
        controller: ServingController,
        records: AlertPublisher,
    ) -> None:
        self._spec, self._watches = spec, watches
        self._references, self._steering, self._alerts = references, controller, records
        self.rate: float | None = None  # events per ms, where a budget in time meets windows in events
        self._history: list[HistoryRow] = []

    # -- one check ---------------------------------------------------------------------------------------

    def check(
        self, watch: VersionState, outcome_panes: tuple[int, int] | None, users: Sequence[str], wall: int | None
    ) -> None:
        """Judge the window of a version as it is now. `users` are the names of the user's own metrics."""
        window = AlertWindow(watch.window.start, watch.window.end, watch.window.events)
        sums, estimates = watch.measured(users)
        watch.served_by = sums.served_by()
        if watch.outcomes is not None and outcome_panes is not None:
            agreement = watch.outcomes.agreement(*outcome_panes)
            if agreement is not None:
                estimates["agreement"] = agreement
        watch.metrics = estimates
        result = self._check_drift(watch, window)
        self._history.append(_answer_row(watch.version, window, estimates, result))
        above = {name: _counter(sums.latency) for name in QUANTILES}
        baseline = self._answer_baseline(watch, users)
        self._judge(watch, window, estimates, above, baseline, outcomes=False, now=window.end, wall=wall)

    def _check_drift(self, watch: VersionState, window: AlertWindow) -> CheckResult:
        """Compare the window with what is normal; the episodes of the version take the result in."""
        nothing = CheckResult((), (), frozenset(), {})
        if self._spec.drift is None or watch.version in (*VERSIONLESS_TIERS, OTHER):
            return nothing
        everything = self._references.comparisons(watch.version)
        comparisons = [c for c in everything if c.holds(watch.window.total)]
        if not comparisons:
            watch.count_check("no_reference")
            return nothing
        if not self._spec.window.counted and window.events < self._spec.window.min_events:
            watch.count_check("too_few")
            return nothing
        alpha = self.budget(watch).alpha
        listed = {*watch.drift.features(), *watch.quality.features()}
        seen = self._references.seen
        result = comparisons[0].check(watch.window.total, alpha, listed, seen)
        for comparison in comparisons[1:]:
            result = result.joined(comparison.check(watch.window.total, alpha, listed, seen))
        seen.update(v.feature for v in result.values if v.statistic != "missing_rate")
        watch.skipped = {name: why.value for name, why in result.skipped.items()}
        watch.count_check("drift" if result.findings else "ok")
        watched = [name for c in everything for name in c.names]

        def evidence(name: str) -> Evidence | None:
            found = (c.evidence(name, watch.window.total) for c in comparisons)
            return next((e for e in found if e is not None), None)

        for episode in (watch.drift, watch.quality):
            self._alerts.emit(episode.update(result, window, watched, evidence))
        return result

    # -- the budget --------------------------------------------------------------------------------------

    def tests(self, watch: VersionState) -> int:
        """Tests of one check of a version that share the budget."""
        held = (c for c in self._references.comparisons(watch.version) if c.holds(watch.window.total))
        return sum(c.tests for c in held) + len(watch.rules)

    def budget(self, watch: VersionState) -> Budget:
        """What the false-alarm budget of the model leaves for each test of a version.

        In time windows every version is checked in every pane, so versions share the budget; counted windows
        are checked by events, of whichever version they are.
        """
        drift, window = self._spec.drift, self._spec.window
        if drift is None:
            return Budget(_MONTH / max(window.pane, 1000), len(watch.rules))
        budget, rate = drift.budget, self._measured_rate(watch)
        if window.counted:
            events = budget.events or budget.period * rate
            return Budget(events / budget.alarms / window.every, self.tests(watch))
        period = budget.period or budget.events / max(rate, 1e-9)
        versions = sum(
            w.version not in (*VERSIONLESS_TIERS, OTHER) and len(w.window) > 0 for w in self._watches.values()
        )
        return Budget(period / budget.alarms / window.pane, self.tests(watch) * max(versions, 1))

    def _measured_rate(self, watch: VersionState) -> float:
        """Events per ms: of the reference where that has times, else of the first window, once and for all."""
        if self.rate is None:
            p, w = self._references.profile, watch.window
            if p is not None and p.first_ms is not None and p.last_ms is not None and p.last_ms > p.first_ms:
                self.rate = p.rows / (p.last_ms - p.first_ms)
            elif len(w) and w.end > w.start:
                self.rate = w.events / (w.end - w.start)
        return self.rate or 1e-3

    # -- rules -------------------------------------------------------------------------------------------

    def _judge(
        self,
        watch: VersionState,
        window: AlertWindow,
        estimates: Mapping[str, Estimate],
        above: Above,
        baseline: Callable[[RuleSpec], Measured | None],
        *,
        outcomes: bool,
        now: int,
        wall: int | None,
    ) -> None:
        """Rules on the metrics of a window; then the health of the version, and who serves."""
        alpha = self.budget(watch).alpha
        for rule in watch.rules:
            name = rule.rule.metric
            info = METRICS.get(name)
            if info is not None and info.needs_outcomes != outcomes:
                continue
            if info is None and name not in estimates:
                continue  # a metric of the user's own may come with answers or with outcomes
            measured = Measured(estimates.get(name), above.get(name))
            base = baseline(rule.rule) if rule.rule.reference is not LimitBasis.NOTHING else None
            self._apply(watch, rule, judge(rule.rule, measured, base, alpha), window, now)
        self._observe(watch, now, wall)

    def _apply(self, watch: VersionState, rule: RuleInstance, judged: Judgement, window: AlertWindow, now: int) -> None:
        rule.verdict = judged.verdict
        resolve_after = self._spec.drift.resolve_after if self._spec.drift else _RESOLVE_AFTER
        if not rule.state.update(rule.rule, judged, window.end, resolve_after):
            return
        spec = rule.rule
        metric = MetricEvidence(spec.metric, judged.value, judged.baseline, judged.limit, judged.n)
        if not rule.state.firing:
            rule.alert.metric = metric
            self._alerts.emit(rule.alert.resolve(f"{spec.name}: {_words(spec, metric)} again", now, window))
            return
        summary = f"{spec.name}: {_words(spec, metric)}"
        self._alerts.emit(rule.alert.fire(spec.severity, summary, window.end, now, window, metric))
        if spec.then is not Consequence.NONE:
            watch.health = replace(watch.health, health=Health.FAILED, better_since=None)
            self._steering.breached(watch.version, spec.then, rule.alert.event_id, now, self.health)

    def _observe(self, watch: VersionState, now: int, wall: int | None) -> None:
        """Health after a check: downwards at once, upwards after `recover_after`. Rules decide it, drift by itself not:
        inputs may change for good, and a model that still answers well need not stay away for that.
        """
        found = [
            Health.FAILED if r.rule.then is not Consequence.NONE else _HEALTH[r.rule.severity] for r in watch.firing
        ]
        watch.health = observe(watch.health, worst(found), now if wall is None else wall, self._spec.recover_after)
        self._steering.recovered(self.health, now)

    def health(self, version: str) -> Health:
        """What is known of a version; healthy where nothing is."""
        return next((w.health.health for w in self._watches.values() if w.version == version), Health.HEALTHY)

    # -- baselines ---------------------------------------------------------------------------------------

    def _answer_baseline(self, watch: VersionState, users: Sequence[str]) -> Callable[[RuleSpec], Measured | None]:
        """What a version's answers are held to: the champion's of the same time, or its own first ones."""

        def measured(rule: RuleSpec) -> Measured | None:
            champion = self._champion_for(watch)
            if champion is not None:
                sums, estimates = champion.measured(users)
                estimate = (
                    champion.metrics.get(rule.metric) if rule.metric == "agreement" else estimates.get(rule.metric)
                )
                if estimate is not None and estimate.n >= rule.min_n:
                    return Measured(estimate, _counter(sums.latency) if rule.metric in QUANTILES else None)
            if not watch.baseline.complete:
                return None
            first, estimates = watch.baseline.metrics(users)
            found = estimates.get(rule.metric)
            return Measured(found, _counter(first.latency)) if found is not None else None

        return measured

    def _champion_for(self, watch: VersionState) -> VersionState | None:
        """Who a version is compared with while both answer: whoever wants the champion's place, with the champion."""
        if self._steering.role(watch.version) not in (Role.CHALLENGER, Role.SHADOW):
            return None
        champion = self._steering.serving.champion
        return next((w for w in self._watches.values() if w.version == champion and len(w.window)), None)

    def _outcome_baseline(
        self, watch: VersionState, window: OutcomeWindow, users: Sequence[str]
    ) -> Callable[[RuleSpec], Measured | None]:
        """What a version's quality is held to: the reference's own, the champion's, or its first pairs."""

        def measured(rule: RuleSpec) -> Measured | None:
            profile = self._references.profile
            given = profile.baselines.get(rule.metric) if profile is not None else None
            if given is not None:
                share = rule.metric in ("accuracy", "precision", "recall")
                hits = given.value * given.n if share else None
                return Measured(Estimate(given.value, given.n, given.variance, hits))
            champion = self._champion_for(watch)
            if champion is not None and champion.outcomes is not None:
                estimate = champion.outcome_metrics.get(rule.metric)
                if not self._spec.window.counted:
                    estimate = champion.outcomes.metrics(window.first, window.last, users).get(rule.metric)
                if estimate is not None and estimate.n >= rule.min_n:
                    return Measured(estimate)
            table = watch.outcomes
            if table is None or self._spec.outcomes is None or table.baseline_pairs < self._spec.outcomes.baseline_n:
                return None
            own = table.metrics(BASELINE_PANE, BASELINE_PANE, users).get(rule.metric)
            return Measured(own) if own is not None else None

        return measured

    # -- outcomes ----------------------------------------------------------------------------------------

    def judge_outcomes(self, watch: VersionState, clock: int, now: int, users: Sequence[str], wall: int | None) -> None:
        """Rules on quality, for every window of which enough outcomes are there now. `now` dates what is said."""
        table, spec = watch.outcomes, self._spec.outcomes
        if table is None or spec is None:
            return
        watch.landed = 0
        for window in watch.windows.eligible(table.coverage(), spec.min_coverage, clock):
            estimates = table.metrics(window.first, window.last, users)
            watch.outcome_metrics = estimates
            events = estimates["coverage"].n if "coverage" in estimates else 0
            seen = AlertWindow(window.start, window.end, events)
            baseline = self._outcome_baseline(watch, window, users)
            self._judge(watch, seen, estimates, {}, baseline, outcomes=True, now=now, wall=wall)

    def outcome_row(
        self, watch: VersionState, window: OutcomeWindow, users: Sequence[str], *, final: bool
    ) -> HistoryRow | None:
        """The row of the history of a window, as its outcomes are now.

        None where there are none yet, and none were to be expected: that there are none is a fact once the window
        is `final`.
        """
        if watch.outcomes is None:
            return None
        estimates = watch.outcomes.metrics(window.first, window.last, users)
        coverage = estimates.get("coverage")
        if coverage is None or not (final or "label_delay_s" in estimates):
            return None
        joined = int(coverage.hits or 0)
        named = list(estimates.items())
        return HistoryRow(
            watch.version,
            True,
            window.start,
            window.end,
            tuple(("", name) for name, _ in named),
            tuple(e.value for _, e in named),
            tuple(joined if (m := METRICS.get(name)) is not None and m.of_quality else e.n for name, e in named),
            coverage.value,
        )

    def take_history(self) -> list[HistoryRow]:
        """Rows of checks since this was last called."""
        rows, self._history = self._history, []
        return rows

    def partial_row(self, watch: VersionState, window: AlertWindow, estimates: Mapping[str, Estimate]) -> None:
        """A counted window that never filled: it goes to the history, and is not checked."""
        self._history.append(_answer_row(watch.version, window, estimates, CheckResult((), (), frozenset(), {})))


def _answer_row(
    version: str, window: AlertWindow, estimates: Mapping[str, Estimate], result: CheckResult
) -> HistoryRow:
    named = list(estimates.items())
    return HistoryRow(
        version,
        False,
        window.start,
        window.end,
        (*(("", name) for name, _ in named), *((v.feature, v.statistic) for v in result.values)),
        (*(e.value for _, e in named), *(v.value for v in result.values)),
        (*(e.n for _, e in named), *(v.events for v in result.values)),
        None,
    )


def _counter(latency: IntArray) -> Callable[[float], tuple[int, int]]:
    def above(limit: float) -> tuple[int, int]:
        return latencies_above(latency, limit)

    return above


def _words(rule: RuleSpec, metric: MetricEvidence) -> str:
    side = "above" if rule.bound is Bound.ABOVE else "below"
    held_to = "" if metric.baseline is None else f" (baseline {metric.baseline:.4g})"
    beyond = metric.value > metric.limit if rule.bound is Bound.ABOVE else metric.value < metric.limit
    return f"{metric.name} {metric.value:.4g} is {side if beyond else 'within'} {metric.limit:.4g}{held_to}"
