"""A table with a row per outcome pane: integer counts and floating-point sums, in columns. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray

Arrays = Mapping[str, NDArray[Any]]


class PaneTable:
    """Rows of panes, and which of them changed since the last commit."""

    def __init__(self, counts: int, totals: int) -> None:
        """Make an empty table of so many columns."""
        self._row: dict[int, int] = {}
        self._pane = np.zeros(16, np.int64)
        self._count = np.zeros((16, counts), np.int64)
        self._total = np.zeros((16, totals))
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        """Number of panes."""
        return len(self._row)

    # -- adding ------------------------------------------------------------------------------------------

    def rows(self, panes: IntArray) -> IntArray:
        """Return the row of each pane, made where it is missing; they count as changed."""
        distinct, where = np.unique(panes, return_inverse=True)
        rows = np.empty(len(distinct), np.int64)
        for i, pane in enumerate(distinct.tolist()):
            row = self._row.get(pane)
            if row is None:
                row = self._row[pane] = len(self._row)
                if row == len(self._pane):
                    self._double()
                self._pane[row] = pane
            rows[i] = row
            self._dirty.add(pane)
        result: IntArray = rows[where]
        return result

    def _double(self) -> None:
        self._pane = np.concatenate([self._pane, np.zeros_like(self._pane)])
        self._count = np.concatenate([self._count, np.zeros_like(self._count)])
        self._total = np.concatenate([self._total, np.zeros_like(self._total)])

    def bump(self, rows: IntArray, column: int | IntArray) -> None:
        """Count one in a column for each row."""
        np.add.at(self._count.reshape(-1), rows * self._count.shape[1] + column, 1)

    def sum(self, rows: IntArray, column: int | IntArray, values: FloatArray) -> None:
        """Add values to a column, one by one in order, so that sums do not depend on batches."""
        np.add.at(self._total.reshape(-1), rows * self._total.shape[1] + column, values)

    def add_one(self, row: int, count: int, totals: Mapping[int, float]) -> None:
        """Count one in a column and add to others, of one row."""
        self._count[row, count] += 1
        with np.errstate(over="ignore"):
            for column, value in totals.items():
                self._total[row, column] += value

    def set_origin(self, rows: IntArray, values: FloatArray, counter: int, origin: int) -> None:
        """Keep the first value of each row that has none: others are taken less of it.

        Args:
            rows: Row of each value.
            values: The values, in order.
            counter: Column that counts the values of a row.
            origin: Column of the first value.
        """
        fresh, first = np.unique(rows, return_index=True)
        new = self._count[fresh, counter] == 0
        self._total[fresh[new], origin] = values[first[new]]

    def mark(self, panes: Iterable[int], column: int) -> None:
        """Set a count of these panes to 1."""
        chosen = set(panes)
        self._count[[self._row[pane] for pane in sorted(chosen)], column] = 1
        self._dirty |= chosen

    def add_rows(self, rows: IntArray, counts: IntArray, totals: FloatArray) -> None:
        """Add whole rows; each row stands once in `rows`."""
        self._count[rows] += counts
        self._total[rows] += totals

    def clear(self, pane: int) -> None:
        """Set everything of a pane to 0."""
        row = self._row.get(pane)
        if row is not None:
            self._count[row], self._total[row] = 0, 0.0
            self._dirty.add(pane)

    def put(self, rows: IntArray, column: int, values: FloatArray) -> None:
        """Set a sum of each row."""
        self._total[rows, column] = values

    # -- reading -----------------------------------------------------------------------------------------

    def count_of(self, pane: int, column: int) -> int:
        """Return a count of a pane, 0 where it is not there."""
        row = self._row.get(pane)
        return 0 if row is None else int(self._count[row, column])

    def counts_at(self, rows: IntArray, column: int) -> IntArray:
        """Return a count of each row."""
        found: IntArray = self._count[rows, column]
        return found

    def totals_at(self, rows: IntArray, column: int) -> FloatArray:
        """Return a sum of each row."""
        found: FloatArray = self._total[rows, column]
        return found

    def select(self, first: int, last: int) -> tuple[IntArray, FloatArray]:
        """Return (counts, sums) of the panes from `first` to `last`, a row each, by ascending pane."""
        panes = self._pane[: len(self._row)]
        mine = np.flatnonzero((panes >= first) & (panes <= last))
        mine = mine[np.argsort(panes[mine])]  # sums of floats in one order, whatever order panes came in
        return self._count[mine], self._total[mine]

    def column(self, columns: list[int], without: Collection[int]) -> tuple[IntArray, IntArray]:
        """Return (panes ascending, these counts of each), some panes left out."""
        order = self._ascending(without)
        return self._pane[order], self._count[order][:, columns]

    def everything(self, without: Collection[int]) -> tuple[IntArray, IntArray, FloatArray]:
        """Return copies of (panes ascending, counts, sums) of all panes but some."""
        order = self._ascending(without)
        return self._pane[order], self._count[order], self._total[order]

    def _ascending(self, without: Collection[int]) -> IntArray:
        """Return the rows of all panes but some, by ascending pane."""
        order = np.argsort(self._pane[: len(self._row)])
        result: IntArray = order[~np.isin(self._pane[order], list(without))]
        return result

    def summed(self, first: int, last: int, columns: list[int]) -> list[int]:
        """Return the sums of these counts over the panes from `first` to `last`."""
        panes = self._pane[: len(self._row)]
        mine: BoolArray = (panes >= first) & (panes <= last)
        sums: list[int] = self._count[: len(self._row)][mine][:, columns].sum(axis=0).tolist()
        return sums

    # -- keeping -----------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Count all panes as changed."""
        self._dirty.update(self._row)

    def drain_dirty(self) -> set[int]:
        """Return the panes changed since this was last called; called by the commit."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def drop(self, before: int) -> bool:
        """Forget panes before `before`, and tell whether there were any."""
        kept = [(pane, row) for pane, row in self._row.items() if pane >= before]
        if len(kept) == len(self._row):
            return False
        rows = np.array([row for _, row in kept], np.int64)
        size = max(16, 2 * len(kept))
        for name in ("_pane", "_count", "_total"):
            old = getattr(self, name)
            fresh = np.zeros((size, *old.shape[1:]), old.dtype)
            fresh[: len(kept)] = old[rows]
            setattr(self, name, fresh)
        self._row = {pane: i for i, (pane, _) in enumerate(kept)}
        self._dirty &= self._row.keys()
        return True

    def snapshot(self, panes: Iterable[int] | None = None) -> dict[str, NDArray[Any]]:
        """Return arrays that say all of these panes, or of all panes; columns of zeros are left out."""
        chosen = np.array(sorted(self._row if panes is None else set(panes) & self._row.keys()), np.int64)
        rows = np.array([self._row[pane] for pane in chosen.tolist()], np.int64)
        used_counts = np.flatnonzero(self._count[rows].any(axis=0))
        used_totals = np.flatnonzero(self._total[rows].any(axis=0))
        return {
            "pane": chosen,
            "count_columns": used_counts,
            "count": self._count[np.ix_(rows, used_counts)],
            "total_columns": used_totals,
            "total": self._total[np.ix_(rows, used_totals)],
        }

    def restore(self, arrays: Arrays) -> IntArray:
        """Take a snapshot in, in place of what is known of its panes, and return these panes."""
        panes = arrays["pane"].astype(np.int64)
        rows = self.rows(panes)
        self._count[rows] = 0
        self._total[rows] = 0.0
        self._count[np.ix_(rows, arrays["count_columns"].astype(np.int64))] = arrays["count"]
        self._total[np.ix_(rows, arrays["total_columns"].astype(np.int64))] = arrays["total"]
        self._dirty.clear()
        return panes
