"""References from files: a table becomes a profile, a profile is read back.

Shell: reads CSV, CSV.gz, JSON lines and Parquet in batches, twice, so a hundred million rows need no more
memory than ten thousand. Columns are named as the features; `prediction`, `score`, `actual` and `time` are
what their names say.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec
import numpy as np

from detectors.categorical import text_of
from detectors.reference import MAGIC, Baseline, CategoricalReference, Profile, Reference
from detectors.reference_builder import Column, DispersionPass, DistributionPass
from detectors.saved import DamagedError
from detectors.types import FloatArray
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.errors import InputFileError
from monitor.events.codes import NEGATIVE, POSITIVE, Labels
from monitor.events.schema import LARGEST_INTEGER, Scalar
from monitor.reference.learning import mostly_numbers, numbers_of
from monitor.spec import FeatureKind, Task
from monitor.times import parse_time

_ROWS: Final = 1 << 16  # in a batch
_NULLS: Final = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]  # among numbers; a region may well be NA
_ANSWERS: Final = ("prediction", "score")
_ID_LIKE: Final = 0.9
_ID_ROWS: Final = 100
_MOST_LABELS: Final = 100_000
_CONVERSION: Final = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to ([\w\[\]]+): (.*)")
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")
ProgressCallback = Callable[[int], None]
Batch = tuple[dict[str, Sequence[Scalar] | FloatArray], int]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How to read a table: which task its predictions are of, and which columns are not what they look like."""

    task: Task | None = None
    positive: str | None = None
    threshold: float = 0.5
    kinds: Mapping[str, FeatureKind] | None = None
    points: int = 2_048


def load(path: Path, spec: TableSpec, progress: ProgressCallback | None = None) -> Profile:
    """The profile in a file, or the one that a table comes to.

    Raises:
        InputFileError: it cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
    except OSError as error:
        raise InputFileError(str(path), error.strerror or str(error)) from error
    if first != MAGIC:
        return build(path, spec, progress)
    try:
        return Profile.from_bytes(path.read_bytes())
    except (DamagedError, KeyError, TypeError, ValueError) as error:
        hint = "build it again with `driftd reference build`"
        raise InputFileError(str(path), f"is a damaged profile: {error}; {hint}") from error


def build(path: Path, spec: TableSpec, progress: ProgressCallback | None = None) -> Profile:
    """Profile a table. `progress` is told the rows read so far, of both readings. Raises `InputFileError`."""
    tell = progress or (lambda rows: None)
    table = _open(path, spec)
    kinds = _kinds(table, spec)
    first = DistributionPass(kinds, spec.points)
    clock, answers = _Times(), _Answers(spec)
    for columns, rows in table.batches():
        first.add(_features(columns, kinds, spec), rows)
        clock.add(columns.get("time"))
        answers.add(columns, rows)
        tell(first.rows)
    if not first.rows:
        raise InputFileError(str(path), "has no rows")
    features, notices = _without_ids(first.features(), spec)
    second = DispersionPass(features)
    done = first.rows
    for columns, rows in table.batches():
        second.add(_features(columns, kinds, spec), rows)
        done += rows
        tell(done)
    return Profile(
        features=second.features(),
        rows=first.rows,
        ordered=clock.ordered,
        first_ms=clock.first,
        last_ms=clock.last,
        baselines=answers.baselines(),
        notices=(*table.notices, *notices, *clock.notices()),
    )


def _features(columns: Mapping[str, Any], kinds: Mapping[str, bool], spec: TableSpec) -> dict[str, Column]:
    found: dict[str, Column] = {}
    labels = Labels("", _MOST_LABELS, binary=True, positive=spec.positive) if spec.task is Task.BINARY else None
    for name, numeric in kinds.items():
        column = columns.get(name)
        if column is None:
            continue
        if numeric:
            found[name] = column if isinstance(column, np.ndarray) else numbers_of(column)
        elif name == "prediction" and labels is not None:
            found[name] = [_binary_label(v, labels, spec.threshold) for v in column]
        else:
            found[name] = [None if _is_missing(v) else text_of(v) for v in column]
    return found


def _binary_label(value: Scalar, labels: Labels, threshold: float) -> str | None:
    """A label or a probability as what the stream's answers are compared by."""
    if _is_missing(value):
        return None
    if isinstance(value, float) and 0 < value < 1:
        return labels.text(POSITIVE if value >= threshold else NEGATIVE)
    return labels.text(labels.code(value))


def _is_missing(value: Scalar) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _kinds(table: _Table, spec: TableSpec) -> dict[str, bool]:
    """Which features there are, and whether they are numeric; `prediction` and `score` are among them."""
    kinds: dict[str, bool] = {}
    overrides = spec.kinds or {}
    for name, numeric in table.columns.items():
        kind = overrides.get(name)
        if name in ("time", "actual") or kind is FeatureKind.IGNORE or numeric is None:
            continue
        kinds[name] = numeric if kind is None else kind is FeatureKind.NUMERIC
    if "prediction" in kinds and spec.task is not None:
        kinds["prediction"] = spec.task is Task.REGRESSION
    return kinds


def _without_ids(features: Sequence[Reference], spec: TableSpec) -> tuple[list[Reference], list[str]]:
    """Texts of which nearly every one is different are identifiers: every future one would be new."""
    kept, notices = [], []
    for f in features:
        declared = f.name in (spec.kinds or {}) or f.name in _ANSWERS
        if isinstance(f, CategoricalReference) and not declared and _is_id_like(f):
            notices.append(f"{f.name}: ignored, nearly every value is different, as in an identifier")
        else:
            kept.append(f)
    return kept, notices


def _is_id_like(f: CategoricalReference) -> bool:
    if f.rows < _ID_ROWS:
        return False
    if f.complete:
        return len(f.known) > _ID_LIKE * f.rows
    # Only so many texts are remembered; of an identifier's, nearly none came again in all the rows after that.
    return f.singletons > _ID_LIKE * len(f.known)


class _Times:
    """The `time` column: when the rows were, and whether they are in order."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self._sorted = True
        self._unread = 0

    def add(self, column: Sequence[Scalar] | FloatArray | None) -> None:
        if column is None:
            return
        times = np.array([t for t in map(_time_of, column) if t is not None], np.int64)
        self._unread += len(column) - len(times)
        if not len(times):
            return
        after = self.last is None or times[0] >= self.last
        self._sorted = self._sorted and bool(after and (np.diff(times) >= 0).all())
        low, high = int(times.min()), int(times.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)

    @property
    def ordered(self) -> bool:
        """Whether the rows are known to be in the order of time."""
        return self.first is not None and self._sorted and not self._unread

    def notices(self) -> list[str]:
        assumed = "the order of the rows is taken for the order of time, which is an assumption"
        if self.first is None and not self._unread:
            return [f"no time column: {assumed}"]
        if self._unread:
            form = "one is written like 2026-11-21T09:30:00.123Z, or in milliseconds since 1970"
            return [f"time: {self._unread} values are no time ({form}): {assumed}"]
        if not self._sorted:
            return ["rows are not in the order of time: the promise of the false-alarm budget is an assumption"]
        return []


def _time_of(value: Scalar) -> int | None:
    if _is_missing(value) or isinstance(value, bool) or value is None:
        return None
    try:
        return parse_time(value)
    except ValueError:
        if not isinstance(value, str):
            return None
        try:  # tables often leave the zone out, and mean UTC
            return parse_time(value + "Z")
        except ValueError:
            return None


class _Answers:
    """Predictions and actual values of a table: what the metrics of quality were there."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        task = spec.task
        self._table = OutcomeTable(task, 0) if task is not None else None
        self._labels = Labels("", _MOST_LABELS, binary=task is Task.BINARY, positive=spec.positive)

    def add(self, columns: Mapping[str, Any], rows: int) -> None:
        if self._table is None or "prediction" not in columns or "actual" not in columns:
            return
        predicted, score = self._predicted(columns["prediction"], columns.get("score"), rows)
        actual = self._values(columns["actual"])
        known = np.flatnonzero(~np.isnan(actual))
        none: list[Mapping[str, float | None] | None] = [None] * len(known)
        pairs = ScoredPairs(
            np.zeros(len(known), np.int64), predicted[known], score[known], actual[known], np.zeros(len(known)), none
        )
        self._table.expect(pairs.pane)
        self._table.add(pairs, lambda name: None)
        self._table.bound_scores()

    def _predicted(self, column: Any, scores: Any, rows: int) -> tuple[FloatArray, FloatArray]:
        score = np.full(rows, np.nan) if scores is None else numbers_of(list(scores))
        score = np.where((score >= 0) & (score <= 1), score, np.nan)
        values = self._values(column)
        if self._spec.task is Task.BINARY:
            for i, v in enumerate(column):
                if isinstance(v, float) and 0 < v < 1:
                    values[i] = POSITIVE if v >= self._spec.threshold else NEGATIVE
                    score[i] = v if np.isnan(score[i]) else score[i]
        return values, score

    def _values(self, column: Any) -> FloatArray:
        if self._spec.task is Task.REGRESSION:
            numbers = numbers_of(list(column))
            return np.where(np.isfinite(numbers), numbers, np.nan)
        return np.array([np.nan if _is_missing(v) else self._labels.code(v) for v in column], np.float64)

    def baselines(self) -> dict[str, Baseline]:
        """Every metric of quality that the table tells."""
        if self._table is None or not self._table.panes:
            return {}
        found = self._table.metrics(0, 0, ())
        skip = ("coverage", "label_delay_s")
        return {
            name: Baseline(float(e.value), e.n, float(e.variance) if np.isfinite(e.variance) else 0.0)
            for name, e in found.items()
            if name not in skip and np.isfinite(e.value)
        }


# -- tables ----------------------------------------------------------------------------------------------


class _Table(Protocol):
    """A file that can be read in batches, as often as needed. `columns`: name → numeric, None for neither."""

    columns: Mapping[str, bool | None]

    @property
    def notices(self) -> Sequence[str]:
        """What was ignored, or is doubtful; complete once all rows were read."""
        ...

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        ...


def _open(path: Path, spec: TableSpec) -> _Table:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".parquet", ".pq")):
        return _ParquetTable(path, spec)
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return _JsonTable(path)
    if name.endswith((".csv", ".tsv")):
        return _CsvTable(path, spec)
    raise InputFileError(
        str(path), "is no profile, and its name does not end in .csv, .tsv, .jsonl (each also with .gz) or .parquet"
    )


class _JsonTable:
    """JSON lines: an object a row; types are what the first rows say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = list(islice(self._rows(), 10_000))
        names = dict.fromkeys(name for row in rows for name in row)
        self.columns: Mapping[str, bool | None] = {name: _kind_of([row.get(name) for row in rows]) for name in names}
        self.notices: Sequence[str] = [
            f"{name}: ignored, its values are neither numbers nor texts"
            for name, numeric in self.columns.items()
            if numeric is None and name != "time"
        ]

    def _rows(self) -> Iterator[dict[str, Any]]:
        opened = gzip.open if self._path.suffix == ".gz" else open
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        try:
            with opened(self._path, "rb") as file:
                for number, line in enumerate(file, 1):
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
    """Whether values are numbers; None for those that are neither numbers nor texts. A gap is a missing number."""
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
    """Comma- or tab-separated values with a header; types are what the first block says."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        from pyarrow import csv

        self._path = path
        self._csv = csv
        kinds = spec.kinds or {}
        numbers = {name for name, kind in kinds.items() if kind is FeatureKind.NUMERIC} | {"score"}
        if spec.task is Task.REGRESSION:
            numbers |= {"prediction", "actual"}
        texts = [name for name, kind in kinds.items() if kind is FeatureKind.CATEGORICAL]
        self._types: dict[str, Any] = {name: _arrow().string() for name in texts}
        self._read_as_numbers: set[str] = set()
        self._doubtful: dict[str, str] = {}  # texts that may have been meant as gaps, by column
        self.columns: Mapping[str, bool | None] = {}
        self._notices: Sequence[str] = ()
        with self._reader() as reader:
            schema = reader.schema
        _refuse_twins(path, self._names(schema))
        for field in schema:
            # Whole numbers may turn out to have a fraction or a gap further down.
            if _arrow().types.is_integer(field.type) and field.name not in self._types and field.name != "time":
                self._types[field.name] = _arrow().float64()
            if _arrow().types.is_null(field.type):
                self._types[field.name] = _arrow().float64()
            if _arrow().types.is_binary(field.type):
                raise InputFileError(str(path), f"column {field.name} is not UTF-8: save the file as UTF-8")
            if _arrow().types.is_string(field.type) and field.name in numbers:
                self._read_as_numbers.add(field.name)
        self.columns, self._notices = _columns_of(schema, self._types)

    @property
    def notices(self) -> Sequence[str]:
        """What was ignored, or may not be what it was meant to be."""
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
        delimiter = "\t" if ".tsv" in self._path.name.lower() else ","
        try:
            return self._csv.open_csv(
                self._path,
                read_options=self._csv.ReadOptions(block_size=8 << 20),
                parse_options=self._csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=self._csv.ConvertOptions(
                    column_types=self._types, null_values=_NULLS, strings_can_be_null=False
                ),
            )
        except (OSError, ValueError) as error:
            raise self._told(error) from error

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        with self._reader() as reader:
            try:
                for batch in reader:
                    columns, rows = _plain(batch)
                    for name, numeric in self.columns.items():
                        if numeric is False and name not in self._read_as_numbers:
                            columns[name] = self._texts(name, cast("Sequence[Scalar]", columns[name]))
                    for name in self._read_as_numbers:
                        columns[name] = np.array([_number_in(v) for v in columns[name]])
                    yield columns, rows
            except (OSError, ValueError) as error:
                raise self._told(error) from error

    def _texts(self, name: str, column: Sequence[Scalar]) -> Sequence[Scalar]:
        """An empty field is a gap."""
        for text in _NULLS[1:]:
            if name not in self._doubtful and text in column:
                self._doubtful[name] = text
        declared = name in self._types
        return [None if v == "" else _without_zero(v) if declared else v for v in column]

    def _told(self, error: Exception) -> InputFileError:
        """What arrow says, with what would do."""
        words = str(error).split("\n")[0]
        if "Empty CSV file" in words:
            return InputFileError(str(self._path), "is empty: a header and rows are needed")
        if "CSV parse error: Expected" in words:
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
    """10115.0 → 10115: what writes a table may have made floats of whole numbers; events have them whole."""
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1]


def _number_in(value: Scalar) -> float:
    try:
        return float(value) if isinstance(value, str) else np.nan
    except ValueError:
        return np.nan


class _ParquetTable:
    """Parquet, by row groups."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        from pyarrow import parquet

        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise InputFileError(str(path), f"is damaged, or not Parquet: {error}") from error
        self._path = path
        _refuse_twins(path, self._file.schema_arrow.names)
        self.columns: Mapping[str, bool | None]
        self.notices: Sequence[str]
        self.columns, self.notices = _columns_of(self._file.schema_arrow, {})

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        wanted = [name for name, numeric in self.columns.items() if numeric is not None or name == "time"]
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS, columns=wanted):
                yield _plain(batch)
        except (OSError, ValueError) as error:
            raise InputFileError(str(self._path), f"is damaged: {error}") from error


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise InputFileError(str(path), f"two columns are called {name}: rename one of them")


def _arrow() -> Any:
    """pyarrow, imported where a table is read: the daemon does not need its memory."""
    import pyarrow

    return pyarrow


def _columns_of(schema: Any, types: Mapping[str, Any]) -> tuple[dict[str, bool | None], list[str]]:
    """(name → numeric, notices about columns that are of no use)."""
    known = _arrow().types
    columns: dict[str, bool | None] = {}
    notices = []
    for field in schema:
        kind = types.get(field.name, field.type)
        if known.is_dictionary(kind):
            kind = kind.value_type
        if known.is_integer(kind) or known.is_floating(kind) or known.is_decimal(kind) or known.is_null(kind):
            columns[field.name] = True  # nothing but gaps: missing numbers
        elif known.is_string(kind) or known.is_large_string(kind) or known.is_boolean(kind):
            columns[field.name] = False
        else:
            columns[field.name] = None
            if field.name != "time":
                notices.append(f"{field.name}: ignored, a column of type {kind} is neither a number nor a text")
    return columns, notices


def _plain(batch: Any) -> Batch:
    """An arrow batch as numpy columns and lists."""
    known = _arrow().types
    columns: dict[str, Sequence[Scalar] | FloatArray] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if known.is_timestamp(column.type) or known.is_date(column.type):
            milliseconds = column.cast(_arrow().timestamp("ms"), safe=False).cast(_arrow().int64())
            columns[name] = milliseconds.to_pylist()
        elif known.is_floating(column.type) or known.is_integer(column.type):
            columns[name] = column.cast(_arrow().float64(), safe=False).to_numpy(zero_copy_only=False)
        elif known.is_decimal(column.type) or known.is_null(column.type):
            columns[name] = column.cast(_arrow().float64()).to_numpy(zero_copy_only=False)
        else:
            columns[name] = column.to_pylist()
    return columns, batch.num_rows
