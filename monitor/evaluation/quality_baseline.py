"""Which matched pairs of a version its quality is held to later, where windows are by time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from monitor.aggregation.outcome_columns import BASELINE_PANE, STAGED_PANES
from monitor.evaluation.metric_panes import LONGEST
from monitor.spec import OutcomesSpec, WindowSpec

_NONE: Final = -1


class QualityBaselineState(msgspec.Struct):
    """What is stored of a `QualityBaseline`, beside its sums.

    Attributes:
        since: Beginning of its first pane of pair time, ms; -1 before the first.
        frozen: Whether it takes no more.
        staged: Numbers of the spans of pair time whose pairs wait to be taken in, ascending.
    """

    since: int = _NONE
    frozen: bool = False
    staged: list[int] = []


@dataclass(frozen=True, slots=True)
class Intake:
    """What becomes of pairs, as rows of the table of outcomes.

    Attributes:
        into: Row that takes in the pairs of this pane; None for none.
        merged: Rows that the baseline takes in now.
        dropped: Rows to be forgotten.
    """

    into: int | None = None
    merged: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


class QualityBaseline:
    """Decides pane by pane of pair time what the baseline of a version takes.

    It takes every pane until it has as many pairs as are wanted. From then on it is in use, and grows by the panes in
    which no rule of the version fires, until it spans so many windows. These wait in rows of their own, one for each
    span of a window, until no stretch under test reaches them any more: a drop that begins mildly is not taken for
    normal. Where a rule fires, what waits is forgotten. So it is the same in whatever order partitions are read, and is
    not the matter of a few lucky minutes.
    """

    def __init__(self, window: WindowSpec, outcomes: OutcomesSpec) -> None:
        self._pane, self._wanted, self._span = window.pane, outcomes.baseline_n, window.span
        self._longest = outcomes.baseline_max * window.span
        self.state = QualityBaselineState()

    def takes(self, held: int, time: int, *, healthy: bool, firing: bool = False) -> Intake:
        """Tell what becomes of the pairs of a pane of pair time.

        Args:
            held: Pairs that the baseline holds.
            time: Any pair time in the pane, ms; never in an earlier pane than before.
            healthy: Whether nothing seems wrong with the version.
            firing: Whether a rule of it fires.
        """
        state, start = self.state, time // self._pane * self._pane
        complete = held >= self._wanted
        if complete and state.since == _NONE:
            state.frozen = True  # one of 0.1.0: the first pairs, as they came
        elif state.since == _NONE:
            state.since = start
        elif complete and start + self._pane - state.since > self._longest:
            state.frozen = True
        if not complete:
            return Intake(BASELINE_PANE)
        if firing:
            dropped, state.staged = state.staged, []
            return Intake(dropped=_rows(dropped))
        if not healthy:
            return Intake()
        span = start // self._span
        merged = [each for each in state.staged if each < span - LONGEST]
        dropped = [each for each in state.staged if each > span]  # of windows that were configured otherwise
        state.staged = [each for each in state.staged if span - LONGEST <= each <= span]
        if state.frozen:
            return Intake(None, _rows(merged), _rows(dropped))
        if span not in state.staged:
            state.staged = [*state.staged, span]
        return Intake(_row(span), _rows(merged), _rows(dropped))


def _row(span: int) -> int:
    return STAGED_PANES[span % len(STAGED_PANES)]


def _rows(spans: list[int]) -> tuple[int, ...]:
    return tuple(_row(span) for span in spans)
