"""Read the columns that a reference compares from the features of predictions.

A value that does not fit the reference is missing, and is counted as mistyped; the prediction is accepted all the
same. Pure. Owned by `ReferenceSet`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from detectors.categorical import CategoryCells
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import FloatArray, IntArray
from monitor.events.features import FeatureTable
from monitor.events.schema import Scalar, ignored_names
from monitor.spec import FeatureKind


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Compared features of some predictions, in the order of the reference.

    Attributes:
        numbers: Shape (predictions, numeric features); NaN where a value is missing.
        codes: For each categorical feature the cell of each prediction's value, -1 where it is missing.
        mistyped: Values that count as missing for their type: text and booleans in numeric features.
    """

    numbers: FloatArray
    codes: tuple[IntArray, ...]
    mistyped: int


class FeatureReader:
    """Reads features of one model against one profile.

    Args:
        profile: The reference.
        kinds: Configured kinds of features; ignored ones are not compared.

    Attributes:
        numeric: References of the numeric features that are compared.
        categorical: References of the categorical ones.
    """

    def __init__(self, profile: Profile, kinds: Mapping[str, FeatureKind]) -> None:
        ignored = ignored_names(kinds)
        compared = [f for f in profile.features if f.name not in ignored]
        self.numeric = [f for f in compared if isinstance(f, NumericReference)]
        self.categorical = [f for f in compared if isinstance(f, CategoricalReference)]
        self._cells = CategoryCells(self.categorical)

    @property
    def reads(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.numeric or self.categorical)

    def read(self, table: FeatureTable) -> FeatureColumns:
        """Read the compared features of some predictions."""
        numbers, mistyped = self._matrix(table)
        codes = tuple(
            np.fromiter(map(cells.__getitem__, _values(table, feature.name)), np.int64, len(table))
            for feature, cells in zip(self.categorical, self._cells.codes, strict=True)
        )
        return FeatureColumns(numbers, codes, mistyped)

    def _matrix(self, table: FeatureTable) -> tuple[FloatArray, int]:
        """Return the matrix of numeric features, and how many values are of another type."""
        names = [feature.name for feature in self.numeric]
        plain = [table.number_columns[name] for name in names if name in table.number_columns]
        if len(plain) == len(names):
            return np.take(table.numbers, plain, axis=1), 0
        matrix = np.full((len(table), len(names)), np.nan)
        mistyped = 0
        for i, name in enumerate(names):
            if name in table.number_columns:
                matrix[:, i] = table.numbers[:, table.number_columns[name]]
                continue
            values = list(_values(table, name))
            mistyped += sum(isinstance(value, bool | str) for value in values)
            matrix[:, i] = [np.nan if value is None or isinstance(value, bool | str) else value for value in values]
        return matrix, mistyped


def _values(table: FeatureTable, name: str) -> Iterable[Scalar]:
    """Return the values of a feature; None where a prediction does not have it."""
    if table.mappings is not None:
        return (values.get(name) for values in table.mappings)
    if name in table.scalars:
        return table.scalars[name]
    if name in table.number_columns:
        return (None if value != value else value for value in table.numbers[:, table.number_columns[name]].tolist())
    return repeat(None, len(table))
