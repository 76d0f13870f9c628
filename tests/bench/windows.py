"""What a check costs with windows of several extents, as a ratio of one with the configured window alone.

Twenty numeric features without drift, 2 048 points each, window of a thousand events: the CPU time of everything that a
closed pane sets off, without counting its events. Both are measured in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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
AT_0_1_0 = "1.4"  # measured with its tree on a machine where `python -m tests.bench checks` says 0.75 ms


def several(rounds: int, panes: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of CPU of a check of so many panes with one window and with five, and their ratio; and memory."""
    every = WINDOW // panes
    runs = {"one": Checks((1.0,), every), "five": Checks(SEVERAL, every)}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(5 * panes):  # until the longest window is full
        for run in runs.values():
            run.seconds()
    for _ in range(20 * rounds):
        for name, run in runs.items():
            took[name].append(run.seconds())
    one, five = (statistics.mean(took[name]) * 1000 for name in ("one", "five"))
    totals, held = ([run.megabytes()[i] for run in runs.values()] for i in (0, 1))
    tell(
        f"a check of 20 features, {panes} panes a window: {one:.2f} ms of CPU with one window, {five:.2f} ms with five:"
        f" {five / one:.2f} times (0.1.0, with one: about {AT_0_1_0} ms)"
    )
    tell(f"the other four take {totals[1] - totals[0]:.1f} MB for their sums, and {held[1] - held[0]:.1f} MB for panes")
    return {
        "one_ms": one, "five_ms": five, "ratio": five / one, "sums_mb": totals[1] - totals[0],
        "panes_mb": held[1] - held[0],
    }  # fmt: skip


class Checks:
    """A version whose windows are checked pane by pane."""

    def __init__(self, windows: tuple[float, ...], every: int) -> None:
        """Start without panes; a window of a thousand events is checked every so many, and multiples of it are."""
        self._rng, self._every, self._pane = np.random.default_rng(5), every, 0
        rows = workload.features(self._rng, REFERENCE)
        columns = {name: rows[:, i] for i, name in enumerate(workload.FEATURES)}
        features = build_features(dict.fromkeys(workload.FEATURES, True), columns, REFERENCE, POINTS)
        drift = replace(a_drift(1, events=1_000_000), windows=windows)
        spec = a_model(window=counted(WINDOW, every), drift=drift, reference=ReferenceSpec("table", 0, POINTS))
        versions: dict[int, VersionState] = {}
        references = ReferenceSet(spec, Labels(spec.name, 100, binary=False, positive=None), LEARNING, 100)
        references.activate(Profile(features, REFERENCE, True))
        self._evaluator = Evaluator(spec, versions, references, ServingController(spec.name, spec.serving, "m/0"))
        self._version = versions[0] = VersionState(0, "v1", spec, 1_000)
        (self._comparison,) = references.comparisons("v1")

    def seconds(self) -> float:
        """Return the seconds of CPU that the next pane takes once its events are counted."""
        counts = self._comparison.bin_counts(workload.features(self._rng, self._every), [])
        pane, every = self._pane, self._every
        piece = Slice(pane, pane * 1_000, (pane + 1) * 1_000, every, counts, np.zeros(SUMS_SIZE))
        started = time.process_time()
        self._version.push(piece)
        self._evaluator.check(self._version, None, (), None)
        self._pane += 1
        return time.process_time() - started

    def megabytes(self) -> tuple[float, float]:
        """Return what the sums of all windows take, and what the panes of all windows take, which share them."""
        windows = [self._version.window, *(other.window for other in self._version.others)]
        found = (window.total(name) for window in windows for name in self._comparison.vectors)
        panes = {id(piece): piece for window in windows for piece in window}
        held = [counts for piece in panes.values() for counts in piece.counts.values()]
        values = sum(c.value.nbytes + (0 if c.index is None else c.index.nbytes) for c in held)
        return sum(total.nbytes for total in found if total is not None) / 1e6, values / 1e6
