"""The baseline of a version's answers: latency, errors and resources while it was healthy. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from detectors.pane import Counts, pack_counts, unpack_counts
from detectors.types import IntArray
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
    widened_tally,
)


class AnswerBaseline:
    """Sums of a version's answers, in whole panes, from its first one on.

    It is used from `wanted` answers on, and grows with panes in which the version is healthy until they span `longest`
    ms together; then it is frozen.

    Args:
        wanted: Answers from which on it is used.
        longest: Extent from which on it is frozen, ms; 0 to freeze it with the pane that completes it.
    """

    def __init__(self, wanted: int, longest: int = 0) -> None:
        self._wanted, self._longest = wanted, longest
        self._tally = np.zeros(TALLY_SIZE, np.int64)
        self._latency = np.zeros(LATENCY_CELLS, np.int64)
        self._sums = np.zeros(SUMS_SIZE)
        self.events = 0  # answers that were taken
        self._extent: int | None = 0  # of the panes that were taken, ms; None: 0.1.0 froze it

    @property
    def complete(self) -> bool:
        """Whether it holds enough answers to be compared with."""
        return self.events >= self._wanted

    @property
    def frozen(self) -> bool:
        """Whether it takes no further panes."""
        return self.complete and (self._extent is None or self._extent >= self._longest)

    @property
    def latency(self) -> IntArray:
        """Histogram of the latencies that it holds; the caller must not write to it."""
        return self._latency

    def add(self, piece: Slice, *, healthy: bool = True) -> None:
        """Add a closed pane, unless it is frozen, or complete and the version is not healthy."""
        if self.frozen or (self.complete and not healthy):
            return
        self.events += piece.events
        if self._extent is not None:
            self._extent += piece.end - piece.start
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
        body = pack_counts({"events": self.events, "extent": self._extent}, counts, {"sums": self._sums})
        return base64.b64encode(body).decode()

    def restore(self, saved: str) -> None:
        """Go on with what `saved` returned."""
        header, counts, plain = unpack_counts(base64.b64decode(saved))
        self.events, self._sums = header["events"], widened(plain["sums"])
        self._extent = header.get("extent", None if self.complete else 0)
        self._tally, self._latency = widened_tally(counts["tally"]).dense().copy(), counts["latency"].dense().copy()
