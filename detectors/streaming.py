"""Change detection on a stream of errors. The only file that uses river.

A detector takes errors between 0 and 1 in the order in which they became known, and reports where their mean changed
and in which direction.

The state of a detector is its latest inputs. It is rebuilt from them at fixed intervals while it runs, just as after a
restart, so both give the same results. Therefore no object of river is ever saved, a newer release of river can
continue from the same inputs, and memory is bounded. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.saved import DamagedError, pack, unpack
from detectors.types import FloatArray, IntArray

MAGIC: Final = b"DRIFTERR"
SCHEMA: Final = 1
KEPT: Final = 2048  # inputs from which a detector is rebuilt
RENEWED_AFTER: Final = 2048  # inputs after which it is
STEPS: Final = 65_535  # inputs are stored in steps of 1 / STEPS
DELTA: Final = 0.002  # confidence parameter of ADWIN; the default of river
_CHECKED_EVERY: Final = 32  # errors between two searches for a change; the default of river


@dataclass(frozen=True, slots=True)
class Change:
    """Describe a change of the mean error.

    Attributes:
        at: Index, among the errors given to `Adwin.add`, at which the change was found.
        before: Mean error before the change, 0 to 1.
        after: Mean error after it, 0 to 1.
        errors: Estimated number of errors since the change.
    """

    at: int
    before: float
    after: float
    errors: int

    @property
    def rose(self) -> bool:
        """Return whether the mean error increased."""
        return self.after > self.before


class Adwin:
    """Detect changes of the mean error by ADWIN (Bifet & Gavaldà, 2007).

    ADWIN keeps a window and cuts it where the means of its two parts differ too much. Its bound assumes independent
    inputs. For a stream with overdispersion φ (`dispersion`) the inputs are therefore means of `group` ≈ φ consecutive
    errors. Taken one by one, an AR(1) stream with coefficient 0.9 raises some ten false alarms per 10 000 errors; taken
    in groups, one per 200 000. In return a change is found later.
    """

    def __init__(self, group: int = 1) -> None:
        """Start without errors.

        Args:
            group: Number of consecutive errors whose mean is one input.

        Raises:
            ValueError: `group` is out of range.
        """
        if not 1 <= group <= STEPS:
            raise ValueError(f"group {group}: must lie between 1 and {STEPS}")
        self.group = group
        self._loose = np.zeros(0, np.int64)  # errors of an incomplete group
        self._inputs = np.zeros(KEPT + RENEWED_AFTER, np.int64)
        self._held = 0
        self._window = self._empty()

    def add(self, errors: FloatArray) -> list[Change]:
        """Add errors and find changes.

        Args:
            errors: Errors between 0 and 1 in the order in which they became known, shape (n,).

        Returns:
            The changes found, in order.

        Raises:
            ValueError: An error is not between 0 and 1. Then none was added.
        """
        if not ((errors >= 0) & (errors <= 1)).all():  # after a NaN, ADWIN would never find a change again
            raise ValueError("errors must lie between 0 and 1")
        before = len(self._loose)
        steps = np.concatenate([self._loose, np.rint(errors * STEPS).astype(np.int64)])
        full = len(steps) // self.group * self.group
        self._loose = steps[full:]
        sums = steps[:full].reshape(-1, self.group).sum(axis=1)
        changes: list[Change] = []
        for i, value in enumerate(np.rint(sums / self.group).astype(np.int64).tolist()):
            at = (i + 1) * self.group - 1 - before
            self._take(value, at, changes)
            if self._held == len(self._inputs):
                self._renew(self._inputs[self._held - KEPT :].copy(), at, changes)
        return changes

    def _take(self, value: int, at: int, changes: list[Change]) -> None:
        self._inputs[self._held] = value
        self._held += 1
        self._window.update(value / STEPS)
        if self._window.drift_detected:
            changes.append(_change(self._inputs[: self._held], at, self.group))
            # ADWIN drops all of its window with the next input, so earlier inputs are of no use either.
            self._held = 0
            self._window = self._empty()

    def _renew(self, inputs: IntArray, at: int, changes: list[Change]) -> None:
        """Rebuild from these inputs; a change that is found only now is reported now."""
        self._held = 0
        self._window = self._empty()
        for value in inputs.tolist():
            self._take(value, at, changes)

    def _empty(self) -> Any:
        # Importing river takes half a second, so only those who watch errors should pay for it.
        from river.drift import ADWIN

        checked = max(1, _CHECKED_EVERY // self.group)
        return ADWIN(delta=DELTA, clock=checked)  # type: ignore[no-untyped-call]  # river is not typed

    def to_bytes(self) -> bytes:
        """Encode the state in at most 8 KiB plus two bytes for each error of an incomplete group."""
        arrays = {"inputs": self._inputs[: self._held].astype(np.uint16), "loose": self._loose.astype(np.uint16)}
        return pack(MAGIC, {"schema": SCHEMA, "group": self.group}, arrays)

    @staticmethod
    def from_bytes(blob: bytes) -> Adwin:
        """Decode what `to_bytes` returned; the result continues exactly as the saved detector.

        Raises:
            DamagedError: The bytes are damaged or were written by a newer release.
        """
        header, arrays = unpack(MAGIC, blob)
        if header["schema"] > SCHEMA:
            raise DamagedError(f"detector has schema {header['schema']}, this release knows {SCHEMA}")
        detector = Adwin(header["group"])
        detector._loose = arrays["loose"].astype(np.int64)
        # No change was found in these inputs before. Another release of river may find one: it is not reported.
        detector._renew(arrays["inputs"].astype(np.int64), 0, [])
        return detector


def _change(inputs: IntArray, at: int, group: int) -> Change:
    """Estimate where the mean changed: the cut that leaves the least squared deviations (Hinkley, 1970)."""
    n = len(inputs)
    sums = np.cumsum(inputs).astype(np.float64)
    first = np.arange(1.0, n)
    gain = (n * sums[:-1] - first * sums[-1]) ** 2 / (first * (n - first))
    cut = int(np.argmax(gain)) + 1
    before, after = sums[cut - 1] / cut, (sums[-1] - sums[cut - 1]) / (n - cut)
    return Change(at, float(before) / STEPS, float(after) / STEPS, (n - cut) * group)
