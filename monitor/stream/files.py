"""A directory of JSON-lines files as a stream, for laptops, replays and demonstrations.

Shell. `connect` creates these for `file:` addresses. `layout` finds the files of partitions, `lines` reads one file.
Offsets are line numbers from 0; keys and headers are not stored, nor are commits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from monitor.errors import StreamError, TopicsMissing
from monitor.stream.layout import file_error, find_partitions, path_of
from monitor.stream.lines import BLOCK, CLOSED, LineReader
from monitor.stream.types import Batch, Blocked, Message, Partition, Run, TopicSpec, TopicState

PRIVATE: Final = 0o600  # of new files: events and alerts may name people
POLL_STEP_S: Final = 0.05  # interval at which a poll checks whether files have grown

_Found = TypeVar("_Found", bound=Sized)


class FileSource:
    """A `Source` that reads all partitions side by side, as many lines of each."""

    def __init__(self, directory: Path, topics: Collection[str], block: int = BLOCK) -> None:
        self._directory, self._topics, self._block = directory, topics, block
        self._cursors: dict[Partition, _Cursor] = {}  # of the assigned partitions, sorted
        self._paused: set[Partition] = set()
        self._turn = -1  # which file was the first one at the last poll

    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._find())

    def assign(self, positions: Mapping[Partition, int]) -> None:
        paths = find_partitions(self._directory, self._topics)
        self._close_all()
        self._paused.clear()
        for partition in sorted(positions):
            path = paths.get(partition, path_of(self._directory, partition))
            self._cursors[partition] = _Cursor(LineReader(partition, path, self._block), positions[partition])

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]]:
        paths = self._find()
        missing = {partition.topic for partition in partitions if partition not in paths}
        if missing:
            raise TopicsMissing(tuple(sorted(missing)))
        return {partition: (0, self._count(partition, paths[partition])) for partition in partitions}

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        return _until_any(lambda: Batch.of(_take(self._in_turn(), max_records)), timeout_s)

    def wait(self, timeout_s: float) -> bool:
        cursors = [cursor for partition, cursor in self._cursors.items() if partition not in self._paused]
        return len(_until_any(lambda: [cursor for cursor in cursors if cursor.has_more()], timeout_s)) > 0

    def _in_turn(self) -> list[_Cursor]:
        """Return the cursors that are not paused, another one first each time: there may be more than records asked."""
        cursors = [c for p, c in self._cursors.items() if p not in self._paused]
        self._turn = (self._turn + 1) % max(len(cursors), 1)
        return cursors[self._turn :] + cursors[: self._turn]

    def seek(self, partition: Partition, offset: int) -> None:
        self._check_assigned([partition])
        self._cursors[partition].seek(offset)

    def pause(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused |= set(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self._check_assigned(partitions)
        self._paused -= set(partitions)

    def positions(self) -> dict[Partition, int]:
        return {partition: cursor.position for partition, cursor in self._cursors.items()}

    def ends(self) -> dict[Partition, int]:
        ends = {partition: cursor.reader.known_end for partition, cursor in self._cursors.items()}
        return {partition: end for partition, end in ends.items() if end is not None}

    def blocked(self) -> Mapping[Partition, Blocked]:
        """Return nothing: a file that cannot be read is an error."""
        return {}

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Do nothing: files store no positions."""

    def identities(self) -> dict[str, str]:
        """Return "" for each topic: a replaced file raises `OffsetGone`, but is not recognised across restarts."""
        return {partition.topic: "" for partition in find_partitions(self._directory, self._topics)}

    def close(self) -> None:
        self._close_all()

    def _find(self) -> dict[Partition, Path]:
        found = find_partitions(self._directory, self._topics)
        missing = set(self._topics) - {partition.topic for partition in found}
        if missing:
            raise TopicsMissing(tuple(sorted(missing)))
        return found

    def _count(self, partition: Partition, path: Path) -> int:
        if partition in self._cursors:
            return self._cursors[partition].reader.count()
        with closing(LineReader(partition, path)) as reader:
            return reader.count()

    def _check_assigned(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            if partition not in self._cursors:
                raise ValueError(f"{partition} is not assigned")

    def _close_all(self) -> None:
        for cursor in self._cursors.values():
            cursor.reader.close()
        self._cursors.clear()


class _Cursor:
    """A reader and the lines that it has read but not delivered."""

    def __init__(self, reader: LineReader, position: int) -> None:
        self.reader = reader
        self.seek(position)

    def seek(self, position: int) -> None:
        """Continue with the line of this number."""
        self.reader.seek(position)
        self._lines: list[bytes] = []
        self._taken = 0

    @property
    def position(self) -> int:
        """Number of the next line to deliver."""
        return self.reader.position - len(self._lines) + self._taken

    def has_more(self) -> bool:
        """Return whether a line is left, or the file has bytes that were not read."""
        return self._taken < len(self._lines) or self.reader.has_more()

    def fill(self) -> bool:
        """Read more lines if all were delivered; return whether there are any now."""
        if self._taken == len(self._lines):
            self._lines, self._taken = self.reader.read(), 0
        return self._taken < len(self._lines)

    def take(self, count: int) -> list[bytes | None]:
        """Deliver the next `count` lines, or as many as are read."""
        lines: list[bytes | None] = [*self._lines[self._taken : self._taken + count]]
        self._taken += len(lines)
        return lines


def _until_any(look: Callable[[], _Found], timeout_s: float) -> _Found:
    """Return what `look` finds, once it is anything, or when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        left = deadline - time.monotonic()
        if len(found) or left <= 0:
            return found
        time.sleep(min(POLL_STEP_S, left))


def _take(cursors: Sequence[_Cursor], max_records: int) -> list[Run]:
    """Return the next lines of all files, about as many of each.

    Raises:
        StreamError: A file cannot be read, and no line could be delivered before that.
    """
    starts = [cursor.position for cursor in cursors]
    lines: list[list[bytes | None]] = [[] for _ in cursors]
    left = max_records
    while left:
        try:
            ready = [i for i, cursor in enumerate(cursors) if cursor.fill()]
        except StreamError:
            if left < max_records:
                break  # deliver these first: the error recurs at the next call
            raise
        if not ready:
            break
        share = max(left // len(ready), 1)
        for i in ready:
            delivered = cursors[i].take(min(share, left))
            lines[i] += delivered
            left -= len(delivered)
    return [
        Run(cursor.reader.partition, np.arange(start, start + len(its)), np.full(len(its), -1, np.int64), its)
        for cursor, start, its in zip(cursors, starts, lines, strict=True)
        if its
    ]


class FileSink:
    """A `Sink` that appends values as lines to partition 0; when `send` returns they are on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, _Appender] = {}

    def send(self, messages: Sequence[Message]) -> None:
        lines: dict[str, list[bytes]] = {}
        for message in messages:
            if b"\n" in message.value:
                raise ValueError(f"a message for {message.topic} has a newline in its value")
            lines.setdefault(message.topic, []).append(message.value + b"\n")
        for topic, values in lines.items():
            self._file(topic).append(b"".join(values))

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _file(self, topic: str) -> _Appender:
        if topic not in self._files:
            first = Partition(topic, 0)
            path = find_partitions(self._directory, [topic]).get(first, path_of(self._directory, first))
            self._files[topic] = _Appender(path)
        return self._files[topic]


class _Appender:
    """Appends whole lines to one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = CLOSED

    def append(self, data: bytes) -> None:
        """Append `data`; when this returns it is on disk. Raises StreamError if part of it may not be."""
        try:
            self._open()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            self.close()  # opening the file again removes a partly written line
            raise file_error(f"write {self._path}", error) from error

    def close(self) -> None:
        if self._file != CLOSED:
            os.close(self._file)
            self._file = CLOSED

    def _open(self) -> None:
        """Open the file at the end of its last whole line, again if it was moved away."""
        if self._file != CLOSED:
            mine = os.fstat(self._file)
            if self._path.exists() and os.path.samestat(mine, self._path.stat()):
                return
            self.close()
        is_new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE)
        os.ftruncate(self._file, _end_of_lines(self._file))
        if is_new:
            _sync_directory(self._path.parent)


class FileAdmin:
    """A `TopicAdmin` of files. Files are never compacted, and always pass the check for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def check(self, topics: Sequence[TopicSpec]) -> dict[str, TopicState]:
        found = {partition.topic for partition in find_partitions(self._directory, [spec.name for spec in topics])}
        return {spec.name: TopicState.PRESENT if spec.name in found else TopicState.MISSING for spec in topics}

    def create(self, topics: Sequence[TopicSpec]) -> None:
        states = self.check(topics)
        missing = [spec for spec in topics if states[spec.name] is TopicState.MISSING]
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for spec in missing:
                for number in range(spec.partitions):
                    path_of(self._directory, Partition(spec.name, number)).touch(PRIVATE)
        except OSError as error:
            raise file_error(f"make topics in {self._directory}", error) from error

    def close(self) -> None:
        pass


def _end_of_lines(file: int) -> int:
    """Return the position of the byte after the last newline."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - BLOCK)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _sync_directory(directory: Path) -> None:
    """Flush a directory to disk, so that the name of a new file is durable."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
