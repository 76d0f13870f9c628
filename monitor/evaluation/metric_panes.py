"""What single panes had of the metrics that rules name: what the dependence of a metric is learned from. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard

from detectors.pane_dependence import FEWEST_PANES, MetricDependence, dependence_of
from detectors.saved import pack, unpack
from detectors.types import FloatArray, IntArray
from monitor.aggregation.metrics import QUANTILES, Estimate, latencies_above, latency_quantile
from monitor.spec import RuleSpec, WindowSpec

LONGEST: Final = 5  # windows that a stretch of panes goes back at most
_LEARNED: Final = 256  # panes that dependence is learned from
_MOST: Final = 1024  # panes kept, where windows have many
_FIRST: Final = 128  # panes from which on what was learned first is kept
_MAGIC: Final = b"DRIFTMPN"
# Metrics that are no sums: they depend as much as the largest of those that are made of the same events.
_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "rmse": ("mse",),
    "r2": ("mse",),
    "f1": ("precision", "recall"),
    "f1_macro": ("accuracy", "precision", "recall"),
    "roc_auc": ("brier", "precision", "recall"),
    "ece": ("brier", "accuracy", "precision"),
}


@dataclass(frozen=True, slots=True)
class PaneRows:
    """Hold the panes of one metric in ascending order.

    Attributes:
        pane: Numbers of the panes.
        n: Events behind the metric in each.
        value: Share, or mean, of each.
        spread: Sum of squares around it within each pane.
        share: Whether the metric counts hits.
    """

    pane: FloatArray
    n: FloatArray
    value: FloatArray
    spread: FloatArray
    share: bool

    @staticmethod
    def none(*, share: bool) -> PaneRows:
        """Return no panes."""
        nothing = np.zeros(0)
        return PaneRows(nothing, nothing, nothing, nothing, share)

    def __len__(self) -> int:
        return len(self.pane)

    def between(self, first: float, last: float) -> PaneRows:
        """Return the panes from `first` to `last`."""
        low, high = np.searchsorted(self.pane, [first, last + 0.5])
        cut = slice(int(low), int(high))
        return PaneRows(self.pane[cut], self.n[cut], self.value[cut], self.spread[cut], self.share)

    def latest(self, count: int) -> PaneRows:
        """Return at most so many panes at the end."""
        return self.between(self.pane[-count], self.pane[-1]) if len(self) > count else self

    def with_pane(self, pane: int, n: float, value: float, spread: float) -> PaneRows:
        """Return them with one more."""
        return PaneRows(
            np.append(self.pane, float(pane)), np.append(self.n, float(n)), np.append(self.value, value),
            np.append(self.spread, spread), self.share,
        )  # fmt: skip

    @property
    def mean(self) -> float:
        """The metric over all these panes."""
        return float(self.n @ self.value / self.n.sum())

    def estimate(self) -> Estimate:
        """Return the metric over all these panes."""
        n, mean = int(self.n.sum()), self.mean
        if self.share:
            return Estimate.share(round(float(self.n @ self.value)), n)
        return Estimate(mean, n, self._square(mean) / (n - 1) / n if n > 1 else math.nan)

    def _square(self, mean: float) -> float:
        """Sum of squares around a mean, over all events."""
        return float(self.spread.sum() + self.n @ (self.value - mean) ** 2)

    @property
    def telling(self) -> int:
        """How many panes have an event of the rarer kind; of metrics that are no shares all."""
        return int(np.count_nonzero(self._rarer > 0)) if self.share and len(self) else len(self)

    @property
    def _rarer(self) -> FloatArray:
        """Share of the rarer kind of events in each pane."""
        return self.value if self.mean <= 0.5 else 1 - self.value

    def supposed(self, before: MetricDependence) -> MetricDependence:
        """Return what can be supposed after these panes."""
        if not (self.share and len(self)):
            return before
        return before.with_clusters(max(round(float(self.n @ self._rarer)), self.telling), self.telling)

    def sums(self) -> tuple[FloatArray, float]:
        """Return (what each pane adds to the mean around its own, the variance of one of them if independent)."""
        mean, each = self.mean, float(self.n.mean())
        result: FloatArray = self.n * (self.value - mean) / each
        return result, self._square(mean) / float(self.n.sum()) / each


def dependence(name: str, rows: PaneRows, before: MetricDependence) -> MetricDependence:
    """Return the dependence of a metric; `before` is what is supposed without panes."""
    if len(rows) < FEWEST_PANES:
        return before
    return dependence_of(*rows.sums(), rows.supposed(before), telling(name, rows), float(rows.n.mean()))


def telling(name: str, rows: PaneRows) -> int:
    """Return how many panes tell of dependence: of a quantile all, as a part of each lies above it but for ties."""
    return len(rows) if name in QUANTILES else rows.telling


def is_assumed(panes: int, telling_panes: int) -> bool:
    """Tell whether the promise rests on a dependence that is supposed.

    Of what never happened in enough panes, such as a failure, nothing is learned either. But a version that goes on
    without it raises no alarm, however much what never comes might depend on itself: there the promise is kept.
    """
    return panes < FEWEST_PANES or 0 < telling_panes < FEWEST_PANES


def dependence_beside(name: str, rows: PaneRows, others: PaneRows, before: MetricDependence) -> MetricDependence:
    """Return the dependence of the difference of two versions: what both have in common at a time cancels out."""
    common, mine, its = np.intersect1d(rows.pane, others.pane, assume_unique=True, return_indices=True)
    if len(common) < FEWEST_PANES:
        return before
    (one, variance), (other, its_variance) = rows.sums(), others.sums()
    more = max(rows, others, key=lambda each: telling(name, each))
    supposed = more.supposed(before)
    return dependence_of(
        one[mine] - other[its], variance + its_variance, supposed, telling(name, more), float(rows.n.mean())
    )  # fmt: skip


def adds_up(metric: str) -> bool:
    """Tell whether a metric of several panes is the mean of that of their events."""
    return metric not in _MADE_OF and metric not in QUANTILES and metric != "predictions"


class MetricPanes:
    """The latest panes of the metrics that rules name, and what was learned of the first ones.

    Attributes:
        answers_until: Latest pane of answers that was taken in.
        outcomes_until: Latest pane of outcomes that was.
    """

    def __init__(self, rules: Iterable[RuleSpec], window: WindowSpec) -> None:
        names = {rule.metric for rule in rules if not rule.hard} - {"predictions"}
        self._names = names | {part for name in names for part in _MADE_OF.get(name, ())}
        panes = window.events // window.every if window.counted else window.longest // max(window.pane, 1)
        self._panes = window.events // window.every if window.counted else window.span // max(window.pane, 1)
        self._most = min(_LEARNED + LONGEST * panes, _MOST)
        self._rows: dict[str, PaneRows] = {}
        self._first: dict[str, MetricDependence] = {}
        self._calm: dict[str, int] = {}
        self.answers_until = self.outcomes_until = -1
        self._packed: str | None = None

    @property
    def names(self) -> Collection[str]:
        """Names of the metrics that are kept."""
        return self._names

    @property
    def assumed(self) -> list[str]:
        """Metrics of which too few panes before the latest window tell how their events depend on each other."""
        rows = {name: self._before_latest(name) for name in self._names}
        return sorted(name for name, held in rows.items() if is_assumed(len(held), telling(name, held)))

    def _before_latest(self, name: str) -> PaneRows:
        last = self.latest(name)
        return self.usable(name, last - self._panes + 1, last)

    def __getitem__(self, metric: str) -> PaneRows:
        """The panes of a metric."""
        return self._rows.get(metric) or PaneRows.none(share=False)

    def sources(self, metric: str) -> Sequence[str]:
        """Return the metrics that tell how much the events of a metric depend on each other."""
        return [name for name in _MADE_OF.get(metric, ()) if name in self._rows] or [metric]

    def latest(self, metric: str) -> int:
        """Return the number of the latest pane that has a metric; -1 without any."""
        rows = self[metric]
        return int(rows.pane[-1]) if len(rows) else -1

    def add(self, pane: int, estimates: Mapping[str, Estimate]) -> None:
        """Take in the metrics of a pane. One that is not later than those of a metric is left out."""
        for name in sorted(self._names & estimates.keys()):
            estimate = estimates[name]
            n, value = estimate.n, estimate.value
            spread = value * (1 - value) * n if estimate.hits is not None else estimate.variance * n * (n - 1)
            self._add(name, pane, n, value, spread if n > 1 else 0.0, share=estimate.hits is not None)

    def add_latency(self, pane: int, latency: IntArray, before: IntArray) -> None:
        """Take in which part of the latencies of a pane lies above each quantile of those that came before."""
        for name, q in QUANTILES.items():
            if name in self._names and latency.sum() and before.sum():
                above, n = latencies_above(latency, latency_quantile(before, q))
                share = above / n
                self._add(name, pane, n, share, share * (1 - share) * n, share=True)

    def _add(self, name: str, pane: int, n: float, value: float, spread: float, *, share: bool) -> None:
        rows = self._rows.get(name, PaneRows.none(share=share))
        if n <= 0 or not (math.isfinite(value) and math.isfinite(spread)) or (len(rows) and pane <= rows.pane[-1]):
            return
        self._rows[name] = rows.with_pane(pane, n, value, spread).latest(self._most)
        self._packed = None

    def learned(self, metric: str, first: int, last: int, before: MetricDependence) -> MetricDependence:
        """Return the dependence of a metric, from panes before the window under test.

        Args:
            metric: Name of the metric.
            first: First pane of the window.
            last: Last pane of the window.
            before: What is supposed without panes.
        """
        found = [self._learned(name, first, last, before) for name in self.sources(metric)]
        return max(found, key=lambda each: each.phi)

    def _learned(self, name: str, first: int, last: int, before: MetricDependence) -> MetricDependence:
        rows = self.usable(name, first, last)
        found = dependence(name, rows.latest(_LEARNED), before)
        known = self._first.get(name)
        if known is None and len(rows) >= _FIRST:
            self._first[name], self._packed = found, None
        return found if known is None else found.or_larger(known)

    def usable(self, metric: str, first: int, last: int) -> PaneRows:
        """Return the panes that dependence may be learned from: what is under test must not excuse itself.

        They are those before the window from `first` to `last`, and before that of the latest calm check.
        """
        calm = self._calm.get(metric, last) - (last - first + 1)
        return self[metric].between(-1, min(calm, first - 1))

    def note_calm(self, metric: str, pane: int) -> None:
        """Take note that at a check that ended with this pane nothing seemed wrong with a metric."""
        if self._calm.get(metric, -1) != pane:
            self._calm[metric], self._packed = pane, None

    def saved(self) -> str:
        """Return what is stored of it, compressed, in base64."""
        if self._packed is None:
            arrays: dict[str, np.ndarray[Any, Any]] = {}
            for name, rows in self._rows.items():
                arrays[f"pane.{name}"] = rows.pane.astype(np.int64)
                arrays[f"n.{name}"] = rows.n.astype(np.int64)
                if rows.share:
                    arrays[f"hits.{name}"] = np.rint(rows.n * rows.value).astype(np.int64)
                else:
                    arrays[f"value.{name}"], arrays[f"spread.{name}"] = rows.value, rows.spread
            first = {name: [found.phi, found.df] for name, found in self._first.items()}
            until = [self.answers_until, self.outcomes_until]
            body = pack(
                _MAGIC, {"metrics": list(self._rows), "first": first, "until": until, "calm": self._calm}, arrays
            )
            self._packed = base64.b64encode(zstandard.ZstdCompressor().compress(body)).decode()
        return self._packed

    def restore(self, saved: str) -> None:
        """Go on with what `saved` returned; metrics that no rule names any more are left out."""
        if not saved:
            return
        body = zstandard.ZstdDecompressor().decompress(base64.b64decode(saved))
        header, arrays = unpack(_MAGIC, body)
        for name in header["metrics"]:
            if name not in self._names:
                continue
            pane, n = (arrays[f"{column}.{name}"].astype(np.float64) for column in ("pane", "n"))
            share = f"hits.{name}" in arrays
            if share:
                value = arrays[f"hits.{name}"] / n
                spread = value * (1 - value) * n
            else:
                value, spread = arrays[f"value.{name}"].copy(), arrays[f"spread.{name}"].copy()
            self._rows[name] = PaneRows(pane, n, value, spread, share).latest(self._most)
        self.answers_until, self.outcomes_until = header["until"]
        self._calm = header["calm"]
        self._first = {name: MetricDependence(*found) for name, found in header["first"].items() if name in self._names}
