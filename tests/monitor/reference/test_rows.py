"""Rows of a table in order: what they count is what its profile counts, and time panes are those of their times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectors.comparison import Comparison
from detectors.reference import CategoricalReference, NumericReference
from detectors.registry import MIN_EFFECT
from monitor.reference.build import load
from monitor.reference.rows import read_rows
from monitor.reference.table_roles import TableSpec
from monitor.spec import Task

LINES = ["x,kind,prediction,actual,time"]
LINES += [
    f"{'' if i == 3 else i % 7},{'ab'[i % 2]},{i % 2},{1 if i % 5 else ''},{60_000 * 40_000_000 + i * 10_000}"
    for i in range(60)
]
SPEC = TableSpec(Task.BINARY)


def a_table(folder: Path, lines: list[str]) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_all_rows_count_what_the_profile_counts(tmp_path: Path) -> None:
    path = a_table(tmp_path, LINES)
    profile, rows = load(path, SPEC), read_rows(path, SPEC)
    numeric = [f for f in profile.features if isinstance(f, NumericReference)]
    categorical = [f for f in profile.features if isinstance(f, CategoricalReference)]
    comparison = Comparison("features", numeric, categorical, ("ks",), MIN_EFFECT)

    cells, _, categories, missing = (rows.counts(comparison, slice(0, 60))[name] for name in comparison.vectors)
    assert cells.dense()[1::2].tolist() == numeric[0].weights.tolist()
    assert categories.dense()[:2].tolist() == categorical[0].counts.tolist()
    assert missing.dense().tolist() == [1, 0]


def test_pairs_are_those_of_rows_with_an_actual_value(tmp_path: Path) -> None:
    rows = read_rows(a_table(tmp_path, LINES), SPEC)

    pairs = rows.pairs_of(slice(10, 20))
    assert pairs is not None
    assert pairs.pane.tolist() == [11, 12, 13, 14, 16, 17, 18, 19]
    assert pairs.predicted.tolist() == [row % 2 for row in pairs.pane]
    assert np.all(pairs.actual == 1)


def test_time_panes_are_whole_ones(tmp_path: Path) -> None:
    """Six rows a minute; a minute without rows is a pane without rows."""
    rows = read_rows(a_table(tmp_path, [LINES[0], *LINES[1:25], *LINES[31:]]), SPEC)

    assert [part.stop - part.start for part in rows.time_panes(60_000)] == [6, 6, 6, 0, 6, 6, 6, 6]
    assert [part.start for part in rows.counted_panes(20)] == [0, 20]


def test_rows_out_of_order_have_no_times(tmp_path: Path) -> None:
    assert read_rows(a_table(tmp_path, [LINES[0], *reversed(LINES[1:])]), SPEC).times is None
    assert read_rows(a_table(tmp_path, LINES), SPEC).times is not None
