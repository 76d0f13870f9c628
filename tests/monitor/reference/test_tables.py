"""Reading of tables: the same rows are the same profile, and what is wrong with a file is told by its name."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.reference import Profile
from monitor.errors import InputFileError
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec
from monitor.spec import Task
from tests.monitor.reference.profiles import FORMS, PLAIN, SOME, categorical, numeric, profile_of

# -- forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_are_the_same_profile_in_every_form(tmp_path: Path, form: str) -> None:
    """To the last bit: their hashes agree."""
    spec = TableSpec(Task.REGRESSION, columns={"prediction": "prediction", "actual": "actual"})
    expected = profile_of(tmp_path, SOME, spec, "expected.jsonl")

    profile = profile_of(tmp_path, SOME, spec, form)

    assert profile.content_hash == expected.content_hash
    assert (profile.rows, profile.ordered, profile.notices) == (500, True, ())
    assert [f.name for f in profile.features] == ["load", "count", "fuel"]
    assert [f.name for f in profile.answers] == ["prediction"]


def test_a_profile_is_read_back_as_it_was_built(tmp_path: Path) -> None:
    """Whatever the file is called."""
    built = profile_of(tmp_path, SOME, TableSpec(Task.REGRESSION))
    path = tmp_path / "heat.profile"
    path.write_bytes(built.to_bytes())

    assert load(path, PLAIN).content_hash == built.content_hash


def test_a_byte_order_mark_quotes_and_line_breaks_in_csv(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfload,note\r\n1,"a\nb"\r\n2,"c, ""d"""\r\n')
    profile = load(path, PLAIN)

    assert numeric(profile, "load").points.tolist() == [1, 2]
    assert set(categorical(profile, "note").categories) == {"a\nb", 'c, "d"'}


# -- files that cannot be read ---------------------------------------------------------------------------

GOOD = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
BROKEN = GOOD[:30] + bytes([GOOD[30] ^ 0xFF]) + GOOD[31:]
DEEP = b"3,4\n" * 3_000_000  # more than a block
SAVE = "save the file as UTF-8"
RAGGED = "every row needs as many values as the header has names"
UNEXPECTED = (
    "where a double is expected from the rows before it; name it under `features:` as categorical if it holds texts"
)
NO_OBJECT = "is not a JSON object"
DAMAGED = "is a damaged profile"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("t.csv", b"", "is empty: a header and rows are needed"),
        ("t.csv", b"a,b\n", "has no rows"),
        ("t.csv", b"a,b\n1,2\n3\n", f"Expected 2 columns, got 1: 3; {RAGGED}"),
        ("t.csv", b"a,b\n" + DEEP + b"5\n", RAGGED),
        ("t.csv", b"a,b\n" + DEEP + b"x,5\n", f"column a: invalid value 'x', {UNEXPECTED}"),
        ("t.csv", "a,b\n1,größe\n".encode("latin-1"), f"column b is not UTF-8: {SAVE}"),
        ("t.csv", "größe,b\n1,2\n".encode("latin-1"), f"its header is not UTF-8: {SAVE}"),
        ("t.csv", b"a,b\n" + b"1,x\n" * 3_000_000 + "1,größe\n".encode("latin-1"), f"is not UTF-8: {SAVE}"),
        ("t.csv", b"a,b,a\n1,2,3\n", "two columns are called a: rename one of them"),
        ("t.csv.gz", b"a,b\n1,2\n", "is damaged, or not compressed by gzip"),
        ("t.csv.gz", GOOD[:-20], "is damaged, or not compressed by gzip"),
        ("t.csv.gz", BROKEN, "is damaged, or not compressed by gzip"),
        ("t.jsonl", b"", "has no rows"),
        ("t.jsonl", b"\n \n", "has no rows"),
        ("t.jsonl", b'{"a": 1}\n{"a":\n', f"2: {NO_OBJECT}: Input data was truncated; each line needs one, in UTF-8"),
        ("t.json", b'[{"a": 1}]', f"1: {NO_OBJECT}: Expected `object`, got `array`; each line needs one"),
        ("t.json", b'{\n  "a": 1\n}\n', f"1: {NO_OBJECT}"),
        ("t.jsonl", b'{"a": "\xff"}\n', f"1: {NO_OBJECT}"),
        ("t.jsonl", b'{"a": NaN}\n', f"1: {NO_OBJECT}"),
        ("t.jsonl", b'{"a": 1e999}\n', f"1: {NO_OBJECT}"),
        ("t.jsonl", b'{"a": ' + b"[" * 100_000, f"1: {NO_OBJECT}"),
        ("t.jsonl.gz", b'{"a": 1}\n', "is damaged"),
        ("t.jsonl.gz", BROKEN, "is damaged"),
        ("t.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 10_000)[:-30], "is damaged"),
        ("t.parquet", b"", "is damaged, or not Parquet"),
        ("t.parquet", b"PAR1 and no more", "is damaged, or not Parquet"),
        ("t.xlsx", b"PK", "its name does not end in .csv, .tsv, .jsonl (each also with .gz) or .parquet"),
        ("table", b"a,b\n1,2\n", "is no profile, and its name does not end in"),
        ("t.profile", b"DRIFTREF", f"{DAMAGED}: does not begin with b'DRIFTREF'; build it again with"),
        ("t.profile", b"DRIFTREF" + bytes(100), f"{DAMAGED}: the checksum does not match; build it again with"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_the_file_and_what_would_do(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    """Never a traceback of a library."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(InputFileError) as raised:
        load(path, PLAIN)

    assert str(raised.value).startswith(str(path))
    assert why in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """And one that is a directory."""
    for path, why in ((tmp_path / "missing.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InputFileError) as raised:
            load(path, PLAIN)
        assert str(raised.value) == f"{path}: {why}"


def test_twin_columns_of_parquet_are_refused(tmp_path: Path) -> None:
    """One of them would be lost in silence."""
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")

    with pytest.raises(InputFileError, match="two columns are called a"):
        load(tmp_path / "t.parquet", PLAIN)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2_000), st.integers(1, 255))
def test_no_flipped_byte_of_a_profile_goes_unnoticed(tmp_path: Path, at: int, flip: int) -> None:
    """It has a checksum."""
    blob = bytearray(profile_of(tmp_path, SOME).to_bytes())
    at %= len(blob)
    blob[at] ^= flip
    path = tmp_path / "heat.profile"
    path.write_bytes(bytes(blob))

    with pytest.raises(InputFileError):
        load(path, PLAIN)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from([*FORMS, "t.profile"]))
def test_whatever_a_file_holds_it_is_a_profile_or_an_error_of_ours(tmp_path: Path, content: bytes, name: str) -> None:
    """Anybody may point the configuration at any file."""
    path = tmp_path / name
    path.write_bytes(content)
    try:
        profile = load(path, TableSpec(Task.BINARY))
    except InputFileError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 (nothing need be raised)
    else:
        assert Profile.from_bytes(profile.to_bytes()).content_hash == profile.content_hash


# -- large tables ----------------------------------------------------------------------------------------


_PEAK = """
import resource, sys
from pathlib import Path
import pyarrow.parquet, pyarrow.csv
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
profile = load(Path(sys.argv[1]), TableSpec())
print(profile.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["t.parquet", "t.csv"])
def test_a_million_rows_need_hardly_more_memory_than_a_hundred_thousand(tmp_path: Path, form: str) -> None:
    """They are read in parts, twice."""
    rng = np.random.default_rng(3)
    peaks = []
    for count in (100_000, 1_000_000):
        table = pa.table(
            {"x": rng.normal(size=count), "t": np.array(["gas", "oil", "wood"])[rng.integers(0, 3, count)]}
        )
        if form == "t.csv":
            pa_csv.write_csv(table, tmp_path / form)
        else:
            pq.write_table(table, tmp_path / form, row_group_size=100_000)
        told = subprocess.run(
            [sys.executable, "-c", _PEAK, str(tmp_path / form)], check=True, capture_output=True, text=True, timeout=60
        ).stdout.split()
        assert int(told[0]) == count
        peaks.append(int(told[1]) / 1024)

    # As Python objects the larger table would take some 100 MB.
    assert peaks[1] - peaks[0] < 60
