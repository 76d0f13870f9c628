"""The HTTP server: metrics, probes, the status document and a page for people.

Shell, in a thread of its own. It reads the worker's latest snapshot and the age of its loop; it never accesses the
core. The probes have the same paths as those of Prometheus.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from monitor.clock import SYSTEM_CLOCK, Clock
from monitor.errors import AddressTaken, ConfigError
from monitor.pipeline.shown import opened
from monitor.web.impatient import ImpatientProtocol
from monitor.web.metrics import Telemetry
from monitor.web.page import render

log = structlog.get_logger(__name__)

STALE_S: Final = 60.0  # a poll loop that has not turned for this long is not alive
MOST_CONNECTIONS: Final = 64  # one more is answered with 503
_PROBES: Final = "/-/"
_TAKEN_S: Final = 1.0  # between two attempts to listen on a port that another process has
_SHUTDOWN_S: Final = 15.0  # a daemon that ends gives up the store at once, and its port once what waits is published
_REMIND_S: Final = 60.0  # between two lines of the log that nothing is served
_STEP_S: Final = 0.1
_CONTENT: Final = "text/plain; version=0.0.4; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}


def names_of(host: str, configured: Collection[str]) -> frozenset[str] | None:
    """Return the names by which a server may be asked, beside addresses and `localhost`; None for any.

    Args:
        host: The address that it listens on.
        configured: The names of the configuration.
    """
    if configured:
        return frozenset(map(_name, configured))
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
    return frozenset() if loopback else None


def application(
    telemetry: Telemetry, status: Callable[[], Mapping[str, Any]], names: Collection[str] | None = None
) -> FastAPI:
    """Create the application with its routes.

    Args:
        telemetry: Metrics, readiness and liveness of the daemon.
        status: Returns the status document.
        names: Names that the header Host may have, beside those that are always served; None for any.
    """
    # Redirects would repeat the Host that was sent.
    app = FastAPI(title="driftd", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.middleware("http")
    async def _safe(request: Any, call_next: Any) -> Any:
        is_probe = request.url.path.startswith(_PROBES)  # an orchestrator asks by whatever name it has
        if not (names is None or is_probe or _is_served(request.headers.get("host", ""), names)):
            return PlainTextResponse("this name is not served: see http.hosts\n", 421, _HEADERS)
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def route(path: str) -> Callable[[Callable[..., Response]], object]:
        return app.api_route(path, methods=["GET", "HEAD"])

    @route("/metrics")
    def _metrics() -> Response:
        return Response(telemetry.scrape(), media_type=_CONTENT)

    @route("/-/healthy")
    def _healthy() -> Response:
        """Succeed while the poll loop turns: a restart would not help against an outage of Kafka or the database."""
        age = telemetry.loop_age_s()
        if age < STALE_S:
            return PlainTextResponse("healthy\n")
        return PlainTextResponse(f"the poll loop has not turned for {age:.0f} s\n", 503)

    @route("/-/ready")
    def _ready() -> Response:
        if telemetry.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {telemetry.why_not}\n", 503)

    @route("/status")
    def _status() -> Response:
        return JSONResponse(opened(status()))

    @route("/")
    def _page(model: str | None = None) -> Response:
        return HTMLResponse(render(status(), telemetry.ready, telemetry.why_not_for_people, telemetry.vitals(), model))

    return app


def _name(host: str) -> str:
    """Return the name in a header Host, without the port and the dot of the root."""
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() and name else host).lower().removesuffix(".")


def _is_served(host: str, names: Collection[str]) -> bool:
    """Return whether to answer a header Host.

    A page of a browser reads this server under a name of its own, which it has pointed here. A client that sends an
    address, or no name at all, is no such page.
    """
    name = _name(host)
    if name in {"", "localhost"} or name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class HttpServer:
    """Serves an application in a thread until `stop`.

    `port` is final once `start` has returned, unless another process has it and that is allowed: a second daemon on a
    host, which waits for the first one to end, also waits for its port. `grace_s` is how long a port may be taken by
    nobody knows whom: as long as a daemon takes to end. `retry_s` is the time between attempts in the background.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        grace_s: float = _SHUTDOWN_S,
        clock: Clock = SYSTEM_CLOCK,
        retry_s: float = _TAKEN_S,
    ) -> None:
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", access_log=False, lifespan="off", http=ImpatientProtocol,
            ws="none", limit_concurrency=MOST_CONNECTIONS, server_header=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._stopping = threading.Event()
        self._listening: socket.socket | None = None
        self._may_wait: Callable[[], bool] = lambda: False
        self._host, self._grace_s, self._clock, self._retry_s = host, grace_s, clock, retry_s
        self.port = port

    def start(self, may_wait: Callable[[], bool] = lambda: False) -> None:
        """Listen, or wait in the background until the port is free.

        Args:
            may_wait: Called several times while another process has the port; whether it is one to wait for.

        Raises:
            AddressTaken: Another process has the port, and `may_wait` has not said for `grace_s` that it may.
            ConfigError: The address cannot be used.
        """
        self._may_wait, began = may_wait, self._clock.monotonic()
        while not self._try_to_listen():
            if may_wait():
                log.warning("http.port_is_taken", host=self._host, port=self.port, detail="waiting until it is free")
                break
            if self._clock.monotonic() - began > self._grace_s:
                raise AddressTaken(self._host, self.port)
            self._clock.sleep(_STEP_S)  # the other one may be about to end, or to own the store: two that begin at once
        self._thread.start()

    def _try_to_listen(self) -> bool:
        try:
            self._listening = self._listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            why = f"cannot listen there: {error.strerror}; choose another address"
            raise ConfigError("http", f"{self._host}:{self.port}", why) from error
        return True

    def _listen(self) -> socket.socket:
        found = socket.getaddrinfo(self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0])
        self.port = listening.getsockname()[1]
        log.info("http.listening", host=self._host, port=self.port)
        return listening

    def _run(self) -> None:
        remind_at = None
        while self._listening is None:
            if self._stopping.wait(self._retry_s):
                return
            with suppress(OSError):
                self._listening = self._listen()
                break
            remind_at = self._remind(remind_at)
        self._server.run([self._listening])

    def _remind(self, at: float | None) -> float | None:
        """Tell that nothing is served, once nobody is left whose port it may be. Returns when to tell next."""
        now = self._clock.monotonic()
        if self._may_wait():
            return None
        if at is None:
            return now + self._grace_s
        if now < at:
            return at
        detail = (
            "metrics, probes and the page are not served: end the process that listens there, or choose another port"
        )
        log.error("http.port_is_not_freed", host=self._host, port=self.port, detail=detail)
        return now + _REMIND_S

    def stop(self) -> None:
        """Stop serving; open requests have up to five seconds to finish."""
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join(5)
