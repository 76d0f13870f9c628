"""Columns of a table that number or name its rows: they are no features, and nobody misses them in events. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.reference import CategoricalReference, NumericReference

_NAMES: Final = frozenset({"id", "index", "row", "rowid", "rownumber", "requestid", "uuid", "guid", "unnamed0"})
_NEAR: Final = 0.02  # relative: the outermost points of a reference need not be its outermost values


def is_identifier(reference: NumericReference | CategoricalReference) -> bool:
    """Tell whether a column identifies rows: by its name, or since each row has another number or text."""
    if "".join(filter(str.isalnum, reference.name.casefold())) in _NAMES:
        return True
    if isinstance(reference, CategoricalReference):
        return reference.rows > 1 and reference.singletons == reference.rows
    points = reference.points
    if len(points) < 2 or reference.rows < 2 or not (points == np.floor(points)).all():
        return False
    # As many whole numbers as rows, evenly spread: 0, 1, 2, … in any order.
    span = float(points[-1] - points[0]) + 1
    even = np.quantile(points, [0.25, 0.5, 0.75]) - points[0]
    return bool(abs(span / reference.rows - 1) <= _NEAR and np.allclose(even / span, [0.25, 0.5, 0.75], atol=_NEAR))
