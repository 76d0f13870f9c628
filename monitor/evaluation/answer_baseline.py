"""The baseline of a version's answers: latency, errors and resources while it was healthy. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.pane import Counts, pack_counts, unpack_counts
from detectors.types import FloatArray, IntArray
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
from monitor.evaluation.metric_panes import LONGEST


class _Sums:
    """Sums of some answers."""

    def __init__(self, extent: int | None = 0) -> None:
        self.tally = np.zeros(TALLY_SIZE, np.int64)
        self.latency = np.zeros(LATENCY_CELLS, np.int64)
        self.sums = np.zeros(SUMS_SIZE)
        self.events = 0
        self.extent = extent  # of the panes that were taken, ms; None: 0.1.0 froze it

    def add(self, piece: Slice) -> None:
        """Add a pane."""
        self._extend(piece.events, piece.end - piece.start, piece.sums)
        for name, total in (("tally", self.tally), ("latency", self.latency)):
            if name in piece.counts:
                piece.counts[name].add_to(total)

    def merge(self, other: _Sums) -> None:
        """Add other sums."""
        self._extend(other.events, other.extent or 0, other.sums)
        self.tally += other.tally
        self.latency += other.latency

    def _extend(self, events: int, extent: int, sums: FloatArray) -> None:
        self.events += events
        if self.extent is not None:
            self.extent += extent
        self.sums = joined_sums([self.sums, sums])

    def packed(self, staged: Sequence[tuple[int, str]] = ()) -> str:
        """Return them in base64; `staged` are others that are stored with them, each with its number."""
        counts = {"tally": Counts.of(self.tally), "latency": Counts.of(self.latency)}
        header = {"events": self.events, "extent": self.extent} | ({"staged": staged} if staged else {})
        return base64.b64encode(pack_counts(header, counts, {"sums": self.sums})).decode()

    @staticmethod
    def unpacked(saved: str) -> tuple[_Sums, dict[str, Any]]:
        """Return what `packed` made, and its header."""
        header, counts, plain = unpack_counts(base64.b64decode(saved))
        found = _Sums(header.get("extent"))
        found.events, found.sums = header["events"], widened(plain["sums"])
        found.tally = widened_tally(counts["tally"]).dense().copy()
        found.latency = counts["latency"].dense().copy()
        return found, header


class AnswerBaseline:
    """Sums of a version's answers, in whole panes, from its first one on.

    It is used from `wanted` answers on, and grows with panes in which the version is healthy until they span `longest`
    ms together; then it is frozen. Panes by which it grows wait until no stretch of windows under test reaches them
    any more, so that a change that begins mildly is not taken for normal; where a rule fires, they are forgotten.

    Args:
        wanted: Answers from which on it is used.
        longest: Extent from which on it is frozen, ms; 0 to freeze it with the pane that completes it.
        span: Extent of a window, ms; 0 to let no pane wait.
    """

    def __init__(self, wanted: int, longest: int = 0, span: int = 0) -> None:
        self._wanted, self._longest, self._span = wanted, longest, span
        self._held = _Sums()
        self._staged: dict[int, _Sums] = {}  # by the number of the span of time that they are of, ascending

    @property
    def events(self) -> int:
        """Answers that it holds."""
        return self._held.events

    @property
    def complete(self) -> bool:
        """Whether it holds enough answers to be compared with."""
        return self.events >= self._wanted

    @property
    def frozen(self) -> bool:
        """Whether it takes no further panes."""
        extent = self._held.extent
        if not self.complete or extent is None:
            return self.complete
        return extent + sum(staged.extent or 0 for staged in self._staged.values()) >= self._longest

    @property
    def latency(self) -> IntArray:
        """Histogram of the latencies that it holds; the caller must not write to it."""
        return self._held.latency

    def add(self, piece: Slice, *, healthy: bool = True, firing: bool = False) -> None:
        """Add a closed pane, unless it is frozen, or complete and the version is not healthy.

        Args:
            piece: The pane.
            healthy: Whether nothing seems wrong with the version.
            firing: Whether a rule of it fires.
        """
        if not self.complete:
            self._held.add(piece)
            return
        if firing:
            self._staged.clear()
        if not healthy:
            return
        number = piece.start // self._span if self._span else 0
        for old in [each for each in self._staged if each < number - LONGEST]:
            self._held.merge(self._staged.pop(old))
        if self.frozen:
            return
        if not self._span:
            self._held.add(piece)
        else:
            self._staged.setdefault(number, _Sums()).add(piece)

    def metrics(self, user_metrics: Sequence[str]) -> tuple[AnswerSums, dict[str, Estimate]]:
        """Return (sums, metrics) of these answers."""
        sums = AnswerSums(self._held.tally, self._held.sums, self._held.latency)
        return sums, answer_metrics(sums, user_metrics)

    def saved(self) -> str:
        """Return what is stored of it, in base64."""
        return self._held.packed([(number, sums.packed()) for number, sums in self._staged.items()])

    def restore(self, saved: str) -> None:
        """Go on with what `saved` returned."""
        self._held, header = _Sums.unpacked(saved)
        if "extent" not in header:
            self._held.extent = None if self.complete else 0
        self._staged = {number: _Sums.unpacked(sums)[0] for number, sums in header.get("staged", ())}
