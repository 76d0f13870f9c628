"""Matched pairs, and comparisons that the join found, that wait until their pane of pair time ends.

When a pair is completed depends on the order in which partitions are read; its pair time does not. So pairs of models
with time windows wait here until stream time has passed the end of the pane in which their pair time lies: then all of
them are there, and they land in an order made of their values. Pure.

What waits is stored once, with the commit after it came, and the row is dropped when all that is in it has landed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from detectors.saved import pack, unpack
from detectors.types import BoolArray, IntArray
from monitor.aggregation.pairs import MatchedPairs, ShadowComparisons
from monitor.events.codes import SHARED
from monitor.events.readings import POSITIVE
from monitor.pipeline.numbered_rows import NumberedRows

SUBJECT: Final = "pairs:"  # of stored rows, before their number
_MAGIC: Final = b"DRIFTPRS"
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


@dataclass(frozen=True, slots=True)
class Landed:
    """What lands together: pairs sorted by pair time and value, comparisons of which only counts are made."""

    pairs: MatchedPairs
    comparisons: ShadowComparisons


@dataclass(slots=True)
class _Chunk:
    """What came together; `due` are panes at whose end each row lands, `subject` the stored row that has them."""

    pairs: MatchedPairs
    pairs_due: IntArray
    comparisons: ShadowComparisons
    comparisons_due: IntArray
    subject: str | None = None

    def __len__(self) -> int:
        return len(self.pairs) + len(self.comparisons)

    @property
    def first(self) -> int:
        """The earliest pane that a row is due in."""
        return int(min(due.min() for due in (self.pairs_due, self.comparisons_due) if len(due)))

    def split(self, pane: int) -> tuple[_Chunk, _Chunk]:
        """Return what is due by the end of a pane, and what is left."""
        pairs, comparisons = self.pairs_due <= pane, self.comparisons_due <= pane
        return self._take(pairs, comparisons), self._take(~pairs, ~comparisons)

    def _take(self, pairs: BoolArray, comparisons: BoolArray) -> _Chunk:
        at, beside = np.flatnonzero(pairs), np.flatnonzero(comparisons)
        taken = self.pairs.take(at), self.pairs_due[at], self.comparisons.take(beside), self.comparisons_due[beside]
        return _Chunk(*taken, self.subject)


class PairBuffer:
    """Holds the pairs and comparisons of one model until they land."""

    def __init__(
        self,
        width: int,
        name_of: Callable[[int], str],
        settle: Callable[[MatchedPairs], MatchedPairs] = lambda pairs: pairs,
        *,
        numbers: bool,
    ) -> None:
        """Make an empty one.

        Args:
            width: Width of panes, ms.
            name_of: Gives a version's name by its code.
            settle: Replaces codes of versions and labels that were not admitted.
            numbers: Whether predictions are numbers, and not label codes.
        """
        self._width, self._name_of, self._settle, self._numbers = width, name_of, settle, numbers
        self._chunks: list[_Chunk] = []
        self._rows = NumberedRows(SUBJECT)

    def __len__(self) -> int:
        """Rows that wait."""
        return sum(len(chunk) for chunk in self._chunks)

    def add(self, pairs: MatchedPairs, comparisons: ShadowComparisons, ended: int) -> None:
        """Take in what a part of a batch has completed.

        Args:
            pairs: Matched pairs.
            comparisons: Comparisons of answers.
            ended: Panes before this one have ended. What belongs there, after its partition was left out, is due in
                this one.
        """
        if len(pairs) or len(comparisons):
            dues = (np.maximum(rows.pair_time // self._width, ended) for rows in (pairs, comparisons))
            self._chunks.append(_Chunk(pairs, next(dues), comparisons, next(dues)))

    @property
    def first_due(self) -> int | None:
        """The earliest pane at whose end something lands."""
        return min((chunk.first for chunk in self._chunks), default=None)

    def land(self, pane: int) -> Landed | None:
        """Take out what is due by the end of a pane; None if nothing is."""
        landed, kept = [], []
        for chunk in self._chunks:
            if chunk.first > pane:
                kept.append(chunk)
                continue
            ready, rest = chunk.split(pane)
            landed.append(ready)
            if len(rest):
                kept.append(rest)
            elif chunk.subject is not None:
                self._rows.forget(chunk.subject)
        self._chunks = kept
        if not landed:
            return None
        pairs = MatchedPairs.concatenated([chunk.pairs for chunk in landed])
        comparisons = ShadowComparisons.concatenated([chunk.comparisons for chunk in landed])
        return Landed(self._sorted(pairs), comparisons)

    def _sorted(self, pairs: MatchedPairs) -> MatchedPairs:
        """Sort by pair time, then by what sums are made of: what is equal in all of it may come in any order.

        Not by the request: its hash is seeded anew for every store. Not by label codes, which follow the order of
        processing; of labels only counts are made, and whether they are equal.
        """
        pairs = self._settle(pairs)
        distinct, where = np.unique(pairs.variant, return_inverse=True)
        names = [self._name_of(variant) for variant in distinct.tolist()]
        rank = np.argsort(sorted(range(len(names)), key=names.__getitem__))[where]
        same = (pairs.predicted == pairs.actual).astype(np.int64)
        if not self._numbers:  # which of them tell of labels that nobody can compare
            same += 2 * ((pairs.predicted == SHARED) | (pairs.actual == SHARED))
            same += 4 * ((pairs.predicted > POSITIVE) | (pairs.actual > POSITIVE))
        numbers = (pairs.actual, pairs.predicted) if self._numbers else ()
        return pairs.take(np.lexsort((*numbers, pairs.score, pairs.delay, same, pairs.pane, rank, pairs.pair_time)))

    # -- storing -----------------------------------------------------------------------------------------

    def drain_changes(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return (rows to store, subjects of rows to drop) since this was last called; called by the commit."""
        forgotten = self._rows.drain_forgotten()
        fresh = [chunk for chunk in self._chunks if chunk.subject is None]
        if not fresh:
            return [], forgotten
        whole = _Chunk(
            MatchedPairs.concatenated([chunk.pairs for chunk in fresh]),
            np.concatenate([chunk.pairs_due for chunk in fresh]),
            ShadowComparisons.concatenated([chunk.comparisons for chunk in fresh]),
            np.concatenate([chunk.comparisons_due for chunk in fresh]),
            self._rows.begin(),
        )
        self._chunks = [*(chunk for chunk in self._chunks if chunk.subject is not None), whole]
        return [(str(whole.subject), _encoded(whole))], forgotten

    def restore(self, stored: Mapping[str, Sequence[bytes]], ended: int | None) -> None:
        """Take back what was stored and has not landed.

        Args:
            stored: Bodies by subject; subjects of others are passed over.
            ended: Panes before this one had ended. None if panes are numbered otherwise now: what waited is dropped.
        """
        for subject, bodies in self._rows.restore(stored):
            if ended is None:
                self._rows.forget(subject)
                continue
            for body in bodies:
                _, rest = _decoded(body, subject).split(ended - 1)
                if len(rest):
                    self._chunks.append(rest)
                else:
                    self._rows.forget(subject)


_PAIR_ARRAYS: Final = (
    "request", "hi", "pair_time", "variant", "pane", "predicted", "score", "actual", "time", "delay",
)  # fmt: skip
_COMPARISON_ARRAYS: Final = ("request", "hi", "pair_time", "variant", "pane")


def _encoded(chunk: _Chunk) -> bytes:
    pairs, comparisons = chunk.pairs, chunk.comparisons
    arrays: dict[str, NDArray[Any]] = {"due": chunk.pairs_due, "compared.due": chunk.comparisons_due}
    arrays |= {name: getattr(pairs, name) for name in _PAIR_ARRAYS}
    arrays |= {f"compared.{name}": getattr(comparisons, name) for name in _COMPARISON_ARRAYS}
    arrays["compared.agreed"] = comparisons.agreed.astype(np.uint8)
    metrics = {i: dict(its) for i, its in enumerate(pairs.metrics) if its}
    return _compress(pack(_MAGIC, {"schema": 1, "metrics": metrics}, arrays))


def _decoded(body: bytes, subject: str) -> _Chunk:
    header, arrays = unpack(_MAGIC, _decompress(body))
    arrays = {name: array.copy() for name, array in arrays.items()}
    metrics = [header["metrics"].get(str(i)) for i in range(len(arrays["due"]))]
    position = np.zeros(len(metrics), np.int64)
    pairs = MatchedPairs(position=position, **{name: arrays[name] for name in _PAIR_ARRAYS}, metrics=metrics)
    comparisons = ShadowComparisons(
        position=np.zeros(len(arrays["compared.due"]), np.int64),
        **{name: arrays[f"compared.{name}"] for name in _COMPARISON_ARRAYS},
        agreed=arrays["compared.agreed"].astype(np.bool_),
    )
    return _Chunk(pairs, arrays["due"], comparisons, arrays["compared.due"], subject)
