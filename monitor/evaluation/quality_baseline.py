"""Which matched pairs of a version its quality is held to later, where windows are by time. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from monitor.spec import OutcomesSpec, WindowSpec

_NONE: Final = -1


class QualityBaselineState(msgspec.Struct):
    """What is stored of a `QualityBaseline`, beside its sums.

    Attributes:
        since: Beginning of its first pane of pair time, ms; -1 before the first.
        frozen: Whether it takes no more.
    """

    since: int = _NONE
    frozen: bool = False


class QualityBaseline:
    """Decides pane by pane of pair time what the baseline of a version takes.

    It takes every pane until it has as many pairs as are wanted. From then on it is in use, and grows by the panes in
    which no rule of the version fires, until it spans so many windows. So it is the same in whatever order partitions
    are read, and is not the matter of a few lucky minutes.
    """

    def __init__(self, window: WindowSpec, outcomes: OutcomesSpec) -> None:
        self._pane, self._wanted = window.pane, outcomes.baseline_n
        self._longest = outcomes.baseline_max * window.span
        self.state = QualityBaselineState()

    def takes(self, held: int, time: int, *, healthy: bool) -> bool:
        """Tell whether the baseline takes the pairs of a pane of pair time.

        Args:
            held: Pairs that it holds.
            time: Any pair time in the pane, ms; never in an earlier pane than before.
            healthy: Whether no rule of the version fires.
        """
        state, start = self.state, time // self._pane * self._pane
        complete = held >= self._wanted
        if complete and state.since == _NONE:
            state.frozen = True  # one of 0.1.0: the first pairs, as they came
        elif state.since == _NONE:
            state.since = start
        elif complete and start + self._pane - state.since > self._longest:
            state.frozen = True
        return not state.frozen and (healthy or not complete)
