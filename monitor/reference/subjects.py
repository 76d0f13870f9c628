"""What a reference is of: the features of a model, or the answers of one of its versions. Pure."""

from __future__ import annotations

from dataclasses import dataclass
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
