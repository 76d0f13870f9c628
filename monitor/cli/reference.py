"""`driftd reference build|merge|list|show|accept|relearn`: the references of models.

Shell.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from detectors.reference import CategoricalReference, NumericReference, Part, Profile
from detectors.season import Season
from monitor.cli.operate import KeyOption, ReasonOption, WaitOption, order
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
from monitor.cli.reference_merge import Profiles, Unordered, merged, part_lines
from monitor.cli.reference_record import list_references, show_record
from monitor.cli.stored import has_tables, store_of
from monitor.config import build as build_config
from monitor.names import shown_names
from monitor.pipeline.commands import CommandName
from monitor.reference.build import load
from monitor.reference.file import table_spec
from monitor.reference.provenance import config_digest
from monitor.reference.table_roles import Role, TableSpec
from monitor.service.rebaseline import profile_of_last_window
from monitor.spec import FeatureKind, ModelSpec, Task
from monitor.store import reader
from monitor.times import format_time

app = typer.Typer(
    help="Build references from tables, merge, list, show and replace them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PredictionColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the predictions.")]
ScoreColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of their scores.")]
ActualColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the actual values.")]
TimeColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the times of the rows.")]


def register(to: typer.Typer) -> None:
    """Add the commands of this module."""
    to.add_typer(app, name="reference")


@app.command("build")
def build(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, CSV.gz, JSON lines or Parquet.")],
    out_path: Annotated[Path, typer.Option("--out", "-o", help="The file to write the profile to.")],
    model: Annotated[
        str | None, typer.Option(help="Take task, features and points from this model of the configuration.")
    ] = None,
    config: ConfigOption = CONFIG,
    task: Annotated[Task | None, typer.Option(help="Task of the predictions, if there are any.")] = None,
    positive: Annotated[str | None, typer.Option(help="The positive class of a binary task.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=KIND", help="KIND is numeric, categorical or ignore; may be repeated."),
    ] = None,
    prediction: PredictionColumn = None,
    score: ScoreColumn = None,
    actual: ActualColumn = None,
    time: TimeColumn = None,
    points: Annotated[
        int, typer.Option(min=16, max=100_000, help="Points that summarise the distribution of a numeric feature.")
    ] = 2_048,
    season: Annotated[
        Season | None, typer.Option(help="Tell rows apart by what repeats itself; they need times.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes for a large table; by default as there are cores.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the profile of a table, so that the daemon need not do it when it starts.

    Columns are named as the features. Those called `prediction`, `score`, `actual` and `time` are the model's answers,
    the actual values and the times, unless the configuration of the model or these options say otherwise: with
    `--score ""` no column has scores, and one called `score` is a feature.
    Columns of other types than numbers and texts, and identifiers, are ignored with a notice. The table is read in
    batches, twice: its size does not matter. Of one of 32 MB or more features are profiled side by side; the profile is
    the same for any number of `--jobs`.
    """
    if model is not None:
        core = build_config.core(configuration(config))
        known("model", model, [m.name for m in core.models])
        spec = table_spec(next(m for m in core.models if m.name == model))
    else:
        spec = TableSpec(task, positive, 0.5, _kinds(feature or []), points)
    given = {Role.PREDICTION: prediction, Role.SCORE: score, Role.ACTUAL: actual, Role.TIME: time}
    columns = {role.value: name or None for role, name in given.items() if name is not None}
    spec = replace(spec, columns={**(spec.columns or {}), **columns}, season=season or spec.season)
    shown = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*shown, console=err, transient=True, disable=not err.is_terminal) as bar:
        profile = load(table, spec, _told_to(bar), jobs or os.cpu_count() or 1)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    out_path.write_bytes(profile.to_bytes())
    _show(str(out_path), profile, as_json=as_json)


def _told_to(bar: Progress) -> Callable[[int], None]:
    job = bar.add_task("reading")
    return lambda rows: bar.update(job, description=f"{rows:,} rows of two readings")


@app.command("merge")
def merge(
    profiles: Profiles,
    out_path: Annotated[Path, typer.Option("--out", "-o", help="The file to write the merged profile to.")],
    unordered: Unordered = False,
    as_json: JsonOption = False,
) -> None:
    """Merge built profiles of the same features into one, as if their rows had been one table.

    A long history can be profiled month by month, on several machines, and next month's profile joins them later. They
    are put in the order of their times, which must not overlap; gaps between them do no harm. How rows depend on each
    other is taken from each part, and where parts differ by more than that explains, from how far they differ.
    `driftd reference show FILE` tells what a profile was merged from.
    """
    profile = merged(profiles, unordered=unordered)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    out_path.write_bytes(profile.to_bytes())
    _show(str(out_path), profile, as_json=as_json)


def _kinds(pairs: list[str]) -> dict[str, FeatureKind]:
    kinds = {}
    for pair in pairs:
        name, sign, kind = pair.rpartition("=")
        if not sign or kind not in list(FeatureKind):
            raise typer.BadParameter(f"--feature: {pair}: write NAME=KIND, where KIND is {', '.join(FeatureKind)}")
        kinds[name] = FeatureKind(kind)
    return kinds


app.command("list")(list_references)


@app.command("show")
def show(
    what: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="A model, or the file of a profile or table.")],
    config: ConfigOption = CONFIG,
    number: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="The reference of this number, as `list` has it, with its record."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="With --number: of this version's answers, not of the features.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the active references of a model, one that was in force before, or the profile of a file.

    Of references that are not in force any more the latest profiles are kept, and records longer than that.
    """
    if version is not None and number is None:
        raise typer.BadParameter("--version goes with --number")
    if number is None and Path(what).is_file():
        _show(what, load(Path(what), TableSpec()), as_json=as_json)
        return
    with store_of(config) as p:
        known("model", what, p.config.models)
        if number is not None and has_tables(p.engine):
            current = next(config_digest(m) for m in p.core.models if m.name == what)
            show_record(p.engine, what, number, version, current, as_json, _document, _print)
            return
        found = reader.references(p.engine, what) if has_tables(p.engine) else []
        spec = next(m for m in p.core.models if m.name == what)
    if not found:
        err.print(f"{escape(what)} has no reference{_why_none(spec)}")
    for subject, state, profile in found:
        _show(f"{what}: {subject} ({state})", profile, as_json=as_json)


def _why_none(spec: ModelSpec) -> str:
    if spec.reference.path is not None:
        return " yet: it is read at the first start"
    if not spec.reference.learn:
        return f": none is configured; give it one with models.{escape(spec.name)}.reference"
    if spec.drift is None:
        return ": drift is switched off, so none is learned"
    return " yet: it is still being learned"


def _show(title: str, profile: Profile, *, as_json: bool) -> None:
    if as_json:
        show_json(_document(title, profile))
    else:
        _print(title, profile)


def _features(profile: Profile) -> list[dict[str, Any]]:
    compared = (*profile.features, *profile.answers)
    return [_about(f, name) for f, name in zip(compared, shown_names(profile), strict=True)]


def _document(title: str, profile: Profile) -> dict[str, Any]:
    document: dict[str, Any] = {
        "title": title, "hash": profile.content_hash, "rows": profile.rows, "ordered": profile.ordered,
        "first": None if profile.first_ms is None else format_time(profile.first_ms),
        "last": None if profile.last_ms is None else format_time(profile.last_ms),
        "features": _features(profile), "notices": list(profile.notices),
        "metrics": {name: b.value for name, b in profile.baselines.items()},
    }  # fmt: skip
    if profile.blocks:
        document["blocks"] = sum(map(len, profile.blocks))
    if profile.parts:
        document["parts"] = [_about_part(part) for part in profile.parts]
    return document


def _about_part(part: Part) -> dict[str, Any]:
    return {
        "file": part.file, "hash": part.hash, "rows": part.rows,
        "first": None if part.first_ms is None else format_time(part.first_ms),
        "last": None if part.last_ms is None else format_time(part.last_ms),
    }  # fmt: skip


def _print(title: str, profile: Profile) -> None:
    blocks = sum(map(len, profile.blocks))
    kept = f"{blocks} blocks" if blocks else "no blocks, as earlier releases built it"
    out.print(f"[bold]{escape(title)}[/bold]: {profile.rows} rows, {kept}, {profile.content_hash[:12]}")
    for line in part_lines(profile):
        out.print(f"  {escape(line)}")
    for f in _features(profile):
        out.print(f"  {escape(f['name']):<24} {f['kind']:<12} missing {f['missing_rate']:.2%}, {escape(f['range'])}")
    for name, baseline in profile.baselines.items():
        out.print(f"  {name}: {baseline.value:.6g} over {baseline.n}")
    for notice in profile.notices:
        out.print(f"  note: {escape(notice)}")


def _about(f: NumericReference | CategoricalReference, name: str) -> dict[str, Any]:
    missing = f.missing / (f.rows + f.missing) if f.rows + f.missing else 0.0
    if isinstance(f, NumericReference):
        low, high = (float(f.points[0]), float(f.points[-1])) if len(f.points) else (None, None)
        shown = "no values" if low is None else f"{low:.6g} to {high:.6g}"
        return {
            "name": name, "kind": "numeric", "missing_rate": missing, "range": shown, "low": low, "high": high,
            "sd": f.sd, "ks_error": f.ks_error, "wasserstein_error": f.w1_error / f.sd if f.sd > 0 else None,
        }  # fmt: skip
    shown = f"{len(f.categories)} values: {', '.join(f.categories[:5])}{', …' if len(f.categories) > 5 else ''}"
    return {
        "name": name,
        "kind": "categorical",
        "missing_rate": missing,
        "range": shown,
        "levels": list(f.categories),
    }


@app.command("accept")
def accept(
    model: ModelArgument,
    reason: ReasonOption,
    config: ConfigOption = CONFIG,
    wait: WaitOption = 0.0,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make the champion's last window the new reference: accept the drift as the new normal.

    The predictions of the last checked window are read again from the stream.
    """
    with store_of(config) as p:
        known("model", model, p.config.models)
        if not has_tables(p.engine):
            err.print("nothing was committed yet: start it with `driftd run`")
            return 75
        profile, window = profile_of_last_window(p, model)
    times = f"from {format_time(window.start)} to {format_time(window.end)}"
    err.print(f"{profile.rows} predictions of {escape(window.version)} {times}")
    arguments = {"start": window.start, "end": window.end}
    return order(config, model, CommandName.REFERENCE, arguments, reason, wait, key, as_json=as_json, profile=profile)


@app.command("relearn")
def relearn(
    model: ModelArgument,
    reason: ReasonOption,
    events: Annotated[
        int | None, typer.Option(min=100, help="Number of predictions; by default as configured, or 10000.")
    ] = None,
    config: ConfigOption = CONFIG,
    wait: WaitOption = 0.0,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Learn a new reference from the next predictions. Until it is complete, drift is not checked."""
    arguments = {} if events is None else {"events": events}
    return order(config, model, CommandName.RELEARN, arguments, reason, wait, key, as_json=as_json)
