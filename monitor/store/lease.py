"""The lease of the store between the claim and the first commit, which may take longer than the lease itself.

Shell. A thread with its own connection renews the lease while the owner reads its state and restores it, and gets on
with that. Afterwards commits renew it. So an owner that stands still loses the store, before its first commit as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Engine

from monitor.errors import Fenced, StoreError
from monitor.store import tables as t
from monitor.store.engine import database_clock, is_in_memory, translated
from monitor.store.writer import SHARD

log = structlog.get_logger(__name__)

_SIGNAL_S: Final = 5.0  # the longest time between two signs of life, however long the lease
_RENEWALS: Final = 4  # in one lease: three of them may fail
_LEAST_S: Final = 0.05  # between two renewals, however short the lease
_END_S: Final = 1.0


def renew(engine: Engine, epoch: int) -> None:
    """Begin the lease of an owner anew.

    Args:
        engine: The store.
        epoch: The owner's epoch, as of its claim.

    Raises:
        Fenced: Another daemon owns the store.
        StoreError: The database failed.
    """
    mine = (t.shard.c.id == SHARD, t.shard.c.epoch == epoch)
    with translated(), engine.begin() as c:
        if c.execute(sa.update(t.shard).where(*mine).values(updated_at=database_clock(c))).rowcount != 1:
            raise Fenced(epoch)


class LeaseKeeper:
    """Renews the lease of one claim until `stop`, or until another daemon has the store."""

    def __init__(self, engine: Engine, epoch: int, lease_s: float, gets_on: Callable[[], bool] = lambda: True) -> None:
        """Prepare the thread; `start` begins to renew.

        Args:
            engine: The store. A database in memory has no other owners, and its lease is left alone.
            epoch: The epoch of the claim.
            lease_s: The lease in seconds.
            gets_on: Tells whether the owner gets on; while it does not, the lease is left to run out. Called in the
                thread, several times in a lease and at least every five seconds.
        """
        self._engine, self._epoch, self._gets_on = engine, epoch, gets_on
        self._every_s = min(max(lease_s / _RENEWALS, _LEAST_S), _SIGNAL_S)
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to renew the lease."""
        if not is_in_memory(self._engine.url):
            self._thread.start()

    def check(self) -> None:
        """Go on only as the owner.

        Raises:
            Fenced: A renewal has found another owner.
        """
        if self._lost:
            raise Fenced(self._epoch)

    def leave(self) -> None:
        """Leave the lease to commits, or to its end; a renewal that goes on may still happen."""
        self._over.set()

    def stop(self) -> None:
        """Leave the lease as `leave` does, and wait for a renewal that goes on."""
        self.leave()
        if self._thread.is_alive():
            self._thread.join(_END_S)  # one that hangs does no harm: its epoch is over, or is still ours

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            if not self._gets_on():
                continue
            try:
                renew(self._engine, self._epoch)
            except Fenced:
                self._lost = True
                return
            except StoreError as error:  # an outage: whoever restores meets it as well
                log.debug("lease.not_renewed", error=str(error))
