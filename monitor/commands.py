"""What operators ask for, applied by the daemon in its next commit.

Pure. A command is a row that the command line or the HTTP interface inserted: who, when, what and why. The
answer is a sentence that goes back into the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from detectors.reference import Profile
from monitor.alerting.episodes import Silence
from monitor.model import ModelMonitor
from monitor.times import format_time


class CommandName(StrEnum):
    """What can be asked for."""

    ROLLBACK = "rollback"  # to: version
    RECOVER = "recover"
    SILENCE = "silence"  # for_ms, version, kind
    RELEARN = "relearn"  # events
    REFERENCE = "reference"  # a profile: of the last window, or of a table that changed


@dataclass(frozen=True, slots=True)
class Command:
    """One row. `profile` comes with REFERENCE only."""

    id: int
    model: str
    name: CommandName
    arguments: Mapping[str, Any]
    reason: str
    profile: Profile | None = None


def apply_command(model: ModelMonitor, command: Command, now: int) -> str:
    """Do it. -> what was done, in words."""
    match command.name:
        case CommandName.ROLLBACK:
            return model.steering.roll_back_to(str(command.arguments["to"]), now)
        case CommandName.RECOVER:
            return model.steering.acknowledge(now)
        case CommandName.SILENCE:
            return _silence(model, command, now)
        case CommandName.RELEARN:
            return _relearn(model, command, now)
        case CommandName.REFERENCE:
            model.replace_reference(command.profile, now)
            return "the new reference is in force"


def _silence(model: ModelMonitor, command: Command, now: int) -> str:
    until = now + int(command.arguments["for_ms"])
    silence = Silence(until, command.reason, command.arguments.get("version"), command.arguments.get("kind"))
    model.records.silences = (*model.records.silences, silence)
    return f"silent until {format_time(until)} of stream time"


def _relearn(model: ModelMonitor, command: Command, now: int) -> str:
    events = int(command.arguments.get("events") or model.spec.reference.learn or 10_000)
    model.replace_reference(None, now, events)
    return f"the reference is learned from the next {events} answers"
