"""How often rules raise a false alarm against what was allowed, and how soon they see a real drop.

    python -m tests.simulation.rules [healthy | drop | first | rates | delay]... [--models N] [--json]

Streams of right and wrong answers are judged by the evaluator that ships, with windows of 1000 answers checked every
100. A false alarm is an episode: a rule began to fire. `healthy`, `drop` and `first` take the default rules on accuracy
with the share of the budget of one false alarm in a month of a thousand checks a day; `rates` a rule whose limit is the
baseline itself.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from scipy import stats

from monitor.config.rules import default_rules
from monitor.spec import LimitBasis, Task
from tests.monitor.kit import a_rule
from tests.simulation.rule_streams import FAMILIES, Watched, episodes, right_answers

EVENTS: Final = 20_000
RATE: Final = 1.35e-5  # false alarms per check, by rules: a month of one alarm, at an answer a second
AUTOREGRESSIVE: Final = ("iid", "ar .5", "ar .9", "ar .97")
Row = dict[str, Any]
ACCURACY: Final = tuple(rule for rule in default_rules(Task.BINARY, outcomes=True) if rule.metric == "accuracy")


def healthy(models: int) -> list[Row]:
    """False alarms of models that never change, under the default rules on accuracy."""
    rows = []
    for family in AUTOREGRESSIVE:
        for by_time in (False, True):
            rng = np.random.default_rng(8)
            begun = {rule.name: 0 for rule in ACCURACY}
            for _ in range(models):
                watched = Watched(ACCURACY, RATE, by_time=by_time)
                for name, count in episodes(watched, right_answers(rng, family, EVENTS, 0.9)).items():
                    begun[name] += count
            checks = models * (EVENTS // 100 - 9)
            promised = checks * RATE
            seen = sum(begun.values())
            rows.append(
                {"family": family, "windows": "time" if by_time else "counted", "promised": round(promised, 2), **begun,
                 "kept": bool(stats.poisson.sf(seen - 1, promised) > 0.01)}
            )  # fmt: skip
    return rows


def first(models: int) -> list[Row]:
    """Rollbacks by models of which no more than the first thousand pairs are known, and one window beyond."""
    rows = []
    for family in FAMILIES:
        rng = np.random.default_rng(9)
        found = 0
        for _ in range(models):
            watched = Watched(ACCURACY, RATE)
            found += any(episodes(watched, right_answers(rng, family, 2_000, 0.9)).values())
        rows.append({"family": family, "models": models, "with a false alarm": found})
    return rows


def drop(models: int) -> list[Row]:
    """A real drop of ten points, once the baseline has ten windows: windows until the rollback."""
    rows = []
    for family, by_time, baseline_n in (
        ("iid", False, 10_000), ("ar .9", False, 10_000), ("ar .9", True, 1_000), ("ar .97", False, 10_000),
    ):  # fmt: skip
        rng = np.random.default_rng(10)
        after: list[float] = []
        for _ in range(models):
            watched = Watched(ACCURACY, RATE, by_time=by_time, baseline_n=baseline_n)
            after.append(windows_until(watched, right_answers(rng, family, 16_000, 0.9, 0.8, 10_000), 10_000))
        found = np.array(after)
        rows.append(
            {"family": family, "windows": "time" if by_time else "counted", "median windows": float(np.median(found)),
             "within 5": float((found <= 5).mean()), "before": int((found <= 0).sum())}
        )  # fmt: skip
    return rows


def windows_until(watched: Watched, right: Sequence[bool] | np.ndarray[Any, Any], at: int) -> float:
    """Windows from event `at` until a rollback; 0 where it came before, infinite where none came."""
    for start in range(0, len(right) - watched.every + 1, watched.every):
        watched.add(right[start : start + watched.every])
        if watched.rolls_back:
            return max(start + watched.every - at, 0) / (watched.every * watched.panes)
    return float("inf")


def rates(models: int) -> list[Row]:
    """Alarms of a rule whose limit is the baseline itself, against what was allowed: 1e-3 per check."""
    rule = a_rule("same", "accuracy", below=0.0, of=LimitBasis.POINTS, min_n=30)
    rows = []
    for family in FAMILIES:
        rng = np.random.default_rng(11)
        begun, checks = 0, 0
        for _ in range(models):
            # The dependence is learned from twenty windows, and the stream goes on for twenty more.
            watched = Watched((rule,), 1e-3, baseline_n=10_000)
            right = right_answers(rng, family, 40_000, 0.9)
            begun += episodes(watched, right)["same"]
            checks += 300
        rows.append({"family": family, "allowed": checks * 1e-3, "begun": begun, "ratio": begun / (checks * 1e-3)})
    return rows


def delay(models: int) -> list[Row]:
    """Events from a drop of accuracy from .9 to .8 until an alarm, iid, with one alarm allowed in a million checks."""
    rule = a_rule("same", "accuracy", below=0.0, of=LimitBasis.POINTS, min_n=30)
    rng = np.random.default_rng(12)
    found = []
    for _ in range(models):
        watched = Watched((rule,), 1e-6 * 100, baseline_n=10_000)
        right = right_answers(rng, "iid", 16_000, 0.9, 0.8, 10_000)
        for start in range(0, len(right), 100):
            watched.add(right[start : start + 100])
            if watched.firing:
                found.append(start + 100 - 10_000)
                break
        else:
            found.append(10**9)
    return [{"median events": float(np.median(found)), "nine in ten by": float(np.quantile(found, 0.9))}]


PARTS: Final[dict[str, tuple[Callable[[int], list[Row]], int]]] = {
    "healthy": (healthy, 300),
    "drop": (drop, 300),
    "first": (first, 300),
    "rates": (rates, 300),
    "delay": (delay, 200),
}


def main() -> int:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--models", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        part, models = PARTS[name]
        began = time.process_time()
        rows = part(options.models or models)
        for row in rows:
            print(json.dumps(row) if options.json else f"{name}: " + ", ".join(f"{k} {v}" for k, v in row.items()))
        if not options.json:
            print(f"{name}: {time.process_time() - began:.0f} s of CPU", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
