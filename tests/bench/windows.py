"""What a check costs with windows of several extents, as a ratio of one with the configured window alone.

Twenty numeric features without drift, 2 048 points each, window of a thousand events: the CPU time of everything that a
closed pane sets off, without counting its events. Both are measured in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from detectors.reference import Profile
from detectors.reference_builder import build_features
from detectors.window import Slice
from monitor.aggregation.metrics import SUMS_SIZE
from monitor.evaluation.evaluator import Evaluator
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import Labels
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.spec import LEARNING, ReferenceSpec
from tests.bench import workload
from tests.monitor.kit import a_drift, a_model, counted

SEVERAL = (0.2, 0.5, 1.0, 2.0, 5.0)
POINTS, REFERENCE = 2_048, 10_000
WINDOW = 1_000


def several(rounds: int, panes: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of CPU of a check of so many panes with one window and with five, and their ratio."""
    every = WINDOW // panes
    runs = {"one": _checks((1.0,), every), "five": _checks(SEVERAL, every)}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(5 * panes):  # until the longest window is full
        for run in runs.values():
            next(run)
    for _ in range(20 * rounds):
        for name, run in runs.items():
            took[name].append(next(run))
    one, five = (statistics.mean(took[name]) * 1000 for name in ("one", "five"))
    tell(
        f"a check of 20 features: {one:.2f} ms of CPU with one window, {five:.2f} ms with five: {five / one:.2f} times"
    )
    return {"one_ms": one, "five_ms": five, "ratio": five / one}


def _checks(windows: tuple[float, ...], every: int) -> Iterator[float]:
    """Yield the seconds of CPU that each check takes, pane by pane."""
    rng = np.random.default_rng(5)
    rows = workload.features(rng, REFERENCE)
    columns = {name: rows[:, i] for i, name in enumerate(workload.FEATURES)}
    features = build_features(dict.fromkeys(workload.FEATURES, True), columns, REFERENCE, POINTS)
    drift = replace(a_drift(1, events=1_000_000), windows=windows)
    spec = a_model(window=counted(WINDOW, every), drift=drift, reference=ReferenceSpec("table", 0, POINTS))
    versions: dict[int, VersionState] = {}
    references = ReferenceSet(spec, Labels(spec.name, 100, binary=False, positive=None), LEARNING, 100)
    references.activate(Profile(features, REFERENCE, True))
    evaluator = Evaluator(spec, versions, references, ServingController(spec.name, spec.serving, "m/0"))
    version = versions[0] = VersionState(0, "v1", spec, 1_000)
    (comparison,) = references.comparisons("v1")
    pane = 0
    while True:
        counts = comparison.bin_counts(workload.features(rng, every), [])
        piece = Slice(pane, pane * 1_000, (pane + 1) * 1_000, every, counts, np.zeros(SUMS_SIZE))
        started = time.process_time()
        version.push(piece)
        evaluator.check(version, None, (), None)
        yield time.process_time() - started
        pane += 1
