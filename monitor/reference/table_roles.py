"""Which columns of a table are the answers, the actual values and the times; all others are features. Pure.

A column has the role of its name, unless the configuration says otherwise: names of ours may be features of the user.
Where nothing is said and a column could be either, the reader of the notices is told what it was taken for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from detectors.season import Season
from monitor.names import feature_of, shown_name
from monitor.spec import AnswerReading, FeatureKind, Task


class Role(StrEnum):
    """What a column is that is no feature."""

    PREDICTION = "prediction"
    SCORE = "score"
    ACTUAL = "actual"
    TIME = "time"


_DOUBTFUL: Final = (Role.PREDICTION, Role.SCORE, Role.ACTUAL)  # a time tells itself
_MOST_NAMES: Final = 20


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How to read a table.

    Attributes:
        task: Task of the predictions; None: they are compared as what they are.
        positive: Positive class of a binary task.
        threshold: Probability at which a binary prediction becomes positive.
        kinds: Kind of features whose type would mislead, by `shown_name`.
        points: Number of points that summarise the distribution of a numeric feature.
        columns: Column of a `Role`, None where no column has it; a role that is not here has the column of its name.
        answers: What the numbers 0 and 1 are as predictions of a binary task.
        season: What repeats itself, by which rows are told apart; None: nothing.
    """

    task: Task | None = None
    positive: str | None = None
    threshold: float = 0.5
    kinds: Mapping[str, FeatureKind] | None = None
    points: int = 2_048
    columns: Mapping[str, str | None] | None = None
    answers: AnswerReading = AnswerReading.AUTO
    season: Season | None = None

    @property
    def roles(self) -> dict[Role, str]:
        """Return the column of each role that a column may have, whether the table has it or not."""
        given = self.columns or {}
        found: dict[Role, str] = {}
        for role in Role:
            name = given.get(role, role.value)
            if role not in given:
                feature = self._declares(role)
                scoreless = role is Role.SCORE and self.task is Task.REGRESSION
                if feature or scoreless or role in given.values():
                    continue
            if name is not None:
                found[role] = name
        return found

    def _declares(self, feature: str) -> bool:
        kind = (self.kinds or {}).get(shown_name(feature))
        return kind is not None and kind is not FeatureKind.IGNORE

    @property
    def kinds_of_columns(self) -> dict[str, FeatureKind]:
        """Return the kinds that are configured, by column: of features, and of the answers under their names."""
        roles = {role.value: name for role, name in self.roles.items()}
        found: dict[str, FeatureKind] = {}
        for shown, kind in (self.kinds or {}).items():
            feature = feature_of(shown)
            if feature is None and shown in roles:
                found[roles[shown]] = kind
            elif feature is not None and feature not in roles.values():
                found[feature] = kind
        return found


def fault_of(columns: Mapping[str, bool | None], spec: TableSpec) -> str | None:
    """Return why a table is not as it is said to be, in words; None if it is.

    Args:
        columns: Whether each column is numeric; None is neither a number nor a text.
        spec: How to read it.
    """
    roles = spec.roles
    for role, name in (spec.columns or {}).items():
        twin = next((other for other in roles if other != role and roles[other] == name), None)
        if name is not None and twin is not None:
            return f"column {name!r} is named for the {twin} and for the {role}: name another column for one of them"
        if name is not None and name not in columns:
            return f"has no column {name!r}, named for the {role} ({_where(role)}); it has {_some(columns)}"
        if name is not None and columns[name] is None and role != Role.TIME:
            return f"column {name!r}, named for the {role} ({_where(role)}), is neither a number nor a text"
    return None


def notices_of(columns: Collection[str], spec: TableSpec) -> Iterator[str]:
    """Yield what columns were taken for that could be something else as well: it was not configured."""
    given, roles = spec.columns or {}, spec.roles
    taken = [role for role in _DOUBTFUL if role in columns and roles.get(role) == role and role not in given]
    if taken:
        yield (
            f"{', '.join(taken)}: taken for the model's answers and the actual values, not for features; name their "
            f"columns in `reference.columns`, with null for what is a feature, as in {{{taken[-1]}: null}}"
        )
    score = Role.SCORE
    said = score in given or shown_name(score) in (spec.kinds or {}) or score in roles.values()
    if score in columns and spec.task is Task.REGRESSION and not said:
        yield f"{score}: taken for a feature, since a regression has no scores"


def _where(role: str) -> str:
    return f"reference.columns.{role}, --{role}"


def _some(columns: Collection[str]) -> str:
    names = list(columns)
    more = len(names) - _MOST_NAMES
    return ", ".join(map(repr, names[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")
