"""Concept drift: the errors of a version rose.

The first pairs of a version say what its errors are like: how large they are, which gives the scale (so units
do not matter), and how much they come in clusters. That is frozen, and a detector watches all errors on that
scale in the order in which the pairs met. A rise fires; a fall is good news and says nothing. The alert
resolves on evidence only: when the mean error of `baseline_n` pairs in a row, all after the last change, lies
no higher above the level before than a fifth of the rise. Pure.

These alerts are outside the false-alarm budget, which is spent per check: the detector has a bound of its own
(`detectors.streaming`). They ask for a look and move no traffic; rules on quality do that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import zstandard

from detectors.reference_builder import build_features
from detectors.saved import pack, unpack
from detectors.streaming import Adwin, Change
from detectors.types import FloatArray, IntArray
from monitor.aggregation.metrics import add_in_order
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, MetricEvidence, Subject
from monitor.spec import Severity, Task

NEAR: Final = 0.2  # of the rise: a level no further above the one before is back
FEWEST: Final = 100  # pairs that a level is measured over, at least
_MAGIC: Final = b"DRIFTCON"
_LEARNED: Final = 4096  # first errors, at most: more would tell no more
_LARGEST_GROUP: Final = 64
_MOST: Final = float(np.finfo(np.float64).max)
_LEAST: Final = float(np.finfo(np.float64).tiny)
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress

Detection = tuple[int, AlertRecord]  # index of the pair that made it clear


class ConceptDrift:
    """The errors of one version."""

    def __init__(self, model: str, version: str, task: Task, baseline_n: int) -> None:
        self._task = task
        self._wanted = min(baseline_n, _LEARNED)
        self._block = max(baseline_n, FEWEST)
        self.alert = SimpleEpisode(Subject(model, version, AlertKind.CONCEPT_DRIFT))
        self._begin()

    def _begin(self) -> None:
        self._first = np.zeros(0)  # errors to learn from, until there are enough of them
        self._scale = 1.0
        self._detector: Adwin | None = None
        self._before = self._limit = 0.0  # scaled levels: the one before the rise, the one from which it is over
        self._calm, self._calm_sum = 0, 0.0  # pairs of the running block, and the sum of their scaled errors

    # -- watching ----------------------------------------------------------------------------------------

    def add(self, predicted: FloatArray, actual: FloatArray, times: IntArray) -> list[Detection]:
        """Take pairs in, in the order in which they met, at these stream times (ms).

        -> what they made clear, in order. A pair without a prediction is passed over.
        """
        pair = np.flatnonzero(~np.isnan(predicted) & ~np.isnan(actual))
        errors = self._errors(predicted[pair], actual[pair])
        said: list[Detection] = []
        if not len(errors):
            return said
        if self._detector is None:
            taken = max(self._wanted - len(self._first), 0)
            self._first = np.concatenate([self._first, errors[:taken]])
            if len(self._first) < self._wanted:
                return said
            first, self._first = self._first, np.zeros(0)
            self._detector = self._learn(first)
            # What they say themselves is said with the last of them.
            said += self._watch(self._detector, first, np.full(len(first), pair[max(taken, 1) - 1]), times)
            pair, errors = pair[taken:], errors[taken:]
        said += self._watch(self._detector, errors, pair, times)
        return said

    def _errors(self, predicted: FloatArray, actual: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            errors: FloatArray = np.abs(predicted - actual)
        return errors if self._task is Task.REGRESSION else np.sign(errors)

    def _learn(self, first: FloatArray) -> Adwin:
        """Freeze what errors are like by the first of them."""
        if self._task is Task.REGRESSION:
            # Twice the 99 % quantile: errors that hardly vary can double before they count as one. Where
            # nearly all are nothing, any that is something counts as one.
            self._scale = min(2 * float(np.quantile(first, 0.99)), _MOST) or _LEAST
        scaled = self._scaled(first)
        dispersion = build_features({"error": True}, {"error": scaled}, len(scaled))[0].dispersion
        phi = dispersion.phi[-1] if dispersion.phi else 1.0
        return Adwin(min(round(phi), _LARGEST_GROUP))

    def _scaled(self, errors: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.minimum(errors / self._scale, 1.0)

    def _watch(self, detector: Adwin, errors: FloatArray, pair: IntArray, times: IntArray) -> Iterator[Detection]:
        scaled, start = self._scaled(errors), 0
        for change in detector.add(scaled):
            stop = change.at + 1
            yield from self._settle(scaled[start:stop], pair[start:stop], times)
            record = self._changed(change, int(times[pair[change.at]]))
            if record is not None:
                yield int(pair[change.at]), record
            start = stop
        yield from self._settle(scaled[start:], pair[start:], times)

    def _changed(self, change: Change, now: int) -> AlertRecord | None:
        """A new level: a rise fires, or says how much higher it went; both directions begin a new block."""
        self._calm, self._calm_sum = 0, 0.0
        if not change.rose or (self.alert.firing and change.after <= self._limit):
            return None
        if not self.alert.firing:
            self._before = change.before
        self._limit = self._before + NEAR * (change.after - self._before)
        metric = self._evidence(change.after, change.errors)
        summary = f"{self._words} rose from {metric.baseline:.4g} to {metric.value:.4g}"
        return self.alert.fire(Severity.WARNING, summary, now, now, metric=metric)

    def _settle(self, scaled: FloatArray, pair: IntArray, times: IntArray) -> Iterator[Detection]:
        """Errors without a change among them: while the alert fires, each full block says whether it is over."""
        start = 0
        while self.alert.firing and start < len(scaled):
            stop = min(start + self._block - self._calm, len(scaled))
            self._calm_sum = add_in_order(self._calm_sum, scaled[start:stop])
            self._calm += stop - start
            start = stop
            if self._calm < self._block:
                return
            level = self._calm_sum / self._block
            self._calm, self._calm_sum = 0, 0.0
            if level <= self._limit:
                self.alert.metric = metric = self._evidence(level, self._block)
                summary = f"{self._words} is {metric.value:.4g} again"
                record = self.alert.resolve(summary, int(times[pair[stop - 1]]))
                if record is not None:
                    yield int(pair[stop - 1]), record

    def _evidence(self, level: float, pairs: int) -> MetricEvidence:
        return MetricEvidence(
            "error", level * self._scale, self._before * self._scale, self._limit * self._scale, pairs
        )

    @property
    def _words(self) -> str:
        return "mean absolute error" if self._task is Task.REGRESSION else "share of wrong answers"

    def abandon(self, now: int) -> AlertRecord | None:
        """The reference was replaced: what is normal is learned anew from the next pairs."""
        self._begin()
        return self.alert.resolve("the reference was replaced", now)

    # -- keeping -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """To be stored: some kilobytes."""
        detector = None if self._detector is None else self._detector.to_bytes()
        return {
            "alert": self.alert.state(),
            "first": _text(pack(_MAGIC, {}, {"first": self._first})),
            "detector": None if detector is None else _text(detector),
            "scale": self._scale,
            "before": self._before,
            "limit": self._limit,
            "calm": self._calm,
            "calm_sum": self._calm_sum,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.alert.restore(state["alert"])
        self._first = unpack(_MAGIC, _bytes(state["first"]))[1]["first"]
        self._detector = None if state["detector"] is None else Adwin.from_bytes(_bytes(state["detector"]))
        self._scale, self._before, self._limit = state["scale"], state["before"], state["limit"]
        self._calm, self._calm_sum = state["calm"], state["calm_sum"]


def _text(blob: bytes) -> str:
    return base64.b64encode(_compress(blob)).decode()


def _bytes(text: str) -> bytes:
    return _decompress(base64.b64decode(text))
