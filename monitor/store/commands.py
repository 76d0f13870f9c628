"""The queue of operator commands between the command line and the daemon.

Shell. A command is a row; the daemon applies it in its next commit and stores the result. Without a running daemon it
is applied at the next start.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from detectors.reference import Profile
from detectors.saved import DamagedError
from monitor.pipeline.commands import Command, CommandName
from monitor.saved import damage_in
from monitor.store import tables as t
from monitor.store.engine import database_clock, insert, translated
from monitor.store.rows import row_of


def ask(
    engine: Engine,
    model: str,
    name: CommandName,
    arguments: Mapping[str, Any],
    *,
    reason: str,
    who: str,
    key: str | None = None,
    profile: Profile | None = None,
) -> int:
    """Insert a command.

    Args:
        engine: The store.
        model: Model that it is for.
        name: Which command.
        arguments: Its arguments, as JSON values.
        reason: Why, in the operator's words.
        who: Name of the person.
        key: Idempotency key: a second command with the same key is not inserted.
        profile: Reference to store with the command.

    Returns:
        The id of the command; that of the earlier one if `key` was used before.

    Raises:
        StoreError: The database failed.
    """
    with translated(), engine.begin() as c:
        values = {
            "idempotency_key": key, "model": model, "name": name.value, "arguments": json.dumps(arguments),
            "reason": reason, "who": who, "created_at": database_clock(c),
        }  # fmt: skip
        if profile is not None:
            offered = c.execute(
                sa.insert(t.reference).values(
                    model=model, subject="features", hash=profile.content_hash, state="offered", seq=0, source=who,
                    body=profile.to_bytes(),
                ).returning(t.reference.c.id)
            ).scalar_one()  # fmt: skip
            values["arguments"] = json.dumps({**arguments, "reference": offered})
        inserted = c.execute(
            insert(c, t.command).values(**values).on_conflict_do_nothing().returning(t.command.c.id)
        ).scalar_one_or_none()
        if inserted is None:
            inserted = c.execute(sa.select(t.command.c.id).where(t.command.c.idempotency_key == key)).scalar_one()
        return int(inserted)


def pending_commands(engine: Engine) -> list[Command]:
    """Return the commands that were not applied yet, the oldest first.

    Raises:
        StoreError: The database failed.
    """
    with translated(), engine.connect() as c:
        wanted = sa.select(t.command).where(t.command.c.applied_seq.is_(None)).order_by(t.command.c.id)
        rows = c.execute(wanted).all()
        commands = []
        for row in rows:
            with damage_in(row_of(t.command, row.id)):
                arguments = dict(json.loads(row.arguments))
            profile = None
            if "reference" in arguments:
                body = c.execute(
                    sa.select(t.reference.c.body).where(t.reference.c.id == arguments["reference"])
                ).scalar_one_or_none()
                profile = None if body is None else _profile(bytes(body))
            known = row.name in list(CommandName)
            name = CommandName(row.name) if known else CommandName.UNKNOWN
            commands.append(Command(row.id, row.model, name, arguments, row.reason, profile, row.who))
        return commands


def _profile(body: bytes) -> Profile | None:
    try:
        return Profile.from_bytes(body)
    except DamagedError:
        return None


def wait_for(engine: Engine, command: int, timeout_s: float, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Wait for the result of a command.

    Args:
        engine: The store.
        command: Id of the command.
        timeout_s: Longest time to wait, in seconds.
        sleep: Called with seconds between two queries.

    Returns:
        The result; None if the command was not applied within the time.

    Raises:
        StoreError: The database failed.
    """
    until = time.monotonic() + timeout_s
    while True:
        with translated(), engine.connect() as c:
            result: str | None = c.execute(
                sa.select(t.command.c.result).where(t.command.c.id == command)
            ).scalar_one_or_none()
        if result is not None or time.monotonic() > until:
            return result
        sleep(0.1)
