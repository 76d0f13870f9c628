"""What is kept of the null law of a numeric feature, so that its paths need not be simulated again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.types import FloatArray, NumberArray

VERSION: Final = 1  # of how laws are made: those that another version made are not taken
_SCALARS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class LawNumbers:
    """Hold the numbers of a `BridgeLaw`.

    Attributes:
        phi: φ of each direction for which it was made.
        largest: Largest standard deviation of a path.
        widest: Largest standard deviation of an area between a path and 0, sides of it reversed or not.
        lump: How much of the variance of that area one event carries, where events come in clusters.
        skew: How far a deviation of one event lies beyond the variance where that is largest.
        apart: How many times as often the smaller of both p-values is small.
        ks: Quantiles of Kolmogorov-Smirnov; of four bytes each, widened.
        w1: Quantiles of Wasserstein; the same.
    """

    phi: tuple[float, ...]
    largest: float
    widest: float
    lump: float
    skew: float
    apart: float
    ks: FloatArray
    w1: FloatArray


def saved_laws(laws: Sequence[LawNumbers]) -> tuple[NumberArray, NumberArray]:
    """Return the numbers of laws of one feature, what takes eight bytes and what takes four; shapes (laws, …)."""
    scalars = [[*law.phi, law.largest, law.widest, law.lump, law.skew, law.apart] for law in laws]
    quantiles = [np.concatenate([law.ks, law.w1]) for law in laws]
    return np.array(scalars, np.float64), np.array(quantiles, np.float32)


def restored_laws(scalars: Any, quantiles: Any) -> tuple[LawNumbers, ...]:
    """Return the laws of which these are the numbers."""
    found = []
    for row, both in zip(scalars.tolist(), quantiles.astype(np.float64), strict=True):
        largest, widest, lump, skew, apart = row[-_SCALARS:]
        found.append(LawNumbers(tuple(row[:-_SCALARS]), largest, widest, lump, skew, apart, *np.split(both, 2)))
    return tuple(found)
