"""The result of a check: statistics, findings, and what could not be judged. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Family(StrEnum):
    """Name the alarm that a finding belongs to."""

    DRIFT = "drift"
    DATA_QUALITY = "data_quality"


class Skipped(StrEnum):
    """Say why a feature was not judged."""

    NO_EVENTS = "no_events"  # it was missing in all of the window
    NO_REFERENCE = "no_reference"  # it was missing in all of the reference
    BLIND = "blind"  # with so few effective events no statistic could be significant


@dataclass(frozen=True, slots=True)
class Finding:
    """Report that one statistic of one feature shows drift.

    Attributes:
        family: The alarm it belongs to.
        feature: Name of the feature.
        statistic: Name of the statistic, as in `registry`.
        value: The statistic.
        effect: The effect size, which is compared with `min_effect`.
        min_effect: The smallest effect that counts, in the unit of `effect`.
        p_value: Computes the p-value. A function, because that may cost more than the whole check.
        alpha: The significance level of the test: largest p-value at which it alarms.
        events: Number of events of the window behind the statistic.
        error: Bound on how far the summary of the reference may have moved the statistic.
    """

    family: Family
    feature: str
    statistic: str
    value: float
    effect: float
    min_effect: float
    p_value: Callable[[], float]
    alpha: float
    events: int
    error: float

    @property
    def weight(self) -> float:
        """Return effect divided by minimum effect, by which findings are ranked and graded."""
        return self.effect / self.min_effect if self.min_effect > 0 else np.inf


@dataclass(frozen=True, slots=True)
class Value:
    """Hold one statistic of one feature, computed from `events` events, for the history."""

    feature: str
    statistic: str
    value: float
    events: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Hold the outcome of one check of one window.

    Attributes:
        values: All statistics.
        findings: Those that show drift.
        calm: Of the features that the caller listed because they alarmed, those that are clearly below the threshold
            again. Between drifted and calm there is a margin (hysteresis), so that an alarm does not flap.
        skipped: Features that were not judged, with the reason.
        listed: What every test found of the features that the caller listed, drift or not.
    """

    values: tuple[Value, ...]
    findings: tuple[Finding, ...]
    calm: frozenset[tuple[Family, str]]
    skipped: Mapping[str, Skipped]
    listed: tuple[Finding, ...] = ()

    def joined(self, other: CheckResult) -> CheckResult:
        """Combine two checks of the same window that compared different features."""
        return CheckResult(
            (*self.values, *other.values),
            (*self.findings, *other.findings),
            # A comparison reports features that it does not know as calm, so both have to agree.
            self.calm & other.calm,
            {**self.skipped, **other.skipped},
            (*self.listed, *other.listed),
        )
