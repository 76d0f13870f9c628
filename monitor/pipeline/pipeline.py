"""From a batch of records to everything that follows from it.

Pure: records, positions and the time of day come in, and what must be written and published comes out as
values. A daemon drives it live, a replay to the end of a recording; both get the same results from the same
records. One session owns it, and nothing in it locks. `docs/architecture.md` follows one event through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detectors.reference import Profile
from detectors.types import BoolArray, IntArray
from fallback.types import Decision
from monitor.aggregation.outcome_columns import DROPPED_PANE
from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertRecord
from monitor.events.codes import Entry, Variants
from monitor.events.columns import EventKind, Events
from monitor.events.decoder import EventDecoder
from monitor.events.refusals import Refusal, Refused
from monitor.join.arrays import Pane
from monitor.join.results import Joined, JoinState, JoinVerdict
from monitor.pipeline.columns import (
    ModelBatch,
    matched_pairs_of,
    predictions_of,
    resource_samples_of,
    shadow_comparisons_of,
)
from monitor.pipeline.commands import Command, apply_command
from monitor.pipeline.commit import PipelineCommit, RestoreWarning, Snapshot
from monitor.pipeline.early_metrics import EarlyMetrics
from monitor.pipeline.effects import DeadLetter, Effects
from monitor.pipeline.join_stage import JoinStage
from monitor.pipeline.late_watch import LateWatch, PlacedPredictions
from monitor.pipeline.lateness import Lateness
from monitor.pipeline.left_out import settle_left_out, tell_left_out
from monitor.pipeline.merge import MOST, DecodedRecords, Holding, PartitionMerge
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.model_state import Restored
from monitor.pipeline.removed_models import RemovedModels
from monitor.pipeline.saved_states import SavedShard, read_shard
from monitor.pipeline.status import Totals, document
from monitor.reference.freezer import LARGE, Freezing
from monitor.reference.law_requests import LawRequests
from monitor.reference.law_windows import LawWindows
from monitor.saved import damage_in, to_plain
from monitor.spec import CoreSpec, ModelSpec
from monitor.stream.types import Batch, Partition
from monitor.stream.watermark import UNKNOWN, Watermark


class Pipeline:
    """The stages of all models. `ends` are where the partitions of a replay end; None for a live stream."""

    def __init__(self, spec: CoreSpec, seed: int, ends: Mapping[Partition, int] | None = None) -> None:
        self._replaying = ends is not None
        self._allowed_lateness = spec.allowed_lateness
        self._lateness = Lateness(spec)
        self.watermark = Watermark(spec.allowed_lateness, live=ends is None)
        self.variants = Variants(
            [m.name for m in spec.models],
            _configured(spec.models),
            spec.limits.versions,
            [m.window.pane for m in spec.models],
        )
        self.decoder = EventDecoder(spec, self.variants, seed)
        self.merge = PartitionMerge(self.decoder, ends)
        self._nothing = self.merge.nothing()
        self.join = JoinStage(spec, self.variants)
        self._laws: dict[str, LawRequests] = {}  # by model, of one that has references made elsewhere
        self.models = [
            ModelMonitor(m, spec.limits, self.variants, labels)
            for m, labels in zip(spec.models, self.decoder.labels, strict=True)
        ]
        self.totals = Totals()
        self._names = [m.name for m in spec.models]
        self.daemon = DaemonAlerts()
        self._late_watch = LateWatch(self.daemon, self.variants.shown)
        self.positions: dict[Partition, int] = {}
        self.seq = 0
        self.warnings: list[RestoreWarning] = []  # of what was stored and does not fit the configuration
        self._early_metrics = EarlyMetrics(
            self.join.table.has_waiting_outcome, self.join.table.has_met_outcome, self._has_place, len(spec.models)
        )
        self._began_at = UNKNOWN  # stream time where a daemon goes on
        self._started = False  # whether models have said what their configuration changes
        self._restored: dict[str, Restored] = {}
        self._wall = 0
        self._removed = RemovedModels()

    # -- a batch -----------------------------------------------------------------------------------------

    def process(self, batch: Batch, wall: int, holding: Holding | None = None) -> Effects:
        """Take records in, process those that are next in order, and return what follows from them.

        Records that others may precede stay in hand. An empty batch lets time pass.

        Args:
            batch: Records, those of each partition in the order of its log.
            wall: The time of day, ms since the epoch.
            holding: How partitions count now; None: nobody is idle, and only unread partitions of a replay are waited
                for.
        """
        self._wall = wall
        self.merge.add(batch)
        holding = self.merge.unread() if holding is None else holding
        effects = Effects()
        while (records := self.merge.next(wall, self._learning(), holding, at_once=not len(batch))) is not None:
            effects.extend(self._process(records, wall, holding))
            if len(effects.dead_letters) >= MOST:
                break  # there may be too many: whoever reads may hold their partition before the next ones
        if not (effects.records or len(batch)):
            effects.extend(self._process(self._nothing, wall, holding))
        return effects

    # -- references --------------------------------------------------------------------------------------

    def freeze_apart(self, least: int = LARGE) -> None:
        """Have references that are learned made by whoever runs the pipeline: see `wanted_references`.

        What follows from a stream is the same; a model waits with its checks until its reference is there.

        Args:
            least: Values from which on; smaller ones are made at once.
        """
        for model in self.models:
            windows = LawWindows.of(model.spec)
            model.references.freezer.least, model.references.freezer.windows = least, windows
            self._laws[model.spec.name] = LawRequests(model.spec.name, windows)

    def wanted_references(self) -> list[Freezing]:
        """Return the references that are to be made, or of which only laws are, asked for since the last call."""
        found = [freezing for model in self.models for freezing in model.references.freezer.wanted()]
        for model in self.models:
            if model.spec.name in self._laws:
                found += self._laws[model.spec.name].wanted(model.references)
        return found

    def answer_freezing(self, freezing: Freezing, frozen: Profile | None) -> None:
        """Take in a reference that was made, for the next batch; None: it is to be made in the loop."""
        for model in self.models:
            if model.spec.name != freezing.model:
                continue
            if freezing.is_in_force:
                self._laws[freezing.model].answer(freezing, frozen)
            else:
                model.references.freezer.answer(freezing, frozen)

    @property
    def is_behind(self) -> bool:
        """Whether a model waits for a reference and has so much to make up that nothing more should be read."""
        return any(model.is_behind for model in self.models)

    def _learning(self) -> list[int]:
        return [i for i, model in enumerate(self.models) if model.references.reads_raw]

    def _process(self, records: DecodedRecords, wall: int, holding: Holding) -> Effects:
        """Process records that are next in order."""
        batch, events, to_come = records.batch, records.events, self.merge.next_places(holding)
        watermark = self.watermark.advance(
            batch, records.place, records.partition_time, _times(batch, events), to_come, holding.idle, wall
        )
        reached = _reached(records.partition_time, self._allowed_lateness)
        events = replace(events, effective_time=np.maximum(events.time, reached[events.row]))
        self.decoder.place(events)
        published = []
        goes_on = self._began_at != UNKNOWN
        if not self._started and (len(events) or not (self._replaying or len(batch) or (to_come and not goes_on))):
            published += self._start(self._began_at if goes_on else int(events.time[0]) if len(events) else wall)
        late = self._lateness.judge(events, reached[events.row], watermark[events.row], self.join.table.horizon)
        joined = self.join.join(events, watermark[events.row], late.either)
        self.totals.count_events(batch, events, late)
        self.totals.count_aside(records.aside)
        self.totals.count_faults(events, self._names)
        published += self._watch_late(records, events, late.by_partition)
        refused = self._with_conflicts(records.refused, events, joined, late.either)
        self.totals.count_refused(refused)
        published += self._run_models(events, joined, late.either, watermark, wall)
        published += tell_left_out(self.models, self.daemon)
        self.decoder.segments.settle(self.watermark.now)
        self.positions.update(batch.next_positions())
        heard = {batch.partitions[i] for i in np.unique(batch.source[events.row]).tolist()}
        return Effects(published, _dead_letters(batch, refused, reached), records=len(batch), heard=heard)

    def _watch_late(self, records: DecodedRecords, events: Events, late: BoolArray) -> list[AlertRecord]:
        """Tell of partitions of which most predictions come too late, each in the order of its log."""
        its = np.flatnonzero(events.kind <= EventKind.UNSERVED)
        row = events.row[its]
        placed = PlacedPredictions(
            records.batch.source[row], records.partition_time[row], events.time[its], events.variant[its], late[its]
        )
        told = self._late_watch.add(records.batch.partitions, placed)
        return told + self._late_watch.settle(self.watermark.now)

    # -- partitions --------------------------------------------------------------------------------------

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets. What is in hand is dropped: it is to be read again."""
        self.merge.assign(positions, self.watermark.assign(positions))

    def _start(self, now: int) -> list[AlertRecord | Decision]:
        """Models begin with the first event, or go on: what is configured otherwise is applied."""
        self._started = True
        wall = None if self._replaying else self._wall
        published: list[AlertRecord | Decision] = []
        for model in self.models:
            published += model.apply_config_changes(self._restored.pop(model.spec.name, None), now, wall)
        published += settle_left_out(self.models, self.daemon, now)
        return [*published, *self._removed.end(now, self._wall)]

    def _with_conflicts(self, refused: list[Refused], events: Events, joined: Joined, late: BoolArray) -> list[Refused]:
        """Add what the join refuses to what the decoder refused, in the order of the batch."""
        found = list(refused)
        for verdict, reason, detail in (
            (JoinVerdict.CONFLICT, Refusal.CONFLICT, "actual: {}: another value was there first for this request"),
            (JoinVerdict.COLLISION, Refusal.HASH_COLLISION, "request_id: shares 64 bits of its hash with another"),
        ):
            for i in np.flatnonzero((joined.verdict == verdict) & ~late).tolist():
                value = self.models[int(events.model[i])].shown(float(events.value[i]))
                found.append(Refused(int(events.row[i]), reason, detail.format(value)))
        return sorted(found, key=lambda r: r.row) if len(found) > len(refused) else found

    def _run_models(
        self, events: Events, joined: Joined, late: BoolArray, watermark: IntArray, wall: int
    ) -> list[AlertRecord | Decision]:
        """Stage one of all models, then stage two of each. Returns what they publish, in the order of the stream."""
        taken = (events.kind <= EventKind.UNSERVED) & ~late & (joined.verdict == JoinVerdict.ACCEPTED)
        predictions = [
            predictions_of(i, model.spec.task, events, taken, joined, model.versions.settled)
            for i, model in enumerate(self.models)
        ]
        self._name_metrics(events)
        sampled = self.join.table.sampling_log2
        for model, its in zip(self.models, predictions, strict=True):
            self.join.table.assign_panes(joined.slot[its.position], model.add_predictions(its, sampled))
        self._early_metrics.add(events, joined)
        pairs, comparisons = self.join.table.pairs_of(joined), self.join.table.comparisons_of(joined)
        owner, early = self.variants.model_of(), self._early_metrics.by_request
        times = np.append(watermark[events.row], self.watermark.now)
        records = []
        for i, model in enumerate(self.models):
            batch = ModelBatch(
                predictions[i],
                matched_pairs_of(i, events, pairs, owner, early),
                shadow_comparisons_of(i, model.spec, comparisons, owner, model.labels.compared),
                resource_samples_of(i, events, late, model.versions.settled),
            )
            ran = model.run(batch, times, None if self._replaying else wall)
            records += [(r.position, r.after, i, r.what) for r in ran]
        records.sort(key=lambda r: r[:3])
        self._early_metrics.forget(pairs.request)
        return [what for *_, what in records]

    def _has_place(self, model: int, metric: str) -> bool:
        return self.models[model].user_metric(metric) is not None

    def _name_metrics(self, events: Events) -> None:
        """Give metrics of the user's own their places in the order of the stream: there are not enough for all."""
        for i in np.flatnonzero(events.metrics.astype(np.bool_)).tolist():
            model = self.models[events.model[i]]
            for name, value in events.metrics[i].items():
                if value is not None:
                    model.user_metric(name)

    # -- without records ---------------------------------------------------------------------------------

    def finish(self, wall: int) -> Effects:
        """End a replay: complete panes close, and what is known of outcomes is judged."""
        effects = Effects()
        if not self._started:
            effects.published += self._start(self.watermark.now if self.watermark.now >= 0 else wall)
        self.watermark.end()
        effects.extend(self.process(Batch.empty(), wall))
        self.join.table.orphan_waiting_outcomes()
        for model in self.models:
            effects.published += model.finish()
        return effects

    def command(self, command: Command, wall: int) -> Effects:
        """Apply what an operator asks for."""
        now = self.watermark.now if self.watermark.now >= 0 else wall
        model = next((m for m in self.models if m.spec.name == command.model), None)
        if model is None:
            return Effects(commands=[(command.id, f"refused: {command.model} is not configured")])
        result, published = apply_command(model, command, now)
        published += tell_left_out(self.models, self.daemon)
        return Effects(published, commands=[(command.id, result)])

    @property
    def time(self) -> int:
        """Stream time where it is known, else the time of day when records were last processed."""
        return self.watermark.now if self.watermark.now >= 0 else self._wall

    # -- commits -----------------------------------------------------------------------------------------

    def prepare_commit(self, effects: Effects, *, last: bool = False) -> PipelineCommit:
        """Gather what the next commit writes: `effects` since the last one, and all state that changed.

        Args:
            effects: What `process`, `command` and `finish` have returned since the last commit.
            last: The last commit of a replay or of a clean shutdown: nothing is left for later.
        """
        self.seq += 1
        self.join.expire(self.watermark.now, everything=last)
        self._early_metrics.forget_expired()
        self.totals.join.update(self.join.totals())
        self.totals.early_metrics_dropped += self._early_metrics.dropped
        self._early_metrics.dropped = 0
        join = self.join.log.prepare_commit(self.seq, max(self.watermark.now, 0), rewrite=last and self._replaying)
        self.totals.count_published(effects.published)
        codes = self._drain_codes()
        models = {m.spec.name: m.prepare_commit(flush=last) for m in self.models}
        for i, its in enumerate(models.values()):
            stored, over = self._early_metrics.drain_changes(i)
            its.learned += stored
            its.forget_learned += over
        models |= self._removed.prepare_commit()
        return PipelineCommit(
            seq=self.seq,
            positions=dict(self.positions),
            shard=to_plain(self._shard()),
            join=join,
            codes=codes,
            models=models,
            published=effects.published,
            dead_letters=effects.dead_letters,
            totals=self.totals,
            commands=effects.commands,
            watermark=self.watermark.now,
        )

    def _drain_codes(self) -> list[Entry]:
        codes = [*self.variants.drain_fresh(), *self.decoder.segments.drain_fresh()]
        for model in self.models:
            codes += model.labels.codes.drain_fresh()
        for model in self.models:
            codes += model.user_metrics.drain_fresh()
        return codes

    def _shard(self) -> SavedShard:
        join = self.join.table.state()
        return SavedShard(
            clock=self.watermark.state(),
            sampling=join.sampling,
            horizon=join.horizon,
            counts=join.counts,
            begun=self._started or self._began_at != UNKNOWN,
            daemon=self.daemon.state,
            waiting_metrics=self._early_metrics.unnumbered(),
            late=self._late_watch.state(),
            admitted_segments=self.decoder.segments.admission(),
        )

    def on_committed(self, commit: PipelineCommit) -> None:
        """Release what only the commit, now in the database, still needed."""
        self.join.log.on_committed(commit.join)

    def restore(
        self,
        snapshot: Snapshot,
        positions: Mapping[Partition, int],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """Go on where the last commit was. Call before anything else.

        Args:
            snapshot: What the commit stored.
            positions: Offset of the next record, by partition.
            moved: Called after each step.

        Raises:
            StoreError: something is damaged.
        """
        self.seq = snapshot.seq
        self.positions = dict(positions)
        with damage_in("table shard, column totals"):
            self.totals = Totals(**snapshot.totals)
        with damage_in("table code"):
            self._restore_codes(snapshot.codes)
        for model in self.models:
            if model.spec.name in snapshot.models:
                with damage_in(f"table model_state, pane, outcome_log or learned, model {model.spec.name!r}"):
                    self._restored[model.spec.name] = model.restore(snapshot.models[model.spec.name])
                moved()
        with damage_in("table shard, column state"):
            self._restore_shard(snapshot.shard)
        with damage_in("tables join_segment, join_alive, join_closed"):
            self.join.log.restore(snapshot.segments, snapshot.alive, snapshot.closed, max(self.watermark.now, 0))
        moved()
        with damage_in("table learned or shard, metrics of early outcomes"):
            self._restore_early_metrics(snapshot)
        with damage_in("table model_state"):
            self._warn_of_changes(snapshot)

    def _warn_of_changes(self, snapshot: Snapshot) -> None:
        owner = self.variants.model_of()
        for i, model in enumerate(self.models):
            restored = self._restored.get(model.spec.name)
            if restored is not None:
                self.warnings += restored.warnings
                if restored.windows_reset:
                    self.join.table.reassign_panes(owner == i, Pane(DROPPED_PANE))
        for name in sorted(snapshot.models.keys() - {model.spec.name for model in self.models}):
            self._removed.restore(name, snapshot.models[name])
            detail = "not configured any more: what is stored of it stays, and its waiting answers expire"
            self.warnings.append(RestoreWarning(name, "model_removed", detail))

    def _restore_codes(self, codes: Sequence[Entry]) -> None:
        by_kind: dict[tuple[str, str], list[Entry]] = {}
        for entry in sorted(codes, key=lambda e: e.code):
            by_kind.setdefault((entry.model, entry.kind), []).append(entry)
        self.variants.restore(sorted((e for e in codes if e.kind in ("version", "model")), key=lambda e: e.code))
        self.decoder.segments.restore(by_kind.get(("", "segment"), ()))
        for model in self.models:
            model.labels.codes.restore(by_kind.get((model.spec.name, "label"), ()))
            model.restore_metrics(by_kind.get((model.spec.name, "metric"), ()))
            for name in model.metrics_without_place:
                detail = f"metrics.{name}: others have taken all places: rules on it are not judged; use a new store"
                self.warnings.append(RestoreWarning(model.spec.name, "metric_without_place", detail))

    def _restore_early_metrics(self, snapshot: Snapshot) -> None:
        stored = {
            i: snapshot.models[model.spec.name].learned
            for i, model in enumerate(self.models)
            if model.spec.name in snapshot.models
        }
        unnumbered = read_shard(snapshot.shard).waiting_metrics if snapshot.shard else {}
        self._early_metrics.restore(unnumbered, stored)

    def _restore_shard(self, saved: Mapping[str, Any]) -> None:
        if not saved:
            return
        shard = read_shard(saved)
        self.watermark.restore(shard.clock)
        if shard.begun:
            self._began_at = self.watermark.now
        self.daemon.restore(shard.daemon)
        self.join.table.restore(JoinState(sampling=shard.sampling, horizon=shard.horizon, counts=shard.counts))
        self._late_watch.restore(shard.late)
        self.decoder.segments.restore_admission(shard.admitted_segments)

    def status(self) -> dict[str, Any]:
        """Return the status document, as of now."""
        states = {m.spec.name: m.state() for m in self.models} | self._removed.states()
        return document(self.totals, states, self.daemon.state.firing, self._wall)


def _times(batch: Batch, events: Events) -> IntArray:
    """Event times by record, below zero where the record was refused."""
    times = np.full(len(batch), -1, np.int64)
    times[events.row] = events.time
    return times


def _reached(partition_time: IntArray, allowed_lateness: int) -> IntArray:
    """Partition time less the allowed lateness, below zero where not known."""
    return np.where(partition_time == UNKNOWN, UNKNOWN, partition_time - allowed_lateness)


def _dead_letters(batch: Batch, refused: Sequence[Refused], reached: IntArray) -> list[DeadLetter]:
    letters = []
    for r in refused:
        partition = batch.partitions[int(batch.source[r.row])]
        stamp = int(batch.timestamp[r.row])
        time = stamp if stamp >= 0 else int(reached[r.row])
        letters.append(DeadLetter(partition, int(batch.offset[r.row]), r.reason, r.detail, time, batch.values[r.row]))
    return letters


def _configured(models: Sequence[ModelSpec]) -> dict[str, list[str]]:
    return {m.name: _named_versions(m) for m in models}


def _named_versions(model: ModelSpec) -> list[str]:
    s = model.serving
    named = [s.champion, s.previous, *(r.version for r in s.routes), *s.shadows, *s.ensemble, *s.cohorts.values()]
    return list(dict.fromkeys(v for v in named if v is not None))
