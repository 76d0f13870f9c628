"""Reading of tables: CSV, JSON lines and Parquet as batches of columns.

Shell: reads files in batches, as often as needed, in bounded memory. Called by `build`.

Why not one `pyarrow.dataset` for all three: it infers the types of JSON from the first block, so that a column of
numbers and texts is an error and a column that appears later is dropped; and for CSV it reports the same messages.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec
import numpy as np

from monitor.errors import InputFileError
from monitor.events.schema import LARGEST_INTEGER, Scalar
from monitor.reference.arrow_columns import Batch, arrow, columns_of, is_text, plain, stated_categories
from monitor.reference.csv_form import form_of
from monitor.reference.learning import mostly_numbers
from monitor.reference.table_roles import Role, TableSpec
from monitor.spec import FeatureKind, Task

_ROWS: Final = 1 << 16  # in a batch
_LONGEST_LINE: Final = 16 << 20  # bytes of JSON
_BATCH_BYTES: Final = 64 << 20  # of a batch of Parquet, uncompressed
_NULLS: Final = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]  # among numbers; a region may well be NA
_CONVERSION: Final = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to ([\w\[\]]+): (.*)")
_TOO_FEW_OR_MANY: Final = re.compile(r"CSV parse error: (?:Row #\d+: )?Expected")  # with rows where there is one thread
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")


class Table(Protocol):
    """A file that can be read in batches, as often as needed.

    `columns` tells of each column whether it is numeric (True) or text (False); None is neither.
    """

    columns: Mapping[str, bool | None]

    @property
    def notices(self) -> Sequence[str]:
        """Messages on ignored columns and doubtful values; complete once all rows were read."""
        ...

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in order, as columns by name and the number of rows. Raises InputFileError."""
        ...


def open_table(path: Path, spec: TableSpec) -> Table:
    """Open a table in the format that its name tells.

    Raises:
        InputFileError: The name tells no format, or the file cannot be read.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".parquet", ".pq")):
        return _ParquetTable(path, spec)
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return _JsonTable(path, spec)
    if name.endswith((".csv", ".tsv")):
        return _CsvTable(path, spec)
    raise InputFileError(
        str(path), "is no profile, and its name does not end in .csv, .tsv, .jsonl (each also with .gz) or .parquet"
    )


class _JsonTable:
    """JSON lines, one object a row; the types follow from the first 10 000 rows."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        self._path = path
        rows = list(islice(self._rows(), 10_000))
        names = dict.fromkeys(name for row in rows for name in row)
        self.columns: Mapping[str, bool | None] = {name: _kind_of([row.get(name) for row in rows]) for name in names}
        self.notices: Sequence[str] = [
            f"{name}: ignored, its values are neither numbers nor texts"
            for name, numeric in self.columns.items()
            if numeric is None and name != spec.roles.get(Role.TIME)
        ]

    def _rows(self) -> Iterator[dict[str, Any]]:
        opened = gzip.open if self._path.suffix == ".gz" else open
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        try:
            with opened(self._path, "rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
                    if len(line) > _LONGEST_LINE:
                        raise InputFileError(f"{self._path}:{number}", f"is longer than {_LONGEST_LINE >> 20} MiB")
                    if line.strip():
                        try:
                            yield decode(line)
                        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                            hint = f"is not a JSON object: {error}; each line needs one, in UTF-8"
                            raise InputFileError(f"{self._path}:{number}", hint) from error
        except (EOFError, zlib.error) as error:
            raise InputFileError(str(self._path), f"is damaged: {error}") from error
        except OSError as error:
            raise InputFileError(str(self._path), error.strerror or f"is damaged: {error}") from error

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        rows = self._rows()
        while batch := list(islice(rows, _ROWS)):
            yield {name: [_scalar(row.get(name)) for row in batch] for name in self.columns}, len(batch)


def _kind_of(values: Sequence[Any]) -> bool | None:
    """Return whether values are numbers (True) or texts (False); None for neither. Gaps only are missing numbers."""
    present = [v for v in values if v is not None]
    scalars = [v for v in present if not isinstance(v, dict | list)]
    if present and not scalars:
        return None
    return mostly_numbers(scalars) if scalars else True


def _scalar(value: Any) -> Scalar:
    if isinstance(value, dict | list):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_INTEGER:
        return float(value) if abs(value) < 1 << 1023 else None
    return cast("Scalar", value)


class _CsvTable:
    """Comma- or tab-separated values with a header; the types follow from the first block."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        from pyarrow import csv

        self._path = path
        self._csv = csv
        roles, time = spec.roles, spec.roles.get(Role.TIME)
        kinds = spec.kinds_of_columns
        numeric = (Role.SCORE, Role.PREDICTION, Role.ACTUAL) if spec.task is Task.REGRESSION else (Role.SCORE,)
        numbers = {name for name, kind in kinds.items() if kind is FeatureKind.NUMERIC}
        numbers |= {roles[role] for role in numeric if role in roles}
        self._form = form_of(path, [*kinds, *([] if time is None else [time])], _NULLS[1:])
        texts = [name for name, kind in kinds.items() if kind is FeatureKind.CATEGORICAL]
        self._types: dict[str, Any] = {name: arrow().string() for name in (*texts, *self._form.texts)}
        numbers |= set(self._form.numbers)
        self._read_as_numbers: set[str] = set()
        self._doubtful: dict[str, str] = {}  # a text of each column that may have been meant as a gap
        self.columns: Mapping[str, bool | None] = {}
        self._notices: Sequence[str] = ()
        with self._reader() as reader:
            schema = reader.schema
        _refuse_twins(path, self._names(schema))
        for field in schema:
            # A column of integers may have fractions or gaps further down.
            if arrow().types.is_integer(field.type) and field.name not in self._types and field.name != time:
                self._types[field.name] = arrow().float64()
            if arrow().types.is_null(field.type):
                self._types[field.name] = arrow().float64()
            if arrow().types.is_binary(field.type):
                raise InputFileError(str(path), f"column {field.name} is not UTF-8: save the file as UTF-8")
            if arrow().types.is_string(field.type) and field.name in numbers:
                self._read_as_numbers.add(field.name)
        columns, notices = columns_of(schema, self._types, time)
        if "" in columns and "" not in kinds:
            columns[""] = None
            notices.append("a column without a name: ignored")
        columns |= dict.fromkeys(self._read_as_numbers & set(self._form.numbers), True)
        self.columns, self._notices = columns, [*self._form.notices, *notices]

    @property
    def notices(self) -> Sequence[str]:
        """Messages on ignored columns, and on texts that may have been meant as gaps."""
        doubts = [
            f"{name}: {text!r} is taken for a text like others; leave the field empty where a value is missing"
            for name, text in self._doubtful.items()
        ]
        return [*self._notices, *doubts]

    def _names(self, schema: Any) -> list[str]:
        try:
            return list(schema.names)
        except UnicodeDecodeError:
            raise InputFileError(str(self._path), "its header is not UTF-8: save the file as UTF-8") from None

    def _reader(self) -> Any:
        form = self._form
        try:
            return self._csv.open_csv(
                self._path,
                read_options=self._csv.ReadOptions(
                    block_size=8 << 20, column_names=list(form.names) or None, skip_rows=1 if form.names else 0
                ),
                parse_options=self._csv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
                convert_options=self._csv.ConvertOptions(
                    column_types=self._types, null_values=_NULLS, strings_can_be_null=False, decimal_point=form.decimal
                ),
            )
        except (OSError, ValueError) as error:
            raise self._told(error) from error

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        with self._reader() as reader:
            try:
                for batch in reader:
                    columns, rows = plain(batch)
                    for name, numeric in self.columns.items():
                        if numeric is False and name not in self._read_as_numbers:
                            columns[name] = self._texts(name, cast("Sequence[Scalar]", columns[name]))
                    for name in self._read_as_numbers:
                        columns[name] = np.array([_number_in(v, self._form.decimal) for v in columns[name]])
                    yield columns, rows
            except (OSError, ValueError) as error:
                raise self._told(error) from error

    def _texts(self, name: str, column: Sequence[Scalar]) -> Sequence[Scalar]:
        """Return a column of texts, in which an empty field is a gap."""
        for text in _NULLS[1:]:
            if name not in self._doubtful and text in column:
                self._doubtful[name] = text
        declared = name in self._types
        if self._form.names:
            column = [v.strip() if isinstance(v, str) else v for v in column]
        return [None if v == "" else _without_zero(v) if declared else v for v in column]

    def _told(self, error: Exception) -> InputFileError:
        """Return arrow's message as our error, with a hint how to fix the file."""
        words = str(error).split("\n")[0]
        if "Empty CSV file" in words:
            return InputFileError(str(self._path), "is empty: a header and rows are needed")
        if _TOO_FEW_OR_MANY.search(words) is not None:
            words += "; every row needs as many values as the header has names"
        elif "invalid UTF8" in words:
            words = "is not UTF-8: save the file as UTF-8"
        elif (found := _CONVERSION.match(words)) is not None and self.columns:
            name = list(self.columns)[int(found[1])]
            words = f"column {name}: {found[3]}, where a {found[2]} is expected from the rows before it"
            words += "; name it under `features:` as categorical if it holds texts"
        elif self._path.suffix == ".gz":
            words = f"is damaged, or not compressed by gzip: {words}"
        return InputFileError(str(self._path), words)


def _without_zero(value: Scalar) -> Scalar:
    """Return 10115.0 as 10115: writers of tables make floats of integers with gaps; events have integers."""
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1]


def _number_in(value: Scalar, decimal: str) -> float:
    try:
        return float(value.replace(decimal, ".")) if isinstance(value, str) else np.nan
    except ValueError:
        return np.nan


class _ParquetTable:
    """Parquet, read by row groups."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        from pyarrow import parquet

        try:
            names = parquet.read_schema(path)
            texts = [field.name for field in names if is_text(field.type)]
            # Texts stay in their dictionaries: a few kilobytes may stand for gigabytes of the same text.
            self._file = parquet.ParquetFile(path, read_dictionary=texts)
        except (OSError, ValueError) as error:
            raise InputFileError(str(path), f"is damaged, or not Parquet: {error}") from error
        self._path = path
        _refuse_twins(path, self._file.schema_arrow.names)
        self.columns: Mapping[str, bool | None]
        self.notices: Sequence[str]
        schema = self._file.schema_arrow
        self._time = spec.roles.get(Role.TIME)
        columns, notices = columns_of(schema, {}, self._time)
        for name in stated_categories(self._file.metadata.metadata):
            columns[name] = False if columns.get(name) else columns.get(name)
        for name in _index_of(schema):
            if columns.get(name) is not None and name not in {*spec.kinds_of_columns, *spec.roles.values()}:
                columns[name] = None
                notices.append(f"{name}: ignored, it is the index of the table and no feature")
        self.columns, self.notices = columns, notices

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        wanted = [name for name, numeric in self.columns.items() if numeric is not None or name == self._time]
        try:
            for batch in self._file.iter_batches(batch_size=self._batch_rows(), columns=wanted):
                yield plain(batch, self._path)
        except MemoryError as error:
            raise InputFileError(str(self._path), "needs too much memory: write smaller row groups") from error
        except (OSError, ValueError) as error:
            raise InputFileError(str(self._path), f"is damaged: {error}") from error

    def _batch_rows(self) -> int:
        meta = self._file.metadata
        groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
        widest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1.0)
        return max(min(_ROWS, int(_BATCH_BYTES / max(widest, 1.0))), 1)


def _index_of(schema: Any) -> list[str]:
    """Return the columns in which pandas keeps the index of a table."""
    try:
        found = (schema.pandas_metadata or {}).get("index_columns", ())
    except (ValueError, AttributeError):  # not written by pandas
        return []
    return [name for name in found if isinstance(name, str)]


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise InputFileError(str(path), f"two columns are called {name}: rename one of them")
