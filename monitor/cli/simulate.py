"""`driftd simulate`: whether the promise of the false-alarm budget holds on the user's own reference.

Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from monitor.cli.options import (
    CONFIG,
    MOST,
    ConfigOption,
    JsonOption,
    ModelArgument,
    configuration,
    err,
    escape,
    known,
    out,
    show_json,
)
from monitor.config import build
from monitor.errors import ConfigError
from monitor.reference.build import load
from monitor.reference.file import table_spec
from monitor.reference.rows import read_rows
from monitor.reference.subprocess import is_profile
from monitor.service.simulate import Length, Simulated, length_in_days
from monitor.service.simulate import simulate as run
from monitor.spec import ModelSpec

_TELL_EVERY_S: Final = 5.0
_SHOWN: Final = 20  # alarms
_TABLE_KEY: Final = "--table"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("simulate")(simulate)


def simulate(
    model: ModelArgument,
    config: ConfigOption = CONFIG,
    days: Annotated[float | None, typer.Option(min=0.001, help="Days to simulate; 365 by default.")] = None,
    events: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Predictions to simulate instead; for counted windows.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(_TABLE_KEY, help="The table that a built profile was made from.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives another course of the same data.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Count the false alarms that a model would raise, and compare them with what its budget promises.

    The rows of the reference table are taken in blocks of neighbouring panes, again and again, and pass all of the
    evaluation: nothing in them changes, so every alarm is a false one. Nothing is read from the stream or written to
    the store. Latency, errors and resources are not in a table: rules on them are not simulated.
    """
    core = build.core(configuration(config))
    known("model", model, [m.name for m in core.models])
    spec = next(m for m in core.models if m.name == model)
    where, path = _table_of(spec, table)
    profile = load(Path(spec.reference.path or path), table_spec(spec))
    rows = read_rows(path, table_spec(spec))
    if events is not None:
        if days is not None or not spec.window.counted:
            raise typer.BadParameter("--events: give either --days or --events, the latter where windows are counted")
        length = Length(max(events // spec.window.every, 1))
    else:
        length = length_in_days(spec.window, rows, 365.0 if days is None else days, where)
    with _progress() as tell:
        found = run(spec, profile, rows, length, seed, tell, where)
    if as_json:
        show_json({"model": model, "seed": seed, "rows": rows.rows, **found.document()})
    else:
        _show(model, rows.rows, seed, found)


def _table_of(spec: ModelSpec, table: Path | None) -> tuple[str, Path]:
    """Return the table that is resampled, and the key that names it.

    Raises:
        ConfigError: There is none, or drift is not watched.
    """
    key = f"models.{spec.name}.reference"
    if spec.drift is None:
        raise ConfigError(f"models.{spec.name}.drift", None, "drift is not watched: there is nothing to simulate")
    if table is None and spec.reference.path is None:
        raise ConfigError(key, None, "is learned from events: only a reference table can be resampled")
    path = Path(spec.reference.path or "") if table is None else table
    where = key if table is None else _TABLE_KEY
    if is_profile(path):
        hint = "is a built profile, which does not hold its rows: name the table that it was made from with --table"
        raise ConfigError(where, str(path), hint)
    return where, path


def _show(model: str, rows: int, seed: int, found: Simulated) -> None:
    document: dict[str, Any] = found.document()
    out.print(
        f"[bold]{escape(model)}[/bold]: {found.checks} checks, {rows} rows resampled in runs of {found.run:g} panes "
        f"on average, seed {seed}"
    )
    for alarm in document["alarms"][:_SHOWN]:
        day = "" if alarm["day"] is None else f"day {alarm['day']:g}: "
        out.print(f"  {day}{alarm['kind']}: {escape(alarm['summary'])}")
    if len(found.alarms) > _SHOWN:
        out.print(f"  and {len(found.alarms) - _SHOWN} more; --json lists all")
    for kind, promised in document["promised"].items():
        out.print(f"{kind}: {document['raised'][kind]} raised, {promised:.3g} promised")
    total = sum(document["promised"].values())
    verdict = "[green]the promise is kept[/green]" if found.kept else "[red]more than promised[/red]"
    out.print(f"in all {len(found.alarms)} raised, {total:.3g} promised: {verdict}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line every few seconds."""
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("simulating")
            yield lambda done, of: bar.update(task, completed=done, total=of)
        return
    told_at = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            err.print(f"simulated {done} of {of} panes")

    yield tell
