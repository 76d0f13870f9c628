"""The daemon, unchanged, until it meets a chosen point for the n-th time: there it dies as by kill -9.

    python -m tests.e2e.crashing POINT:N run --config driftd.yaml

A launcher, not a mock: it wraps methods from outside, and what they do is what they always do. Two further kinds
of points do not kill: `lost-answer` lets a commit happen and then says that the connection broke, `failing-statement`
breaks the n-th statement of a transaction. After them the daemon has to go on by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from monitor.cli import main
from monitor.errors import StoreError
from monitor.pipeline.commit import PipelineCommit
from monitor.pipeline.pipeline import Pipeline
from monitor.publishing.destinations.base import Delivered
from monitor.publishing.destinations.webhook import Webhook
from monitor.publishing.outbox import Outbox
from monitor.service.worker import Worker
from monitor.store.writer import Claim, StoreWriter
from monitor.stream import files
from monitor.stream.files import FileSink, FileSource
from monitor.stream.kafka import KafkaSink, KafkaSource
from monitor.stream.types import Message

POISON: Final = b"nobody survives this"


class Bomb:
    """Goes off the n-th time that it is touched."""

    def __init__(self, n: int) -> None:
        self._left = n

    @property
    def is_due(self) -> bool:
        """Counts one touch."""
        self._left -= 1
        return self._left == 0

    def touch(self) -> None:
        """Die, if it is time: no handler runs, nothing is flushed."""
        if self.is_due:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # a thread may run on for a moment before the signal is there


def _before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Have `act` called with the arguments of a method, before it."""
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        act(*arguments)
        return original(self, *arguments, **options)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Have `act` called with the result and the arguments of a method, after it."""
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        act(result, *arguments)
        return result

    setattr(owner, name, wrapped)


class _Commits:
    """Tells commits that bring records from those that only keep the lease."""

    def __init__(self) -> None:
        self._positions: object = None

    def is_new(self, delta: PipelineCommit) -> bool:
        moved = delta.positions != self._positions
        self._positions = dict(delta.positions)
        return moved


def _claimed(bomb: Bomb) -> None:
    _after(StoreWriter, "claim", lambda result, *_: bomb.touch() if isinstance(result, Claim) else None)


def _restored(bomb: Bomb) -> None:
    _before(Worker, "_loop", lambda *_: bomb.touch())


def _polled(bomb: Bomb) -> None:
    for source in (FileSource, KafkaSource):
        _after(source, "poll", lambda batch, *_: bomb.touch() if len(batch) else None)


def _poisoned(bomb: Bomb) -> None:
    """Whenever it reads the one record that nobody survives."""
    for source in (FileSource, KafkaSource):
        _after(source, "poll", lambda batch, *_: _die() if any(POISON in (v or b"") for v in batch.values) else None)


def _before_commit(bomb: Bomb) -> None:
    commits = _Commits()
    _before(StoreWriter, "commit", lambda delta, *_: bomb.touch() if commits.is_new(delta) else None)


def _in_commit_early(bomb: Bomb) -> None:
    commits = _Commits()
    _before(StoreWriter, "_write_join", lambda c, delta, *_: bomb.touch() if commits.is_new(delta) else None)


def _in_commit_late(bomb: Bomb) -> None:
    """After the last of what a transaction writes, before it is committed."""
    commits = _Commits()
    moved = False

    def look(delta: PipelineCommit, *_: Any) -> None:
        nonlocal moved
        moved = commits.is_new(delta)

    _before(StoreWriter, "commit", look)
    _after(StoreWriter, "_publish", lambda *_: bomb.touch() if moved else None)


def _after_commit(bomb: Bomb) -> None:
    commits = _Commits()
    _after(StoreWriter, "commit", lambda result, delta, *_: bomb.touch() if commits.is_new(delta) else None)


def _while_freezing(bomb: Bomb) -> None:
    """After a commit of a model that waits for a reference which is being made; small ones are, too."""
    apart = Pipeline.freeze_apart
    Pipeline.freeze_apart = lambda self: apart(self, 0)  # type: ignore[method-assign, misc, assignment]

    def look(_: object, delta: PipelineCommit, *__: Any) -> None:
        if any(model.state["reference"]["state"] == "freezing" for model in delta.models.values()):
            bomb.touch()

    _after(StoreWriter, "commit", look)


def _advised(bomb: Bomb) -> None:
    """After the offsets were told to the stream."""
    for source in (FileSource, KafkaSource):
        _after(source, "commit", lambda *_: bomb.touch())


def _before_send(bomb: Bomb) -> None:
    for sink in (FileSink, KafkaSink):
        _before(sink, "send", lambda messages: bomb.touch() if messages else None)


def _half_sent(bomb: Bomb) -> None:
    for sink in (FileSink, KafkaSink):
        original = sink.send

        def half(self: Any, messages: Sequence[Message], original: Callable[..., None] = original) -> None:
            if messages and bomb.is_due:
                original(self, messages[: (len(messages) + 1) // 2])
                _die()
            original(self, messages)

        setattr(sink, "send", half)  # noqa: B010 - a checker would see two kinds of one method


def _torn_line(bomb: Bomb) -> None:
    """In the middle of a line of a file: the disk has one half of it."""
    original = files._Appender.append

    def torn(self: Any, data: bytes) -> None:
        if bomb.is_due:
            self._open()
            os.write(self._file, data[: len(data) - 20])
            _die()
        original(self, data)

    setattr(files._Appender, "append", torn)  # noqa: B010 - as above


def _after_send(bomb: Bomb) -> None:
    for sink in (FileSink, KafkaSink):
        _after(sink, "send", lambda result, messages: bomb.touch() if messages else None)


def _posted(bomb: Bomb) -> None:
    """A webhook has answered, and nobody knows yet."""
    _after(Webhook, "deliver", lambda result, *_: bomb.touch() if isinstance(result, Delivered) else None)


def _crossed_off(bomb: Bomb) -> None:
    _after(Outbox, "remove", lambda result, sent, *_: bomb.touch() if sent else None)


def _released(bomb: Bomb) -> None:
    """At a clean end: committed and given back, perhaps not published yet."""
    _after(StoreWriter, "release", lambda *_: bomb.touch())


def _lost_answer(bomb: Bomb) -> None:
    commits = _Commits()

    def lose(result: object, delta: PipelineCommit, *_: Any) -> None:
        if commits.is_new(delta) and bomb.is_due:
            raise StoreError("server closed the connection unexpectedly", retryable=True)

    _after(StoreWriter, "commit", lose)


def _failing_statement(bomb: Bomb) -> None:
    """The n-th statement of all commits; the commit that it is in has to be made again."""
    committing: set[int] = set()  # threads: the relay has statements of its own

    _before(StoreWriter, "_commit", lambda *_: committing.add(threading.get_ident()))
    _after(StoreWriter, "_commit", lambda *_: committing.discard(threading.get_ident()))

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() in committing and bomb.is_due:
            raise OperationalError(statement, None, Exception("disk I/O error"))

    event.listen(Engine, "before_cursor_execute", fail)


POINTS: Final[dict[str, Callable[[Bomb], None]]] = {
    "claimed": _claimed,
    "restored": _restored,
    "polled": _polled,
    "poisoned": _poisoned,
    "before-commit": _before_commit,
    "in-commit-early": _in_commit_early,
    "in-commit-late": _in_commit_late,
    "after-commit": _after_commit,
    "while-freezing": _while_freezing,
    "advised": _advised,
    "before-send": _before_send,
    "half-sent": _half_sent,
    "torn-line": _torn_line,
    "after-send": _after_send,
    "posted": _posted,
    "crossed-off": _crossed_off,
    "released": _released,
    "lost-answer": _lost_answer,
    "failing-statement": _failing_statement,
}

if __name__ == "__main__":
    point, _, times = sys.argv[1].partition(":")
    POINTS[point](Bomb(int(times)))
    main(sys.argv[2:])
