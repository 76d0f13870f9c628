"""The poll loop: own the store, read, process, commit, and go on where the last commit was.

Shell. One thread does all of it, so nothing locks. An outage of the stream or the database stops the work and
not the loop: it waits, keeps the watchdog fed, and goes on. Another owner of the store stops the work too:
then everything in memory is dropped, and the loop waits to become the owner again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.engine import Engine

from monitor.clock import SYSTEM_CLOCK, Clock
from monitor.errors import Fenced, StoreError, StreamError
from monitor.pipeline.commands import Command
from monitor.pipeline.merge import Holding
from monitor.publishing.relay import Relay
from monitor.reference.file import ReferenceFile
from monitor.service.freezing import FreezingProcess
from monitor.service.input import POLL_S, InputSpec, StreamInput
from monitor.service.journal import Journal
from monitor.service.readiness import Progress, Readiness, Watchdog, why
from monitor.service.session import Session, profile_changed
from monitor.service.snapshot import Counters, metrics_snapshot, process_counts
from monitor.spec import CoreSpec
from monitor.store import reader, schema
from monitor.store.attempts import AttemptLog
from monitor.store.commands import pending_commands
from monitor.store.engine import patient
from monitor.store.owner import in_words
from monitor.store.writer import StoreWriter
from monitor.stream.types import Batch, Partition, Source
from monitor.web.metrics import MetricsSnapshot, Telemetry

log = structlog.get_logger(__name__)

_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
_AWAY_S: Final = 0.5  # between polls while the stream is away
_SLOW_S: Final = 2.0  # a database that takes longer to answer is told of
_LAST_COMMIT_S: Final = 6.0  # how long the end waits for a database that is away
_STALLED_S: Final = 300.0  # without a row read or a step done, restoring counts as hanging
_RESTORING: Final = "restoring the state of the last commit"
_STEP_S: Final = 0.2  # between heartbeats while waiting


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the loop needs to know.

    Attributes:
        core: The configuration of the models.
        input: How the stream is read.
        commit_every_s: Longest time between commits.
        lease_s: Time without a commit after which another daemon may own the store.
        outbox_limit: Messages waiting to be published beyond which nothing is read.
        references: References from files, by model.
    """

    core: CoreSpec
    input: InputSpec
    commit_every_s: float
    lease_s: float
    outbox_limit: int
    references: Mapping[str, ReferenceFile]


class Worker:
    """Run the poll loop until `stop` is called."""

    def __init__(
        self,
        spec: WorkerSpec,
        engine: Engine,
        writer: StoreWriter,
        open_source: Callable[[], Source],
        relay: Relay,
        telemetry: Telemetry,
        watchdog: Watchdog,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Connect the parts; nothing is opened before `run`.

        Args:
            spec: Settings.
            engine: The store.
            writer: The writer of the store, under the name of this process.
            open_source: Opens the stream; may raise `StreamError`, then it is tried again.
            relay: Publishes what is committed.
            telemetry: Gets a snapshot after every commit.
            watchdog: Gets liveness signals.
            clock: Time.
        """
        self._spec, self._engine, self._writer = spec, engine, writer
        self._open_source, self._relay = open_source, relay
        self._telemetry, self._clock = telemetry, clock
        self._readiness = Readiness(telemetry, watchdog)
        self._counters = counters = Counters()
        telemetry.counts = lambda: process_counts(relay, counters)
        self._journal, self._progress = Journal({}), Progress(clock)
        self._stopping = self._upgraded = self._restoring = False
        self._stopped_at = self._committed_at = clock.monotonic()

    def stop(self) -> None:
        """Finish the batch in hand, commit and return. May be called from a signal handler or another thread."""
        self._stopped_at = self._clock.monotonic()
        self._stopping = True

    def run(self, *, startup_timeout_s: float | None = None) -> bool:
        """Work until stopped.

        Args:
            startup_timeout_s: How long the stream and the store may stay away at the start; None: for ever.

        Returns:
            False if they stayed away for longer.

        Raises:
            ConfigError: What the stream or the store hold does not fit the configuration.
            StoreError: The store is damaged or of a newer release, or was away when the last commit was due.
        """
        deadline = None if startup_timeout_s is None else self._clock.monotonic() + startup_timeout_s
        with patient(self._wait_on_store):
            while not self._stopping:
                acquired = self._acquire(deadline)
                if acquired is None:
                    return self._stopping
                deadline = None
                self._run_session(*acquired)
        return True

    def _run_session(self, session: Session, stream: StreamInput) -> None:
        try:
            with FreezingProcess() as freezing:
                self._loop(session, stream, freezing)
            self._end(session, stream)
        except Fenced as error:
            self._on_fenced(error)
        finally:
            session.abandon()
            stream.close()

    def _on_fenced(self, error: Fenced) -> None:
        self._counters.fenced += 1
        self._relay.set_epoch(None)
        self._telemetry.publish(MetricsSnapshot({}))  # the state is the other daemon's now
        log.warning("worker.fenced", error=str(error))
        self._readiness.set_unready("owner", "another daemon owns the store")

    # -- beginning ---------------------------------------------------------------------------------------

    def _acquire(self, deadline: float | None) -> tuple[Session, StreamInput] | None:
        """Own the store and open the stream, however long it takes. Returns None where stopped, or out of time."""
        attempt = 0
        while not self._stopping:
            try:
                acquired = self._try_to_acquire()
                if isinstance(acquired, tuple):
                    return acquired
                self._telemetry.owner = _owner(self._engine)
                self._telemetry.store = self._telemetry.store or reader.name_of_store(self._engine)
                self._readiness.set_unready("owner", "another daemon owns the store", only=True)
                if attempt % 30 == 0:
                    log.info("worker.waiting_for_the_store", seconds=round(acquired, 1))
                pause = min(acquired, 1.0)
                deadline = None  # it is there, only not ours
            except Fenced as error:
                self._on_fenced(error)
                pause, deadline = _BACKOFF_S[0], None
            except (StoreError, StreamError) as error:
                if not error.retryable:
                    raise
                if deadline is not None and self._clock.monotonic() > deadline:
                    log.error("worker.gave_up", error=str(error))
                    return None
                if attempt % 10 == 0:
                    log.warning("worker.cannot_begin", error=str(error))
                self._readiness.set_unready("start", why(error), only=True)
                pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            self._sleep(pause)
            attempt += 1
        return None

    def _try_to_acquire(self) -> tuple[Session, StreamInput] | float:
        """Open the stream and claim the store. Returns how many seconds another owner's lease still holds, if any."""
        source = self._open_source()
        try:
            acquired = self._claim(source)
        except BaseException:
            source.close()
            raise
        if not isinstance(acquired, tuple):
            source.close()
        return acquired

    def _claim(self, source: Source) -> tuple[Session, StreamInput] | float:
        partitions, identities = source.partitions(), source.identities()
        if not self._upgraded:
            schema.upgrade(self._engine)
            self._upgraded = True
        known = reader.configured_references(self._engine)
        profile_changed(self._spec.references, known, lambda rows: self._readiness.heartbeat("reading a reference"))
        self._progress.moved()
        self._restoring, started = True, self._clock.monotonic()
        try:
            session = Session.claim(
                self._spec.core,
                self._engine,
                self._writer,
                self._spec.lease_s,
                moved=self._moved,
                gets_on=self._gets_on,
            )
            if not isinstance(session, Session):
                return session
            stream = self._restored(session, source, partitions, identities)
        finally:
            self._restoring = False
        took = round(self._clock.monotonic() - started, 1)
        log.info(
            "worker.began", epoch=session.epoch, commit=session.pipeline.seq, partitions=len(partitions), seconds=took
        )
        return session, stream

    def _moved(self) -> None:
        """Note that restoring gets on; this daemon owns the store."""
        self._progress.moved()
        if not self._readiness.is_unready("restoring"):
            self._readiness.set_unready("restoring", _RESTORING, only=True)

    def _gets_on(self) -> bool:
        """Return whether to keep the lease, and be alive while the loop cannot turn. Called by another thread."""
        if not self._restoring:
            return self._telemetry.loop_age_s() < self._spec.lease_s
        if self._progress.age_s() >= _STALLED_S:
            return False
        self._readiness.heartbeat(_RESTORING)
        return True

    def _restored(
        self, session: Session, source: Source, partitions: frozenset[Partition], identities: Mapping[str, str]
    ) -> StreamInput:
        """Put a session that was restored to work, as long as it owns the store."""
        try:
            stream = self._put_to_work(session, source, partitions, identities)
            session.check_owner()
        except BaseException:
            session.abandon()
            raise
        return stream

    def _put_to_work(
        self, session: Session, source: Source, partitions: frozenset[Partition], identities: Mapping[str, str]
    ) -> StreamInput:
        for warning in session.pipeline.warnings:
            log.warning("worker.state_differs", model=warning.model, what=warning.event, detail=warning.detail)
        self._telemetry.store = reader.name_of_store(self._engine)
        session.identify(identities)
        session.pipeline.freeze_apart()
        attempts = AttemptLog(self._engine, session.epoch)
        stream = StreamInput(source, session, self._spec.input, self._readiness, self._counters, self._clock, attempts)
        stream.begin(partitions)
        self._begin(session, stream)
        return stream

    def _begin(self, session: Session, stream: StreamInput) -> None:
        """Put in force what is configured, and let publishing begin."""
        self._journal = Journal({model.spec.name: model.controller.serving for model in session.pipeline.models})
        self._telemetry.publish(metrics_snapshot(session, stream.lags(), self._relay))  # the state of the last commit
        wall, now = self._clock.wall_ms(), session.pipeline.watermark.now
        session.resolve_all("the daemon began anew; what lasts is told again", wall)
        session.activate(self._spec.references, now if now >= 0 else wall, lambda rows: self._moved())
        self._committed_at = self._telemetry.committed_at = self._clock.monotonic()
        if session.restored:  # else time begins with the first event, if there is one
            session.process(Batch.empty(), self._clock.wall_ms(), Holding(waiting=session.positions))
        self._relay.set_epoch(session.epoch)
        self._readiness.begin()

    # -- the loop ----------------------------------------------------------------------------------------

    def _loop(self, session: Session, stream: StreamInput, freezing: FreezingProcess) -> None:
        while not self._stopping:
            self._readiness.heartbeat(_progress(session))
            self._check_relay()
            session.tell(*self._relay.reports(session.pipeline.daemon, session.pipeline.time))
            freezing.exchange(session.pipeline)
            if self._relay.depth > self._spec.outbox_limit:
                self._sleep(POLL_S)
            else:
                self._read(session, stream)
            if not self._stopping:
                stream.housekeeping()
            age_s = self._clock.monotonic() - self._committed_at
            if session.effects.published or session.is_full or age_s >= self._spec.commit_every_s:
                self._commit(session, stream)

    def _check_relay(self) -> None:
        """Be unready while alerts reach nobody. Reading goes on until too many of them wait."""
        if self._relay.failing:
            waiting = f"; {self._relay.depth} messages wait" if self._relay.depth else ""
            self._readiness.set_unready("relay", f"stream: cannot publish; the log says why{waiting}")
        else:
            self._readiness.clear("relay")

    def _read(self, session: Session, stream: StreamInput) -> None:
        batch = stream.poll()
        if batch is None:
            if not stream.is_reachable:
                self._sleep(_AWAY_S)
            return
        started = time.perf_counter()
        effects = session.process(batch, self._clock.wall_ms(), stream.judge(batch))
        self._counters.batch_s += time.perf_counter() - started
        self._counters.batches += 1
        stream.note_processed(effects)

    # -- commits -----------------------------------------------------------------------------------------

    def _commit(self, session: Session, stream: StreamInput, *, last: bool = False) -> None:
        """Commit, with pending commands applied; tried until it is known to be in the database. Raises `Fenced`."""
        orders = self._apply_commands(session)
        started, failures = time.perf_counter(), self._counters.commit_failures
        commit = session.commit(self._retry_commit, last=last)
        if self._readiness.clear("store"):
            log.info("worker.database_is_back", attempts=self._counters.commit_failures - failures + 1)
        self._committed_at = self._telemetry.committed_at = self._clock.monotonic()
        self._counters.commit_s += time.perf_counter() - started
        self._counters.commits += 1
        self._journal.tell(commit, orders, self._committed_at)
        if commit.published or commit.dead_letters:
            self._relay.wake(len(commit.published) + len(commit.dead_letters))
        stream.commit(commit.positions)
        self._telemetry.publish(metrics_snapshot(session, stream.lags(), self._relay))

    def _retry_commit(self, failed: int, error: StoreError) -> bool:
        """Wait before the next attempt at a commit. Returns False where the end of the process cannot wait longer."""
        if self._must_give_up():
            log.error("worker.not_committed", error=str(error))
            return False
        self._counters.commit_failures += 1
        if failed == 0:
            log.warning("worker.commit_failed", error=str(error))
        self._readiness.set_unready("store", why(error))
        self._readiness.heartbeat("the database is away")
        self._clock.sleep(_BACKOFF_S[0 if self._stopping else min(failed, len(_BACKOFF_S) - 1)])
        return True

    def _apply_commands(self, session: Session) -> Sequence[Command]:
        """Apply the orders that wait, and return them."""
        try:
            commands = pending_commands(self._engine)
        except StoreError as error:
            if not error.retryable:
                raise
            return ()  # the commit waits for the database; the commands are applied by the next one
        for command in commands:
            session.apply(command, self._clock.wall_ms())
        return commands

    def _end(self, session: Session, stream: StreamInput) -> None:
        """End cleanly: commit what is processed and release the store."""
        self._commit(session, stream, last=True)
        try:
            session.release()
        except StoreError as error:  # everything is committed; the next owner waits for the lease
            log.warning("worker.not_released", error=str(error))
        log.info("worker.ended", commit=session.pipeline.seq)

    # -- waiting -----------------------------------------------------------------------------------------

    def _wait_on_store(self, waited_s: float) -> bool:
        """Keep alive while the database does not answer. Returns whether to wait on."""
        self._progress.moved()
        self._readiness.heartbeat("waiting for the database")
        if waited_s > _SLOW_S and not self._readiness.is_unready("store"):
            log.warning("worker.database_is_slow", seconds=round(waited_s, 1))
            self._readiness.set_unready("store", "store: the database does not answer")
        return not self._must_give_up()

    def _must_give_up(self) -> bool:
        return self._stopping and self._clock.monotonic() - self._stopped_at > _LAST_COMMIT_S

    def _sleep(self, seconds: float) -> None:
        """Wait with heartbeats; not at all once the daemon is to stop."""
        until = self._clock.monotonic() + seconds
        while not self._stopping and (left := until - self._clock.monotonic()) > 0:
            self._readiness.heartbeat("waiting")
            self._clock.sleep(min(left, _STEP_S))


def _owner(engine: Engine) -> str:
    """Return who owns the store, in words; "" where nobody does."""
    owner = reader.owner(engine)
    return "" if owner is None else in_words(owner)


def _progress(session: Session) -> str:
    return f"{session.pipeline.totals.events['read']} records read, commit {session.pipeline.seq}"
