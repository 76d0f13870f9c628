"""References that are made elsewhere while the model goes on: what is asked for, and what has come back.

Making the profile of many rows takes seconds. So whoever runs a live pipeline may have it made by another process: a
`Freezing` is an effect with all that this needs. Whatever time that takes, the profile is a function of the rows, and
the model does with it what it would have done at once. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from detectors.reference import Profile
from monitor.reference.freezing import laws_request
from monitor.reference.law_windows import LawWindows

LARGE: Final = 200_000  # values of which a reference takes about as long as to begin another process, half a second


@dataclass(frozen=True, slots=True)
class Freezing:
    """A reference that is to be made.

    Attributes:
        model: Name of the model.
        subject: What it will be the reference of.
        number: Tells it from an earlier one of the same subject.
        request: Makes what `freeze` takes. It may be called in another thread, and takes a while.
        is_in_force: Whether the reference is in force, and only its laws are to be made, for which nobody waits.
    """

    model: str
    subject: str
    number: int
    request: Callable[[], bytes]
    is_in_force: bool = False


class Freezer:
    """The references of one model that are being made elsewhere.

    Attributes:
        least: Values from which on a reference is made elsewhere, None: never; smaller ones are made where needed.
        windows: Windows of which the laws are made with it.
    """

    def __init__(self, model: str) -> None:
        self.least: int | None = None
        self.windows = LawWindows()
        self._model = model
        self._asked: dict[str, int] = {}
        self._done: dict[str, Profile | None] = {}
        self._fresh: list[Freezing] = []
        self._number = 0

    @property
    def waiting(self) -> bool:
        """Whether any reference is being made."""
        return len(self._done) < len(self._asked)

    def ask(self, subject: str, values: int, request: Callable[[], Callable[[], bytes]]) -> None:
        """Ask for a reference that is complete; no effect where it was asked for, or is made where it is needed.

        Args:
            subject: Of what.
            values: How many values it is made from, about.
            request: Returns the `request` of the `Freezing`, of the rows that are there now.
        """
        if self.least is None or subject in self._asked or values < self.least:
            return
        self._number += 1
        self._asked[subject] = self._number
        self._fresh.append(Freezing(self._model, subject, self._number, _with_laws(request(), self.windows)))

    def wanted(self) -> list[Freezing]:
        """Return what was asked for since the last call."""
        fresh, self._fresh = self._fresh, []
        return [freezing for freezing in fresh if self._asked.get(freezing.subject) == freezing.number]

    def answer(self, freezing: Freezing, frozen: Profile | None) -> None:
        """Take in what was made; None where it could not be, and is to be made where it is needed."""
        if self._asked.get(freezing.subject) == freezing.number:
            self._done[freezing.subject] = frozen

    def take(self, subject: str) -> Profile | None:
        """Return what was made, and forget that it was asked for; None where it is to be made now, or never."""
        self._asked.pop(subject, None)
        return self._done.pop(subject, None)


def _with_laws(request: Callable[[], bytes], windows: LawWindows) -> Callable[[], bytes]:
    return lambda: laws_request(request(), windows)
