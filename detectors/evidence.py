"""What a person is shown of a drifted feature: two coarse histograms without raw values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.numeric import NumericDistances
from detectors.reference import CategoricalReference
from detectors.types import IntArray

_NAMED_SHARE: Final = 0.01  # a category must be at least this common to be named: rarer ones may identify a person
_CATEGORIES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold the distributions of a feature in the reference and in a window, in a few bins.

    Attributes:
        edges: For a numeric feature the edges between the bins, of which the outermost are open, in units of the
            feature. For a categorical one the names of the bins.
        reference: Rows of the reference per bin.
        current: Events of the window per bin.
    """

    edges: tuple[float | str, ...]
    reference: tuple[int, ...]
    current: tuple[int, ...]


def numeric_evidence(distances: NumericDistances, feature: int, counts: IntArray) -> Evidence:
    """Describe a numeric feature by the deciles of its reference.

    Args:
        distances: The statistics against the references.
        feature: Index of the feature among them.
        counts: Events of the window per cell of all numeric features.
    """
    edges, reference, current = distances.histogram(feature, counts)
    return Evidence(tuple(edges.tolist()), tuple(reference.tolist()), tuple(current.tolist()))


def category_evidence(r: CategoricalReference, window: IntArray) -> Evidence:
    """Describe a categorical feature by its most frequent categories, `other` and `unseen`.

    Args:
        r: The reference.
        window: Events of the window per cell of this feature.
    """
    common = [i for i in np.argsort(-r.counts, kind="stable").tolist() if r.counts[i] >= _NAMED_SHARE * r.rows]
    shown = sorted(common[:_CATEGORIES_SHOWN])
    rest = r.rows - int(r.counts[shown].sum())
    return Evidence(
        (*(r.categories[i] for i in shown), "other", "unseen"),
        (*r.counts[shown].tolist(), rest, 0),
        (*window[shown].tolist(), int(window[:-1].sum() - window[shown].sum()), int(window[-1])),
    )
