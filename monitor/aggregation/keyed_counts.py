"""Counts under keys that are many and not known in advance: scores, labels.

Pure. A key is a pane in its upper 32 bits and anything in its lower 32, so the keys of a run of panes are a
run of keys.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detectors.types import IntArray

Keys = NDArray[np.uint64]
_LOOSE = 1 << 15  # additions gathered before they are sorted in
_LOWER = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


class SparseCounts:
    """Sorted keys with their counts."""

    def __init__(self) -> None:
        self._key = np.zeros(0, np.uint64)
        self._count = np.zeros(0, np.int64)
        self._loose: list[Keys] = []
        self._loose_rows = 0

    def add(self, panes: IntArray, lower: NDArray[np.uint32]) -> None:
        """Count one for each (pane, lower)."""
        self._loose.append(panes.astype(np.uint64) << _SHIFT | lower)
        self._loose_rows += len(panes)
        if self._loose_rows >= _LOOSE:
            self._settle()

    def _settle(self) -> None:
        if not self._loose:
            return
        keys = np.concatenate([self._key, *self._loose])
        counts = np.concatenate([self._count, np.ones(self._loose_rows, np.int64)])
        self._loose, self._loose_rows = [], 0
        self._replace(keys, counts)

    def _replace(self, keys: Keys, counts: IntArray) -> None:
        self._key, where = np.unique(keys, return_inverse=True)
        self._count = np.bincount(where, counts, minlength=len(self._key)).astype(np.int64)

    def between(self, first: int, last: int) -> tuple[NDArray[np.uint32], IntArray]:
        """(lower halves, counts) of the panes from `first` to `last`; a lower half may come several times."""
        self._settle()
        run = self._run(first, last)
        return (self._key[run] & _LOWER).astype(np.uint32), self._count[run]

    def _run(self, first: int, last: int) -> slice:
        start = np.searchsorted(self._key, np.uint64(first << 32))
        stop = np.searchsorted(self._key, np.uint64(last << 32) | _LOWER, "right")
        return slice(int(start), int(stop))

    def drop(self, before: int, keep: int) -> None:
        """Forget panes before `before`, except `keep`."""
        self._settle()
        pane = self._key >> _SHIFT
        kept = (pane >= np.uint64(before)) | (pane == np.uint64(keep))
        self._key, self._count = self._key[kept], self._count[kept]

    def panes_above(self, first: int, last: int, most: int) -> list[int]:
        """Panes from `first` to `last` with more than `most` lower halves."""
        self._settle()
        panes, held = np.unique(self._key[self._run(first, last)] >> _SHIFT, return_counts=True)
        found: list[int] = panes[held > most].astype(np.int64).tolist()
        return found

    def replace_lower(self, panes: IntArray, lower: Callable[[NDArray[np.uint32]], NDArray[np.uint32]]) -> None:
        """Replace the lower halves of all keys of these panes by what `lower` makes of them."""
        self._settle()
        mine = np.isin(self._key >> _SHIFT, panes.astype(np.uint64))
        keys = self._key.copy()
        keys[mine] = keys[mine] & ~_LOWER | lower((keys[mine] & _LOWER).astype(np.uint32))
        self._replace(keys, self._count)

    def absorb(self, keys: Keys, counts: IntArray) -> None:
        """Add keys with their counts, as `of_panes` gives them."""
        self._settle()
        self._replace(np.concatenate([self._key, keys]), np.concatenate([self._count, counts]))

    def copy_pane(self, pane: int, to: int) -> None:
        """Add the counts of a pane to those of another."""
        keys, counts = self.of_panes(np.array([pane]))
        self.absorb(keys & _LOWER | np.uint64(to) << _SHIFT, counts)

    def of_panes(self, panes: IntArray) -> tuple[Keys, IntArray]:
        """All keys and counts of these panes."""
        self._settle()
        mine = np.isin(self._key >> _SHIFT, panes.astype(np.uint64))
        return self._key[mine], self._count[mine]

    def replace_panes(self, panes: IntArray, keys: Keys, counts: IntArray) -> None:
        """What `of_panes` told of these panes, in place of what is here."""
        self._settle()
        others = ~np.isin(self._key >> _SHIFT, panes.astype(np.uint64))
        self._replace(np.concatenate([self._key[others], keys]), np.concatenate([self._count[others], counts]))

    @property
    def nbytes(self) -> int:
        """Memory."""
        return self._key.nbytes + self._count.nbytes + 8 * self._loose_rows
