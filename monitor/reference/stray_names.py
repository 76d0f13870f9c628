"""Features that come and that the reference does not have: what came instead of those that are missed.

Pure. A name counts from where it first comes, which is the same however the stream is read. Once that is settled the
name costs nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from detectors.types import IntArray
from monitor.events.features import FeatureTable

MOST = 100  # names that are kept: those that came first


class StrayNames:
    """Names of features that are not compared, each with where it first came.

    Attributes:
        first: Name → where it first came: a time in ms, or a number of predictions in counted windows.
        settled: No prediction is to come whose place is before this one.
    """

    def __init__(self, first: Mapping[str, int] | None = None) -> None:
        self.first = dict(first or {})
        self.settled = 0

    def note(self, table: FeatureTable, places: IntArray, known: Collection[str]) -> None:
        """Take in the names in the features of some predictions.

        Args:
            table: The features.
            places: The place of each prediction, as in `first`.
            known: Names that are compared, or ignored.
        """
        room = len(self.first) < MOST or max(self.first.values()) >= self.settled
        # An event that is still to come changes nothing of a name that came before what is settled.
        unsettled = [
            name
            for name in table.names
            if name not in known and (self.first[name] >= self.settled if name in self.first else room)
        ]
        if not unsettled:
            return
        for name in unsettled:
            there = np.fromiter((value is not None for value in table.values(name)), np.bool_, len(table))
            if there.any():
                self.first[name] = min(self.first.get(name, int(places[there].min())), int(places[there].min()))
        if len(self.first) > MOST:
            kept = sorted(self.first.items(), key=lambda entry: (entry[1], entry[0]))[:MOST]
            self.first = dict(kept)

    def between(self, start: int, end: int) -> list[str]:
        """Return the names that first came from one place to before another one, in alphabetical order."""
        return sorted(name for name, first in self.first.items() if start <= first < end)
