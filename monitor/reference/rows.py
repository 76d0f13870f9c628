"""The rows of a table in order, for whoever resamples them.

Shell. A profile has its rows in blocks (`block_rows`); with their outcomes, and row by row, they are in the table only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference_builder import Column
from detectors.types import FloatArray, IntArray
from monitor.aggregation.outcomes import ScoredPairs
from monitor.reference.build import TableOutcomes, time_of
from monitor.reference.compared import names_in
from monitor.reference.table_columns import TableColumns
from monitor.reference.table_roles import Role, TableSpec
from monitor.reference.tables import open_table

MOST: Final = 500_000  # rows that are read


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table in its order, all columns of equal length.

    Attributes:
        columns: Values by the names of compared features and answers.
        pairs: Answers with their actual values, with their rows as panes; None where the table has none.
        times: Times of the rows, ms; None where a row has none, or they are not in order.
        rows: How many rows there are.
    """

    columns: Mapping[str, Column]
    pairs: ScoredPairs | None
    times: IntArray | None
    rows: int

    @property
    def start(self) -> int | None:
        """Return the time of the first row, ms; None where a row has none, or they are in no order."""
        return None if self.times is None else int(self.times[0])

    @property
    def lasts(self) -> int:
        """Return how long rows go on, ms; 0 where nothing tells."""
        return 0 if self.times is None else int(self.times[-1] - self.times[0])

    def holds(self, comparison: Comparison) -> bool:
        """Tell whether it has any of the features of a comparison."""
        return any(name in self.columns for name in names_in(comparison))

    def counts(self, comparison: Comparison, rows: slice) -> dict[str, Counts]:
        """Count rows against the references of a comparison, as a pane counts predictions."""
        count = rows.stop - rows.start
        numbers: FloatArray = np.full((count, len(comparison.numeric_cells)), np.nan)
        names = names_in(comparison)
        for i, name in enumerate(names[: len(comparison.numeric_cells)]):
            if name in self.columns:
                numbers[:, i] = self.columns[name][rows]
        numbers[~np.isfinite(numbers)] = np.nan
        codes = []
        cells = comparison.category_cells
        for known, name in zip(cells.codes, names[len(comparison.numeric_cells) :], strict=True):
            texts: Any = self.columns[name][rows] if name in self.columns else [None] * count
            codes.append(np.fromiter(map(known.__getitem__, texts), np.int64, count))
        times = None if self.times is None else self.times[rows]
        return comparison.bin_counts(numbers, codes, times)

    def pairs_of(self, rows: slice) -> ScoredPairs | None:
        """Return the pairs of some rows."""
        if self.pairs is None:
            return None
        first, last = np.searchsorted(self.pairs.pane, [rows.start, rows.stop]).tolist()
        part, p = slice(first, last), self.pairs
        return ScoredPairs(
            p.pane[part], p.predicted[part], p.score[part], p.actual[part], p.delay[part], p.metrics[part]
        )

    def counted_panes(self, size: int) -> Iterator[slice]:
        """Yield whole panes of so many rows."""
        for start in range(0, self.rows - size + 1, size):
            yield slice(start, start + size)

    def time_panes(self, width: int) -> Iterator[slice]:
        """Yield the rows of each time pane of this width (ms), empty ones too; without the first and the last pane."""
        if self.times is None:
            raise ValueError("the rows have no times")
        panes = self.times // width
        starts = np.searchsorted(panes, np.arange(panes[0] + 1, panes[-1] + 1)).tolist()
        for start, stop in pairwise(starts):
            yield slice(start, stop)


def read_rows(path: Path, spec: TableSpec, most: int = MOST) -> TableRows:
    """Read the first rows of a table, at least as many as asked for where it has them.

    Raises:
        InputFileError: The table cannot be read.
    """
    table = open_table(path, spec)
    read, outcomes = TableColumns(table.columns, spec), TableOutcomes(spec)
    parts: dict[str, list[Column]] = {name: [] for name in read.kinds}
    pairs: list[ScoredPairs] = []
    times: list[int | None] = []
    rows = 0
    for columns, count in table.batches():
        values = read.of(columns)
        for name, numeric in read.kinds.items():  # JSON lines may lack a column here and there
            missing: Column = np.full(count, np.nan) if numeric else [None] * count
            parts[name].append(values.get(name, missing))
        found = outcomes.pairs(columns, count)
        if found is not None:
            pairs.append(_moved(found, rows))
        times += _times(columns, spec, count)
        rows += count
        if rows >= most:
            break
    joined = {name: _joined(columns) for name, columns in parts.items()}
    return TableRows(joined, _pairs(pairs), _in_order(times), rows)


def _joined(parts: Sequence[Column]) -> Column:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(arrays) if arrays else [text for part in parts for text in part]


def _moved(pairs: ScoredPairs, by: int) -> ScoredPairs:
    return ScoredPairs(pairs.pane + by, pairs.predicted, pairs.score, pairs.actual, pairs.delay, pairs.metrics)


def _pairs(parts: Sequence[ScoredPairs]) -> ScoredPairs | None:
    if not parts:
        return None
    pane, predicted, score, actual, delay = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("pane", "predicted", "score", "actual", "delay")
    )
    return ScoredPairs(pane, predicted, score, actual, delay, [None] * len(pane)) if len(pane) else None


def _times(columns: Mapping[str, Any], spec: TableSpec, count: int) -> list[int | None]:
    column = columns.get(spec.roles.get(Role.TIME, ""))
    return [None] * count if column is None else list(map(time_of, column))


def _in_order(times: Sequence[int | None]) -> IntArray | None:
    known = [time for time in times if time is not None]
    if len(known) < max(len(times), 1):
        return None
    found = np.array(known, np.int64)
    return found if bool((np.diff(found) >= 0).all()) else None
