"""What a reference costs: making it in a process of its own, and the first check against it in the loop.

Two hundred numeric features of ten thousand rows: discrete ones, whose rows do not depend on each other, and ones whose
rows do, so that every window size has laws of its own. CPU time of the process counts from its start; the first check
is of windows that all differ enough for their p-values to matter, with and without laws made beforehand.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from detectors.checking import Rates, check
from detectors.comparison import Comparison
from detectors.reference import NumericReference, Profile
from detectors.registry import MIN_EFFECT
from monitor.reference.freezing import FeatureRecipe, laws_request, request
from monitor.reference.freezing_process import FRAME
from monitor.reference.law_windows import LawWindows
from monitor.reference.pane_rows import HASH, RAW, TIME, Rows

FEATURES, ROWS, POINTS, NAMES = 200, 10_000, 2_048, 1_000
WINDOWS = (200, 500, 1_000, 2_000, 5_000)
DEPENDENCE = 0.9


def freezing(tell: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of CPU of the process, bytes, and seconds of CPU of the first check with and without laws."""
    found: dict[str, Any] = {}
    for name, columns in (("discrete", _discrete()), ("dependent", _dependent())):
        made, cpu = _made(columns)
        lacking = _comparison(made, laws=False), _comparison(made, laws=True)
        without, beforehand = (_first_check(of, columns) for of in lacking)
        found[name] = {
            "process_s": cpu, "bytes": len(made.to_bytes()), "first_check_s": beforehand,
            "first_check_without_laws_s": without,
        }  # fmt: skip
        tell(
            f"freezing {FEATURES} {name} features of {ROWS} rows: {cpu:.1f} s of CPU in its process; the first check of"
            f" five windows {beforehand:.2f} s, {without:.2f} s if the loop makes their laws;"
            f" {found[name]['bytes'] / 1e6:.1f} MB"
        )
    return found


def _discrete() -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(6)
    return np.stack([rng.poisson(1 + i % 9, ROWS) for i in range(FEATURES)], axis=1).astype(np.float64)


def _dependent() -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(7)
    values = rng.standard_normal((ROWS, FEATURES))
    for i in range(1, ROWS):
        values[i] = DEPENDENCE * values[i - 1] + np.sqrt(1 - DEPENDENCE**2) * values[i]
    return values.round(4)


def _made(columns: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Profile, float]:
    """Have a profile made by the process that makes references. -> (profile, its seconds of CPU)."""
    encode = msgspec.json.Encoder().encode
    names = [f"feature_{i:03d}" for i in range(columns.shape[1])]
    raws = np.array([encode(dict(zip(names, row, strict=True))) for row in columns.tolist()], object)
    times = 1_700_000_000_000 + np.arange(len(columns), dtype=np.int64) * 1_000
    rows: Rows = {RAW: raws, TIME: times, HASH: np.arange(len(columns), dtype=np.uint64)}
    asked = laws_request(request(FeatureRecipe({}, POINTS, NAMES), rows), LawWindows(events=WINDOWS))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "monitor.reference.freezing_process"], input=FRAME.pack(len(asked)) + asked,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Profile.from_bytes(done.stdout[FRAME.size :]), cpu


def _comparison(made: Profile, *, laws: bool) -> Comparison:
    numeric = [r for r in made.features if isinstance(r, NumericReference)]
    kept = numeric if laws else [replace(r, laws=()) for r in numeric]
    return Comparison("features", kept, [], ("ks", "wasserstein", "chi_square", "jensen_shannon"), MIN_EFFECT)


def _first_check(of: Comparison, columns: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    spread = columns.std(axis=0)
    totals = []
    for window in WINDOWS:
        moved = (columns[:window] + spread).round(4)
        totals.append({name: counts.dense() for name, counts in of.bin_counts(moved, []).items()})
    started = time.process_time()
    for each in totals:
        check([of], each.get, Rates(1e-6, 1e-6, 10))
    return time.process_time() - started
