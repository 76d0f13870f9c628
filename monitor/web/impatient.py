"""A protocol for uvicorn that does not wait for ever for the header of a request.

Shell. Whoever opens connections and sends their requests a byte at a time would else hold all that there are.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S: Final = 10.0  # within which the header of a request must be whole


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no request has been completed for `header_s` seconds."""

    header_s: float = HEADER_S
    _since: float = 0.0
    _check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request whose body is malformed; whatever the application answers it later goes nowhere."""
        cycle = self.cycle
        begun = cycle is not None and cycle.response_started and not cycle.response_complete
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if begun:  # half of an answer cannot become another one
            self.transport.close()
            return
        try:
            super().send_400_response(msg)
        except LocalProtocolError:  # the connection is past answering
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.loop.time() - self._since >= self.header_s:
            self.transport.close()
            return
        self._check = self.loop.call_later(self.header_s / 10, self._look)
