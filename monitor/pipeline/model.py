"""Stage two: one model. Panes become windows, windows are checked, outcomes land.

Pure: time is the stream's own. What happens is tied to positions in the stream (a time pane closes when
stream time passes its end, a counted one when it is full), never to how the stream was cut into batches, so
a replay gives the same records as the live run. Called by `pipeline`, once per batch and once per commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.reference import NumericReference, Profile
from detectors.types import BoolArray, FloatArray, IntArray
from fallback.types import Decision, ServingSpec
from monitor.aggregation.metrics import METRICS
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.aggregation.outcomes import BASELINE_PANE, DROPPED_PANE, ScoredPairs
from monitor.aggregation.panes import Answers, Fragment, Panes, slice_of, whole
from monitor.alerting.episodes import AlertPublisher, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, AlertWindow, Subject
from monitor.evaluation.concept_drift import ConceptDrift
from monitor.evaluation.evaluator import Evaluator, HistoryRow
from monitor.evaluation.version_state import VersionState, removed_alerts
from monitor.events.codes import OTHER, Codes, Labels, Variants
from monitor.events.features import FeatureRows
from monitor.reference.active import NewReference, ReferenceSet
from monitor.serving.controller import ServingController
from monitor.spec import FeatureKind, Limits, ModelSpec, Severity, Task

_BASELINE_N = 1000  # answers of a version's baseline where the model expects no outcomes
_FLUSHED_AT_ONCE = 64  # rows of outcome windows that one commit writes again
_NONE = np.zeros(0, np.int64)
_FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Predictions:
    """Accepted answers of one model, in order. `position` is the row in the batch of events."""

    position: IntArray
    variant: IntArray
    time: IntArray
    value: FloatArray
    score: FloatArray
    served: BoolArray
    served_by: IntArray
    failed: BoolArray
    scorable: BoolArray
    contaminated: BoolArray
    latency: FloatArray
    batch_size: FloatArray
    batch_ms: FloatArray
    metrics: NDArray[np.object_]
    features: FeatureRows

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """Pairs of answer and outcome of one model, in the order in which they met; `pane` is the answer's."""

    position: IntArray
    variant: IntArray
    pane: IntArray
    predicted: FloatArray
    score: FloatArray
    actual: FloatArray
    time: IntArray  # of the outcome, ms
    delay: FloatArray  # seconds
    metrics: Sequence[Mapping[str, float | None] | None]


@dataclass(frozen=True, slots=True)
class ShadowComparisons:
    """Answers beside the served ones, of one model, in order: do they agree?"""

    position: IntArray
    variant: IntArray
    pane: IntArray
    agreed: BoolArray


@dataclass(frozen=True, slots=True)
class ResourceSamples:
    """Resources of versions of one model."""

    position: IntArray
    variant: IntArray
    time: IntArray
    amounts: FloatArray


@dataclass(frozen=True, slots=True)
class PositionedRecord:
    """An alert or a decision, and where in the batch it happened: at an event, before or after it."""

    position: int
    after: bool
    what: AlertRecord | Decision


@dataclass(frozen=True, slots=True)
class OutcomeRows:
    """Changed outcome panes of a version and its new windows; with `everything`, all that there is."""

    variant: int
    everything: bool
    arrays: Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class ModelCommit:
    """What one commit writes of a model."""

    fragments: list[Fragment] = field(default_factory=list)
    first_panes: dict[int, int] = field(default_factory=dict)  # by variant: earlier ones have left the window
    outcomes: list[OutcomeRows] = field(default_factory=list)
    windows_reset: bool = False  # panes and outcomes of earlier commits are void
    learned: list[tuple[str, bytes]] = field(default_factory=list)
    forget_learned: list[str] = field(default_factory=list)
    references: list[NewReference] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)  # references of these subjects are not in force any more
    history: list[HistoryRow] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What the database has of a model: the rows of all earlier `ModelCommit`s."""

    state: Mapping[str, Any]
    panes: Mapping[tuple[int, int], Sequence[bytes]]  # (variant, pane) → fragments in order of commits
    outcomes: Mapping[int, Sequence[Mapping[str, NDArray[Any]]]]  # variant → rows in order
    references: Mapping[str, Profile]
    learned: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class RestoreWarning:
    """Something about what was stored that does not fit the configuration, for the log."""

    model: str
    event: str
    detail: str


Act = Callable[[int, int | None], None]  # of stream time and the clock on the wall; None in a replay
Moment = tuple[int, bool, Act]  # position, whether after its event, what happens


class ModelMonitor:
    """Everything that is known of one model."""

    def __init__(self, spec: ModelSpec, limits: Limits, variants: Variants, labels: Labels) -> None:
        self.spec = spec
        self._limits = limits
        self._variants = variants
        self.labels = labels
        self.user_metrics = Codes(spec.name, "metric", limits.user_metrics)
        self.watches: dict[int, VersionState] = {}
        self.panes = Panes(self.user_metric)
        self.references = ReferenceSet(spec, limits, labels)
        self.alerts = AlertPublisher()
        self.controller = ServingController(spec.name, spec.serving, f"{spec.name}/0", self.alerts)
        self.evaluator = Evaluator(spec, self.watches, self.references, self.controller, self.alerts)
        self._no_data = SimpleEpisode(Subject(spec.name, "", AlertKind.NO_DATA))
        self.configured_reference: str | None = None  # hash of the file that was last put in force
        self.last_event: int | None = None
        self._clock: int | None = None  # stream time at the end of the last batch
        self._out: list[PositionedRecord] = []
        self._delta = ModelCommit()
        self._configured: ServingSpec | None = None  # in force when the state was stored
        self._orphaned: list[SimpleEpisode] = []  # of what is not configured any more
        self._folded: dict[int, tuple[int, int]] = {}  # by variant: bytes of the last fold, bytes since
        self._finished = False  # the stream has ended
        self.notices: list[RestoreWarning] = []
        self._void: list[ConceptDrift] = []  # of answers that were of another kind
        self.displaced = False  # panes were numbered otherwise when waiting answers were stored

    def user_metric(self, name: str) -> int | None:
        """The place of a metric of the user's own; None for what is beyond the limits, or a name of ours."""
        if name in self.user_metrics:
            return self.user_metrics[name]
        if name in METRICS or len(name) > self._limits.id_length or len(self.user_metrics) >= self._limits.user_metrics:
            return None
        return self.user_metrics[name]

    def _user_names(self) -> list[str]:
        return list(self.user_metrics)

    def shown(self, value: float) -> float | str | None:
        """A prediction or an outcome as events have it; labels are numbers in here."""
        if np.isnan(value):
            return None
        return value if self.spec.task is Task.REGRESSION else self.labels.text(int(value))

    def watch(self, variant: int) -> VersionState:
        """The state of a version; made when it is first seen."""
        watch = self.watches.get(variant)
        if watch is None:
            version = self._variants.table[variant].version or ""
            baseline_n = self.spec.outcomes.baseline_n if self.spec.outcomes else _BASELINE_N
            watch = self.watches[variant] = VersionState(variant, version, self.spec, baseline_n)
            if version == OTHER:
                watch.rules = []  # a mixture of versions that nobody can act upon
            self.references.begin(version)
        return watch

    # -- a batch -----------------------------------------------------------------------------------------

    def place(self, accepted: Predictions) -> IntArray:
        """Count answers into panes. -> the outcome pane of each."""
        if not len(accepted):
            return _NONE
        distinct = np.unique(accepted.variant).tolist()
        versions = {variant: self.watch(variant).version for variant in distinct}
        window, outcomes = self.spec.window, self.spec.outcomes
        pane = self._counted_panes(accepted, distinct) if window.counted else accepted.time // window.pane
        counts = self.references.counting(
            versions, accepted.variant, accepted.time, accepted.features, accepted.value, accepted.score
        )
        measured = accepted.value if self.spec.task is Task.REGRESSION else accepted.score
        self.panes.add(_answers(accepted, pane, measured), counts)
        outcome_pane = pane if window.counted or outcomes is None else accepted.time // outcomes.pane
        for variant in distinct:
            watch, mine = self.watches[variant], accepted.variant == variant
            watch.predictions += int(np.count_nonzero(mine))
            if watch.outcomes is not None:
                watch.outcomes.expect(outcome_pane[mine & accepted.scorable])
        return outcome_pane

    def _counted_panes(self, accepted: Predictions, variants: Sequence[int]) -> IntArray:
        pane = np.zeros(len(accepted), np.int64)
        for variant in variants:
            watch = self.watches[variant]
            mine = np.flatnonzero(accepted.variant == variant)
            pane[mine] = (watch.counted + np.arange(len(mine))) // self.spec.window.every
            watch.counted += len(mine)
        return pane

    def report(self, reports: ResourceSamples, accepted: Predictions) -> None:
        """Take resources in, once the answers of their batch are in their panes.

        They belong to the pane of their time, or to the one that was filling when they came.
        """
        window = self.spec.window
        if not len(reports.variant):
            return
        pane = reports.time // window.pane if not window.counted else np.zeros(len(reports.time), np.int64)
        for variant in np.unique(reports.variant).tolist():
            watch = self.watch(variant)
            if window.counted:
                mine = reports.variant == variant
                answers = accepted.position[accepted.variant == variant]
                later = len(answers) - np.searchsorted(answers, reports.position[mine])
                pane[mine] = (watch.counted - later) // window.every
        self.panes.add_resources(reports.variant, pane, reports.time, reports.amounts)

    def run(
        self,
        accepted: Predictions,
        met: MatchedPairs,
        compared: ShadowComparisons,
        clock: IntArray,
        end: int,
        wall: int | None,
    ) -> None:
        """Everything that happens in a batch once its answers are in their panes, in the order of the stream.

        `clock` is stream time at each event of the batch and `end` after it, both below zero while it is not
        known; `wall` is what `recover_after` runs by, None for stream time.
        """
        if self.spec.window.counted:
            moments = self._counted_moments(accepted, met)
        else:
            moments = self._time_moments(np.append(clock, end))
        times = np.append(clock, end)
        moments += self._gaps(accepted, times)
        moments += self._ends_of_silences(times)
        moments.sort(key=lambda moment: moment[:2])
        landed = agreed = 0
        for position, after, act in moments:
            limit = position + after
            landed = self._land(met, landed, int(np.searchsorted(met.position, limit)), times)
            agreed = self._agree(compared, agreed, int(np.searchsorted(compared.position, limit)))
            act(int(times[position]), wall)
            self._collect(position, after=after)
        self._land(met, landed, len(met.position), times)
        self._agree(compared, agreed, len(compared.position))
        if len(accepted):
            latest = int(accepted.time.max())
            self.last_event = latest if self.last_event is None else max(self.last_event, latest)
        if end >= 0:
            self._clock = end

    def _collect(self, position: int, *, after: bool) -> None:
        self._out += [PositionedRecord(position, after, what) for what in self.alerts.take()]

    def take_effects(self) -> list[PositionedRecord]:
        """Alerts and decisions since this was last called, in order."""
        self._collect(-1, after=False)
        out, self._out = self._out, []
        return out

    # -- moments -----------------------------------------------------------------------------------------

    def _time_moments(self, times: IntArray) -> list[Moment]:
        """Positions at which stream time passes the end of a pane."""
        width = self.spec.window.pane
        before = np.concatenate([[-1 if self._clock is None else self._clock], times[:-1]])
        crossed = np.flatnonzero((times // width > before // width) & (times >= 0))
        return [(i, False, self._crossing) for i in crossed.tolist()]

    def _crossing(self, clock: int, wall: int | None) -> None:
        width = self.spec.window.pane
        closing = [(pane, variant) for pane, variant in self.panes.open() if (pane + 1) * width <= clock]
        for pane in sorted({pane for pane, _ in closing}):
            for variant in self._ordered(v for p, v in closing if p == pane):
                self._close(variant, pane, wall)
        for variant in self._ordered(self.watches):
            watch = self.watches[variant]
            final_at = watch.windows.first_final_at
            if watch.landed or (final_at is not None and final_at <= clock):
                self._judge_outcomes(watch, clock, clock // width * width, wall)

    def _counted_moments(self, accepted: Predictions, met: MatchedPairs) -> list[Moment]:
        """Positions of answers that fill a pane, and of outcomes of which enough have landed."""
        every = self.spec.window.every
        moments: list[Moment] = []
        for variant in self._ordered(np.unique(accepted.variant).tolist()):
            mine = np.flatnonzero(accepted.variant == variant)
            number = self.watches[variant].counted - len(mine) + 1 + np.arange(len(mine))
            for i in np.flatnonzero(number % every == 0).tolist():
                pane = int(number[i]) // every - 1
                moments.append((int(accepted.position[mine[i]]), True, self._filling(variant, pane)))
        for variant in self._ordered(np.unique(met.variant).tolist()):
            at = met.position[met.variant == variant]
            number = self.watches[variant].joined + 1 + np.arange(len(at))
            for i in np.flatnonzero(number % every == 0).tolist():
                moments.append((int(at[i]), True, self._landing(variant)))
        return moments

    def _filling(self, variant: int, pane: int) -> Act:
        def act(clock: int, wall: int | None) -> None:
            self._close(variant, pane, wall)
            self._landing(variant)(clock, wall)

        return act

    def _landing(self, variant: int) -> Act:
        def act(clock: int, wall: int | None) -> None:
            watch = self.watches[variant]
            if len(watch.window):
                self._judge_outcomes(watch, max(clock, watch.window.end), watch.window.end, wall)

        return act

    def _gaps(self, accepted: Predictions, times: IntArray) -> list[Moment]:
        """Positions at which the clock, or the next event, shows that none came for too long, and those next events.

        The clock lags behind events, so an event may show a gap that the clock does not know of yet. Where the
        clock shows it first is right after one of the events of the batch, whichever models they are of.
        """
        limit = self.spec.no_data_after
        if not limit:
            return []
        moments: list[Moment] = []
        latest, reached = self.last_event, 0
        if len(accepted):
            start = int(accepted.time[0]) if latest is None else latest
            so_far = np.maximum(np.maximum.accumulate(accepted.time), start)
            before = np.concatenate([[start], so_far[:-1]])
            silent = np.maximum(
                np.searchsorted(times, before + limit, side="right"), np.concatenate([[0], accepted.position[:-1]])
            )
            shown = silent < accepted.position
            shown[0] &= latest is not None
            for i in np.flatnonzero(shown).tolist():
                moments.append((int(silent[i]), True, self._silence_begins(int(before[i]))))
            ends = shown | (accepted.time - before > limit)
            ends[0] |= self._no_data.firing
            # An event that is itself from too long ago ends nothing.
            ends &= times[accepted.position] - so_far <= limit
            for i in np.flatnonzero(ends).tolist():
                act = self._silence_ends(int(before[i]), int(accepted.time[i]))
                moments.append((int(accepted.position[i]), False, act))
            latest, reached = int(so_far[-1]), int(accepted.position[-1])
        if latest is not None:
            at = max(int(np.searchsorted(times, latest + limit, side="right")), reached)
            if at < len(times):
                moments.append((at, True, self._silence_begins(latest)))
        return moments

    def _silence_begins(self, last: int) -> Act:
        def act(clock: int, wall: int | None) -> None:
            if not self._no_data.firing:
                begins = last + self.spec.no_data_after
                summary = f"no predictions of {self.spec.name} arrive"
                self.alerts.emit(self._no_data.fire(Severity.WARNING, summary, begins, begins))

        return act

    def _silence_ends(self, last: int, next_event: int) -> Act:
        def act(clock: int, wall: int | None) -> None:
            self._silence_begins(last)(clock, wall)
            # The event may be from before the alert, if it is from not too long ago.
            now = max(next_event, self._no_data.starts_at or 0)
            self.alerts.emit(self._no_data.resolve(f"predictions of {self.spec.name} arrive again", now))

        return act

    def _ends_of_silences(self, times: IntArray) -> list[Moment]:
        """Positions at which stream time passes the end of an operator's silence."""
        ends = np.array(sorted({silence.until for silence in self.alerts.silences}), np.int64)
        at = np.searchsorted(times, ends)
        return [(i, True, self._unmute) for i in np.unique(at[at < len(times)]).tolist()]

    def _unmute(self, clock: int, wall: int | None) -> None:
        self.alerts.unmute(clock)

    def _ordered(self, variants: Iterable[int]) -> list[int]:
        """The champion first, since others are compared with it, then by name."""
        champion = self.controller.serving.champion
        return sorted(variants, key=lambda v: (self.watches[v].version != champion, self.watches[v].version))

    # -- what happens ------------------------------------------------------------------------------------

    def _close(self, variant: int, pane: int, wall: int | None) -> None:
        """A pane is complete: the window moves on and is checked."""
        watch, counted = self.watch(variant), self.spec.window.counted
        piece, fragment = self.panes.close(variant, pane, 0 if counted else self.spec.window.pane)
        self._delta.fragments.append(fragment)
        watch.window.push(piece)
        watch.baseline.add(piece)
        self._delta.first_panes[variant] = watch.window.first_pane
        if counted and len(watch.window) < watch.window.rule.span:
            return
        panes = self._note_outcome_window(watch)
        self.evaluator.check(watch, panes, self._user_names(), wall)

    def _note_outcome_window(self, watch: VersionState) -> tuple[int, int] | None:
        """The window of this check, in outcome panes: its quality will become known later."""
        outcomes, w = self.spec.outcomes, watch.window
        if outcomes is None or watch.outcomes is None:
            return None
        if self.spec.window.counted:
            last = w.first_pane + len(w) - 1
            window = OutcomeWindow(w.first_pane, last, w.start, w.end, -1, w.end + outcomes.within)
        else:
            first, last = w.start // outcomes.pane, (w.end - 1) // outcomes.pane
            end = (last + 1) * outcomes.pane
            window = OutcomeWindow(first, last, first * outcomes.pane, end, end, end + outcomes.within)
        watch.windows.note(window)
        return window.first, window.last

    def _judge_outcomes(self, watch: VersionState, clock: int, now: int, wall: int | None) -> None:
        self.evaluator.judge_outcomes(watch, clock, now, self._user_names(), wall)

    def _land(self, met: MatchedPairs, start: int, stop: int, times: IntArray) -> int:
        """Pairs that met by a position are counted. -> `stop`."""
        if stop <= start:
            return start
        variants = met.variant[start:stop]
        for variant in np.unique(variants).tolist():
            watch = self.watch(variant)
            mine = start + np.flatnonzero(variants == variant)
            watch.joined += len(mine)
            mine = mine[met.pane[mine] != DROPPED_PANE]
            if not len(mine):
                continue
            watch.landed += len(mine)
            if watch.outcomes is not None:
                pairs = ScoredPairs(
                    met.pane[mine], met.predicted[mine], met.score[mine], met.actual[mine], met.delay[mine],
                    [met.metrics[i] for i in mine.tolist()],
                )  # fmt: skip
                watch.outcomes.add(pairs, self.user_metric)
                watch.windows.touch(np.unique(met.pane[mine]).tolist())
            if watch.concept is not None:
                self._watch_errors(watch.concept, met, mine, times)
        return stop

    def _watch_errors(self, concept: ConceptDrift, met: MatchedPairs, mine: IntArray, times: IntArray) -> None:
        """Errors become known in the order in which pairs meet; what they say belongs to the pair that said it."""
        clock = times[met.position[mine]]
        when = np.where(clock < 0, met.time[mine], clock)
        for i, record in concept.add(met.predicted[mine], met.actual[mine], when):
            self.alerts.emit(record)
            self._collect(int(met.position[mine[i]]), after=True)

    def _agree(self, compared: ShadowComparisons, start: int, stop: int) -> int:
        """Answers compared by a position are counted. -> `stop`."""
        if stop <= start:
            return start
        variants = compared.variant[start:stop]
        for variant in np.unique(variants).tolist():
            mine = start + np.flatnonzero((variants == variant) & (compared.pane[start:stop] != DROPPED_PANE))
            table = self.watch(variant).outcomes
            if table is not None:
                table.agree(compared.pane[mine], compared.agreed[mine])
        return stop

    def finish(self) -> None:
        """The stream has ended: what is known of outcomes is judged, counted windows that never filled are noted."""
        for variant in self._ordered(self.watches):
            watch = self.watches[variant]
            if len(watch.window):
                clock = watch.window.end if self._clock is None else max(self._clock, watch.window.end)
                self._judge_outcomes(watch, clock, clock, None)
        if self.spec.window.counted:
            self._note_partial_windows()
        self._collect(1 << 62, after=True)
        self._finished = True

    def _note_partial_windows(self) -> None:
        for pane, variant in self.panes.open():
            held, watch = self.panes.peek(variant, pane), self.watches[variant]
            if not held.events:
                continue
            whole_window = watch.window.with_partial(slice_of(pane, held, 0))
            _, estimates = watch.measured(self._user_names(), whole_window)
            seen = AlertWindow(whole_window.start, whole_window.end, whole_window.events)
            self.evaluator.partial_row(watch, seen, estimates)
            if watch.outcomes is not None and self.spec.outcomes is not None:
                end = whole_window.end + self.spec.outcomes.within
                window = OutcomeWindow(whole_window.first_pane, pane, seen.start, seen.end, -1, end)
                row = self.evaluator.outcome_row(watch, window, self._user_names(), final=False)
                if row is not None:
                    self._delta.history.append(row)

    # -- commits -----------------------------------------------------------------------------------------

    def prepare_commit(self, *, flush: bool = False) -> ModelCommit:
        """What this commit has to write. `flush`: all rows of the history that are out of date, not just some."""
        delta, self._delta = self._delta, ModelCommit()
        delta.fragments += self.panes.take_fragments()
        delta.history += self.evaluator.take_history()
        users = self._user_names()
        for variant, watch in self.watches.items():
            if watch.outcomes is None:
                continue
            clock = -1 if self._clock is None else self._clock
            # Final is what was judged as such: a clock that is past it says so a little later, or earlier.
            stale = [(w, True) for w in watch.windows.finished(clock) if w.dirty or w.blank]
            upto, most = _FOREVER if self._finished else clock, None if flush else _FLUSHED_AT_ONCE
            stale += [(w, False) for w in watch.windows.dirty(upto, most)]
            for window, final in stale:
                row = self.evaluator.outcome_row(watch, window, users, final=final)
                window.blank = window.blank and row is None
                delta.history += [] if row is None else [row]
            self._write_outcomes(delta, variant, watch)
        changes = self.references.take_changes()
        delta.references += changes.fresh
        delta.retired += changes.retired
        delta.forget_learned += changes.forgotten
        delta.learned += changes.learned
        delta.state = self.state()
        return delta

    def _write_outcomes(self, delta: ModelCommit, variant: int, watch: VersionState) -> None:
        """Changed panes as they are now; all of them once what was written since outweighs that."""
        table = watch.outcomes
        if table is None:
            return
        table.bound_scores()
        first = self._first_outcome_pane(variant, watch)
        if first is not None:
            table.drop(first)
        touched = table.take_touched()
        fresh = watch.windows.take_fresh()
        if not touched and not len(fresh):
            return
        arrays = table.snapshot(touched) | {"windows": fresh}
        size = sum(a.nbytes for a in arrays.values())
        whole_size, since = self._folded.get(variant, (0, 0))
        if since + size > 2 * whole_size + (1 << 20) or delta.windows_reset:
            arrays = table.snapshot() | {"windows": watch.windows.take_fresh(everything=True)}
            self._folded[variant] = (sum(a.nbytes for a in arrays.values()), 0)
            delta.outcomes.append(OutcomeRows(variant, True, arrays))
        else:
            self._folded[variant] = (whole_size, since + size)
            delta.outcomes.append(OutcomeRows(variant, False, arrays))

    def _first_outcome_pane(self, variant: int, watch: VersionState) -> int | None:
        """The earliest outcome pane that is needed: by a window, or by one that is still to come."""
        first = watch.windows.first_pane
        outcomes, window = self.spec.outcomes, self.spec.window
        if first is None or outcomes is None:
            return None
        coming = [pane for pane, v in self.panes.open() if v == variant]
        coming += [watch.window.first_pane] if len(watch.window) else []
        if not window.counted:
            coming = [pane * window.pane // outcomes.pane for pane in coming]
        return min([first, *coming])

    def state(self) -> dict[str, Any]:
        """The small things, to be stored with every commit."""
        return {
            "clock": self._clock,
            "last_event": self.last_event,
            "shape": self._shape(),
            "answers": self._kind_of_answers(),
            "rate": self.evaluator.rate,
            "seen": sorted(self.references.seen),
            "relearning": self.references.relearning,
            "configured_reference": self.configured_reference,
            "no_data": self._no_data.state(),
            "records": self.alerts.state(),
            "steering": self.controller.state(),
            "versions": {str(variant): watch.state() for variant, watch in self.watches.items()},
        }

    def restore(self, stored: ModelSnapshot) -> None:
        """Go on where the last commit was. What changed in the configuration since then is applied by `begin`.

        What does not fit the configuration any more is left out, and `notices` says what that was.
        """
        state = stored.state
        self.references.restore(stored.references, stored.learned, state["relearning"])
        self._clock, self.last_event = state["clock"], state["last_event"]
        self.evaluator.rate = state["rate"]
        self.references.seen = set(state["seen"])
        self.configured_reference = state["configured_reference"]
        self._no_data.restore(state["no_data"])
        self.alerts.restore(state["records"])
        self._configured = self.controller.restore(state["steering"])
        for code, saved in state["versions"].items():
            watch = self.watch(int(code))
            watch.restore(saved)
            self._orphaned += removed_alerts(watch, saved, self.spec)
        fits = state["shape"] == self._shape()
        if fits:
            self._restore_panes(stored.panes)
        for variant, rows in stored.outcomes.items():
            self._restore_outcomes(variant, rows, state["versions"].get(str(variant), {}), fits=fits)
        self._delta = ModelCommit()
        if not fits:
            self._reset_windows(same_answers=state["answers"] == self._kind_of_answers())
        self._compare_kinds()

    def _shape(self) -> list[int | str]:
        """What panes and windows are numbered and cut by: they mean something else under another configuration."""
        window, outcomes = self.spec.window, self.spec.outcomes
        return [
            window.pane, window.span, window.longest, window.events, window.every,
            -1 if outcomes is None else outcomes.pane, *self._kind_of_answers(),
        ]  # fmt: skip

    def _kind_of_answers(self) -> list[str]:
        """What predictions and outcomes are."""
        return [self.spec.task.value, self.spec.positive or ""]

    def _reset_windows(self, *, same_answers: bool) -> None:
        """Panes of another shape are no use: windows begin anew, references, episodes and totals stay."""
        self._delta.windows_reset = self.displaced = True
        detail = "windows or outcomes are configured otherwise: windows begin anew, references and alerts stay"
        if not same_answers:
            detail = "task or positive class changed: windows begin anew, and so do baselines of answers and quality"
            self.references.forget_answers()
        for watch in self.watches.values():
            watch.counted = watch.landed = 0
            if not same_answers:
                watch.forget_answers()
                self.references.begin(watch.version)
                self._void += [watch.concept] if watch.concept is not None else []
            elif watch.outcomes is not None:
                watch.outcomes.drop(BASELINE_PANE)
                watch.outcomes.touch()
        self.notices.append(RestoreWarning(self.spec.name, "windows_dropped", detail))

    def _compare_kinds(self) -> None:
        """Features that are declared to be of another kind than the reference in force took them for."""
        profile = self.references.profile
        for name, declared in self.spec.feature_kinds.items():
            known = None if profile is None else profile.feature(name)
            if known is None or declared is FeatureKind.IGNORE:
                continue
            kind = FeatureKind.NUMERIC if isinstance(known, NumericReference) else FeatureKind.CATEGORICAL
            if kind is not declared:
                detail = f"features.{name}: declared {declared.value}, the reference has it as {kind.value}: relearn it"
                self.notices.append(RestoreWarning(self.spec.name, "feature_kind_differs", detail))

    def _restore_panes(self, panes: Mapping[tuple[int, int], Sequence[bytes]]) -> None:
        width = self.spec.window.pane
        void: set[str] = set()
        for variant, pane in sorted(panes):
            watch = self.watch(variant)
            if self.spec.window.counted:
                closed = pane < watch.counted // self.spec.window.every
            else:
                closed = self._clock is not None and (pane + 1) * width <= self._clock
            held = whole(panes[variant, pane])
            compared = {name for c in self.references.comparisons(watch.version) for name in c.vectors}
            for name in held.committed.keys() - compared - {"tally", "latency"}:
                # Counted against a reference, or features of it, that are not in force any more.
                del held.committed[name]
                void.add(name.partition(":")[0])
            if closed:
                watch.window.push(slice_of(pane, held, width))
            else:
                self.panes.restore(variant, pane, held)
        for subject in sorted(void):
            detail = f"windows held {subject} that are compared with another reference now: they are compared anew"
            self.notices.append(RestoreWarning(self.spec.name, "comparison_dropped", detail))

    def _restore_outcomes(
        self, variant: int, rows: Sequence[Mapping[str, NDArray[Any]]], saved: Mapping[str, Any], *, fits: bool
    ) -> None:
        watch = self.watch(variant)
        if watch.outcomes is None:
            return
        for arrays in rows:
            watch.outcomes.restore(arrays)
        if not fits:
            return
        clock = -1 if self._clock is None else self._clock
        watch.windows.restore([a["windows"].astype(np.int64) for a in rows], saved.get("judged", -1), clock)
        size = sum(a.nbytes for a in rows[0].values()) if rows else 0
        self._folded[variant] = (size, sum(a.nbytes for arrays in rows[1:] for a in arrays.values()))

    def begin(self, now: int) -> None:
        """Say what is new: the first decision, a changed configuration, rules that are gone."""
        self.controller.begin(now)
        if self._configured is not None:
            self.controller.configure(self._configured, now)
            self._configured = None
        for episode in self._orphaned:
            self.alerts.emit(episode.resolve("not configured any more", now))
        for concept in self._void:
            self.alerts.emit(concept.abandon(now))
        self._orphaned, self._void = [], []

    # -- operators ---------------------------------------------------------------------------------------

    def replace_reference(self, profile: Profile | None, now: int, learn: int = 0) -> None:
        """Compare with `profile` from now on, or learn anew; what was counted against the old one is void."""
        names = () if self.references.features is None else self.references.features.vectors
        self.panes.forget(names)
        for watch in self.watches.values():
            for name in names:
                watch.window.forget(name)
            for episode in (watch.drift, watch.quality, watch.concept):
                self.alerts.emit(episode.abandon(now) if episode is not None else None)
        self.references.replace(profile, learn)

    @property
    def clock(self) -> int | None:
        """Stream time at the end of the last batch."""
        return self._clock


def _answers(accepted: Predictions, pane: IntArray, measured: FloatArray) -> Answers:
    return Answers(
        accepted.variant, pane, accepted.time, accepted.served, accepted.served_by, accepted.failed,
        accepted.scorable, accepted.contaminated, accepted.latency, measured, accepted.batch_size,
        accepted.batch_ms, accepted.metrics.tolist(),
    )  # fmt: skip
