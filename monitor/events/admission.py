"""Which texts keep a code of their own, where a stream brings more of them than the limit allows.

In what order texts of different partitions are seen depends on how the stream is read, so they are chosen by what they
are: pane by pane of the effective time in which they were first seen, and within a pane in sorted order. Until stream
time has passed the end of that pane a text has a provisional code. A text that is not admitted keeps its code as an
alias of OTHER, so that repeats of its events are still recognised. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.types import IntArray

_PROVISIONAL: Final = 4  # provisional codes at a time, as a multiple of the limit
_MANY: Final = 20_000  # so many at a time, or the limit: they are stored with every commit
_NOT_SEEN: Final = 1 << 62
Column = TypeVar("Column", bound=NDArray[np.generic])


class SavedAdmission(msgspec.Struct):
    """What is stored of an `Admission`. Of an older store nothing is: all of its codes are admitted.

    Attributes:
        pending: Provisional code, as text → start of the first pane in which its text was seen, ms.
        aliases: Codes of texts that were not admitted.
    """

    pending: dict[str, int] = {}
    aliases: list[int] = []


class Admission:
    """Decides which codes of one table stay.

    Args:
        limit: Codes that stay.
        pane: Width of the panes by which they are chosen, ms; 0: the first ones that come, at once.
        codes: Codes that there can be, provisional ones and aliases included.

    Attributes:
        pending: Provisional code → start of the first pane in which its text was seen, ms.
        aliases: Codes of texts that were not admitted.
    """

    def __init__(self, limit: int, pane: int, codes: int) -> None:
        self._limit = limit
        self._most = min(_PROVISIONAL * limit, max(limit, _MANY), codes - limit)
        self._pane = pane if self._most > 0 else 0
        self.pending: dict[int, int] = {}
        self.aliases: set[int] = set()

    @property
    def held(self) -> int:
        """Codes that are not admitted: provisional ones and aliases."""
        return len(self.pending) + len(self.aliases)

    def has_room(self, admitted: int) -> bool:
        """Return whether a new text gets a code, where so many are admitted."""
        return admitted < self._limit and (not self._pane or self.held < self._most)

    def begin(self, code: int) -> None:
        """Take in the code of a new text."""
        if self._pane:
            self.pending[code] = _NOT_SEEN

    def admit(self, code: int) -> None:
        """Keep a code whatever the limit."""
        self.pending.pop(code, None)
        self.aliases.discard(code)

    def place(self, codes: NDArray[np.generic], times: IntArray) -> None:
        """Note in which panes provisional codes were seen; costs nothing where there are none.

        Args:
            codes: Of events; others than provisional ones are skipped, and so is NaN.
            times: Effective time of each event, ms.
        """
        if not self.pending:
            return
        mine = np.isin(codes, np.fromiter(self.pending, np.int64))
        if not mine.any():
            return
        seen, where = np.unique(codes[mine].astype(np.int64), return_inverse=True)
        first = np.full(len(seen), _NOT_SEEN)
        np.minimum.at(first, where, times[mine] // self._pane * self._pane)
        for code, start in zip(seen.tolist(), first.tolist(), strict=True):
            self.pending[code] = min(self.pending[code], start)

    def settle(self, now: int, admitted: int, text_of: Callable[[int], str]) -> list[int]:
        """Decide on the texts of all panes that end by `now`, pane by pane and in sorted order.

        Args:
            now: Stream time, ms: no event of an earlier effective time is still to come.
            admitted: Codes that are admitted already.
            text_of: The text of a code.

        Returns:
            Codes that are aliases from now on, in the order of panes and texts.
        """
        due = [(start, text_of(code), code) for code, start in self.pending.items() if start + self._pane <= now]
        refused = []
        for _, _, code in sorted(due):
            del self.pending[code]
            if admitted < self._limit:
                admitted += 1
            else:
                refused.append(code)
        if admitted >= self._limit:  # none of a later pane has a chance
            later = sorted((start, text_of(code), code) for code, start in self.pending.items())
            refused += [code for _, _, code in later]
            self.pending.clear()
        self.aliases.update(refused)
        return refused

    def settled(self, codes: Column, other: Callable[[], int]) -> Column:
        """Return codes with aliases replaced by the code of OTHER; the same array where there are none."""
        if not self.aliases:
            return codes
        shared = np.isin(codes, np.fromiter(self.aliases, np.int64))
        return np.where(shared, other(), codes).astype(codes.dtype) if shared.any() else codes  # type: ignore[return-value]

    def state(self) -> SavedAdmission:
        """Return what is to be stored."""
        return SavedAdmission({str(code): start for code, start in self.pending.items()}, sorted(self.aliases))

    def restore(self, saved: SavedAdmission, known: Sequence[int]) -> None:
        """Go on with what was stored, as far as the codes are `known`."""
        codes = set(known)
        self.pending = {int(code): start for code, start in saved.pending.items() if int(code) in codes}
        self.aliases = codes & set(saved.aliases)
