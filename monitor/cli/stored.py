"""Access to the store for commands that answer from it.

Shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import Engine

from monitor.cli.options import configuration
from monitor.config.units import duration_ms
from monitor.service.app import Components, parts
from monitor.store import reader, schema
from monitor.times import parse_time

SinceOption = Annotated[
    str | None,
    typer.Option(help="Only what ended after this: RFC 3339, epoch ms, or a duration back from stream time, as 2h."),
]


@contextmanager
def store_of(path: Path, *, read_only: bool = True) -> Iterator[Components]:
    """Open the store of a configuration, and close it at the end of the context."""
    p = parts(configuration(path), read_only=read_only)
    try:
        yield p
    finally:
        p.engine.dispose()


def has_tables(engine: Engine) -> bool:
    """Return whether a daemon or a replay has ever used this store, also one of an earlier release."""
    url = engine.url
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return False
    return schema.is_made(engine)


def since_ms(engine: Engine, text: str | None) -> int | None:
    """Return the time that the option `--since` names, ms; None without it.

    Raises:
        typer.BadParameter: It is neither a time nor a duration.
    """
    if text is None:
        return None
    try:
        back = duration_ms(text)
    except ValueError:
        back = None
    if back is not None:
        return reader.stream_time(engine) - back
    try:
        return parse_time(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise typer.BadParameter(f"--since: {text}: {error}; or a duration such as 2h") from None
