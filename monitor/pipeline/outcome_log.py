"""The log of outcome panes in the database: changes are appended, and folded into one row when they outweigh it.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from monitor.evaluation.version_state import VersionState
from monitor.pipeline.commit import OutcomeRows

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

    def restore(self, variant: int, rows: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Take over the sizes of stored rows, the first of which is the fold."""
        self._size[variant] = (_bytes(rows[0]) if rows else 0, sum(map(_bytes, rows[1:])))


def _bytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(a.nbytes for a in arrays.values())
