"""The result of a check: statistics, findings, and what could not be judged. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, overload

import numpy as np

from detectors.significance import KolmogorovLaw


class Family(StrEnum):
    """Name the alarm that a finding belongs to."""

    DRIFT = "drift"
    DATA_QUALITY = "data_quality"


class Skipped(StrEnum):
    """Say why a feature was not judged."""

    NO_EVENTS = "no_events"  # it was missing in all of the window
    NO_REFERENCE = "no_reference"  # it was missing in all of the reference
    BLIND = "blind"  # with so few effective events no statistic could be significant
    RARE = "rare"  # hardly a row of the reference is of a category that is told from the others


class Verdict(StrEnum):
    """Say what one test of one feature came to. Stored by place and told by name: new ones come at the end."""

    OK = "ok"  # no effect that matters
    CHANCE = "chance"  # an effect that would matter, and that chance explains
    DRIFT = "drift"
    BLIND = "blind"  # with so few effective events no difference could be significant
    NO_EVENTS = "no_events"  # not tested: the feature was missing in all of the window
    NO_REFERENCE = "no_reference"  # not tested: nothing to compare with
    NEVER_CAME = "never_came"  # not tested: no event ever had the feature
    TOO_FEW = "too_few"  # not tested: the window has fewer events than a check needs
    RARE = "rare"  # hardly a row of the reference is of a category that is told from the others


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


class Value(NamedTuple):
    """Hold one statistic of one feature with its verdict, for the history.

    Attributes:
        feature: Name of the feature.
        statistic: Name of the statistic.
        value: The statistic; NaN where nothing was tested.
        events: Number of events behind it.
        effect: The effect size; NaN where nothing was tested.
        verdict: What the test came to.
        p_value: The p-value where the effect matters, or the law that gives it in an earlier release; else None.
        alpha: The largest p-value at which the test alarms; None where its p-value does not matter.
    """

    feature: str
    statistic: str
    value: float
    events: int
    effect: float = float("nan")
    verdict: Verdict = Verdict.OK
    p_value: float | KolmogorovLaw | None = None
    alpha: float | None = None


class Deferred(Sequence[Value]):
    """Values that are made when they are first read: those of most windows never are."""

    def __init__(self, make: Callable[[], Iterable[Value]]) -> None:
        """Take what makes them."""
        self._make: Callable[[], Iterable[Value]] | None = make
        self._made: tuple[Value, ...] = ()

    def _all(self) -> tuple[Value, ...]:
        if self._make is not None:
            self._made, self._make = tuple(self._make()), None
        return self._made

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        """Return some of them."""
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Value]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # it equals a tuple, of which the hash would have all values made


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Hold the outcome of one check of one window.

    Attributes:
        values: All statistics that were computed.
        findings: Those that show drift.
        calm: Of the features that the caller listed because they alarmed, those that are clearly below the threshold
            again. Between drifted and calm there is a margin (hysteresis), so that an alarm does not flap.
        skipped: Features that were not judged, with the reason.
        listed: What every test found of the features that the caller listed, drift or not.
        untested: Statistics that could not be computed, each with the reason as its verdict.
        alpha: About the significance level of a test of drift, which varies with its law; NaN where there was none.
    """

    values: Sequence[Value]
    findings: tuple[Finding, ...]
    calm: frozenset[tuple[Family, str]]
    skipped: Mapping[str, Skipped]
    listed: tuple[Finding, ...] = ()
    untested: tuple[Value, ...] = ()
    alpha: float = float("nan")

    @classmethod
    def of_untested(cls, values: tuple[Value, ...]) -> CheckResult:
        """Return the result of a window that was not checked."""
        return cls((), (), frozenset(), {}, untested=values)

    def joined(self, other: CheckResult) -> CheckResult:
        """Combine two checks of the same window that compared different features."""
        return CheckResult(
            Deferred(lambda: (*self.values, *other.values)),
            (*self.findings, *other.findings),
            # A comparison reports features that it does not know as calm, so both have to agree.
            self.calm & other.calm,
            {**self.skipped, **other.skipped},
            (*self.listed, *other.listed),
            (*self.untested, *other.untested),
            self.alpha,
        )
