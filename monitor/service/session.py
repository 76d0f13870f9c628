"""One run of the pipeline from a restored state on: what worker, replay, `driftd inspect` and tests have in common.

Shell. A session owns the pipeline, the right to write its commits, and everything that is not committed yet. It knows
neither the stream nor the clock: records, offsets and times are handed to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog
from sqlalchemy.engine import Engine

from monitor.alerting.records import AlertRecord
from monitor.errors import ConfigError, InputFileError, StoreError
from monitor.pipeline.commands import Command
from monitor.pipeline.commit import PipelineCommit, Snapshot
from monitor.pipeline.effects import Effects
from monitor.pipeline.merge import Holding
from monitor.pipeline.pipeline import Pipeline
from monitor.reference.build import ProgressCallback
from monitor.reference.file import ReferenceFile
from monitor.spec import CoreSpec
from monitor.store import reader
from monitor.store.lease import LeaseKeeper
from monitor.store.owner import is_gone
from monitor.store.reader import StoredProgress
from monitor.store.writer import Claim, Gap, StoreWriter
from monitor.stream.types import Batch, Partition

log = structlog.get_logger(__name__)

BATCH: Final = 5_000  # records polled and processed at a time
RECORDS_PER_COMMIT: Final = 60_000

Retry = Callable[[int, StoreError], bool]


class CommitWriter(Protocol):
    """Where commits are written. `StoreWriter` is the one of the daemon."""

    def commit(self, delta: PipelineCommit, *, identities: Mapping[str, str], gaps: Sequence[Gap]) -> None:
        """Write a commit in one transaction. Raises `Fenced`, or `StoreError`: then it may have been written."""
        ...

    def is_committed(self, seq: int) -> bool:
        """Return whether the commit of this number was written. Raises `Fenced` or `StoreError`."""
        ...

    def release(self) -> None:
        """Give up the right to write. Raises `StoreError`."""
        ...


def never(attempt: int, error: StoreError) -> bool:
    """Retry no commit."""
    return False


class Session:
    """The pipeline, what identifies its input, and what it has produced since the last commit.

    Attributes:
        pipeline: The state in memory.
        epoch: Number of the claim on the store; 0 without one.
        seed: Seed of the hashes of request ids.
        was_killed: Whether the owner before has not ended by itself.
        restored: Whether there was a commit to go on from.
        identities: Topic to the id that tells it from a later topic of the same name.
        effects: What followed from records and commands since the last commit.
    """

    def __init__(
        self,
        core: CoreSpec,
        writer: CommitWriter | None = None,
        *,
        claim: Claim | None = None,
        ends: Mapping[Partition, int] | None = None,
        stored: tuple[Snapshot, StoredProgress] | None = None,
        lease: LeaseKeeper | None = None,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a pipeline and restore it.

        Args:
            core: The configuration of the models.
            writer: Where commits go; None for a session that only answers questions.
            claim: The right to write, with the seed of the store.
            ends: End offsets of a replay; None for a live stream.
            stored: The state to go on from; None to begin anew.
            lease: What renews the lease of the claim; the first commit stops it.
            moved: Called after each step of restoring.

        Raises:
            StoreError: The state is damaged.
        """
        claim = claim or Claim(0, 0)
        self.epoch, self.seed, self.was_killed = claim.epoch, claim.hash_seed, claim.was_killed
        self.pipeline = Pipeline(core, self.seed, ends)
        self.restored = stored is not None
        self.identities: Mapping[str, str] = {}
        self.effects = Effects()
        self._writer, self._lease = writer, lease
        self._alerts: list[AlertRecord] = []  # of the daemon itself; not committed yet, as the gaps
        self._gaps: list[Gap] = []
        if stored is not None:
            snapshot, progress = stored
            self.pipeline.restore(snapshot, progress.positions, moved)
            self.identities = progress.identities

    @classmethod
    def claim(
        cls,
        core: CoreSpec,
        engine: Engine,
        writer: StoreWriter,
        lease_s: float,
        *,
        ends: Mapping[Partition, int] | None = None,
        is_gone: Callable[[str], bool] = is_gone,
        moved: Callable[[], None] = lambda: None,
        gets_on: Callable[[], bool] = lambda: True,
    ) -> Session | float:
        """Become the owner of the store and restore the state of its last commit.

        The lease is kept until the first commit, as long as `gets_on` says so; `abandon` a session that is not to have
        one.

        Args:
            core: The configuration of the models.
            engine: The store; its schema must be current.
            writer: The writer whose claim it is to be.
            lease_s: How long after its last commit another owner keeps the store, in seconds.
            ends: End offsets of a replay; None for a live stream.
            is_gone: Tells of an owner's name whether its process is known to have ended.
            moved: Called once the store is owned, for each row that was read, and after each step of restoring.
            gets_on: Tells whether the lease is to be kept; called now and then until the first commit, in a thread of
                its own.

        Returns:
            The session, or how many seconds the lease of another owner still holds.

        Raises:
            Fenced: Another process has taken the store meanwhile.
            StoreError: The store is away or damaged.
        """
        claim = writer.claim(lease_s, is_gone)
        if not isinstance(claim, Claim):
            return claim
        lease = LeaseKeeper(engine, claim.epoch, lease_s, gets_on)
        lease.start()
        try:
            moved()
            stored = reader.load(engine, moved)
            session = cls(core, writer, claim=claim, ends=ends, stored=stored, lease=lease, moved=moved)
            lease.check()
        except BaseException:
            lease.stop()
            lease.check()  # what another owner has written meanwhile may look like damage
            raise
        weakref.finalize(session, lease.leave).atexit = False  # nobody keeps a store for a session that is gone
        return session

    @classmethod
    def read_only(cls, core: CoreSpec, engine: Engine) -> Session:
        """Restore the state of the last commit without owning the store, to answer questions.

        Raises:
            StoreError: The store is away or damaged.
        """
        stored = reader.load(engine)
        claim = None if stored is None else Claim(0, reader.hash_seed(engine))
        return cls(core, claim=claim, stored=stored)

    # -- input -------------------------------------------------------------------------------------------

    @property
    def positions(self) -> Mapping[Partition, int]:
        """Offset of the next record to process, by partition; also of partitions that are not read any more."""
        return self.pipeline.positions

    def assign(self, starts: Mapping[Partition, int]) -> dict[Partition, int]:
        """Set which partitions are read, each from where processing stands.

        Args:
            starts: All partitions to read, with the offset to begin at where a partition was never read.

        Returns:
            The offset from which each of them is to be read.
        """
        for partition, start in starts.items():
            self.pipeline.positions.setdefault(partition, start)
        positions = {partition: self.pipeline.positions[partition] for partition in starts}
        self.pipeline.assign(positions)
        return positions

    def identify(self, identities: Mapping[str, str]) -> None:
        """Set the identities of topics, which commits store beside the offsets.

        Raises:
            ConfigError: A topic was deleted and made anew: other records are under its offsets.
        """
        for topic, identity in self.identities.items():
            if identity and identities.get(topic) and identities[topic] != identity:
                hint = "was deleted and made anew; `driftd topics --adopt` reads the new one from its beginning"
                raise ConfigError(f"stream.events: {topic}", None, hint)
        self.identities = identities

    def skip(self, partition: Partition, start: int, target: int) -> None:
        """Go on at the offset `target`, and put the records from `start` to before it on record as a gap."""
        self._gaps.append(Gap(partition, start, target))
        self.pipeline.positions[partition] = target

    def process(self, batch: Batch, wall: int, holding: Holding | None = None) -> Effects:
        """Process records (`Pipeline.process`); what followed is kept for the next commit and returned."""
        return self._keep(self.pipeline.process(batch, wall, holding))

    def in_hand(self) -> Mapping[Partition, int]:
        """Return the approximate size in bytes of what is read and not processed, by partition."""
        return self.pipeline.merge.in_hand()

    def apply(self, command: Command, wall: int) -> Effects:
        """Apply an operator's command; what followed is kept for the next commit and returned."""
        return self._keep(self.pipeline.command(command, wall))

    def finish(self, wall: int) -> Effects:
        """Close everything that is open at the end of a replay; what followed is kept and returned."""
        return self._keep(self.pipeline.finish(wall))

    def activate(
        self, files: Mapping[str, ReferenceFile], now: int, progress: ProgressCallback | None = None
    ) -> Effects:
        """Use references from files (`activate`); what followed is kept and returned."""
        return self._keep(activate(self.pipeline, files, now, lambda model: progress))

    def _keep(self, effects: Effects) -> Effects:
        self.effects.extend(effects)
        return effects

    # -- alerts of the daemon itself ---------------------------------------------------------------------

    def fire(self, name: str, summary: str) -> None:
        """Begin an alert of the daemon itself at the present stream time; nothing where it fires already."""
        self.tell(self.pipeline.daemon.fire(name, summary, self.pipeline.time))

    def resolve(self, name: str, summary: str) -> None:
        """End an alert of the daemon itself; nothing where it does not fire."""
        self.tell(self.pipeline.daemon.resolve(name, summary, self.pipeline.time))

    def resolve_all(self, summary: str, wall: int) -> None:
        """End all alerts of the daemon itself; `wall` is their end where stream time is unknown."""
        self.tell(*self.pipeline.daemon.resolve_all(summary, self.pipeline.time or wall))

    def tell(self, *records: AlertRecord | None) -> None:
        """Keep alerts of the daemon itself for the next commit, behind what follows from records."""
        self._alerts += [record for record in records if record is not None]

    # -- commits -----------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as many records are uncommitted as one commit should have."""
        return self.effects.records >= RECORDS_PER_COMMIT

    def commit(self, retry: Retry = never, *, last: bool = False) -> PipelineCommit:
        """Write everything that is not committed yet, in one transaction.

        A write that failed may have happened all the same, so before the next attempt the store is asked.

        Args:
            retry: Called with the number of failed attempts before this one and a retryable error; waits, and
                returns whether to try again.
            last: The last commit of a replay or of a clean shutdown.

        Raises:
            Fenced: Another process owns the store; the session is void.
            StoreError: It was not written, or nobody knows.
        """
        effects, self.effects = self.effects, Effects()
        effects.published += self._alerts
        self._alerts = []
        commit = self.pipeline.prepare_commit(effects, last=last)
        self._write(commit, retry)
        self.abandon()
        self.pipeline.on_committed(commit)
        self._gaps.clear()
        return commit

    def _write(self, commit: PipelineCommit, retry: Retry) -> None:
        if self._writer is None:
            raise RuntimeError("a session without a writer cannot commit")
        failed = 0
        while True:
            try:
                if not (failed and self._writer.is_committed(commit.seq)):
                    self._writer.commit(commit, identities=self.identities, gaps=self._gaps)
                return
            except StoreError as error:
                if not (error.retryable and retry(failed, error)):
                    raise
                failed += 1

    def check_owner(self) -> None:
        """Raise `Fenced` where the store was lost before the first commit."""
        if self._lease is not None:
            self._lease.check()

    def abandon(self) -> None:
        """Renew the lease no more: commits do it, or the session is void."""
        if self._lease is not None:
            self._lease.stop()
            self._lease = None

    def release(self) -> None:
        """Give the store to whoever wants it next. Raises `StoreError`."""
        self.abandon()
        if self._writer is not None:
            self._writer.release()


# -- references from files -------------------------------------------------------------------------------


def activate(
    pipeline: Pipeline,
    files: Mapping[str, ReferenceFile],
    now: int,
    progress: Callable[[str], ProgressCallback | None] = lambda model: None,
) -> Effects:
    """Use references from files: at a model's first start, and where a file has other content than before.

    Args:
        pipeline: The pipeline whose models get them.
        files: Files by model.
        now: Stream time, or the time of day where it is unknown, in ms since the epoch.
        progress: Returns for a model what is told the number of rows read so far.

    Returns:
        Alerts that end, since what they compared with is not in force any more.

    Raises:
        InputFileError: A file cannot be read, and its model has no earlier reference.
    """
    effects = Effects()
    for model in pipeline.models:
        name = model.spec.name
        file = files.get(name)
        if file is None:
            continue
        before = model.configured_reference
        try:
            digest = file.digest()
            if digest == before:
                continue
            profile, origin = file.profile(progress(name)), file.origin()
        except InputFileError as error:
            if before is None:
                raise
            log.warning("reference.kept", model=name, error=str(error))
            continue
        model.configured_reference = digest
        if before is None and model.references.profile is None:
            model.references.replace(profile, at=None if model.watermark is None else now, origin=origin)
        else:
            effects.published += model.replace_reference(profile, now, origin=origin)
    return effects


def profile_changed(
    files: Mapping[str, ReferenceFile], known: Mapping[str, str | None], alive: ProgressCallback
) -> None:
    """Profile the files whose content is new, ahead of `activate`: a large table may take longer than a lease.

    Args:
        files: Files by model.
        known: Digest of the content in use, by model.
        alive: Called now and then while a file is read.

    Raises:
        InputFileError: A file cannot be read, and its model has no earlier reference.
    """
    for model, file in files.items():
        try:
            if known.get(model) != file.digest():
                log.info("worker.reading_reference", model=model, path=str(file.path))
                file.profile(alive)
        except InputFileError as error:
            if known.get(model) is None:
                raise
            log.warning("reference.kept", model=model, error=str(error))
