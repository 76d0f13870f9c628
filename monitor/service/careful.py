"""Reading alone, record by record, what may have killed the process, until the record that does it is known.

Shell. Decompression and decoding are limited, so nothing that is known kills; this is for what is not known. Where a
process was killed before it had processed anything of a partition, the next one reads that partition one record at a
time, with a note in the store before each. Where processes have ended twice at the same note, the partition waits.
Once is no proof: whoever kills a process knows nothing of its notes. A note stands from when the bytes of a record are
in hand until the record is out, never while it is waited for. It is taken back in a commit of its own; where that
fails, before anything else is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

import structlog

from monitor.errors import PartitionFault, StoreError
from monitor.store.attempts import Attempt, AttemptLog
from monitor.stream.types import Batch, Partition, Source

log = structlog.get_logger(__name__)

# A partition that was paused until now is asked for when the broker has answered for the others: half a second. A
# client that finds nothing at once sleeps for as long as it may, so it may do so for a moment only.
_LOOKS: Final = 100
_LOOK_S: Final = 0.01
_TURNS: Final = 16  # of which one is for all others: many records have to be read alone where all are suspects
_ENOUGH: Final = 2  # starts at one position, and deaths at one record


class CarefulReading:
    """Decides which partitions are read alone, and reads them.

    Attributes:
        suspects: The partitions that are read alone.
    """

    def __init__(self, source: Source, attempts: AttemptLog) -> None:
        """Begin without any."""
        self._source, self._attempts = source, attempts
        self._turn = 0
        self._standing: dict[Partition, bool] = {}  # notes that may stand, and whether a record came of each
        self.suspects: dict[Partition, Attempt] = {}

    def begin(self, positions: Mapping[Partition, int], *, was_killed: bool) -> None:
        """Note that reading begins, and find the partitions to be read alone. Raises `StoreError`."""
        found = self._attempts.begin(positions, was_killed=was_killed)
        self.suspects = {p: a for p, a in found.items() if a.attempts >= _ENOUGH or a.deaths}
        if self.suspects:
            log.warning("worker.reads_carefully", partitions=[str(p) for p in sorted(self.suspects)])

    def acquit(self, processed: Mapping[Partition, int], at_end: Collection[Partition]) -> None:
        """Read those as any other of which the records that were in doubt are behind us.

        Args:
            processed: Offset of the next record to process, by partition.
            at_end: Partitions of which everything is read that was there.
        """
        for partition, attempt in list(self.suspects.items()):
            if partition in self._standing:
                continue
            doubtful = attempt.position if attempt.suspect is None else max(attempt.position, attempt.suspect)
            if partition in at_end or processed[partition] > doubtful:
                del self.suspects[partition]
                log.info("worker.reads_as_usual", partition=str(partition))

    def next(self, candidates: Collection[Partition]) -> Partition | None:
        """Return the partition whose turn it is; None in a turn that is for the others, as after a look in vain.

        Raises:
            StoreError: A note that stands without need could not be taken back.
        """
        self._settle()
        self._turn = (self._turn + 1) % _TURNS
        chosen = next((p for p in self.suspects if p in candidates), None) if self._turn else None
        if chosen is not None:
            self.suspects[chosen] = self.suspects.pop(chosen)  # the last one of the next round
        return chosen

    def read(self, partition: Partition) -> Batch:
        """Return the next record of a partition, if one comes soon; all others are paused.

        Raises:
            PartitionFault: The process has ended twice while it read it.
            StreamError: As of `Source.poll`.
            StoreError: The database failed.
        """
        for _ in range(_LOOKS):
            # Whoever ends the process while nothing has come yet knows nothing of the record that is waited for.
            if not self._source.wait(_LOOK_S):
                continue
            # Not before: offsets without a record may have been passed meanwhile.
            batch = self._read_noted(partition) if self._is_doubtful(partition) else self._source.poll(1, 0.0)
            if len(batch):
                return batch
        self._turn = -1  # it may take long, as behind an open transaction: the next turn is for the others
        return Batch.empty()

    def _is_doubtful(self, partition: Partition) -> bool:
        """Return whether the next record was not outlived before. Raises PartitionFault where it is known to kill."""
        attempt, offset = self.suspects[partition], self._source.positions()[partition]
        suspect = attempt.position if attempt.suspect is None else attempt.suspect
        if offset == suspect and attempt.deaths >= _ENOUGH:
            detail = f"the process ended {attempt.deaths} times while it read this record"
            raise PartitionFault(partition.topic, partition.number, offset, detail)
        return offset >= suspect

    def _read_noted(self, partition: Partition) -> Batch:
        """Return the next record, whose bytes are in hand. Between the two commits nothing is done but to decode it."""
        self._standing[partition] = False
        self._attempts.note(partition, self._source.positions()[partition])
        try:
            batch = self._source.poll(1, 0.0)
            self._standing[partition] = len(batch) > 0
        finally:
            with suppress(StoreError):  # the record is in hand: it must not be lost
                self._settle()
        return batch

    def _settle(self) -> None:
        """Note that this process has outlived whatever it has noted."""
        for partition, came in list(self._standing.items()):
            self._attempts.settle(partition, came=came)
            del self._standing[partition]
