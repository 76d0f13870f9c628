"""The promise: no more false alarms than the budget allows, under continuous looking, on autocorrelated data.

Fixed seeds, small. `python -m tests.bench.false_alarms` is the same at full size.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.false_alarms import Setting, simulate

pytestmark = pytest.mark.slow

SMALL = Setting(rows=4_000, window=200, pane=40, budget=4_000, autocorrelation=0.0)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_m04_the_whole_monitor_alarms_no_more_often_than_its_budget(rho: float) -> None:
    """Five features, four detectors, a check every 40 events; one false alarm in 4 000 events: 6.5 expected."""
    found = simulate(replace(SMALL, autocorrelation=rho), references=5, checks=130, uncorrected=False)

    assert found.expected == pytest.approx(6.5)
    assert found.seen <= found.expected / 0.8


def test_m04_the_budget_is_spent_not_hoarded() -> None:
    """A monitor that never alarms keeps every promise: on independent data a good part of the budget is used."""
    generous = replace(SMALL, budget=800)

    assert simulate(generous, references=6, checks=130, uncorrected=False).seen >= 4


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_without_the_correction_for_overdispersion_the_budget_is_overdrawn(rho: float) -> None:
    """It is what keeps the promise: without it alarms are many times as many, or hardly ever end."""
    found = simulate(replace(SMALL, autocorrelation=rho), references=4, checks=130)

    assert found.uncorrected > 3 * found.expected or found.uncorrected_alarmed > 0.5
