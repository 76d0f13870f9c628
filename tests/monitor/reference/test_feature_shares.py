"""Features that are profiled side by side: the same profile from any number of processes, and none left behind."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from detectors.season import Season
from monitor.errors import InputFileError
from monitor.reference.build import build
from monitor.reference.table_roles import TableSpec
from monitor.spec import Task

ROWS = 3_000


def a_table(folder: Path) -> Path:
    """Numbers, texts, an identifier that is left out, answers and times."""
    rng = np.random.default_rng(0)
    lines = ["prediction,a,b,id,kind,colour,actual,time"]
    lines += [
        f"{rng.integers(2)},{rng.standard_normal():.4f},{rng.integers(4)},r{i},{'xyz'[rng.integers(3)]},"
        f"{['red', '', 'blue'][rng.integers(3)]},{rng.integers(2)},{1_700_000_000_000 + i * 60_000}"
        for i in range(ROWS)
    ]
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("jobs", "season"), [(2, None), (3, Season.HOUR_OF_DAY)])
def test_the_profile_is_the_same_for_any_number_of_processes(tmp_path: Path, jobs: int, season: Season | None) -> None:
    path, spec = a_table(tmp_path), TableSpec(Task.BINARY, season=season)
    alone = build(path, spec)

    assert [f.name for f in alone.features] == ["a", "b", "kind", "colour"]
    assert alone.blocks[0].names == ("a", "b", "kind", "colour", "prediction")
    assert build(path, spec, jobs=jobs).to_bytes() == alone.to_bytes()


def test_no_process_is_left_behind_by_a_table_that_is_refused(tmp_path: Path) -> None:
    """Identifiers only, which is known when all rows were read."""
    path = tmp_path / "table.csv"
    path.write_text("id,key\n" + "".join(f"r{i},k{i}\n" for i in range(200)), encoding="utf-8")
    with pytest.raises(InputFileError, match="no column that could be compared"):
        build(path, TableSpec(), jobs=2)

    assert multiprocessing.active_children() == []
