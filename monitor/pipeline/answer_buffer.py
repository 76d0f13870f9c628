"""Answers that wait for others to the same request, to be compared with them when a time pane ends.

Whether a served answer and another one are compared must not depend on which of the two, or of their outcomes, is
processed first. So accepted answers of models with time windows wait here, apart from the join. At the end of each pane
those of that pane meet each other and those before: each answer that was not served is compared once. Pure.

What waits is stored once, with the commit after it came, and the row is dropped when neither it nor what it was
compared with can be compared any more. What had been compared by then is not stored: it follows from the panes that
have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from detectors.saved import pack, unpack
from detectors.types import BoolArray, FloatArray, IntArray
from monitor.aggregation.predictions import Predictions
from monitor.events.columns import EventKind
from monitor.join.results import ComparedAnswers
from monitor.pipeline.numbered_rows import NumberedRows

SUBJECT: Final = "answers-compared:"  # of stored rows, before their number
_MAGIC: Final = b"DRIFTANS"
_MOST_CHUNKS: Final = 64
_NEVER: Final = -(1 << 62)
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers with a value.

    Attributes:
        lo, hi: Low and high half of the hash of the request's id.
        served: Whether it was served.
        variant: Code of the version that answered, as it came.
        value: Number, or code of the label as it came.
        time: Event time, ms.
        pane: Outcome pane.
    """

    lo: NDArray[np.uint64]
    hi: NDArray[np.uint64]
    served: BoolArray
    variant: NDArray[np.uint16]
    value: FloatArray
    time: IntArray
    pane: IntArray

    def __len__(self) -> int:
        return len(self.lo)

    def take(self, rows: IntArray | BoolArray) -> Answers:
        """Return these rows."""
        return Answers(*(getattr(self, f.name)[rows] for f in fields(self)))

    @staticmethod
    def of(predictions: Predictions, pane: IntArray) -> Answers:
        """Make them of accepted predictions and their outcome panes; those without a value are left out."""
        its = predictions.events
        served = its.kind == EventKind.SERVED
        answers = Answers(its.lo, its.hi, served, its.variant, its.value, its.time, pane)
        missing = np.isnan(its.value)
        return answers.take(~missing) if missing.any() else answers

    @staticmethod
    def concatenated(parts: Sequence[Answers]) -> Answers:
        """Return the rows of all parts, one after the other; at least one part is needed."""
        if len(parts) == 1:
            return parts[0]
        return Answers(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Answers)))

    @staticmethod
    def none() -> Answers:
        """Return no rows."""
        keys, numbers = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return Answers(keys, keys, np.zeros(0, np.bool_), np.zeros(0, np.uint16), np.zeros(0), numbers, numbers)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Served answers sorted by request, the first accepted first, and the latest event time among them."""

    answers: Answers
    latest: int

    @staticmethod
    def of(answers: Answers) -> _Chunk:
        answers = answers.take(np.argsort(answers.lo, kind="stable"))
        return _Chunk(answers, int(answers.time.max()))


class AnswerBuffer:
    """Holds the answers of one model until no other one can be compared with them."""

    def __init__(self, width: int, apart: int) -> None:
        """Make an empty one.

        Args:
            width: Width of panes, ms.
            apart: Answers are compared if their event times are less than this apart, ms. 0: nothing is compared.
        """
        self._width, self._apart = width, apart
        self._coming: dict[int, list[Answers]] = {}  # by pane that has not ended
        self._served: list[_Chunk] = []  # of panes that have ended
        self._alone = Answers.none()  # not served, of panes that have ended, and no served one was there
        self._over = _NEVER  # answers up to this event time (ms) have been let go
        self._fresh: list[Answers] = []  # not stored yet
        self._stored: dict[str, int] = {}  # latest event time (ms) of each stored row
        self._rows = NumberedRows(SUBJECT)

    def __len__(self) -> int:
        """Answers that may be compared yet."""
        coming = sum(len(part) for parts in self._coming.values() for part in parts)
        met = sum(int(np.count_nonzero(chunk.answers.time > self._over)) for chunk in self._served)
        return coming + met + len(self._alone)

    @property
    def compares(self) -> bool:
        """Whether answers are compared here at all."""
        return self._apart > 0

    @property
    def first_due(self) -> int | None:
        """The earliest pane at whose end something may be compared."""
        return min(self._coming, default=None)

    def add(self, answers: Answers) -> None:
        """Take in answers, in the order in which they were accepted."""
        if len(answers):
            self._fresh.append(answers)
            self._put(answers)

    def _put(self, answers: Answers) -> None:
        due = answers.time // self._width
        panes = np.unique(due).tolist()
        for pane in panes:
            self._coming.setdefault(pane, []).append(answers if len(panes) == 1 else answers.take(due == pane))

    # -- comparing ---------------------------------------------------------------------------------------

    def land(self, pane: int) -> ComparedAnswers | None:
        """Compare what is there at the end of a pane and was not compared before; None if there is nothing."""
        if not self.compares:
            return None
        parts = [part for p in sorted(p for p in self._coming if p <= pane) for part in self._coming.pop(p)]
        met = self._meet(Answers.concatenated(parts)) if parts else []
        self._let_go((pane + 1) * self._width - self._apart)
        if not met:
            return None
        served, others = (Answers.concatenated(side) for side in zip(*met, strict=True))
        return ComparedAnswers(
            row=np.zeros(len(others), np.int64),
            request=others.lo,
            hi=others.hi,
            pair_time=np.maximum(served.time, others.time),
            variant=others.variant.astype(np.int64),
            pane=others.pane,
            other_value=others.value,
            served_variant=served.variant.astype(np.int64),
            served_value=served.value,
        )

    def _meet(self, answers: Answers) -> list[tuple[Answers, Answers]]:
        """Have answers of panes that end now meet each other and those of earlier panes: (served, other) ones."""
        met: list[tuple[Answers, Answers]] = []
        others = answers.take(~answers.served)
        for chunk in reversed(self._served):
            if not len(others):
                break
            others = self._matched(chunk, others, met)
        if answers.served.any():
            chunk = _Chunk.of(answers.take(answers.served))
            others = Answers.concatenated([self._alone, others])
            self._alone = self._matched(chunk, others, met)
            self._served.append(chunk)
        elif len(others):
            self._alone = Answers.concatenated([self._alone, others])
        return met

    def _matched(self, chunk: _Chunk, others: Answers, met: list[tuple[Answers, Answers]]) -> Answers:
        """Add what meets a served answer of a chunk to `met`, and return what does not."""
        served = chunk.answers
        at = np.minimum(np.searchsorted(served.lo, others.lo), len(served) - 1)
        same = (served.lo[at] == others.lo) & (served.hi[at] == others.hi) & (served.variant[at] != others.variant)
        same &= np.abs(served.time[at] - others.time) < self._apart
        if not same.any():
            return others
        met.append((served.take(at[same]), others.take(same)))
        return others.take(~same)

    def _let_go(self, over: int) -> None:
        """Let go of answers up to an event time, ms: all that could be compared with them has been."""
        self._over = max(self._over, over)
        self._served = [chunk for chunk in self._served if chunk.latest > over]
        if len(self._served) > _MOST_CHUNKS:  # panes are narrow: there would be too many to look into
            whole = Answers.concatenated([chunk.answers for chunk in self._served])
            self._served = [_Chunk.of(whole.take(whole.time > over))]
        if len(self._alone) and (gone := self._alone.time <= over).any():
            self._alone = self._alone.take(~gone)
        self._forget(subject for subject, latest in self._stored.items() if latest <= self._kept_over)

    @property
    def _kept_over(self) -> int:
        """Answers after this event time, ms, stay stored: one that is held here may have been compared with them."""
        return self._over - self._apart

    def _forget(self, subjects: Iterable[str]) -> None:
        for subject in list(subjects):
            del self._stored[subject]
            self._rows.forget(subject)

    def end(self) -> None:
        """Let go of everything, because the stream has ended."""
        self._coming, self._served, self._alone, self._fresh = {}, [], Answers.none(), []
        self._forget(self._stored)

    # -- storing -----------------------------------------------------------------------------------------

    def drain_changes(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return (rows to store, subjects of rows to drop) since this was last called; called by the commit."""
        forgotten = self._rows.drain_forgotten()
        fresh, self._fresh = Answers.concatenated([Answers.none(), *self._fresh]), []
        fresh = fresh.take(fresh.time > self._kept_over)
        if not len(fresh):
            return [], forgotten
        subject = self._rows.begin()
        self._stored[subject] = int(fresh.time.max())
        return [(subject, _encoded(fresh))], forgotten

    def restore(self, stored: Mapping[str, Sequence[bytes]], ended: int | None) -> None:
        """Take back what was stored.

        Args:
            stored: Bodies by subject; subjects of others are passed over.
            ended: Panes before this one had ended: what could meet in them has been compared. None if panes are
                numbered otherwise now: what waited is dropped.
        """
        for subject, bodies in self._rows.restore(stored):
            if ended is None or not self.compares:
                self._rows.forget(subject)
                continue
            answers = Answers.concatenated([_decoded(body) for body in bodies])
            self._stored[subject] = int(answers.time.max())
            self._put(answers)
        if ended is not None and self.compares:
            for pane in sorted(pane for pane in self._coming if pane < ended):
                self.land(pane)
            self._let_go(ended * self._width - self._apart)


def _encoded(answers: Answers) -> bytes:
    arrays: dict[str, NDArray[Any]] = {f.name: getattr(answers, f.name) for f in fields(answers)}
    arrays["served"] = answers.served.astype(np.uint8)
    return _compress(pack(_MAGIC, {"schema": 1}, arrays))


def _decoded(body: bytes) -> Answers:
    _, arrays = unpack(_MAGIC, _decompress(body))
    arrays = {name: array.copy() for name, array in arrays.items()}
    arrays["served"] = arrays["served"].astype(np.bool_)
    return Answers(**{f.name: arrays[f.name] for f in fields(Answers)})
