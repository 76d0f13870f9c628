"""What the promised number of false alarms rests on: enough windows in the order of time, or an assumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.comparison import Comparison
from detectors.dependence import Dependence
from detectors.reference import Profile, Reference
from detectors.reference_builder import build_features
from detectors.season import Season
from monitor.evaluation.foundation import on_answers, on_reference
from tests.detectors.samples import a_number

NUMBERS = a_number(np.random.default_rng(0).standard_normal(5_000))


def reasons(reference: Reference, events: int, *, ordered: bool = True) -> list[str]:
    return list(on_reference(Profile((reference,), reference.rows, ordered), events))


@pytest.mark.parametrize(("events", "ordered", "kept"), [(500, True, True), (501, True, False), (100, False, False)])
def test_ten_windows_in_the_order_of_time_are_enough(events: int, ordered: bool, kept: bool) -> None:
    assert (reasons(NUMBERS, events, ordered=ordered) == []) is kept


@pytest.mark.parametrize(("events", "profile", "kept"), [(500, 50_000, True), (501, 50_000, False), (501, 5_000, True)])
def test_predictions_have_a_reference_of_their_own_that_must_be_long_enough_too(
    events: int, profile: int, kept: bool
) -> None:
    """One as long as that of the features comes from the same table, and is judged with it."""
    own = Comparison("answers", [NUMBERS], [], ("ks",), {})

    assert (list(on_answers(own, Profile((), profile, ordered=True), events)) == []) is kept


def test_what_an_older_release_learned_is_an_assumption() -> None:
    """It knows no directions."""
    (why,) = reasons(replace(NUMBERS, dependence=Dependence()), 100)

    assert "built by an earlier release" in why


@pytest.mark.parametrize(("days", "kept"), [(1, False), (2, True)])
def test_a_season_must_have_come_twice(days: int, kept: bool) -> None:
    time = np.arange(5_000) * days * 86_400_000 // 5_000
    values = np.random.default_rng(1).standard_normal(5_000)
    (daily,) = build_features({"x": True}, {"x": values}, 5_000, 128, Season.HOUR_OF_DAY, time)

    assert (reasons(daily, 100) == []) is kept


def test_a_constant_has_nothing_to_learn() -> None:
    assert reasons(a_number(np.ones(5_000)), 100) == []
