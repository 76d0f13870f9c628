"""How often rules on each quality metric breach at a nominal level, on independent events: window against first pairs.

    python -m tests.simulation.rule_levels [--pairs N]

A ratio of 1 is right; too silent (below 1) is better than too loud.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

import numpy as np

from detectors.types import FloatArray
from monitor.aggregation.metrics import Estimate
from monitor.aggregation.outcomes import OutcomeTable, ScoredPairs
from monitor.evaluation.rules import Measured, p_value
from monitor.spec import LimitBasis, Task
from tests.monitor.kit import a_rule

Random = np.random.Generator
Pairs = tuple[FloatArray, FloatArray, FloatArray]  # predicted, actual, score
BASELINE: Final = 1_000
LEVELS: Final = (1e-2, 1e-3)


def classified(positives: float) -> Callable[[Random, int], Pairs]:
    """Calibrated scores, of which so many are positive on average."""

    def pairs(rng: Random, n: int) -> Pairs:
        score = rng.beta(1.2 * positives, 1.2 * (1 - positives), n)
        actual = (rng.random(n) < score).astype(np.float64)
        return (score >= 0.5).astype(np.float64), actual, score

    return pairs


def regressed(tail: str) -> Callable[[Random, int], Pairs]:
    """Normal actual values, and errors of one law."""

    def pairs(rng: Random, n: int) -> Pairs:
        errors = {
            "normal": rng.standard_normal(n),
            "lognormal": rng.lognormal(0, 1.2, n) * rng.choice([-1, 1], n),
            "t3": rng.standard_t(3, n),
        }
        actual = 2 * rng.standard_normal(n)
        return actual + errors[tail], actual, np.full(n, np.nan)

    return pairs


CASES: Final[tuple[tuple[str, Task, Callable[[Random, int], Pairs], dict[str, bool]], ...]] = (
    ("half positive", Task.BINARY, classified(0.5), {"ece": True, "roc_auc": False, "f1": False, "f1_macro": False,
                                                     "precision": False, "recall": False, "log_loss": True,
                                                     "brier": True, "accuracy": False}),
    ("one in ten positive", Task.BINARY, classified(0.1), {"ece": True, "roc_auc": False, "f1": False,
                                                           "f1_macro": False, "precision": False, "recall": False}),
    ("normal errors", Task.REGRESSION, regressed("normal"), {"mae": True, "rmse": True, "r2": False}),
    ("lognormal errors", Task.REGRESSION, regressed("lognormal"), {"mae": True, "rmse": True, "r2": False}),
    ("t3 errors", Task.REGRESSION, regressed("t3"), {"mae": True, "rmse": True, "r2": False}),
)  # fmt: skip


def estimates(task: Task, pairs: Pairs) -> dict[str, Estimate]:
    """The metrics of some pairs."""
    table, (predicted, actual, score) = OutcomeTable(task, 0), pairs
    n = len(predicted)
    table.add(ScoredPairs(np.ones(n, np.int64), predicted, score, actual, np.zeros(n), [None] * n), lambda name: None)
    return table.metrics(0, 10, ())


def breaches(
    task: Task, make: Callable[[Random, int], Pairs], metrics: dict[str, bool], n: int, count: int
) -> dict[str, FloatArray]:
    """The p-values of `count` windows of n pairs, each against a baseline of its own."""
    rng = np.random.default_rng(5)
    found: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(count):
        window, base = estimates(task, make(rng, n)), estimates(task, make(rng, BASELINE))
        for name, above in metrics.items():
            bound = {"above": 0.0} if above else {"below": 0.0}
            rule = a_rule("r", name, of=LimitBasis.POINTS, **bound)  # type: ignore[arg-type]
            both = Measured(window.get(name)), Measured(base.get(name))
            missing = both[0].estimate is None or both[1].estimate is None
            found[name].append(1.0 if missing else p_value(rule, *both, 0.0))
    return {name: np.array(p) for name, p in found.items()}


def main() -> int:
    """Print a line per metric, data and window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4_000)
    options = parser.parse_args()
    for data, task, make, metrics in CASES:
        for n in (30, 100, 1_000):
            for name, p in breaches(task, make, metrics, n, options.pairs).items():
                ratios = ", ".join(f"{np.mean(p <= level) / level:.2f} at {level:g}" for level in LEVELS)
                print(f"{data}, {name}, n {n}: breaches / nominal {ratios}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
