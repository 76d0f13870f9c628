"""Features that come and that the reference does not have: what came instead of those that are missed.

Pure. A name counts from where it first comes, which is the same however the stream is read. Once that is settled the
name costs nothing any more.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from detectors.types import IntArray
from monitor.events.features import FeatureTable
from monitor.events.schema import Scalar

MOST = 100  # names that are kept: those that came first


class StrayNames:
    """Names of features that are not compared, each with where it first came.

    Attributes:
        first: Name → where it first came: a time in ms, or a number of predictions in counted windows.
        settled: No prediction is to come whose place is before this one.
    """

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.settled = 0

    def note(self, table: FeatureTable, places: IntArray, known: Collection[str]) -> None:
        """Take in the names in the features of some predictions.

        Args:
            table: The features.
            places: The place of each prediction, as in `first`.
            known: Names that are compared, or ignored.
        """
        end = self._end()
        open_names = [name for name, first in self.first.items() if first >= self.settled]
        if not len(places) or not (open_names or end is None or end >= self.settled):
            return
        # An event changes nothing of a name that came before what is settled, nor where so many came before it.
        rows = np.arange(len(places)) if end is None else np.flatnonzero(places <= end)
        if len(rows) > 1 and (places[rows][1:] < places[rows][:-1]).any():
            rows = rows[np.argsort(places[rows], kind="stable")]
        if table.mappings is None:
            self._note_columns(table, rows, places[rows], known)
        else:
            self._note_mappings(table.mappings, rows, places[rows], known)
        if len(self.first) > MOST:
            kept = sorted(self.first.items(), key=lambda entry: (entry[1], entry[0]))[:MOST]
            self.first = dict(kept)

    def _end(self) -> int | None:
        """Return the place up to which a name is kept that has not come; None if any is."""
        return max(self.first.values()) if len(self.first) >= MOST else None

    def _note_columns(self, table: FeatureTable, rows: IntArray, places: IntArray, known: Collection[str]) -> None:
        """Take in the columns of a table; rows and their places are in the order of places."""
        listed: list[int] = rows.tolist()
        for name in table.names:
            if name in known:
                continue
            before = self.first.get(name)
            if before is not None and (before < self.settled or not len(places) or before <= places[0]):
                continue
            earlier = listed if before is None else listed[: int(np.searchsorted(places, before))]
            found = table.first_value(name, earlier)
            if found is not None:
                self.first[name] = int(places[listed.index(found)])

    def _note_mappings(
        self, mappings: Sequence[Mapping[str, Scalar]], rows: IntArray, places: IntArray, known: Collection[str]
    ) -> None:
        """Take in the features of each prediction; rows and their places are in the order of places.

        Once MOST names came before a place, none that first comes there or later is kept.
        """
        done = {*known, *(name for name, first in self.first.items() if first < self.settled)}
        came = sorted(self.first.values())
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            if len(came) >= MOST and came[MOST - 1] < place:
                return
            for name in mappings[row].keys() - done:
                if mappings[row][name] is None:
                    continue
                done.add(name)
                before = self.first.get(name)
                if before is None or place < before:
                    self.first[name] = place
                    if before is not None:
                        came.remove(before)
                    insort(came, place)

    def between(self, start: int, end: int) -> list[str]:
        """Return the names that first came from one place to before another one, in alphabetical order."""
        return sorted(name for name, first in self.first.items() if start <= first < end)
