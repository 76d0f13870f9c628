"""`make simulation`: how often the drift detectors raise a false alarm, against how often they were allowed to.

    python -m tests.bench.false_alarms [--quick] [--json]

Streams that never change are watched by KS and Wasserstein on four numeric features and by chi-square and
Jensen-Shannon on a categorical one, without a minimum effect, so that p-values alone decide. A false alarm is an
episode: it begins with a finding and ends after three calm checks in a row. The budget is one false alarm in so
many events, for all features and detectors together. "Uncorrected" is the same without the correction for
overdispersion, which is what makes the difference where events are autocorrelated: at first there are many
alarms, then few that hardly ever end.

Exits 1 if a budget was overdrawn by more than a quarter and by more than chance explains.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from scipy import stats
from scipy.signal import lfilter

from detectors.checking import Rates, check
from detectors.comparison import Comparison
from detectors.dependence import Dependence
from detectors.dispersion import Dispersion
from detectors.findings import Family
from detectors.pane import Counts
from detectors.reference import CategoricalReference, NumericReference, Reference
from detectors.reference_builder import Column, build_features
from detectors.registry import MIN_EFFECT
from detectors.types import FloatArray, IntArray
from detectors.window import Slice, Window, WindowRule

NUMERIC: Final = 4
KINDS: Final = {**{f"x{i}": True for i in range(NUMERIC)}, "c": False}
VERSIONLESS_TIERS: Final = ("a", "b", "c", "d")
POINTS: Final = 512
DETECTORS: Final = ("ks", "wasserstein", "chi_square", "jensen_shannon")
CALM_CHECKS: Final = 3
OVERDRAWN: Final = 1.25  # of what was promised
NO_EFFECT: Final = dict.fromkeys(MIN_EFFECT, 1e-12)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """A model: `rows` in its reference, windows and panes of so many events, one false alarm in `budget` events."""

    rows: int
    window: int
    pane: int
    budget: int
    autocorrelation: float


@dataclass(frozen=True)
class Found:
    """What became of a setting, over several references with a stream each."""

    setting: Setting
    checks: int
    expected: float
    seen: int
    uncorrected: int
    uncorrected_alarmed: float  # share of the checks in which an alarm was on
    overdispersion: float  # mean over features and references, at the size of the window

    @property
    def kept(self) -> bool:
        """Whether the promise was kept, or chance explains that it does not look so."""
        return self.seen <= OVERDRAWN * self.expected or bool(stats.poisson.sf(self.seen - 1, self.expected) > 1e-3)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = {name: value for name, value in asdict(self).items() if name != "setting"}
        return {**asdict(self.setting), **found, "kept": self.kept}


class Episodes:
    """Counts alarms: a feature that drifts joins the running episode, which ends when all were calm for long."""

    def __init__(self) -> None:
        self.begun = self.alarmed = 0
        self._listed: set[tuple[Family, str]] = set()
        self._calm = 0

    def check(self, comparison: Comparison, window: Window, allowed: Rates) -> None:
        """Take one check in."""
        result = check([comparison], window.total, allowed, self._listed)
        fresh = {(finding.family, finding.feature) for finding in result.findings} - self._listed
        if fresh:
            self.begun += not self._listed
            self._listed |= fresh
            self._calm = 0
        elif self._listed:
            self._calm = self._calm + 1 if self._listed <= result.calm else 0
            if self._calm == CALM_CHECKS:
                self._listed, self._calm = set(), 0
        self.alarmed += bool(self._listed)


def stream(rows: int, rho: float, rng: np.random.Generator) -> FloatArray:
    """(rows, features) of AR(1) series with a standard normal law each; the last is the categorical one's."""
    noise = rng.standard_normal((rows, NUMERIC + 1)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    result: FloatArray = lfilter([1.0], [1.0, -rho], noise, axis=0)
    return result


def categories_of(series: FloatArray) -> IntArray:
    """Quartiles of the normal law as categories."""
    result: IntArray = np.searchsorted([-0.6745, 0.0, 0.6745], series)
    return result


def references_of(rows: FloatArray) -> tuple[Reference, ...]:
    """The reference of a stream."""
    texts = [VERSIONLESS_TIERS[i] for i in categories_of(rows[:, -1]).tolist()]
    columns: dict[str, Column] = {f"x{i}": rows[:, i] for i in range(NUMERIC)}
    columns["c"] = texts
    return build_features(KINDS, columns, len(rows), POINTS)


def comparison_of(references: Sequence[Reference], *, corrected: bool = True) -> Comparison:
    """As the daemon compares; or as if rows were independent."""
    if not corrected:
        references = [_as_if_independent(r) for r in references]
    numeric = [r for r in references if isinstance(r, NumericReference)]
    categorical = [r for r in references if isinstance(r, CategoricalReference)]
    return Comparison("features", numeric, categorical, DETECTORS, NO_EFFECT)


def _as_if_independent(r: Reference) -> Reference:
    plain = replace(r, dispersion=Dispersion(), missing_dispersion=Dispersion(), dependence=Dependence())
    return replace(plain, value_dependence=Dependence()) if isinstance(plain, NumericReference) else plain


def simulate(setting: Setting, references: int, checks: int, *, seed: int = 0, uncorrected: bool = True) -> Found:
    """`references` models, watched for so many checks each."""
    seen = plain = alarmed = 0
    spread: list[float] = []
    for number in range(references):
        rng = np.random.default_rng([seed, number])
        made = references_of(stream(setting.rows, setting.autocorrelation, rng))
        spread += [r.dispersion.at(setting.window) for r in made]
        comparison = comparison_of(made)
        watched = [(comparison, Episodes())]
        if uncorrected:
            watched.append((comparison_of(made, corrected=False), Episodes()))
        panes = setting.window // setting.pane
        # All but a small part is for drift, as in the daemon without rules.
        rate = setting.pane / setting.budget
        allowed = Rates(rate * 12 / 13, rate / 13, panes)
        window = Window(WindowRule(panes, panes, setting.window))
        events = stream((checks + panes - 1) * setting.pane, setting.autocorrelation, rng)
        codes = categories_of(events[:, -1])
        for i in range(checks + panes - 1):
            rows = slice(i * setting.pane, (i + 1) * setting.pane)
            window.push(_slice(i, setting.pane, comparison.bin_counts(events[rows, :NUMERIC], [codes[rows]])))
            if len(window) == panes:
                for judge, episodes in watched:
                    episodes.check(judge, window, allowed)
        seen += watched[0][1].begun
        if uncorrected:
            plain, alarmed = plain + watched[1][1].begun, alarmed + watched[1][1].alarmed
    done = references * checks
    expected = done * setting.pane / setting.budget
    return Found(setting, done, expected, seen, plain, alarmed / done, float(np.mean(spread)))


def _slice(number: int, events: int, counts: dict[str, Counts]) -> Slice:
    return Slice(number, number * events, (number + 1) * events, events, counts, np.zeros(0))


def settings() -> list[Setting]:
    """What is simulated: two sizes of windows, two budgets, from independent events to slow ones."""
    return [
        Setting(10_000, window, pane, budget, rho)
        for window, pane, budget in ((1_000, 100, 50_000), (200, 20, 10_000), (1_000, 100, 200_000))
        for rho in (0.0, 0.5, 0.9, 0.97)
    ]


def table(rows: Sequence[Found]) -> str:
    """For people."""
    lines = [("one alarm in", "window", "autocorrelation", "overdispersion", "expected", "seen", "uncorrected", "")]
    for r in rows:
        lines.append(
            (
                f"{r.setting.budget} events",
                f"{r.setting.window}",
                f"{r.setting.autocorrelation:g}",
                f"{r.overdispersion:.1f}",
                f"{r.expected:.1f}",
                f"{r.seen}",
                f"{r.uncorrected}, on for {r.uncorrected_alarmed:.0%}",
                "" if r.kept else "OVERDRAWN",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)).rstrip() for line in lines)


def main() -> int:
    """Simulate everything. -> exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.false_alarms", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--json", action="store_true", help="print one document instead of the table")
    asked = parser.parse_args()
    references, checks = (6, 400) if asked.quick else (24, 600)
    began, rows = time.perf_counter(), list[Found]()
    everything = settings()
    for number, setting in enumerate(everything, 1):
        rows.append(simulate(setting, references, checks))
        _tell(f"{number} of {len(everything)} settings, {time.perf_counter() - began:.0f} s")
    print(json.dumps([row.document() for row in rows]) if asked.json else table(rows))
    return 0 if all(row.kept for row in rows) else 1


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
