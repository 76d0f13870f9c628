"""The daemon as a child process, started, queried over HTTP and stopped as by a user.

Shell.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from monitor.errors import DriftdError

_START_S: Final = 60.0
_STOP_S: Final = 20.0
_ASK_S: Final = 5.0
_STEP_S: Final = 0.05
_LOG_LINES: Final = 15
_DRIFTD: Final = (sys.executable, "-m", "monitor")  # the command itself need not be on the path


class DaemonFailedError(DriftdError):
    """The daemon of the demonstration exited, or did not become ready. The message has the end of its log."""

    def __init__(self, what: str, log: Path) -> None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        super().__init__("\n".join([f"the daemon {what}; the end of {log}:", *lines[-_LOG_LINES:]]))


def free_port(wanted: int) -> int:
    """Return the port `wanted` if it is free, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


class Daemon:
    """`driftd run` with a configuration. Leaving the context stops it."""

    def __init__(self, config: Path, url: str, log: Path) -> None:
        self.url, self.log = url, log
        command = [*_DRIFTD, "run", "--config", str(config), "--log-format", "json"]
        with log.open("ab") as file:
            # A session of its own: Ctrl-C reaches the demonstration only, which then stops the daemon by SIGTERM.
            self._process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.pid = self._process.pid

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Wait until /-/ready succeeds.

        Raises:
            DaemonFailedError: The daemon exited, or is not ready in time.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self.check()
            try:
                self._get("/-/ready")
            except OSError:
                time.sleep(_STEP_S)
            else:
                return
        raise DaemonFailedError(f"is not ready after {_START_S:g} s", self.log)

    def check(self) -> None:
        """Raise `DaemonFailedError` if the daemon has exited."""
        code = self._process.poll()
        if code is not None:
            raise DaemonFailedError(f"ended with exit code {code}", self.log)

    def status(self) -> dict[str, Any]:
        """Return the status document as of the last commit; empty before the first.

        Raises:
            DaemonFailedError: The daemon does not answer.
        """
        found: dict[str, Any] = json.loads(self._asked("/status"))
        return found

    def metrics(self) -> bytes:
        """Return the content of /metrics.

        Raises:
            DaemonFailedError: The daemon does not answer.
        """
        return self._asked("/metrics")

    def _asked(self, path: str) -> bytes:
        try:
            return self._get(path)
        except OSError as error:
            self.check()
            raise DaemonFailedError(f"does not answer at {self.url}{path} ({error})", self.log) from error

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=_ASK_S) as response:
            body: bytes = response.read()
            return body

    def wait(self) -> int:
        """Wait until the daemon exits; return its exit code."""
        return self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM, after a timeout SIGKILL; return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                return self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()
