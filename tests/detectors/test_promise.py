"""What the promised number of false alarms rests on: enough windows in the order of time, or an assumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.dependence import Dependence
from detectors.dispersion import Dispersion
from detectors.promise import Founded, founded, founded_of
from detectors.reference import Profile
from detectors.reference_builder import build_features
from detectors.season import Season
from tests.detectors.samples import a_category, a_number

NUMBERS = a_number(np.random.default_rng(0).standard_normal(5_000))


@pytest.mark.parametrize(
    ("events", "ordered", "expected"),
    [(500, True, Founded.KEPT), (501, True, Founded.ASSUMED), (100, False, Founded.ASSUMED)],
)
def test_ten_windows_in_the_order_of_time_are_enough(events: int, ordered: bool, expected: Founded) -> None:
    assert founded(NUMBERS, events, ordered=ordered) is expected


def test_what_an_older_release_learned_is_an_assumption() -> None:
    """It knows no directions."""
    old = replace(NUMBERS, dependence=Dependence(), dispersion=Dispersion((32,), (1.0,)))

    assert founded(old, 100, ordered=True) is Founded.ASSUMED


@pytest.mark.parametrize(("days", "expected"), [(1, Founded.ASSUMED), (2, Founded.KEPT)])
def test_a_season_must_have_come_twice(days: int, expected: Founded) -> None:
    time = np.arange(5_000) * days * 86_400_000 // 5_000
    values = np.random.default_rng(1).standard_normal(5_000)
    (daily,) = build_features({"x": True}, {"x": values}, 5_000, 128, Season.HOUR_OF_DAY, time)

    assert founded(daily, 100, ordered=True) is expected


def test_a_constant_has_nothing_to_learn() -> None:
    assert founded(a_number(np.ones(5_000)), 100, ordered=True) is Founded.KEPT


def test_one_feature_that_is_assumed_makes_the_model_so() -> None:
    short = a_category(["a", "b"] * 400)
    profile = Profile((NUMBERS,), 5_000, ordered=True)

    assert founded_of(profile, 500) is Founded.KEPT
    assert founded_of(replace(profile, features=(NUMBERS, short)), 500) is Founded.ASSUMED
