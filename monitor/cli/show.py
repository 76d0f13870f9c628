"""Results for people, as tables.

Shell only in that it prints. Names come from events, so they are escaped: none is markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from monitor.alerting.records import AlertKind
from monitor.cli.options import escape
from monitor.clock import wall_ms
from monitor.pipeline.shown import renewal_words, traffic
from monitor.reference.progress import ReferenceStatus
from monitor.spec import Severity
from monitor.times import duration_words, format_time, parse_time

_SHOWN: Final = ("accuracy", "roc_auc", "mae", "error_rate", "latency_p95_ms", "coverage")
_COLOUR: Final = {"healthy": "green", "degraded": "yellow", "failed": "red"}


def show_status(console: Console, status: Mapping[str, Any]) -> None:
    """Print a status document; the summary of a replay is one as well."""
    events, join, alerts = status["events"], status["join"], status["alerts"]
    if status.get("committed_at"):
        stopped = f"; [yellow]{escape(status['no_daemon'])}[/yellow]" if status.get("no_daemon") else ""
        console.print(f"as of {status['committed_at']}{_ages(status)}{stopped}")
    after_idle = f", {events['late_after_idle']} late after idle" if events.get("late_after_idle") else ""
    console.print(
        f"read {events['read']}: {events['predictions']} predictions, {events['outcomes']} outcomes, "
        f"{events['resources']} resources, {events['dead_letters']} refused, {events['late_predictions']} late"
        f"{after_idle}"
    )
    _show_not_used(console, status)
    console.print(
        f"joined {join['joined']}, waiting {join['pending']}, expired {join['expired']}, late {join['late']}, "
        f"orphans {join['orphans']}, duplicates {join['duplicates']}, conflicts {join['conflicts']}"
    )
    kinds = ", ".join(f"{kind} {n}" for kind, n in alerts["by_kind"].items())
    fire = ", ".join(f"{kind} {n}" for kind, n in alerts["active_by_kind"].items())
    console.print(
        f"alerts: {alerts['active']} fire{'s' if alerts['active'] == 1 else ''}{f' ({fire})' if fire else ''}, "
        f"{alerts['firing']} began{f' ({kinds})' if kinds else ''}, {alerts['resolved']} ended; "
        f"decisions: {status['decisions']}"
    )
    for name, destination in status.get("destinations", {}).items():
        if destination["last_error"]:
            why = escape(f"{destination['waiting']} messages wait, {destination['last_error']}")
            console.print(f"[red]destination {escape(name)}: {why}[/red]")
    for name, model in status["models"].items():
        _show_model(console, name, model)


def _ages(status: Mapping[str, Any]) -> str:
    """Return how long ago the last commit was, and how far stream time was behind it."""
    committed, reached = parse_time(status["committed_at"]), status["stream_time"]
    age = f", {_words(wall_ms() - committed)} ago; stream time"
    return (
        f"{age} {format_time(reached)}, {_words(committed - reached)} before that" if reached >= 0 else f"{age} unknown"
    )


def _words(ms: int) -> str:
    return duration_words(max(round(ms / 1000), 1) * 1000)


def _show_model(console: Console, name: str, model: Mapping[str, Any]) -> None:
    """Print who answers and why, what fires since when, what cannot be judged, what to do, and the versions."""
    level = model["active_level"]
    removed = model["removed_at"] and f", [yellow]removed from the configuration at {model['removed_at']}[/yellow]"
    tier = f"tier {level}" if level == "primary" else f"[red]level {escape(level)} answers[/red]"
    champion = escape(f"champion {model['champion']} {traffic(model)}")
    previous = escape(f", previous {model['previous']}") if model["previous"] else ""
    console.print(f"\n[bold]{escape(name)}[/bold]: {tier}, {champion}{previous}{removed or ''}")
    if model["decided_at"]:
        by = f" by {model['by']}" if model["by"] else ""
        console.print(escape(f"decided: {model['reason']}{by}, since {model['decided_at']}"))
    for alert in model["alerts"]:
        if alert["kind"] != AlertKind.BLIND:  # below, in words
            colour = "red" if alert["severity"] == Severity.CRITICAL else "yellow"
            what = " ".join(part for part in (alert["version"], alert["rule"], alert["what"]) if part)
            told = escape(f"{alert['severity']} {alert['kind']}: {what} (since {alert['since']})")
            console.print(f"[{colour}]{told}[/]")
    for blind in model["blind"]:
        why = f"{blind['version']}: {blind['summary']} (since {blind['since']})"
        console.print(f"[yellow]cannot be judged: {escape(why)}[/yellow]")
    for note in model["notes"]:
        console.print(f"note: {escape(note)}")
    reference = model["reference"]
    if reference["state"] == ReferenceStatus.FREEZING:
        console.print("[yellow]reference: freezing[/yellow]: it is being made; checks wait and are made up then")
    if reference.get("number") is not None:
        since = f", since {reference['since']}" if reference["since"] else ""
        which = f"number {reference['number']} ({reference['origin']})"
        renewed = renewal_words(reference)
        console.print(f"reference: {which}, {reference['rows']} rows{since}{f'; {renewed}' if renewed else ''}")
    if reference["state"] in (ReferenceStatus.LEARNING, ReferenceStatus.WAITING):
        console.print(f"reference: {reference['state']}, {reference['rows']} of at least {reference['wanted']}")
    if model["next"]:
        console.print(f"what to do: {escape(model['next'])}")
    console.print(_versions(model["versions"]))


def _show_not_used(console: Console, status: Mapping[str, Any]) -> None:
    """Print what of the events counts nowhere."""
    events, dropped = status["events"], status["join"].get("early_metrics_dropped")
    if ignored := events.get("ignored"):
        names = ", ".join(f"{name} {n}" for name, n in ignored.items())
        console.print(escape(f"ignored, of models that are not configured: {names}"))
    if synthetic := events.get("synthetic"):
        console.print(f"synthetic: {synthetic}")
    for model, fields in status.get("unusable", {}).items():
        told = ", ".join(f"{path} {reason} {n}" for path, reasons in fields.items() for reason, n in reasons.items())
        console.print(escape(f"missing, because they cannot be used, of {model}: {told}"))
    if dropped:
        console.print(f"metrics of {dropped} early outcomes were dropped: too many wait for their prediction")


def _versions(versions: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("version", "role", "health", "promise", "predictions", "outcomes", "latest window", "fires"):
        table.add_column(head, justify="right" if head in ("predictions", "outcomes") else "left")
    for version, v in versions.items():
        shown = ", ".join(f"{m} {v['metrics'][m]:.4g}" for m in _SHOWN if m in v["metrics"])
        fires = [*v["firing"], *(f"drift: {f}" for f in v["drifted"]), *(f"quality: {f}" for f in v["data_quality"])]
        health = f"[{_COLOUR.get(v['health'], 'default')}]{escape(v['health'])}[/]"
        table.add_row(
            escape(version), escape(v["role"]), health, v["founded"] or "", str(v["predictions"]), str(v["outcomes"]),
            escape(shown), escape(", ".join(fires)),
        )  # fmt: skip
    return table
