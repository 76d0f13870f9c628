"""Laws that are made beforehand: whichever are there, every answer is the same; and they are saved with a profile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.findings import CheckResult
from detectors.laws import with_laws
from detectors.reference import MAGIC, NumericReference, Profile
from detectors.reference_builder import build_features
from detectors.registry import MIN_EFFECT
from detectors.saved import pack, unpack
from detectors.season import Season
from detectors.types import FloatArray, IntArray

ROWS, WINDOW = 6_000, 500
EVERYTHING_COUNTS = dict.fromkeys(MIN_EFFECT, 0.0)


def moving(rng: np.random.Generator, rows: int) -> FloatArray:
    """A series whose values depend on those before them."""
    values = rng.standard_normal(rows)
    for i in range(1, rows):
        values[i] = 0.9 * values[i - 1] + np.sqrt(1 - 0.9**2) * values[i]
    return values


def columns(seed: int, rows: int) -> dict[str, FloatArray]:
    rng = np.random.default_rng(seed)
    return {
        "moving": moving(rng, rows),
        "steps": np.round(moving(rng, rows)),
        "heavy": rng.lognormal(size=rows),
        "constant": np.ones(rows),
        "missing": np.where(rng.random(rows) < 0.5, np.nan, rng.standard_normal(rows)),
    }


@pytest.fixture(scope="module")
def profile() -> Profile:
    held = columns(0, ROWS)
    return Profile(build_features(dict.fromkeys(held, True), held, ROWS, 256), ROWS, ordered=True)


@pytest.fixture(scope="module")
def beforehand(profile: Profile) -> Profile:
    return with_laws(profile, [WINDOW, 5 * WINDOW])


def comparison(profile: Profile) -> Comparison:
    numbers = [r for r in profile.features if isinstance(r, NumericReference)]
    return Comparison("f", numbers, [], ["ks", "wasserstein"], EVERYTHING_COUNTS)


def checked(of: Comparison, seed: int, events: int) -> CheckResult:
    held = columns(seed, events)
    counts = of.bin_counts(np.column_stack([held[r.name] + 0.1 for r in of.references]), [])
    totals: dict[str, IntArray] = {name: vector.dense() for name, vector in counts.items()}
    return of.check(totals.get, Rates(1e-4, 1e-4, 10))


@pytest.mark.parametrize("events", [WINDOW, 5 * WINDOW, 90])
def test_laws_made_beforehand_give_the_same_answers(profile: Profile, beforehand: Profile, events: int) -> None:
    """Also in windows of a size for which none were made."""
    saved = Profile.from_bytes(beforehand.to_bytes())

    first, second, third = (checked(comparison(each), 7, events) for each in (profile, beforehand, saved))

    assert [v.p_value for v in second.values] == [v.p_value for v in first.values]
    assert [(v.alpha, v.verdict) for v in second.values] == [(v.alpha, v.verdict) for v in first.values]
    assert second.values == third.values


def test_laws_that_are_taken_in_later_give_the_same_answers(profile: Profile, beforehand: Profile) -> None:
    of = comparison(profile)

    of.learn_laws(beforehand.features)

    assert checked(of, 7, WINDOW).values == checked(comparison(profile), 7, WINDOW).values


def test_laws_that_are_there_are_taken(profile: Profile, beforehand: Profile) -> None:
    """Shown by other ones, whose statistics are ten times as large by chance."""
    others = [
        replace(r, laws=tuple(replace(law, ks=10 * law.ks, w1=10 * law.w1) for law in r.laws))
        for r in beforehand.features
        if isinstance(r, NumericReference)
    ]

    of = comparison(replace(profile, features=tuple(others)))

    judged = {v.p_value for v in checked(of, 7, WINDOW).values if v.statistic == "ks" and v.feature != "constant"}
    assert judged == {1.0}


def test_each_law_is_made_once(beforehand: Profile) -> None:
    """Dependent features have one for each size of windows, independent ones one for all."""
    laws = {r.name: len(r.laws) for r in beforehand.features if isinstance(r, NumericReference)}

    assert (laws["moving"], laws["heavy"], laws["constant"]) == (2, 1, 0)


def test_laws_are_no_content(profile: Profile, beforehand: Profile) -> None:
    assert beforehand.content_hash == profile.content_hash
    assert 0 < len(beforehand.to_bytes()) - len(profile.to_bytes()) < 1_000 * 10


def test_laws_that_were_made_in_another_way_are_made_anew(beforehand: Profile) -> None:
    header, arrays = unpack(MAGIC, beforehand.to_bytes())
    header["laws"]["version"] += 1

    restored = Profile.from_bytes(pack(MAGIC, header, arrays))

    assert restored.content_hash == beforehand.content_hash
    assert not any(r.laws for r in restored.features if isinstance(r, NumericReference))


def test_a_reference_by_season_has_none_beforehand() -> None:
    """Its laws follow from where in the season a window lies."""
    held = columns(1, 2_000)
    hours = np.arange(2_000, dtype=np.int64) * 600_000
    features = build_features(dict.fromkeys(held, True), held, 2_000, 64, Season.HOUR_OF_DAY, hours)
    profile = Profile(features, 2_000, ordered=True)

    assert with_laws(profile, [WINDOW]) is profile
    assert not comparison(profile).lacks_laws


def test_only_laws_that_can_be_made_are_lacking(profile: Profile, beforehand: Profile) -> None:
    texts = replace(profile, features=())

    assert [comparison(each).lacks_laws for each in (profile, beforehand, texts)] == [True, False, False]
