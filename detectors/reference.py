"""The frozen baseline of a model: what its features looked like when all was well.

A `Profile` is built once from a table or from early traffic, in batches that are read twice: first the
distributions, then (now that they are known) how much windows vary around them. It is saved without
pickle, identified by the hash of its content, and never holds raw rows, so it can be shown and shared.
Pure. Built by `monitor.reference.tables`, used by everything that compares a window with "normal".
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np

from detectors.dispersion import BlockVariance, Dispersion
from detectors.quantiles import CAPACITY, ROUNDING, QuantileSummary, distance_between, mid_block_points
from detectors.saved import DamagedError, pack, unpack
from detectors.types import BoolArray, FloatArray, IntArray

MAGIC = b"DRIFTREF"
SCHEMA = 1
POINTS = 2048  # default of `reference.points`
CATEGORIES = 100  # levels with a cell of their own; the others share "other"
DISTINCT = 10_000  # texts remembered to tell "rare" from "never seen"
DECILES = 10

Texts = Sequence[str | None]
Column = FloatArray | Texts


@dataclass(frozen=True, slots=True)
class NumericReference:
    """A numeric feature: distinct `points` with their multiplicities.

    `rows` is the number of finite values behind them and is what p-values use; `ks_error` bounds how far a
    Kolmogorov-Smirnov statistic against the points may be from the one against all rows, `w1_error` does
    the same for the Wasserstein distance (in units of the feature).
    """

    name: str
    points: FloatArray
    weights: IntArray
    rows: int
    missing: int
    ks_error: float = 0.0
    w1_error: float = 0.0
    spread: float | None = None  # standard deviation of the rows; None: not known, taken from the points
    dispersion: Dispersion = field(default_factory=Dispersion)
    missing_dispersion: Dispersion = field(default_factory=Dispersion)

    @property
    def mean(self) -> float:
        """Of the points."""
        return _mean_and_sd(self.points, self.weights)[0]

    @property
    def sd(self) -> float:
        """Of the rows; 0 where they differ by no more than rounding."""
        return _mean_and_sd(self.points, self.weights)[1] if self.spread is None else self.spread

    @property
    def outside(self) -> int:
        """At most so many rows lie beyond the outermost points: none where all values are kept."""
        return math.ceil(2 * self.ks_error * self.rows)

    @property
    def constant(self) -> bool:
        """Whether all values are the same, so that there is no scale to normalise by."""
        return self.sd == 0.0


@dataclass(frozen=True, slots=True)
class CategoricalReference:
    """A categorical feature: the frequent levels with their counts, the rest as `other`.

    `known` are all texts seen, while there are at most DISTINCT of them (`complete`); `singletons` is how
    many were seen once, which estimates how often something new is normal (Good, 1953).
    """

    name: str
    levels: tuple[str, ...]
    counts: IntArray
    other: int
    known: frozenset[str]
    complete: bool
    singletons: int
    rows: int
    missing: int
    dispersion: Dispersion = field(default_factory=Dispersion)
    missing_dispersion: Dispersion = field(default_factory=Dispersion)


Reference = NumericReference | CategoricalReference


@dataclass(frozen=True, slots=True)
class Baseline:
    """A metric's own value in the reference: `variance` is that of the estimate, of `n` rows."""

    value: float
    n: int
    variance: float


@dataclass(frozen=True, slots=True)
class Profile:
    """All features of a model, with where they came from.

    `ordered` says whether the rows were in time order, without which the dispersion is assumed, not known.
    `first_ms` and `last_ms` are the event times of the rows (None without a `time` column): they give the
    rate of events. `baselines` are metrics of a table that has predictions and actual values.
    """

    features: tuple[Reference, ...]
    rows: int
    ordered: bool
    first_ms: int | None = None
    last_ms: int | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def feature(self, name: str) -> Reference | None:
        """The reference of a feature, None if the profile has none."""
        return next((f for f in self.features if f.name == name), None)

    @property
    def content_hash(self) -> str:
        """Identifies the profile: equal content, equal hash."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """The saved form; the same profile always gives the same bytes."""
        arrays: dict[str, Any] = {}
        features: list[dict[str, Any]] = []
        for i, f in enumerate(self.features):
            common = {
                "name": f.name,
                "rows": f.rows,
                "missing": f.missing,
                "dispersion": asdict(f.dispersion),
                "missing_dispersion": asdict(f.missing_dispersion),
            }
            if isinstance(f, NumericReference):
                arrays[f"{i}.points"], arrays[f"{i}.weights"] = f.points, f.weights
                features.append(
                    {"kind": "numeric", "ks_error": f.ks_error, "w1_error": f.w1_error, "spread": f.spread, **common}
                )
            else:
                arrays[f"{i}.counts"] = f.counts
                features.append(
                    {
                        "kind": "categorical",
                        "levels": list(f.levels),
                        "other": f.other,
                        "known": sorted(f.known - set(f.levels)),
                        "complete": f.complete,
                        "singletons": f.singletons,
                        **common,
                    }
                )
        header = {
            "schema": SCHEMA,
            "features": features,
            "rows": self.rows,
            "ordered": self.ordered,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "baselines": {name: asdict(b) for name, b in sorted(self.baselines.items())},
            "notices": list(self.notices),
        }
        return pack(MAGIC, header, arrays)

    @staticmethod
    def from_bytes(blob: bytes) -> Profile:
        """The inverse of `to_bytes`.

        Raises:
            DamagedError: not a profile, damaged, or written by a newer release.
        """
        header, arrays = unpack(MAGIC, blob)
        if header["schema"] > SCHEMA:
            raise DamagedError(f"profile has schema {header['schema']}, this release knows {SCHEMA}")
        features: list[Reference] = []
        for i, f in enumerate(header["features"]):
            kind = f.pop("kind")
            spread, holes = (_dispersion(f.pop(key)) for key in ("dispersion", "missing_dispersion"))
            if kind == "numeric":
                points, weights = arrays[f"{i}.points"], arrays[f"{i}.weights"]
                features.append(
                    NumericReference(points=points, weights=weights, dispersion=spread, missing_dispersion=holes, **f)
                )
            else:
                levels = tuple(f.pop("levels"))
                known = frozenset(f.pop("known")) | set(levels)
                features.append(
                    CategoricalReference(
                        levels=levels,
                        known=known,
                        counts=arrays[f"{i}.counts"],
                        dispersion=spread,
                        missing_dispersion=holes,
                        **f,
                    )
                )
        return Profile(
            features=tuple(features),
            rows=header["rows"],
            ordered=header["ordered"],
            first_ms=header["first_ms"],
            last_ms=header["last_ms"],
            baselines={name: Baseline(**b) for name, b in header["baselines"].items()},
            notices=tuple(header["notices"]),
        )


def _dispersion(saved: dict[str, list[float]]) -> Dispersion:
    return Dispersion(tuple(int(s) for s in saved["sizes"]), tuple(saved["phi"]))


def _mean_and_sd(points: FloatArray, weights: IntArray) -> tuple[float, float]:
    if not len(points):
        return 0.0, 0.0
    # In units of the largest magnitude, so that the squares of 1e300 are finite.
    unit = float(np.abs(points).max()) or 1.0
    share = weights / weights.sum()
    scaled = points / unit
    mean = float(share @ scaled)
    sd = float(np.sqrt(share @ (scaled - mean) ** 2))
    return mean * unit, sd * unit if sd > ROUNDING else 0.0


class DistributionPass:
    """First reading: what the distributions are. `kinds` maps a feature to True where it is numeric."""

    def __init__(self, kinds: Mapping[str, bool], points: int = POINTS) -> None:
        # Many features share the memory that few may use.
        capacity = CAPACITY if len(kinds) <= 50 else CAPACITY // 4
        self._kinds = dict(kinds)
        self._points = points
        self._summaries = {name: QuantileSummary(capacity) for name, numeric in kinds.items() if numeric}
        self._counters: dict[str, Counter[str]] = {n: Counter() for n, numeric in kinds.items() if not numeric}
        self._overflow = dict.fromkeys(self._counters, 0)
        self._missing = dict.fromkeys(kinds, 0)
        self.rows = 0

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """Rows as columns: floats with NaN, or texts with None, where a value is missing."""
        self.rows += rows
        for name, numeric in self._kinds.items():
            column = columns.get(name)
            if column is None:
                self._missing[name] += rows
            elif numeric:
                values = np.asarray(column, np.float64)
                finite = values[np.isfinite(values)]
                self._missing[name] += rows - len(finite)
                self._summaries[name].add(finite)
            else:
                self._count(name, cast("Texts", column))

    def _count(self, name: str, column: Texts) -> None:
        counter = self._counters[name]
        for text, count in Counter(column).items():
            if text is None:
                self._missing[name] += count
            elif text in counter or len(counter) < DISTINCT:
                counter[text] += count
            else:
                self._overflow[name] += count

    def features(self) -> tuple[Reference, ...]:
        """References without dispersion yet, in the order of `kinds`."""
        return tuple(
            self._numeric(name) if numeric else self._categorical(name) for name, numeric in self._kinds.items()
        )

    def _numeric(self, name: str) -> NumericReference:
        summary = self._summaries[name]
        values, weights = summary.weighted()
        points, multiplicity = mid_block_points(values, weights, self._points)
        thinned = summary.rows > self._points
        return NumericReference(
            name=name,
            points=points,
            weights=multiplicity,
            rows=summary.rows,
            missing=self._missing[name],
            ks_error=1 / (2 * self._points) + summary.rank_error if thinned else 0.0,
            w1_error=distance_between(values, weights, points, multiplicity) if thinned else 0.0,
            spread=summary.sd,
        )

    def _categorical(self, name: str) -> CategoricalReference:
        counter = self._counters[name]
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        top = sorted(ranked[:CATEGORIES])
        counts = np.array([count for _, count in top], np.int64)
        rows = sum(counter.values()) + self._overflow[name]
        return CategoricalReference(
            name=name,
            levels=tuple(text for text, _ in top),
            counts=counts,
            other=rows - int(counts.sum()),
            known=frozenset(counter),
            complete=not self._overflow[name],
            singletons=sum(1 for count in counter.values() if count == 1),
            rows=rows,
            missing=self._missing[name],
        )


class DispersionPass:
    """Second reading, same rows in the same order: how much windows vary around the distributions."""

    def __init__(self, features: Iterable[Reference]) -> None:
        self._features = tuple(features)
        self._levels = [_Levels(f) for f in self._features]
        self._spread = [
            BlockVariance(levels.shares, f.rows, ordered=isinstance(f, NumericReference))
            for levels, f in zip(self._levels, self._features, strict=True)
        ]
        self._holes = [_missing_variance(f) for f in self._features]

    def add(self, columns: Mapping[str, Column], rows: int) -> None:
        """As for `DistributionPass.add`."""
        for f, levels, spread, holes in zip(self._features, self._levels, self._spread, self._holes, strict=True):
            column = columns.get(f.name)
            present, index = levels.of(column, rows)
            spread.add(index)
            holes.add((~present).astype(np.int64))

    def features(self) -> tuple[Reference, ...]:
        """The references with their dispersion."""
        done: list[Reference] = []
        for f, spread, holes in zip(self._features, self._spread, self._holes, strict=True):
            kept = {name: getattr(f, name) for name in f.__slots__}
            kept |= {"dispersion": spread.result(), "missing_dispersion": holes.result()}
            done.append(type(f)(**kept))
        return tuple(done)


def _missing_variance(f: Reference) -> BlockVariance:
    total = f.rows + f.missing
    share = f.missing / total if total else 0.0
    return BlockVariance(np.array([1 - share, share]), total, ordered=False)


class _Levels:
    """Rows of one feature as indices of the levels whose variance is learned."""

    def __init__(self, f: Reference) -> None:
        self.shares: FloatArray
        if isinstance(f, NumericReference):
            cumulative = np.cumsum(f.weights)
            total = int(cumulative[-1]) if len(cumulative) else 0
            at = np.searchsorted(cumulative, np.arange(1, DECILES) / DECILES * total)
            self._cuts = np.unique(f.points[at]) if total else np.zeros(0)
            edges = np.searchsorted(f.points, self._cuts, side="right")
            ends = np.concatenate([cumulative[edges - 1], [total]]) if total else np.ones(1)
            self.shares = np.diff(ends, prepend=0) / max(ends[-1], 1)
            self._codes: dict[str, int] | None = None
        else:
            self._codes = {text: i for i, text in enumerate(f.levels)}
            self.shares = np.append(f.counts, f.other) / max(f.rows, 1)

    def of(self, column: Column | None, rows: int) -> tuple[BoolArray, IntArray]:
        """(which rows have a value, the level of each that has)."""
        if column is None:
            return np.zeros(rows, np.bool_), np.zeros(0, np.int64)
        if self._codes is None:
            values = np.asarray(column, np.float64)
            present = np.isfinite(values)
            return present, np.searchsorted(self._cuts, values[present], side="left")
        other = len(self._codes)
        texts = [text for text in cast("Texts", column) if text is not None]
        codes = np.fromiter((self._codes.get(t, other) for t in texts), np.int64, len(texts))
        return np.fromiter((t is not None for t in column), np.bool_, rows), codes


def build_features(
    kinds: Mapping[str, bool], columns: Mapping[str, Column], rows: int, points: int = POINTS
) -> tuple[Reference, ...]:
    """References of rows that are all in memory, in time order."""
    first = DistributionPass(kinds, points)
    first.add(columns, rows)
    second = DispersionPass(first.features())
    second.add(columns, rows)
    return second.features()
