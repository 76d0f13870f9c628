"""Laws of references in force that lack them, made elsewhere: of those from a file, a store, or the loop itself.

A law that is not there when it is needed is made then, with the same numbers, so nobody waits for these. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from detectors.comparison import Comparison
from detectors.reference import Profile
from monitor.reference.active import ReferenceSet
from monitor.reference.freezer import Freezing
from monitor.reference.freezing import laws_request
from monitor.reference.law_windows import LawWindows
from monitor.reference.subjects import FEATURES, answers_of

_FEWEST: Final = 20  # features whose laws take about as long as to begin another process


@dataclass(slots=True)
class _Asked:
    """A comparison of which the laws were asked for, and the number of the request."""

    comparison: Comparison
    number: int


class LawRequests:
    """The laws of one model that are being made elsewhere."""

    def __init__(self, model: str, windows: LawWindows) -> None:
        """Start without requests; `windows` are those that the laws are for."""
        self._model, self._windows = model, windows
        self._asked: dict[str, _Asked] = {}
        self._number = 0

    def wanted(self, references: ReferenceSet) -> Iterator[Freezing]:
        """Yield requests for the laws of references that are in force since the last call."""
        in_force = {answers_of(version): comparison for version, comparison in references.answers.items()}
        if references.features is not None:
            in_force[FEATURES] = references.features
        for subject, comparison in in_force.items():
            asked = self._asked.get(subject)
            if asked is not None and asked.comparison is comparison:
                continue
            self._number += 1
            self._asked[subject] = _Asked(comparison, self._number)
            if comparison.lacks_laws and len(comparison.numeric_cells) >= _FEWEST:
                yield Freezing(self._model, subject, self._number, self._request(comparison, references.profile), True)
        for subject in self._asked.keys() - in_force.keys():
            del self._asked[subject]

    def answer(self, freezing: Freezing, made: Profile | None) -> None:
        """Take in what was made, if the reference is still in force; None where it could not be."""
        asked = self._asked.get(freezing.subject)
        if made is not None and asked is not None and asked.number == freezing.number:
            asked.comparison.learn_laws(made.features)

    def _request(self, comparison: Comparison, profile: Profile | None) -> Callable[[], bytes]:
        known = Profile((), 0, ordered=True) if profile is None else profile
        of = Profile(
            comparison.numeric_cells.references, known.rows, known.ordered, known.first_ms, known.last_ms
        )  # fmt: skip
        return lambda: laws_request(of, self._windows)
