"""The command `history`: stored metrics of windows.

Shell.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Annotated

import typer

from monitor.cli.options import CONFIG, MOST, ConfigOption, ModelArgument, err, escape, known
from monitor.cli.stored import SinceOption, has_tables, since_ms, store_of
from monitor.evaluation.extents import other_extents, window_label
from monitor.printable import cell, printable
from monitor.store.history import HistoryValue, extent
from monitor.store.history import history as stored_history
from monitor.times import format_time


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("history")(history)


def history(
    model: ModelArgument,
    config: ConfigOption = CONFIG,
    metric: Annotated[str | None, typer.Option(help="Only this metric, such as ks or accuracy.")] = None,
    version: Annotated[str | None, typer.Option(help="Only this version.")] = None,
    feature: Annotated[str | None, typer.Option(help="Only this feature.")] = None,
    since: SinceOption = None,
    last: Annotated[int | None, typer.Option(min=1, max=MOST, help="Only so many of the latest windows.")] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Also windows of other extents, where what they show of drift changed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")] = False,
) -> None:
    """Print what was measured in a model's windows, one value a row, the oldest first, and the verdicts on features."""
    if as_json and as_csv:
        raise typer.BadParameter("give either --json or --csv")
    with store_of(config) as p:
        known("model", model, p.config.models)
        if not has_tables(p.engine):
            err.print("nothing was committed yet: start it with `driftd run`")
            return
        spec = next(m for m in p.core.models if m.name == model)
        configured = window_label(spec.window)
        left_out: set[str] = set()
        values = stored_history(
            p.engine, model, metric=metric, version=version, feature=feature, since=since_ms(p.engine, since),
            last=last, window=None if windows else configured, left_out=left_out,
        )  # fmt: skip
        any_came = _print_history(values, as_json=as_json, as_csv=as_csv)
        stored = None if any_came else extent(p.engine, model)
    if not any_came:
        err.print(escape(_why_nothing(model, stored, configured)))
    left_out.difference_update(extent.label for extent in other_extents(spec))
    if left_out:
        err.print(f"without windows of {', '.join(sorted(left_out))}: {configured} is configured; --windows shows all")


def _why_nothing(model: str, stored: tuple[int, int] | None, configured: str) -> str:
    if stored is None:
        return f"nothing was measured of {model} yet: no window of it has ended; {configured} is configured"
    first, last = map(format_time, stored)
    return f"nothing that was asked for is stored of {model}: its windows end from {first} to {last}"


def _print_history(values: Iterable[HistoryValue], *, as_json: bool, as_csv: bool) -> bool:
    """Print values; return whether there are any."""
    coming = iter(values)
    first = next(coming, None)
    values = coming if first is None else itertools.chain((first,), coming)
    names = [f.name for f in fields(HistoryValue)]
    rows = ({**asdict(v), "start": format_time(v.start), "end": format_time(v.end)} for v in values)
    if as_json:
        for row in rows:
            # JSON has no infinity; the square of a large error may be infinite.
            finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            typer.echo(json.dumps(finite, allow_nan=False))
        return first is not None
    if as_csv:
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows)
        return first is not None
    if first is None:
        return False
    typer.echo(
        f"{'end':<25}{'version':<16}{'metric':<18}{'feature':<24}{'value':>12}{'n':>9}{'coverage':>10}"
        f"{'effect':>12}{'p':>11}{'threshold':>11}  {'verdict':<13}{'window':<13}answers"
    )
    for row in rows:
        coverage = "" if row["coverage"] is None else f"{row['coverage']:.1%}"
        typer.echo(
            f"{row['end']:<25}{printable(row['version']):<16}{printable(row['metric']):<18}"
            f"{printable(row['feature']):<24}{_number(row['value']):>12}{row['n']:>9}{coverage:>10}"
            f"{_number(row['effect']):>12}{_number(row['p_value'], 3):>11}{_number(row['threshold'], 3):>11}"
            f"  {row['verdict'] or '':<13}{row['window'] or '':<13}{row['answers'] or ''}".rstrip()
        )
    return True


def _number(value: float | None, digits: int = 5) -> str:
    return "" if value is None else f"{value:.{digits}g}"
