"""A hash index from 64-bit keys to slots, a batch at a time.

Open addressing in numpy: no Python object per key. Ties inside a batch are resolved by writing backwards
and reading back: of several writers to a cell the last one stays, so the first of the batch wins. Pure.

A cell's value is a slot (0 or more), EMPTY, or the memory of a closed key: the generation in which it was
closed and a tag of 17 bits.
"""

from __future__ import annotations

import numpy as np

from monitor.join.arrays import CellIndices, CellValues, ClosedTags, Keys, Positions

EMPTY = -1  # the key is there, but nothing is known of it: its next event takes the cell over
REGION = 1 << 12  # probing stays inside a region, so a region can be rebuilt alone
GENERATIONS = (1 << 14) - 1  # closed keys are forgotten a generation at a time; the numbers go round
TAG_BITS = 17
_CLAIM = -(1 << 31)  # marks of the running batch, below every closed value
_SIZED_FOR = 0.6  # load at the number of keys that the index was made for
_MOST_LOADED = 0.7  # beyond it the index is rebuilt without what is forgotten, larger if that is not enough
MOST_AT_ONCE = 1 << 16  # keys in a batch: claims must stay apart from closed values


class IndexFull(RuntimeError):
    """A region has no free cell left: more keys than the configured bounds allow."""


def closed_value(generation: int, tags: ClosedTags) -> CellValues:
    """Encode what a cell holds of a key that is closed.

    Args:
        generation: Generation in which the keys were closed, below GENERATIONS.
        tags: Tag of each key, below 2**TAG_BITS.

    Returns:
        Cell values, below EMPTY.
    """
    return (-2 - ((generation << TAG_BITS) | tags)).astype(np.int32)


def closed_tag_of(values: CellValues) -> ClosedTags:
    """Decode the tags of closed keys from cell values below EMPTY."""
    return (-2 - values.astype(np.int64)) & ((1 << TAG_BITS) - 1)


def generation_of(values: CellValues) -> Positions:
    """Decode the generations of closed keys from cell values below EMPTY."""
    return (-2 - values.astype(np.int64)) >> TAG_BITS


class KeyIndex:
    """Find the cell of a key, and what it says; keys are distinct, never 0, and as random as a hash."""

    def __init__(self, keys: int) -> None:
        """Make room for `keys` keys: growing later would pause for as long as everything is moved."""
        size = REGION
        while size * _SIZED_FOR < keys:
            size *= 2
        self._key: Keys = np.zeros(size, np.uint64)
        self.value: CellValues = np.zeros(size, np.int32)
        self._mask = np.uint64(size - 1)
        self._used = 0
        self._alive = np.zeros(GENERATIONS, np.bool_)  # generations of closed keys that still count
        self._swept = 0

    def __len__(self) -> int:
        """Count the cells in use, forgotten ones that were not swept yet included."""
        return self._used

    @property
    def nbytes(self) -> int:
        """Tell the memory of the index in bytes."""
        return self._key.nbytes + self.value.nbytes

    def add_generation(self, generation: int) -> None:
        """Let keys be closed in a generation from now on."""
        self._alive[generation] = True

    def forget_generation(self, generation: int) -> None:
        """Make the keys that were closed in a generation unknown again."""
        self._alive[generation] = False

    def reserve(self, room: int) -> None:
        """Make room for `room` new keys. Moves cells: what `find` and `find_or_add` returned is void after it."""
        if self._used + room > len(self._key) * _MOST_LOADED:
            self._rebuild(room)

    def find(self, keys: Keys) -> CellIndices:
        """Find the cell of each key, -1 where the key is not there."""
        out = np.full(len(keys), -1, np.int64)
        active, wanted = np.arange(len(keys)), keys
        cell = (keys & self._mask).view(np.int64)
        for _ in range(REGION):
            if not len(active):
                return out
            held = self._key[cell]
            hit = held == wanted
            out[active[hit]] = cell[hit]
            on = np.flatnonzero(~hit & (held != 0))
            active, wanted, cell = active[on], wanted[on], _next(cell[on])
        return out

    def look_up(self, keys: Keys) -> CellValues:
        """Read the value of each key; EMPTY where it is not there or forgotten."""
        value = self.value_at(self.find(keys))
        closed = np.flatnonzero(value < EMPTY)
        value[closed[~self._alive[generation_of(value[closed])]]] = EMPTY
        return value

    def value_at(self, cells: CellIndices) -> CellValues:
        """Read the values of cells that `find` returned; EMPTY for -1."""
        return np.where(cells >= 0, self.value[np.maximum(cells, 0)], np.int32(EMPTY))

    def find_or_add(self, keys: Keys) -> CellIndices:
        """Find the cell of each key; one that was not there, or is forgotten, gets a cell that holds EMPTY.

        Args:
            keys: At most MOST_AT_ONCE, for which `reserve` made room; they may repeat.

        Returns:
            A cell for each key, the same for the same key.

        Raises:
            IndexFull: A region has no free cell.
        """
        out = np.empty(len(keys), np.int64)
        active, wanted = np.arange(len(keys)), keys
        cell = (keys & self._mask).view(np.int64)
        for _ in range(REGION + 1):
            held = self._key[cell]
            free = np.flatnonzero(held == 0)
            if len(free):
                held[free] = self._claim(active, wanted, cell, free)
            miss = held != wanted
            out[active] = cell  # later rounds overwrite those that missed
            on = np.flatnonzero(miss)
            if not len(on):
                self._release_forgotten(out)
                return out
            active, wanted, cell = active[on], wanted[on], _next(cell[on])
        raise IndexFull(f"a region of the index is full at {self._used} of {len(self._key)} cells")

    def _claim(self, active: Positions, wanted: Keys, cell: CellIndices, free: Positions) -> Keys:
        """Put keys into free cells, the first of the batch first; return the keys that those cells hold then."""
        backwards, at = free[::-1], cell[free]
        self._key[cell[backwards]] = wanted[backwards]
        self.value[cell[backwards]] = active[backwards] + _CLAIM
        won = self.value[at] == active[free] + _CLAIM
        self._used += int(np.count_nonzero(won))
        self.value[at] = EMPTY
        return self._key[at]

    def _release_forgotten(self, cells: CellIndices) -> None:
        values = self.value[cells]
        closed = np.flatnonzero(values < EMPTY)
        dead = closed[~self._alive[generation_of(values[closed])]]
        self.value[cells[dead]] = EMPTY

    def sweep(self, share: int = 64) -> None:
        """Rebuild the next `1 / share` of the regions without the keys that are forgotten."""
        length = max(len(self._key) // share // REGION, 1) * REGION
        start = self._swept
        self._swept = (start + length) % len(self._key)
        key, value = self._key[start : start + length], self.value[start : start + length]
        held = key != 0
        closed = value < EMPTY
        known = (value >= 0) | (closed & self._alive[np.where(closed, generation_of(value), 0)])
        live = np.flatnonzero(held & known)
        keys, values = key[live].copy(), value[live].copy()
        self._used -= int(np.count_nonzero(held)) - len(live)
        key[:] = 0
        self._place(keys, values)

    def _place(self, keys: Keys, values: CellValues) -> None:
        """Insert distinct keys that are not there."""
        cell = (keys & self._mask).view(np.int64)
        while len(keys):
            free = np.flatnonzero(self._key[cell] == 0)
            self._key[cell[free]] = keys[free]
            won = free[self._key[cell[free]] == keys[free]]
            self.value[cell[won]] = values[won]
            left = np.ones(len(keys), np.bool_)
            left[won] = False
            keys, values, cell = keys[left], values[left], _next(cell[left])

    def _rebuild(self, room: int) -> None:
        held = np.flatnonzero(self._key)
        keys, values = self._key[held], self.value[held]
        closed = values < EMPTY
        known = (values >= 0) | (closed & self._alive[np.where(closed, generation_of(values), 0)])
        keys, values = keys[known], values[known]
        size = len(self._key)
        while len(keys) + room > size * _SIZED_FOR:
            size *= 2
        self._key, self.value, self._mask = np.zeros(size, np.uint64), np.zeros(size, np.int32), np.uint64(size - 1)
        self._swept = 0
        for start in range(0, len(keys), 1 << 16):
            self._place(keys[start : start + (1 << 16)], values[start : start + (1 << 16)])
        self._used = len(keys)


def _next(cell: CellIndices) -> CellIndices:
    return (cell & ~(REGION - 1)) | ((cell + 1) & (REGION - 1))
