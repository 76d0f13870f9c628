"""Rows of the history: what was measured in one window. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectors.findings import CheckResult, Value
from monitor.aggregation.metrics import Estimate
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.alerting.records import AlertWindow
from monitor.evaluation.version_state import VersionState


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row of the history.

    Attributes:
        version: Version of the window.
        outcomes: Whether it has metrics of outcomes, or those of answers.
        start: Start of the window, ms.
        end: End of the window, ms.
        names: (feature, metric) of each value; the feature is empty for metrics of the version.
        values: Values, as many as names.
        events: Events behind each value.
        coverage: Share of answers whose outcome has arrived; None in a row of answers.
        probabilities: Whether numbers of a binary task were read as probabilities, or as labels; None without any.
        window: What the window is called: `extents.window_label`.
        tests: What the check found of the features: of the last names, one of each.
        threshold: The p-value at which these tests alarm; NaN where there was no check.
    """

    version: str
    outcomes: bool
    start: int
    end: int
    names: tuple[tuple[str, str], ...]
    values: tuple[float, ...]
    events: tuple[int, ...]
    coverage: float | None
    probabilities: bool | None = None
    window: str = ""
    tests: tuple[Value, ...] = ()
    threshold: float = float("nan")


def answer_row(
    version: str,
    window: AlertWindow,
    estimates: Mapping[str, Estimate],
    result: CheckResult | None = None,
    *,
    probabilities: bool | None = None,
) -> HistoryRow:
    """Return the row of a window of answers: metrics, and what its check found or why there was none.

    `probabilities` is as in `HistoryRow`.
    """
    tests = () if result is None else (*result.values, *result.untested)
    return HistoryRow(
        version,
        False,
        window.start,
        window.end,
        (*(("", name) for name in estimates), *((v.feature, v.statistic) for v in tests)),
        (*(e.value for e in estimates.values()), *(v.value for v in tests)),
        (*(e.n for e in estimates.values()), *(v.events for v in tests)),
        None,
        probabilities,
        window.label,
        tests,
        float("nan") if result is None else result.alpha,
    )


def outcome_row(
    version: VersionState, window: OutcomeWindow, user_metrics: Sequence[str], *, final: bool
) -> HistoryRow | None:
    """Return the row of a window as its outcomes are now.

    None while there are no outcomes, unless the window is `final`: then that there are none is a fact. None also
    where no outcomes are expected.
    """
    if version.outcomes is None:
        return None
    estimates = version.outcomes.metrics(window.first, window.last, user_metrics)
    coverage = estimates.get("coverage")
    if coverage is None or not (final or "label_delay_s" in estimates):
        return None
    named = list(estimates.items())
    return HistoryRow(
        version.version,
        True,
        window.start,
        window.end,
        tuple(("", name) for name, _ in named),
        tuple(e.value for _, e in named),
        tuple(e.n for _, e in named),
        coverage.value,
        version.outcomes.reading(window.first, window.last),
        version.window_label,
    )
