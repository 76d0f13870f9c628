"""One check: a window of a variant against its reference, all features and detectors together.

Every verdict needs three things: enough events, a p-value below the level that the false-alarm budget
leaves, and an effect that matters. Statistics and effects are computed for all features at once; p-values,
which cost more than all the rest, only where the effect is large enough to make them count. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from detectors.categorical import CategoryCells, divergence, homogeneity
from detectors.cells import NumericCells
from detectors.numeric import NumericDistances, Transport
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference
from detectors.registry import CATEGORICAL, NUMERIC
from detectors.significance import (
    BLIND_ABOVE,
    WassersteinLaw,
    chi_square_p_value,
    ks_critical,
    ks_p_value,
    least_p_value,
    pair_size,
    psi_p_value,
    rate_p_value,
)
from detectors.types import FloatArray, IntArray

CALM_EFFECT = 0.8  # of the minimum effect: below it a feature that alarmed is calm again,
CALM_LEVEL = 10.0  # or above this many times the p-value at which it alarms
_TIED_SHARE = 0.3  # a numeric feature with so much of its mass on one value is compared by levels as well
_TIED_DISTINCT = 20
_LEVEL_SHARE = 0.01
_LEVELS_SHOWN = 10


class Family(StrEnum):
    """Which alarm a finding belongs to."""

    DRIFT = "drift"
    DATA_QUALITY = "data_quality"


class Skipped(StrEnum):
    """Why a feature was not judged."""

    NO_EVENTS = "no_events"  # it was missing in all of the window
    NO_REFERENCE = "no_reference"  # it was missing in all of the reference
    BLIND = "blind"  # no statistic could reach the level with so few effective events


@dataclass(frozen=True, slots=True)
class Finding:
    """What one detector says of one feature, where it says drift.

    `value` is the statistic and `effect` what is compared with `min_effect`; `error` bounds how far the
    summary may have moved the statistic. `level` is the p-value at which the detector alarms. `p_value` is
    computed when it is asked for: that may cost more than the whole check.
    """

    family: Family
    feature: str
    statistic: str
    value: float
    effect: float
    min_effect: float
    p_value: Callable[[], float]
    level: float
    events: int
    error: float

    @property
    def weight(self) -> float:
        """How many times its minimum the effect is: what findings are ranked by."""
        return self.effect / self.min_effect if self.min_effect > 0 else np.inf


@dataclass(frozen=True, slots=True)
class Value:
    """One statistic of one feature, for the history."""

    feature: str
    statistic: str
    value: float
    events: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One evaluation: all statistics, what drifted, which of the listed features are calm."""

    values: tuple[Value, ...]
    findings: tuple[Finding, ...]
    calm: frozenset[tuple[Family, str]]
    skipped: Mapping[str, Skipped]

    def joined(self, other: CheckResult) -> CheckResult:
        """Both results as one: of comparisons of different features in the same window.

        Each comparison calls calm what it does not know, so what both call calm is.
        """
        return CheckResult(
            (*self.values, *other.values),
            (*self.findings, *other.findings),
            self.calm & other.calm,
            {**self.skipped, **other.skipped},
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both distributions of a feature in a few bins. `edges` are numbers between open bins, or the bins' names."""

    edges: tuple[float | str, ...]
    reference: tuple[int, ...]
    current: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Test:
    """A statistic of a feature with what its verdict takes. `p_value` is asked for only where it matters."""

    family: Family
    feature: str
    statistic: str
    value: float
    effect: float
    events: int
    error: float
    alarms: Callable[[float], bool]  # at a level
    p_value: Callable[[], float]


class Comparison:
    """A set of references with the detectors to run on them. `prefix` names its vectors in a pane."""

    def __init__(
        self,
        prefix: str,
        numeric: Sequence[NumericReference],
        categorical: Sequence[CategoricalReference],
        detectors: Collection[str],
        min_effect: Mapping[str, float],
    ) -> None:
        self.prefix = prefix
        self.cells = NumericCells(numeric)
        self.categories = CategoryCells(categorical)
        self._distances = NumericDistances(self.cells)
        self._law = WassersteinLaw(numeric)
        self._detectors = frozenset(detectors)
        self._min_effect = min_effect
        self._names = [*(r.name for r in numeric), *(r.name for r in categorical)]
        self._tied = [_Tied(self.cells, f) for f in range(len(numeric)) if _is_tied(numeric[f])]

    @property
    def tests(self) -> int:
        """How many tests of one check share the budget."""
        numeric = sum(name in self._detectors for name in NUMERIC) * len(self.cells)
        categorical = sum(name in self._detectors for name in CATEGORICAL)
        levels = categorical * (len(self.categories) + len(self._tied))
        return numeric + levels + len(self._names) + len(self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are compared."""
        return tuple(self._names)

    # -- panes -------------------------------------------------------------------------------------------

    def place(self, numbers: FloatArray, codes: Sequence[IntArray]) -> dict[str, Counts]:
        """The vectors that a pane gains by these events."""
        placed = self.cells.place(numbers)
        levels, level_missing = self.categories.place(codes)
        missing = np.concatenate([placed.missing, level_missing])
        return {
            f"{self.prefix}.cells": placed.counts,
            f"{self.prefix}.positions": placed.positions,
            f"{self.prefix}.levels": Counts(len(levels), None, levels),
            f"{self.prefix}.missing": Counts(len(missing), None, missing),
        }

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors of `place`."""
        return tuple(f"{self.prefix}.{name}" for name in ("cells", "positions", "levels", "missing"))

    # -- checks ------------------------------------------------------------------------------------------

    def holds(self, totals: Callable[[str], IntArray | None]) -> bool:
        """Whether a window has anything that was counted against these references."""
        return totals(self.vectors[0]) is not None

    def check(
        self,
        totals: Callable[[str], IntArray | None],
        level: float,
        listed: Collection[tuple[Family, str]] = (),
        seen: Collection[str] | None = None,
    ) -> CheckResult:
        """Judge a window. `totals` gives its vectors, `listed` are features of which to say whether they calmed.

        A feature that is missing in all of the window and is not in `seen` is a column of the reference that
        events do not have, and is not judged; None takes all for seen.
        """
        vectors = [totals(name) for name in self.vectors]
        if any(v is None for v in vectors):
            return CheckResult((), (), frozenset(), dict.fromkeys(self._names, Skipped.NO_EVENTS))
        cells, positions, levels, missing = (v for v in vectors if v is not None)
        skipped: dict[str, Skipped] = {}
        tests = [
            *self._numeric(cells, positions, missing, level, skipped),
            *self._categorical(levels, missing, skipped),
        ]
        if seen is not None:
            absent = {name for name, why in skipped.items() if why is Skipped.NO_EVENTS} - set(seen)
            tests = [t for t in tests if t.feature not in absent]
        values = tuple(Value(t.feature, t.statistic, t.value, t.events) for t in tests)
        findings = tuple(self._finding(t, level) for t in tests if self._drifted(t, level))
        restless = {
            (t.family, t.feature) for t in tests if (t.family, t.feature) in listed and not self._calm(t, level)
        }
        return CheckResult(values, findings, frozenset(listed) - restless, skipped)

    def evidence(self, feature: str, totals: Callable[[str], IntArray | None]) -> Evidence | None:
        """What the reference and a window look like, without raw values: deciles, or the frequent levels."""
        cells, _, levels, _ = (totals(name) for name in self.vectors)
        for f, r in enumerate(self.cells.references):
            if r.name == feature and cells is not None:
                edges, reference, current = self._distances.histogram(f, cells)
                return Evidence(tuple(edges.tolist()), tuple(reference.tolist()), tuple(current.tolist()))
        for f, c in enumerate(self.categories.references):
            if c.name == feature and levels is not None:
                window = levels[self.categories.starts[f] : self.categories.starts[f + 1]]
                return _level_evidence(c, window)
        return None

    def _drifted(self, test: _Test, level: float) -> bool:
        return test.effect >= self._min_effect[test.statistic] and test.alarms(level)

    def _calm(self, test: _Test, level: float) -> bool:
        return test.effect < CALM_EFFECT * self._min_effect[test.statistic] or not test.alarms(CALM_LEVEL * level)

    def _finding(self, test: _Test, level: float) -> Finding:
        return Finding(
            test.family, test.feature, test.statistic, test.value, test.effect, self._min_effect[test.statistic],
            test.p_value, level, test.events, test.error,
        )  # fmt: skip

    def _numeric(
        self, cells: IntArray, positions: IntArray, missing: IntArray, level: float, skipped: dict[str, Skipped]
    ) -> Iterator[_Test]:
        refs = self.cells.references
        window = self._distances.window(cells)
        wanted = self._detectors
        ks = self._distances.ks(window) if "ks" in wanted else None
        w1 = self._distances.wasserstein(window, positions) if "wasserstein" in wanted else None
        psi, bins = self._distances.psi(window) if "psi" in wanted else (None, None)
        tied = {t.feature: t for t in self._tied}
        for f, r in enumerate(refs):
            n = int(window.events[f])
            yield self._missing(r, int(missing[f]), n)
            if not n or not r.rows:
                skipped[r.name] = Skipped.NO_REFERENCE if n else Skipped.NO_EVENTS
                continue
            phi = r.dispersion.at(n)
            size = pair_size(n, r.rows, phi)
            least = least_p_value(n / phi, r.rows / phi)
            if ks is not None:
                d = float(ks.value[f])
                if ks_critical(level, size) > BLIND_ABOVE or least > level:
                    skipped[r.name] = Skipped.BLIND
                yield _ks_test(r.name, d, n, size, least, float(ks.error[f]))
            if w1 is not None and self.cells.sd[f] > 0:
                yield self._wasserstein(f, w1, n, phi, least)
            if psi is not None and bins is not None:
                yield _psi_test(r, float(psi.value[f]), int(bins[f]), n, phi)
            if f in tied:
                yield from self._levels(r.name, *tied[f].counts(cells), n, phi)

    def _wasserstein(self, feature: int, found: Transport, n: int, phi: float, least: float) -> _Test:
        """The law of the distance holds between the outermost points of the reference.

        Beyond them one event of a heavy tail may lie anywhere: there it counts how many do, not how far. The two
        p-values share the level.
        """
        r = self.cells.references[feature]
        inner, beyond = float(found.inner[feature]), int(found.beyond[feature])
        distance, error = float(found.value[feature]), float(found.error[feature])

        def p_value() -> float:
            within = self._law.p_value(feature, inner, pair_size(n, r.rows, phi))
            outside = rate_p_value(beyond, n, r.outside, r.rows, phi) if beyond else 1.0
            return max(min(2 * min(within, outside), 1.0), least)

        name = r.name
        return _Test(
            Family.DRIFT, name, "wasserstein", distance, distance, n, error, lambda level: p_value() <= level, p_value
        )

    def _categorical(self, levels: IntArray, missing: IntArray, skipped: dict[str, Skipped]) -> Iterator[_Test]:
        for f, r in enumerate(self.categories.references):
            window = levels[self.categories.starts[f] : self.categories.starts[f + 1]]
            n = int(window.sum())
            yield self._missing(r, int(missing[len(self.cells) + f]), n)
            if not n or not r.rows:
                skipped[r.name] = Skipped.NO_REFERENCE if n else Skipped.NO_EVENTS
                continue
            phi = r.dispersion.at(n)
            yield _unseen_test(r, int(window[-1]), n, phi)
            reference = np.append(r.counts, [r.other, 0]).astype(np.float64)
            seen = window.astype(np.float64)
            if r.other:
                # A reference with a long tail has not seen all of it: what is new is part of the tail.
                reference, seen = reference[:-1], np.append(seen[:-2], seen[-2:].sum())
            yield from self._levels(r.name, reference, seen, n, phi)

    def _levels(self, name: str, reference: FloatArray, window: FloatArray, n: int, phi: float) -> Iterator[_Test]:
        present = reference + window > 0
        reference, window = reference[present], window[present]
        if "chi_square" in self._detectors:
            h = homogeneity(reference, window)
            yield _chi_square_test(name, "chi_square", h.statistic, h.effect, h.statistic, h.df, n, phi)
        if "jensen_shannon" in self._detectors:
            d = divergence(reference, window)
            yield _chi_square_test(name, "jensen_shannon", d.distance, d.distance, d.statistic, d.df, n, phi)

    def _missing(self, r: NumericReference | CategoricalReference, missing: int, present: int) -> _Test:
        total, known = missing + present, r.rows + r.missing
        rate = missing / total if total else 0.0
        effect = abs(rate - (r.missing / known if known else 0.0))
        phi = r.missing_dispersion.at(total)

        def p_value() -> float:
            return rate_p_value(missing, total, r.missing, known, phi)

        return _Test(
            Family.DATA_QUALITY,
            r.name,
            "missing_rate",
            rate,
            effect,
            total,
            0.0,
            lambda level: p_value() <= level,
            p_value,
        )


def _ks_test(name: str, d: float, n: int, size: float, least: float, error: float) -> _Test:
    return _Test(
        Family.DRIFT, name, "ks", d, d, n, error,
        lambda level: level >= least and d >= ks_critical(level, size), lambda: max(ks_p_value(d, size), least),
    )  # fmt: skip


def _psi_test(r: NumericReference, value: float, bins: int, n: int, phi: float) -> _Test:
    def p_value() -> float:
        return psi_p_value(value, bins, n, r.rows, phi)

    return _Test(Family.DRIFT, r.name, "psi", value, value, n, 0.0, lambda level: p_value() <= level, p_value)


def _chi_square_test(
    name: str, statistic: str, value: float, effect: float, chi_square: float, df: int, n: int, phi: float
) -> _Test:
    def p_value() -> float:
        return chi_square_p_value(chi_square, df, phi)

    return _Test(Family.DRIFT, name, statistic, value, effect, n, 0.0, lambda level: p_value() <= level, p_value)


def _unseen_test(r: CategoricalReference, unseen: int, n: int, phi: float) -> _Test:
    """Texts never seen in the reference, against how many it saw only once: that is how often new ones are normal."""
    rate = unseen / n

    def p_value() -> float:
        return rate_p_value(unseen, n, r.singletons, r.rows, phi)

    return _Test(
        Family.DATA_QUALITY, r.name, "unseen_rate", rate, rate, n, 0.0, lambda level: p_value() <= level, p_value
    )


def _level_evidence(r: CategoricalReference, window: IntArray) -> Evidence:
    """Only levels common enough to identify nobody are named."""
    common = [i for i in np.argsort(-r.counts, kind="stable").tolist() if r.counts[i] >= _LEVEL_SHARE * r.rows]
    shown = sorted(common[:_LEVELS_SHOWN])
    rest = r.rows - int(r.counts[shown].sum())
    return Evidence(
        (*(r.levels[i] for i in shown), "other", "unseen"),
        (*r.counts[shown].tolist(), rest, 0),
        (*window[shown].tolist(), int(window[:-1].sum() - window[shown].sum()), int(window[-1])),
    )


def _is_tied(r: NumericReference) -> bool:
    """Whether a numeric feature is discrete, or half so: KS is then far below its level and blind to swaps."""
    if not len(r.weights) or r.rows < 2:
        return False
    share = r.weights.max() / r.weights.sum()
    return bool(share >= _TIED_SHARE or (len(r.points) <= _TIED_DISTINCT and r.rows > 5 * len(r.points)))


class _Tied:
    """The frequent values of a numeric feature as levels; all others, old and new, are one more."""

    def __init__(self, cells: NumericCells, feature: int) -> None:
        r = cells.references[feature]
        self.feature = feature
        self._cells = slice(int(cells.starts[feature]), int(cells.starts[feature + 1]))
        share = r.weights / r.weights.sum()
        frequent = np.flatnonzero(share >= _LEVEL_SHARE)
        self._group = np.full(2 * len(r.points) + 1, len(frequent))
        self._group[2 * frequent + 1] = np.arange(len(frequent))
        self._reference = np.append(share[frequent], 1 - share[frequent].sum()) * r.rows
        self._reference[self._reference < 1e-9] = 0.0

    def counts(self, cells: IntArray) -> tuple[FloatArray, FloatArray]:
        """(reference, window) counts of the levels."""
        window = np.bincount(self._group, cells[self._cells], minlength=len(self._reference))
        return self._reference, window.astype(np.float64)
