"""What is read of the columns of a table, by the names under which features and answers are told apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import numpy as np

from detectors.categorical import text_of
from detectors.reference_builder import Column
from detectors.types import FloatArray
from monitor.events.codes import Labels
from monitor.events.readings import LabelCode, probabilities_in
from monitor.events.schema import Scalar
from monitor.names import shown_name
from monitor.reference.learning import numbers_of
from monitor.reference.table_roles import Role, TableSpec
from monitor.spec import AnswerReading, FeatureKind, Task

MOST_LABELS: Final = 100_000


def is_missing(value: Scalar) -> bool:
    """Return whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and value != value)


class TableColumns:
    """What is read of the columns of a table, by the names under which features and answers are told apart.

    Args:
        columns: Whether each column is numeric; None is neither a number nor a text.
        spec: How to read it.

    Attributes:
        kinds: Whether each feature or answer is numeric, by `shown_name` of a feature or by the name of an answer.
    """

    def __init__(self, columns: Mapping[str, bool | None], spec: TableSpec) -> None:
        self._spec = spec
        self._column: dict[str, str] = {}
        self.kinds: dict[str, bool] = {}
        role_of = {name: role for role, name in spec.roles.items()}
        for name, numeric in columns.items():
            role = role_of.get(name)
            if numeric is None or role in (Role.ACTUAL, Role.TIME):
                continue
            shown = shown_name(name) if role is None else role.value
            kind = (spec.kinds or {}).get(shown)
            if kind is not FeatureKind.IGNORE:
                self._column[shown] = name
                self.kinds[shown] = numeric if kind is None else kind is FeatureKind.NUMERIC
        if Role.PREDICTION in self.kinds and spec.task is not None:
            self.kinds[Role.PREDICTION] = spec.task is Task.REGRESSION
        if Role.SCORE in self.kinds:
            self.kinds[Role.SCORE] = True

    def only(self, names: Iterable[str]) -> TableColumns:
        """Return what is read of some of the features and answers."""
        found = copy(self)
        found.kinds = {name: self.kinds[name] for name in names}
        return found

    @property
    def needed(self) -> list[str]:
        """Return the columns of the table that it reads."""
        return [self._column[name] for name in self.kinds]

    def of(self, columns: Mapping[str, Any]) -> dict[str, Column]:
        """Return the values of a batch, by the names of `kinds`."""
        spec, found = self._spec, dict[str, Column]()
        for name, numeric in self.kinds.items():
            column = columns.get(self._column[name])
            if column is None:
                continue
            if numeric:
                found[name] = column if isinstance(column, np.ndarray) else numbers_of(column)
            elif name == Role.PREDICTION and spec.task is Task.BINARY:
                labels = Labels("", MOST_LABELS, binary=True, positive=spec.positive)
                found[name] = _binary_labels(column, labels, spec)
            else:
                found[name] = [None if is_missing(v) else text_of(v) for v in column]
        return found


def _binary_labels(column: Sequence[Scalar], labels: Labels, spec: TableSpec) -> list[str | None]:
    """Return labels, and the labels of probabilities, in the form that predictions of the stream have."""
    numbers, doubts = possible_probabilities(column, spec), spec.answers is AnswerReading.AUTO
    codes, _ = labels.readings.take(numbers, spec.threshold, doubts=doubts)
    taken = zip(column, codes.tolist(), strict=True)
    return [
        None if is_missing(v) else labels.text(labels.code(v) if code != code else LabelCode(int(code)))
        for v, code in taken
    ]


def possible_probabilities(column: Sequence[Scalar], spec: TableSpec) -> FloatArray:
    """Return the predictions of a binary task that are probabilities, or may be; NaN for labels."""
    return np.full(len(column), np.nan) if spec.answers is AnswerReading.LABEL else probabilities_in(column)
