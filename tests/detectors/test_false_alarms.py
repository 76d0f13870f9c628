"""The promise: no more false alarms than the budget allows, under continuous looking, on autocorrelated data.

Fixed seeds, small; a model of five features, without minimum effects, in windows of 1 000 events that are checked every
100. `make simulation` is the same at full size, and holds it to more.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulation.families import FAMILIES, Marginal, path_of
from tests.simulation.monitored import PANE, WINDOW, Monitored, feature_slice, profile_of
from tests.simulation.settings import drift_alone

pytestmark = pytest.mark.slow

FEATURES = 5
ROWS = 10_000
CHECKS = 130


def alarms(family: str, promised: float, references: int, *, in_order: bool = True) -> int:
    """Alarms of so many models, each watched for CHECKS checks; `in_order` is whether references have time order."""
    seen = 0
    for number in range(references):
        rng = np.random.default_rng([11, number])
        panes = CHECKS + WINDOW // PANE
        values = path_of(FAMILIES[family], ROWS + panes * PANE, FEATURES, rng)
        rows = values[:ROWS] if in_order else rng.permutation(values[:ROWS])
        model = Monitored(drift_alone(promised, effects=False), profile_of(rows, Marginal.NORMAL, points=512))
        features = model.panes(Marginal.NORMAL)
        for pane, live in enumerate(values[ROWS:].reshape(panes, PANE, FEATURES)):
            seen += len(model.add(feature_slice(pane, PANE, features.counts(live))).alarms)
    return seen


@pytest.mark.parametrize("family", ["iid", "ar.5", "ar.9"])
def test_m04_the_whole_monitor_alarms_no_more_often_than_its_budget(family: str) -> None:
    """650 checks, one false alarm in a hundred: 6.5 expected."""
    assert alarms(family, 0.01, references=5) <= 6.5 / 0.8


def test_m04_the_budget_is_spent_not_hoarded() -> None:
    """A monitor that never alarms keeps every promise: on independent data a good part of the budget is used."""
    assert alarms("iid", 0.05, references=6) >= 4


def test_where_the_reference_hides_the_dependence_the_budget_is_overdrawn() -> None:
    """What is learned from the order of rows keeps the promise: shuffled rows look independent, live ones are not."""
    assert alarms("ar.5", 0.01, references=4, in_order=False) > 2 * 5.2
