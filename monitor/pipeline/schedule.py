"""What happens to a model within a batch, and at which position of the stream: plain data.

Pure. A time pane ends where stream time passes its end, a counted pane is full at one of its events, a gap
in the events is found at one of them. All of that is known from columns before anything is done, so a batch
gives the same results however the stream was cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from detectors.types import IntArray
from monitor.alerting.no_data import GapEvent


class ActionKind(Enum):
    """What is to be done."""

    PANES_END = "panes end"  # of all versions, by time
    PANE_FULL = "pane full"  # of one version, counted
    OUTCOMES_DUE = "outcomes due"  # of one version, counted: a pane's worth of outcomes has landed
    LOOK = "look"  # of the model as a whole, counted
    GAP = "gap"  # no event came for too long, or events come again
    SILENCE_OVER = "silence over"  # an operator's silence of alerts has run out


@dataclass(frozen=True, slots=True)
class ScheduledAction:
    """One thing to do at a position of the batch.

    Attributes:
        position: Row of the batch; one beyond the last row is the end of the batch.
        after: Whether it happens after the event of that row, or before it.
        kind: What is to be done.
        variant: Of the version concerned, where it is one.
        pane: Number of the pane that is full.
        gap: The gap that begins or ends.
        moment: Stream time that the action belongs to, ms, at most that at its row: where stream time goes far at once,
            actions at one row are done in this order. -1 where windows are counted, and what is first is done first.
    """

    position: int
    after: bool
    kind: ActionKind
    variant: int = -1
    pane: int = -1
    gap: GapEvent | None = None
    moment: int = -1


def in_order(actions: Iterable[ScheduledAction]) -> list[ScheduledAction]:
    """Sort by the order of the stream; of one position and moment those given first come first."""
    return sorted(actions, key=lambda action: (action.position, action.after, action.moment))


def pane_ends(width: int, reached: int | None, times: IntArray) -> list[ScheduledAction]:
    """Find where stream time passes the end of a time pane.

    Args:
        width: Of a pane, ms.
        reached: Stream time before the batch, ms; None where it was not known.
        times: Stream time at each row and at the end of the batch, ms, below zero where not known.
    """
    before = np.concatenate([[-1 if reached is None else reached], times[:-1]])
    crossed = np.flatnonzero((times // width > before // width) & (times >= 0))
    return [ScheduledAction(i, False, ActionKind.PANES_END, moment=int(times[i])) for i in crossed.tolist()]


def panes_full(every: int, variant: int, position: IntArray, counted: int) -> list[ScheduledAction]:
    """Find the predictions that fill a counted pane of a version.

    Args:
        every: Predictions in a pane.
        variant: Of the version.
        position: Rows of its predictions in this batch.
        counted: Its predictions so far, those of this batch included.
    """
    number = counted - len(position) + 1 + np.arange(len(position))
    return [
        ScheduledAction(int(position[i]), True, ActionKind.PANE_FULL, variant, int(number[i]) // every - 1)
        for i in np.flatnonzero(number % every == 0).tolist()
    ]


def looks(every: int, position: IntArray, counted: int) -> list[ScheduledAction]:
    """Find the predictions of a model after which it is looked at as a whole, where windows are counted.

    Args:
        every: Predictions in a pane.
        position: Rows of its predictions in this batch.
        counted: Its predictions so far, those of this batch included.
    """
    number = counted - len(position) + 1 + np.arange(len(position))
    return [ScheduledAction(int(i), True, ActionKind.LOOK) for i in position[number % every == 0].tolist()]


def outcomes_due(every: int, variant: int, position: IntArray, matched: int) -> list[ScheduledAction]:
    """Find the pairs with which another pane's worth of outcomes of a version has landed.

    Args:
        every: Predictions in a pane.
        variant: Of the version.
        position: Rows that completed its pairs in this batch.
        matched: Its pairs before this batch.
    """
    number = matched + 1 + np.arange(len(position))
    return [
        ScheduledAction(int(position[i]), True, ActionKind.OUTCOMES_DUE, variant)
        for i in np.flatnonzero(number % every == 0).tolist()
    ]


def silences_over(ends: Iterable[int], times: IntArray, *, counted: bool) -> list[ScheduledAction]:
    """Find where stream time passes the ends (ms) of operators' silences; `counted` windows know no moments."""
    distinct = np.array(sorted(set(ends)), np.int64)
    at = np.searchsorted(times, distinct)
    found = dict(zip(at[at < len(times)].tolist(), distinct.tolist(), strict=False))
    return [
        ScheduledAction(i, counted, ActionKind.SILENCE_OVER, moment=-1 if counted else end) for i, end in found.items()
    ]


def gaps(planned: Iterable[GapEvent], *, counted: bool) -> list[ScheduledAction]:
    """Schedule gaps in the events that begin or end in the batch; `counted` windows know no moments."""
    return [
        ScheduledAction(gap.position, counted, ActionKind.GAP, gap=gap, moment=-1 if counted else gap.time)
        for gap in planned
    ]
