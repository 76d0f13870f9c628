"""Rows of the store, read so that whatever is damaged in one is told with its table and key.

Shell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import OperationalError

from monitor.errors import StoreError
from monitor.saved import damage_in, damaged
from monitor.store.engine import is_undecodable

T = TypeVar("T")


def read_rows(
    c: Connection,
    wanted: sa.Select[Any],
    table: sa.Table,
    make: Callable[[Row[Any]], T],
    moved: Callable[[], None] = lambda: None,
) -> Iterator[T]:
    """Yield what `make` returns for each row.

    Args:
        c: A connection.
        wanted: What is read. The key of the table tells rows apart, as far as it is part of what is read.
        table: The table that it is read from.
        make: Decodes a row; whatever it raises is taken for damage.
        moved: Called for each row that was read.

    Raises:
        StoreError: A row is damaged.
    """
    keys = [column.name for column in table.primary_key]
    try:
        # The cursor is closed at once: one of the server is not left open at the first damage.
        with damage_in(row_of(table)), c.execute(wanted) as found:
            for row in found:
                known = row._mapping
                with damage_in(row_of(table, *(known[key] for key in keys if key in known))):
                    made = make(row)
                moved()
                yield made
    except OperationalError as error:
        if not is_undecodable(error.orig):
            raise
        raise StoreError(_undecodable(c, table), retryable=False) from error


def mapping(text: str) -> dict[str, Any]:
    """Return the mapping that a text of JSON holds; raises ValueError where it holds something else."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"a mapping is stored there, not {text[:20]}")
    return found


def document(text: str, *, texts: Collection[str] = (), numbers: Collection[str] = ()) -> dict[str, Any]:
    """Return the mapping that a text of JSON holds, with what readers of it rely on.

    Args:
        text: The text.
        texts: Keys that must hold texts.
        numbers: Keys that must hold integers.

    Raises:
        ValueError: It is no mapping, or a key is missing or holds something else.
    """
    return with_keys(mapping(text), texts=texts, numbers=numbers)


def with_keys(found: Any, *, texts: Collection[str] = (), numbers: Collection[str] = ()) -> dict[str, Any]:
    """Return a stored mapping that has what readers of it rely on; arguments and errors are those of `document`."""
    if not isinstance(found, dict):
        raise ValueError(f"a mapping is stored there, not {found!r:.20}")
    for keys, kind, what in ((texts, str, "a text"), (numbers, int, "an integer")):
        for key in keys:
            if not isinstance(found.get(key), kind):
                raise ValueError(f"{key} is not {what}: {found.get(key)!r:.20}")
    return found


def row_of(table: sa.Table, *key: object) -> str:
    """Return the words for a row of a table."""
    return f"table {table.name}" + (f", row {' '.join(map(repr, key))}" if key else "")


def _undecodable(c: Connection, table: sa.Table) -> str:
    """Return the words for the first row of a table with a text that is not UTF-8."""
    keys = [column.name for column in table.primary_key]
    texts = [column.name for column in table.columns if isinstance(column.type, sa.Text)]
    columns = [*keys, *texts]
    bodies = ", ".join(f'CAST("{name}" AS BLOB)' for name in columns)
    for row in c.exec_driver_sql(f'SELECT {bodies} FROM "{table.name}"'):
        found = dict(zip(columns, row, strict=True))
        for name in texts:
            try:
                bytes(found[name] or b"").decode()
            except UnicodeDecodeError as error:
                key = (bytes(found[k] or b"").decode(errors="replace") for k in keys)
                return damaged(row_of(table, *key), f"{name} is not UTF-8 at byte {error.start}")
    return damaged(row_of(table), "a text is not UTF-8")
