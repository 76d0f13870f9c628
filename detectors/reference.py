"""The frozen reference of a model: the distribution of each feature while the model was healthy.

A `Profile` is what windows are compared with. It is saved without pickle, identified by a hash of its content, and
holds no raw rows, so it can be shown and shared. Pure. Built by `reference_builder`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from detectors.blocks import Blocks, restored_blocks, saved_blocks
from detectors.dependence import Dependence
from detectors.dispersion import Dispersion
from detectors.law_numbers import VERSION, LawNumbers, restored_laws, saved_laws
from detectors.quantiles import ROUNDING
from detectors.saved import DamagedError, pack, unpack
from detectors.season import Season, SeasonCounts
from detectors.types import FloatArray, IntArray, NumberArray

MAGIC = b"DRIFTREF"
SCHEMA = 2
ANSWERS: Final = ("prediction", "score")  # names of the references of a model's own answers


@dataclass(frozen=True, slots=True)
class NumericReference:
    """Describe the distribution of a numeric feature by weighted points.

    Attributes:
        name: Name of the feature.
        points: Distinct values, ascending, shape (k,), in units of the feature.
        weights: How many of the kept values are equal to each point, shape (k,).
        rows: Number of finite values behind the points; p-values use it as the sample size.
        missing: Number of rows without a finite value.
        ks_error: Bound on how far a Kolmogorov-Smirnov statistic against the points may be from the one against
            all rows.
        w1_error: The same bound for the Wasserstein distance, in units of the feature.
        spread: Standard deviation of the rows; None if it is not known and has to be taken from the points.
        dispersion: Overdispersion of the values by window size.
        missing_dispersion: Overdispersion of the missing rate by window size.
        dependence: How rows depend on each other, by directions in which windows vary; empty in older profiles.
        value_dependence: The same by value, where the feature is compared by its frequent values as well.
        seasonal: Its rows by season; dependence is then that of what the season leaves. None: not told apart.
        laws: Laws of its statistics that were made beforehand; what they are follows from all the rest.
    """

    name: str
    points: FloatArray
    weights: IntArray
    rows: int
    missing: int
    ks_error: float = 0.0
    w1_error: float = 0.0
    spread: float | None = None
    dispersion: Dispersion = field(default_factory=Dispersion)
    missing_dispersion: Dispersion = field(default_factory=Dispersion)
    dependence: Dependence = field(default_factory=Dependence)
    value_dependence: Dependence = field(default_factory=Dependence)
    seasonal: SeasonCounts | None = None
    laws: tuple[LawNumbers, ...] = field(default=(), compare=False, repr=False)

    @property
    def mean(self) -> float:
        """Return the mean of the points, in units of the feature."""
        return _mean_and_sd(self.points, self.weights)[0]

    @property
    def sd(self) -> float:
        """Return the standard deviation of the rows; 0 if they differ only by rounding errors."""
        return _mean_and_sd(self.points, self.weights)[1] if self.spread is None else self.spread

    @property
    def outside(self) -> int:
        """Bound the number of rows beyond the outermost points; 0 if the points are all values."""
        return math.ceil(2 * self.ks_error * self.rows)


@dataclass(frozen=True, slots=True)
class CategoricalReference:
    """Describe the distribution of a categorical feature by the counts of its frequent categories.

    Attributes:
        name: Name of the feature.
        categories: The frequent categories, in alphabetical order.
        counts: Rows of each of them, shape (len(categories),).
        other: Rows of all other categories together.
        known: Every category seen, up to `reference_builder.DISTINCT` of them.
        complete: Whether `known` holds all categories that were seen.
        singletons: Number of categories seen exactly once. Divided by `rows`, it estimates the probability that the
            next row is of a category never seen before (Good, 1953).
        rows: Number of rows with a value.
        missing: Number of rows without one.
        dispersion: Overdispersion of the shares of the categories by window size.
        missing_dispersion: Overdispersion of the missing rate by window size.
        dependence: How rows depend on each other, by category, the last of them `other`; empty in older profiles.
        seasonal: Its rows by season; dependence is then that of what the season leaves. None: not told apart.
    """

    name: str
    categories: tuple[str, ...]
    counts: IntArray
    other: int
    known: frozenset[str]
    complete: bool
    singletons: int
    rows: int
    missing: int
    dispersion: Dispersion = field(default_factory=Dispersion)
    missing_dispersion: Dispersion = field(default_factory=Dispersion)
    dependence: Dependence = field(default_factory=Dependence)
    seasonal: SeasonCounts | None = None


Reference = NumericReference | CategoricalReference


@dataclass(frozen=True, slots=True)
class Baseline:
    """Hold the value of a metric in the reference.

    Attributes:
        value: The estimate, in the unit of the metric.
        n: Number of rows it was computed from.
        variance: Variance of the estimate, in the squared unit of the metric.
    """

    value: float
    n: int
    variance: float


@dataclass(frozen=True, slots=True)
class Part:
    """Say what one of the profiles was that a profile was merged from.

    Attributes:
        file: Its file.
        hash: Its `content_hash`.
        rows: Number of its rows.
        first_ms: Event time of its first row, ms; None where that is not known.
        last_ms: Event time of its last row.
    """

    file: str
    hash: str
    rows: int
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Profile:
    """Hold the references of all features of a model, and of its own answers.

    Attributes:
        features: One reference per feature. A feature may have any name, also one of `ANSWERS`.
        rows: Number of rows the profile was built from.
        ordered: Whether the rows were in time order. If not, overdispersion is assumed, not measured.
        first_ms: Event time of the first row in milliseconds since the epoch; None without a `time` column.
        last_ms: Event time of the last row. Together with `first_ms` and `rows` it gives the rate of events.
        baselines: Values of metrics by name, where the rows had predictions and actual values.
        notices: What a person should know about how the profile was built.
        answers: References of the model's own answers, with names of `ANSWERS`.
        blocks: Counts of its rows by block, in the order of time: one series, or one of each part that it was merged
            from. None in profiles of earlier releases.
        parts: What it was merged from, in order; none where it was built from rows.
    """

    features: tuple[Reference, ...]
    rows: int
    ordered: bool
    first_ms: int | None = None
    last_ms: int | None = None
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    answers: tuple[Reference, ...] = ()
    blocks: tuple[Blocks, ...] = ()
    parts: tuple[Part, ...] = ()

    def feature(self, name: str) -> Reference | None:
        """Return the reference of a feature, or None if the profile has none."""
        return next((f for f in self.features if f.name == name), None)

    def answer(self, name: str) -> Reference | None:
        """Return the reference of an answer of `ANSWERS`, or None if the profile has none."""
        return next((f for f in self.answers if f.name == name), None)

    @property
    def season(self) -> Season | None:
        """Return the season by which rows are told apart; None if they are not."""
        found = (f.seasonal for f in (*self.features, *self.answers))
        return next((held.season for held in found if held is not None), None)

    @property
    def content_hash(self) -> str:
        """Return 16 hexadecimal digits that are equal for profiles of equal content.

        Laws are none: which were made beforehand depends on the windows that the reference is for.
        """
        return hashlib.sha256(self._packed(whole=False)).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """Encode the profile; equal profiles with equal laws give equal bytes, as far as libraries compress alike."""
        return self._packed(whole=True)

    def _packed(self, *, whole: bool) -> bytes:
        """Encode the profile, with its laws and blocks, or without laws and with the digest of the blocks."""
        arrays: dict[str, NumberArray] = {}
        features = [_saved_feature(i, f, arrays) for i, f in enumerate((*self.features, *self.answers))]
        # Schema 1 tells answers by their names, which serves where no feature has such a name: 0.1.0 can read it.
        told_apart = not any(f.name in ANSWERS for f in self.features)
        header = {
            "schema": 1 if told_apart else SCHEMA,
            "features": features,
            "rows": self.rows,
            "ordered": self.ordered,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "baselines": {name: asdict(b) for name, b in sorted(self.baselines.items())},
            "notices": list(self.notices),
        }
        if not told_apart:
            header["answers"] = len(self.answers)
        dependence = _saved_dependence((*self.features, *self.answers), arrays)
        if dependence:
            header["dependence"] = dependence
        seasonal = _saved_seasons((*self.features, *self.answers), arrays)
        if seasonal:
            header["seasonal"] = seasonal
        saved = _saved_laws((*self.features, *self.answers), arrays) if whole else []
        if saved:
            header["laws"] = {"version": VERSION, "features": saved}
        if self.blocks:
            header["blocks"] = saved_blocks(self.blocks, arrays, whole=whole)
        if self.parts:
            header["parts"] = [asdict(part) for part in self.parts]
        return pack(MAGIC, header, arrays)

    @staticmethod
    def from_bytes(blob: bytes) -> Profile:
        """Decode what `to_bytes` returned.

        Raises:
            DamagedError: The bytes are not a profile, are damaged, or were written by a newer release.
        """
        header, arrays = unpack(MAGIC, blob)
        if header["schema"] > SCHEMA:
            raise DamagedError(f"profile has schema {header['schema']}, this release knows {SCHEMA}")
        found = [_restored_feature(i, saved, arrays) for i, saved in enumerate(header["features"])]
        found = _with_dependence(found, header.get("dependence", {}), arrays)
        found = _with_seasons(found, header.get("seasonal", {}), arrays)
        found = _with_laws(found, header.get("laws", {}), arrays)
        features, answers = _told_apart(found, header.get("answers"))
        return Profile(
            features=features,
            rows=header["rows"],
            ordered=header["ordered"],
            first_ms=header["first_ms"],
            last_ms=header["last_ms"],
            baselines={name: Baseline(**b) for name, b in header["baselines"].items()},
            notices=tuple(header["notices"]),
            answers=answers,
            blocks=restored_blocks(header.get("blocks", ()), arrays),
            parts=tuple(Part(**part) for part in header.get("parts", ())),
        )


# The keys below are on disk since 0.1.0, so a field may be renamed but its key may not; and as the content hash is
# taken of these bytes, the order of the keys must stay as well.


def _saved_feature(index: int, f: Reference, arrays: dict[str, NumberArray]) -> dict[str, Any]:
    """Return the header entry of a feature and add its arrays to `arrays`."""
    common = {
        "name": f.name,
        "rows": f.rows,
        "missing": f.missing,
        "dispersion": asdict(f.dispersion),
        "missing_dispersion": asdict(f.missing_dispersion),
    }
    if isinstance(f, NumericReference):
        arrays[f"{index}.points"], arrays[f"{index}.weights"] = f.points, f.weights
        return {"kind": "numeric", "ks_error": f.ks_error, "w1_error": f.w1_error, "spread": f.spread, **common}
    arrays[f"{index}.counts"] = f.counts
    return {
        "kind": "categorical",
        "levels": list(f.categories),
        "other": f.other,
        "known": sorted(f.known - set(f.categories)),
        "complete": f.complete,
        "singletons": f.singletons,
        **common,
    }


def _saved_dependence(features: Sequence[Reference], arrays: dict[str, NumberArray]) -> dict[str, Any]:
    """Return what a header says of dependence, and add the arrays; a release that does not know it reads the rest."""
    saved: dict[str, Any] = {}
    for i, f in enumerate(features):
        learned = {f"{i}.dependence": f.dependence}
        if isinstance(f, NumericReference):
            learned[f"{i}.value_dependence"] = f.value_dependence
        for key, dependence in learned.items():
            if dependence.sizes:
                saved[key] = {"sizes": list(dependence.sizes), "rows": dependence.rows}
                arrays[key] = dependence.phi.astype(np.float32)
    return saved


def _with_dependence(
    features: Sequence[Reference], saved: Mapping[str, Any], arrays: Mapping[str, NumberArray]
) -> list[Reference]:
    """Return features with what was saved of their dependence."""
    learned = {
        key: Dependence(tuple(its["sizes"]), arrays[key].astype(np.float64), its["rows"]) for key, its in saved.items()
    }
    done: list[Reference] = []
    for i, f in enumerate(features):
        its = learned.get(f"{i}.dependence", f.dependence)
        if isinstance(f, NumericReference):
            of_values = learned.get(f"{i}.value_dependence", f.value_dependence)
            done.append(replace(f, dependence=its, value_dependence=of_values))
        else:
            done.append(replace(f, dependence=its))
    return done


def _saved_seasons(features: Sequence[Reference], arrays: dict[str, NumberArray]) -> dict[str, Any]:
    """Return what a header says of seasons, and add the arrays."""
    saved: dict[str, Any] = {}
    for i, f in enumerate(features):
        if f.seasonal is not None:
            saved[str(i)] = {"season": f.seasonal.season.value, "periods": f.seasonal.periods}
            arrays[f"{i}.seasonal"], arrays[f"{i}.seasonal_missing"] = f.seasonal.counts, f.seasonal.missing
    return saved


def _with_seasons(
    features: Sequence[Reference], saved: Mapping[str, Any], arrays: Mapping[str, NumberArray]
) -> list[Reference]:
    """Return features with what was saved of their seasons."""
    done = list(features)
    for key, its in saved.items():
        counts, missing = arrays[f"{key}.seasonal"], arrays[f"{key}.seasonal_missing"]
        seasonal = SeasonCounts(Season(its["season"]), counts, missing, its["periods"])
        done[int(key)] = replace(done[int(key)], seasonal=seasonal)
    return done


def _saved_laws(features: Sequence[Reference], arrays: dict[str, NumberArray]) -> list[int]:
    """Return which features have laws, and add the arrays."""
    found = []
    for i, f in enumerate(features):
        if isinstance(f, NumericReference) and f.laws:
            found.append(i)
            arrays[f"{i}.laws"], arrays[f"{i}.law_quantiles"] = saved_laws(f.laws)
    return found


def _with_laws(
    features: Sequence[Reference], saved: Mapping[str, Any], arrays: Mapping[str, NumberArray]
) -> list[Reference]:
    """Return features with the laws that were saved, if they are of the kind that is made now."""
    done = list(features)
    if saved.get("version") == VERSION:
        for i in saved["features"]:
            laws = restored_laws(arrays[f"{i}.laws"], arrays[f"{i}.law_quantiles"])
            done[i] = replace(done[i], laws=laws)
    return done


def _restored_feature(index: int, saved: dict[str, Any], arrays: Mapping[str, NumberArray]) -> Reference:
    kind = saved.pop("kind")
    dispersion, missing_dispersion = (_dispersion(saved.pop(key)) for key in ("dispersion", "missing_dispersion"))
    if kind == "numeric":
        return NumericReference(
            points=arrays[f"{index}.points"],
            weights=arrays[f"{index}.weights"],
            dispersion=dispersion,
            missing_dispersion=missing_dispersion,
            **saved,
        )
    categories = tuple(saved.pop("levels"))
    return CategoricalReference(
        categories=categories,
        known=frozenset(saved.pop("known")) | set(categories),
        counts=arrays[f"{index}.counts"],
        dispersion=dispersion,
        missing_dispersion=missing_dispersion,
        **saved,
    )


def _told_apart(found: Sequence[Reference], answers: int | None) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
    """Return features and answers: the last `answers` of what was saved, or those with such names in schema 1."""
    if answers is None:
        return tuple(f for f in found if f.name not in ANSWERS), tuple(f for f in found if f.name in ANSWERS)
    first = len(found) - answers
    return tuple(found[:first]), tuple(found[first:])


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
