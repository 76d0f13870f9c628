"""Processes of driftd for tests: the daemon and its commands, started, watched, signalled and killed.

Every process is a real one that runs `python -m monitor` with arguments, in a directory of its own choice. By
default it is forked from a server that has imported the modules already; `fresh` starts an interpreter.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parents[2]
WAIT_S: Final = 120.0  # without progress; generous: it only costs time where something is wrong
_STEP_S: Final = 0.03
_SHOWN: Final = 6_000  # characters of a log, at a failure

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.e2e.warm"])


class Trouble(AssertionError):
    """A process did not do what it was waited for. Carries the end of its log."""


class Running(Protocol):
    """A process, however it was made."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Its exit code, minus the number of the signal that killed it; None while it runs."""
        ...


class _Forked:
    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode


@dataclass(frozen=True, slots=True)
class _Start:
    """What a forked process has to become."""

    module: str
    arguments: tuple[str, ...]
    directory: str
    out: str
    err: str
    environment: Mapping[str, str]


def _become(start: _Start) -> None:
    """In the new process: be `python -m MODULE ARGUMENTS`."""
    os.setsid()
    _die_with_parent()
    for path, number in ((start.out, 1), (start.err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    # What the fork server ignores a program does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(start.directory)
    os.environ.update(start.environment)
    sys.argv = [start.module, *start.arguments]
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    sys.stdout.reconfigure(encoding="utf-8")
    runpy.run_module(start.module, run_name="__main__", alter_sys=True)


def _die_with_parent() -> None:
    """Get SIGKILL when the fork server is gone, so that a killed pytest leaves no daemon behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def start_process(
    arguments: Sequence[str],
    directory: Path,
    out: Path,
    err: Path,
    *,
    module: str = "monitor",
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Running:
    """Start `python -m MODULE ARGUMENTS`; what it prints is appended to the files."""
    environment = {**(environment or {}), "PYTHONPATH": str(ROOT)}
    if not fresh:
        start = _Start(module, tuple(arguments), str(directory), str(out), str(err), environment)
        process = _forks.Process(target=_become, args=(start,), daemon=True)
        process.start()
        return _Forked(process)
    with out.open("ab") as out_file, err.open("ab") as err_file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    def rows(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def command(
    directory: Path, *arguments: str, fresh: bool = False, environment: Mapping[str, str] | None = None
) -> Answer:
    """Run `driftd ARGUMENTS` in a directory, to its end."""
    number = len(list(directory.glob("command-*.out")))
    out, err = directory / f"command-{number}.out", directory / f"command-{number}.err"
    out.touch()
    process = start_process(arguments, directory, out, err, fresh=fresh, environment=environment)
    code = _ended(process, WAIT_S)
    if code is None:
        os.kill(process.pid, signal.SIGKILL)
        raise Trouble(f"driftd {' '.join(arguments)} does not end:\n{_tail(err)}")
    return Answer(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8", errors="replace"))


def _ended(process: Running, timeout_s: float) -> int | None:
    deadline = time.monotonic() + timeout_s
    while (code := process.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return code


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-_SHOWN:] if path.exists() else ""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer over HTTP."""

    code: int
    text: str


class Daemon:
    """`driftd run` in a directory that has a `driftd.yaml`. As a context it is gone in the end, whatever happened.

    `name` tells several daemons of one directory apart. `module` is another program that ends in running the
    daemon, given `before` as its own arguments. One that is `gated` is frozen where it has no transaction open.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        name: str = "daemon",
        config: str = "driftd.yaml",
        module: str = "monitor",
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
        gated: bool = False,
    ) -> None:
        self.directory, self.name = directory, name
        self._gated = gated
        self.log_path = directory / f"{name}.log"
        self._seen = self.log_path.stat().st_size if self.log_path.exists() else 0  # of an earlier one
        self._process = start_process(
            [*before, "run", "--config", config, "--log-format", "json", *arguments],
            directory,
            directory / f"{name}.out",
            self.log_path,
            module="tests.e2e.freezing" if gated else module,
            environment=environment,
            fresh=fresh,
        )
        self._port: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and not isinstance(error, Trouble):
            error.add_note(self.told())
        if self.is_running:
            self.signal(signal.SIGCONT)
            self.kill()

    # -- the process -------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """As a crash."""
        self.signal(signal.SIGKILL)
        self.ended()

    def freeze(self) -> None:
        """As a machine that hangs."""
        if self._gated:
            closed = len(self.logged("gate.closed"))
            self.signal(signal.SIGUSR2)
            self.until(lambda: len(self.logged("gate.closed")) > closed, "it has no transaction open")
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        if self._gated:
            self.signal(signal.SIGUSR2)

    def ended(self, timeout_s: float = WAIT_S) -> int:
        """Wait for the end. -> the exit code."""
        code = _ended(self._process, timeout_s)
        if code is None:
            raise Trouble(f"{self.name} has not ended in {timeout_s} s\n{self.told()}")
        return code

    def stop(self, timeout_s: float = WAIT_S) -> int:
        """SIGTERM, and wait. -> the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(timeout_s)

    # -- what it says ------------------------------------------------------------------------------------

    def told(self) -> str:
        """The end of its log, for people."""
        return f"--- log of {self.name} ({self.log_path})\n{_tail(self.log_path)}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        with self.log_path.open("rb") as file:
            file.seek(self._seen)
            lines = [line for line in file.read().splitlines() if line.startswith(b"{")]
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            if entry.get("event") == event:
                found.append(entry)
        return found

    @property
    def port(self) -> int:
        """Where it serves HTTP."""
        if self._port is None:
            self.until(lambda: self.logged("http.listening") != [], "it listens")
            self._port = int(self.logged("http.listening")[0]["port"])
        return self._port

    def get(self, path: str, timeout_s: float = 10.0) -> Page:
        """Ask it over HTTP. Raises OSError where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s) as answer:
                return Page(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, error.read().decode())
        except http.client.HTTPException as error:
            raise ConnectionError(f"it died in the middle of an answer: {error!r}") from error

    @property
    def is_ready(self) -> bool:
        return self.get("/-/ready").code == 200

    @property
    def why_not_ready(self) -> str | None:
        """None while it is ready."""
        page = self.get("/-/ready")
        return None if page.code == 200 else page.text

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, under its name with labels as Prometheus writes them."""
        samples = {}
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def metric(self, name: str) -> float:
        """One sample, 0 where it is not there yet."""
        return self.metrics().get(name, 0.0)

    def status(self) -> dict[str, Any]:
        """What it shows of itself over HTTP: the status document as of the last commit."""
        found: dict[str, Any] = json.loads(self.get("/status").text)
        return found

    @property
    def read(self) -> int:
        """Records read and committed."""
        events = self.status().get("events")
        return events["read"] if events else 0

    # -- waiting -----------------------------------------------------------------------------------------

    def until(
        self,
        check: Callable[[], bool],
        what: str,
        timeout_s: float = WAIT_S,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait for something to be so while the process runs; the time begins anew with each change of `progress`."""
        deadline = time.monotonic() + timeout_s
        come_to = None
        while True:
            try:
                if check():
                    return
                if (now := progress()) != come_to:
                    come_to, deadline = now, time.monotonic() + timeout_s
            except (OSError, TimeoutError):
                pass  # it does not answer yet, or not any more
            if not self.is_running:
                raise Trouble(f"{self.name} ended with {self._process.poll()} before {what}\n{self.told()}")
            if time.monotonic() > deadline:
                raise Trouble(f"{timeout_s} s and not: {what}\n{self.told()}")
            time.sleep(_STEP_S)

    def until_ready(self, timeout_s: float = WAIT_S) -> Self:
        self.until(lambda: self.is_ready, "it is ready", timeout_s)
        return self

    def until_not_ready(self, timeout_s: float = WAIT_S) -> str:
        """-> why."""
        self.until(lambda: not self.is_ready, "it is not ready", timeout_s)
        return self.why_not_ready or ""

    @property
    def is_freezing(self) -> bool:
        """Whether a model waits with its checks for a reference."""
        return any(model["reference"]["state"] == "freezing" for model in self.status().get("models", {}).values())

    def until_read(self, records: int, timeout_s: float = WAIT_S) -> Self:
        """Until so many records are committed, and all checks that follow from them are made."""
        self.until(
            lambda: self.read >= records and not self.is_freezing,
            f"{records} records are read",
            timeout_s,
            lambda: self.read,
        )
        return self

    def until_published(self, timeout_s: float = WAIT_S) -> Self:
        """Until a commit has shown that nothing waits in the outbox."""
        commits = self.metric("driftd_commits_total")
        self.until(
            lambda: (
                self.metric("driftd_commits_total") > commits
                and self.metric("driftd_outbox_depth") == 0
                and self.metric("driftd_relay_failing") == 0
            ),
            "everything is published",
            timeout_s,
        )
        return self
