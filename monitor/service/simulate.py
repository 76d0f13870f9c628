"""`driftd simulate`: the alarms that a model would raise if its reference went on for a long time.

The rows of the reference are taken pane by pane, resampled in runs, so that nothing changes but what chance and the
dependence between neighbouring rows change, and pass the whole evaluation. They are drawn from the blocks of the
profile, or come from a table. All alarms are false ones, and are compared with what the false-alarm budget promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
from scipy import stats

from detectors.comparison import Comparison
from detectors.pane import Counts
from detectors.reference import Profile
from detectors.window import Slice
from fallback.types import ServingSpec
from monitor.aggregation.metrics import METRICS, SUMS_SIZE
from monitor.aggregation.outcomes import ScoredPairs
from monitor.alerting.records import AlertKind, AlertRecord
from monitor.errors import ConfigError
from monitor.pipeline.simulation import SimulatedModel, stationary_bootstrap
from monitor.reference.compared import names_in
from monitor.spec import Consequence, ModelSpec, WindowSpec

DAY: Final = 86_400_000  # ms
_RUN: Final = 2  # windows that a run of neighbouring panes has on average
_FEWEST: Final = 5  # windows in a reference
_HELD: Final = 50_000  # panes that are not counted again
_SURE: Final = 0.99
_KINDS: Final = (AlertKind.DRIFT, AlertKind.DATA_QUALITY, AlertKind.METRIC)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Length:
    """How long a simulation is.

    Attributes:
        panes: How many panes.
        step: Time of a counted pane, ms; 0 where nothing tells it.
    """

    panes: int
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a simulation.

    Attributes:
        checks: Checks of the model.
        promised: Alarms that the budget allowed, by kind; of rules only where the rows have outcomes.
        alarms: First records of the alarms that came.
        days: Day of each alarm; None where nothing tells how long a pane lasts.
        run: Mean length of the runs that were resampled, in panes.
        left_out: Answers of which there are too few rows to be resampled.
        rules_left_out: Names of the rules on metrics that the rows do not have.
    """

    checks: int
    promised: dict[AlertKind, float]
    alarms: tuple[AlertRecord, ...]
    days: tuple[float | None, ...]
    run: float
    left_out: tuple[str, ...] = ()
    rules_left_out: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether no more alarms came than promised, or chance explains that (Poisson, 1 %)."""
        seen, promised = len(self.alarms), sum(self.promised.values())
        return seen <= promised or bool(stats.poisson.sf(seen - 1, promised) > 1 - _SURE)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        seen = Counter(alarm.subject.kind for alarm in self.alarms)
        return {
            "checks": self.checks,
            "promised": {kind.value: round(count, 6) for kind, count in self.promised.items()},
            "raised": {kind.value: seen[kind] for kind in self.promised},
            "kept": self.kept,
            "left_out": list(self.left_out),
            "rules_left_out": list(self.rules_left_out),
            "alarms": [
                {
                    "day": day, "kind": alarm.subject.kind.value, "rule": alarm.subject.name or None,
                    "features": [feature.name for feature in alarm.features], "summary": alarm.summary,
                }
                for alarm, day in zip(self.alarms, self.days, strict=True)
            ],
        }  # fmt: skip


class Rows(Protocol):
    """Rows of a reference in the order of time."""

    @property
    def rows(self) -> int:
        """Return how many there are."""

    @property
    def pairs(self) -> ScoredPairs | None:
        """Return the answers with their actual values; None where there are none."""

    @property
    def start(self) -> int | None:
        """Return the time of the first row, ms; None where rows have no times in order."""

    @property
    def lasts(self) -> int:
        """Return how long rows go on, ms, without what lies between series of them; 0 where nothing tells."""

    def holds(self, comparison: Comparison) -> bool:
        """Tell whether they have any of the features of a comparison."""

    def counts(self, comparison: Comparison, rows: slice) -> dict[str, Counts]:
        """Count some rows against the references of a comparison."""

    def pairs_of(self, rows: slice) -> ScoredPairs | None:
        """Return the pairs of some rows."""

    def counted_panes(self, size: int) -> Iterator[slice]:
        """Yield panes of so many rows."""

    def time_panes(self, width: int) -> Iterator[slice]:
        """Yield the rows of each time pane of this width (ms)."""


def length_in_days(window: WindowSpec, rows: Rows, days: float, where: str) -> Length:
    """Return the length of so many days.

    Raises:
        ConfigError: The rows of the reference at the key `where` have no times in order: how many has a day?
    """
    if rows.start is None or rows.lasts <= 0:
        hint = "has no times in order, so that nothing tells how many predictions a day has"
        raise ConfigError(where, None, hint + ("; give --events" if window.counted else ""))
    if not window.counted:
        return Length(round(days * DAY / window.pane))
    step = float(rows.lasts) / rows.rows * window.every
    return Length(round(days * DAY / step), step)


def simulate(
    spec: ModelSpec, profile: Profile, rows: Sequence[Rows], length: Length, seed: int, progress: Progress, where: str
) -> Simulated:
    """Let a model watch its own reference, resampled in runs of panes.

    Args:
        spec: The model.
        profile: Its reference.
        rows: Rows of the reference; what of the profile the first ones do not have is in others, as a version's own
            answers that were learned from other predictions. These are resampled by themselves.
        length: How long.
        seed: Everything random follows from it.
        progress: Called with the panes that are done, and of how many.
        where: Key of the reference, for messages.

    Raises:
        ConfigError: The reference is too short.
    """
    first = rows[0]
    start = DAY * 365 if first.start is None else first.start
    # A rollback would end the version that is watched: what fires is told, and nothing follows.
    calm = tuple(replace(rule, then=Consequence.NONE) for rule in spec.rules)
    # All outcomes are there at once: no window waits for more.
    outcomes = None if spec.outcomes is None else replace(spec.outcomes, prediction_ttl=1)
    spec = replace(spec, rules=calm, outcomes=outcomes, serving=ServingSpec(spec.serving.champion))
    model = SimulatedModel(spec, profile, start)
    streams = [_Stream(model, its, np.random.default_rng((seed, i) if i else seed)) for i, its in enumerate(rows)]
    main, panes = streams[0], model.state.window.rule.span
    if len(main.panes) < _FEWEST * panes:
        hint = (
            f"has {len(main.panes)} panes, which is less than {_FEWEST} windows of {panes}: too short to be resampled"
        )
        raise ConfigError(where, None, hint)
    others = [stream for stream in streams[1:] if len(stream.panes) >= _FEWEST * panes]
    left_out = tuple(name for stream in streams[1:] if stream not in others for name in stream.names)
    alarms: list[AlertRecord] = []
    days: list[float | None] = []
    promised, checks = dict.fromkeys(_KINDS if first.pairs is not None else _KINDS[:2], 0.0), 0
    for number in range(length.panes):
        events, counts, pairs = main.next()
        for stream in others:
            counts = counts | stream.next()[1]
        if events:
            piece = _slice(spec.window, start, number, events, counts, length.step)
            found = model.add(piece, _placed(pairs, model.outcome_pane(piece)))
            if model.is_checked:
                checks += 1
                _promise(promised, model)
            begun = [a for a in found if isinstance(a, AlertRecord) and a.begins and a.subject.kind in _KINDS]
            alarms += begun
            days += [_day(spec.window, number, length.step)] * len(begun)
        progress(number + 1, length.panes)
    return Simulated(checks, promised, tuple(alarms), tuple(days), main.run, left_out, _rules_left_out(spec, first))


def _rules_left_out(spec: ModelSpec, rows: Rows) -> tuple[str, ...]:
    """Return the rules that are not simulated: rows have no latency, errors and resources, and maybe no outcomes."""
    having = {name for name, info in METRICS.items() if info.needs_outcomes and rows.pairs is not None}
    return tuple(rule.name for rule in spec.rules if rule.metric not in having)


class _Stream:
    """Rows of a reference, resampled without end in runs of neighbouring panes."""

    def __init__(self, model: SimulatedModel, rows: Rows, rng: np.random.Generator) -> None:
        window, span = model.window, model.state.window.rule.span
        self._comparisons = [c for c in model.comparisons if rows.holds(c)]
        self._rows = rows
        timed = window.counted or rows.start is not None
        found = rows.counted_panes(window.every) if window.counted else rows.time_panes(window.pane)
        self.panes = list(found) if timed else []
        self.run = float(min(_RUN * span, max(len(self.panes) // _FEWEST, 1)))
        self._places = stationary_bootstrap(max(len(self.panes), 1), self.run, rng)
        self._pane = lru_cache(_HELD)(self._counted)

    @property
    def names(self) -> list[str]:
        """Return what of the model its rows are of."""
        return [name for comparison in self._comparisons for name in names_in(comparison)]

    def next(self) -> tuple[int, dict[str, Counts], ScoredPairs | None]:
        """Return what the next pane brings: events, their counts, and their pairs."""
        return self._pane(next(self._places))

    def _counted(self, place: int) -> tuple[int, dict[str, Counts], ScoredPairs | None]:
        part = self.panes[place]
        counts: dict[str, Counts] = {}
        for comparison in self._comparisons if part.stop > part.start else ():
            counts |= self._rows.counts(comparison, part)
        return part.stop - part.start, counts, self._rows.pairs_of(part)


def _slice(window: WindowSpec, start: int, number: int, events: int, counts: dict[str, Counts], step: float) -> Slice:
    sums = np.zeros(SUMS_SIZE)
    if window.counted:
        begins = start + round(number * (step or window.every * 1000))
        ends = start + round((number + 1) * (step or window.every * 1000)) - 1
        return Slice(number, begins, ends, events, counts, sums)
    pane = start // window.pane + number
    return Slice(pane, pane * window.pane, (pane + 1) * window.pane, events, counts, sums)


def _placed(pairs: ScoredPairs | None, pane: int) -> ScoredPairs | None:
    return None if pairs is None else replace(pairs, pane=np.full(len(pairs), pane))


def _promise(promised: dict[AlertKind, float], model: SimulatedModel) -> None:
    allowed = model.allowed
    by_kind = {
        AlertKind.DRIFT: allowed.drift, AlertKind.DATA_QUALITY: allowed.quality, AlertKind.METRIC: allowed.rules,
    }  # fmt: skip
    for kind in promised:
        promised[kind] += by_kind[kind]


def _day(window: WindowSpec, number: int, step: float) -> float | None:
    width = step if window.counted else window.pane
    return round((number + 1) * width / DAY, 3) if width else None
