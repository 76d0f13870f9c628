"""`driftd simulate`: the alarms that a model would raise if its reference went on for a long time.

Rows of the reference table are taken pane by pane, resampled in blocks, so that nothing changes but what chance and the
dependence between neighbouring rows change, and pass the whole evaluation. All alarms are false ones, and are
compared with what the false-alarm budget promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from scipy import stats

from detectors.pane import Counts
from detectors.reference import Profile
from detectors.window import Slice
from fallback.types import ServingSpec
from monitor.aggregation.metrics import SUMS_SIZE
from monitor.aggregation.outcomes import ScoredPairs
from monitor.alerting.records import AlertKind, AlertRecord
from monitor.errors import ConfigError
from monitor.pipeline.simulation import SimulatedModel, stationary_bootstrap
from monitor.reference.rows import TableRows
from monitor.spec import Consequence, ModelSpec, WindowSpec

DAY: Final = 86_400_000  # ms
_RUN: Final = 2  # windows that a run of neighbouring panes has on average
_FEWEST: Final = 5  # windows in a table
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
        promised: Alarms that the budget allowed, by kind; of rules only where the table has outcomes.
        alarms: First records of the alarms that came.
        days: Day of each alarm; None where nothing tells how long a pane lasts.
        run: Mean length of the runs that were resampled, in panes.
    """

    checks: int
    promised: dict[AlertKind, float]
    alarms: tuple[AlertRecord, ...]
    days: tuple[float | None, ...]
    run: float

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
            "alarms": [
                {
                    "day": day, "kind": alarm.subject.kind.value, "rule": alarm.subject.name or None,
                    "features": [feature.name for feature in alarm.features], "summary": alarm.summary,
                }
                for alarm, day in zip(self.alarms, self.days, strict=True)
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Block:
    """What one pane of the table brings."""

    events: int
    counts: dict[str, Counts]
    pairs: ScoredPairs | None


def length_in_days(window: WindowSpec, rows: TableRows, days: float, where: str) -> Length:
    """Return the length of so many days.

    Raises:
        ConfigError: The table at the key `where` has no times in order, so nothing tells how many rows a day has.
    """
    if rows.times is None or rows.times[-1] <= rows.times[0]:
        hint = "has no times in order, so that nothing tells how many predictions a day has"
        raise ConfigError(where, None, hint + ("; give --events" if window.counted else ""))
    if not window.counted:
        return Length(round(days * DAY / window.pane))
    step = float(rows.times[-1] - rows.times[0]) / rows.rows * window.every
    return Length(round(days * DAY / step), step)


def simulate(
    spec: ModelSpec, profile: Profile, rows: TableRows, length: Length, seed: int, progress: Progress, where: str
) -> Simulated:
    """Let a model watch its own reference, resampled in blocks.

    Args:
        spec: The model.
        profile: Its reference.
        rows: The table that the reference was made from.
        length: How long.
        seed: Everything random follows from it.
        progress: Called with the panes that are done, and of how many.
        where: Key of the table, for messages.

    Raises:
        ConfigError: The table is too short.
    """
    start = int(rows.times[0]) if rows.times is not None else DAY * 365
    # A rollback would end the version that is watched: what fires is told, and nothing follows.
    calm = tuple(replace(rule, then=Consequence.NONE) for rule in spec.rules)
    # All outcomes are there at once: no window waits for more.
    outcomes = None if spec.outcomes is None else replace(spec.outcomes, prediction_ttl=1)
    spec = replace(spec, rules=calm, outcomes=outcomes, serving=ServingSpec(spec.serving.champion))
    model = SimulatedModel(spec, profile, start)
    blocks = [_block(model, rows, part) for part in _parts(spec.window, rows)]
    panes = model.state.window.rule.span
    if len(blocks) < _FEWEST * panes:
        hint = f"has {len(blocks)} panes, which is less than {_FEWEST} windows of {panes}: too short to be resampled"
        raise ConfigError(where, None, hint)
    run = float(min(_RUN * panes, max(len(blocks) // _FEWEST, 1)))
    places = stationary_bootstrap(len(blocks), run, np.random.default_rng(seed))
    alarms: list[AlertRecord] = []
    days: list[float | None] = []
    promised, checks = dict.fromkeys(_KINDS if rows.pairs is not None else _KINDS[:2], 0.0), 0
    for number in range(length.panes):
        block = blocks[next(places)]
        if block.events:
            piece = _slice(spec.window, start, number, block, length.step)
            found = model.add(piece, _placed(block.pairs, model.outcome_pane(piece)))
            if model.is_checked:
                checks += 1
                _promise(promised, model)
            begun = [a for a in found if isinstance(a, AlertRecord) and a.begins and a.subject.kind in _KINDS]
            alarms += begun
            days += [_day(spec.window, number, length.step)] * len(begun)
        progress(number + 1, length.panes)
    return Simulated(checks, promised, tuple(alarms), tuple(days), run)


def _parts(window: WindowSpec, rows: TableRows) -> Iterator[slice]:
    return rows.blocks(window.every) if window.counted else rows.time_blocks(window.pane)


def _block(model: SimulatedModel, rows: TableRows, part: slice) -> _Block:
    counts: dict[str, Counts] = {}
    for comparison in model.comparisons if part.stop > part.start else ():
        counts |= rows.counts(comparison, part)
    return _Block(part.stop - part.start, counts, rows.pairs_of(part))


def _slice(window: WindowSpec, start: int, number: int, block: _Block, step: float) -> Slice:
    if window.counted:
        begins = start + round(number * (step or window.every * 1000))
        ends = start + round((number + 1) * (step or window.every * 1000)) - 1
        return Slice(number, begins, ends, block.events, block.counts, np.zeros(SUMS_SIZE))
    pane = start // window.pane + number
    sums = np.zeros(SUMS_SIZE)
    return Slice(pane, pane * window.pane, (pane + 1) * window.pane, block.events, block.counts, sums)


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
