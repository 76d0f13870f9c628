"""What has happened: the commands `alerts`, `decisions` and `silences`. They answer from the database.

Shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from monitor.cli.options import CONFIG, MOST, ConfigOption, JsonOption, err, escape, known, out, show_json
from monitor.cli.stored import SinceOption, has_tables, since_ms, store_of
from monitor.store import record

ModelOption = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this model.", show_default=False)]
LastOption = Annotated[int, typer.Option(min=1, max=MOST, help="At most so many of the latest ones.")]
_LAST: Final = 50
_COLOUR: Final = {"critical": "red", "warning": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("alerts")(alerts)
    app.command("decisions")(decisions)
    app.command("silences")(silences)


def alerts(
    model: ModelOption = None,
    config: ConfigOption = CONFIG,
    every: Annotated[bool, typer.Option("--all", help="All records, not only what fires now.")] = False,
    since: SinceOption = None,
    last: LastOption = _LAST,
    as_json: JsonOption = False,
) -> None:
    """List what fires, those that began last first; with --all or --since every record that was made.

    Silenced alerts are listed too, and marked.
    """
    with store_of(config) as p:
        _check(model, p.config.models)
        if not has_tables(p.engine):
            _nothing("alerts", as_json=as_json)
            return
        if every or since is not None:
            found = record.alerts(p.engine, model, since=since_ms(p.engine, since), most=last)
        else:
            found = record.firing_alerts(p.engine, model)[:last]
    if as_json:
        show_json({"alerts": found})
        return
    _print(
        ("since", "status", "severity", "kind", "model", "version", "what"),
        [
            (
                a["starts_at"], a["status"] + (" (silenced)" if a["silenced"] else ""), a["severity"], a["kind"],
                a["model"], a["version"], a["summary"],
            )
            for a in found
        ],
        "nothing fires" if not every and since is None else "there were no alerts",
    )  # fmt: skip


def decisions(
    model: ModelOption = None,
    config: ConfigOption = CONFIG,
    since: SinceOption = None,
    last: LastOption = _LAST,
    as_json: JsonOption = False,
) -> None:
    """List decisions about who serves, the newest first: when, why, by whom, and what has been in force since."""
    with store_of(config) as p:
        _check(model, p.config.models)
        if not has_tables(p.engine):
            _nothing("decisions", as_json=as_json)
            return
        found = record.decisions(p.engine, model, since=since_ms(p.engine, since), most=last)
    if as_json:
        show_json({"decisions": found})
        return
    _print(
        ("issued", "model", "no.", "reason", "by", "champion", "level", "routes", "because of alert"),
        [
            (
                d["issued_at"], d["model"], str(d["generation"]), d["reason"], str(d.get("by") or ""), d["champion"],
                str(d.get("active_level", "")), _routes(d), str(d.get("cause") or ""),
            )
            for d in found
        ],
        "there were no decisions",
    )  # fmt: skip


def silences(model: ModelOption = None, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """List the silences that have not ended, in stream time."""
    with store_of(config) as p:
        _check(model, p.config.models)
        if not has_tables(p.engine):
            _nothing("silences", as_json=as_json)
            return
        found = record.silences(p.engine, model)
    if as_json:
        show_json({"silences": found})
        return
    _print(
        ("until", "model", "version", "kind", "reason"),
        [(s["until"], s["model"], s["version"] or "all", s["kind"] or "all", s["reason"]) for s in found],
        "nothing is silenced",
    )


def _check(model: str | None, models: Mapping[str, Any]) -> None:
    if model is not None:
        known("model", model, models)


def _nothing(what: str, *, as_json: bool) -> None:
    err.print("nothing was committed yet: start it with `driftd run`")
    if as_json:
        show_json({what: []})


def _routes(decision: Mapping[str, Any]) -> str:
    return ", ".join(f"{r['version']} {r['weight'] / 100:g} %" for r in decision.get("routes", ()))


def _print(heads: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    if not rows:
        out.print(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(f"[{_COLOUR[v]}]{v}[/]" if v in _COLOUR else escape(v) for v in row))
    out.print(table)
