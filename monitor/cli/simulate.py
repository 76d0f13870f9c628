"""`driftd simulate`: whether the promise of the false-alarm budget holds on the user's own reference.

Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from detectors.reference import Profile
from detectors.saved import DamagedError
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
from monitor.cli.stored import has_tables, store_of
from monitor.config import build
from monitor.errors import ConfigError
from monitor.reference.block_rows import BlockRows
from monitor.reference.build import load
from monitor.reference.file import table_spec
from monitor.reference.rows import TableRows, read_rows
from monitor.reference.subjects import FEATURES, answers_of
from monitor.reference.subprocess import is_profile
from monitor.service.simulate import Length, Simulated, length_in_days
from monitor.service.simulate import simulate as run
from monitor.spec import ModelSpec
from monitor.store import reader

_TELL_EVERY_S: Final = 5.0
_SHOWN: Final = 20  # alarms
_FROM_KEY: Final = "--from"


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
    source: Annotated[
        Path | None,
        typer.Option(_FROM_KEY, metavar="FILE", help="Take this reference instead: a table row by row, or a profile."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives another course of the same data.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Count the false alarms that a model would raise, and compare them with what its budget promises.

    The reference in force, or else the configured one, is resampled: runs of neighbouring panes, again and again, pass
    all of the evaluation. Nothing in them changes, so every alarm is a false one. Nothing is read from the stream or
    written to the store.

    A profile keeps its rows in up to 512 blocks. With `--from TABLE` the rows of a table are taken as they are, and
    with their outcomes: needed for rules on quality, and where a block of the profile is longer than a window.
    Latency, errors and resources are in neither: rules on them are not simulated, and are named (`rules_left_out`).
    """
    spec = _spec_of(config, model)
    found = _resampled(config, spec, source, seed)
    first = found.rows[0]
    if events is not None:
        if days is not None or not spec.window.counted:
            raise typer.BadParameter("--events: give either --days or --events, the latter where windows are counted")
        length = Length(max(events // spec.window.every, 1))
    else:
        length = length_in_days(spec.window, first, 365.0 if days is None else days, found.where)
    with _progress() as tell:
        came = run(spec, found.profile, found.rows, length, seed, tell, found.where)
    notes = [*_notes(spec, first), *(f"{name}: too few of them were kept to be resampled" for name in came.left_out)]
    if came.rules_left_out:
        notes.append(
            f"the rows have no values for these rules, which are not simulated: {', '.join(came.rules_left_out)}"
        )
    if as_json:
        block = first.block if isinstance(first, BlockRows) else None
        show_json({"model": model, "seed": seed, "rows": first.rows, "block": block, **came.document(), "notes": notes})
    else:
        _show(model, first.rows, seed, came)
        for note in notes:
            out.print(f"note: {escape(note)}")


def _spec_of(config: Path, model: str) -> ModelSpec:
    """Return the model. Raises ConfigError where drift is not watched."""
    core = build.core(configuration(config))
    known("model", model, [m.name for m in core.models])
    spec = next(m for m in core.models if m.name == model)
    if spec.drift is None:
        raise ConfigError(f"models.{spec.name}.drift", None, "drift is not watched: there is nothing to simulate")
    return spec


@dataclass(frozen=True, slots=True)
class _Resampled:
    """A reference that is resampled: its profile, its rows, and the key that names it."""

    profile: Profile
    rows: Sequence[TableRows | BlockRows]
    where: str


def _resampled(config: Path, spec: ModelSpec, source: Path | None, seed: int) -> _Resampled:
    """Return the reference that is named, or in force, or configured.

    Raises:
        ConfigError: There is none, or it has no blocks.
        InputFileError: A file cannot be read.
    """
    key = f"models.{spec.name}.reference"
    if source is not None and not is_profile(source):
        return _Resampled(load(source, table_spec(spec)), [read_rows(source, table_spec(spec))], _FROM_KEY)
    stored = {} if source is not None else _in_force(config, spec)
    profile, where = stored.get(FEATURES), key
    if profile is None or not profile.blocks:
        path = source or (None if spec.reference.path is None else Path(spec.reference.path))
        if path is not None:
            profile, where = load(path, table_spec(spec)), key if source is None else _FROM_KEY
    if profile is None:
        hint = "is learned from events, and none is in the store yet: run `driftd run`, or name a table with --from"
        raise ConfigError(key, None, hint)
    if not profile.blocks:
        how = "`driftd reference build`" if source or spec.reference.path else "`driftd reference relearn`"
        hint = f"was made by an earlier release, which kept no blocks of its rows: make it again with {how}"
        raise ConfigError(where, None, hint + ", or name its table with --from")
    rows = [_drawn(profile, seed, where)]
    own = stored.get(answers_of(spec.serving.champion))
    if not profile.answers and own is not None:
        profile = replace(profile, answers=own.answers)
        if own.blocks:
            rows.append(_drawn(own, seed + 1, where))
    return _Resampled(profile, rows, where)


def _drawn(profile: Profile, seed: int, where: str) -> BlockRows:
    try:
        return BlockRows(profile, seed)
    except DamagedError as error:
        raise ConfigError(where, None, f"is a damaged profile: {error}; make it again") from error


def _in_force(config: Path, spec: ModelSpec) -> dict[str, Profile]:
    """Return the references of a model that are in force by the store, by subject."""
    with store_of(config) as p:
        found = reader.references(p.engine, spec.name) if has_tables(p.engine) else []
    return {subject: profile for subject, state, profile in found if state == "active"}


def _notes(spec: ModelSpec, rows: TableRows | BlockRows) -> Iterator[str]:
    """Yield what the rows cannot show."""
    if not isinstance(rows, BlockRows):
        return
    window = spec.window
    span = window.events if window.counted else round(window.span / max(rows.lasts, 1) * rows.rows)
    if rows.block > span:
        yield (
            f"a block of the profile has {rows.block} rows and a window about {span}: how rows depend on each other "
            "within a window is not simulated; name the table with --from"
        )
    if spec.outcomes is not None:
        yield "rules on quality are not simulated: a profile has no outcomes of single rows; name a table with --from"


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
