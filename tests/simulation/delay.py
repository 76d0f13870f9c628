"""How soon a change of one feature of twenty is found, where the others go on as they were."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.reference import Profile
from detectors.reference_builder import POINTS
from detectors.types import FloatArray
from monitor.spec import ModelSpec
from tests.simulation.families import Marginal, categories
from tests.simulation.figures import Figure, Verdict
from tests.simulation.monitored import PANE, FeaturePanes, Monitored, feature_slice, profile_of
from tests.simulation.rates import MANY, WARM
from tests.simulation.settings import DELAYS, SHARE_FOUND, drift_alone

PROMISED: Final = 1e-4  # alarms per check: one in a million events
LONGEST: Final = 20_000  # events after a change
_ROWS: Final = 10_000
_STREAMS: Final = 5  # of each reference
_CHANGED: Final = (0.455, 0.3, 0.195, 0.05)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a feature: from independent scores to its values from then on."""

    name: str
    marginal: Marginal
    values: Callable[[FloatArray, np.random.Generator], FloatArray]


def _shift(by: float) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    return lambda scores, rng: scores + by


def _outliers(scores: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.where(rng.random(len(scores)) < 0.06, 3.0, scores)


CHANGES: Final = (
    Change("mean .5 sd", Marginal.NORMAL, _shift(0.5)),
    Change("mean .3 sd", Marginal.NORMAL, _shift(0.3)),
    Change("mean .15 sd", Marginal.NORMAL, _shift(0.15)),
    Change("mean .1 sd", Marginal.NORMAL, _shift(0.1)),
    Change("scale 1.25", Marginal.NORMAL, lambda scores, rng: 1.25 * scores),
    Change("6 % at +3 sd", Marginal.NORMAL, _outliers),
    Change(
        "category .005 to .05", Marginal.RARE_CATEGORY, lambda scores, rng: categories(scores, _CHANGED).astype(float)
    ),
)


def delays(seed: int, references: int, changes: Sequence[Change] = CHANGES, promised: float = PROMISED) -> list[Figure]:
    """Return the delay of each change, over so many references with some streams each."""
    spec = drift_alone(promised, effects=False)
    found: dict[str, list[float]] = {change.name: [] for change in changes}
    for marginal in dict.fromkeys(change.marginal for change in changes):
        for number in range(references):
            key = [seed, 1, list(Marginal).index(marginal), number]
            rows = np.random.default_rng(key).standard_normal((_ROWS, MANY))
            profile = profile_of(marginal.values(rows), marginal, POINTS)
            panes = Monitored(spec, profile).panes(marginal)
            for change in changes:
                if change.marginal is marginal:
                    rng = np.random.default_rng([*key, zlib.crc32(change.name.encode())])
                    found[change.name] += [_delay(spec, profile, panes, change, rng) for _ in range(_STREAMS)]
    return [_figure(name, np.array(events)) for name, events in found.items()]


def _delay(spec: ModelSpec, profile: Profile, panes: FeaturePanes, change: Change, rng: np.random.Generator) -> float:
    """Return events from the change to the first alarm; infinite where none came."""
    model = Monitored(spec, profile)
    for pane in range(WARM + LONGEST // PANE):
        scores = rng.standard_normal((PANE, MANY))
        values = change.marginal.values(scores)
        if pane >= WARM:
            values[:, 0] = change.values(scores[:, 0], rng)
        alarms = model.add(feature_slice(pane, PANE, panes.counts(values))).alarms
        if alarms and pane >= WARM:
            return (pane - WARM + 1) * PANE
    return np.inf


def _figure(name: str, events: FloatArray) -> Figure:
    median, share = float(np.median(events)), float(np.mean(np.isfinite(events)))
    most, least = DELAYS.get(name), SHARE_FOUND.get(name)
    words = f"median {median:g} events, {share:.0%} found in {LONGEST} ({len(events)} streams)"
    limit = f"<= {most} events" if most is not None else f"found >= {least:.0%}" if least is not None else ""
    kept = median <= most if most is not None else least is None or share >= least
    verdict = Verdict.REPORTED if not limit else Verdict.KEPT if kept else Verdict.MISSED
    details = {"median": median if np.isfinite(median) else None, "found": share, "streams": len(events)}
    return Figure("delay", name, words, limit, verdict, details)
