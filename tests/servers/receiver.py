"""A receiver of webhooks: a real HTTP server in a thread, which answers as the test says and keeps what came."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

KEY: Final = b"0123456789abcdef0123456789abcdef"
SECRET: Final = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True, slots=True)
class Request:
    """What came: the path, headers by lower-case name, the body."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, key: bytes) -> bool:
        """Whether one of its signatures is that of a key; after the specification, not with the code under test."""
        text = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return any(s == f"v1,{wanted}" for s in self.headers["webhook-signature"].split(" "))


class Receiver:
    """Answers 200, or what was put into `answers`: (status, headers), one for each request.

    As a context it listens; `outage` closes its port for a while.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: deque[tuple[int, Mapping[str, str]]] = deque()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[str]:
        """Ids of what came, in order; repeats are there as often as they came."""
        return [request.id for request in self.requests]

    def answer(self, *statuses: int, **headers: str) -> None:
        """Answer the next requests like this; headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.extend((status, named) for status in statuses)

    def listen(self) -> None:
        """Begin; on the port of before, if there was one."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, headers, body))
                status, more = receiver.answers.popleft() if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Within it nobody listens."""
        self.close()
        try:
            yield
        finally:
            self.listen()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
