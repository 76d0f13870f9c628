"""Queries and commands of operators: status, history, inspect, silence, rollback, recover.

Shell. Queries are answered from the database, with or without a running daemon. Commands are rows that the daemon
applies in its next commit, or at its next start.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from detectors.reference import Profile
from monitor.alerting.records import AlertKind
from monitor.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    ModelArgument,
    err,
    escape,
    known,
    out,
    show_json,
)
from monitor.cli.show import show_status
from monitor.cli.stored import has_tables, store_of
from monitor.config.units import duration_ms
from monitor.join.ended import EndedRequests
from monitor.pipeline.commands import CommandName
from monitor.pipeline.inspection import keys_of, look_up
from monitor.pipeline.status import Totals, document
from monitor.service.session import Session
from monitor.serving.proposals import NOBODY
from monitor.store import reader, schema
from monitor.store.commands import ask, wait_for
from monitor.store.permissions import user_name


def _said(reason: str | None) -> str | None:
    """Refuse a reason that says nothing."""
    if reason is not None and not reason.strip():
        raise typer.BadParameter("is empty; say why, for those who read it later")
    return reason


_REASON: Final = typer.Option("--reason", help="Why; stored with the command.", callback=_said)
ReasonOption = Annotated[str, _REASON]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", help="Wait this long for the daemon's result; exit 75 if it does not come."
    ),
]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who asks; told with the decision. Default: the user's name.")
]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Idempotency key: a second command with the same key has no effect.")
]

_LONGEST_NAME: Final = 256  # characters
_LONGEST_WAIT_S: Final = 86_400.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for name, command in (
        ("status", status), ("inspect", inspect), ("silence", silence),
        ("rollback", rollback), ("recover", recover),
    ):  # fmt: skip
        app.command(name)(command)


# -- queries ---------------------------------------------------------------------------------------------


def status(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show counts, health, active versions and firing alerts, as of the last commit."""
    with store_of(config) as p:
        found = reader.status(p.engine, p.config.store.lease / 1000) if has_tables(p.engine) else None
    if found is None:
        err.print("nothing was committed yet: start it with `driftd run`")
        found = document(Totals(), {})
    if as_json:
        show_json(found)
    else:
        show_status(out, found)


def inspect(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request_id of the events.")],
    config: ConfigOption = CONFIG,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Show what became of one request: its state, version, prediction, actual and times.

    It is unknown, waiting for its outcome, joined, late, orphaned, or closed without an outcome. The answer comes from
    the database, as of the last commit.
    """
    with store_of(config) as p:
        if model is not None:
            known("model", model, p.config.models)
        made = has_tables(p.engine)
        session = Session.read_only(p.core, p.engine) if made else Session(p.core)
        asked = [m for m in session.pipeline.models if model in (None, m.spec.name)]
        keys = [keys_of(session.pipeline, m, session.seed, request_id) for m in asked]
        ended = reader.ended(p.engine, np.concatenate(keys)) if made and keys else EndedRequests.none()
        found = [
            look_up(session.pipeline, m, session.seed, request_id, ended.take(np.flatnonzero(np.isin(ended.key, own))))
            for m, own in zip(asked, keys, strict=True)
        ]
    if as_json:
        show_json({"request_id": request_id, "models": found})
    else:
        for f in found:
            _print_request(f)
    return 0


def _print_request(found: Mapping[str, Any]) -> None:
    out.print(f"[bold]{escape(found['model'])}[/bold]: {found['state']}: {found['meaning']}")
    for answer in found["answers"]:
        how = "served" if answer["served"] else "not served"
        how += f" by {answer['served_by']}" if answer["served"] and answer.get("served_by") else ""
        more = f", predicted {answer['prediction']} at {answer['time']}" if "prediction" in answer else ""
        more += f", score {answer['score']}" if answer.get("score") is not None else ""
        more += f", expires {answer['expires_at']}" if answer.get("expires_at") else ""
        more += _counted(answer.get("window"))
        out.print(f"  {escape(str(answer['version']))}: {how}, {answer['state']}{escape(more)}")
    if found["outcome"]:
        out.print(f"  outcome {escape(str(found['outcome']['actual']))} at {found['outcome']['time']}")
    if found["details"]:
        out.print(f"  {found['details']}")


def _counted(window: Mapping[str, Any] | None) -> str:
    """Say where a joined answer counts."""
    if window is None:
        return ""
    if not window["counted"]:
        return ", counted in no window"
    if "start" in window:
        return f", counted from {window['start']} to {window['end']}"
    return f", counted in pane {window['pane']}"


# -- commands --------------------------------------------------------------------------------------------


def silence(
    model: ModelArgument,
    reason: ReasonOption,
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="30m, 2h or 1d, in stream time.")],
    config: ConfigOption = CONFIG,
    version: Annotated[str | None, typer.Option(help="Only alerts of this version.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Only this kind: {', '.join(AlertKind)}.")] = None,
    wait: WaitOption = 0.0,
    key: KeyOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> int:
    """Publish no alerts of a model for some time. They are still stored, and rollbacks still happen."""
    try:
        for_ms = duration_ms(duration)
    except ValueError as error:
        raise typer.BadParameter(f"--for: {error}") from None
    arguments: dict[str, Any] = {"for_ms": for_ms}
    if version is not None:
        _check_version(config, model, version)
        arguments["version"] = version
    if kind is not None:
        arguments["kind"] = known("kind", kind, list(AlertKind))
    return order(config, model, CommandName.SILENCE, arguments, reason, wait, key, by=by, as_json=as_json)


def rollback(
    model: ModelArgument,
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="The version that becomes the champion.")],
    reason: ReasonOption,
    config: ConfigOption = CONFIG,
    wait: WaitOption = 0.0,
    key: KeyOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make a version the champion."""
    _check_version(config, model, to)
    return order(config, model, CommandName.ROLLBACK, {"to": to}, reason, wait, key, by=by, as_json=as_json)


def _check_version(config: Path, model: str, version: str) -> None:
    """Refuse a version that neither the configuration names nor any event did."""
    with store_of(config) as p:
        known("model", model, p.config.models)
        found = reader.status(p.engine) if has_tables(p.engine) else None
        seen = set(found["models"].get(model, {}).get("versions", ())) if found else set()
        spec = next(m for m in p.core.models if m.name == model).serving
        named = {spec.champion, spec.previous, *(r.version for r in spec.routes), *spec.shadows}
        known("version", version, {v for v in seen | named if v is not None})


def recover(
    model: ModelArgument,
    reason: Annotated[str | None, _REASON] = None,
    config: ConfigOption = CONFIG,
    wait: WaitOption = 0.0,
    key: KeyOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> int:
    """End a fallback, so that the champion serves again, and acknowledge rollbacks."""
    return order(config, model, CommandName.RECOVER, {}, reason or "", wait, key, by=by, as_json=as_json)


def order(
    config: Path,
    model: str,
    name: CommandName,
    arguments: Mapping[str, Any],
    reason: str,
    wait: float,
    key: str | None,
    *,
    by: str | None = None,
    as_json: bool,
    profile: Profile | None = None,
) -> int:
    """Insert a command and print its result.

    Args:
        config: The configuration file.
        model: Model that the command is for.
        name: Which command.
        arguments: Its arguments, as JSON values.
        reason: Why, in the operator's words.
        wait: Seconds to wait for the daemon; 0: do not wait.
        key: Idempotency key.
        by: Name of the person who asks; None: the user of this process.
        as_json: Print JSON.
        profile: Reference to store with the command.

    Returns:
        The exit code: 75 if the daemon did not apply the command in time.
    """
    who = _person(by)
    _check_wait(wait)
    with store_of(config, read_only=False) as p:
        known("model", model, p.config.models)
        schema.upgrade(p.engine)
        number = ask(p.engine, model, name, arguments, reason=reason, who=who, key=key, profile=profile)
        result = wait_for(p.engine, number, wait) if wait > 0 else None
        nobody = reader.no_daemon(p.engine, p.config.store.lease / 1000) if result is None else None
    if as_json:
        show_json({"command": number, "result": result})
    elif result is not None:
        out.print(escape(result))
    elif wait <= 0:
        when = f"at its next start: {nobody}" if nobody else "in its next commit"
        out.print(escape(f"command {number} is stored; the daemon applies it {when}"))
    if result is not None or wait <= 0:
        return 0
    state = f"{nobody}: start it with `driftd run`" if nobody else "a daemon runs: see its log and `driftd status`"
    err.print(escape(f"command {number} is stored, but nobody applied it in {wait:g} s; {state}"))
    return 75


def _check_wait(wait: float) -> None:
    """Refuse a time to wait that is none, or that never ends."""
    if not 0 <= wait <= _LONGEST_WAIT_S:
        raise typer.BadParameter(f"--wait: {wait:g}: 0 to {_LONGEST_WAIT_S:g} seconds are needed")


def _user() -> str:
    """Return the name of the user of this process, or its number: in a container there may be no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return user_name(os.getuid())


def _person(by: str | None) -> str:
    """Return the name of the person who asks."""
    who = _user() if by is None else by.strip()
    if not who or len(who) > _LONGEST_NAME or not who.isprintable():
        raise typer.BadParameter(f"--by: a name of at most {_LONGEST_NAME} printable characters is needed")
    if by is not None and who in NOBODY:
        raise typer.BadParameter(f"--by: {who} is what driftd's own decisions say; give the name of a person")
    return who
