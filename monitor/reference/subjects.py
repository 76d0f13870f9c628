"""What a reference is of, the features of a model or the answers of one of its versions, and changes of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from detectors.reference import Profile

FEATURES: Final = "features"


def answers_of(version: str) -> str:
    """Name under which the reference of a version's answers is stored."""
    return f"answers:{version}"


def version_of(subject: str) -> str:
    """Return the version that `answers_of` was called with."""
    return subject.removeprefix(answers_of(""))


@dataclass(frozen=True, slots=True)
class NewReference:
    """A profile that is in force from now on. `subject` is FEATURES, or `answers_of` a version."""

    subject: str
    profile: Profile


@dataclass(slots=True)
class ReferenceChanges:
    """What a commit writes: profiles in force, subjects that have none any more, rows learned and rows of no use."""

    fresh: list[NewReference] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    learned: list[tuple[str, bytes]] = field(default_factory=list)
