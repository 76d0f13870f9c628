"""Read the columns that a reference compares from the features of predictions.

A value that does not fit the reference is missing, and is counted as mistyped; the prediction is accepted all the
same. Pure. Owned by `ReferenceSet`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.categorical import CategoryCells
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import BoolArray, FloatArray, IntArray
from monitor.events.features import FeatureTable
from monitor.events.schema import ignored_names
from monitor.names import shown_name
from monitor.spec import FeatureKind


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Compared features of some predictions, in the order of the reference.

    Attributes:
        numbers: Shape (predictions, numeric features); NaN where a value is missing.
        codes: For each categorical feature the cell of each prediction's value, -1 where it is missing.
        mistyped_at: Which predictions have a value that is missing for its type, text or a boolean, by place of the
            numeric feature; only where there are any.
    """

    numbers: FloatArray
    codes: tuple[IntArray, ...]
    mistyped_at: Mapping[int, BoolArray] = field(default_factory=dict)

    @property
    def mistyped(self) -> int:
        """Number of values that are missing for their type."""
        return sum(int(np.count_nonzero(at)) for at in self.mistyped_at.values())


class FeatureReader:
    """Reads features of one model against one profile.

    Args:
        profile: The reference.
        kinds: Configured kinds of features; ignored ones are not compared.

    Attributes:
        numeric: References of the numeric features that are compared, named as they are shown.
        categorical: References of the categorical ones.
        known: Names, as in events, of all features of the profile, and of those that are ignored.
    """

    def __init__(self, profile: Profile, kinds: Mapping[str, FeatureKind]) -> None:
        ignored = ignored_names(kinds)
        self.known = frozenset(f.name for f in profile.features) | ignored
        compared = [f for f in profile.features if f.name not in ignored]
        numeric = [f for f in compared if isinstance(f, NumericReference)]
        categorical = [f for f in compared if isinstance(f, CategoricalReference)]
        self.numeric = [replace(f, name=shown_name(f.name)) for f in numeric]
        self.categorical = [replace(f, name=shown_name(f.name)) for f in categorical]
        self._names = tuple(f.name for f in numeric)
        self._texts = tuple(f.name for f in categorical)
        self._cells = CategoryCells(self.categorical)

    @property
    def reads(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.numeric or self.categorical)

    def read(self, table: FeatureTable) -> FeatureColumns:
        """Read the compared features of some predictions."""
        numbers, mistyped_at = self._matrix(table)
        codes = tuple(
            np.fromiter(map(cells.__getitem__, table.values(name)), np.int64, len(table))
            for name, cells in zip(self._texts, self._cells.codes, strict=True)
        )
        return FeatureColumns(numbers, codes, mistyped_at)

    def _matrix(self, table: FeatureTable) -> tuple[FloatArray, dict[int, BoolArray]]:
        """Return the matrix of numeric features, and which values are of another type, by feature."""
        if table.are_numbers(self._names):
            return table.matrix(self._names), {}
        matrix = np.full((len(table), len(self._names)), np.nan)
        mistyped: dict[int, BoolArray] = {}
        for i, name in enumerate(self._names):
            if table.are_numbers((name,)):
                matrix[:, i] = table.matrix((name,))[:, 0]
                continue
            values = list(table.values(name))
            odd = np.fromiter((isinstance(value, bool | str) for value in values), np.bool_, len(values))
            if odd.any():
                mistyped[i] = odd
            matrix[:, i] = [np.nan if value is None or isinstance(value, bool | str) else value for value in values]
        return matrix, mistyped
