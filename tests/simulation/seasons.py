"""A daily sine with windows of one day: whether a shift is found in two days, and what years without one raise.

References have two weeks. Beside the model that names its season is one that does not: it takes the sine for
dependence, and promises the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from detectors.reference import Profile
from detectors.reference_builder import POINTS, build_features
from detectors.season import Season
from detectors.types import FloatArray, IntArray
from detectors.window import Slice
from monitor.aggregation.metrics import SUMS_SIZE
from monitor.spec import ModelSpec
from tests.simulation.families import Marginal
from tests.simulation.figures import Figure, Verdict, at_most
from tests.simulation.monitored import START_MS, FeaturePanes, Monitored, spec_of
from tests.simulation.settings import NO_EFFECTS

DAYS: Final = 4 * 365  # of streams that never change
_YEAR: Final = 365  # days of each, with a reference of its own
_HOUR: Final = 3_600_000  # ms
_DAY: Final = 24 * _HOUR
_PER_HOUR: Final = 50  # events
_REFERENCE: Final = 14  # days
_WARM: Final = 5  # days until the longest window is full
_BUDGET: Final = 30  # days for which one alarm is promised
_SHIFT: Final = 0.5  # standard deviations
_FOUND_IN: Final = 2.0  # days
_LONGEST: Final = 14  # days after a shift
_STREAMS: Final = 20  # with a shift
_START: Final = (START_MS // _DAY + 1) * _DAY
_MODEL: Final = f"""\
task: regression
outcomes: null
rules: []
drift: {{false_alarms: 1 per {_BUDGET}d, min_effect: {NO_EFFECTS}}}"""


def seasons(seed: int, size: float = 1.0) -> list[Figure]:
    """Return what a daily sine raises and how soon a shift of it is found, with its season named and without."""
    named = _watched(seed, size, Season.HOUR_OF_DAY)
    return [*named, *(_reported(figure) for figure in _watched(seed, size / 4, None))]


def _watched(seed: int, size: float, season: Season | None) -> list[Figure]:
    words = "no season named" if season is None else f"season: {season}"
    days, streams = max(round(DAYS * size), 1), max(round(_STREAMS * size), 2)
    each = min(days, _YEAR)
    alarms = sum(_alarms(np.random.default_rng([seed, 7, number]), each, season) for number in range(days // each))
    promised = days // each * each / _BUDGET
    found = np.array([_delay(np.random.default_rng([seed, 8, number]), season) for number in range(streams)])
    median, latest = float(np.median(found)), float(found.max())
    verdict = Verdict.KEPT if latest <= _FOUND_IN else Verdict.MISSED
    value = f"median {median:.2g} days, the latest {latest:.2g} ({streams} streams)"
    details = {"median": _number(median), "latest": _number(latest), "streams": streams}
    return [
        at_most("season", f"alarms of a daily sine in {days // each * each} days, {words}", alarms, promised),
        Figure("season", f"mean {_SHIFT} sd, {words}", value, f"<= {_FOUND_IN:g} days", verdict, details),
    ]


def _reported(figure: Figure) -> Figure:
    return Figure(figure.part, figure.row, figure.value, "", Verdict.REPORTED, figure.details)


def _number(days: float) -> float | None:
    return days if np.isfinite(days) else None


def _alarms(rng: np.random.Generator, days: int, season: Season | None) -> int:
    """Return the alarms of so many days in which nothing changes."""
    spec, profile = _spec(), _profile(rng, season)
    model = Monitored(spec, profile)
    begun = 0
    for hour, pane in _panes(model.panes(Marginal.NORMAL), rng, _WARM + days):
        alarms = model.add(pane).alarms
        begun += len(alarms) if hour >= 24 * _WARM else 0
    return begun


def _delay(rng: np.random.Generator, season: Season | None) -> float:
    """Return the days from a shift, at any hour, to the first alarm after it; infinite where none came."""
    spec, profile = _spec(), _profile(rng, season)
    model = Monitored(spec, profile)
    at = 24 * _WARM + int(rng.integers(24))
    for hour, pane in _panes(model.panes(Marginal.NORMAL), rng, _WARM + 1 + _LONGEST, at):
        if model.add(pane).alarms and hour >= at:
            return (hour + 1 - at) / 24
    return np.inf


def _spec() -> ModelSpec:
    return spec_of(_MODEL, window="{span: 1d, pane: 1h, min_events: 1000}")


def _profile(rng: np.random.Generator, season: Season | None) -> Profile:
    """Return the profile of the two weeks before the stream."""
    rows = _REFERENCE * 24 * _PER_HOUR
    time = _START - _REFERENCE * _DAY + np.arange(rows) * (_HOUR // _PER_HOUR)
    features = build_features({"x0": True}, {"x0": _values(time, rng)}, rows, POINTS, season, time)
    return Profile(features, rows, ordered=True, first_ms=int(time[0]), last_ms=int(time[-1]))


def _panes(
    features: FeaturePanes, rng: np.random.Generator, days: int, shifted: int | None = None
) -> Iterator[tuple[int, Slice]]:
    """Yield the number of each hour and its pane; from the hour `shifted` on, values are larger."""
    for hour in range(24 * days):
        start = _START + hour * _HOUR
        time = start + np.arange(_PER_HOUR) * (_HOUR // _PER_HOUR)
        values = _values(time, rng) + (_SHIFT if shifted is not None and hour >= shifted else 0.0)
        counts = features.counts(values[:, None], time)
        yield hour, Slice(start // _HOUR, start, start + _HOUR, _PER_HOUR, counts, np.zeros(SUMS_SIZE))


def _values(time: IntArray, rng: np.random.Generator) -> FloatArray:
    """Return noise around a sine of amplitude .8 whose period is a day, of variance 1."""
    angle = 2 * np.pi * (time % _DAY) / _DAY
    return np.asarray((0.8 * np.sin(angle) + rng.standard_normal(len(time))) / np.sqrt(1.32))
