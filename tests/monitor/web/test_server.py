"""The HTTP server: who may ask it, how, and how many at once."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from monitor.errors import AddressTaken
from monitor.web.impatient import ImpatientProtocol
from monitor.web.metrics import Telemetry
from monitor.web.server import MOST_CONNECTIONS, HttpServer, application, names_of
from tests.monitor.service.stepping import SteppedClock

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    server = HttpServer(application(Telemetry(), dict, names_of(HOST, [])), HOST, 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def named() -> Iterator[HttpServer]:
    server = HttpServer(application(Telemetry(), dict, names_of("0.0.0.0", ["driftd.example.org"])), HOST, 0)
    server.start()
    yield server
    server.stop()


def ask(server: HttpServer, path: str, method: str = "GET", host: str | None = None) -> httpx.Response:
    headers = {} if host is None else {"Host": host}
    return httpx.request(method, f"http://{HOST}:{server.port}{path}", headers=headers)


@pytest.mark.parametrize("path", ["/", "/metrics", "/status", "/-/healthy", "/-/ready"])
def test_head_is_answered_like_get_without_the_text(server: HttpServer, path: str) -> None:
    head, get = ask(server, path, "HEAD"), ask(server, path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


LOCAL = ["localhost", "localhost:9464", "127.0.0.1:9464", "[::1]:9464", "LOCALHOST.", "10.1.2.3:9464", "[fd00::1]", ""]


@pytest.mark.parametrize("host", LOCAL)
def test_on_a_loopback_address_it_answers_to_the_names_of_this_machine(server: HttpServer, host: str) -> None:
    assert ask(server, "/metrics", host=host).status_code == 200


@pytest.mark.parametrize("host", [*LOCAL, "driftd.example.org", "Driftd.example.org.:9464"])
def test_configured_names_are_served_beside_addresses_and_this_machine(named: HttpServer, host: str) -> None:
    assert ask(named, "/metrics", host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "10.1.2.3.evil.example", "0x7f.1", "1", "[::1", ":9464:"])
def test_other_names_are_not_served(named: HttpServer, host: str) -> None:
    assert ask(named, "/metrics", host=host).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "driftd.monitoring.svc:9464", "evil.example", ""])
def test_probes_are_served_by_any_name(named: HttpServer, host: str) -> None:
    assert ask(named, "/-/healthy", host=host).status_code == 200
    assert ask(named, "/-/ready", host=host).status_code == 503  # it has not begun


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "localhost.evil.example"])
def test_and_to_no_other_name(server: HttpServer, host: str) -> None:
    refused = ask(server, "/status", host=host)

    assert refused.status_code == 421
    assert "http.hosts" in refused.text


def test_which_names_are_served_follows_the_address_and_the_configuration() -> None:
    assert names_of("0.0.0.0", []) is None
    assert names_of("driftd.internal", []) is None
    assert names_of("0.0.0.0", ["Driftd.example"]) == frozenset({"driftd.example"})
    assert names_of("0.0.0.0", ["driftd.example.:9464"]) == frozenset({"driftd.example"})
    assert names_of("::1", []) == frozenset()


@pytest.mark.parametrize("path", ["/status/", "//evil.example/", "/metrics/"])
def test_nothing_is_redirected(server: HttpServer, path: str) -> None:
    answer = ask(server, path, host="localhost")

    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_connections_beyond_the_limit_are_answered_with_503(server: HttpServer) -> None:
    held = [socket.create_connection((HOST, server.port)) for _ in range(MOST_CONNECTIONS)]
    try:
        assert ask(server, "/metrics").status_code == 503
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_that_is_malformed_is_refused_without_a_traceback(
    server: HttpServer, caplog: pytest.LogCaptureFixture, method: bytes
) -> None:
    """The application answers a request while its body is being read."""
    sent = method + b" /status HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n"
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)  # uvicorn hands nothing on
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(sent)
        assert connection.recv(12) == b"HTTP/1.1 400"
        while connection.recv(1 << 16):
            pass

    assert ask(server, "/-/healthy").status_code == 200
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_a_port_that_is_freed_in_time_is_waited_for() -> None:
    """Of a daemon that has released its store and publishes what waits."""
    with socket.create_server((HOST, 0)) as other:
        server = HttpServer(application(Telemetry(), dict), HOST, other.getsockname()[1])
        waited = threading.Timer(0.5, other.close)
        waited.start()
        server.start()

    assert ask(server, "/-/healthy").status_code == 200
    server.stop()


def test_a_port_of_nobody_known_is_waited_for_only_so_long() -> None:
    with socket.create_server((HOST, 0)) as other:
        clock = SteppedClock()
        server = HttpServer(application(Telemetry(), dict), HOST, other.getsockname()[1], clock=clock)
        with pytest.raises(AddressTaken):
            server.start()
    assert clock.monotonic() == pytest.approx(15.0, abs=0.2)


def test_it_says_so_where_the_owner_is_gone_and_the_port_is_still_taken() -> None:
    owned = threading.Event()
    with socket.create_server((HOST, 0)) as other, capture_logs() as told:
        server = HttpServer(application(Telemetry(), dict), HOST, other.getsockname()[1], grace_s=0.2, retry_s=0.05)
        server.start(lambda: not owned.is_set())
        time.sleep(0.2)  # some attempts
        before = [line["event"] for line in told]
        owned.set()
        deadline = time.monotonic() + 20
        while told[-1]["event"] != "http.port_is_not_freed" and time.monotonic() < deadline:
            time.sleep(0.05)

    assert before == ["http.port_is_taken"]
    assert (told[-1]["log_level"], told[-1]["port"]) == ("error", server.port)
    server.stop()


class Hasty(ImpatientProtocol):
    """Waits a fifth of a second."""

    header_s = 0.2


def test_a_connection_whose_header_never_ends_is_closed() -> None:
    listening = socket.create_server((HOST, 0))
    config = uvicorn.Config(application(Telemetry(), dict), http=Hasty, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    with socket.create_connection(listening.getsockname(), timeout=20) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: loc")
        assert connection.recv(1) == b""
    with socket.create_connection(listening.getsockname(), timeout=20) as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        end = time.monotonic() + 20
        while connection.recv(1 << 16) and time.monotonic() < end:
            pass
        assert time.monotonic() < end
    server.should_exit = True
    thread.join(5)
