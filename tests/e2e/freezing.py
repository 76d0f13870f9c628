"""The daemon, unchanged, with a gate in front of its database, so that it can be frozen where no transaction is open.

    python -m tests.e2e.freezing run --config driftd.yaml

A process that is stopped in the middle of a transaction of SQLite keeps the lock, and nobody can take over before it
ends. SIGUSR2 waits until no connection is in use, keeps all threads from taking one, and logs `gate.closed`: then is
the time for SIGSTOP. A second SIGUSR2 opens the gate again.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from monitor.cli import main


class Gate:
    """Counts the connections in use; where it is closed there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_use = 0
        self._closed = False

    def enter(self, *_: Any) -> None:
        """A connection is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._in_use += 1

    def leave(self, *_: Any) -> None:
        """A connection is given back; its transaction is over."""
        with self._changed:
            self._in_use -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until no connection is in use, and give none any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_use)
            self._closed = True

    def open(self) -> None:
        """As before."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()


def obey(gate: Gate) -> None:
    """Close and open the gate in turn, at each SIGUSR2."""
    while True:
        signal.sigwait({signal.SIGUSR2})
        gate.close()
        sys.stderr.write(json.dumps({"event": "gate.closed"}) + "\n")
        sys.stderr.flush()
        signal.sigwait({signal.SIGUSR2})
        gate.open()


if __name__ == "__main__":
    gate = Gate()
    event.listen(Pool, "checkout", gate.enter)
    event.listen(Pool, "checkin", gate.leave)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    threading.Thread(target=obey, args=(gate,), name="gate", daemon=True).start()
    main(sys.argv[1:])
