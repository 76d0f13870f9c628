"""Where references come from, and which were in force when: a record for each that ever was.

A record begins with its reference and ends with it, at times of the stream, so a replay gives the same records as the
live run. Numbers count within a model and a subject. Pure. `active` keeps a `RecordBook`, commits write what is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from detectors.reference import Profile
from monitor.spec import ModelSpec

_DIGITS: Final = 12


class OriginKind(StrEnum):
    """Say what a reference was made of."""

    TABLE = "table"  # a table of the configuration
    PROFILE = "profile"  # a built profile of the configuration
    LEARNED = "learned"  # predictions, as configured
    RELEARNED = "relearned"  # predictions, since a person asked for it
    ACCEPTED = "accepted"  # a window that a person has accepted
    ROLLING = "rolling"  # the latest predictions, from time to time
    TABLE_ANSWERS = "table answers"  # the answers in a table or profile, for the champion's own
    UNKNOWN = "unknown"  # it was in force before records were kept


class LearnedFrom(StrEnum):
    """Say which predictions a reference was learned from."""

    PANES = "whole panes"
    FIRST = "first predictions"


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a reference comes from.

    Attributes:
        kind: What it was made of.
        file: The file as it is configured.
        sha256: Of the content of the file, hexadecimal.
        learned_from: Which predictions it was learned from.
        features: Number of the record of the features whose table has these answers.
        window: Start and end of the window that was accepted, or of the time that a rolling one was made from, ms.
        who: The person who asked for it.
        reason: Why, in that person's words.
    """

    kind: OriginKind
    file: str | None = None
    sha256: str | None = None
    learned_from: LearnedFrom | None = None
    features: int | None = None
    window: tuple[int, int] | None = None
    who: str | None = None
    reason: str | None = None


NOT_KNOWN = Origin(OriginKind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """A reference that is in force, or was.

    Attributes:
        subject: As of `NewReference`.
        number: 1, 2, … within a model and subject.
        profile: The reference.
        since: Stream time from which on it was in force, ms; None: from the start, or not known.
        origin: Where it comes from.
        config: `config_digest` of the configuration that it was made with; None where that is not known.
    """

    subject: str
    number: int
    profile: Profile
    since: int | None
    origin: Origin
    config: str | None


@dataclass(frozen=True, slots=True)
class EndedReference:
    """A reference that is not in force any more, since stream time `until` in ms; None where that is not known."""

    subject: str
    number: int
    until: int | None


@dataclass(slots=True)
class RecordChanges:
    """Records that have begun and ended since the last commit; one that began may be among those that have ended."""

    begun: list[ReferenceRecord] = field(default_factory=list)
    ended: list[EndedReference] = field(default_factory=list)


class InForce(msgspec.Struct, frozen=True):
    """What is stored with every commit of the record of a reference in force."""

    number: int
    origin: OriginKind
    since: int | None = None


class SavedRecords(msgspec.Struct):
    """What a `RecordBook` goes on from.

    Attributes:
        numbers: Number of the latest record, by subject.
        in_force: By subject.
        asked: Origin of the reference that a person wants learned; None where nobody does.
    """

    numbers: dict[str, int] = {}
    in_force: dict[str, InForce] = {}
    asked: Origin | None = None


class RecordBook:
    """Numbers the references of one model, and gathers what has to be written of them.

    Attributes:
        state: What is stored with every commit.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.state = SavedRecords()
        self._spec = spec
        self._changes = RecordChanges()

    def begin(self, subject: str, profile: Profile, since: int | None, origin: Origin) -> None:
        """Record that a reference is in force from now on, instead of the one before.

        Args:
            subject: What it is the reference of.
            profile: The reference.
            since: Stream time, ms; None: from the start.
            origin: Where it comes from.
        """
        self.end(subject, since)
        config = None if origin.kind is OriginKind.UNKNOWN else config_digest(self._spec)
        number = self.state.numbers[subject] = self.state.numbers.get(subject, 0) + 1
        self.state.in_force[subject] = InForce(number, origin.kind, since)
        self._changes.begun.append(ReferenceRecord(subject, number, profile, since, origin, config))

    def end(self, subject: str, until: int | None) -> None:
        """Record that a subject has no reference from stream time `until` in ms on; no effect where it has none."""
        before = self.state.in_force.pop(subject, None)
        if before is not None:
            self._changes.ended.append(EndedReference(subject, before.number, until))

    def adopt(self, references: Mapping[str, Profile], since: Mapping[str, int | None]) -> None:
        """Begin records of references in force that have none: an earlier release put them in force.

        Args:
            references: All in force, by subject.
            since: Stream times from which on they were, ms, where known.
        """
        for subject, profile in sorted(references.items()):
            if subject not in self.state.in_force:
                self.begin(subject, profile, since.get(subject), NOT_KNOWN)

    def drain_changes(self) -> RecordChanges:
        """Return what is new since this was last called."""
        changes, self._changes = self._changes, RecordChanges()
        return changes


def config_digest(spec: ModelSpec) -> str:
    """Return 12 hexadecimal digits of those settings of a model that shape its references."""
    settings = (
        spec.task, spec.positive, spec.threshold, spec.answers, spec.window, spec.reference, spec.feature_kinds,
        None if spec.outcomes is None else spec.outcomes.baseline_n,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:_DIGITS]
