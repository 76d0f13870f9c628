"""Read the columns that a reference compares from the features of predictions.

A value that does not fit the reference is missing, and is counted as mistyped; the prediction is accepted all the
same. Pure. Owned by `ReferenceSet`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from detectors.categorical import CategoryCells
from detectors.reference import CategoricalReference, NumericReference, Profile
from detectors.types import FloatArray, IntArray
from monitor.events.features import FeatureRows, FieldKind, RowLayout
from monitor.events.schema import ignored_names
from monitor.spec import FeatureKind

_Getter = Callable[[Any], Any]


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read rows of one layout.

    Attributes:
        columns: Numeric features whose values are all numbers or None in this layout, as columns of the matrix.
        numbers: Reads all of these at once from a row; None where there are none.
        checked: Other numeric features: column, and how to read it.
        categories: How to read each categorical feature; None for a feature that the layout does not have.
    """

    columns: IntArray
    numbers: _Getter | None
    checked: Sequence[tuple[int, _Getter]]
    categories: Sequence[_Getter | None]


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
        self._planned: tuple[RowLayout | None, _Plan] | None = None

    @property
    def reads(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.numeric or self.categorical)

    def read(self, rows: FeatureRows) -> FeatureColumns:
        """Read the columns of some predictions."""
        plan = self._plan(rows.layout)
        numbers, mistyped = self._matrix(rows.values, plan)
        codes = [
            np.full(len(rows), -1)
            if get is None
            else np.fromiter(map(cells.__getitem__, map(get, rows.values)), np.int64)
            for get, cells in zip(plan.categories, self._cells.codes, strict=True)
        ]
        return FeatureColumns(numbers, tuple(codes), mistyped)

    def _plan(self, layout: RowLayout | None) -> _Plan:
        if self._planned is None or self._planned[0] is not layout:
            self._planned = layout, self._made_plan(layout)
        return self._planned[1]

    def _made_plan(self, layout: RowLayout | None) -> _Plan:
        if layout is None:
            by_name = [methodcaller("get", f.name) for f in self.numeric]
            texts = [methodcaller("get", f.name) for f in self.categorical]
            return _Plan(np.zeros(0, np.int64), None, list(enumerate(by_name)), texts)
        of_kind: dict[FieldKind, list[tuple[int, str]]] = {kind: [] for kind in FieldKind}
        for column, feature in enumerate(self.numeric):
            if feature.name in layout.kinds:
                of_kind[layout.kinds[feature.name]].append((column, layout.fields[feature.name]))
        plain = of_kind[FieldKind.NUMBER]
        return _Plan(
            np.array([column for column, _ in plain], np.int64),
            attrgetter(*(field for _, field in plain)) if plain else None,
            [(column, attrgetter(field)) for column, field in of_kind[FieldKind.SCALAR]],
            [attrgetter(layout.fields[f.name]) if f.name in layout.fields else None for f in self.categorical],
        )

    def _matrix(self, rows: Sequence[Any], plan: _Plan) -> tuple[FloatArray, int]:
        """Return the matrix of numeric features, and how many values are of another type."""
        width = len(self.numeric)
        if plan.numbers is not None and len(plan.columns) == width:
            return _numbers(plan.numbers, rows, width), 0
        matrix = np.full((len(rows), width), np.nan)
        if plan.numbers is not None:
            matrix[:, plan.columns] = _numbers(plan.numbers, rows, len(plan.columns))
        mistyped = 0
        for column, get in plan.checked:
            values = list(map(get, rows))
            wrong = sum(isinstance(value, bool | str) for value in values)
            if wrong:
                values = [None if isinstance(value, bool | str) else value for value in values]
            matrix[:, column] = np.array(values, np.float64)
            mistyped += wrong
        return matrix, mistyped


def _numbers(get: _Getter, rows: Sequence[Any], width: int) -> FloatArray:
    """Read numbers, NaN for None, from rows. `get` gives a tuple of `width`, or the number itself where that is 1."""
    if width == 1:
        return np.array(list(map(get, rows)), np.float64).reshape(-1, 1)
    picked = map(get, rows)
    try:
        return np.fromiter(chain.from_iterable(picked), np.float64, len(rows) * width).reshape(-1, width)
    except TypeError:  # None somewhere, which `np.array` reads as NaN, at twice the price
        return np.array(list(map(get, rows)), np.float64).reshape(-1, width)
