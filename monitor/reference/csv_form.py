"""In which form a CSV file is written: separator, decimal sign, and what would be read as something else.

What the first rows show is used, and said; what cannot be read is refused with the value and what to change. Shell:
reads the beginning of the file. Called by `tables`.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from monitor.errors import InputFileError

_BEGINNING: Final = 1 << 18  # bytes
_ROWS: Final = 200
_SEPARATORS: Final = (",", ";", "\t", "|")
_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
_POINT: Final = re.compile(r"[+-]?\d*\.\d+")
_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}([.' ]\d{3})+,\d+|[+-]?\d{1,3}(['  ]\d{3})+")
_DECORATED: Final = re.compile(r"[$€£¥]\s?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s?[%$€£¥]")
_LEVELS: Final = 20  # different ones among the first rows: a category, whatever signs they have
_SINGLE_QUOTED: Final = re.compile(r"'.*'")
_LEADING_ZERO: Final = re.compile(r"0\d+")
_WIDE: Final = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a file is to be read.

    Attributes:
        separator: Between values.
        decimal: Sign before the fraction of a number.
        names: Names of the columns, where blanks follow the separators; else ().
        texts: Columns of digits whose leading zeros would be lost as numbers.
        numbers: Columns of numbers with a few texts between them.
        notices: What was guessed.
    """

    separator: str
    decimal: str = "."
    names: Sequence[str] = ()
    texts: Collection[str] = ()
    numbers: Collection[str] = ()
    notices: Sequence[str] = ()


def form_of(path: Path, declared: Collection[str], nulls: Collection[str]) -> CsvForm:
    """Find out how a CSV file is written.

    Args:
        path: The file, maybe compressed by gzip.
        declared: Columns whose kind is configured; they are read as they are.
        nulls: Texts that stand for missing numbers.

    Raises:
        InputFileError: Its form cannot be read.
    """
    text = _beginning(path)
    usual = "\t" if ".tsv" in path.name.lower() else ","
    separator = _separator(text, usual)
    rows = _rows_of(text, separator)
    if not rows:
        return CsvForm(usual)
    notices = [] if separator == usual else [f"values are separated by {_NAMES[separator]}, as it seems"]
    blanks = len(rows[0]) > 1 and all(name.startswith(" ") for name in rows[0][1:])
    if blanks:
        if any(value.startswith(' "') for row in rows for value in row):
            raise InputFileError(str(path), "has blanks between separators and quotes: remove the blanks")
        notices.append("blanks after separators are not taken for a part of names and values")
    header = [name.strip() if blanks else name for name in rows[0]]
    _need_header(path, header)
    columns = {
        name: [row[i].strip() for row in rows[1:] if len(row) == len(header) and row[i].strip() not in {"", *nulls}]
        for i, name in enumerate(header)
        if name not in declared
    }
    comma = _has_decimal_commas(columns)
    if comma:
        notices.append("the comma is taken for the decimal sign, as in " + comma)
    texts: list[str] = []
    numbers: list[str] = []
    for name, values in columns.items():
        notices += _decorated(path, name, values, comma=bool(comma))
        zero = next((v for v in values if _LEADING_ZERO.fullmatch(v)), None)
        if zero is not None and all(v.isdigit() for v in values):
            texts.append(name)
            notices.append(f"{name}: taken for texts, as {zero!r} would lose its zero as a number")
        odd = [v for v in values if not _NUMBER.fullmatch(v.replace(",", ".") if comma else v)]
        if odd and 2 * len(odd) < len(values) and len(set(odd)) <= len(odd) / 2 + 5:
            numbers.append(name)
            notices.append(f"{name}: {odd[0]!r} is no number and is taken for a missing one")
    return CsvForm(separator, "," if comma else ".", header if blanks else (), texts, numbers, notices)


def _beginning(path: Path) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            found: bytes = file.read(_BEGINNING)
    except (EOFError, zlib.error):
        return ""  # whoever reads all of it tells
    except OSError as error:
        raise InputFileError(str(path), error.strerror or f"is damaged, or not compressed by gzip: {error}") from error
    for mark, name in _WIDE.items():
        if found.startswith(mark):
            raise InputFileError(str(path), f"is {name}: save the file as UTF-8")
    if found[:200].count(0) > len(found[:200]) // 4:
        raise InputFileError(str(path), "is UTF-16, or no text at all: save the file as UTF-8")
    whole = found if len(found) < _BEGINNING else found[: found.rfind(b"\n") + 1]
    return whole.decode("utf-8-sig", errors="replace")


def _rows_of(text: str, separator: str) -> list[list[str]]:
    found: list[list[str]] = []
    try:
        for row in csv.reader(text.splitlines(keepends=True), delimiter=separator):
            if row:
                found.append(row)
            if len(found) > _ROWS:
                break
    except csv.Error:
        return []  # fields of extreme length: whoever reads all of it tells
    return found


def _separator(text: str, usual: str) -> str:
    """Return the separator by which all first rows have as many values as the header: the usual one, if it is one."""
    for separator in (usual, *(s for s in _SEPARATORS if s != usual)):
        widths = {len(row) for row in _rows_of(text, separator)}
        if len(widths) == 1 and max(widths) > 1:
            return separator
    return usual


def _need_header(path: Path, header: Sequence[str]) -> None:
    value = next((name for name in header if _NUMBER.fullmatch(name)), None)
    if value is None:
        return
    named = [name for name in header if name]
    numbered = all(name.isdigit() for name in named) and len({int(n) for n in named}) == len(named)
    if not numbered or int(named[-1]) - int(named[0]) >= len(named):  # but columns may be numbered
        raise InputFileError(str(path), f"has no header: its first row holds {value}; a row of names is needed")


def _has_decimal_commas(columns: dict[str, list[str]]) -> str:
    """Return a number with a decimal comma, where all fractions are written so; else nothing."""
    values = [value for column in columns.values() for value in column]
    if any(_POINT.fullmatch(value) for value in values):
        return ""
    found = [value for value in values if _DECIMAL_COMMA.fullmatch(value)]
    whole = all(_THOUSANDS.fullmatch(value) for value in found)
    return found[0] if found and not whole else ""


def _decorated(path: Path, name: str, values: Sequence[str], *, comma: bool) -> Sequence[str]:
    """Refuse numbers that would be read as texts, each of them different; note a few that come again and again."""
    if not values:
        return ()
    for form, fault in (
        (_THOUSANDS, "has thousands separators"),
        (_DECORATED, "has a sign of a unit"),
        (_SINGLE_QUOTED, "is in single quotes; double ones are needed around texts, and none around numbers"),
    ):
        meant = [v for v in values if form.fullmatch(v)]
        plain = [v for v in values if _NUMBER.fullmatch(v) or (comma and _DECIMAL_COMMA.fullmatch(v))]
        if meant and len(meant) + len(plain) == len(values) and len(meant) * 2 > len(plain):
            if len(set(values)) <= min(_LEVELS, len(values) // 2):
                return (f"{name}: taken for a category, as {meant[0]!r} {fault}",)
            remedy = "write plain numbers, or name the column under `features:` as categorical or ignore"
            raise InputFileError(str(path), f"column {name}: {meant[0]!r} {fault}: {remedy}")
    return ()
