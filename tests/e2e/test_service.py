"""The daemon as a service: signals, systemd, exit codes, and complaints that say what to do."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import auditor, workload
from tests.e2e.auditor import query
from tests.e2e.place import FilePlace, KafkaPlace, Place
from tests.servers.kafka import Cluster
from tests.servers.postgres import Postgres

AWAY, CONFIGURATION = 75, 78
GRACE_S = 28.0  # how long an end may take while a dependency is away; systemd waits for 30 s
LINES = workload.Workload(seed=51, seconds=400).lines()


@pytest.fixture
def place(file_place: FilePlace) -> FilePlace:
    file_place.configure(workload.models(drift=False))
    file_place.produce(LINES)
    return file_place


def read_the_rest(place: Place) -> list[str]:
    """Another daemon finishes the work. -> what is not as it must be."""
    with place.daemon(name="next") as daemon:
        daemon.until_read(len(place.written))
        assert daemon.stop() == 0
    return auditor.differences(auditor.recount(place.written, place.inputs), place.found())


@contextmanager
def locked(place: FilePlace) -> Iterator[None]:
    """Within it another process has the database."""
    path = place.store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


# -- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_committed_and_published(place: FilePlace, number: signal.Signals) -> None:
    """In the middle of its work, and as its own interpreter."""
    with place.daemon(fresh=True) as daemon:
        daemon.until_ready()
        daemon.signal(number)
        assert daemon.ended() == 0

    ((owner, positions, totals),) = query(place.store_url, "SELECT owner, positions, totals FROM shard")
    read = sum(offset for _, _, offset, _ in json.loads(positions))
    assert owner is None
    assert read == json.loads(totals)["events"]["read"]
    assert query(place.store_url, "SELECT count(*) FROM outbox") == [(0,)]
    assert read_the_rest(place) == []


def test_what_was_read_before_the_signal_is_not_read_again(place: FilePlace) -> None:
    with place.daemon() as daemon:
        daemon.until_read(len(LINES))
        assert daemon.stop() == 0

    with place.daemon(name="next") as daemon:
        daemon.until_ready().until_published()
        assert daemon.metric("driftd_records_read_total") == len(LINES)
        assert daemon.stop() == 0

    assert auditor.differences(auditor.recount(place.written, place.inputs), place.found()) == []


def test_a_second_signal_ends_it_at_once(place: FilePlace) -> None:
    """The first one waits for the database, which another process has."""
    with place.daemon() as daemon:
        daemon.until_ready()
        with locked(place):
            daemon.until_not_ready()
            daemon.signal(signal.SIGTERM)
            with pytest.raises(AssertionError):
                daemon.ended(1.0)
            daemon.signal(signal.SIGTERM)
            assert daemon.ended(GRACE_S) == 128 + signal.SIGTERM

    assert read_the_rest(place) == []


def test_a_signal_while_the_database_is_locked_ends_it_soon_and_loses_nothing(place: FilePlace) -> None:
    with place.daemon() as daemon:
        daemon.until_ready()
        with locked(place):
            daemon.until_not_ready()
            assert daemon.stop(GRACE_S) == AWAY
        assert len(daemon.logged("worker.not_committed")) == 1

    assert read_the_rest(place) == []


@pytest.mark.postgres
def test_a_signal_while_the_database_hangs_ends_it_soon_and_loses_nothing(
    tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    place = FilePlace(tmp_path, postgres_url)
    place.configure(workload.models(drift=False))
    with place.daemon() as daemon:
        daemon.until_ready()
        postgres.freeze()
        try:
            place.produce(LINES)
            daemon.until_not_ready()
            assert daemon.stop(GRACE_S) == AWAY
        finally:
            postgres.thaw()

    assert read_the_rest(place) == []


@pytest.mark.kafka
def test_a_signal_while_the_broker_hangs_ends_it_soon_and_loses_nothing(
    kafka_place: KafkaPlace, kafka: Cluster
) -> None:
    """The state is committed, so it is a good end; what could not be published waits in the database."""
    kafka_place.configure(workload.models(drift=False))
    kafka_place.produce(LINES[: len(LINES) // 2])
    with kafka_place.daemon() as daemon:
        daemon.until_read(len(LINES) // 2)
        kafka.nodes[0].freeze()
        try:
            daemon.until_not_ready()
            assert daemon.stop(GRACE_S) == 0
        finally:
            kafka.nodes[0].thaw()

    kafka_place.produce(LINES[len(LINES) // 2 :])
    assert read_the_rest(kafka_place) == []


def test_a_signal_while_it_waits_to_begin_ends_it_well(place: FilePlace) -> None:
    shutil.rmtree(place.stream)
    with place.daemon() as daemon:
        daemon.until(lambda: "missing topics" in (daemon.why_not_ready or ""), "it waits")
        assert daemon.stop() == 0


# -- systemd -----------------------------------------------------------------------------------------------


class Manager:
    """Listens as systemd does."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.05)
        self.heard: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        """All messages until now."""
        while True:
            try:
                text = self._socket.recv(4_096).decode()
            except TimeoutError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    def has_heard(self, name: str) -> bool:
        return any(name in message for message in self.listen())

    def close(self) -> None:
        self._socket.close()

    def environment(self, watchdog_s: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="driftd-") as directory, closing(Manager(Path(directory))) as manager:
        yield manager


def test_systemd_hears_that_it_is_ready_that_it_lives_and_that_it_stops(place: FilePlace, manager: Manager) -> None:
    with place.daemon(environment=manager.environment(2.0)) as daemon:
        daemon.until_read(len(LINES))
        daemon.until(lambda: sum("WATCHDOG" in m for m in manager.listen()) >= 3, "the watchdog is fed")
        assert daemon.stop() == 0

    first, *rest = [m for m in manager.listen() if "READY" in m or "STOPPING" in m]
    assert first["READY"] == "1"
    assert rest
    assert all(m["STOPPING"] == "1" for m in rest)
    assert any("records read" in m.get("STATUS", "") for m in manager.heard)


def test_systemd_hears_nothing_of_ready_before_it_is(place: FilePlace, manager: Manager) -> None:
    """It asks for more time instead."""
    shutil.rmtree(place.stream)
    with place.daemon(environment=manager.environment(2.0)) as daemon:
        daemon.until(lambda: manager.has_heard("EXTEND_TIMEOUT_USEC"), "it asks for time")
        assert not manager.has_heard("READY")
        assert place.driftd("topics", "--create").code == 0
        daemon.until(lambda: manager.has_heard("READY"), "it is ready")


def test_the_watchdog_is_fed_while_the_database_is_locked(place: FilePlace, manager: Manager) -> None:
    with place.daemon(environment=manager.environment(2.0)) as daemon:
        daemon.until_read(len(LINES))
        with locked(place):
            daemon.until_not_ready()
            before = len(manager.listen())
            daemon.until(lambda: len(manager.listen()) >= before + 3, "the watchdog is fed")
            assert not daemon.is_ready


# -- configuration -----------------------------------------------------------------------------------------


def test_an_address_of_another_host_is_named(place: FilePlace) -> None:
    place.configure(http={"host": "203.0.113.1"})
    with place.daemon() as daemon:
        assert daemon.ended() == CONFIGURATION
    assert "http: '203.0.113.1:0': cannot listen there" in daemon.log_path.read_text()


@pytest.mark.parametrize(("configured", "listens"), [({}, "127.0.0.2"), ({"host": "127.0.0.3"}, "127.0.0.3")])
def test_the_address_of_the_environment_is_taken_where_none_is_configured(
    file_place: FilePlace, configured: dict[str, str], listens: str
) -> None:
    file_place.configure(http=configured)

    with file_place.daemon(environment={"DRIFTD_HTTP_HOST": "127.0.0.2"}) as daemon:
        reached = []
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            with suppress(OSError), socket.create_connection((host, daemon.port), timeout=10):
                reached.append(host)

    assert reached == [listens]


def test_a_bad_configuration_is_told_whole(place: FilePlace) -> None:
    path = place.directory / "driftd.yaml"
    config: dict[str, Any] = json.loads(path.read_text())
    config["stream"]["lateness"] = "soon"
    config["store"]["leese"] = "3s"
    config["models"]["prices"]["window"]["span"] = "7s"
    config["models"]["clicks"]["rules"][0]["metric"] = "eror_rate"
    path.write_text(json.dumps(config))

    with place.daemon(fresh=True) as daemon:
        assert daemon.ended() == CONFIGURATION

    told = daemon.log_path.read_text()
    for place_of_error in ("stream.lateness", "store.leese", "models.prices.window", "models.clicks.rules"):
        assert place_of_error in told
    assert "lease" in told


def test_a_store_that_holds_something_newer_is_refused(place: FilePlace) -> None:
    with place.daemon() as daemon:
        daemon.until_ready()
        assert daemon.stop() == 0
    path = place.store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with place.daemon(name="older") as daemon:
        assert daemon.ended() == CONFIGURATION

    assert "install the newer release" in daemon.log_path.read_text()


def test_a_store_whose_state_is_damaged_is_refused(place: FilePlace) -> None:
    """Rather than begun anew, or read as if nothing were wrong."""
    with place.daemon() as daemon:
        daemon.until_read(len(LINES))
        assert daemon.stop() == 0
    path = place.store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("join_segment", "join_closed"):
            damaged = "CAST(substr(body, 1, length(body) - 4) || 'rust' AS BLOB)"
            connection.execute(f"UPDATE {table} SET body = {damaged}")

    with place.daemon(name="next") as daemon:
        assert daemon.ended() == CONFIGURATION

    assert "restore it from a backup" in daemon.log_path.read_text()


def test_a_reference_that_cannot_be_read_is_named(place: FilePlace) -> None:
    place.configure(workload.models())
    (place.directory / "reference.csv").unlink()

    with place.daemon() as daemon:
        assert daemon.ended() == 65

    assert "reference.csv" in daemon.log_path.read_text()


# -- beside each other ---------------------------------------------------------------------------------------


def test_a_daemon_whose_port_somebody_else_has_does_not_start(file_place: FilePlace) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        file_place.configure(workload.models(drift=False), http={"port": port})
        with file_place.daemon() as daemon:
            assert daemon.ended() == AWAY
            assert f"http.port: 127.0.0.1:{port}: another process listens there" in daemon.told()


def test_a_standby_waits_for_the_port_of_the_owner(file_place: FilePlace) -> None:
    """It was started from the same configuration, as the owner was."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    file_place.configure(workload.models(drift=False), http={"port": port})
    with file_place.daemon(name="owner") as owner:
        owner.until_ready()
        with file_place.daemon(name="standby") as standby:
            standby.until(lambda: len(standby.logged("http.port_is_taken")) == 1, "it waits")
            assert owner.stop() == 0
            standby.until_ready()
            assert standby.stop() == 0


def test_a_daemon_that_was_frozen_takes_nothing_for_late_that_came_meanwhile(file_place: FilePlace) -> None:
    """Partitions at whose end it stood are not idle: it has not looked for a long time."""
    lines = workload.Workload(seed=9, seconds=60).lines()
    half = len(lines) // 2
    file_place.configure(workload.models(drift=False), stream={"idle_after": "5s"}, store={"lease": "1m"})
    file_place.produce(lines[:half])
    with file_place.daemon() as daemon:
        daemon.until_read(half)
        daemon.freeze()
        file_place.produce(lines[half:])
        time.sleep(6)
        daemon.thaw()

        daemon.until_read(len(lines))
        assert daemon.metric("driftd_late_predictions_total") == 0
        assert daemon.stop() == 0


def test_a_topic_that_is_not_configured_any_more_is_not_asked_for(file_place: FilePlace) -> None:
    lines = workload.Workload(seed=9, seconds=30).lines()
    file_place.configure(workload.models(drift=False))
    file_place.produce(lines)
    with file_place.daemon() as daemon:
        daemon.until_read(len(lines))
        assert daemon.stop() == 0
    gone, kept = file_place.events
    (file_place.stream / f"{gone}.jsonl").unlink()
    file_place.configure(workload.models(drift=False), stream={"events": [kept]})

    with file_place.daemon() as daemon:
        daemon.until_ready()
        ready_until = time.monotonic() + 4  # longer than it takes to ask where partitions end
        while time.monotonic() < ready_until:
            assert daemon.is_ready, daemon.why_not_ready
            time.sleep(0.2)
        assert daemon.stop() == 0
