"""A model as it is stored with every commit, and how it goes on from there.

Pure. Panes and windows mean something else under another configuration: what does not fit any more is left
out, and warnings say what that was. What has to be told (alerts of rules that are gone) comes back as values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.reference import NumericReference
from monitor.aggregation.metrics import METRICS
from monitor.aggregation.outcome_columns import BASELINE_PANE
from monitor.aggregation.panes import whole
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.label_watch import SavedLabels, episodes_of_labels
from monitor.alerting.no_data import NoDataDetector
from monitor.alerting.numbering import AlertNumbering
from monitor.alerting.records import AlertRecord, ClosedBecause
from monitor.evaluation.concept_drift import ConceptDrift
from monitor.evaluation.evaluator import Evaluator
from monitor.evaluation.foundation import reasons_of, without_promise
from monitor.evaluation.notes import notes_of
from monitor.evaluation.rules import RuleState
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.names import feature_of
from monitor.pipeline import answer_buffer, early_metrics, pair_buffer
from monitor.pipeline.blind_watch import BlindWatch
from monitor.pipeline.commit import ModelSnapshot, RestoreWarning
from monitor.pipeline.landing import Landing
from monitor.pipeline.outcome_log import OutcomeLog
from monitor.pipeline.saved_states import SavedModel
from monitor.pipeline.stage_one import StageOne
from monitor.pipeline.versions import Versions
from monitor.reference.active import ReferenceSet
from monitor.reference.progress import notes_on, progress_of
from monitor.reference.rolling_set import is_rolling
from monitor.reference.subjects import FEATURES
from monitor.serving.controller import ServingController
from monitor.spec import AnswerReading, FeatureKind, ModelSpec

_WAITING: Final = (
    pair_buffer.SUBJECT,
    answer_buffer.SUBJECT,
    early_metrics.SUBJECT,
)  # of rows beside those of references


@dataclass(frozen=True, slots=True)
class Restored:
    """What is left to do once a model was restored.

    Attributes:
        warnings: What was stored and does not fit the configuration.
        windows_reset: Whether windows begin anew: panes of earlier commits are void.
        orphaned: Alerts that fired, of what is not configured any more.
        void: Concept-drift detectors of answers that were of another kind.
    """

    warnings: tuple[RestoreWarning, ...]
    windows_reset: bool
    orphaned: tuple[SimpleEpisode, ...]
    void: tuple[ConceptDrift, ...]


@dataclass(slots=True)
class _Found:
    """What restoring has found so far."""

    warnings: list[RestoreWarning] = field(default_factory=list)
    orphaned: list[SimpleEpisode] = field(default_factory=list)
    void: list[ConceptDrift] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ModelParts:
    """The parts of a model that have state of their own."""

    spec: ModelSpec
    versions: Versions
    stage_one: StageOne
    references: ReferenceSet
    alerts: AlertNumbering
    controller: ServingController
    evaluator: Evaluator
    no_data: NoDataDetector
    outcome_log: OutcomeLog
    landing: Landing
    blind: BlindWatch

    def state(self, watermark: int | None, configured_reference: str | None) -> SavedModel:
        """Return what is stored with every commit."""
        return SavedModel(
            clock=watermark,
            last_event=self.no_data.last_event,
            coming=self.no_data.coming,
            expected_from=self.no_data.expected_from,
            shape=_shape(self.spec),
            answers=_kind_of_answers(self.spec),
            rate=self.evaluator.budget.rate,
            seen=sorted(self.references.seen),
            relearning=self.references.relearning,
            configured_reference=configured_reference,
            no_data=self.no_data.episode.state,
            records=self.alerts.state,
            steering=self.controller.state,
            versions={str(variant): state.saved() for variant, state in self.versions.states.items()},
            labels=SavedLabels() if self.landing.labels is None else self.landing.labels.state,
            reference_rows=self.references.rows,
            reference=progress_of(self.references),
            reference_records=self.references.records.state,
            rolling=self.references.rolling.saved(),
            assumed={
                state.version: reasons_of(self.spec, self.references, state)
                for state in self.versions.states.values()
                if state.version not in (*VERSIONLESS_TIERS, OTHER) and without_promise(self.spec) is None
            },
            blind=self.blind.saved(),
            notes=[*notes_of(self.spec), *(notes_on(self.references) if self.spec.drift is not None else ())],
            baseline_rows={state.version: state.baseline.events for state in self.versions.states.values()},
        )

    def restore(self, saved: SavedModel, snapshot: ModelSnapshot) -> Restored:
        """Take over what was stored, as far as it fits the configuration."""
        found = _Found()
        rolling = {subject: rows for subject, rows in snapshot.learned.items() if is_rolling(subject)}
        learned = {
            subject: rows
            for subject, rows in snapshot.learned.items()
            if not (subject.startswith(_WAITING) or subject in rolling)
        }
        records = self.references.records
        records.state = saved.reference_records
        self.references.since = None if saved.reference is None else saved.reference.since
        records.adopt(snapshot.references, {FEATURES: self.references.since})
        self.references.restore(snapshot.references, learned, saved.relearning)
        self._restore_waiting(snapshot.learned, saved)
        if saved.clock is not None and not self.spec.window.counted:
            self.references.advance(saved.clock)
        self.evaluator.budget.rate = saved.rate
        self.references.seen = set(saved.seen)
        self.no_data.restore(saved.last_event, saved.coming, saved.clock, saved.no_data, saved.expected_from)
        self.alerts.state = saved.records
        found.orphaned += self._restore_labels(saved)
        self.controller.restore(saved.steering)
        for code, version in saved.versions.items():
            found.orphaned += self.versions[int(code)].restore(version)
        self.references.restore_rolling(saved.rolling, rolling)
        fits = saved.shape == _shape(self.spec)
        if fits:
            self._restore_panes(snapshot.panes, saved.clock, found)
        for variant, rows in snapshot.outcomes.items():
            if self.versions.is_alias(variant):
                continue  # they are in those of OTHER
            its = saved.versions.get(str(variant))
            self._restore_outcomes(variant, rows, -1 if its is None else its.judged, saved.clock, fits=fits)
        if not fits:
            self._reset_windows(found, saved.clock, same_answers=saved.answers == _kind_of_answers(self.spec))
        self._compare_kinds(found)
        self.blind.restore(saved.blind, same_windows=fits)
        return Restored(tuple(found.warnings), not fits, tuple(found.orphaned), tuple(found.void))

    def _restore_labels(self, saved: SavedModel) -> list[SimpleEpisode]:
        """Go on with alerts about labels; return those that fire and are void, as nothing would end them."""
        watch = self.landing.labels
        if watch is None or self.spec.outcomes is None or saved.answers != _kind_of_answers(self.spec):
            void = episodes_of_labels(self.spec.name, saved.labels)
        else:
            void = watch.restore(saved.labels)
        return [episode for episode in void if episode.firing]

    def _restore_waiting(self, stored: Mapping[str, Sequence[bytes]], saved: SavedModel) -> None:
        clock, width = -1 if saved.clock is None else saved.clock, self.spec.window.pane
        fits = width > 0 and saved.shape == _shape(self.spec)
        self.landing.restore(stored, clock // width if fits else None)

    def _restore_panes(
        self, panes: Mapping[tuple[int, int], Sequence[bytes]], watermark: int | None, found: _Found
    ) -> None:
        width, every = self.spec.window.pane, self.spec.window.every
        void: set[str] = set()
        for variant, pane in sorted(panes):
            state = self.versions[variant]
            if self.spec.window.counted:
                closed = pane < state.counted // every
            else:
                closed = watermark is not None and (pane + 1) * width <= watermark
            held = whole(panes[variant, pane])
            compared = self.references.vectors(state.version)
            for name in held.committed.keys() - compared - {"tally", "latency"}:
                # Counted against a reference, or features of it, that are not in force any more.
                del held.committed[name]
                if self.spec.reference.rolling is None:  # else this is how references are renewed
                    void.add(name.partition(":")[0])
            if closed:
                state.restore_pane(pane, held, width)
            else:
                self.stage_one.panes.restore(variant, pane, held)
        for subject in sorted(void):
            detail = f"windows held {subject} that are compared with another reference now: they are compared anew"
            found.warnings.append(RestoreWarning(self.spec.name, "comparison_dropped", detail))

    def _restore_outcomes(
        self,
        variant: int,
        rows: Sequence[Mapping[str, NDArray[Any]]],
        judged: int,
        watermark: int | None,
        *,
        fits: bool,
    ) -> None:
        state = self.versions[variant]
        if state.outcomes is None:
            return
        for arrays in rows:
            state.outcomes.restore(arrays)
        if not fits:
            return
        windows = [arrays["windows"].astype(np.int64) for arrays in rows]
        clock, width = -1 if watermark is None else watermark, self.spec.window.pane
        state.windows.restore(windows, judged, clock if self.spec.window.counted else clock // width * width)
        self.outcome_log.restore(variant, rows)

    def _reset_windows(self, found: _Found, watermark: int | None, *, same_answers: bool) -> None:
        """Begin windows anew, since panes of another shape are no use; references, episodes and totals stay."""
        detail = "windows or outcomes are configured otherwise: windows begin anew, references and alerts stay"
        if not same_answers:
            detail = "task or positive class changed: windows begin anew, and so do baselines of answers and quality"
            self.references.forget_answers(watermark)
        for state in self.versions.states.values():
            state.reset_window()
            if not same_answers:
                state.forget_answers()
                self.references.begin(state.version)
                found.void += [state.concept] if state.concept is not None else []
            elif state.outcomes is not None:
                state.outcomes.drop(BASELINE_PANE)
                state.outcomes.touch()
        found.warnings.append(RestoreWarning(self.spec.name, "windows_dropped", detail))

    def _compare_kinds(self, found: _Found) -> None:
        """Warn of features that are declared to be of another kind than the reference in force took them for."""
        profile = self.references.profile
        for name, declared in self.spec.feature_kinds.items():
            feature = feature_of(name)
            known = None if profile is None or feature is None else profile.feature(feature)
            if known is None or declared is FeatureKind.IGNORE:
                continue
            kind = FeatureKind.NUMERIC if isinstance(known, NumericReference) else FeatureKind.CATEGORICAL
            if kind is not declared:
                detail = f"features.{name}: declared {declared.value}, the reference has it as {kind.value}: relearn it"
                found.warnings.append(RestoreWarning(self.spec.name, "feature_kind_differs", detail))


def end_unconfigured(
    spec: ModelSpec, versions: Iterable[VersionState], no_data: SimpleEpisode, restored: Restored, now: int
) -> list[AlertRecord]:
    """End alerts of what is not configured any more, or is measured otherwise from now on; `now` is stream time, ms."""
    because, why = ClosedBecause.NOT_CONFIGURED, "not configured any more"
    gone = [episode.resolve(why, now, because=because) for episode in restored.orphaned]
    gone += [concept.abandon(now) for concept in restored.void]
    for version in versions:
        if spec.drift is None:
            gone += [episode.end(now, because, why) for episode in (version.drift, version.quality)]
        for rule in version.rules:
            info = METRICS.get(rule.rule.metric)
            if spec.outcomes is None and info is not None and info.needs_outcomes:
                rule.state = RuleState()
                gone.append(rule.alert.resolve(why, now, because=because))
    if not spec.no_data_after:
        gone.append(no_data.resolve(why, now, because=because))
    return [record for record in gone if record is not None]


def _shape(spec: ModelSpec) -> list[int | str]:
    """What panes and windows are numbered and cut by: they mean something else under another configuration."""
    window, outcomes = spec.window, spec.outcomes
    return [
        window.pane, window.span, window.longest, window.events, window.every,
        -1 if outcomes is None else outcomes.pane, *_kind_of_answers(spec),
    ]  # fmt: skip


def _kind_of_answers(spec: ModelSpec) -> list[str]:
    """What predictions and outcomes are."""
    reading = [] if spec.answers is AnswerReading.AUTO else [spec.answers.value]
    return [spec.task.value, spec.positive or "", *reading]
