"""Profiling of the features of a table side by side, each share of them in a process of its own.

Shell. One process reads the table, once for each of the two passes, and hands to every share the columns of its
features, in order. A feature is the work of one process from beginning to end, so what comes of it is the same for any
number of them. What is handed over is between processes of this program only, and never stored.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Protocol, Self

from detectors.blocks import FeatureBlocks
from detectors.reference import Reference
from detectors.reference_builder import DispersionPass, DistributionPass
from detectors.season import Seasonal
from detectors.types import IntArray
from monitor.reference.table_columns import TableColumns

LARGE: Final = 32 << 20  # bytes of a table from which on it is worth to begin processes
Learned = tuple[tuple[Reference, ...], dict[str, FeatureBlocks]]


class _Work(Protocol):
    """Profiling of some features."""

    def distribute(self, columns: Mapping[str, Any], rows: int) -> None:
        """Take a batch of the first pass in."""

    def features(self) -> tuple[Reference, ...]:
        """Return the references of the first pass."""

    def begin(self, kept: Collection[str], seasonal: Seasonal | None) -> None:
        """Begin the second pass, with these features of all."""

    def learn(self, columns: Mapping[str, Any], rows: int, times: IntArray | None) -> None:
        """Take a batch of the second pass in."""

    def learned(self) -> Learned:
        """Return the references, and their blocks by name."""


class _Share:
    """Some of the features of a table, in this process."""

    def __init__(self, read: TableColumns, points: int, *, seasonal: bool, of: int) -> None:
        self._read = read
        self._first = DistributionPass(read.kinds, points, seasonal=seasonal, of=of)
        self._found: tuple[Reference, ...] = ()
        self._second = DispersionPass(())

    def distribute(self, columns: Mapping[str, Any], rows: int) -> None:
        self._first.add(self._read.of(columns), rows)

    def features(self) -> tuple[Reference, ...]:
        self._found = self._first.features()
        return self._found

    def begin(self, kept: Collection[str], seasonal: Seasonal | None) -> None:
        its = [f for f in self._found if f.name in kept]
        self._read = self._read.only(f.name for f in its)
        self._second = DispersionPass(its, seasonal, of=len(kept))

    def learn(self, columns: Mapping[str, Any], rows: int, times: IntArray | None) -> None:
        self._second.add(self._read.of(columns), rows, times)

    def learned(self) -> Learned:
        return self._second.features(), self._second.counts()


class _Elsewhere:
    """Some of the features of a table, in another process."""

    def __init__(self, read: TableColumns, points: int, *, seasonal: bool, of: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._needed = read.needed
        self._process = context.Process(target=_serve, args=(theirs, read, points, seasonal, of), daemon=True)
        self._process.start()
        theirs.close()

    def distribute(self, columns: Mapping[str, Any], rows: int) -> None:
        self._send("distribute", self._of(columns), rows)

    def features(self) -> tuple[Reference, ...]:
        self._send("features")
        found: tuple[Reference, ...] = self._answer()
        return found

    def begin(self, kept: Collection[str], seasonal: Seasonal | None) -> None:
        self._send("begin", kept, seasonal)

    def learn(self, columns: Mapping[str, Any], rows: int, times: IntArray | None) -> None:
        self._send("learn", self._of(columns), rows, times)

    def ask(self) -> None:
        """Ask for what is learned, which is to be fetched by `learned`."""
        self._send("learned")

    def learned(self) -> Learned:
        found: Learned = self._answer()
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def _of(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return {name: columns[name] for name in self._needed if name in columns}

    def _send(self, *message: Any) -> None:
        try:
            self._pipe.send(message)
        except (BrokenPipeError, ConnectionError) as error:
            raise self._ended() from error

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error

    def _ended(self) -> ChildProcessError:
        self._process.join()
        return ChildProcessError(f"a process that profiles features has ended: exit code {self._process.exitcode}")


class FeatureShares:
    """All features of a table, in several shares. As a context it leaves no process behind."""

    def __init__(self, read: TableColumns, points: int, *, seasonal: bool, jobs: int) -> None:
        """Begin without rows.

        Args:
            read: What is read of the table.
            points: Largest number of points kept per numeric feature.
            seasonal: Whether rows will be told apart by season.
            jobs: How many processes; 1: this one.
        """
        # Texts take longer than numbers: each share has as many of both.
        names = sorted(read.kinds, key=read.kinds.__getitem__)
        parts = [names[i::jobs] for i in range(jobs)]
        self._order = list(read.kinds)
        self._elsewhere: list[_Elsewhere] = []
        if jobs > 1:
            for part in filter(None, parts):
                self._elsewhere.append(_Elsewhere(read.only(part), points, seasonal=seasonal, of=len(names)))
        self._here: Sequence[_Work] = self._elsewhere or [_Share(read, points, seasonal=seasonal, of=len(names))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for share in self._elsewhere:
            share.close()

    def distribute(self, columns: Mapping[str, Any], rows: int) -> None:
        """Take a batch of the first pass in."""
        for share in self._here:
            share.distribute(columns, rows)

    def features(self) -> list[Reference]:
        """Return the references of the first pass, in the order of the columns."""
        found = {f.name: f for share in self._here for f in share.features()}
        return [found[name] for name in self._order]

    def begin(self, kept: Sequence[str], seasonal: Seasonal | None) -> None:
        """Begin the second pass.

        Args:
            kept: Features that the reference will have.
            seasonal: The season by which rows are told apart, if any.
        """
        self._order = list(kept)
        for share in self._here:
            share.begin(kept, seasonal)

    def learn(self, columns: Mapping[str, Any], rows: int, times: IntArray | None) -> None:
        """Take a batch of the second pass in, with its times where rows are told apart by season."""
        for share in self._here:
            share.learn(columns, rows, times)

    def learned(self) -> Learned:
        """Return the references in the order of what was kept, and their blocks by name."""
        for elsewhere in self._elsewhere:
            elsewhere.ask()
        features: dict[str, Reference] = {}
        blocks: dict[str, FeatureBlocks] = {}
        for share in self._here:
            its, counts = share.learned()
            features |= {f.name: f for f in its}
            blocks |= counts
        return tuple(features[name] for name in self._order), {name: blocks[name] for name in self._order}


def _serve(pipe: Connection, read: TableColumns, points: int, seasonal: bool, of: int) -> None:
    """Do in a process of its own what is asked for, until nobody asks any more."""
    share = _Share(read, points, seasonal=seasonal, of=of)
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            what, *arguments = pipe.recv()
            found = getattr(share, what)(*arguments)
            if found is not None:
                pipe.send(found)
