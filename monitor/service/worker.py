"""The poll loop: own the store, read, process, commit, and go on where the last commit was.

Shell. One thread does all of it, so nothing locks. An outage of the stream or the database stops the work and
not the loop: it waits, keeps the watchdog fed, and goes on. Another owner of the store stops the work too:
then everything in memory is dropped, and the loop waits to become the owner again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from sqlalchemy.engine import Engine

from monitor.alerting.records import AlertRecord
from monitor.clock import wall_ms
from monitor.errors import ConfigError, Fenced, InputFileError, OffsetGone, PartitionFault, StoreError, StreamError
from monitor.pipeline.commands import Command
from monitor.pipeline.commit import PipelineCommit
from monitor.pipeline.effects import DeadLetter, Effects
from monitor.pipeline.pipeline import Pipeline
from monitor.publishing.relay import Relay
from monitor.reference.file import ReferenceFile
from monitor.service.session import activate
from monitor.spec import CoreSpec
from monitor.store import reader, schema
from monitor.store.commands import pending_commands
from monitor.store.engine import patient
from monitor.store.owner import is_gone
from monitor.store.reader import StoredProgress
from monitor.store.writer import Claim, Gap, StoreWriter
from monitor.stream.types import Batch, Partition, Source, Start
from monitor.web.metrics import MetricsSnapshot, Telemetry

log = structlog.get_logger(__name__)

BATCH: Final = 5_000  # records polled and processed at a time
_RECORDS_PER_COMMIT: Final = 60_000
_POLL_S: Final = 0.1
_REFRESH_S: Final = 3.0  # less than a usual lateness: new partitions, recreated topics
_ASLEEP_S: Final = 2.0  # a loop that stood still for so long knows nothing of the ends of partitions
_ASK_S: Final = 2.0  # ends of partitions, where records do not tell them
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
_SLOW_S: Final = 2.0  # a database that takes longer to answer is told of
_LAST_COMMIT_S: Final = 6.0  # how long the end waits for a database that is away


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the loop is told beside the core."""

    core: CoreSpec
    start: Start
    idle_after_s: float
    commit_every_s: float
    lease_s: float
    dead_letters_per_minute: int
    outbox_limit: int
    references: Mapping[str, ReferenceFile]  # of models whose reference is a file


class Watchdog(Protocol):
    """Somebody who wants to know that the loop turns."""

    def ready(self, status: str) -> None:
        """The daemon does its work."""
        ...

    def alive(self, status: str) -> None:
        """The loop has turned."""
        ...


@dataclass(slots=True)
class _Running:
    """Everything that is lost when another daemon takes over."""

    pipeline: Pipeline
    source: Source
    ends: dict[Partition, int] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    quiet_since: dict[Partition, float] = field(default_factory=dict)  # at its end since then
    refused: dict[Partition, int] = field(default_factory=dict)  # in this minute
    parked: set[Partition] = field(default_factory=set)
    faulty: set[Partition] = field(default_factory=set)
    minute: float = 0.0
    committed_at: float = 0.0
    refreshed_at: float = 0.0
    asked_at: float = 0.0
    heard_at: float = 0.0
    read_at: float = 0.0
    reachable: bool = True
    gaps: list[Gap] = field(default_factory=list)  # not committed yet
    effects: Effects = field(default_factory=Effects)  # not committed yet
    daemon_alerts: list[AlertRecord] = field(default_factory=list)  # not committed yet; they wait for the next commit

    def alert(self, *records: AlertRecord | None) -> None:
        """Add alerts about the daemon to the next commit."""
        self.daemon_alerts += [record for record in records if record is not None]


class Worker:
    """Runs until `stop` is called. `open_source` may raise `StreamError`; then it is tried again."""

    def __init__(
        self,
        spec: WorkerSpec,
        engine: Engine,
        writer: StoreWriter,
        open_source: Callable[[], Source],
        relay: Relay,
        telemetry: Telemetry,
        watchdog: Watchdog,
    ) -> None:
        self._spec, self._engine, self._writer = spec, engine, writer
        self._open_source, self._relay = open_source, relay
        self._telemetry, self._watchdog = telemetry, watchdog
        self._stopping = self._upgraded = False
        self._stopped_at = 0.0
        self._holds: dict[str, str] = {}  # why the daemon is not ready, by what is at fault
        self._values = dict.fromkeys(
            (
                "driftd_batch_seconds_total", "driftd_batches_total", "driftd_commits_total",
                "driftd_commit_seconds_total", "driftd_commit_failures_total", "driftd_fenced_total",
                "driftd_gap_records_total",
            ),
            0.0,
        )  # fmt: skip

    def stop(self) -> None:
        """Finish the batch in hand, commit and return. May be called from a signal handler."""
        self._stopped_at = time.monotonic()
        self._stopping = True

    def run(self, *, startup_timeout_s: float | None = None) -> bool:
        """Work until stopped. -> False if the stream or the store stayed away for `startup_timeout_s` at the start.

        Raises:
            ConfigError: what the stream or the store hold does not fit the configuration.
            StoreError: the store is damaged or of a newer release, or was away when the last commit was due.
        """
        with patient(self._waits_on):
            return self._run(startup_timeout_s)

    def _run(self, startup_timeout_s: float | None) -> bool:
        deadline = None if startup_timeout_s is None else time.monotonic() + startup_timeout_s
        while not self._stopping:
            running = self._begin(deadline)
            if running is None:
                return self._stopping
            deadline = None
            try:
                self._loop(running)
                self._end(running)
            except Fenced as error:
                self._values["driftd_fenced_total"] += 1
                self._relay.set_epoch(None)
                log.warning("worker.fenced", error=str(error))
                self._hold("owner", "another daemon owns the store")
            finally:
                running.source.close()
        return True

    # -- beginning ---------------------------------------------------------------------------------------

    def _begin(self, deadline: float | None) -> _Running | None:
        """Own the store, restore the state, open the stream. None where stopped, or out of time."""
        for attempt in range(1 << 30):
            if self._stopping:
                return None
            try:
                wait = self._try_to_begin()
                if isinstance(wait, _Running):
                    return wait
                self._holds.clear()
                self._hold("owner", "another daemon owns the store")
                if attempt % 30 == 0:
                    log.info("worker.waiting_for_the_store", seconds=round(wait, 1))
                pause = min(wait, 1.0)
                deadline = None  # it is there, only not ours
            except (StoreError, StreamError) as error:
                if not error.retryable:
                    raise
                if deadline is not None and time.monotonic() > deadline:
                    log.error("worker.gave_up", error=str(error))
                    return None
                if attempt % 10 == 0:
                    log.warning("worker.cannot_begin", error=str(error))
                self._holds.clear()
                self._hold("start", str(error))
                pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            self._sleep(pause)
        return None

    def _try_to_begin(self) -> _Running | float:
        source = self._open_source()
        try:
            return self._own_and_restore(source)
        except BaseException:
            source.close()
            raise

    def _own_and_restore(self, source: Source) -> _Running | float:
        partitions = source.partitions()
        identities = source.identities()
        if not self._upgraded:
            schema.upgrade(self._engine)
            self._upgraded = True
        self._read_new_references()
        claim = self._writer.claim(self._spec.lease_s, is_gone)
        if not isinstance(claim, Claim):
            source.close()
            return claim
        pipeline = Pipeline(self._spec.core, claim.hash_seed)
        loaded = reader.load(self._engine)
        progress = StoredProgress({}, {})
        if loaded is not None:
            stored, progress = loaded
            pipeline.restore(stored, progress.positions)
            for warning in pipeline.warnings:
                log.warning("worker.state_differs", model=warning.model, what=warning.event, detail=warning.detail)
        _check_identities(progress.identities, identities)
        running = _Running(pipeline, source, identities=identities)
        self._assign(running, partitions)
        now = pipeline.watermark.now
        anew = "the daemon began anew; what lasts is told again"
        running.alert(*pipeline.daemon.resolve_all(anew, pipeline.time or wall_ms()))
        activate(pipeline, self._spec.references, now if now >= 0 else wall_ms())
        started = time.monotonic()
        running.committed_at = running.refreshed_at = running.heard_at = running.read_at = started
        self._telemetry.committed_at = started
        if loaded is not None:  # else time begins with the first event, if there is one
            running.effects.extend(pipeline.process(Batch.empty(), wall_ms()))
        self._relay.set_epoch(claim.epoch)
        self._holds.clear()
        self._telemetry.set_ready(ready=True)
        self._watchdog.ready("running")
        log.info("worker.began", epoch=claim.epoch, commit=pipeline.seq, partitions=len(partitions))
        return running

    def _read_new_references(self) -> None:
        """Before the store is ours: profiling a large table may take longer than a lease."""
        known = reader.configured_references(self._engine)
        for model, file in self._spec.references.items():
            try:
                if known.get(model) != file.digest():
                    log.info("worker.reading_reference", model=model, path=str(file.path))
                    file.profile(lambda rows: self._heartbeat("reading a reference"))
            except InputFileError as error:
                if known.get(model) is None:
                    raise
                log.warning("reference.kept", model=model, error=str(error))

    def _assign(self, running: _Running, partitions: frozenset[Partition]) -> None:
        """Read these partitions, each from where the last commit was; a new one from `stream.start`."""
        known = running.pipeline.positions
        new = [p for p in partitions if p not in known]
        if new:
            bounds = running.source.bounds(new)
            for p in new:
                first, end = bounds[p]
                known[p] = first if self._spec.start is Start.EARLIEST or running.ends else end
        positions = {p: known[p] for p in partitions}
        running.source.assign(positions)
        running.pipeline.watermark.assign(positions)
        if running.parked | running.faulty:
            running.source.pause((running.parked | running.faulty) & partitions)

    # -- the loop ----------------------------------------------------------------------------------------

    def _loop(self, running: _Running) -> None:
        while not self._stopping:
            self._heartbeat(self._describe(running))
            self._judge_relay()
            running.alert(*self._relay.reports(running.pipeline.daemon, running.pipeline.time))
            if self._relay.depth > self._spec.outbox_limit:
                self._sleep(_POLL_S)
            else:
                self._read(running)
            self._housekeeping(running)
            if self._commit_is_due(running):
                self._commit(running)

    def _judge_relay(self) -> None:
        """Alerts that reach nobody are a reason not to be ready. Reading goes on until too many of them wait."""
        if self._relay.failing:
            waiting = f"; {self._relay.depth} messages wait" if self._relay.depth else ""
            self._hold("relay", f"cannot publish: {self._relay.last_error}{waiting}")
        else:
            self._free("relay")

    def _read(self, running: _Running) -> None:
        now = time.monotonic()
        try:
            batch = running.source.poll(BATCH, _POLL_S)
        except OffsetGone as error:
            self._skip_gap(running, error)
            return
        except PartitionFault as error:
            self._park_fault(running, error)
            return
        except StreamError as error:
            if not error.retryable:
                raise
            self._unreachable(running, error)
            self._sleep(_BACKOFF_S[2])
            return
        if len(batch):
            running.heard_at = now
            self._reachable(running)
        started = time.perf_counter()
        effects = running.pipeline.process(batch, wall_ms(), self._idle(running, batch))
        running.effects.extend(effects)
        self._values["driftd_batch_seconds_total"] += time.perf_counter() - started
        self._values["driftd_batches_total"] += 1
        self._limit_refusals(running, effects.dead_letters, now)

    def _idle(self, running: _Running, batch: Batch) -> set[Partition]:
        """Partitions at whose end nothing has come for `idle_after`, or that could not be read for so long."""
        now = time.monotonic()
        if now - running.read_at > _ASLEEP_S:  # frozen, or without a database: what came meanwhile was not seen
            running.quiet_since.clear()
            running.heard_at = running.asked_at = 0.0  # asked for at once
        running.read_at = time.monotonic()
        self._hear_ends(running)
        here = {batch.partitions[i] for i in set(batch.source.tolist())}
        idle = set()
        for partition, position in running.source.positions().items():
            end = running.ends.get(partition)
            # One that cannot be read holds the others up no longer than one at whose end nothing comes.
            stuck = partition in running.faulty and partition not in here
            if not stuck and (partition in here or end is None or position < end or not running.reachable):
                running.quiet_since.pop(partition, None)
                continue
            if now - running.quiet_since.setdefault(partition, now) >= self._spec.idle_after_s:
                idle.add(partition)
        return idle

    @staticmethod
    def _hear_ends(running: _Running) -> None:
        """What came with records may be older than what was asked for: an end does not go back by it."""
        for partition, end in running.source.ends().items():
            running.ends[partition] = max(end, running.ends.get(partition, 0))

    def _limit_refusals(self, running: _Running, dead_letters: Sequence[DeadLetter], now: float) -> None:
        """A partition full of rubbish waits for the next minute rather than filling the dead-letter topic."""
        if now - running.minute >= 60:
            running.minute = now
            running.refused.clear()
            if running.parked:
                running.source.resume(running.parked)
                for partition in running.parked:
                    name = _named(partition)
                    daemon, now_ms = running.pipeline.daemon, running.pipeline.time
                    running.alert(daemon.resolve(f"refused {name}", f"{name} is read again", now_ms))
                running.parked.clear()
                self._free("refused")
        for letter in dead_letters:
            count = running.refused[letter.partition] = running.refused.get(letter.partition, 0) + 1
            if count > self._spec.dead_letters_per_minute and letter.partition not in running.parked:
                running.parked.add(letter.partition)
                running.source.pause([letter.partition])
                name = _named(letter.partition)
                log.error("worker.partition_parked", partition=name, refused=count, last_reason=letter.reason.value)
                summary = f"{name} waits: {count} records refused in a minute, the last one {letter.reason.value}"
                running.alert(running.pipeline.daemon.fire(f"refused {name}", summary, running.pipeline.time))
                self._hold("refused", f"{summary}; it holds stream time until it is read again")

    def _housekeeping(self, running: _Running) -> None:
        """What has to be asked for: the ends of quiet partitions, new partitions, commands."""
        now = time.monotonic()
        if self._stopping:
            return
        if now - running.heard_at > _ASK_S and now - running.asked_at > _ASK_S:
            self._ask_ends(running)
        if now - running.refreshed_at > _REFRESH_S and running.reachable:
            running.refreshed_at = now
            self._refresh(running)

    def _ask_ends(self, running: _Running) -> None:
        running.asked_at = time.monotonic()
        try:
            bounds = running.source.bounds(list(running.source.positions()))
        except StreamError as error:
            if not error.retryable:
                raise
            self._unreachable(running, error)
            return
        running.ends |= {partition: end for partition, (_, end) in bounds.items()}
        self._reachable(running)

    def _refresh(self, running: _Running) -> None:
        """New partitions are read from their beginning; a topic made anew is refused."""
        try:
            partitions, identities = running.source.partitions(), running.source.identities()
        except StreamError as error:
            if not error.retryable:
                raise
            self._unreachable(running, error)
            return
        _check_identities(running.identities, identities)
        running.identities = identities
        new = partitions - running.pipeline.positions.keys()
        if new:
            log.info("worker.new_partitions", partitions=[_named(p) for p in sorted(new)])
            self._assign(running, partitions)

    def _reachable(self, running: _Running) -> None:
        if not running.reachable:
            log.info("worker.stream_is_back")
        running.reachable = True
        self._free("stream")

    def _unreachable(self, running: _Running, error: StreamError) -> None:
        if running.reachable:
            log.warning("worker.stream_is_away", error=str(error))
        running.reachable = False
        self._hold("stream", str(error))

    def _skip_gap(self, running: _Running, error: OffsetGone) -> None:
        """Records are gone before they were read: never in silence."""
        self._refresh(running)  # of a topic that was made anew nothing was read at all
        partition = Partition(error.topic, error.partition)
        target = error.earliest if error.position < error.earliest else error.latest
        log.error(
            "worker.gap", topic=error.topic, partition=error.partition, position=error.position, resumed_at=target
        )
        running.gaps.append(Gap(partition, error.position, target))
        self._values["driftd_gap_records_total"] += max(target - error.position, 0)
        running.pipeline.positions[partition] = target
        running.ends.pop(partition, None)
        running.source.seek(partition, target)
        name, now = f"gap {_named(partition)}", running.pipeline.time
        lost = f"offsets {error.position} to {target} were lost"
        if target <= error.position:
            lost = f"offset {error.position} is not there any more, reading goes on at {target}"
        daemon, resumed = running.pipeline.daemon, f"{_named(partition)} is read from offset {target} on"
        running.alert(daemon.fire(name, f"{_named(partition)}: {lost}", now), daemon.resolve(name, resumed, now))

    def _park_fault(self, running: _Running, error: PartitionFault) -> None:
        """Bytes that cannot be read stop their partition, not the others."""
        partition = Partition(error.topic, error.partition)
        running.source.pause([partition])
        running.faulty.add(partition)
        log.error("worker.partition_fault", topic=error.topic, partition=error.partition, offset=error.offset)
        summary = f"{error}: the partition waits, `driftd topics --skip` goes past it"
        running.alert(running.pipeline.daemon.fire(f"fault {_named(partition)}", summary, running.pipeline.time))

    # -- commits -----------------------------------------------------------------------------------------

    def _commit_is_due(self, running: _Running) -> bool:
        if running.effects.published or running.effects.records >= _RECORDS_PER_COMMIT:
            return True
        return time.monotonic() - running.committed_at >= self._spec.commit_every_s

    def _commit(self, running: _Running, *, last: bool = False) -> None:
        """One transaction; tried again until it is known to be in the database. Raises `Fenced`."""
        self._apply_commands(running)
        effects, running.effects = running.effects, Effects()
        effects.published += running.daemon_alerts
        running.daemon_alerts = []
        commit = running.pipeline.prepare_commit(effects, last=last)
        started = time.perf_counter()
        self._write(running, commit)
        running.pipeline.on_committed(commit)
        running.gaps.clear()
        running.committed_at = self._telemetry.committed_at = time.monotonic()
        self._values["driftd_commit_seconds_total"] += time.perf_counter() - started
        self._values["driftd_commits_total"] += 1
        if commit.published or commit.dead_letters:
            self._relay.wake(len(commit.published) + len(commit.dead_letters))
        running.source.commit(commit.positions)
        self._show(running)

    def _write(self, running: _Running, commit: PipelineCommit) -> None:
        for attempt in range(1 << 30):
            try:
                if attempt and self._writer.is_committed(commit.seq):
                    break
                self._writer.commit(commit, identities=running.identities, gaps=running.gaps)
                break
            except StoreError as error:
                if not error.retryable:
                    raise
                if self._gives_up():
                    log.error("worker.not_committed", error=str(error))
                    raise
                self._values["driftd_commit_failures_total"] += 1
                if attempt == 0:
                    log.warning("worker.commit_failed", error=str(error))
                self._hold("store", str(error))
                self._heartbeat("the database is away")
                time.sleep(_BACKOFF_S[0 if self._stopping else min(attempt, len(_BACKOFF_S) - 1)])
        if "store" in self._holds:
            log.info("worker.database_is_back", attempts=attempt + 1)
            self._free("store")

    def _apply_commands(self, running: _Running) -> None:
        try:
            commands: list[Command] = pending_commands(self._engine)
        except StoreError as error:
            if not error.retryable:
                raise
            return
        for command in commands:
            running.effects.extend(running.pipeline.command(command, wall_ms()))
            log.info("worker.command", id=command.id, name=command.name.value, model=command.model)

    def _show(self, running: _Running) -> None:
        pipeline = running.pipeline
        table, horizon = pipeline.join.table, pipeline.join.table.horizon
        now = pipeline.watermark.now
        values = {
            **self._values,
            "driftd_stream_time_seconds": now / 1000 if now >= 0 else 0.0,
            "driftd_outbox_depth": float(self._relay.depth),
            "driftd_published_total": float(self._relay.published),
            "driftd_relay_failing": float(self._relay.failing),
            "driftd_join_sampling_ratio": 0.5**table.sampling_log2,
            "driftd_join_segments": float(pipeline.join.log.segments),
        }
        if horizon is not None:
            values["driftd_duplicate_horizon_seconds"] = max(now - horizon, 0) / 1000
        lags = {
            (p.topic, p.number): (
                float(max(running.ends[p] - at, 0)) if p in running.ends else None,
                p in running.parked or p in running.faulty,
            )
            for p, at in running.source.positions().items()
        }
        mistyped = {m.spec.name: m.references.mistyped for m in pipeline.models}
        self._telemetry.publish(MetricsSnapshot(pipeline.status(), values, lags, mistyped, self._relay.states()))

    def _end(self, running: _Running) -> None:
        """A clean end: what is processed is committed, the store is given back."""
        self._commit(running, last=True)
        try:
            self._writer.release()
        except StoreError as error:  # everything is committed; the next owner waits for the lease
            log.warning("worker.not_released", error=str(error))
        log.info("worker.ended", commit=running.pipeline.seq)

    # -- small things ------------------------------------------------------------------------------------

    def _describe(self, running: _Running) -> str:
        totals = running.pipeline.totals.events
        return f"{totals['read']} records read, commit {running.pipeline.seq}"

    def _hold(self, what: str, why: str) -> None:
        """Not ready, because of this beside whatever else there is."""
        self._holds[what] = why
        self._telemetry.set_ready(ready=False, why_not="; ".join(self._holds.values()))

    def _free(self, what: str) -> None:
        """This is in order again; ready where nothing else is at fault."""
        if self._holds.pop(what, None) is not None:
            self._telemetry.set_ready(ready=not self._holds, why_not="; ".join(self._holds.values()))

    def _waits_on(self, waited_s: float) -> bool:
        """The database does not answer: the loop is alive all the same, and its end does not wait for long."""
        self._heartbeat("waiting for the database")
        if waited_s > _SLOW_S and "store" not in self._holds:
            log.warning("worker.database_is_slow", seconds=round(waited_s, 1))
            self._hold("store", "the database does not answer")
        return not self._gives_up()

    def _gives_up(self) -> bool:
        return self._stopping and time.monotonic() - self._stopped_at > _LAST_COMMIT_S

    def _sleep(self, seconds: float) -> None:
        """Wait without looking dead."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._heartbeat("waiting")
            time.sleep(min(left, 0.2))

    def _heartbeat(self, doing: str) -> None:
        self._telemetry.tick()
        self._watchdog.alive(doing)


def _named(partition: Partition) -> str:
    return f"{partition.topic}[{partition.number}]"


def _check_identities(stored: Mapping[str, str], present: Mapping[str, str]) -> None:
    """A topic that was deleted and made anew has other records under the same offsets."""
    for topic, identity in stored.items():
        if identity and present.get(topic) and present[topic] != identity:
            hint = "was deleted and made anew; `driftd topics --adopt` reads the new one from its beginning"
            raise ConfigError(f"stream.events: {topic}", None, hint)
