"""From a batch of records to everything that follows from it.

Pure: records, positions and the time of day come in, and what must be written and published comes out as
values. `worker` drives it live, `replay` to the end of a recording; both get the same results from the same
records. One worker owns it, and nothing in it locks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.saved import DamagedError
from detectors.types import BoolArray, FloatArray, IntArray
from fallback.types import Decision
from monitor.aggregation.outcomes import DROPPED_PANE
from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertRecord, AlertStatus
from monitor.errors import StoreError
from monitor.events.codes import Entry, Variants
from monitor.events.decoder import EventDecoder, EventKind, Events
from monitor.events.features import FeatureRows
from monitor.events.refusals import Refusal, Refused
from monitor.join.log import AliveRow, ClosedRow, JoinCommit, JoinLog, SegmentRow
from monitor.join.rows import Agreements, Joined, JoinRows, JoinVerdict, Pairs
from monitor.join.table import JoinTable
from monitor.pipeline.commands import Command, apply_command
from monitor.pipeline.effects import DeadLetter, Effects
from monitor.pipeline.model import (
    MatchedPairs,
    ModelCommit,
    ModelMonitor,
    ModelSnapshot,
    Predictions,
    ResourceSamples,
    RestoreWarning,
    ShadowComparisons,
)
from monitor.pipeline.status import Totals, document
from monitor.spec import CoreSpec, ModelSpec, Task
from monitor.stream.types import Batch, Partition
from monitor.stream.watermark import UNKNOWN, Watermark

_UNSERVED_TTL: Final = 600_000  # ms that answers beside a served one may precede it where no outcome is expected
_METRICS_WAITING: Final = 10_000  # outcomes with metrics of the user's own that wait for their prediction


@dataclass(slots=True)
class PipelineCommit:
    """All that one commit writes, in one transaction. It can be written again if that fails."""

    seq: int
    positions: Mapping[Partition, int]
    shard: Mapping[str, Any]
    join: JoinCommit
    codes: list[Entry]
    models: dict[str, ModelCommit]
    published: list[AlertRecord | Decision]  # in the order of the stream
    dead_letters: list[DeadLetter]
    totals: Totals
    commands: list[tuple[int, str]]  # (command, what came of it)
    clock: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database has: the rows of all earlier deltas."""

    seq: int
    shard: Mapping[str, Any]
    totals: Mapping[str, Any]
    segments: Sequence[SegmentRow]
    alive: Sequence[AliveRow]
    closed: Sequence[ClosedRow]
    codes: Sequence[Entry]
    models: Mapping[str, ModelSnapshot]


class Pipeline:
    """`ends` are where the partitions of a replay end; None for a live stream."""

    def __init__(self, spec: CoreSpec, seed: int, ends: Mapping[Partition, int] | None = None) -> None:
        self._spec = spec
        self._replaying = ends is not None
        self.clock = Watermark(spec.lateness, ends)
        self.variants = Variants([m.name for m in spec.models], _configured(spec.models), spec.limits.versions)
        self.decoder = EventDecoder(spec, self.variants, seed)
        self.table = JoinTable(spec.limits.pending, spec.limits.seen)
        self.join_log = JoinLog(self.table)
        self.models = [
            ModelMonitor(m, spec.limits, self.variants, labels)
            for m, labels in zip(spec.models, self.decoder.labels, strict=True)
        ]
        self.totals = Totals()
        self.daemon = DaemonAlerts()
        self.positions: dict[Partition, int] = {}
        self.seq = 0
        self._begun = False
        self.notices: list[RestoreWarning] = []  # of what was stored and does not fit the configuration
        self._waiting_metrics: dict[int, Mapping[str, float | None]] = {}
        self._wall = 0
        self._expects = np.array([m.outcomes is not None for m in spec.models], np.bool_)
        patience = [(m.outcomes.within, m.outcomes.early) if m.outcomes else (_UNSERVED_TTL, 0) for m in spec.models]
        self._within, self._early = (np.array(column, np.int64) for column in zip(*patience, strict=True))

    # -- a batch -----------------------------------------------------------------------------------------

    def process(self, batch: Batch, wall: int, idle: Collection[Partition] = ()) -> Effects:
        """Take records in, and return what follows from them. An empty batch lets time pass.

        Args:
            batch: Records as the source handed them on.
            wall: The time of day, ms since the epoch.
            idle: Partitions without new records for the idle timeout.
        """
        start, effects = 0, Effects()
        while True:
            stop = self._reference_complete(batch, start)
            effects.extend(self._process(batch if stop - start == len(batch) else batch.part(start, stop), wall, idle))
            start = stop
            if start >= len(batch):
                return effects

    def _reference_complete(self, batch: Batch, start: int) -> int:
        """Where to cut a batch: a reference that is learned may be complete there, and events are read by it.

        It is complete no earlier than with the last of the missing predictions; some of them may be refused.
        """
        end = len(batch)
        for model in self.models:
            learner = model.references.learner
            if learner is None or learner.missing >= end - start:
                continue
            left = max(learner.missing, 1)
            for row in range(start, end):
                left -= _is_prediction(batch.values[row], model.spec.name)
                if not left:
                    end = row + 1
                    break
        return end

    def _process(self, batch: Batch, wall: int, idle: Collection[Partition]) -> Effects:
        self._wall = wall
        for model, reader in zip(self.models, self.decoder.readers, strict=True):
            if model.references.reader is not reader:
                self.decoder.readers[self.models.index(model)] = model.references.reader
        events, refused = self.decoder.decode(batch, wall)
        times = np.full(len(batch), -1, np.int64)
        times[events.row] = events.time
        before = self.clock.now  # known where a daemon goes on
        clock = self.clock.advance(batch, times, idle, wall)
        published: list[AlertRecord | Decision] = []
        if not self._begun and (len(events) or not (self._replaying or len(batch))):
            published = self._begin(before if before >= 0 else int(events.time[0]) if len(events) else wall)
        joined, late = self._join(events, clock[events.row])
        self._count(batch, events, late)
        refused = self._with_conflicts(refused, events, joined, late)
        dead_letters = self._dead_letters(batch, refused, clock)
        published += self._run_models(events, joined, late, clock, wall)
        self.positions.update(batch.next_positions())
        return Effects(published, dead_letters, records=len(batch))

    def _begin(self, now: int) -> list[AlertRecord | Decision]:
        self._begun = True
        published: list[AlertRecord | Decision] = []
        for model in self.models:
            model.begin(now)
            published += [effect.what for effect in model.take_effects()]
        return published

    def _join(self, events: Events, clock: IntArray) -> tuple[Joined, BoolArray]:
        """Join what can be joined. -> the result, by event, and which events came after their pane closed."""
        model = events.model
        answer = events.kind <= EventKind.UNSERVED
        late = (events.kind != EventKind.OUTCOME) & self._late(events, clock)
        expects = self._expects[model]
        rows = np.flatnonzero((answer & ~late) | ((events.kind == EventKind.OUTCOME) & expects))
        self.table.counts.orphans += int(np.count_nonzero((events.kind == EventKind.OUTCOME) & ~expects))
        failed_attempt = events.failed & (events.kind == EventKind.UNSERVED)
        joined = self.table.join(
            JoinRows(
                lo=events.lo[rows],
                hi=events.hi[rows],
                kind=events.kind[rows],
                waits=(expects & ~failed_attempt)[rows],
                clock=np.maximum(clock[rows], 0),
                within=self._within[model[rows]],
                early=self._early[model[rows]],
                payload={
                    "time": events.time[rows],
                    "value": events.value[rows],
                    "score": events.score[rows].astype(np.float32),
                    "variant": events.variant[rows],
                    "segment": events.segment[rows],
                    "served_by": events.served_by[rows],
                },
            )
        )
        verdict = np.full(len(events), JoinVerdict.ACCEPTED, np.uint8)
        verdict[rows] = joined.verdict
        slot = np.full(len(events), -1, np.int64)
        slot[rows] = joined.slot
        p, a = joined.pairs, joined.agreements
        pairs = Pairs(rows[p.row], p.slot, p.actual, p.outcome_time, p.request)
        agreements = Agreements(rows[a.row], a.served_slot, a.other_slot)
        return Joined(verdict, slot, pairs, agreements), late

    def _late(self, events: Events, clock: IntArray) -> BoolArray:
        """Events whose pane has closed, and those so old that repeats of them may be forgotten."""
        width = np.array([m.window.pane for m in self._spec.models], np.int64)[events.model]
        closes = (events.time // np.maximum(width, 1) + 1) * width
        late: BoolArray = (width > 0) & (closes <= clock)
        if self.table.horizon is not None:
            late |= events.time < self.table.horizon + self._spec.lateness
        return late

    def _count(self, batch: Batch, events: Events, late: BoolArray) -> None:
        count = self.totals.events
        count["read"] += len(batch)
        count["predictions"] += int(np.count_nonzero(events.kind <= EventKind.UNSERVED))
        count["outcomes"] += int(np.count_nonzero(events.kind == EventKind.OUTCOME))
        count["resources"] += int(np.count_nonzero(events.kind == EventKind.RESOURCES))
        count["late_predictions"] += int(np.count_nonzero(late & (events.kind <= EventKind.UNSERVED)))

    def _with_conflicts(self, refused: list[Refused], events: Events, joined: Joined, late: BoolArray) -> list[Refused]:
        """What the join refuses joins what the decoder refused, in the order of the batch."""
        found = list(refused)
        for verdict, reason, detail in (
            (JoinVerdict.CONFLICT, Refusal.CONFLICT, "actual: {}: another value was there first for this request"),
            (JoinVerdict.COLLISION, Refusal.HASH_COLLISION, "request_id: shares 64 bits of its hash with another"),
        ):
            for i in np.flatnonzero((joined.verdict == verdict) & ~late).tolist():
                value = self.models[int(events.model[i])].shown(float(events.value[i]))
                found.append(Refused(int(events.row[i]), reason, detail.format(value)))
        return sorted(found, key=lambda r: r.row) if len(found) > len(refused) else found

    def _dead_letters(self, batch: Batch, refused: Sequence[Refused], clock: IntArray) -> list[DeadLetter]:
        letters = []
        for r in refused:
            partition = batch.partitions[int(batch.source[r.row])]
            stamp = int(batch.timestamp[r.row])
            time = stamp if stamp >= 0 else int(clock[r.row])
            letter = DeadLetter(partition, int(batch.offset[r.row]), r.reason, r.detail, time, batch.values[r.row])
            letters.append(letter)
            by_reason = self.totals.dead_letters_by_reason
            by_reason[r.reason.value] = by_reason.get(r.reason.value, 0) + 1
        self.totals.events["dead_letters"] += len(refused)
        return letters

    def _run_models(
        self, events: Events, joined: Joined, late: BoolArray, clock: IntArray, wall: int
    ) -> list[AlertRecord | Decision]:
        taken = (events.kind <= EventKind.UNSERVED) & ~late & (joined.verdict == JoinVerdict.ACCEPTED)
        accepted = [self._accepted(i, events, taken, joined) for i in range(len(self.models))]
        self._name_metrics(events)
        for model, answers in zip(self.models, accepted, strict=True):
            slots = joined.slot[answers.position]
            pane = model.place(answers)
            kept = slots >= 0
            self.table.slots.column["pane"][slots[kept]] = pane[kept]
        self._remember_metrics(events, joined)
        owner = self.variants.model_of()
        times = clock[events.row]
        effects = []
        for i, (model, answers) in enumerate(zip(self.models, accepted, strict=True)):
            model.report(_reports(events, i, late), answers)
            met = self._met(i, events, joined, owner)
            compared = self._compared(i, model.spec, joined, owner)
            model.run(answers, met, compared, times, self.clock.now, None if self._replaying else wall)
            effects += [(e.position, e.after, i, e.what) for e in model.take_effects()]
        effects.sort(key=lambda e: e[:3])
        if self._waiting_metrics:
            self._forget_metrics(joined.pairs.request)
        return [what for *_, what in effects]

    def _accepted(self, index: int, events: Events, taken: BoolArray, joined: Joined) -> Predictions:
        rows = np.flatnonzero(taken & (events.model == index))
        features = events.features.get(index, FeatureRows(np.zeros((0, 0)), (), ()))
        wanted = events.feature_row[rows]
        if len(wanted) != len(features.numbers) or (len(wanted) and wanted[-1] != len(wanted) - 1):
            features = features.take(wanted)
        return Predictions(
            position=rows,
            variant=events.variant[rows].astype(np.int64),
            time=events.time[rows],
            value=events.value[rows],
            score=events.score[rows],
            served=events.kind[rows] == EventKind.SERVED,
            served_by=events.served_by[rows].astype(np.int64),
            failed=events.failed[rows],
            scorable=(joined.slot[rows] >= 0) & ~np.isnan(events.value[rows]),
            contaminated=events.contaminated[rows],
            latency=events.latency[rows],
            batch_size=events.batch_size[rows],
            batch_ms=events.batch_ms[rows],
            metrics=events.metrics[rows],
            features=features,
        )

    def _name_metrics(self, events: Events) -> None:
        """Metrics of the user's own get their places in the order of the stream: there are not enough for all."""
        for i in np.flatnonzero(events.metrics.astype(np.bool_)).tolist():
            model = self.models[events.model[i]]
            for name, value in events.metrics[i].items():
                if value is not None:
                    model.user_metric(name)

    def _remember_metrics(self, events: Events, joined: Joined) -> None:
        """Metrics that come with an outcome before its prediction, also where another answer was there already."""
        waiting = self._waiting_metrics
        early = (joined.verdict == JoinVerdict.WAITING) | (joined.verdict == JoinVerdict.JOINED)
        for i in np.flatnonzero(early).tolist():
            if events.metrics[i]:
                waiting[int(events.lo[i])] = events.metrics[i]
            elif waiting:
                waiting.pop(int(events.lo[i]), None)

    def _forget_metrics(self, requests: NDArray[np.uint64]) -> None:
        """Of outcomes that do not wait any more, among these; and those beyond the bound, the earliest first."""
        over = requests[~self.table.outcome_waits(requests)]
        for request in over.tolist():
            self._waiting_metrics.pop(request, None)
        while len(self._waiting_metrics) > _METRICS_WAITING:
            del self._waiting_metrics[next(iter(self._waiting_metrics))]

    def _met(self, index: int, events: Events, joined: Joined, owner: IntArray) -> MatchedPairs:
        pairs, column = joined.pairs, self.table.slots.column
        variant = column["variant"][pairs.slot].astype(np.int64)
        mine = np.flatnonzero(owner[variant] == index)
        slot, row = pairs.slot[mine], pairs.row[mine]
        metrics: list[Mapping[str, float | None] | None] = [None] * len(mine)
        if len(mine):
            by_outcome = events.kind[row] == EventKind.OUTCOME
            given = events.metrics[row]
            requests = pairs.request[mine].tolist() if self._waiting_metrics else ()
            metrics = [m if outcome else None for m, outcome in zip(given, by_outcome.tolist(), strict=True)]
            for i, request in enumerate(requests):
                if not by_outcome[i]:
                    metrics[i] = self._waiting_metrics.get(request)
        return MatchedPairs(
            position=row,
            variant=variant[mine],
            pane=column["pane"][slot].astype(np.int64),
            predicted=column["value"][slot],
            score=_shortest(column["score"][slot]),
            actual=pairs.actual[mine],
            time=pairs.outcome_time[mine],
            delay=(pairs.outcome_time[mine] - column["time"][slot]) / 1000,
            metrics=metrics,
        )

    def _compared(self, index: int, spec: ModelSpec, joined: Joined, owner: IntArray) -> ShadowComparisons:
        a, column = joined.agreements, self.table.slots.column
        variant = column["variant"][a.other_slot].astype(np.int64)
        served, other = column["value"][a.served_slot], column["value"][a.other_slot]
        mine = np.flatnonzero((owner[variant] == index) & ~np.isnan(served) & ~np.isnan(other))
        served, other = served[mine], other[mine]
        if spec.task is Task.REGRESSION:
            agreed = np.abs(other - served) <= spec.agreement_tolerance * np.abs(served)
        else:
            agreed = served == other
        pane = column["pane"][a.other_slot[mine]].astype(np.int64)
        return ShadowComparisons(a.row[mine], variant[mine], pane, agreed)

    # -- without records ---------------------------------------------------------------------------------

    def finish(self, wall: int) -> Effects:
        """End a replay: complete panes close, and what is known of outcomes is judged."""
        effects = Effects()
        if not self._begun:
            effects.published += self._begin(self.clock.now if self.clock.now >= 0 else wall)
        self.clock.end()
        effects.extend(self.process(Batch.empty(), wall))
        self.table.orphan_all()
        for model in self.models:
            model.finish()
            effects.published += [effect.what for effect in model.take_effects()]
        return effects

    def command(self, command: Command, wall: int) -> Effects:
        """Apply what an operator asks for."""
        now = self.clock.now if self.clock.now >= 0 else wall
        model = next((m for m in self.models if m.spec.name == command.model), None)
        missing = f"refused: {command.model} is not configured"
        result = missing if model is None else apply_command(model, command, now)
        published = [] if model is None else [effect.what for effect in model.take_effects()]
        return Effects(published, commands=[(command.id, result)])

    @property
    def time(self) -> int:
        """Stream time where it is known, else the time of day when records were last processed."""
        return self.clock.now if self.clock.now >= 0 else self._wall

    # -- commits -----------------------------------------------------------------------------------------

    def prepare_commit(self, effects: Effects, *, last: bool = False) -> PipelineCommit:
        """Gather what the next commit writes: `effects` since the last one, and all state that changed.

        Args:
            effects: What `process`, `command` and `finish` have returned since the last commit.
            last: The last commit of a replay or of a clean shutdown: nothing is left for later.
        """
        self.seq += 1
        self._expire(everything=last)
        join = self.join_log.delta(self.seq, max(self.clock.now, 0), rewrite=last and self._replaying)
        effects.published += self.daemon.take()
        self._tally(effects.published)
        codes = [*self.variants.take_fresh(), *self.decoder.segments.take_fresh()]
        for labels in self.decoder.labels:
            codes += labels.codes.take_fresh()
        models = {m.spec.name: m.prepare_commit(flush=last) for m in self.models}
        for model in self.models:
            codes += model.user_metrics.take_fresh()
        return PipelineCommit(
            seq=self.seq,
            positions=dict(self.positions),
            shard=self._shard(),
            join=join,
            codes=codes,
            models=models,
            published=effects.published,
            dead_letters=effects.dead_letters,
            totals=self.totals,
            commands=effects.commands,
            clock=self.clock.now,
        )

    def _expire(self, *, everything: bool) -> None:
        owner = self.variants.model_of()
        patience = [np.where(owner >= 0, column[np.maximum(owner, 0)], 0) for column in (self._within, self._early)]
        if self.clock.now != UNKNOWN:
            self.table.expire(self.clock.now, *patience, everything=everything)
        self.table.downsample_pending()
        if self._waiting_metrics:
            self._forget_metrics(np.array(list(self._waiting_metrics), np.uint64))
        c = self.table.counts
        self.totals.join.update(
            joined=c.joined, duplicates=c.duplicates, conflicts=c.conflicts, orphans=c.orphans, late=c.late,
            expired=c.expired, pending=self.table.waiting,
        )  # fmt: skip

    def _tally(self, published: Sequence[AlertRecord | Decision]) -> None:
        totals = self.totals
        for what in published:
            if isinstance(what, Decision):
                totals.decisions += 1
                totals.decisions_by_reason[what.reason.value] = totals.decisions_by_reason.get(what.reason.value, 0) + 1
                continue
            if what.status is AlertStatus.RESOLVED:
                totals.alerts["resolved"] += 1
            elif what.begins:
                totals.alerts["firing"] += 1
                kind = what.subject.kind.value
                totals.alerts_by_kind[kind] = totals.alerts_by_kind.get(kind, 0) + 1

    def _shard(self) -> dict[str, Any]:
        return {
            "clock": self.clock.state(),
            "sampling": self.table.sampling_log2,
            "horizon": self.table.horizon,
            "counts": asdict(self.table.counts),
            "begun": self._begun,
            "daemon": self.daemon.state(),
            "waiting_metrics": {str(lo): dict(m) for lo, m in self._waiting_metrics.items()},
        }

    def on_committed(self, commit: PipelineCommit) -> None:
        """Release what only the commit, now in the database, still needed."""
        self.join_log.committed(commit.join)

    def restore(self, stored: Snapshot, positions: Mapping[Partition, int]) -> None:
        """Go on where the last commit was. Call before anything else.

        Raises:
            StoreError: something is damaged.
        """
        try:
            self._restore(stored, positions)
        except DamagedError as error:
            raise StoreError(f"the store is damaged: {error}; restore it from a backup", retryable=False) from error

    def _restore(self, stored: Snapshot, positions: Mapping[Partition, int]) -> None:
        self.seq = stored.seq
        self.positions = dict(positions)
        self.totals = Totals(**stored.totals)
        by_kind: dict[tuple[str, str], list[Entry]] = {}
        for entry in sorted(stored.codes, key=lambda e: e.code):
            by_kind.setdefault((entry.model, entry.kind), []).append(entry)
        self.variants.restore(sorted((e for e in stored.codes if e.kind in ("version", "model")), key=lambda e: e.code))
        self.decoder.segments.restore(by_kind.get(("", "segment"), ()))
        for model in self.models:
            name = model.spec.name
            model.labels.codes.restore(by_kind.get((name, "label"), ()))
            model.user_metrics.restore(by_kind.get((name, "metric"), ()))
            if name in stored.models:
                model.restore(stored.models[name])
        shard = stored.shard
        if shard:
            self.clock.restore(shard["clock"])
            self.daemon.restore(shard["daemon"])
            self.table.sampling_log2, self.table.horizon = shard["sampling"], shard["horizon"]
            for name, count in shard["counts"].items():
                setattr(self.table.counts, name, count)
            self._waiting_metrics = {int(lo): m for lo, m in shard["waiting_metrics"].items()}
        self.join_log.restore(stored.segments, stored.alive, stored.closed, max(self.clock.now, 0))
        owner = self.variants.model_of()
        for i, model in enumerate(self.models):
            self.notices += model.notices
            if model.displaced:
                self.table.displace(owner == i, DROPPED_PANE)
        for name in sorted(stored.models.keys() - {model.spec.name for model in self.models}):
            detail = "not configured any more: what is stored of it stays, and its waiting answers expire"
            self.notices.append(RestoreWarning(name, "model_removed", detail))

    def status(self) -> dict[str, Any]:
        """The status document, as of now."""
        return document(self.totals, {m.spec.name: m.state() for m in self.models})


def _configured(models: Sequence[ModelSpec]) -> dict[str, list[str]]:
    return {m.name: _named_versions(m) for m in models}


def _named_versions(model: ModelSpec) -> list[str]:
    s = model.serving
    named = [s.champion, s.previous, *(r.version for r in s.routes), *s.shadows, *s.ensemble, *s.cohorts.values()]
    return list(dict.fromkeys(v for v in named if v is not None))


def _reports(events: Events, index: int, late: BoolArray) -> ResourceSamples:
    mine = np.flatnonzero((events.kind == EventKind.RESOURCES) & (events.model == index) & ~late)
    return ResourceSamples(mine, events.variant[mine].astype(np.int64), events.time[mine], events.resources[mine])


class _Peek(msgspec.Struct):
    """What of a record says whose it is."""

    type: str = ""
    model: str = ""


_peek = msgspec.json.Decoder(_Peek).decode


def _is_prediction(raw: bytes | None, model: str) -> bool:
    """Whether a record may be a prediction of a model: all that are accepted are among those."""
    try:
        seen = _peek(raw or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError):
        return False
    return seen.type == "prediction" and seen.model == model


def _shortest(score: NDArray[np.float32]) -> FloatArray:
    """Scores that waited as 32-bit floats: 0.7 is 0.7 again, and not 0.69999999, in another bin of calibration."""
    exact = score.astype(np.float64)
    rounded = np.round(exact, 7)
    result: FloatArray = np.where(rounded.astype(np.float32) == score, rounded, exact)
    return result
