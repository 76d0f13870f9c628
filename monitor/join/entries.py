"""Hold the open entries of requests and answers, by key, and what of them changed since the last commit.

A request has one entry under its own key: the answer that was served, or an outcome that came before it, or
only the mark that other answers exist (`shadow_mask`). Every answer that was not served (a shadow answer) has
an entry of its own, under a key made of the request's and its variant's. Pure; owned by one `JoinTable`, and
changed by the modules of the join only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.join.arrays import (
    CellIndices,
    ClosedTags,
    Columns,
    Keys,
    Mask,
    Positions,
    RowIndices,
    ShadowMasks,
    SlotIndices,
    VariantCodes,
)
from monitor.join.closed import ClosedKeys
from monitor.join.ended import EndedLog
from monitor.join.ids import shadow_keys
from monitor.join.index import MOST_AT_ONCE, KeyIndex
from monitor.join.rows import PAYLOAD, JoinRows
from monitor.join.slots import ANSWER, DONE, FREE, OUTCOME, UNSERVED, Slots


class ShadowAnswers(NamedTuple):
    """Open answers that were not served, of one variant.

    Attributes:
        position: Position of each one's request in the arrays that were asked for.
        slot: Its slot.
        cell: Its cell.
    """

    position: Positions
    slot: SlotIndices
    cell: CellIndices


class Entries:
    """Open and end entries. Everything takes parallel arrays of rows, slots, cells or keys."""

    def __init__(self, pending: int, seen: int, *, note_ended: bool = False) -> None:
        """Make room for `pending` open keys and `seen` closed ones; `note_ended` says whether `ended` is wanted."""
        self.index = KeyIndex(pending + seen)
        self.slots = Slots()
        self.closed = ClosedKeys(self.index, seen)
        self.ended = EndedLog(wanted=note_ended)
        self.waiting = 0  # answers
        self._shadow_variants: dict[int, list[int]] = {}  # bit of the shadow mask: variants that share it
        self._changed: list[SlotIndices] = []  # since the last commit

    # -- opening -----------------------------------------------------------------------------------------

    def open(self, rows: JoinRows, row: RowIndices, cell: CellIndices, *, keys: Keys | None = None) -> SlotIndices:
        """Take a slot for each row and let its cell point there; the caller writes the payload.

        Args:
            rows: The batch.
            row: Rows that open an entry.
            cell: Cell of each entry's key.
            keys: The entries' keys; None for those of their requests.

        Returns:
            The slots, in state 0.
        """
        slot = self.slots.take(len(row))
        column = self.slots.column
        column["lo"][slot] = rows.lo[row] if keys is None else keys
        column["hi"][slot] = rows.hi[row]
        self.index.value[cell] = slot
        return slot

    def slots_of_requests(self, rows: JoinRows, row: RowIndices, cell: CellIndices) -> tuple[SlotIndices, Mask]:
        """Find the slots of requests' own entries, opened where missing.

        Returns:
            The slots, and which of them were opened just now.
        """
        fresh = self.index.value[cell] < 0
        self.open(rows, row[fresh], cell[fresh])
        return self.index.value[cell].astype(np.int64), fresh

    def write_payload(self, slot: SlotIndices, rows: JoinRows, row: RowIndices) -> None:
        """Copy the payload of rows into slots."""
        for name in PAYLOAD:
            self.slots.column[name][slot] = rows.payload[name][row]

    def clear_payload(self, slot: SlotIndices) -> None:
        """Have slots hold neither an answer nor an outcome."""
        for name in (*PAYLOAD, "pane"):
            self.slots.column[name][slot] = 0

    def write_answers(self, slot: SlotIndices, rows: JoinRows, row: RowIndices) -> None:
        """Copy the payload of answers into slots, and their panes where the batch has them."""
        self.write_payload(slot, rows, row)
        if "pane" in rows.payload:
            self.slots.column["pane"][slot] = rows.payload["pane"][row]

    def mark_changed(self, slot: SlotIndices) -> None:
        """Have the next commit store these entries."""
        self._changed.append(slot)

    # -- ending ------------------------------------------------------------------------------------------

    def close_answers(self, slot: SlotIndices, cell: CellIndices, keys: Keys, tags: ClosedTags) -> None:
        """End answers that waited; see `ClosedKeys.close`."""
        self.closed.close(cell, keys, tags)
        self.retire_answers(slot)

    def close_answers_without_outcome(self, slot: SlotIndices, cell: CellIndices, keys: Keys) -> None:
        """End answers that waited for an outcome in vain."""
        self.closed.close_without_outcome(cell, keys)
        self.retire_answers(slot)

    def retire_answers(self, slot: SlotIndices) -> None:
        """End answers that waited, without closing their keys: something else is put there."""
        self.waiting -= len(slot)
        self.slots.retire(slot)

    # -- shadow answers ----------------------------------------------------------------------------------

    def add_shadow_variants(self, variants: VariantCodes) -> None:
        """Register variants, to find them again by their bit of a shadow mask."""
        for variant in np.unique(variants).tolist():
            known = self._shadow_variants.setdefault(variant % 64, [])
            if variant not in known:
                known.append(variant)

    def shadow_answers_of(self, slot: SlotIndices) -> list[ShadowAnswers]:
        """Find the open shadow answers of requests, given the slot of each request's own entry.

        Returns:
            An element for each variant that has any; `position` counts in `slot`.
        """
        masks, lo, hi = (self.slots.column[name][slot] for name in ("shadow_mask", "lo", "hi"))
        found = []
        for bit in np.flatnonzero(np.bitwise_or.reduce(masks, initial=0) >> np.arange(64, dtype=np.uint64) & 1):
            at = np.flatnonzero(masks >> np.uint64(bit) & np.uint64(1))
            for variant in self._shadow_variants.get(int(bit), ()):
                cell = self.index.find(shadow_keys(lo[at], np.full(len(at), variant)))
                value = self.index.value_at(cell)
                there = np.flatnonzero(value >= 0)
                other = value[there].astype(np.int64)
                mine = self.slots.column["hi"][other] == hi[at[there]]
                there, other = there[mine], other[mine]
                if len(there):
                    found.append(ShadowAnswers(at[there], other, cell[there]))
        return found

    # -- reading -----------------------------------------------------------------------------------------

    def held(self, state: int) -> SlotIndices:
        """List the open entries that have one of the bits of `state`, in the order of slots."""
        column = self.slots.column["state"]
        return np.flatnonzero((column != FREE) & (column & state != 0))

    def has_waiting_outcome(self, keys: Keys) -> Mask:
        """Tell of each request's key whether an outcome waits for the served answer."""
        value = self.index.look_up(keys)
        result: Mask = (value >= 0) & (self.slots.column["state"][np.maximum(value, 0)] & OUTCOME != 0)
        return result

    def has_met_outcome(self, keys: Keys) -> Mask:
        """Tell of each request's key whether its outcome has met the served answer, and is kept for others."""
        value = self.index.look_up(keys)
        result: Mask = (value >= 0) & (self.slots.column["state"][np.maximum(value, 0)] & DONE != 0)
        return result

    # -- commits and recovery ----------------------------------------------------------------------------

    def drain_changed(self) -> SlotIndices:
        """Take the open entries that are new or changed since the last call. Only a commit may.

        Returns:
            Slots, increasing.
        """
        parts, self._changed = self._changed, []
        if not parts:
            return np.zeros(0, np.int64)
        changed: SlotIndices = np.unique(np.concatenate(parts))
        still_open: Mask = self.slots.column["state"][changed] != FREE
        return changed[still_open]

    def restore(self, columns: Columns) -> None:
        """Add the entries that were stored, after `ClosedKeys.restore`.

        Args:
            columns: Columns of `Slots`, of entries with distinct keys that are not closed.
        """
        for start in range(0, len(columns["lo"]), MOST_AT_ONCE):
            part = slice(start, start + MOST_AT_ONCE)
            lo = columns["lo"][part]
            self.index.reserve(len(lo))
            cell = self.index.find_or_add(lo)
            slot = self.slots.take(len(lo))
            for name, column in columns.items():
                self.slots.column[name][slot] = column[part]
            self.index.value[cell] = slot
        state = columns["state"]
        self.waiting = int(np.count_nonzero(state & ANSWER))
        self.add_shadow_variants(columns["variant"][state & UNSERVED != 0])


def shadow_bit(variants: VariantCodes) -> ShadowMasks:
    """Make the shadow mask of one variant, for each."""
    bits: NDArray[np.uint64] = variants.astype(np.uint64) & np.uint64(63)
    return np.uint64(1) << bits
