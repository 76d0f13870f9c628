"""The same changes by detectors of other libraries, at a measured run length equal to driftd's.

Each watches the twenty features one by one; a model's false alarm is one of any of them. The parameter of each is set
so that null streams give as many false alarms as driftd gives with a loose budget, which can be measured for all: runs
are measured at some parameters, and the logarithm of the run is taken as linear in that of the parameter between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from river.drift import ADWIN, KSWIN
from scipy import stats

from detectors.types import FloatArray
from tests.simulation.delay import CHANGES, Change, delays
from tests.simulation.families import Marginal
from tests.simulation.figures import Figure, Verdict
from tests.simulation.monitored import PANE, WINDOW
from tests.simulation.rates import MANY, Group, Model, Row, run
from tests.simulation.settings import drift_alone

_PROMISED: Final = 1e-2  # alarms per check, one in 10 000 events
_BEFORE: Final = 10_000  # events before a change: the reference, or what a detector has seen
_LONGEST: Final = 5_000  # events after it
_CHANGES: Final = tuple(change for change in CHANGES if change.marginal is Marginal.NORMAL)
Positions = Callable[[FloatArray, float], list[int]]


@dataclass(frozen=True, slots=True)
class Rival:
    """A detector: where it alarms in a series, for a parameter, and how it is measured.

    Attributes:
        name: What it is called.
        positions: Rows of the alarms in a series; the first `_BEFORE` rows are the reference of those that need one.
        parameters: Those at which its run is measured.
        events: Events of each null stream.
        streams: Streams of each change.
    """

    name: str
    positions: Positions
    parameters: tuple[float, ...]
    events: int
    streams: int


def _adwin(values: FloatArray, delta: float) -> list[int]:
    return _alarms(ADWIN(delta=delta), values, 0)  # type: ignore[no-untyped-call]


def _kswin(values: FloatArray, alpha: float) -> list[int]:
    """Return its alarms; it looks no further back than its window of 100, so it does not need what was long before."""
    return _alarms(KSWIN(alpha=alpha, seed=0), values, _BEFORE - 200)


def _alarms(detector: Any, values: FloatArray, first: int) -> list[int]:
    """Return the rows, from `first` on, in which a detector of river alarms; it begins anew by itself."""
    found = []
    for i, value in enumerate(values[first:].tolist(), first):
        detector.update(value)
        if detector.drift_detected:
            found.append(i)
    return found


def _fixed_alpha(values: FloatArray, alpha: float) -> list[int]:
    """Return the windows of 1 000 in which `ks_2samp` has p <= alpha and the three checks before had not."""
    reference, found, last = values[:_BEFORE], list[int](), -np.inf
    for check, end in enumerate(range(_BEFORE, len(values) + 1, PANE)):
        p = stats.ks_2samp(reference, values[end - WINDOW : end], method="asymp").pvalue
        if end > _BEFORE and p <= alpha:
            if check - last > 3:
                found.append(end - 1)
            last = check
    return found


RIVALS: Final = (
    Rival("river ADWIN", _adwin, (0.1, 0.02, 0.004), 300_000, 60),
    Rival("river KSWIN", _kswin, (1e-3, 1e-4, 1e-5), 5_000, 10),
    Rival("scipy ks_2samp, fixed alpha", _fixed_alpha, (1e-2, 1e-3, 1e-4), 50_000, 30),
)


def compared(seed: int, size: float = 1.0) -> list[Figure]:
    """Return median delays of driftd and of others, all at the run length that driftd has on null streams."""
    model = Model(drift_alone(_PROMISED, effects=False), (Row("delay", "run", None),))
    references = max(round(60 * size), 2)
    least = min(references, 20)
    group = Group("run of driftd", "iid", MANY, None, (model,), _PROMISED, _BEFORE, least, references, 400)
    (null,) = run(group, seed)
    length = PANE * null.details["checks"] / max(null.details["seen"], 1)
    own = delays(seed, max(round(20 * size), 1), _CHANGES, _PROMISED)
    words = "; ".join(f"{figure.row} {_words(figure.details['median'])}" for figure in own)
    found = [Figure("delay", f"driftd, 1 per {length:.0f} events", words, "", Verdict.REPORTED, {"run": length})]
    return found + [_of_rival(rival, length, seed, size) for rival in RIVALS]


def _of_rival(rival: Rival, length: float, seed: int, size: float) -> Figure:
    parameter = _calibrated(rival, length, np.random.default_rng([seed, 5]), size)
    told, rng = [], np.random.default_rng([seed, 6])
    for change in _CHANGES:
        events = [_delay(rival, parameter, change, rng) for _ in range(max(round(rival.streams * size), 2))]
        median = float(np.median(events))
        told.append(f"{change.name} {_words(median if np.isfinite(median) else None)}")
    details = {"parameter": parameter, "run": length}
    name = f"{rival.name} {parameter:.2g}, the same run"
    return Figure("delay", name, "; ".join(told), "", Verdict.REPORTED, details)


def _calibrated(rival: Rival, length: float, rng: np.random.Generator, size: float) -> float:
    """Return the parameter at which twenty null streams together have this run, in events of the model."""
    streams = rng.standard_normal((max(round(MANY * size), 2), _BEFORE + rival.events))
    logs = []
    for parameter in rival.parameters:
        alarms = sum(sum(at >= _BEFORE for at in rival.positions(stream, parameter)) for stream in streams)
        logs.append(np.log(rival.events * len(streams) / MANY / max(alarms, 0.5)))
    slope, at_one = np.polyfit(logs, np.log(rival.parameters), 1)
    return float(min(np.exp(at_one + slope * np.log(length)), 1.0))


def _delay(rival: Rival, parameter: float, change: Change, rng: np.random.Generator) -> float:
    values = rng.standard_normal(_BEFORE + _LONGEST)
    values[_BEFORE:] = change.values(values[_BEFORE:], rng)
    after = [at for at in rival.positions(values, parameter) if at >= _BEFORE]
    return after[0] - _BEFORE + 1 if after else np.inf


def _words(median: float | None) -> str:
    return f"> {_LONGEST}" if median is None or median > _LONGEST else f"{median:.0f}"
