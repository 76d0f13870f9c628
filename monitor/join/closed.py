"""Remember the keys that are done, for as long as their bound allows.

A closed key stays in the index with a tag that says how it ended, so that what comes later of its request is
recognised as a repeat, a conflict or late. Keys are forgotten a generation at a time, the oldest first. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import CellIndices, ClosedTags, Keys, Values
from monitor.join.index import EMPTY, GENERATIONS, MOST_AT_ONCE, KeyIndex, closed_value

# Tags of closed keys: 16 bits that tell actual values apart; no outcome came; above that, the outcome came too late.
NO_OUTCOME: Final = 1 << 16
EMPTIED: Final = 1 << 17  # only in the log: the key is unknown again, its next event is the first
_GENERATIONS_HELD = 64  # closed keys are forgotten in portions of this share of their bound
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # see `ids`


@dataclass(frozen=True, slots=True)
class Closings:
    """Keys that were closed or emptied, in order; a later mention of a key replaces an earlier one.

    Attributes:
        keys: The keys, uint64.
        tags: Tag of each, or EMPTIED, uint32.
    """

    keys: Keys
    tags: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class StoredClosings:
    """Closings of one generation, as stored. `start` is stream time at which the generation began, ms."""

    generation: int
    start: int
    closings: Closings


@dataclass(slots=True)
class _Generation:
    number: int
    start: int  # stream time, ms
    keys: int = 0


class ClosedKeys:
    """Close keys, and forget the oldest generations of them beyond a bound."""

    def __init__(self, index: KeyIndex, bound: int) -> None:
        """Remember closed keys in `index`, at most about `bound` of them."""
        self._index = index
        self._bound = bound
        self._generations: deque[_Generation] = deque()  # the oldest first
        self._changes: list[tuple[Keys, NDArray[np.uint32]]] = []  # since the last commit
        self.horizon: int | None = None  # keys closed before this stream time may be forgotten

    @property
    def generation(self) -> int:
        """Tell the generation in which keys are closed now."""
        return self._generations[-1].number if self._generations else 0

    @property
    def generation_start(self) -> int:
        """Tell the stream time (ms) at which it began."""
        return self._generations[-1].start if self._generations else 0

    @property
    def remembered(self) -> int:
        """Count the closed keys that are known."""
        return sum(generation.keys for generation in self._generations)

    def ensure_generation(self, watermark: int) -> None:
        """Start the first generation, at stream time `watermark`, where there is none yet."""
        if not self._generations:
            self._start_generation(watermark)

    def _start_generation(self, watermark: int) -> None:
        number = (self._generations[-1].number + 1) % GENERATIONS if self._generations else 0
        self._generations.append(_Generation(number, watermark))
        self._index.add_generation(number)

    # -- closing -----------------------------------------------------------------------------------------

    def close(self, cells: CellIndices, keys: Keys, tags: ClosedTags) -> None:
        """Remember that keys are done; slots that they have are the caller's to retire.

        Args:
            cells: Cells of the keys in the index.
            keys: The keys.
            tags: How each ended (`tag_of`, `late_tag` or NO_OUTCOME).
        """
        if not len(cells):
            return
        generation = self._generations[-1]
        generation.keys += len(cells)
        self._index.value[cells] = closed_value(generation.number, tags)
        self._changes.append((keys, tags.astype(np.uint32)))

    def close_without_outcome(self, cells: CellIndices, keys: Keys) -> None:
        """Remember that keys are done and that no outcome came; see `close`."""
        self.close(cells, keys, np.full(len(cells), NO_OUTCOME))

    def empty(self, cells: CellIndices, keys: Keys) -> None:
        """Make open keys unknown: their next event is the first of its request."""
        self._index.value[cells] = EMPTY
        self._changes.append((keys, np.full(len(keys), EMPTIED, np.uint32)))

    def drain_changes(self) -> Closings:
        """Take what was closed or emptied since the last call. Only a commit may."""
        changes, self._changes = self._changes, []
        if not changes:
            return Closings(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
        keys, tags = zip(*changes, strict=True)
        return Closings(np.concatenate(keys), np.concatenate(tags))

    # -- forgetting --------------------------------------------------------------------------------------

    def generations_to_drop(self, watermark: int) -> list[int]:
        """List the generations beyond the bound; starts a new one where the latest is full.

        They are still known until `forget`, which may be called once their deletion is committed.

        Args:
            watermark: Stream time, ms.

        Returns:
            Numbers of generations, the oldest first.
        """
        self._turn_over(watermark)
        excess = self.remembered - self._bound
        dropped = []
        for generation in self._generations:
            if excess <= 0 or generation.number == self.generation:
                break
            dropped.append(generation.number)
            excess -= generation.keys
        return dropped

    def _turn_over(self, watermark: int) -> None:
        if self._generations and self._generations[-1].keys >= max(self._bound // _GENERATIONS_HELD, 1):
            self._start_generation(watermark)

    def forget(self, generations: Iterable[int]) -> None:
        """Make the keys of the oldest generations unknown, and move the horizon.

        Args:
            generations: Their numbers, the oldest first.

        Raises:
            ValueError: One is not the oldest.
        """
        for number in generations:
            if not self._generations or self._generations[0].number != number:
                raise ValueError(f"generation {number} is not the oldest")
            self._generations.popleft()
            self._index.forget_generation(number)
            self.horizon = self._generations[0].start if self._generations else None

    # -- recovery ----------------------------------------------------------------------------------------

    def restore(self, stored: Sequence[StoredClosings], watermark: int) -> None:
        """Fill an empty memory.

        Args:
            stored: What was closed, in the order of commits, without EMPTIED keys.
            watermark: Stream time of the last commit, ms.
        """
        by_number: dict[int, _Generation] = {}
        for part in stored:
            generation = by_number.get(part.generation)
            if generation is None:
                generation = by_number[part.generation] = _Generation(part.generation, part.start)
                self._generations.append(generation)
                self._index.add_generation(part.generation)
            generation.keys += len(part.closings.keys)
            self._restore_keys(generation.number, part.closings)
        # After a full generation the next one begins at the same start, as in 0.1.0: at the watermark it would be
        # where a table that was not restored begins it.
        self._turn_over(stored[-1].start if stored else watermark)

    def _restore_keys(self, generation: int, closings: Closings) -> None:
        for start in range(0, len(closings.keys), MOST_AT_ONCE):
            part = slice(start, start + MOST_AT_ONCE)
            self._index.reserve(len(closings.keys[part]))
            cells = self._index.find_or_add(closings.keys[part])
            # Of a key that is in the portion twice, numpy leaves the last one written.
            self._index.value[cells] = closed_value(generation, closings.tags[part].astype(np.int64))


# -- tags ------------------------------------------------------------------------------------------------


def value_bits(values: Values) -> NDArray[np.uint64]:
    """Tell values apart as numbers, NaN included: equal ones have equal bits."""
    # Adding zero makes one zero of two.
    return (values + 0.0).view(np.uint64)


def tag_of(actual: Values) -> ClosedTags:
    """Make the tags of keys that had their outcome in time: 16 bits that tell actual values apart."""
    mixed: NDArray[np.uint64] = value_bits(actual) * _GOLDEN
    return (mixed >> np.uint64(48)).astype(np.int64)


def late_tag(tag: ClosedTags) -> ClosedTags:
    """Make the tags of keys whose outcome was late, from its `tag_of`; told apart a little less well."""
    return NO_OUTCOME | np.maximum(tag, 1)
