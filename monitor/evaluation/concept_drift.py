"""Concept drift: the errors of a version rose.

The first matched pairs of a version are its baseline. They tell how large its errors are, which gives the scale, so
that units do not matter, and how much errors cluster. Both are frozen, and ADWIN (`detectors.streaming`) follows all
errors on that scale in the order in which the pairs were matched. A rise fires; a fall does not. The alert resolves on
evidence only: when the mean error of `baseline_n` pairs in a row, all after the last change, lies no higher above the
mean before the rise than a fifth of the rise. Pure.

These alerts are outside the false-alarm budget, which is spent per check: the detector has a bound of its own. They
have no consequence for serving; rules on quality do that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import zstandard

from detectors.dispersion import FEWEST_BLOCKS
from detectors.reference_builder import build_features
from detectors.saved import pack, unpack
from detectors.streaming import Adwin, Change
from detectors.types import FloatArray, IntArray
from monitor.aggregation.metrics import add_in_order
from monitor.aggregation.pair_readings import unknown_pairs
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, ClosedBecause, MetricEvidence, Subject
from monitor.spec import Severity, Task

RESOLVE_WITHIN: Final = 0.2  # of the rise: a mean no further above the one before has come back
MIN_BLOCK: Final = 100  # pairs that a mean is measured over, at least
REPLACED: Final = "the reference was replaced"
_MAGIC: Final = b"DRIFTCON"
_MAX_BASELINE: Final = 4096  # pairs: more would tell no more
_MAX_GROUP: Final = 64  # errors that ADWIN takes as one
_LARGEST: Final = float(np.finfo(np.float64).max)
_SMALLEST: Final = float(np.finfo(np.float64).tiny)
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress

Detection = tuple[int, AlertRecord]  # index of the pair that showed it


class SavedConceptDrift(msgspec.Struct):
    """What is stored of a `ConceptDrift`, some kilobytes: `first` and `detector` are compressed, in base64."""

    alert: EpisodeState
    first: str
    detector: str | None
    scale: float
    before: float
    limit: float
    calm: int
    calm_sum: float


class ConceptDrift:
    """Follows the errors of one version."""

    def __init__(self, model: str, version: str, task: Task, baseline_n: int) -> None:
        self._task = task
        self._wanted = min(baseline_n, _MAX_BASELINE)
        self._block = max(baseline_n, MIN_BLOCK)
        self.alert = SimpleEpisode(Subject(model, version, AlertKind.CONCEPT_DRIFT))
        self._reset()

    def _reset(self) -> None:
        self._first = np.zeros(0)  # errors of the baseline, until it is complete
        self._scale = 1.0
        self._detector: Adwin | None = None
        self._before = self._limit = 0.0  # scaled means: before the rise, and the one at which the alert resolves
        self._calm, self._calm_sum = 0, 0.0  # pairs of the current block, and the sum of their scaled errors

    # -- detecting ---------------------------------------------------------------------------------------

    def add(self, predicted: FloatArray, actual: FloatArray, times: IntArray) -> list[Detection]:
        """Take in matched pairs, in the order in which they were matched.

        Args:
            predicted: Predictions, shape (n,); those without one (NaN) are left out, and so are unknown ones.
            actual: Outcomes, shape (n,).
            times: Stream time at each pair, ms, shape (n,).

        Returns:
            Records of the alert, each with the index of the pair that showed it, in order.
        """
        known = ~np.isnan(predicted) & ~np.isnan(actual)
        if self._task is not Task.REGRESSION:
            known &= ~unknown_pairs(self._task, predicted, actual)
        pair = np.flatnonzero(known)
        errors = self._errors(predicted[pair], actual[pair])
        found: list[Detection] = []
        if not len(errors):
            return found
        if self._detector is None:
            taken = max(self._wanted - len(self._first), 0)
            self._first = np.concatenate([self._first, errors[:taken]])
            if len(self._first) < self._wanted:
                return found
            first, self._first = self._first, np.zeros(0)
            self._detector = self._learn(first)
            # A change within the baseline shows when it is complete.
            found += self._detect(self._detector, first, np.full(len(first), pair[max(taken, 1) - 1]), times)
            pair, errors = pair[taken:], errors[taken:]
        found += self._detect(self._detector, errors, pair, times)
        return found

    def _errors(self, predicted: FloatArray, actual: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            errors: FloatArray = np.abs(predicted - actual)
        return errors if self._task is Task.REGRESSION else np.sign(errors)

    def _learn(self, first: FloatArray) -> Adwin:
        """Freeze the scale and the clustering of errors by the baseline."""
        if self._task is Task.REGRESSION:
            # Twice the 99 % quantile: errors that hardly vary can double before they count as one. Where nearly
            # all are zero, any other counts as one.
            self._scale = min(2 * float(np.quantile(first, 0.99)), _LARGEST) or _SMALLEST
        scaled = self._scaled(first)
        dispersion = build_features({"error": True}, {"error": scaled}, len(scaled))[0].dispersion
        # Of blocks of which there are some: what all errors together did is what is looked for.
        return Adwin(min(round(dispersion.at(len(scaled) / FEWEST_BLOCKS)), _MAX_GROUP))

    def _scaled(self, errors: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.minimum(errors / self._scale, 1.0)

    def _detect(self, detector: Adwin, errors: FloatArray, pair: IntArray, times: IntArray) -> Iterator[Detection]:
        scaled, start = self._scaled(errors), 0
        for change in detector.add(scaled):
            stop = change.at + 1
            yield from self._add_calm(scaled[start:stop], pair[start:stop], times)
            record = self._changed(change, int(times[pair[change.at]]))
            if record is not None:
                yield int(pair[change.at]), record
            start = stop
        yield from self._add_calm(scaled[start:], pair[start:], times)

    def _changed(self, change: Change, now: int) -> AlertRecord | None:
        """Start a new block after a change; fire if errors rose, also if they rose further."""
        self._calm, self._calm_sum = 0, 0.0
        if not change.rose or (self.alert.firing and change.after <= self._limit):
            return None
        if not self.alert.firing:
            self._before = change.before
        self._limit = self._before + RESOLVE_WITHIN * (change.after - self._before)
        metric = self._evidence(change.after, change.errors)
        summary = f"{self._words} rose from {metric.baseline:.4g} to {metric.value:.4g}"
        return self.alert.fire(Severity.WARNING, summary, now, now, metric=metric)

    def _add_calm(self, scaled: FloatArray, pair: IntArray, times: IntArray) -> Iterator[Detection]:
        """Add errors without a change to the current block while the alert fires; judge each block that is full."""
        start = 0
        while self.alert.firing and start < len(scaled):
            stop = min(start + self._block - self._calm, len(scaled))
            self._calm_sum = add_in_order(self._calm_sum, scaled[start:stop])
            self._calm += stop - start
            start = stop
            if self._calm < self._block:
                return
            mean = self._calm_sum / self._block
            self._calm, self._calm_sum = 0, 0.0
            if mean <= self._limit:
                metric = self._evidence(mean, self._block)
                summary = f"{self._words} is {metric.value:.4g} again"
                record = self.alert.resolve(summary, int(times[pair[stop - 1]]), metric=metric)
                if record is not None:
                    yield int(pair[stop - 1]), record

    def _evidence(self, mean: float, pairs: int) -> MetricEvidence:
        return MetricEvidence("error", mean * self._scale, self._before * self._scale, self._limit * self._scale, pairs)

    @property
    def _words(self) -> str:
        return "mean absolute error" if self._task is Task.REGRESSION else "share of wrong answers"

    def abandon(self, now: int) -> AlertRecord | None:
        """Learn the baseline anew from the next pairs, since the reference was replaced; resolve the alert."""
        self._reset()
        return self.alert.resolve(REPLACED, now, because=ClosedBecause.REFERENCE_CHANGED)

    # -- storing -----------------------------------------------------------------------------------------

    def saved(self) -> SavedConceptDrift:
        """Return what is stored of it."""
        return SavedConceptDrift(
            alert=self.alert.state,
            first=_text(pack(_MAGIC, {}, {"first": self._first})),
            detector=None if self._detector is None else _text(self._detector.to_bytes()),
            scale=self._scale,
            before=self._before,
            limit=self._limit,
            calm=self._calm,
            calm_sum=self._calm_sum,
        )

    def restore(self, saved: SavedConceptDrift) -> None:
        """Go on with what `saved` returned."""
        self.alert.state = saved.alert
        self._first = unpack(_MAGIC, _bytes(saved.first))[1]["first"]
        self._detector = None if saved.detector is None else Adwin.from_bytes(_bytes(saved.detector))
        self._scale, self._before, self._limit = saved.scale, saved.before, saved.limit
        self._calm, self._calm_sum = saved.calm, saved.calm_sum


def _text(blob: bytes) -> str:
    return base64.b64encode(_compress(blob)).decode()


def _bytes(text: str) -> bytes:
    return _decompress(base64.b64decode(text))
