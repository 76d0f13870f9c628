"""How far the reference of a model's features has come, for people and metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from monitor.reference.active import ReferenceSet
from monitor.reference.pane_learning import PaneFeatureLearner
from monitor.reference.subjects import FEATURES


class ReferenceStatus(StrEnum):
    """Say whether windows can be compared with a reference of the features."""

    FROZEN = "frozen"  # in force
    LEARNING = "learning"  # predictions are gathered
    FREEZING = "freezing"  # there are enough, and it is being made; checks wait
    WAITING = "waiting"  # it is to be learned, and no prediction has come yet
    ABSENT = "absent"  # nothing is configured to be compared with


class ReferenceProgress(msgspec.Struct, omit_defaults=True):
    """How far a reference has come.

    Attributes:
        state: Whether it is in force.
        rows: Predictions or rows behind it, or gathered so far, up to those wanted.
        wanted: Predictions that learning needs at least; 0 where it is not learned.
        since: Stream time from which on it was in force, ms; None where it is not, where it was given before the first
            event, or where an earlier release froze it.
    """

    state: ReferenceStatus
    rows: int = 0
    wanted: int = 0
    since: int | None = None


def progress_of(references: ReferenceSet) -> ReferenceProgress:
    """Return how far the reference of the features has come.

    It is told as being made also while only that of a version's own answers is: checks wait for either.
    """
    found = _come(references)
    return msgspec.structs.replace(found, state=ReferenceStatus.FREEZING) if references.freezer.waiting else found


def _come(references: ReferenceSet) -> ReferenceProgress:
    if references.profile is not None:
        return ReferenceProgress(ReferenceStatus.FROZEN, references.rows.get(FEATURES, 0), since=references.since)
    learner = references.learners.features
    if learner is None:
        return ReferenceProgress(ReferenceStatus.ABSENT)
    held = learner.rows.held if isinstance(learner, PaneFeatureLearner) else learner.held
    status = ReferenceStatus.LEARNING if held else ReferenceStatus.WAITING
    return ReferenceProgress(status, min(held, references.wanted), references.wanted)


def notes_on(references: ReferenceSet) -> Iterator[str]:
    """Say where the reference in force has no feature at all: nobody may have sent any."""
    if references.profile is not None and not references.profile.features:
        yield (
            "no feature is compared with the reference, because it has none: only predictions and scores are. If the "
            "model has features, send them in `features`, then use `driftd reference relearn`"
        )
