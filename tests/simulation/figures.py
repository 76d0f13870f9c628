"""Figures and what they are held to: a rate of alarms against what was promised, and how certain it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
from scipy import stats

_SURE: Final = 0.99  # of the interval that a limit is missed by
_SURE_ENOUGH: Final = 0.9  # of the one that it is kept by, where simulating stops
_ENOUGH: Final = 100  # alarms from which on a rate without a limit is known well enough
_FEWEST: Final = 20  # references before a row may stop


class Verdict(StrEnum):
    """What became of a limit."""

    KEPT = "kept"
    UNSURE = "unsure"  # beyond the limit, but chance explains it
    MISSED = "MISSED"
    REPORTED = "-"  # there is no limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, as it is printed.

    Attributes:
        part: Part of the simulation.
        row: What was simulated.
        value: The figure in words.
        limit: What it is held to, in words; empty without a limit.
        verdict: What became of it.
        details: Numbers behind it.
    """

    part: str
    row: str
    value: str
    limit: str
    verdict: Verdict
    details: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """What run / promise is held to: at least, and at most where that is given."""

    least: float
    most: float | None = None

    def __str__(self) -> str:
        return f">= {self.least:g}" + ("" if self.most is None else f", <= {self.most:g}")


class Rate:
    """Alarms of one row, over references with a stream each.

    References differ: the reference itself is estimated, and may be lucky. The interval of the rate takes the spread
    between them into account, as a factor of the Poisson variance that is at least 1.
    """

    def __init__(self, promised: float, limits: Limits | None) -> None:
        """Start without references; `promised` is the promised rate of alarms per check."""
        self.promised, self.limits = promised, limits
        self.checks: list[int] = []
        self.alarms: list[int] = []

    def add(self, checks: int, alarms: int) -> None:
        """Take in one reference."""
        self.checks.append(checks)
        self.alarms.append(alarms)

    @property
    def expected(self) -> float:
        """Alarms that were promised."""
        return self.promised * sum(self.checks)

    @property
    def seen(self) -> int:
        """Alarms that came."""
        return sum(self.alarms)

    @property
    def ratio(self) -> float:
        """Run / promise: promised alarms by alarms seen; infinite where none came."""
        return self.expected / self.seen if self.seen else math.inf

    def bounds(self, sure: float = _SURE) -> tuple[float, float]:
        """Return the interval of run / promise; its upper end is infinite where no alarm came."""
        tail, factor = (1 - sure) / 2, self._excess()
        count = self.seen / factor
        most = factor * float(stats.chi2.isf(tail, 2 * (count + 1))) / 2
        least = factor * float(stats.chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
        return self.expected / most, self.expected / least if least else math.inf

    def _excess(self) -> float:
        """Return by what factor counts of references vary more than Poisson counts."""
        if len(self.alarms) < 2 or not self.seen:
            return 1.0
        wanted = np.array(self.checks) / sum(self.checks) * self.seen
        found = float(((np.array(self.alarms) - wanted) ** 2 / wanted).sum()) / (len(self.alarms) - 1)
        return max(found, 1.0)

    @property
    def median(self) -> float:
        """Return run / promise of the median reference.

        Rates of references are taken as gamma distributed: counts of a few alarms each have no median of their own.
        """
        mean, excess = self.seen / max(len(self.alarms), 1), self._excess()
        if excess <= 1 or not mean:
            return self.ratio
        shape = mean / (excess - 1)
        middle = float(stats.gamma.median(shape)) / shape
        return self.ratio / middle if middle else math.inf

    @property
    def verdict(self) -> Verdict:
        """What became of the limits."""
        if self.limits is None:
            return Verdict.REPORTED
        (low, high), (least, most) = self.bounds(), (self.limits.least, self.limits.most)
        if high < least or (most is not None and low > most):
            return Verdict.MISSED
        inside = self.ratio >= least and (most is None or self.ratio <= most)
        return Verdict.KEPT if inside else Verdict.UNSURE

    @property
    def is_certain(self) -> bool:
        """Whether more references would not change the verdict."""
        if len(self.alarms) < _FEWEST:
            return False
        if self.limits is None:
            return self.seen >= _ENOUGH
        (low, high), (least, most) = self.bounds(_SURE_ENOUGH), (self.limits.least, self.limits.most)
        kept = low >= least and (most is None or high <= most)
        return kept or self.verdict is Verdict.MISSED

    def figure(self, part: str, row: str) -> Figure:
        """Return it as a figure."""
        low, high = self.bounds()
        details = {
            "promised": self.expected, "seen": self.seen, "checks": sum(self.checks), "references": len(self.checks),
            "ratio": _number(self.ratio), "low": low, "high": _number(high), "median": _number(self.median),
        }  # fmt: skip
        value = (
            f"run/promise {_text(self.ratio)} ({_text(low)} to {_text(high)}), median {_text(self.median)}; "
            f"{self.expected:.3g} promised, {self.seen} seen, {len(self.checks)} references"
        )
        limit = "" if self.limits is None else str(self.limits)
        return Figure(part, row, value, limit, self.verdict, details)


def at_most(part: str, row: str, seen: int, promised: float) -> Figure:
    """Return a figure of a count that is held to a promise: beyond it only as far as chance explains (Poisson, 1 %)."""
    kept = seen <= promised or bool(stats.poisson.sf(seen - 1, promised) > 1 - _SURE)
    value, limit = f"{seen}, promised {promised:.3g}", f"<= {stats.poisson.ppf(_SURE, promised):.0f}"
    return Figure(
        part, row, value, limit, Verdict.KEPT if kept else Verdict.MISSED, {"seen": seen, "promised": promised}
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "inf"
