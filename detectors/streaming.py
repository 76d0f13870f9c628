"""Changes in a stream of errors. The one file that knows river.

A detector takes errors between 0 and 1 in the order in which they became known and says where their level
changed, and in which direction: one that fell is good news, and whoever asks must be able to tell.

What a detector holds is what it has been told: it is built again from its latest inputs every so many of
them, while it runs as well as after a restart, so the one cannot be told from the other. So nothing of river
is ever saved, a newer release of it starts from the same inputs, and memory is bounded. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.saved import DamagedError, pack, unpack
from detectors.types import FloatArray, IntArray

MAGIC: Final = b"DRIFTERR"
SCHEMA: Final = 1
KEPT: Final = 2048  # inputs that a detector is built again from,
RENEWED_AFTER: Final = 2048  # after so many more
STEPS: Final = 65_535  # inputs are kept in steps of 1 / STEPS
DELTA: Final = 0.002  # of ADWIN: what river takes by default
_CHECKED_EVERY: Final = 32  # errors


@dataclass(frozen=True, slots=True)
class Change:
    """The level changed: found at error `at` of those given, from a mean of `before` to one of `after`.

    `errors` is how many belong to the new level, by the split of the window that explains most of its variance.
    """

    at: int
    before: float
    after: float
    errors: int

    @property
    def rose(self) -> bool:
        """Whether there are more errors than before."""
        return self.after > self.before


class Adwin:
    """ADWIN (Bifet & Gavaldà, 2007): a window that is cut where the means of its two parts differ too much.

    Its bound assumes independent inputs. For a stream with overdispersion φ (`dispersion`) its inputs are the
    means of `group` ≈ φ consecutive errors: an AR(1) stream with coefficient 0.9 raises some ten false alarms per
    10 000 errors one by one, and one in 200 000 so. The price is a change that is seen later.
    """

    def __init__(self, group: int = 1) -> None:
        if not 1 <= group <= STEPS:
            raise ValueError(f"group {group}: must lie between 1 and {STEPS}")
        self.group = group
        self._loose = np.zeros(0, np.int64)  # errors of a group that is not complete
        self._inputs = np.zeros(KEPT + RENEWED_AFTER, np.int64)
        self._held = 0
        self._window = self._empty()

    def add(self, errors: FloatArray) -> list[Change]:
        """Take errors in, in order. -> the changes found, in order.

        Raises:
            ValueError: an error is not between 0 and 1. Nothing was taken in.
        """
        if not ((errors >= 0) & (errors <= 1)).all():  # a NaN would silence ADWIN for ever
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
            # ADWIN forgets all of its window with the next input; so what was told before is of no use.
            self._held = 0
            self._window = self._empty()

    def _renew(self, inputs: IntArray, at: int, changes: list[Change]) -> None:
        """Begin again with these inputs. A change that is only seen now is told now."""
        self._held = 0
        self._window = self._empty()
        for value in inputs.tolist():
            self._take(value, at, changes)

    def _empty(self) -> Any:
        # Importing river takes half a second, which only those pay who watch errors.
        from river.drift import ADWIN

        checked = max(1, _CHECKED_EVERY // self.group)
        return ADWIN(delta=DELTA, clock=checked)  # type: ignore[no-untyped-call]  # river is not typed

    def to_bytes(self) -> bytes:
        """All there is to know: at most 8 KiB, and two bytes for each error of an incomplete group."""
        arrays = {"inputs": self._inputs[: self._held].astype(np.uint16), "loose": self._loose.astype(np.uint16)}
        return pack(MAGIC, {"schema": SCHEMA, "group": self.group}, arrays)

    @staticmethod
    def from_bytes(blob: bytes) -> Adwin:
        """The inverse of `to_bytes`: goes on exactly as the one that was saved.

        Raises:
            DamagedError: damaged, or written by a newer release.
        """
        header, arrays = unpack(MAGIC, blob)
        if header["schema"] > SCHEMA:
            raise DamagedError(f"detector has schema {header['schema']}, this release knows {SCHEMA}")
        detector = Adwin(header["group"])
        detector._loose = arrays["loose"].astype(np.int64)
        # These inputs have been found to hold no change. Another release of river may see one: it is old news.
        detector._renew(arrays["inputs"].astype(np.int64), 0, [])
        return detector


def _change(inputs: IntArray, at: int, group: int) -> Change:
    """Cut where the two parts differ most: least squares, the estimate of Hinkley (1970) for a change in mean."""
    n = len(inputs)
    sums = np.cumsum(inputs).astype(np.float64)
    first = np.arange(1.0, n)
    gain = (n * sums[:-1] - first * sums[-1]) ** 2 / (first * (n - first))
    cut = int(np.argmax(gain)) + 1
    before, after = sums[cut - 1] / cut, (sums[-1] - sums[cut - 1]) / (n - cut)
    return Change(at, float(before) / STEPS, float(after) / STEPS, (n - cut) * group)
