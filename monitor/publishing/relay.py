"""The relay: delivers committed messages to every destination until they are acknowledged or given up.

Shell, a thread for each destination. Only committed messages are in the outbox, so nothing leaves that a crash could
undo; what was sent and not yet deleted is sent again with the same ids. Destinations do not wait for each other, and
only the essential one, the stream, may hold up reading.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy.engine import Engine

from monitor.alerting.daemon import DaemonAlerts
from monitor.alerting.records import AlertRecord
from monitor.errors import StoreError
from monitor.publishing.backoff import Clocks
from monitor.publishing.destinations.base import Destination
from monitor.publishing.heartbeat import Heartbeat
from monitor.publishing.loop import IDLE_S, DeliveryLoop, DeliveryState
from monitor.publishing.outbox import remove_others
from monitor.store.subscriptions import trouble_with

log = structlog.get_logger(__name__)

_LAST_SEND_S: Final = 2.0  # beyond the time to drain, for what is on its way
_MOST_REPORTS: Final = 1_000


class Relay:
    """Runs a `DeliveryLoop` for each destination: `start` it, `wake` it after a commit, `stop` it.

    Args:
        engine: The store.
        destinations: Where messages go; firing alerts are repeated to those that are essential.
        heartbeat_s: Time between two repeats of a firing alert, seconds.
        clocks: What time it is.
    """

    def __init__(
        self, engine: Engine, destinations: Sequence[Destination], heartbeat_s: float, clocks: Clocks | None = None
    ) -> None:
        self._engine = engine
        self._clocks = clocks or Clocks()
        self._reports: deque[tuple[str, str | None]] = deque(maxlen=_MOST_REPORTS)
        self._threads = [
            _DeliveryThread(
                DeliveryLoop(
                    engine,
                    destination,
                    lambda name, trouble: self._reports.append((name, trouble)),
                    Heartbeat(engine, heartbeat_s, self._clocks.monotonic) if destination.policy.essential else None,
                    self._clocks,
                ),
                self._clocks,
            )
            for destination in destinations
        ]
        self._essential = [thread.loop for thread in self._threads if thread.essential]

    # -- what the worker goes by ---------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Messages that wait for an essential destination: beyond a limit, reading waits."""
        return sum(loop.depth for loop in self._essential)

    @property
    def published(self) -> int:
        """Messages that essential destinations have acknowledged."""
        return sum(loop.state.delivered for loop in self._essential)

    @property
    def failing(self) -> bool:
        """Whether an essential destination takes nothing."""
        return any(loop.state.failing for loop in self._essential)

    @property
    def last_error(self) -> str | None:
        """Why an essential destination takes nothing."""
        return next((loop.state.last_error for loop in self._essential if loop.state.failing), None)

    def states(self) -> Mapping[str, DeliveryState]:
        """Return how each destination is doing, by name."""
        return {thread.loop.destination.name: thread.loop.state for thread in self._threads}

    def reports(self, alerts: DaemonAlerts, now: int) -> list[AlertRecord]:
        """Turn into alerts what happened since the last call: messages were given up, or are taken again.

        What happens between this and a crash is in the log only.

        Args:
            alerts: Alerts about the daemon itself.
            now: Their time, ms.

        Returns:
            Records for the next commit.
        """
        records: list[AlertRecord | None] = []
        while self._reports:
            name, trouble = self._reports.popleft()
            if trouble is None:
                resumed = f"destination {name} takes messages again"
                records.append(alerts.resolve(trouble_with(name).name, resumed, now))
            else:
                records.append(alerts.fire(trouble_with(name).name, f"destination {name}: {trouble}", now))
        return [record for record in records if record is not None]

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; nothing is delivered before `set_epoch`."""
        for thread in self._threads:
            thread.start()

    def set_epoch(self, epoch: int | None) -> None:
        """Set the epoch under which the store is ours.

        Args:
            epoch: None: the store is not ours, and nothing is delivered.
        """
        for thread in self._threads:
            thread.set_epoch(epoch)
        self._reports.clear()  # what an earlier ownership had to say is over with it
        if epoch is not None:
            self._remove_unconfigured(epoch)

    def wake(self, messages: int) -> None:
        """Take note that so many messages were committed."""
        for thread in self._threads:
            thread.wake(messages)

    def stop(self, drain_s: float) -> None:
        """End all threads. Essential destinations have some time for what is left.

        Args:
            drain_s: How much time, seconds.
        """
        deadline = self._clocks.monotonic() + drain_s
        for thread in self._threads:
            thread.stop(deadline)
        for thread in self._threads:
            if thread.essential:
                thread.ended(max(deadline - self._clocks.monotonic(), 0.0) + _LAST_SEND_S)
        deadline = self._clocks.monotonic() + _LAST_SEND_S  # of all others together
        for thread in self._threads:
            if not thread.essential:
                thread.ended(max(deadline - self._clocks.monotonic(), 0.0))

    def drain(self) -> None:
        """Deliver everything to essential destinations, in the caller's thread; for a replay.

        Raises:
            DriftdError: Something could not be delivered.
        """
        for loop in self._essential:
            loop.drain()

    def close(self) -> None:
        """Close the destinations of a relay that was never started."""
        for thread in self._threads:
            thread.loop.destination.close()

    def _remove_unconfigured(self, epoch: int) -> None:
        """Delete what waits for destinations that were taken out of the configuration; nobody would ever send it."""
        names = [thread.loop.destination.name for thread in self._threads]
        try:
            removed = remove_others(self._engine, names, epoch)
        except StoreError as error:  # left for the next start
            log.warning("relay.not_tidied", error=str(error))
            return
        for name, count in removed.items():
            log.warning("relay.destination_removed", destination=name, messages=count)


class _DeliveryThread:
    """Turns a loop in a thread of its own, under the owner's epoch."""

    def __init__(self, loop: DeliveryLoop, clocks: Clocks) -> None:
        self.loop = loop
        self.essential = loop.destination.policy.essential
        self._clocks = clocks
        self._epoch: int | None = None  # of the owner that we are; None: deliver nothing
        self._deadline: float | None = None  # to end by, once that is asked for
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay {loop.destination.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def set_epoch(self, epoch: int | None) -> None:
        self._epoch = epoch
        self._awake.set()

    def wake(self, messages: int) -> None:
        # Who wants which of them is known to the table only: others than the stream count when they look.
        if self.essential:
            self.loop.committed(messages)
        self._awake.set()

    def stop(self, deadline: float) -> None:
        self._deadline = deadline
        self._awake.set()

    def ended(self, timeout_s: float) -> None:
        """Wait for the end. A thread that is stuck in a call ends with the process."""
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self.loop.destination.close()

    def _run(self) -> None:
        while True:
            self._awake.clear()
            deadline, epoch = self._deadline, self._epoch
            if deadline is not None:
                self.loop.hurry()
            wait_s = IDLE_S if epoch is None else self.loop.step(epoch)
            if deadline is not None and self._is_done(wait_s, deadline):
                return
            if wait_s:
                self._awake.wait(wait_s)

    def _is_done(self, wait_s: float, deadline: float) -> bool:
        """Whether nothing is left that is worth the time until the deadline."""
        if self._clocks.monotonic() > deadline or self._epoch is None:
            return True
        return wait_s > 0 and not (self.essential and self.loop.state.failing)
