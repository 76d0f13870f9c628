"""Tell what the join knows of one request: for `driftd inspect`.

Pure. Everything that is known of a request is under keys made of its id, so nothing is searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from monitor.join.arrays import Keys, Slot, VariantCode
from monitor.join.closed import NO_OUTCOME
from monitor.join.entries import Entries
from monitor.join.ids import shadow_keys
from monitor.join.index import EMPTY, closed_tag_of
from monitor.join.slots import ANSWER, DONE, MATCHED, OUTCOME


class RequestPhase(StrEnum):
    """How far a request, or one answer to it, has come."""

    UNKNOWN = "unknown"  # never seen, forgotten, or not in the sample
    WAITING = "waiting"  # answered, and waits for its outcome
    EARLY = "early"  # the outcome came first and waits for the answer
    BESIDE = "beside"  # only answers that were not served are known
    JOINED = "joined"
    LATE = "late"  # answered, and the outcome came too late
    CLOSED = "closed"  # answered, and no outcome came in time, or none can score it


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An answer or an outcome that waits; `value` is a number or a label code, `time` its event time in ms."""

    variant: VariantCode
    value: float
    time: int


@dataclass(frozen=True, slots=True)
class ShadowState:
    """An answer that was not served: `waiting` where it waits, else how it ended."""

    variant: VariantCode
    phase: RequestPhase
    waiting: WaitingEvent | None


@dataclass(frozen=True, slots=True)
class RequestState:
    """What is known of a request.

    Attributes:
        phase: How far it has come.
        answer: The served answer, while it waits.
        outcome: The outcome, while it waits for the served answer.
        shadows: Known answers that were not served.
    """

    phase: RequestPhase
    answer: WaitingEvent | None
    outcome: WaitingEvent | None
    shadows: tuple[ShadowState, ...]


def look_up(entries: Entries, low: Keys, high: Keys, variants: Iterable[VariantCode]) -> RequestState:
    """Look up one request; see `JoinTable.look_up`."""
    shadows = [shadow for v in variants if (shadow := _shadow(entries, low, v)) is not None]
    value = int(entries.index.look_up(low)[0])
    phase, answer, outcome = RequestPhase.UNKNOWN, None, None
    column = entries.slots.column
    if value >= 0 and column["hi"][value] == high[0]:
        bits, event = int(column["state"][value]), _event(entries, Slot(value))
        if bits & DONE:
            phase = RequestPhase.JOINED if bits & MATCHED else RequestPhase.LATE
        elif bits & ANSWER:
            phase, answer = RequestPhase.WAITING, event
        elif bits & OUTCOME:
            phase, outcome = RequestPhase.EARLY, event
        else:
            phase = RequestPhase.BESIDE
    elif value < EMPTY:
        phase = _ended(value)
    return RequestState(phase, answer, outcome, tuple(shadows))


def _shadow(entries: Entries, low: Keys, variant: VariantCode) -> ShadowState | None:
    value = int(entries.index.look_up(shadow_keys(low, np.array([variant])))[0])
    if value >= 0:
        return ShadowState(variant, RequestPhase.WAITING, _event(entries, Slot(value)))
    return ShadowState(variant, _ended(value), None) if value < EMPTY else None


def _event(entries: Entries, slot: Slot) -> WaitingEvent:
    column = entries.slots.column
    return WaitingEvent(
        VariantCode(int(column["variant"][slot])), float(column["value"][slot]), int(column["time"][slot])
    )


def _ended(value: int) -> RequestPhase:
    """Tell how what is closed in the index has ended."""
    tag = int(closed_tag_of(np.array([value], np.int32))[0])
    if tag > NO_OUTCOME:
        return RequestPhase.LATE
    return RequestPhase.CLOSED if tag == NO_OUTCOME else RequestPhase.JOINED
