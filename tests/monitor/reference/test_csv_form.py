"""CSV as it comes: every form is recognised and said, or refused with the value and what to change."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.reference import CategoricalReference, NumericReference, Profile
from monitor.errors import InputFileError
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec
from monitor.spec import FeatureKind

ROWS = [
    (f"{20 + i % 37}.{i % 89:02d}", ("gas", "oil")[i % 2], i % 2, 1_700_000_000_000 + 1_000 * i) for i in range(300)
]


def table(separator: str = ",", decimal: str = ".", header: bool = True) -> str:
    """The same rows, written differently."""
    lines = [separator.join(("age", "fuel", "flag", "time"))] if header else []
    for age, fuel, flag, time in ROWS:
        lines.append(separator.join((age.replace(".", decimal), fuel, str(flag), str(time))))
    return "\n".join(lines) + "\n"


def one_column(name: str, values: list[str]) -> str:
    return f"{name},fuel\n" + "".join(f"{value},gas\n" for value in values)


def read(folder: Path, text: str, encoding: str = "utf-8", **kinds: FeatureKind) -> Profile:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return load(path, TableSpec(kinds=kinds))


PLAIN = {"age": 300, "fuel": 300, "flag": 300}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (table(), ""),
        (table(";"), "values are separated by semicolons, as it seems"),
        (table("|"), "values are separated by vertical bars, as it seems"),
        (table("\t"), "values are separated by tabs, as it seems"),
        (table(";", ","), "the comma is taken for the decimal sign, as in 20,00"),
        (table(", "), "blanks after separators are not taken for a part of names and values"),
        ("\ufeff" + table(), ""),
        (table().replace("\n", "\r\n"), ""),
    ],
)
def test_a_form_is_recognised_and_a_guess_is_said(tmp_path: Path, text: str, note: str) -> None:
    """All are the same features with the same values."""
    expected = read(tmp_path, table())

    profile = read(tmp_path, text)

    assert {f.name: f.rows for f in profile.features} == PLAIN
    assert profile.ordered
    assert note in (*profile.notices, "")
    assert [f.name for f in profile.features] == [f.name for f in expected.features]
    for one, other in zip(profile.features, expected.features, strict=True):
        if isinstance(one, NumericReference) and isinstance(other, NumericReference):
            np.testing.assert_array_equal(one.points, other.points)
        if isinstance(one, CategoricalReference) and isinstance(other, CategoricalReference):
            assert one.categories == other.categories


def test_quoted_numbers_with_decimal_commas_are_numbers(tmp_path: Path) -> None:
    profile = read(tmp_path, one_column("age", [f'"{age.replace(".", ",")}"' for age, *_ in ROWS]))

    assert isinstance(profile.feature("age"), NumericReference)
    assert "the comma is taken for the decimal sign, as in 20,00" in profile.notices


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (table(header=False), "has no header: its first row holds 20.00"),
        (one_column("amount", [f'"{1 + i},{i:03d}.50"' for i in range(300)]), "'1,000.50' has thousands separators"),
        (one_column("rate", [f"{i}%" for i in range(300)]), "'0%' has a sign of a unit"),
        (one_column("price", [f"€{i}.50" for i in range(300)]), "'€0.50' has a sign of a unit"),
        (one_column("age", [f"'{i}.5'" for i in range(300)]), "is in single quotes"),
        ("# exported yesterday\n" + table(), "every row needs as many values as the header has names"),
        ("id\n" + "".join(f"user-{i}\n" for i in range(300)), "has no column that could be compared: id: ignored"),
        ("", "is empty"),
        ("age,fuel\n", "has no rows"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_value(tmp_path: Path, text: str, why: str) -> None:
    """Never a reference without features."""
    with pytest.raises(InputFileError) as raised:
        read(tmp_path, text)

    assert why in raised.value.detail


def test_a_few_numbers_with_a_sign_of_a_unit_that_come_again_are_a_category_and_noted(tmp_path: Path) -> None:
    profile = read(tmp_path, one_column("down", [f"{10 * (i % 10)}%" for i in range(300)]))

    assert isinstance(profile.feature("down"), CategoricalReference)
    assert "down: taken for a category, as '0%' has a sign of a unit" in profile.notices


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_characters_are_refused_by_name(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InputFileError, match="save the file as UTF-8"):
        read(tmp_path, table(), encoding)


def test_a_declared_column_is_read_as_it_is(tmp_path: Path) -> None:
    """Whoever says that percentages are categories has them as categories."""
    text = one_column("rate", [f"{i % 5}%" for i in range(300)])

    assert isinstance(read(tmp_path, text, rate=FeatureKind.CATEGORICAL).feature("rate"), CategoricalReference)


def test_leading_zeros_stay(tmp_path: Path) -> None:
    profile = read(tmp_path, one_column("zip", [f"0{1_000 + i % 5}" for i in range(300)]))

    zips = profile.feature("zip")
    assert isinstance(zips, CategoricalReference)
    assert zips.categories[0] == "01000"
    assert "zip: taken for texts, as '01000' would lose its zero as a number" in profile.notices


def test_signs_for_missing_numbers_are_missing_and_named(tmp_path: Path) -> None:
    profile = read(tmp_path, one_column("age", ["-" if i % 5 == 0 else f"{i}.5" for i in range(300)]))

    age = profile.feature("age")
    assert isinstance(age, NumericReference)
    assert (age.rows, age.missing) == (240, 60)
    assert "age: '-' is no number and is taken for a missing one" in profile.notices


def test_columns_without_a_name_are_no_features(tmp_path: Path) -> None:
    """The index that pandas writes, and a comma at the end of each row."""
    text = ",age,fuel\n" + "".join(f"{i},{i / 7},gas\n" for i in range(300))

    profile = read(tmp_path, text)

    assert [f.name for f in profile.features] == ["age", "fuel"]
    assert "a column without a name: ignored" in profile.notices


def test_times_in_seconds_are_not_taken_for_1970(tmp_path: Path) -> None:
    text = "time,age\n" + "".join(f"{1_700_000_000 + i},{i / 7}\n" for i in range(300))

    profile = read(tmp_path, text)

    assert profile.first_ms is None
    assert any("1700000000" in notice and "seconds?" in notice for notice in profile.notices)


# -- types that a file states ----------------------------------------------------------------------------


def test_types_that_a_parquet_file_states_are_used(tmp_path: Path) -> None:
    """Categories of numbers are categories; the index of pandas is no feature."""
    codes = [i % 3 for i in range(300)]
    columns = {
        "category": pa.array(codes).dictionary_encode(),
        "view": pa.array([f"t{c}" for c in codes], pa.string_view()),
        "large": pa.array([f"t{c}" for c in codes], pa.large_string()),
        "price": pa.array(codes, pa.int64()).cast(pa.decimal128(21, 2)),
        "flag": pa.array([c > 0 for c in codes]),
        "nested": pa.array([[c] for c in codes]),
        "__index_level_0__": pa.array(range(300)),
    }
    found = pa.table(columns).replace_schema_metadata({"pandas": '{"index_columns": ["__index_level_0__"]}'})
    pq.write_table(found, tmp_path / "table.parquet")

    profile = load(tmp_path / "table.parquet", TableSpec())

    kinds = {f.name: isinstance(f, NumericReference) for f in profile.features}
    assert kinds == {"category": False, "view": False, "large": False, "price": True, "flag": False}
    category = profile.feature("category")
    assert isinstance(category, CategoricalReference)
    assert category.categories == ("0", "1", "2")
    told = " ".join(profile.notices)
    assert "nested: ignored, a column of type list" in told
    assert "__index_level_0__: ignored, it is the index of the table and no feature" in told


# -- hostile files ---------------------------------------------------------------------------------------


def test_a_few_bytes_that_stand_for_gigabytes_are_refused(tmp_path: Path) -> None:
    """Six hundred times the same megabyte."""
    pq.write_table(pa.table({"a": pa.array(["0" * 1_000_000] * 600)}), tmp_path / "bomb.parquet", compression="zstd")

    with pytest.raises(InputFileError, match="column a: a text of 1000000 characters, at most 65536"):
        load(tmp_path / "bomb.parquet", TableSpec())


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "line.jsonl").write_bytes(b'{"a":"' + b"0" * (17 << 20) + b'"}')

    with pytest.raises(InputFileError, match="is longer than 16 MiB"):
        load(tmp_path / "line.jsonl", TableSpec())


def test_a_profile_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    header = b"[" * 50_000
    (tmp_path / "deep").write_bytes(
        b"DRIFTREF" + struct.pack("<II", len(header), zlib.crc32(header, len(header))) + header
    )

    with pytest.raises(InputFileError, match="is a damaged profile"):
        load(tmp_path / "deep", TableSpec())


def test_a_number_of_thousands_of_digits_is_a_damaged_profile(tmp_path: Path) -> None:
    header = b"9" * 5_000
    (tmp_path / "digits").write_bytes(
        b"DRIFTREF" + struct.pack("<II", len(header), zlib.crc32(header, len(header))) + header
    )

    with pytest.raises(InputFileError, match="is a damaged profile"):
        load(tmp_path / "digits", TableSpec())


def test_a_pipe_is_no_reference(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.csv")

    with pytest.raises(InputFileError, match="is a pipe, socket or device"):
        load(tmp_path / "table.csv", TableSpec())
