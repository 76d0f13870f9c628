"""References and windows of plain arrays, for the tests of the detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from scipy.signal import lfilter

from detectors.categorical import CategoryCells
from detectors.cells import NumericCells
from detectors.comparison import Comparison
from detectors.numeric import BinnedWindow, NumericDistances
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference
from detectors.reference_builder import POINTS, Texts, build_features
from detectors.types import FloatArray, IntArray

NAN = float("nan")

# Small whole numbers tie; the others rarely do, and lie far apart or close together, but never within the tolerance in
# which they count as equal: six digits.
values = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.6g}") if abs(x) > 1e-300 else 0.0),
    st.floats(0, 1).map(lambda x: float(f"{x:.6g}") if x > 1e-300 else 0.0),  # or digits are lost with the unit
)
samples = st.lists(values, min_size=1, max_size=60).map(lambda found: np.array(found, np.float64))


def a_number(values: Sequence[float] | FloatArray, name: str = "x", points: int = POINTS) -> NumericReference:
    """The reference of a numeric feature; NaN is missing."""
    column = np.asarray(values, np.float64)
    (reference,) = build_features({name: True}, {name: column}, len(column), points)
    assert isinstance(reference, NumericReference)
    return reference


def a_category(texts: Texts, name: str = "c") -> CategoricalReference:
    """The reference of a categorical feature; None is missing."""
    (reference,) = build_features({name: False}, {name: texts}, len(texts))
    assert isinstance(reference, CategoricalReference)
    return reference


@dataclass(frozen=True)
class BinnedSample:
    """A window of numeric features as its detectors see it."""

    cells: NumericCells
    counts: IntArray
    positions: IntArray
    missing: IntArray

    @property
    def distances(self) -> NumericDistances:
        """The statistics against the references of the window."""
        return NumericDistances(self.cells)

    @property
    def window(self) -> BinnedWindow:
        """Its counts with their running sums."""
        return self.distances.window(self.counts)

    def ks(self, feature: int = 0) -> float:
        """Kolmogorov-Smirnov of a feature."""
        return float(self.distances.ks(self.window).value[feature])

    def wasserstein(self, feature: int = 0) -> tuple[float, float]:
        """(Wasserstein distance, its error) in the unit of the feature."""
        found, sd = self.distances.wasserstein(self.window, self.positions), self.cells.sd[feature]
        return float(found.value[feature] * sd), float(found.error[feature] * sd)

    def psi(self, feature: int = 0) -> float:
        """Population stability index of a feature."""
        return float(self.distances.psi(self.window)[0].value[feature])


def binned(
    references: NumericReference | Sequence[NumericReference], *columns: Sequence[float] | FloatArray
) -> BinnedSample:
    """A window with these columns against these references."""
    refs = [references] if isinstance(references, NumericReference) else list(references)
    cells = NumericCells(refs)
    found = cells.bin_counts(np.column_stack([np.asarray(column, np.float64) for column in columns]))
    return BinnedSample(cells, found.counts.dense(), found.positions.dense(), found.missing)


def coded(reference: CategoricalReference, texts: Texts) -> IntArray:
    """The cells of texts."""
    (codes,) = CategoryCells([reference]).codes
    return np.array([codes[text] for text in texts], np.int64)


def totals_of(*panes: Mapping[str, Counts]) -> Callable[[str], IntArray | None]:
    """What a window of these panes gives to a check."""

    def total(name: str) -> IntArray | None:
        found = [pane[name].dense() for pane in panes if name in pane]
        return np.sum(found, axis=0) if found else None

    return total


def pane_of(comparison: Comparison, numbers: FloatArray, codes: Sequence[IntArray] = ()) -> dict[str, Counts]:
    """A pane of these events."""
    return comparison.bin_counts(numbers, codes)


def autoregressive(rows: int, rho: float, rng: np.random.Generator, features: int = 1) -> FloatArray:
    """(rows, features) of independent stationary AR(1) series, each standard normal at any one time."""
    noise = rng.standard_normal((rows, features)) * np.sqrt(1 - rho**2)
    noise[0] = rng.standard_normal(features)
    result: FloatArray = lfilter([1.0], [1.0, -rho], noise, axis=0)
    return result
