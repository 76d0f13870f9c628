"""What a commit writes of outcomes: rows of the history, and the log of outcome panes.

Changes of panes are appended to the log, and folded into one row when they outweigh it.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from monitor.evaluation.history import HistoryRow, outcome_row
from monitor.evaluation.version_state import VersionState
from monitor.pipeline.commit import OutcomeRows
from monitor.spec import ModelSpec

_FLUSHED_AT_ONCE: Final = 64  # rows of outcome windows that one commit writes again
_LEAST_FOLD: Final = 1 << 20  # bytes of changes below which nothing is folded


class OutcomeLog:
    """Keeps book of how much of each version's log is folded, and how much was appended since."""

    def __init__(self) -> None:
        self._size: dict[int, tuple[int, int]] = {}  # by variant: bytes of the last fold, bytes since

    def rows(self, variant: int, state: VersionState, first: int | None, *, fold: bool) -> list[OutcomeRows]:
        """Return the row that a commit appends, if anything changed.

        Args:
            variant: Code of the version.
            state: Its state.
            first: The earliest outcome pane that is needed; earlier ones are dropped.
            fold: Whether rows of earlier commits are void, so that everything has to be written.
        """
        table = state.outcomes
        if table is None:
            return []
        table.bound_scores()
        if first is not None:
            table.drop(first)
        touched = table.drain_dirty()
        fresh = state.windows.drain_fresh()
        if not touched and not len(fresh):
            return []
        arrays = table.snapshot(touched) | {"windows": fresh}
        size = _bytes(arrays)
        whole, since = self._size.get(variant, (0, 0))
        if not fold and since + size <= 2 * whole + _LEAST_FOLD:
            self._size[variant] = (whole, since + size)
            return [OutcomeRows(variant, False, arrays)]
        arrays = table.snapshot() | {"windows": state.windows.drain_fresh(everything=True)}
        self._size[variant] = (_bytes(arrays), 0)
        return [OutcomeRows(variant, True, arrays)]

    def forget(self, variant: int) -> list[OutcomeRows]:
        """Return the row that voids all earlier ones of a variant, if there are any."""
        return [] if self._size.pop(variant, None) is None else [OutcomeRows(variant, True, {})]

    def restore(self, variant: int, rows: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Take over the sizes of stored rows, the first of which is the fold."""
        self._size[variant] = (_bytes(rows[0]) if rows else 0, sum(map(_bytes, rows[1:])))


def outcome_rows(
    state: VersionState, watermark: int, upto: int, user_metrics: Sequence[str], *, flush: bool
) -> list[HistoryRow]:
    """Return rows of the history of windows whose outcomes have landed or are final.

    Args:
        state: The version.
        watermark: Stream time, ms: windows that were judged and are final by then are taken out.
        upto: Other windows that closed by this time, ms, are written if their outcomes have changed.
        user_metrics: Names of the user's own metrics.
        flush: Write all rows that are out of date, not just the latest.
    """
    # Final is what was judged as such: stream time that is past it says so a little later, or earlier.
    stale = [(w, True) for w in state.windows.finished(watermark) if w.dirty or w.blank]
    stale += [(w, False) for w in state.windows.dirty(upto, None if flush else _FLUSHED_AT_ONCE)]
    rows: list[HistoryRow] = []
    for window, final in stale:
        row = outcome_row(state, window, user_metrics, final=final)
        window.blank = window.blank and row is None
        rows += [] if row is None else [row]
    return rows


def first_outcome_pane(spec: ModelSpec, state: VersionState, open_panes: Sequence[int]) -> int | None:
    """Return the earliest outcome pane that is needed by a window, or by one that is still to come."""
    first = state.windows.first_pane
    outcomes, window = spec.outcomes, spec.window
    if first is None or outcomes is None:
        return None
    coming = [*open_panes, *([state.window.first_pane] if len(state.window) else [])]
    if not window.counted:
        coming = [pane * window.pane // outcomes.pane for pane in coming]
    return min([first, *coming])


def _bytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(a.nbytes for a in arrays.values())
