"""References, and the laws of their statistics, are made in a process of their own while the loop goes on.

Shell. A thread hands over one request after the other and waits for the answer; the loop asks what is done. The process
is there as long as there are requests. Where it dies, as by want of memory, it is tried again and told; what could not
be made is made in the loop. After a crash of the daemon the pipeline asks again, from the rows that are stored.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Final, Self

import structlog

from detectors.reference import Profile
from monitor.pipeline.pipeline import Pipeline
from monitor.reference.freezer import Freezing
from monitor.reference.freezing_process import FRAME

log = structlog.get_logger(__name__)

_COMMAND: Final = (sys.executable, "-m", "monitor.reference.freezing_process")
_TRIES: Final = 3
_DETAIL_LIMIT: Final = 2_000
_END_S: Final = 5.0


class FreezingProcess:
    """Makes what a pipeline wants made. As a context it leaves no process behind."""

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        """Make one that runs `command`; nothing is started before there is a request."""
        self._command = command
        self._lock = threading.Lock()  # guards all below but what only the thread uses
        self._queue: deque[Freezing] = deque()
        self._done: deque[tuple[Freezing, Profile | None]] = deque()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None  # of the thread alone: where the child writes errors
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def exchange(self, pipeline: Pipeline) -> None:
        """Take over what the pipeline wants made, and hand it what is done. Called in every turn of the loop."""
        fresh = pipeline.wanted_references()
        with self._lock:
            self._queue += fresh
            if self._queue and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="freezing", daemon=True)
                self._thread.start()
        while self._done:
            pipeline.answer_freezing(*self._done.popleft())

    def close(self) -> None:
        """Stop, whatever is not done."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            thread, child = self._thread, self._child
            if child is not None:
                child.kill()
        if thread is not None:
            thread.join(_END_S)

    # -- the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._lock:
                freezing = self._queue.popleft() if self._queue else None
            if freezing is not None:
                self._done.append((freezing, self._made(freezing)))
                continue
            self._end_child()
            with self._lock:
                if not self._queue:  # whoever asks from now on begins another thread
                    self._thread = None
                    return

    def _made(self, freezing: Freezing) -> Profile | None:
        """Return a reference, or None where that has failed too often."""
        for attempt in range(1, _TRIES + 1):
            try:
                return self._ask(freezing.request())
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop waits for an answer
                self._end_child()
                if self._closed:
                    return None
                event = "laws.not_made" if freezing.is_in_force else "reference.not_made"
                detail = str(error) or repr(error)
                log.warning(event, model=freezing.model, subject=freezing.subject, attempt=attempt, error=detail)
        if not freezing.is_in_force:  # laws that are not there are made when they are needed
            log.error("reference.made_in_the_loop", model=freezing.model, subject=freezing.subject)
        return None

    def _ask(self, request: bytes) -> Profile:
        child = self._begin_child() if self._child is None else self._child
        assert child.stdin is not None  # noqa: S101 - they are pipes
        assert child.stdout is not None  # noqa: S101
        try:
            child.stdin.write(FRAME.pack(len(request)))
            child.stdin.write(request)
            child.stdin.flush()
            head = child.stdout.read(FRAME.size)
            made = child.stdout.read(*FRAME.unpack(head)) if len(head) == FRAME.size else b""
        except BrokenPipeError:
            made = b""
        if not made:
            raise ChildProcessError(self._why_ended(child))
        return Profile.from_bytes(made)

    def _begin_child(self) -> subprocess.Popen[bytes]:
        self._complaints = tempfile.TemporaryFile(prefix="driftd-freezing-")  # noqa: SIM115 - closed with the child
        with self._lock:
            if self._closed:
                raise ChildProcessError("the daemon ends")
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
                start_new_session=True,
            )  # fmt: skip
            return self._child

    def _why_ended(self, child: subprocess.Popen[bytes]) -> str:
        code = child.wait()
        told = b""
        if self._complaints is not None:
            self._complaints.seek(0)
            told = self._complaints.read()[-_DETAIL_LIMIT:].strip()
        ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{ended}: {told.decode(errors='replace')}" if told else ended

    def _end_child(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()  # nothing is left to do, or it cannot
            with child:
                pass
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None
