"""Requests that no browser sends: the HTTP server answers or closes, and answers the next one that is in order."""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from monitor.web.metrics import Telemetry
from monitor.web.server import HttpServer, application, names_of
from tests.e2e import odd
from tests.e2e.odd import Fault

HOST: Final = "127.0.0.1"
TRIES: Final = 60
PATIENCE_S: Final = 5.0
PAUSE_S: Final = 0.2  # for an answer that need not come
METHODS: Final = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "FOO", "get", "", " ", "G\0T",
    "PRI * HTTP/2.0", "x" * 5_000,
)  # fmt: skip
TARGETS: Final = (
    "/", "/metrics", "/status", "/-/healthy", "/-/ready", "/-/reload", "/../../etc/passwd", "/%2e%2e/etc/passwd", "//",
    "/%00", "/%ff%fe", "/metrics/", "*", "", "http://evil.example/status", "/status?" + "a" * 60_000,
    "/" + "a" * 70_000, "/<script>", "/\x1b[2J", "/\u00e9", "/docs", "/openapi.json", "/-/../status", "/;a", "/#",
)  # fmt: skip
HOSTS: Final = (
    "localhost", "127.0.0.1", "[::1]:9464", "evil.example", "", "localhost:99999", "[", "[::1", "@localhost", "a b",
    "localhost, evil.example", "\0", "x" * 9_000, "localhost\r\nHost: evil.example",
)  # fmt: skip
HEADERS: Final = (
    "Content-Length: -5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: chunked\r\n\r\nZZ", "Expect: 100-continue",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13", ": x", "X\0: y",
    "Connection: close", "Range: bytes=0-10", "Accept-Encoding: gzip, br, \0", "X: " + "a" * 200_000, " folded", "X",
    "".join(f"X{i}: a\r\n" for i in range(2_000)), "Authorization: Basic !!!", "Cookie: " + ";" * 5_000,
)  # fmt: skip
GARBAGE: Final = (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(50), b"\0" * 1_000, b"\r\n" * 1_000, b"\xff" * 99)
ORDERLY: Final = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class _Complaints(logging.Handler):
    """Keeps what the server logs of exceptions."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(record.getMessage())


@contextmanager
def served() -> Iterator[tuple[HttpServer, _Complaints]]:
    """A server as the daemon has it, and what it complains of."""
    complaints = _Complaints()
    server = HttpServer(application(Telemetry(), dict, names_of(HOST, [])), HOST, 0)
    server.start()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(complaints)
    try:
        yield server, complaints
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
        server.stop()


def request(chance: random.Random) -> tuple[str, bytes]:
    """What is sent, and the kind of it."""
    if chance.random() < 0.1:
        return "garbage", chance.choice(GARBAGE)
    method, target, host = chance.choice(METHODS), chance.choice(TARGETS), chance.choice(HOSTS)
    version = chance.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "HTTP/", ""])
    headers = [f"Host: {host}"] * chance.choice([1, 1, 1, 0, 2])
    headers += chance.sample(HEADERS, chance.choice([0, 1, 1, 2]))
    text = "\r\n".join([f"{method} {target} {version}", *headers, "", ""]).encode()
    if chance.random() < 0.2:
        return "damaged", odd.damaged(chance, text)
    if chance.random() < 0.2:
        return "pipelined", text * chance.choice([2, 50]) if len(text) < 2_000 else text
    return method if method in METHODS[:9] else "another method", text


def a_round(chance: random.Random, folder: Path) -> tuple[Counter[str], list[Fault]]:
    """Some requests at one server, slow clients beside them, and one that is in order after each."""
    tried: Counter[str] = Counter()
    faults: list[Fault] = []
    with served() as (server, complaints), ExitStack() as slow:
        for _ in range(TRIES):
            kind, sent = request(chance)
            tried[kind] += 1
            with odd.caught(faults, sent):
                if chance.random() < 0.1:
                    tried["slow clients"] += 1
                    client = slow.enter_context(socket.create_connection((HOST, server.port), PATIENCE_S))
                    with suppress(OSError):
                        client.sendall(sent[: chance.randrange(1, min(len(sent), 40) + 1)])
                _provoke(server.port, sent, hang_up=chance.random() < 0.2)
                answer = _ask(server.port, ORDERLY)
                assert answer.startswith(b"HTTP/1.1 200"), f"afterwards a request is answered with {answer[:80]!r}"
                assert not complaints.found, f"logged: {complaints.found[-1][:300]}"
            if faults:
                break
    return tried, faults


def _provoke(port: int, sent: bytes, *, hang_up: bool) -> None:
    """Send something, and take what comes for a moment."""
    with socket.create_connection((HOST, port), PATIENCE_S) as client, suppress(OSError):
        client.sendall(sent)
        if hang_up:
            return
        client.settimeout(PAUSE_S)
        answer = client.recv(65_536)
        assert not answer or answer.startswith(b"HTTP/1."), f"answered with {answer[:80]!r}"
        assert b"Traceback" not in answer, "answered with a traceback"
        assert b"evil.example" not in answer, "a Host that was sent is repeated"


def _ask(port: int, sent: bytes) -> bytes:
    """What is answered to a request that is in order."""
    answer = b""
    with socket.create_connection((HOST, port), PATIENCE_S) as client:
        client.sendall(sent)
        while part := client.recv(65_536):
            answer += part
    return answer
