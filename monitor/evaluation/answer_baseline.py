"""The baseline of a version's answers: latency, errors and resources of its first ones. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from detectors.pane import Counts, pack_counts, unpack_counts
from detectors.window import Slice
from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    SUMS_SIZE,
    TALLY_SIZE,
    AnswerSums,
    Estimate,
    answer_metrics,
    joined_sums,
    widened,
)


class AnswerBaseline:
    """Sums of the first `wanted` answers of a version, in whole panes; then it is frozen."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._tally = np.zeros(TALLY_SIZE, np.int64)
        self._latency = np.zeros(LATENCY_CELLS, np.int64)
        self._sums = np.zeros(SUMS_SIZE)
        self._events = 0

    @property
    def complete(self) -> bool:
        """Whether it is frozen."""
        return self._events >= self._wanted

    def add(self, piece: Slice) -> None:
        """Add a closed pane, unless it is frozen."""
        if self.complete:
            return
        self._events += piece.events
        self._sums = joined_sums([self._sums, piece.sums])
        for name, total in (("tally", self._tally), ("latency", self._latency)):
            if name in piece.counts:
                piece.counts[name].add_to(total)

    def metrics(self, user_metrics: Sequence[str]) -> tuple[AnswerSums, dict[str, Estimate]]:
        """Return (sums, metrics) of these answers."""
        sums = AnswerSums(self._tally, self._sums, self._latency)
        return sums, answer_metrics(sums, user_metrics)

    def saved(self) -> str:
        """Return what is stored of it, in base64."""
        counts = {"tally": Counts.of(self._tally), "latency": Counts.of(self._latency)}
        body = pack_counts({"events": self._events}, counts, {"sums": self._sums})
        return base64.b64encode(body).decode()

    def restore(self, saved: str) -> None:
        """Go on with what `saved` returned."""
        header, counts, plain = unpack_counts(base64.b64decode(saved))
        self._events, self._sums = header["events"], widened(plain["sums"])
        self._tally, self._latency = counts["tally"].dense().copy(), counts["latency"].dense().copy()
