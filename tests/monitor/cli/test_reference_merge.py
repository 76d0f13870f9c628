"""`driftd reference merge`: one profile of several, in the order of their times; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.times import format_time
from tests.in_process import Told, driftd

START_MS = 1_700_000_000_000


def write(path: Path, start: int, rows: int, *, times: bool = True) -> Path:
    """A table of a number and a category, a row a second."""
    rng = np.random.default_rng(start)
    lines = [
        f"{rng.standard_normal():.5f},{'abc'[rng.integers(3)]}"
        + (f",{format_time(START_MS + (start + i) * 1_000)}" if times else "")
        for i in range(rows)
    ]
    path.write_text("\n".join(["x,kind" + (",time" if times else ""), *lines]) + "\n", encoding="utf-8")
    return path


def built(folder: Path, name: str, start: int, rows: int, *, times: bool = True) -> str:
    table, profile = write(folder / f"{name}.csv", start, rows, times=times), folder / f"{name}.profile"
    assert driftd("reference", "build", str(table), "-o", str(profile)).code == 0
    return str(profile)


def merge(folder: Path, *arguments: str) -> Told:
    return driftd("reference", "merge", *arguments, "-o", str(folder / "all.profile"))


def test_profiles_merge_in_the_order_of_their_times(tmp_path: Path) -> None:
    later, earlier = built(tmp_path, "later", 900, 300), built(tmp_path, "earlier", 0, 600)
    assert merge(tmp_path, later, earlier).code == 0

    found = driftd("reference", "show", str(tmp_path / "all.profile"), "--json").json()
    assert (found["rows"], found["ordered"]) == (900, True)
    assert found["blocks"] == 150 + 75 + 150 + 75
    assert [(part["file"], part["rows"]) for part in found["parts"]] == [
        ("earlier.profile", 600),
        ("later.profile", 300),
    ]
    assert [part["first"] for part in found["parts"]] == [format_time(START_MS), format_time(START_MS + 900_000)]
    told = driftd("reference", "show", str(tmp_path / "all.profile")).out
    assert "part earlier.profile: 600 rows" in told


def test_a_merged_profile_is_simulated_and_checked_like_any(tmp_path: Path) -> None:
    assert merge(tmp_path, built(tmp_path, "a", 0, 1_500), built(tmp_path, "b", 5_000, 1_500)).code == 0
    config = tmp_path / "driftd.yaml"
    config.write_text(
        f"stream: {{url: 'file:{tmp_path}/stream', events: [events]}}\nstore: {{url: 'sqlite:///{tmp_path}/d.db'}}\n"
        "models:\n  m:\n    task: binary\n    champion: v1\n    window: {events: 200, every: 20}\n"
        f"    reference: {tmp_path}/all.profile\n",
        encoding="utf-8",
    )

    found = driftd("simulate", "m", "--events", "1000", "--json", "-c", str(config)).json()
    assert (found["rows"], found["checks"]) == (3_000, 41)


def test_overlapping_times_are_refused_but_as_unordered(tmp_path: Path) -> None:
    one, two = built(tmp_path, "a", 0, 600), built(tmp_path, "b", 300, 600)
    refused = merge(tmp_path, one, two)

    assert refused.code == 65
    assert "begins before" in refused.err
    assert "--unordered" in refused.err
    assert merge(tmp_path, one, two, "--unordered").code == 0
    assert driftd("reference", "show", str(tmp_path / "all.profile"), "--json").json()["ordered"] is False


def test_without_times_nothing_tells_what_comes_first(tmp_path: Path) -> None:
    one, two = built(tmp_path, "a", 0, 300, times=False), built(tmp_path, "b", 1, 300, times=False)
    refused = merge(tmp_path, one, two)

    assert refused.code == 65
    assert "has no times" in refused.err
    assert merge(tmp_path, one, two, "--unordered").code == 0


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (("a.profile",), 64, "at least two"),
        (("a.profile", "a.profile"), 64, "count twice"),
        (("a.profile", "a.csv"), 65, "is no profile"),
        (("a.profile", "other.profile"), 65, "has 'kind' and"),
    ],
)
def test_what_cannot_be_merged_is_said(tmp_path: Path, names: tuple[str, ...], code: int, words: str) -> None:
    built(tmp_path, "a", 0, 300)
    (tmp_path / "other.csv").write_text("x,time\n" + "".join(f"{i},{START_MS + i * 10**6}\n" for i in range(400, 700)))
    assert driftd("reference", "build", str(tmp_path / "other.csv"), "-o", str(tmp_path / "other.profile")).code == 0
    refused = merge(tmp_path, *(str(tmp_path / name) for name in names))

    assert refused.code == code
    assert words in refused.err
