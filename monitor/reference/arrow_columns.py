"""Columns of arrow as the numbers and texts that references are built from.

Shell only in that it imports a large library where a table is read. Called by `tables`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detectors.types import FloatArray
from monitor.errors import InputFileError
from monitor.events.schema import Scalar

_LONGEST_TEXT: Final = 1 << 16  # characters; a longer one is a document, not a category
Batch = tuple[dict[str, Sequence[Scalar] | FloatArray], int]


def arrow() -> Any:
    """Return pyarrow, imported only where a table is read: it would take memory in the daemon."""
    import pyarrow

    return pyarrow


def is_text(kind: Any) -> bool:
    """Tell whether an arrow type is one of texts."""
    known = arrow().types
    return bool(known.is_string(kind) or known.is_large_string(kind) or known.is_string_view(kind))


def columns_of(schema: Any, types: Mapping[str, Any], time: str | None) -> tuple[dict[str, bool | None], list[str]]:
    """Return whether each column is numeric (None: neither number nor text), and messages on ignored columns.

    Args:
        schema: The schema of the table.
        types: Types to be read instead of those of the schema, by column.
        time: Column of the times, which are of any type.
    """
    known = arrow().types
    columns: dict[str, bool | None] = {}
    notices = []
    for field in schema:
        kind = types.get(field.name, field.type)
        # Whoever wrote a dictionary said that the values are categories, also where they are numbers.
        category = known.is_dictionary(kind)
        kind = kind.value_type if category else kind
        number = known.is_integer(kind) or known.is_floating(kind) or known.is_decimal(kind)
        if number or known.is_null(kind):
            columns[field.name] = not category  # a column of gaps is one of missing numbers
        elif is_text(kind) or known.is_boolean(kind):
            columns[field.name] = False
        else:
            columns[field.name] = None
            if field.name != time:
                notices.append(f"{field.name}: ignored, a column of type {kind} is neither a number nor a text")
    return columns, notices


def stated_categories(metadata: Mapping[bytes, bytes] | None) -> list[str]:
    """Return the columns that whoever wrote a Parquet file kept as categories, where they come back as numbers.

    Args:
        metadata: Of the file; arrow keeps in it the schema that was written.
    """
    try:
        kept = base64.b64decode((metadata or {})[b"ARROW:schema"])
        schema = arrow().ipc.read_schema(arrow().py_buffer(kept))
    except (KeyError, ValueError, OSError):  # not written by arrow
        return []
    return [field.name for field in schema if arrow().types.is_dictionary(field.type)]


def plain(batch: Any, path: Path | None = None) -> Batch:
    """Convert an arrow batch to numpy columns (numbers) and lists (texts; times as ms).

    Args:
        batch: The batch.
        path: The file, for errors.

    Raises:
        InputFileError: A text is longer than a category can be.
    """
    known = arrow().types
    columns: dict[str, Sequence[Scalar] | FloatArray] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if known.is_timestamp(column.type) or known.is_date(column.type):
            milliseconds = column.cast(arrow().timestamp("ms"), safe=False).cast(arrow().int64())
            columns[name] = milliseconds.to_pylist()
        elif known.is_floating(column.type) or known.is_integer(column.type):
            columns[name] = column.cast(arrow().float64(), safe=False).to_numpy(zero_copy_only=False)
        elif known.is_decimal(column.type) or known.is_null(column.type):
            columns[name] = column.cast(arrow().float64()).to_numpy(zero_copy_only=False)
        elif known.is_dictionary(column.type):
            columns[name] = _categories(name, column, path)
        else:
            columns[name] = column.to_pylist()
    return columns, batch.num_rows


def _categories(name: str, column: Any, path: Path | None) -> list[Scalar]:
    """Return the values of a dictionary: each text is made once, however many rows have it."""
    values: list[Scalar] = column.dictionary.to_pylist()
    longest = max((len(v) for v in values if isinstance(v, str)), default=0)
    if longest > _LONGEST_TEXT:
        hint = f"column {name}: a text of {longest} characters, at most {_LONGEST_TEXT}: leave the column out"
        raise InputFileError(str(path), hint)
    return [None if i is None else values[i] for i in column.indices.to_pylist()]
