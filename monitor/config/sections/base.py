"""What all sections share: value types, the refusal of unknown keys, and errors of checks.

Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from monitor.config import units
from monitor.spec import BudgetSpec

Duration = Annotated[int, BeforeValidator(units.duration_ms)]
Share = Annotated[float, BeforeValidator(units.share)]
Budget = Annotated[BudgetSpec, BeforeValidator(units.budget)]
LimitValue = Annotated[units.Limit, BeforeValidator(units.limit)]
Points = Annotated[units.Limit, BeforeValidator(units.points)]
Dwell = Annotated[tuple[int, int], BeforeValidator(units.dwell)]
Count = Annotated[int, BeforeValidator(units.whole)]
Number = Annotated[float, BeforeValidator(units.number)]
Text = Annotated[str, BeforeValidator(units.text)]
Scalar = Annotated[units.Scalar, BeforeValidator(units.label)]
Name = Annotated[str, BeforeValidator(units.text), Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Topic = Annotated[str, BeforeValidator(units.text), Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]

HOUR: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """An error found by a check of several keys.

    Attributes:
        path: Key, relative to the section that was checked.
        got: The value found; None where it is not shown.
        hint: What is accepted instead.
    """

    path: str
    got: object
    hint: str


class Misfits(ValueError):
    """All errors found by a check of several keys."""

    def __init__(self, found: list[ConfigIssue]) -> None:
        self.found = found
        super().__init__("; ".join(f"{misfit.path}: {misfit.hint}" for misfit in found))


def raise_if_any(found: Iterable[ConfigIssue]) -> None:
    misfits = list(found)
    if misfits:
        raise Misfits(misfits)


def among(name: str, names: Iterable[str]) -> str:
    """Return the hint for a name that is not one of `names`."""
    known = list(names)
    nearest = difflib.get_close_matches(name, known, 1)
    return f"did you mean {nearest[0]}?" if nearest else f"one of {', '.join(known)} is needed"


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
