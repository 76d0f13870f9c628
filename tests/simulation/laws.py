"""Measure how often single tests alarm falsely, against how often they may: `python -m tests.simulation.laws`.

Streams that never change, of one feature, are watched through `Comparison`. A false alarm is an episode: it begins with
a finding and ends after three calm checks in a row. What is printed is the number that was promised over the number
that was seen: above 1 is too silent, below 1 are too many. Fixed seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special
from scipy.signal import lfilter

from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.findings import Family
from detectors.reference import CategoricalReference, NumericReference
from detectors.reference_builder import build_features
from detectors.registry import MIN_EFFECT
from detectors.types import FloatArray, IntArray

NO_EFFECT: Final = {**dict.fromkeys(MIN_EFFECT, 1e-12), "missing_rate": 2.0, "unseen_rate": 2.0}
_CALM: Final = 3
_BEFORE: Final = 2_000  # events that are thrown away: a series has to forget how it began
Draw = Callable[[int, np.random.Generator], FloatArray]


def autoregressive(rho: float) -> Draw:
    """Return a series with a standard normal law at any one time."""

    def draw(rows: int, rng: np.random.Generator) -> FloatArray:
        noise = rng.standard_normal(rows) * np.sqrt(1 - rho * rho)
        noise[0] /= np.sqrt(1 - rho * rho)
        result: FloatArray = lfilter([1.0], [1.0, -rho], noise)
        return result

    return draw


def _users(rows: int, rng: np.random.Generator) -> FloatArray:
    """Returning users: one value each, in runs of eight on average."""
    lengths = rng.geometric(1 / 8, rows // 4 + 100)
    result: FloatArray = np.repeat(rng.standard_normal(len(lengths)), lengths)[:rows]
    return result


def _two_scales(rows: int, rng: np.random.Generator) -> FloatArray:
    fast, slow = autoregressive(0.5)(rows, rng), autoregressive(0.99)(rows, rng)
    result: FloatArray = np.sqrt(0.8) * fast + np.sqrt(0.2) * slow
    return result


def _volatility(rows: int, rng: np.random.Generator) -> FloatArray:
    result: FloatArray = np.exp(0.7 * autoregressive(0.98)(rows, rng)) * rng.standard_normal(rows)
    return result


def _regimes(rows: int, rng: np.random.Generator) -> FloatArray:
    """Two means, a standard deviation apart, in turns of 300 events on average."""
    lengths = rng.geometric(1 / 300, rows // 100 + 100)
    state = np.repeat(np.arange(len(lengths)) % 2, lengths)[:rows]
    return state + rng.standard_normal(rows)


def _moving_average(rows: int, rng: np.random.Generator) -> FloatArray:
    return np.convolve(rng.standard_normal(rows + 149), np.ones(150) / np.sqrt(150), "valid")


NUMERIC: Final[dict[str, Draw]] = {
    "iid": lambda rows, rng: rng.standard_normal(rows),
    "five": lambda rows, rng: rng.integers(0, 5, rows).astype(np.float64),
    "lognormal": lambda rows, rng: np.exp(1.5 * rng.standard_normal(rows)),
    "ar.5": autoregressive(0.5),
    "ar.9": autoregressive(0.9),
    "ar.97": autoregressive(0.97),
    "users": _users,
    "scales": _two_scales,
    "garch": _volatility,
    "regimes": _regimes,
    "ma150": _moving_average,
}


def _categories(series: Draw, shares: tuple[float, ...]) -> Draw:
    """Return a series of category numbers with these shares, driven by one of numbers."""
    cuts = special.ndtri(np.cumsum(shares)[:-1])
    return lambda rows, rng: np.searchsorted(cuts, series(rows, rng)).astype(np.float64)


CATEGORICAL: Final[dict[str, Draw]] = {
    "c-iid": _categories(NUMERIC["iid"], (0.5, 0.3, 0.2)),
    "c-rare": _categories(NUMERIC["iid"], (0.5, 0.3, 0.195, 0.005)),
    "c-many": _categories(NUMERIC["iid"], (0.05,) * 20),
    "c-ar.5": _categories(autoregressive(0.5), (0.25,) * 4),
    "c-ar.9": _categories(autoregressive(0.9), (0.25,) * 4),
    "c-ar.97": _categories(autoregressive(0.97), (0.25,) * 4),
    "c-users": _categories(_users, (0.4, 0.3, 0.2, 0.05, 0.05)),
}


@dataclass(frozen=True)
class Setting:
    """A reference of `rows`, windows of `window` events that slide on by `pane`, and alarms allowed per check."""

    rows: int = 10_000
    window: int = 1_000
    pane: int = 100
    rate: float = 1e-3


class Watch:
    """One feature against its reference, checked pane by pane."""

    def __init__(self, reference: FloatArray, setting: Setting, *, categorical: bool) -> None:
        self.setting, self.categorical = setting, categorical
        texts = [f"c{int(v)}" for v in reference] if categorical else reference
        self.features = build_features({"x": not categorical}, {"x": texts}, len(reference))
        self.comparison = Comparison(
            "f",
            [f for f in self.features if isinstance(f, NumericReference)],
            [f for f in self.features if isinstance(f, CategoricalReference)],
            ("chi_square", "jensen_shannon") if categorical else ("ks", "wasserstein"),
            NO_EFFECT,
        )

    def counts(self, values: FloatArray) -> dict[str, IntArray]:
        """Return the dense counts of events."""
        if self.categorical:
            codes = self.comparison.category_cells.codes[0]
            column = np.array([codes[f"c{int(v)}"] for v in values], np.int64)
            found = self.comparison.bin_counts(np.zeros((len(values), 0)), [column])
        else:
            found = self.comparison.bin_counts(values[:, None], [])
        return {name: counts.dense() for name, counts in found.items()}

    def checks(self, stream: FloatArray, rate: float) -> tuple[int, int, int]:
        """Return checks, episodes, and at which check the first one began (-1 for none)."""
        s = self.setting
        panes = [self.counts(stream[at : at + s.pane]) for at in range(0, len(stream) - s.pane + 1, s.pane)]
        held = s.window // s.pane
        totals = {name: sum((p[name] for p in panes[:held]), np.zeros_like(c)) for name, c in panes[0].items()}
        rates = Rates(rate, 0.0, held)
        begun, first, calm, alarmed = 0, -1, 0, False
        listed = {(Family.DRIFT, "x")}
        for i in range(len(panes) - held + 1):
            if i:
                for name, total in totals.items():
                    total += panes[i + held - 1][name] - panes[i - 1][name]
            result = self.comparison.check(totals.get, rates, listed if alarmed else ())
            if result.findings and not alarmed:
                alarmed, begun = True, begun + 1
                first = i if first < 0 else first
            if alarmed:
                calm = calm + 1 if listed <= result.calm else 0
                if calm == _CALM:
                    alarmed = False
        return len(panes) - held + 1, begun, first


def run(kind: str, setting: Setting, references: int, checks: int, seed: int = 19) -> str:
    """Watch so many references for so many checks each; return a line for people."""
    draw = NUMERIC.get(kind) or CATEGORICAL[kind]
    began, total, seen, per_reference = time.process_time(), 0, 0, []
    for number in range(references):
        rng = np.random.default_rng([seed, number])
        series = draw(_BEFORE + setting.rows + setting.window + checks * setting.pane, rng)[_BEFORE:]
        watch = Watch(series[: setting.rows], setting, categorical=kind in CATEGORICAL)
        done, begun, _ = watch.checks(series[setting.rows :], setting.rate)
        total, seen = total + done, seen + begun
        per_reference.append(begun)
    promised = setting.rate * total
    return (
        f"{kind:10s} promised {promised:6.1f} seen {seen:4d} run/promise {promised / max(seen, 0.5):6.2f}"
        f"  median {promised / references / max(float(np.median(per_reference)), 0.5):5.2f}"
        f"  largest {max(per_reference)}  {time.process_time() - began:.0f} s"
    )


SHIFTS: Final[dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]]] = {
    "mean .5 sd": lambda x, rng: x + 0.5,
    "mean .3 sd": lambda x, rng: x + 0.3,
    "mean .15 sd": lambda x, rng: x + 0.15,
    "mean .1 sd": lambda x, rng: x + 0.1,
    "scale 1.25": lambda x, rng: x * 1.25,
    "6 % at +3 sd": lambda x, rng: np.where(rng.random(len(x)) < 0.06, 3.0, x),
}


def delay(shift: str, setting: Setting, streams: int, seed: int = 29, longest: int = 20_000) -> str:
    """Return how soon a change of independent normal values is found, in events."""
    found: list[float] = []
    for number in range(streams):
        rng = np.random.default_rng([seed, number])
        watch = Watch(rng.standard_normal(setting.rows), setting, categorical=False)
        before = rng.standard_normal(setting.window)
        after = SHIFTS[shift](rng.standard_normal(longest), rng)
        _, _, first = watch.checks(np.concatenate([before, after]), setting.rate)
        found.append(np.inf if first < 0 else first * setting.pane)
    share = float(np.mean(np.isfinite(found)))
    return f"{shift:14s} median {np.median(found):7.0f} events, found {share:.2f}"


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.laws", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kinds", nargs="*", default=[*NUMERIC, *CATEGORICAL], help="streams, or `delay`")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--window", type=int, default=1_000)
    parser.add_argument("--pane", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--references", type=int, default=60)
    parser.add_argument("--checks", type=int, default=1_500)
    asked = parser.parse_args()
    setting = Setting(asked.rows, asked.window, asked.pane, asked.rate)
    print(setting, flush=True)
    for kind in asked.kinds:
        if kind == "delay":
            # One of twenty features, one alarm per million events.
            one = Setting(asked.rows, asked.window, asked.pane, asked.pane / 1e6 / 20)
            for shift in SHIFTS:
                print(delay(shift, one, asked.references), flush=True)
        else:
            print(run(kind, setting, asked.references, asked.checks), flush=True)


if __name__ == "__main__":
    main()
