"""What operators ask for, applied by the daemon in its next commit.

Pure. A command is a row that the command line or the HTTP interface inserted: who, when, what and why. The
answer is a sentence that goes back into the row. Whoever inserts may have checked the arguments; they are
checked here all the same, because a row that cannot be applied must not stop the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeGuard

from detectors.reference import Profile
from monitor.alerting.numbering import Silence
from monitor.alerting.records import AlertKind
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.pipeline.model import ModelMonitor, Published
from monitor.reference.provenance import Origin, OriginKind
from monitor.serving.proposals import Proposal
from monitor.serving.role import named_versions
from monitor.times import format_time

LONGEST_SILENCE: Final = 366 * 86_400_000  # ms
FEWEST_TO_LEARN: Final = 100
MOST_TO_LEARN: Final = 1_000_000


class CommandName(StrEnum):
    """What can be asked for."""

    ROLLBACK = "rollback"  # to: version
    RECOVER = "recover"
    SILENCE = "silence"  # for_ms, version, kind
    RELEARN = "relearn"  # events
    REFERENCE = "reference"  # a profile: of the last window, or of a table that changed
    UNKNOWN = "unknown"  # inserted by a release that knows more


@dataclass(frozen=True, slots=True)
class Command:
    """One row. `profile` comes with REFERENCE only, and is None where it cannot be read; `who` asks."""

    id: int
    model: str
    name: CommandName
    arguments: Mapping[str, Any]
    reason: str
    profile: Profile | None = None
    who: str = ""


def apply_command(model: ModelMonitor, command: Command, now: int) -> tuple[str, Published]:
    """Apply a command.

    Returns:
        What was done in words, beginning with `refused:` where nothing was, and what is published of it.
    """
    match command.name:
        case CommandName.ROLLBACK:
            return _roll_back(model, command, now)
        case CommandName.RECOVER:
            return model.propose(Proposal.acknowledge(command.who), now)
        case CommandName.SILENCE:
            return _silence(model, command, now), []
        case CommandName.RELEARN:
            return _relearn(model, command, now)
        case CommandName.REFERENCE:
            return _reference(model, command, now)
        case CommandName.UNKNOWN:
            return "refused: this release does not know the command", []


def _roll_back(model: ModelMonitor, command: Command, now: int) -> tuple[str, Published]:
    version = command.arguments.get("to")
    seen = {state.version for state in model.versions.states.values()} | named_versions(model.controller.serving)
    known = sorted(seen - {*VERSIONLESS_TIERS, OTHER})
    if version not in known:
        return f"refused: to: {version!r} is no version of {model.spec.name}; there are {', '.join(known)}", []
    return model.propose(Proposal.make_champion(version, command.who), now)


def _silence(model: ModelMonitor, command: Command, now: int) -> str:
    for_ms = command.arguments.get("for_ms")
    version, kind = command.arguments.get("version"), command.arguments.get("kind")
    if not _is_count(for_ms) or for_ms > LONGEST_SILENCE:
        return f"refused: for_ms: {for_ms!r}: milliseconds are needed, at most {LONGEST_SILENCE}"
    if version is not None and not isinstance(version, str):
        return f"refused: version: {version!r} is no version"
    if kind is not None and kind not in list(AlertKind):
        return f"refused: kind: {kind!r}: one of {', '.join(AlertKind)} is needed"
    silence = Silence(now + for_ms, command.reason, version, kind)
    model.alerts.silence(silence)
    return f"silent until {format_time(silence.until)} of stream time"


def _relearn(model: ModelMonitor, command: Command, now: int) -> tuple[str, Published]:
    events = command.arguments.get("events")
    if model.spec.drift is None:
        return f"refused: drift is not watched for {model.spec.name}", []
    if events is None:
        events = model.spec.reference.learn or 10_000
    if not _is_count(events) or not FEWEST_TO_LEARN <= events <= MOST_TO_LEARN:
        return f"refused: events: {events!r}: a number from {FEWEST_TO_LEARN} to {MOST_TO_LEARN} is needed", []
    origin = Origin(OriginKind.RELEARNED, who=command.who or None, reason=command.reason)
    published = model.replace_reference(None, now, events, origin)
    return f"the reference is learned from the next {events} answers", published


def _reference(model: ModelMonitor, command: Command, now: int) -> tuple[str, Published]:
    if command.profile is None:
        return "refused: the reference that came with the command cannot be read", []
    if model.spec.drift is None:
        return f"refused: drift is not watched for {model.spec.name}", []
    start, end = command.arguments.get("start"), command.arguments.get("end")
    window = (start, end) if _is_count(start) and _is_count(end) else None
    origin = Origin(OriginKind.ACCEPTED, window=window, who=command.who or None, reason=command.reason)
    return "the new reference is in force", model.replace_reference(command.profile, now, origin=origin)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value > 0
