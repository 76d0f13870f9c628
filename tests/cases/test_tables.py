"""Tables as they are exported: recognised, or refused with the reason and exit 65; never without features."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.in_process import Told, driftd

CHANCE: Final = random.Random(7)
ROWS: Final = [
    (CHANCE.gauss(40, 9), CHANCE.choice(["gas", "oil"]), CHANCE.randint(0, 1), 1_700_000_000_000 + i * 1_000)
    for i in range(200)
]
PLAIN: Final = {"age": "numeric", "fuel": "categorical", "flag": "numeric"}


def table(separator: str = ",", decimal: str = ".", header: str = "age fuel flag time") -> str:
    lines = [separator.join(header.split())] if header else []
    for age, fuel, flag, time in ROWS:
        lines.append(separator.join((f"{age:.2f}".replace(".", decimal), fuel, str(flag), str(time))))
    return "\n".join(lines) + "\n"


def column(name: str, write: Any) -> str:
    """A column of one's own beside a plain one."""
    return f"{name},fuel\n" + "".join(f"{write(i, age)},{fuel}\n" for i, (age, fuel, *_) in enumerate(ROWS))


RECOGNISED: Final[Mapping[str, bytes]] = {
    "plain": table().encode(),
    "semicolons": table(";").encode(),
    "semicolons and decimal commas": table(";", ",").encode(),
    "tabs": table("\t").encode(),
    "bars": table("|").encode(),
    "blanks after commas": table(", ").encode(),
    "a mark of the order of bytes": ("\ufeff" + table()).encode(),
    "a mark and semicolons": ("\ufeff" + table(";")).encode(),
    "lines of Windows": table().replace("\n", "\r\n").encode(),
    "lines of Windows and semicolons": table(";").replace("\n", "\r\n").encode(),
    "no line end at the end": table().rstrip("\n").encode(),
    "quoted names and texts": table().replace("fuel", '"fuel"').replace("gas", '"gas"').encode(),
    "everything quoted": "\n".join(",".join(f'"{v}"' for v in x.split(",")) for x in table().splitlines()).encode(),
    "empty lines at the end": (table() + "\n\n").encode(),
}
REFUSED: Final[Mapping[str, tuple[bytes, str]]] = {
    "no header": (table(header="").encode(), "has no header"),
    "no header and semicolons": (table(";", header="").encode(), "has no header"),
    "UTF-16": (table().encode("utf-16"), "is UTF-16: save the file as UTF-8"),
    "latin-1": (column("ort", lambda i, _: ("Köln", "Ulm")[i % 2]).encode("latin-1"), "save the file as UTF-8"),
    "a header in latin-1": (table(header="größe fuel flag time").encode("latin-1"), "its header is not UTF-8"),
    "one name twice": (table(header="age age flag time").encode(), "age"),
    "thousands": (column("amount", lambda _, age: f'"{1000 + age * 100:,.2f}"').encode(), "has thousands separators"),
    "per cent": (column("rate", lambda _, age: f"{age:.0f}%").encode(), "has a sign of a unit"),
    "a currency": (column("price", lambda _, age: f"€{age:.2f}").encode(), "has a sign of a unit"),
    "a comment first": (b"# exported 2023-11-14\n" + table().encode(), "every row needs as many values"),
    "single quotes": (column("age", lambda _, age: f"'{age:.2f}'").encode(), "is in single quotes"),
    "hexadecimal": (column("code", lambda i, _: f"0x{i:04x}").encode(), "column code"),
    "a row that is too short": ((table() + "1,2\n").encode(), "every row needs as many values"),
    "identifiers only": (b"id\n" + b"".join(b"user-%d\n" % i for i in range(200)), "no column that could be compared"),
    "empty": (b"", "is empty"),
    "blank": (b"\n\n\n", ""),
    "a header only": (b"age,fuel\n", "has no rows"),
    "zeros": (b"\0" * 5_000, ""),
    "a page of the web": (b"<!DOCTYPE html>\n<html><body>\n<p>Log in, please</p>\n</body></html>\n", ""),
}
NOTED: Final[Mapping[str, tuple[str, dict[str, str], str]]] = {
    "an index without a name": (
        ",age,fuel\n" + "".join(f"{i},{a:.2f},{f}\n" for i, (a, f, *_) in enumerate(ROWS)),
        {"age": "numeric", "fuel": "categorical"},
        "a column without a name: ignored",
    ),
    "a comma at the end": (
        "age,fuel,\n" + "".join(f"{a:.2f},{f},\n" for a, f, *_ in ROWS),
        {"age": "numeric", "fuel": "categorical"},
        "a column without a name: ignored",
    ),
    "signs for nothing": (
        column("age", lambda i, age: ["NA", "-", "?", "n/a", "none", "."][i % 6] if i % 5 == 0 else f"{age:.2f}"),
        {"age": "numeric", "fuel": "categorical"},
        "is no number and is taken for a missing one",
    ),
    "zeros in front": (
        column("zip", lambda i, _: f"0{1000 + i % 5}"),
        {"zip": "categorical", "fuel": "categorical"},
        "would lose its zero as a number",
    ),
    "decimal commas in quotes": (
        column("age", lambda _, age: f'"{age:.2f}"'.replace(".", ",")),
        {"age": "numeric", "fuel": "categorical"},
        "the comma is taken for the decimal sign",
    ),
    "times in seconds": (
        "time,age\n" + "".join(f"{z // 1000},{a:.2f}\n" for a, _, _, z in ROWS),
        {"age": "numeric"},
        "seconds?",
    ),
    "times of another form": (
        "time,age\n" + "".join(f"{1 + i % 28:02d}.11.2023 10:00,{a:.2f}\n" for i, (a, *_) in enumerate(ROWS)),
        {"age": "numeric"},
        "200 values are no time",
    ),
    "separators in quotes": (
        column("note", lambda i, _: f'"two, {i % 3}; or | so"'),
        {"note": "categorical", "fuel": "categorical"},
        "",
    ),
    "lines in quotes": (
        column("note", lambda i, _: f'"two\nlines, {i % 3}"'),
        {"note": "categorical", "fuel": "categorical"},
        "",
    ),
    "words for truth": (
        "a,b,c\n" + "".join(f"{['FALSE', 'TRUE'][b]},{['no', 'yes'][b]},{b}\n" for *_, b, _ in ROWS),
        {"a": "categorical", "b": "categorical", "c": "numeric"},
        "",
    ),
    "exponents and signed noughts": (
        "x,y\n" + "".join(f"{a * 1e10:.3E},{'-0.0' if b else '0.0'}\n" for a, _, b, _ in ROWS),
        {"x": "numeric", "y": "numeric"},
        "",
    ),
}  # fmt: skip


def built(folder: Path, content: bytes, name: str = "table.csv") -> Told:
    path = folder / name
    path.write_bytes(content)
    return driftd("reference", "build", str(path), "-o", str(folder / "out.profile"), "--json")


def kinds(told: Told) -> dict[str, str]:
    assert told.code == 0, told.err
    return {feature["name"]: feature["kind"] for feature in told.json()["features"]}


@pytest.mark.parametrize("form", RECOGNISED)
def test_a_form_is_recognised(tmp_path: Path, form: str) -> None:
    assert kinds(built(tmp_path, RECOGNISED[form])) == PLAIN


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_understood_is_refused_with_the_reason(tmp_path: Path, form: str) -> None:
    content, why = REFUSED[form]

    told = built(tmp_path, content)

    assert told.code == 65
    assert why in told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "out.profile").exists()


@pytest.mark.parametrize("form", NOTED)
def test_a_note_names_what_was_taken_for_what(tmp_path: Path, form: str) -> None:
    text, expected, note = NOTED[form]

    told = built(tmp_path, text.encode())

    assert kinds(told) == expected
    assert note in json.dumps(told.json()["notices"], ensure_ascii=False)


def test_a_compressed_table_is_read_as_the_plain_one(tmp_path: Path) -> None:
    assert kinds(built(tmp_path, gzip.compress(table(";").encode()), "table.csv.gz")) == PLAIN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv.gz", table().encode()),
        ("table.csv.gz", gzip.compress(table().encode())[:-20]),
        ("book.xlsx", b"PK no workbook"),
        ("table.csv", gzip.compress(table().encode())),
        ("table.parquet", b"PAR1" + bytes(100) + b"PAR1"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    told = built(tmp_path, content, name)

    assert told.code == 65
    assert "Traceback" not in told.err
