"""Which texts keep a code of their own, where a stream brings more of them than the limit allows.

In what order texts of different partitions are seen depends on how the stream is read, so they are chosen by what they
are: pane by pane of the effective time in which they were first seen, and within a pane in sorted order. Until stream
time has passed the end of that pane a text has a provisional code. A text that is not admitted keeps its code as an
alias of OTHER, so that repeats of its events are still recognised. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from detectors.types import BoolArray, IntArray

_PROVISIONAL: Final = 4  # provisional codes at a time, as a multiple of the limit
_MANY: Final = 20_000  # so many at a time, or the limit: with fewer, what gets a code would depend on the order
_NOT_SEEN: Final = 1 << 62
_SETTLED: Final = (1 << 63) - 1  # in place of the pane: the code does not wait
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress
Column = TypeVar("Column", bound=NDArray[np.generic])


class SavedAdmission(msgspec.Struct):
    """What is stored of an `Admission`. Of an older store nothing is: all of its codes are admitted.

    Attributes:
        pending: Provisional code, as text → start of the first pane in which its text was seen, ms; of an older
            store, like `aliases`.
        aliases: Codes of texts that were not admitted.
        waiting: Start of a pane, ms, as text → the provisional codes of texts that were first seen in it, as
            `_packed` writes them: they are stored with every commit.
        refused: Codes of texts that were not admitted, likewise.
    """

    pending: dict[str, int] = {}
    aliases: list[int] = []
    waiting: dict[str, str] = {}
    refused: str = ""


class Admission:
    """Decides which codes of one table stay.

    Args:
        limit: Codes that stay.
        pane: Width of the panes by which they are chosen, ms; 0: the first ones that come, at once.
        codes: Codes that there can be, provisional ones and aliases included.

    Attributes:
        pending: Number of provisional codes.
    """

    def __init__(self, limit: int, pane: int, codes: int) -> None:
        self._limit = limit
        self._most = min(_PROVISIONAL * limit, max(limit, _MANY), codes - limit)
        self._pane = pane if self._most > 0 else 0
        self._clear()

    def _clear(self) -> None:
        self.pending = self._aliases = 0
        # By code; the last place stands for all codes beyond and for none.
        self._first: IntArray = np.full(1, _SETTLED)
        self._is_alias: BoolArray = np.zeros(1, np.bool_)
        self._refused: str | None = ""  # as it is stored; None after a change

    @property
    def held(self) -> int:
        """Codes that are not admitted: provisional ones and aliases."""
        return self.pending + self._aliases

    @property
    def aliases(self) -> list[int]:
        """Codes of texts that were not admitted, ascending."""
        aliases: list[int] = np.flatnonzero(self._is_alias).tolist()
        return aliases

    def is_alias(self, code: int) -> bool:
        """Return whether a code is that of a text that was not admitted."""
        return 0 <= code < len(self._is_alias) and bool(self._is_alias[code])

    def has_room(self, admitted: int) -> bool:
        """Return whether a new text gets a code, where so many are admitted."""
        return admitted < self._limit and (not self._pane or self.held < self._most)

    def begin(self, code: int) -> None:
        """Take in the code of a new text."""
        if self._pane:
            self._wait(np.array([code]), _NOT_SEEN)

    def admit(self, code: int) -> None:
        """Keep a code whatever the limit."""
        if code >= len(self._first):
            return
        self.pending -= int(self._first[code] != _SETTLED)
        self._first[code] = _SETTLED
        if self._is_alias[code]:
            self._is_alias[code], self._refused = False, None
            self._aliases -= 1

    def place(self, codes: NDArray[np.generic], times: IntArray) -> None:
        """Note in which panes provisional codes were seen; costs nothing where there are none.

        Args:
            codes: Of events; others than provisional ones are skipped, and so is NaN.
            times: Effective time of each event, ms.
        """
        if not self.pending:
            return
        at = self._places(codes)
        mine = self._first[at] != _SETTLED
        if mine.any():
            np.minimum.at(self._first, at[mine], times[mine] // self._pane * self._pane)

    def settle(self, now: int, admitted: int, text_of: Callable[[int], str]) -> list[int]:
        """Decide on the texts of all panes that end by `now`, pane by pane and in sorted order.

        Args:
            now: Stream time, ms: no event of an earlier effective time is still to come.
            admitted: Codes that are admitted already.
            text_of: The text of a code.

        Returns:
            Codes that are aliases from now on, in the order of panes and texts.
        """
        codes = np.flatnonzero(self._first != _SETTLED)
        starts = self._first[codes]
        over = starts + self._pane <= now
        settled = self._in_order(codes[over], starts[over], text_of)
        room = max(self._limit - admitted, 0)
        refused = settled[room:]
        if len(settled) >= room:  # none of a later pane has a chance
            later = self._in_order(codes[~over], starts[~over], text_of)
            refused, settled = refused + later, settled + later
        self._first[np.array(settled, np.int64)] = _SETTLED
        self.pending -= len(settled)
        self._refuse(np.array(refused, np.int64))
        return refused

    @staticmethod
    def _in_order(codes: IntArray, starts: IntArray, text_of: Callable[[int], str]) -> list[int]:
        found = zip(starts.tolist(), map(text_of, codes.tolist()), codes.tolist(), strict=True)
        return [code for _, _, code in sorted(found)]

    def settled(self, codes: Column, other: Callable[[], int]) -> Column:
        """Return codes with aliases replaced by the code of OTHER; the same array where there are none."""
        if not self._aliases:
            return codes
        shared = self._is_alias[self._places(codes)]
        return np.where(shared, other(), codes).astype(codes.dtype) if shared.any() else codes  # type: ignore[return-value]

    # -- by code -----------------------------------------------------------------------------------------

    def _places(self, codes: NDArray[np.generic]) -> IntArray:
        """Return where codes stand in the arrays; NaN and those beyond stand in the last place."""
        last = len(self._first) - 1
        places: IntArray = np.where((codes >= 0) & (codes < last), codes, last).astype(np.int64)  # type: ignore[operator]
        return places

    def _reach(self, codes: IntArray) -> None:
        """Make the arrays long enough for these codes."""
        missing = int(codes.max(initial=-1)) + 2 - len(self._first)
        if missing > 0:
            missing = max(missing, len(self._first))
            self._first = np.concatenate([self._first, np.full(missing, _SETTLED)])
            self._is_alias = np.concatenate([self._is_alias, np.zeros(missing, np.bool_)])

    def _wait(self, codes: IntArray, start: int) -> None:
        self._reach(codes)
        self._first[codes] = start
        self.pending += len(codes)

    def _refuse(self, codes: IntArray) -> None:
        if len(codes):
            self._reach(codes)
            self._is_alias[codes], self._refused = True, None
            self._aliases += len(codes)

    # -- storing -----------------------------------------------------------------------------------------

    def state(self) -> SavedAdmission:
        """Return what is to be stored."""
        waiting: dict[str, str] = {}
        if self.pending:
            codes = np.flatnonzero(self._first != _SETTLED)
            for start in np.unique(self._first[codes]).tolist():
                waiting[str(start)] = _packed(codes[self._first[codes] == start])
        if self._refused is None:
            self._refused = _packed(np.flatnonzero(self._is_alias))
        return SavedAdmission(waiting=waiting, refused=self._refused)

    def restore(self, saved: SavedAdmission, known: Sequence[int]) -> None:
        """Go on with what was stored, as far as the codes are `known`."""
        self._clear()
        there = np.array(sorted(known), np.int64)
        for start, packed in saved.waiting.items():
            self._wait(np.intersect1d(_unpacked(packed), there), int(start))
        earlier: dict[int, list[int]] = {}
        for code, first in saved.pending.items():
            earlier.setdefault(first, []).append(int(code))
        for first, codes in earlier.items():
            self._wait(np.intersect1d(codes, there), first)
        self._refuse(np.intersect1d(np.union1d(_unpacked(saved.refused), saved.aliases).astype(np.int64), there))


def _packed(codes: IntArray) -> str:
    """Write ascending codes as text: a bit for each code up to the last one, compressed. No codes are an empty text."""
    if not len(codes):
        return ""
    there = np.zeros(int(codes[-1]) + 1, np.bool_)
    there[codes] = True
    return base64.b64encode(_compress(np.packbits(there).tobytes())).decode()


def _unpacked(text: str) -> IntArray:
    if not text:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.unpackbits(np.frombuffer(_decompress(base64.b64decode(text)), np.uint8)))
