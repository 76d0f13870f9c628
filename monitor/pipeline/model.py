"""One model: what a batch brings is counted into panes, windows are checked, outcomes land.

Pure: time is the stream's own. What happens is tied to positions in the stream (`schedule`), never to how the
stream was cut into batches, so a replay gives the same records as the live run. Called by `pipeline`: once
per batch, once per commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.findings import Verdict
from detectors.reference import Profile
from detectors.types import IntArray
from fallback.types import Decision
from monitor.aggregation.metrics import METRICS
from monitor.aggregation.outcome_windows import window_of_check
from monitor.aggregation.predictions import Predictions
from monitor.alerting.no_data import NoDataDetector
from monitor.alerting.numbering import AlertNumbering
from monitor.alerting.records import AlertRecord, AlertWindow, ClosedBecause
from monitor.evaluation.closing import end_silent, first_silence, retire_known
from monitor.evaluation.concept_drift import REPLACED
from monitor.evaluation.evaluator import Evaluator, Look
from monitor.evaluation.history import answer_row, outcome_row
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import Codes, Entry, Labels, Variants
from monitor.events.readings import LabelCode
from monitor.pipeline import schedule
from monitor.pipeline.blind_watch import BlindWatch
from monitor.pipeline.columns import ModelBatch
from monitor.pipeline.commit import ModelCommit, ModelSnapshot
from monitor.pipeline.landing import Landing
from monitor.pipeline.model_state import ModelParts, Restored, end_unconfigured
from monitor.pipeline.outcome_log import OutcomeLog, first_outcome_pane, outcome_rows
from monitor.pipeline.saved_states import read_model
from monitor.pipeline.schedule import ActionKind, ScheduledAction
from monitor.pipeline.stage_one import StageOne
from monitor.pipeline.subscribers import ConceptDriftErrors, OutcomeSums, PaneSubscriber, Windows
from monitor.pipeline.versions import Versions
from monitor.reference.active import ReferenceSet
from monitor.reference.learning import MOST_NAMES
from monitor.reference.provenance import NOT_KNOWN, Origin
from monitor.reference.subjects import answers_of
from monitor.saved import to_plain
from monitor.serving.controller import ServingController
from monitor.serving.proposals import Proposal
from monitor.spec import Limits, ModelSpec, Task

_FOREVER: Final = 1 << 62

Published = list[AlertRecord | Decision]


@dataclass(frozen=True, slots=True)
class PositionedRecord:
    """An alert or a decision, and where in the batch it happened: before or after the event at a position."""

    position: int
    after: bool
    what: AlertRecord | Decision


class ModelMonitor:
    """Everything that is known of one model."""

    def __init__(self, spec: ModelSpec, limits: Limits, variants: Variants, labels: Labels) -> None:
        self.spec = spec
        self._limits = limits
        self.labels = labels
        self.restore_metrics(())
        self.alerts = AlertNumbering()
        self.references = ReferenceSet(spec, labels, limits.learning, max(MOST_NAMES, limits.features))
        self.controller = ServingController(spec.name, spec.serving, f"{spec.name}/0")
        self.versions = Versions(spec, variants, self.references, self.controller)
        self.stage_one = StageOne(spec, self.versions, self.references, self.user_metric)
        self.evaluator = Evaluator(spec, self.versions.states, self.references, self.controller)
        self.no_data = NoDataDetector(spec.name, spec.no_data_after)
        self.outcome_log = OutcomeLog()
        sums = OutcomeSums(self.versions, self.user_metric)
        self.landing = Landing(spec, labels, self.versions, sums, (ConceptDriftErrors(self.versions),))
        self.blind = BlindWatch(spec, self.versions, self.references, self.controller)
        self._parts = ModelParts(
            spec, self.versions, self.stage_one, self.references, self.alerts, self.controller, self.evaluator,
            self.no_data, self.outcome_log, self.landing, self.blind,
        )  # fmt: skip
        self.pane_subscribers: tuple[PaneSubscriber, ...] = (Windows(self.versions),)
        self.configured_reference: str | None = None  # hash of the file that was last put in force
        self.watermark: int | None = None  # stream time at the end of the last batch
        self._ended = 0  # time panes before this one have ended
        self._passed = 0  # the same of stream time; those between wait for a reference that is being made
        self._held = _FOREVER  # beyond this stream time, ms, nothing is done now
        self._dirty = ModelCommit()
        self._finished = False  # the stream has ended

    def restore_metrics(self, entries: Sequence[Entry]) -> None:
        """Give metrics of the user's own the places that they had, and those that are configured the next ones."""
        self.user_metrics = Codes(self.spec.name, "metric", self._limits.user_metrics)
        self.user_metrics.restore(entries)
        for name in self.spec.user_metrics:
            self.user_metric(name)

    @property
    def metrics_without_place(self) -> list[str]:
        """Configured metrics whose places others have had since before they were configured."""
        return [name for name in self.spec.user_metrics if name not in self.user_metrics]

    def user_metric(self, name: str) -> int | None:
        """Return the place of a metric of the user's own; None beyond the limits, or for a name of ours."""
        if name in self.user_metrics:
            return self.user_metrics[name]
        if name in METRICS or len(name) > self._limits.id_length or len(self.user_metrics) >= self._limits.user_metrics:
            return None
        return self.user_metrics[name]

    def shown(self, value: float) -> float | str | None:
        """Return a prediction or an outcome as events have it; labels are numbers in here."""
        if np.isnan(value):
            return None
        return value if self.spec.task is Task.REGRESSION else self.labels.text(LabelCode(int(value)))

    # -- a batch -----------------------------------------------------------------------------------------

    def add_predictions(self, predictions: Predictions, sampled: int) -> IntArray:
        """Count predictions into panes (stage one), and return the outcome pane of each; see `Landing.add_answers`."""
        pane = self.stage_one.add_predictions(predictions)
        self.landing.add_answers(predictions, pane, sampled)
        return pane

    def run(self, batch: ModelBatch, times: IntArray, wall: int | None) -> list[PositionedRecord]:
        """Do everything that happens in a batch once its predictions are in their panes, in the order of the stream.

        Args:
            batch: What the batch brings to this model.
            times: Stream time at each row of the batch and at its end, ms, below zero where not known.
            wall: The time of day that `recover_after` runs by, ms; None for stream time.

        Returns:
            Alerts and decisions with their positions, in order.
        """
        predictions = batch.predictions
        self.stage_one.add_resources(batch.resources, predictions)
        out: list[PositionedRecord] = []
        self._held = _FOREVER
        self.landing.begin()
        self.blind.begin(predictions, times)
        for action in self._scheduled(batch, times):
            out += self._land(batch, action.position + action.after, times)
            self._hear(action.position + action.after)
            published: Published = []
            if action.moment >= 0:
                published += self._on_panes_end(action.moment, wall)
            if action.moment <= self._held:  # else the next batch begins with it
                published += self._perform(action, int(times[action.position]), wall)
            out += [PositionedRecord(action.position, action.after, what) for what in published]
        out += self._land(batch, None, times)
        self._hear(None)
        now = min(int(times[-1]), self._held)
        self.no_data.advance(_reached(predictions, times), now)
        if now >= 0:
            self.watermark = now
            if not self.spec.window.counted:
                self.references.advance(self.watermark)  # all panes before it are sealed
        return out

    def _hear(self, stop: int | None) -> None:
        """Take note of who sent predictions in the rows before `stop`, where windows are counted; None: in all."""
        for variant, latest in self.blind.reach(stop).items():
            state = self.versions[variant]
            state.sent_until = max(state.sent_until, latest)

    def _scheduled(self, batch: ModelBatch, times: IntArray) -> list[ScheduledAction]:
        window, predictions, pairs = self.spec.window, batch.predictions, batch.pairs
        actions: list[ScheduledAction] = []
        if window.counted:
            for variant in self.versions.ordered(np.unique(predictions.variant).tolist()):
                at = predictions.position[predictions.variant == variant]
                actions += schedule.panes_full(window.every, variant, at, self.versions[variant].counted)
            for variant in self.versions.ordered(np.unique(pairs.variant).tolist()):
                at = pairs.position[pairs.variant == variant]
                actions += schedule.outcomes_due(window.every, variant, at, self.versions[variant].joined)
            actions += schedule.looks(window.every, predictions.position, self.references.numbered)
        else:
            actions += schedule.pane_ends(window.pane, self.watermark, times)
        planned = self.no_data.plan(_reached(predictions, times), predictions.position, times)
        actions += schedule.gaps(planned, counted=window.counted)
        actions += schedule.silences_over((s.until for s in self.alerts.silences), times, counted=window.counted)
        return schedule.in_order(actions)

    def _perform(self, action: ScheduledAction, now: int, wall: int | None) -> Published:
        """Do one thing, and return what is published of it. `now` is stream time at its position, ms."""
        match action.kind:
            case ActionKind.PANES_END:
                return self._on_panes_end(now, wall)
            case ActionKind.PANE_FULL:
                published = self._on_pane_complete(action.variant, action.pane, wall)
                return published + self._on_outcomes_due(action.variant, now, wall)
            case ActionKind.OUTCOMES_DUE:
                return self._on_outcomes_due(action.variant, now, wall)
            case ActionKind.LOOK:
                return self.alerts.publish_all(self.blind.on_count())
            case ActionKind.GAP if action.gap is not None:
                return self.alerts.publish_all(self.no_data.apply(action.gap))
            case ActionKind.SILENCE_OVER:
                return [*self.alerts.unmute(now)]
            case _:
                return []

    # -- panes -------------------------------------------------------------------------------------------

    def _on_panes_end(self, now: int, wall: int | None) -> Published:
        """End the time panes that stream time has passed, one after the other, however far it went at once.

        Where a reference is being made that they are to be compared with they do not end yet: for this model stream
        time stands still until it is there, and then goes on at once.
        """
        published: Published = []
        width = self.spec.window.pane
        last = now // width
        self._passed = max(self._passed, last)
        while (ended := self._next_end()) <= last:
            published += self._admit(ended * width)
            if self.references.must_wait(pane for pane, _ in self.stage_one.ended(ended * width)):
                self._ended, self._held = max(self._ended, ended - 1), ended * width - 1
                return published
            published += self._on_pane_end(ended, wall)
            self._ended = ended
        self._ended = max(self._ended, last)
        return published

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for a reference that is being made that nothing more should be read."""
        longest = max(self.spec.window.longest // max(self.spec.window.pane, 1), 1)
        return self._held < _FOREVER and (self._passed - self._ended > longest or self.references.is_full)

    def _next_end(self) -> int:
        """Return the number of the first time pane at whose beginning something is to be done."""
        width = self.spec.window.pane
        due = [pane + 1 for pane in (self.landing.first_due, self.stage_one.first_open) if pane is not None]
        for state in self.versions.states.values():
            final_at = state.windows.first_final_at
            due += [] if final_at is None else [-(-final_at // width)]
        silent = first_silence(self.versions.states, self.spec.window, self.controller.serving)
        due += [] if silent is None else [-(-silent // width)]
        return max(min(due, default=_FOREVER), self._ended + 1)

    def _on_pane_end(self, ended: int, wall: int | None) -> Published:
        """Land pairs, close panes and judge outcomes at the end of a time pane, the one before pane `ended`."""
        now = ended * self.spec.window.pane
        published: Published = self.alerts.publish_all(self.landing.land(ended - 1))
        for pane, variants in self.stage_one.ended(now):
            heard = self.stage_one.events(pane, variants)
            for variant in self.versions.ordered(variants):
                published += self._on_pane_complete(variant, pane, wall)
            self.stage_one.seal(pane)
            published += self.alerts.publish_all(self.blind.on_pane_end(heard, now - self.spec.window.pane, now))
        self.references.advance(now)
        for variant in self.versions.ordered():
            state = self.versions[variant]
            final_at = state.windows.first_final_at
            if state.landed or (final_at is not None and final_at <= now):
                published += self._judge_outcomes(state, now, now, wall)
        return published + self._end_silent(now)

    def _end_silent(self, now: int) -> Published:
        """End the alerts of versions that are not in service and send nothing any more."""
        states = [self.versions[variant] for variant in self.versions.ordered()]
        return self.alerts.publish_all(end_silent(states, self.spec.window, self.controller.serving, now))

    def _admit(self, now: int) -> Published:
        """Decide which labels and versions of the panes that have ended keep a code of their own."""
        self.labels.codes.settle(now)
        published: Published = []
        for variant, state in self.versions.admit(now):
            void = self.references.end(state.version)
            self.references.records.end(answers_of(state.version), now)
            self.stage_one.panes.merge(variant, self.versions.other, void)
            self._dirty.first_panes[variant] = _FOREVER  # what is stored of its panes is now in those of OTHER
            self._dirty.outcomes += self.outcome_log.forget(variant)
            if state.concept is not None:
                why = ClosedBecause.NOT_CONFIGURED
                over = state.concept.alert.resolve("beyond limits.versions", now, because=why)
                published += self.alerts.publish_all([over])
        return published

    def _on_pane_complete(self, variant: int, pane: int, wall: int | None) -> Published:
        """Close a pane: who subscribes is told, and the window that has moved on is checked."""
        closed = self.stage_one.close(variant, pane)
        for subscriber in self.pane_subscribers:
            subscriber.on_closed_pane(closed)
        state = self.versions[variant]
        self._dirty.first_panes[variant] = state.first_pane
        if self.spec.window.counted and len(state.window) < state.window.rule.span:
            return []
        panes = None
        if self.spec.outcomes is not None and state.outcomes is not None:
            window = window_of_check(self.spec.window, self.spec.outcomes, state.window)
            state.windows.note(window)
            panes = window.first, window.last
        look = self.evaluator.check(state, panes, list(self.user_metrics), wall)
        self._dirty.history += [*([] if look.history is None else [look.history]), *look.others]
        published = self._published(look, self.blind.on_check(state, look))
        return published + self._end_silent(state.window.end) if self.spec.window.counted else published

    # -- outcomes ----------------------------------------------------------------------------------------

    def _land(self, batch: ModelBatch, stop: int | None, times: IntArray) -> list[PositionedRecord]:
        """Land pairs of the rows before `stop`, or let them wait for the end of their time pane."""
        shown = self.landing.add(batch, stop, max(self._ended, self._passed), times)
        return [
            PositionedRecord(position, True, what)
            for position, record in shown
            for what in self.alerts.publish_all([record])
        ]

    def _on_outcomes_due(self, variant: int, now: int, wall: int | None) -> Published:
        state = self.versions[variant]
        if not len(state.window):
            return []
        return self._judge_outcomes(state, max(now, state.window.end), state.window.end, wall)

    def _judge_outcomes(self, state: VersionState, watermark: int, now: int, wall: int | None) -> Published:
        look = self.evaluator.judge_outcomes(state, watermark, now, list(self.user_metrics), wall)
        return self._published(look, self.blind.on_outcomes(state, look, now))

    def _published(self, look: Look, blind: list[AlertRecord]) -> Published:
        """Publish a look: what it decided may end what is blind, as it ends other alerts."""
        return self.alerts.publish_all([*look.published, *self.blind.on_decision(look.serving.decision), *blind])

    # -- the end of a replay -----------------------------------------------------------------------------

    def finish(self) -> Published:
        """End the stream: pairs land, outcomes are judged, counted windows that never filled are noted."""
        published: Published = self.alerts.publish_all(self.landing.land_all())
        for variant in self.versions.ordered():
            state = self.versions[variant]
            if len(state.window):
                now = state.window.end if self.watermark is None else max(self.watermark, state.window.end)
                published += self._judge_outcomes(state, now, now, None)
        if self.spec.window.counted:
            self._note_partial_windows()
        self._finished = True
        return published

    def _note_partial_windows(self) -> None:
        for variant, piece in self.stage_one.partial_panes():
            state = self.versions[variant]
            whole_window = state.window.with_partial(piece)
            sums, estimates = state.measured(list(self.user_metrics), whole_window)
            seen = AlertWindow(whole_window.start, whole_window.end, whole_window.events, state.window_label)
            reading = sums.probabilities if self.spec.task is Task.BINARY else None
            untested = self.evaluator.drift.unchecked(state, Verdict.TOO_FEW, seen.events)
            row = answer_row(state.version, seen, estimates, untested, probabilities=reading)
            self._dirty.history.append(row)
            if state.outcomes is not None and self.spec.outcomes is not None:
                window = window_of_check(self.spec.window, self.spec.outcomes, whole_window)
                of_outcomes = outcome_row(state, window, list(self.user_metrics), final=False)
                if of_outcomes is not None:
                    self._dirty.history.append(of_outcomes)

    # -- operators and configuration ---------------------------------------------------------------------

    def replace_reference(
        self, profile: Profile | None, now: int, learn: int = 0, origin: Origin = NOT_KNOWN
    ) -> Published:
        """Compare with `profile` from now on, or learn anew; what was counted against the old one is void."""
        published: Published = []
        features = self.references.features
        names = (() if features is None else features.all_vectors) + self.references.forget_rolling()
        self.stage_one.forget(names)
        for state in self.versions.states.values():
            state.forget_vectors(names)
            over = [e.end(now, ClosedBecause.REFERENCE_CHANGED, REPLACED) for e in (state.drift, state.quality)]
            over += [] if state.concept is None else [state.concept.abandon(now)]
            published += self.alerts.publish_all(over)
        self.references.replace(profile, learn, now, origin)
        self.references.note_left_out(now)
        return published + self.alerts.publish_all(self.blind.on_reference(now))

    def propose(self, proposal: Proposal, now: int) -> tuple[str, Published]:
        """Decide on one proposal from outside: (what was done in words, what is published of it)."""
        effects = self.evaluator.decide([proposal], now)
        return effects.words, self.alerts.publish_all([*effects.published, *self.blind.on_decision(effects.decision)])

    def apply_config_changes(self, restored: Restored | None, now: int, wall: int | None) -> Published:
        """Publish what is new: the first decision, a changed configuration, rules that are gone.

        Args:
            restored: What is left to do of a model that was restored; None for one that is new.
            now: Stream time, ms.
            wall: The time of day, ms, from which on what is new is expected to send predictions; None for stream time.
        """
        published = self.propose(Proposal.start(), now)[1]
        before = self.blind.expected
        published += self.propose(Proposal.configure(self.spec.serving), now)[1]
        self.no_data.expect(now if wall is None else max(now, wall))
        if restored is not None:
            self.blind.expect(before, wall)
        if restored is not None:
            gone = end_unconfigured(self.spec, self.versions.states.values(), self.no_data.episode, restored, now)
            rolled_back = [version for version, alert in self.controller.state.rolled_back.items() if alert.starts_at]
            gone += retire_known(self.versions.states.values(), rolled_back, self.controller.serving, now)
            published += self.alerts.publish_all(gone)
        return published + self.alerts.publish_all(self.blind.apply_config_changes(now))

    # -- commits -----------------------------------------------------------------------------------------

    def prepare_commit(self, *, flush: bool = False) -> ModelCommit:
        """Gather what this commit has to write.

        Args:
            flush: Write all rows of the history that are out of date, not just some.
        """
        commit, self._dirty = self._dirty, ModelCommit()
        commit.fragments += self.stage_one.drain_fragments()
        for variant, state in self.versions.states.items():
            if state.outcomes is not None:
                watermark = self._complete_to
                upto = _FOREVER if self._finished else watermark
                commit.history += outcome_rows(state, watermark, upto, list(self.user_metrics), flush=flush)
                first = first_outcome_pane(self.spec, state, self.stage_one.open_panes(variant))
                commit.outcomes += self.outcome_log.rows(variant, state, first, fold=commit.windows_reset)
        changes = self.references.drain_changes()
        commit.references += changes.fresh
        commit.retired += changes.retired
        commit.forget_learned += changes.forgotten
        commit.learned += changes.learned
        commit.records = self.references.records.drain_changes()
        for waiting in (self.landing.waiting, self.landing.answers):
            stored, over = waiting.drain_changes()
            commit.learned += stored
            commit.forget_learned += over
        commit.state = self.state()
        return commit

    @property
    def _complete_to(self) -> int:
        """Stream time (ms) that outcomes are known up to: of time windows the end of a pane; -1 where not known."""
        if self.watermark is None or self.spec.window.counted:
            return -1 if self.watermark is None else self.watermark
        return self._ended * self.spec.window.pane

    def state(self) -> dict[str, Any]:
        """Return the small things, to be stored with every commit."""
        saved = self._parts.state(self.watermark, self.configured_reference)
        saved.admitted_labels, saved.admitted_versions = self.labels.codes.admission(), self.versions.admission()
        plain: dict[str, Any] = to_plain(saved)
        return plain

    def restore(self, snapshot: ModelSnapshot) -> Restored:
        """Go on where the last commit was; what changed in the configuration is applied by `apply_config_changes`."""
        saved = read_model(snapshot.state)
        self.labels.codes.restore_admission(saved.admitted_labels)
        self.versions.restore_admission(saved.admitted_versions)
        restored = self._parts.restore(saved, snapshot)
        self.watermark, self.configured_reference = saved.clock, saved.configured_reference
        if self.watermark is not None and not self.spec.window.counted:
            self._ended = self.watermark // self.spec.window.pane
        self._dirty = ModelCommit(windows_reset=restored.windows_reset)
        return restored


def _reached(predictions: Predictions, times: IntArray) -> IntArray:
    """Effective times of predictions, none below stream time: a partition that was left out may have brought it."""
    result: IntArray = np.maximum(predictions.events.effective_time, times[predictions.position])
    return result
