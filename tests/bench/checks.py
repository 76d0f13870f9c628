"""A check of twenty features by KS and Wasserstein, whatever the window holds; and the same by others.

What is compared is a check every hundred events of a window of a thousand, against the same table. driftd's
figure includes counting the hundred new events; its reference is summarised by 2 048 points per feature. River
keeps no window against a reference; its incremental KS takes every event.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.stats import KolmogorovSmirnov
from scipy import stats

from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.reference import NumericReference
from detectors.reference_builder import build_features
from detectors.registry import MIN_EFFECT
from tests.bench import workload

POINTS = 2_048
REFERENCE = 10_000
WINDOW, EVERY = 1_000, 100
RATES = Rates(1e-6, 1e-6, 10)
Matrix = NDArray[np.float64]
Tell = Callable[[str], None]


def by_window_size(tell: Tell) -> list[dict[str, Any]]:
    """Milliseconds of one check of driftd for windows of very different sizes."""
    rng = np.random.default_rng(3)
    found = []
    for size in (1_000, 10_000, 100_000, 1_000_000):
        comparison = _comparison(rng)
        totals: dict[str, Any] = {}
        for _ in range(0, size, 10_000):
            for name, counts in comparison.bin_counts(workload.features(rng, min(size, 10_000)), []).items():
                totals[name] = counts.dense() + totals.get(name, 0)
        comparison.check(totals.get, RATES)
        took = [_seconds(lambda c=comparison, t=totals: c.check(t.get, RATES)) for _ in range(30)]  # type: ignore[misc]
        found.append({"window": size, "points": POINTS, "ms": statistics.median(took) * 1000})
        tell(f"window of {size}: {found[-1]['ms']:.2f} ms a check")
    return found


def peers(rounds: int, tell: Tell) -> list[dict[str, Any]]:
    """Milliseconds per check of each, measured in turns, and how many times driftd's that is."""
    rng = np.random.default_rng(4)
    reference = workload.features(rng, REFERENCE)
    stream = workload.features(rng, WINDOW + EVERY)
    contestants = _contestants(reference, stream)
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, check in contestants.items():
            took[name].append(_seconds(check))
    ours = statistics.median(took["driftd: KS and Wasserstein"])
    rows = []
    for name, seconds in took.items():
        median = statistics.median(seconds)
        rows.append({"who": name, "ms": median * 1000, "times_driftd": median / ours})
        tell(f"{name}: {median * 1000:.2f} ms, {median / ours:.1f} times driftd")
    return rows


def _contestants(reference: Matrix, stream: Matrix) -> dict[str, Callable[[], None]]:
    from frouros.detectors.data_drift import EMD, KSTest

    window, fresh = stream[EVERY:], stream[WINDOW:]
    comparison = _comparison(np.random.default_rng(5), reference)
    totals = {name: counts.dense() for name, counts in comparison.bin_counts(window, []).items()}
    columns = range(reference.shape[1])
    emd = [EMD() for _ in columns]
    kst = [KSTest() for _ in columns]
    for i in columns:
        emd[i].fit(reference[:, i])
        kst[i].fit(reference[:, i])
    rivers = [KolmogorovSmirnov() for _ in columns]
    for i in columns:
        for x, y in zip(reference[:WINDOW, i].tolist(), window[:, i].tolist(), strict=True):
            rivers[i].update(x, y)

    def driftd() -> None:
        comparison.bin_counts(fresh, [])
        comparison.check(totals.get, RATES)

    def scipy() -> None:
        for i in columns:
            stats.ks_2samp(reference[:, i], window[:, i], method="asymp")
            stats.wasserstein_distance(reference[:, i], window[:, i])

    def river() -> None:
        for i in columns:
            for x, y in zip(stream[:EVERY, i].tolist(), fresh[:, i].tolist(), strict=True):
                rivers[i].revert(x, y)
                rivers[i].update(x, y)
            rivers[i].get()

    def frouros() -> None:
        for i in columns:
            kst[i].compare(window[:, i])
            emd[i].compare(window[:, i])

    return {
        "driftd: KS and Wasserstein": driftd,
        "scipy: ks_2samp (asymptotic) and wasserstein_distance": scipy,
        "river: KolmogorovSmirnov, incremental, reference of 1 000 rows, KS only": river,
        "frouros: KSTest and EMD": frouros,
    }


def _comparison(rng: np.random.Generator, rows: Matrix | None = None) -> Comparison:
    matrix = workload.features(rng, REFERENCE) if rows is None else rows
    columns = {name: matrix[:, i] for i, name in enumerate(workload.FEATURES)}
    built = build_features(dict.fromkeys(workload.FEATURES, True), columns, len(matrix), POINTS)
    numeric = [r for r in built if isinstance(r, NumericReference)]
    return Comparison("features", numeric, [], ("ks", "wasserstein"), MIN_EFFECT)


def _seconds(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started
