"""Streams of right and wrong answers, and a version of a model that is judged on them pane by pane.

Panes go straight into the evaluator that ships, without events: a simulation takes thousands of streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from detectors.types import BoolArray, FloatArray
from fallback.types import ServingSpec
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.aggregation.outcomes import ScoredPairs
from monitor.evaluation.evaluator import Evaluator
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import Labels
from monitor.events.readings import NEGATIVE, POSITIVE
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.spec import Consequence, ModelSpec, RuleSpec, Task
from tests.monitor.kit import MINUTE, a_drift, a_model, counted, some_outcomes, timed

Random = np.random.Generator
_WARM_UP: Final = 1_000


def autoregressive(rho: float) -> Callable[[Random, int], FloatArray]:
    """A Gaussian AR(1) series with variance 1."""

    def series(rng: Random, n: int) -> FloatArray:
        noise: FloatArray = rng.standard_normal(n + _WARM_UP) * (1 - rho * rho) ** 0.5
        found: FloatArray = np.asarray(lfilter([1.0], [1.0, -rho], noise), np.float64)
        return found[_WARM_UP:]

    return series


def _moving_average(rng: Random, n: int) -> FloatArray:
    return np.asarray(np.convolve(rng.standard_normal(n + 149), np.full(150, 150**-0.5), "valid"), np.float64)


def _two_scales(rng: Random, n: int) -> FloatArray:
    both: FloatArray = (autoregressive(0.5)(rng, n) + autoregressive(0.99)(rng, n)) * 0.5**0.5
    return both


def _users(rng: Random, n: int) -> FloatArray:
    """Users who come for eight requests on average, each with a level of their own."""
    user = np.cumsum(rng.random(n) < 1 / 8)
    level = rng.standard_normal(int(user[-1]) + 1)
    return np.asarray(np.sqrt(0.7) * level[user] + np.sqrt(0.3) * rng.standard_normal(n), np.float64)


FAMILIES: Final[Mapping[str, Callable[[Random, int], FloatArray]]] = MappingProxyType(
    {
        "iid": autoregressive(0.0),
        "ar .5": autoregressive(0.5),
        "ar .9": autoregressive(0.9),
        "ar .97": autoregressive(0.97),
        "ma 150": _moving_average,
        "two scales": _two_scales,
        "users": _users,
    }
)


def right_answers(rng: Random, family: str, n: int, before: float, after: float = 0.9, at: int = 0) -> BoolArray:
    """Whether each of n answers is right: with accuracy `before` up to answer `at`, and with `after` from then on."""
    accuracy = np.where(np.arange(n) < at, before, after)
    result: BoolArray = FAMILIES[family](rng, n) < ndtri(accuracy)
    return result


@dataclass
class Watched:
    """A version under rules, with windows of `panes` panes of `every` answers each.

    `rate` is how many false alarms a check may raise on average.
    """

    rules: tuple[RuleSpec, ...]
    rate: float
    panes: int = 10
    every: int = 100
    baseline_n: int = 1_000
    by_time: bool = False

    def __post_init__(self) -> None:
        width = MINUTE if self.by_time else 0
        window = timed(width, self.panes * width) if self.by_time else counted(self.panes * self.every, self.every)
        # The whole budget is the rules': nothing is compared with a reference.
        checks = 1 / self.rate
        drift = a_drift(period=round(checks * width)) if self.by_time else a_drift(events=round(checks * self.every))
        outcomes = some_outcomes(MINUTE, pane=width, baseline_n=self.baseline_n)
        self.spec: ModelSpec = a_model(
            task=Task.BINARY, window=window, rules=self.rules, outcomes=outcomes, drift=drift, serving=ServingSpec("v1")
        )
        self.version = VersionState(1, "v1", self.spec, self.baseline_n)
        self._controller = ServingController("m", self.spec.serving, "m/0")
        references = ReferenceSet(self.spec, Labels(self.spec.name, 100, binary=True, positive=None), 1_000, 100)
        self._evaluator = Evaluator(self.spec, {1: self.version}, references, self._controller)
        self.pane = 0

    def add(self, right: Sequence[bool] | BoolArray) -> None:
        """Take in the answers of a pane, and judge the window that ends with it."""
        version, pane, n = self.version, self.pane, len(right)
        if version.outcomes is None:
            return
        self.pane += 1
        actual = np.where(right, float(POSITIVE), float(NEGATIVE))
        predicted = np.full(n, float(POSITIVE))
        end = self.pane * MINUTE
        at = np.full(n, pane)
        version.expect(n, at, np.zeros(n, np.bool_))
        pairs = ScoredPairs(at, predicted, np.full(n, np.nan), actual, np.zeros(n), [None] * n)
        version.add_outcomes(pairs, lambda name: None, end - 1)
        first = pane - self.panes + 1
        if first < 0:
            return
        version.windows.note(OutcomeWindow(first, pane, first * MINUTE, end, end, end))
        self._evaluator.judge_outcomes(version, end, end, (), None)
        version.windows.finished(end)
        version.outcomes.drop(first)

    @property
    def firing(self) -> set[str]:
        """Names of the rules that fire."""
        return {rule.rule.name for rule in self.version.firing}

    @property
    def rolls_back(self) -> bool:
        """Whether a rule fires that rolls back."""
        return any(rule.rule.then is Consequence.ROLLBACK for rule in self.version.firing)


def episodes(watched: Watched, right: BoolArray) -> dict[str, int]:
    """How often each rule began to fire on a stream of answers."""
    begun = dict.fromkeys((rule.name for rule in watched.rules), 0)
    before: set[str] = set()
    for start in range(0, len(right) - watched.every + 1, watched.every):
        watched.add(right[start : start + watched.every])
        for name in watched.firing - before:
            begun[name] += 1
        before = watched.firing
    return begun
