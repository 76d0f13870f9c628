"""How much more the panes of a metric vary than independent events would, and how well that is known.

Events of a stream are autocorrelated: a sum over n of them varies like one over n/φ independent events. φ is the
long-run variance of the panes' sums over the variance that independent events would give them. The long-run variance
is that of an autoregression of the panes (Berk, 1974; Burg, 1975), whose order Schwarz' criterion chooses. It is an
estimate from few panes itself, so tests that use it read their statistic in Student's law. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import special

from detectors.types import FloatArray

FEWEST_PANES: Final = 16  # below, φ is supposed
_MANY_PANES: Final = 64  # from which on Schwarz' criterion is relied on where it finds no memory
_SUPPOSED: Final = 16.0
_SUPPOSED_DF: Final = 20.0
_HIGHEST_ORDER: Final = 12
_NEARLY_ONE: Final = 0.98  # largest sum of the coefficients: beyond, the series has no mean to speak of
_LEAST_DF: Final = 3.0
_CONFIDENT: Final = 0.95
_MANY: Final = 1e6  # degrees of freedom, for infinitely many
_LARGER_CLUSTERS: Final = 0.01  # probability of as few events in as many panes, if clusters were as large
_LARGEST: Final = 1e9  # φ beyond which nothing is known of a mean


@dataclass(frozen=True, slots=True)
class MetricDependence:
    """Say how much information the events of a metric carry.

    Attributes:
        phi: n events carry as much as n / phi independent ones; at least 1.
        df: Degrees of freedom of phi; infinite where it is known.
    """

    phi: float = 1.0
    df: float = math.inf

    def or_larger(self, other: MetricDependence) -> MetricDependence:
        """Return the other one if it is larger by more than chance explains (Fisher's F at .05), else this.

        The larger of two estimates of the same is too large.
        """
        ratio = special.fdtri(min(other.df, _MANY), min(self.df, _MANY), _CONFIDENT)
        return other if other.phi > self.phi * float(ratio) else self

    def with_clusters(self, events: int, panes: int) -> MetricDependence:
        """Return what can be supposed, where it is supposed, of rare events that came in so many panes.

        Of clusters whose sizes are geometric with mean c, φ is 2c - 1, and the sum of `panes` of them is seldom as
        small as `events` if c is large: single failures in ten panes are no clusters of sixteen.

        Args:
            events: Events of the rarer kind, at least as many as panes.
            panes: Panes with any of them.
        """
        if not panes:
            return self
        share = float(special.betaincinv(panes, events - panes + 1, _LARGER_CLUSTERS))
        return replace(self, phi=min(self.phi, 2 / share - 1))


INDEPENDENT: Final = MetricDependence()


def supposed(share: float = 1.0) -> MetricDependence:
    """Return what is supposed before there are panes to learn from.

    Args:
        share: Share of the model's requests that the version answers, 0 to 1. Neighbours of a request depend on it,
            and of a small share of them few are neighbours.
    """
    return MetricDependence(1 + (_SUPPOSED - 1) * min(max(share, 0.0), 1.0), _SUPPOSED_DF)


def dependence_of(
    sums: FloatArray,
    independent: float,
    before: MetricDependence,
    telling: int | None = None,
    events: float = math.inf,
) -> MetricDependence:
    """Estimate the dependence of the sums of consecutive panes.

    What was supposed before counts too, by the cube of FEWEST_PANES / telling panes.

    Args:
        sums: What each pane adds to a statistic, shape (panes,); fewer than FEWEST_PANES tell nothing.
        independent: Variance of one of them if its events were independent.
        before: What is supposed without panes.
        telling: How many panes tell something: panes without a failure do not show whether failures come together.
            None: all.
        events: Events of a pane, on average. Neighbours depend on each other across the ends of panes as well.
    """
    n = len(sums)
    if n < FEWEST_PANES or not math.isfinite(independent):
        return before
    series = sums - sums.mean()
    power = float(series @ series) / n
    if not math.isfinite(power):
        return before
    variance, memory, order = _long_run(series / math.sqrt(power)) if power > 0 else (0.0, 0.0, 0)
    # What the panes' own mean takes away of it, as it varies by as much.
    spread = (1 + memory) / (1 - memory)
    variance *= power / (1 - min(spread / n, 0.5))
    known = n if telling is None else telling
    phi = min(max(variance / independent, 1.0), _LARGEST) if independent > 1e-300 else 1.0
    if not order:
        alone = min(max(power / independent * n / (n - 1), 1.0), _LARGEST) if independent > 1e-300 else 1.0
        phi = max(phi if n < _MANY_PANES else 1.0, _beyond_panes(alone, events))
    phi += max(before.phi - phi, 0.0) * (FEWEST_PANES / max(known, FEWEST_PANES)) ** 3
    # The relative variance of an autoregression's long-run variance, of which two parts come from its sum.
    df = n / (1 + 2 * spread) if order else n - 1
    return MetricDependence(phi, max(df, _LEAST_DF))


def _beyond_panes(phi: float, events: float) -> float:
    """Return φ of long sums, where that of panes is known and nothing shows how panes depend on each other.

    Of an AR(1) that of n events falls short by (φ² - 1)/2n; where there are several time scales by about twice that.
    """
    return phi + (phi * phi - 1) / max(events, phi)


def _long_run(series: FloatArray) -> tuple[float, float, int]:
    """Return (long-run variance, sum of the coefficients, order) of a series with mean 0 and variance 1.

    No smaller than without any memory, and than with a memory of one pane: of few panes Schwarz' criterion finds too
    little of it.
    """
    n = len(series)
    forward, backward = series[1:], series[:-1]
    coefficients = np.zeros(0)
    error, best = 1.0, 0.0
    chosen = largest = (1.0, 0.0, 0)
    for order in range(1, min(_HIGHEST_ORDER, n // 4) + 1):
        energy = float(forward @ forward + backward @ backward)
        if energy <= 0:
            break
        reflection = 2 * float(forward @ backward) / energy
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        error *= max(1 - reflection * reflection, 1e-12)
        forward, backward = (forward - reflection * backward)[1:], (backward - reflection * forward)[:-1]
        memory = min(float(coefficients.sum()), _NEARLY_ONE)
        found = error * n / (n - order) / (1 - memory) ** 2, max(memory, 0.0), order
        if order == 1:
            largest = max(chosen, found)
        criterion = n * math.log(error) + order * math.log(n)
        if criterion < best:
            best, chosen = criterion, found
    if chosen[0] >= largest[0]:
        return chosen
    return largest[0], largest[1], chosen[2]


def in_student_law(p_value: float, df: float) -> float:
    """Read the p-value of a statistic with a normal law in Student's: its variance is an estimate.

    Args:
        p_value: One-sided p-value.
        df: Degrees of freedom of the variance.
    """
    if not (math.isfinite(df) and 0.0 < p_value < 0.5):
        return p_value
    return float(special.stdtr(df, float(special.ndtri(p_value))))
