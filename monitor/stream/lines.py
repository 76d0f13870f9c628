"""A growing file as numbered lines, read forward in blocks.

Shell: reads files. Called by `files`. A line becomes a record once its newline is written. Memory is bounded by a few
blocks whatever the size of the file, and by `LINE_LIMIT` whatever the length of a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from monitor.errors import OffsetGone
from monitor.stream.layout import file_error
from monitor.stream.types import Partition

BLOCK: Final = 1 << 20
CLOSED: Final = -1
LINE_LIMIT: Final = 64 << 20
"""Bytes to which a longer line is truncated. The configured size of an event is far below, so it is refused anyway."""


class _State(NamedTuple):
    size: int
    changed_ns: int


class LineReader:
    """Reads the complete lines of a file, from number `position` on.

    `at_end` tells whether the last `read` reached the end of the file. Every method that reads may raise `OffsetGone`,
    when the file has fewer lines than `position`, shrank or was replaced, and `StreamError`.
    """

    def __init__(self, partition: Partition, path: Path, block: int = BLOCK) -> None:
        self.partition, self.path = partition, path
        self._block = block
        self.position = 0
        self.at_end = False
        self._file = CLOSED
        self._identity = (0, 0)
        self._at: int | None = 0  # the byte at which line `position` begins; None: unknown
        self._idle = _State(-1, 0)  # the state in which the file had no further line
        self._counted = (0, 0)  # (bytes from the beginning, lines in them)

    def seek(self, position: int) -> None:
        """Continue with the line of this number, of the file that has the path at the next read.

        Raises:
            ValueError: `position` is negative.
        """
        if position < 0:
            raise ValueError(f"there is no line {position}")
        self.close()
        self.position, self.at_end = position, False
        self._at = None if position else 0
        self._idle, self._counted = _State(-1, 0), (0, 0)

    def has_more(self) -> bool:
        """Return whether the file has bytes behind the last line that was read, and changed since none was whole."""
        state = self._open()
        return state != self._idle and (self._at is None or state.size > self._at)

    def read(self) -> list[bytes]:
        """Return the next lines, about a block of them; none when no further line is complete."""
        state = self._open()
        at = self._start()
        if state == self._idle:
            return []
        searched = 0
        while (block := self._pread(self._block, at + searched)) and b"\n" not in block:
            searched += len(block)
        self.at_end = at + searched + len(block) >= state.size
        if not block:
            self._idle = state
            return []
        lines, length = self._long_line(at, searched, block) if searched else _split(block)
        self._at = at + length
        self.position += len(lines)
        return lines

    @property
    def known_end(self) -> int | None:
        """Number of lines as far as it is known from reading and counting; None where it is not known."""
        known = max(self._counted[1], self.position)
        return known if self.at_end or known > self.position else None

    def count(self) -> int:
        """Return the number of complete lines. Reads the part that was neither read nor counted before."""
        self._open()
        if self._at is not None and self._at > self._counted[0]:
            self._counted = (self._at, self.position)
        at, lines = self._counted
        for block in self._blocks(at):
            if b"\n" in block:
                lines += block.count(b"\n")
                self._counted = (at + block.rindex(b"\n") + 1, lines)
            at += len(block)
        return lines

    def close(self) -> None:
        """Close the file. Idempotent; reading opens it again."""
        if self._file != CLOSED:
            os.close(self._file)
            self._file = CLOSED

    def _open(self) -> _State:
        """Open the file if needed, and check that it is still the one that was read."""
        try:
            if self._file == CLOSED:
                self._file = os.open(self.path, os.O_RDONLY)
                found = os.fstat(self._file)
                self._identity = (found.st_dev, found.st_ino)
            else:
                found = self.path.stat()
        except FileNotFoundError:
            if self.position:
                raise OffsetGone(*self.partition, self.position, 0, 0) from None
            return _State(0, 0)
        except OSError as error:
            raise file_error(f"read {self.path}", error) from error
        if (found.st_dev, found.st_ino) == self._identity and found.st_size >= (self._at or 0):
            return _State(found.st_size, found.st_mtime_ns)
        if self.position and (found.st_dev, found.st_ino) != self._identity:
            raise OffsetGone(*self.partition, self.position, 0, 0)  # replaced: none of its lines were read
        if self.position:
            with contextlib.closing(LineReader(self.partition, self.path)) as successor:
                raise OffsetGone(*self.partition, self.position, 0, successor.count())
        self.seek(0)  # nothing was read yet, so the new file can be read instead
        return self._open()

    def _start(self) -> int:
        if self._at is None:
            self._at = self._find(self.position)
        return self._at

    def _find(self, position: int) -> int:
        """Return the byte at which line `position` > 0 begins."""
        at, line = 0, 0
        for block in self._blocks(0):
            newlines = block.count(b"\n")
            if line + newlines >= position:
                ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
                return at + int(ends[position - line - 1]) + 1
            line += newlines
            at += len(block)
        raise OffsetGone(*self.partition, position, 0, line)

    def _long_line(self, at: int, searched: int, block: bytes) -> tuple[list[bytes], int]:
        """Return the line that begins at `at` and ends in the block `searched` bytes on, and its length in the file."""
        self.at_end = False
        length = searched + block.index(b"\n")
        line = self._pread(min(length, LINE_LIMIT), at)
        return [line.removesuffix(b"\r")], length + 1

    def _blocks(self, at: int) -> Iterator[bytes]:
        while block := self._pread(self._block, at):
            yield block
            at += len(block)

    def _pread(self, length: int, at: int) -> bytes:
        if self._file == CLOSED:
            return b""
        try:
            return os.pread(self._file, length, at)
        except OSError as error:
            raise file_error(f"read {self.path}", error) from error


def _split(block: bytes) -> tuple[list[bytes], int]:
    """Return the complete lines of a block, and their length with all newlines."""
    length = block.rindex(b"\n") + 1
    lines = block[: length - 1].split(b"\n")
    if b"\r" in block:
        lines = [line.removesuffix(b"\r") for line in lines]
    return lines, length
