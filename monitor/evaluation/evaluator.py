"""Looks at the versions of one model: windows are checked, rules judged, serving decided.

Pure. Called when a window has moved on and when outcomes have landed. Drift is judged against the reference, rules
against limits and baselines; both share one false-alarm budget. Health follows from the rules, and rules that begin
to fire propose what they are configured to do; serving is decided once per look, after the health.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fallback.health import observe, worst
from fallback.types import Decision, Health
from monitor.aggregation.metrics import QUANTILES
from monitor.alerting.records import AlertRecord, AlertWindow, MetricEvidence
from monitor.evaluation.baselines import Baselines, count_above
from monitor.evaluation.budget import FalseAlarmBudget
from monitor.evaluation.closing import retire
from monitor.evaluation.drift_checks import CheckedFeatures, DriftChecks
from monitor.evaluation.history import HistoryRow, answer_row
from monitor.evaluation.rule_checks import RuleWindow, judged, note_answers, note_outcomes, share_of_requests
from monitor.evaluation.rules import SKIPPED, Judgement, Measured, RuleVerdict, differs
from monitor.evaluation.version_state import RuleInstance, VersionState, resolve_after
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.serving.proposals import Action, Proposal, Proposer, ServingEffects
from monitor.spec import Bound, Consequence, ModelSpec, RuleSpec, Severity, Task

_HEALTH = {Severity.WARNING: Health.DEGRADED, Severity.CRITICAL: Health.FAILED}
_ACTION = {Consequence.FALLBACK: Action.STEP_DOWN, Consequence.ROLLBACK: Action.ROLL_BACK}


@dataclass(frozen=True, slots=True)
class SeenOutcomes:
    """Predictions of a window that outcomes could score, how many have one, and whether more may come.

    The window is of outcome panes `first` to `last`.
    """

    expected: int
    joined: int
    final: bool
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that followed from one look at a version.

    Attributes:
        records: Alert records of drift and rules without numbers, in order.
        serving: What was decided of the rules' proposals; it follows the records.
        history: The row of the window, if there is one.
        checked: What the check of the window found of its features; None where there was none.
        quality: What was seen of outcomes in each window that was judged, in order.
        others: Rows of windows of other extents, where what they show has changed.
    """

    records: tuple[AlertRecord, ...] = ()
    serving: ServingEffects = field(default_factory=ServingEffects)
    history: HistoryRow | None = None
    checked: CheckedFeatures | None = None
    quality: tuple[SeenOutcomes, ...] = ()
    others: tuple[HistoryRow, ...] = ()

    @property
    def published(self) -> tuple[AlertRecord | Decision, ...]:
        """What is to be published, in order: records, the decision, its alerts."""
        return (*self.records, *self.serving.published)


class Evaluator:
    """Looks at the versions of one model. `versions` belongs to the model and is read here."""

    def __init__(
        self,
        spec: ModelSpec,
        versions: Mapping[int, VersionState],
        references: ReferenceSet,
        controller: ServingController,
    ) -> None:
        self._spec, self._versions = spec, versions
        self._references, self._controller = references, controller
        self._baselines = Baselines(spec, versions, references, controller)
        self.budget = FalseAlarmBudget(spec, versions, references)
        self.drift = DriftChecks(spec, references, self.budget)

    def check(
        self,
        version: VersionState,
        outcome_panes: tuple[int, int] | None,
        user_metrics: Sequence[str],
        wall: int | None,
    ) -> Look:
        """Check the window of a version as it is now.

        Args:
            version: The version; its latest metrics and its health are replaced.
            outcome_panes: First and last outcome pane of the window; None where no outcomes are expected.
            user_metrics: Names of the user's own metrics.
            wall: The clock that `recover_after` runs by, ms; None for stream time.
        """
        window = AlertWindow(version.window.start, version.window.end, version.window.events, version.window_label)
        sums, estimates = version.measured(user_metrics)
        version.served_by = sums.served_by()
        if version.outcomes is not None and outcome_panes is not None:
            agreement = version.outcomes.agreement(*outcome_panes)
            if agreement is not None:
                estimates["agreement"] = agreement
        version.metrics = estimates
        drift = self.drift.check(version, window)
        reading = sums.probabilities if self._spec.task is Task.BINARY else None
        row = answer_row(version.version, window, estimates, drift.result, probabilities=reading)
        baseline = self._baselines.of_answers(version, user_metrics)
        above = {name: count_above(sums.latency) for name in QUANTILES}
        note_answers(version, user_metrics, outcome_panes)
        first = version.window.first_pane
        panes = first, max(piece.pane for piece in version.window)
        rules, proposals = self._judge(
            version, RuleWindow(window, estimates, baseline, False, panes, above, outcome_panes), window.end, wall
        )
        serving = self._look_ends(proposals, window.end)
        return Look((*drift.records, *rules), serving, row, drift.checked, others=drift.rows)

    def judge_outcomes(
        self, version: VersionState, clock: int, now: int, user_metrics: Sequence[str], wall: int | None
    ) -> Look:
        """Judge rules on quality, in every window of which enough outcomes are there now.

        Args:
            version: The version; its latest outcome metrics and its health are replaced.
            clock: Stream time, ms: windows whose outcomes are final by then are judged as they are.
            now: Time of what is published, ms.
            user_metrics: Names of the user's own metrics.
            wall: The clock that `recover_after` runs by, ms; None for stream time.
        """
        table, spec = version.outcomes, self._spec.outcomes
        if table is None or spec is None:
            return Look()
        version.landed = 0
        records: list[AlertRecord] = []
        proposals: list[Proposal] = []
        quality: list[SeenOutcomes] = []
        windows = version.windows.eligible(table.coverage(), spec.min_coverage, clock)
        for window in windows:
            estimates = table.metrics(window.first, window.last, user_metrics)
            version.outcome_metrics = estimates
            coverage = estimates.get("coverage")
            events = 0 if coverage is None else coverage.n
            joined = 0 if coverage is None else int(coverage.hits or 0)
            quality.append(SeenOutcomes(events, joined, window.final_at <= clock, window.first, window.last))
            seen = AlertWindow(window.start, window.end, events, version.window_label)
            baseline = self._baselines.of_outcomes(version, window, user_metrics)
            note_outcomes(version, user_metrics, window, clock, spec.min_coverage)
            panes = window.first, window.last
            found = self._judge(version, RuleWindow(seen, estimates, baseline, True, panes), now, wall)
            records += found[0]
            proposals += found[1]
        decided = self._look_ends(proposals, now) if windows else ServingEffects()
        return Look(tuple(records), decided, quality=tuple(quality))

    def decide(self, proposals: Sequence[Proposal], now: int) -> ServingEffects:
        """Decide on proposals, and end the alerts of versions that the decision takes out of service."""
        before = self._controller.serving
        effects = self._controller.decide(proposals, self.health, now)
        if effects.decision is None:
            return effects
        over = retire(self._versions.values(), before, self._controller.serving, now)
        return replace(effects, records=(*effects.records, *over))

    def health(self, version: str) -> Health:
        """Return the health of a version; healthy where nothing is known."""
        return next((v.health.health for v in self._versions.values() if v.version == version), Health.HEALTHY)

    # -- rules -------------------------------------------------------------------------------------------

    def _judge(
        self, version: VersionState, window: RuleWindow, now: int, wall: int | None
    ) -> tuple[list[AlertRecord], list[Proposal]]:
        """Judge the rules on the metrics of a window, then the health of the version."""
        if version.closed is not None:
            return [], []
        rate = self.budget.allowed(version).rules
        share = share_of_requests(version, self._versions, self._controller.serving)
        records: list[AlertRecord] = []
        proposals: list[Proposal] = []
        for each in judged(version, window, rate, share):
            rank, rule = each.rank, each.rule
            record = self._update(rule, each.judgement, each.measured, window.seen, now)
            if record is None:
                continue
            records.append(record)
            action = _ACTION.get(rule.rule.then)
            if record.begins and action is not None:
                proposals.append(Proposal(Proposer.RULES, action, version.version, record.event_id, rank))
        self._observe(version, now, wall)
        return records, proposals

    def _update(
        self, rule: RuleInstance, judged: Judgement, measured: Measured, window: AlertWindow, now: int
    ) -> AlertRecord | None:
        """Take the judgement into the state of a rule; return a record if it began to fire, moved far or resolved."""
        rule.verdict, rule.doubtful = judged.verdict, judged.doubtful
        changed = rule.state.update(rule.rule, judged, window.end, resolve_after(self._spec))
        if not changed and (not rule.state.firing or judged.verdict in SKIPPED):
            return None
        spec = rule.rule
        variance = 0.0 if measured.estimate is None else measured.estimate.uncertainty
        metric = MetricEvidence(spec.metric, judged.value, judged.baseline, judged.limit, judged.n)
        summary = f"{spec.name}: {_words(spec, metric)}"
        if not changed:
            beyond = judged.verdict is not RuleVerdict.OK
            told = rule.alert.last_told
            beyond = beyond and (told is None or differs(spec.metric, measured, told.value, told.n))
            return rule.alert.observe(summary, now, window, metric, variance, beyond=beyond)
        if rule.state.firing:
            return rule.alert.fire(spec.severity, summary, window.end, now, window, metric, variance)
        return rule.alert.resolve(f"{summary} again", now, window, metric)

    def _observe(self, version: VersionState, now: int, wall: int | None) -> None:
        """Update the health after a check: it falls at once, and rises after `recover_after`.

        Rules decide it. Drift alone does not: inputs may change for good, and a model that still answers well need
        not stop serving for that.
        """
        found = [
            Health.FAILED if r.rule.then is not Consequence.NONE else _HEALTH[r.rule.severity] for r in version.firing
        ]
        at = now if wall is None else wall
        version.health = observe(version.health, worst(found), at, self._spec.recover_after)

    def _look_ends(self, proposals: Sequence[Proposal], now: int) -> ServingEffects:
        return self.decide((*proposals, Proposal.recover()), now)


def _words(rule: RuleSpec, metric: MetricEvidence) -> str:
    side = "above" if rule.bound is Bound.ABOVE else "below"
    held_to = "" if metric.baseline is None else f" (baseline {metric.baseline:.4g})"
    beyond = metric.value > metric.limit if rule.bound is Bound.ABOVE else metric.value < metric.limit
    return f"{metric.name} {metric.value:.4g} is {side if beyond else 'within'} {metric.limit:.4g}{held_to}"
