"""The HTTP side: metrics, probes, the status document and a page for people.

Shell, a thread of its own. It reads what the worker published last and the liveness of its loop; it never
touches the core. Probes are named as Prometheus names its own.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from monitor.errors import ConfigError
from monitor.web.metrics import Telemetry
from monitor.web.page import render

log = structlog.get_logger(__name__)

STALE_S: Final = 60.0  # a loop that has not turned for so long is not alive
_TAKEN_S: Final = 1.0  # between two tries to listen where another process does
_CONTENT: Final = "text/plain; version=0.0.4; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}


def application(telemetry: Telemetry, status: Callable[[], Mapping[str, Any]]) -> FastAPI:
    """The routes."""
    app = FastAPI(title="driftd", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def _safe(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/metrics")
    def _metrics() -> Response:
        return Response(telemetry.scrape(), media_type=_CONTENT)

    @app.get("/-/healthy")
    def _healthy() -> Response:
        """Alive while the poll loop turns: Kafka or the database being away is no reason to be restarted."""
        age = telemetry.loop_age_s()
        if age < STALE_S:
            return PlainTextResponse("healthy\n")
        return PlainTextResponse(f"the poll loop has not turned for {age:.0f} s\n", 503)

    @app.get("/-/ready")
    def _ready() -> Response:
        if telemetry.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {telemetry.why_not}\n", 503)

    @app.get("/status")
    def _status() -> Response:
        return JSONResponse(dict(status()))

    @app.get("/")
    def _page() -> Response:
        return HTMLResponse(render(status(), telemetry.ready, telemetry.why_not))

    return app


class HttpServer:
    """Serves until `stop`. The port is known once `start` has returned, unless another process has it.

    A second daemon on one host, which waits for the first to end, waits for its port as well.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._stopping = threading.Event()
        self._listening: socket.socket | None = None
        self._host = host
        self.port = port

    def start(self) -> None:
        """Listen. Raises `ConfigError` where the address cannot be had, now or later."""
        try:
            self._listening = self._listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = f"cannot listen there: {error.strerror}; choose another address"
                raise ConfigError("http", f"{self._host}:{self.port}", why) from error
            log.warning("http.port_is_taken", host=self._host, port=self.port, detail="waiting until it is free")
        self._thread.start()

    def _listen(self) -> socket.socket:
        found = socket.getaddrinfo(self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0])
        self.port = listening.getsockname()[1]
        log.info("http.listening", host=self._host, port=self.port)
        return listening

    def _run(self) -> None:
        while self._listening is None:
            if self._stopping.wait(_TAKEN_S):
                return
            with suppress(OSError):
                self._listening = self._listen()
        self._server.run([self._listening])

    def stop(self) -> None:
        """Close; open requests get a moment."""
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join(5)
