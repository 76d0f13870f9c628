"""Merged profiles: what the profile of all rows would be, within stated bounds; and what cannot be merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from detectors.blocks import MOST_BLOCKS
from detectors.comparison import Comparison
from detectors.merging import UnlikeError, merge
from detectors.reference import Baseline, CategoricalReference, NumericReference, Part, Profile
from detectors.reference_builder import Column, build
from detectors.registry import MIN_EFFECT
from detectors.season import Season
from detectors.types import FloatArray

KINDS = {"x": True, "d": True, "c": False}
HOUR = 3_600_000


def some_columns(rows: int, seed: int) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    holes = rng.random(rows) < 0.1
    return {
        "x": np.where(holes, np.nan, rng.standard_normal(rows)),
        "d": rng.poisson(2, rows).astype(np.float64),
        "c": [None if hole else f"t{int(v)}" for hole, v in zip(holes, rng.exponential(9, rows), strict=True)],
    }


def profile_of(columns: Mapping[str, Column], start: int, stop: int, season: Season | None = None) -> Profile:
    """Of the rows from `start` to `stop`, a minute each."""
    time = np.arange(start, stop) * 60_000
    kinds = {name: KINDS.get(name, True) for name in columns}
    part = {name: column[start:stop] for name, column in columns.items()}
    built = build(kinds, part, stop - start, 2_048, season, time)
    return Profile(
        built.features, stop - start, ordered=True, first_ms=int(time[0]), last_ms=int(time[-1]), blocks=(built.blocks,)
    )


def merged(*profiles: Profile, ordered: bool = True) -> Profile:
    parts = [Part(f"p{i}", p.content_hash, p.rows, p.first_ms, p.last_ms) for i, p in enumerate(profiles)]
    return merge(profiles, parts, ordered=ordered)


def number(profile: Profile, name: str = "x") -> NumericReference:
    found = profile.feature(name)
    assert isinstance(found, NumericReference)
    return found


def category(profile: Profile) -> CategoricalReference:
    found = profile.feature("c")
    assert isinstance(found, CategoricalReference)
    return found


def series(rows: int, rho: float, seed: int) -> FloatArray:
    """An autoregression of variance 1."""
    noise = np.random.default_rng(seed).standard_normal(rows)
    found: FloatArray = lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise)
    return found


# -- distributions ---------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 99), st.integers(1, 1_500), st.integers(1, 1_500))
def test_parts_that_hold_all_their_values_merge_to_what_all_rows_give(seed: int, first: int, second: int) -> None:
    columns = some_columns(first + second, seed)
    whole = profile_of(columns, 0, first + second)
    found = merged(profile_of(columns, 0, first), profile_of(columns, first, first + second))

    for name in ("x", "d"):
        one, other = number(found, name), number(whole, name)
        assert one.points.tolist() == other.points.tolist()
        assert one.weights.tolist() == other.weights.tolist()
        assert (one.rows, one.missing, one.ks_error) == (other.rows, other.missing, other.ks_error)
        assert (one.w1_error, one.sd) == pytest.approx((other.w1_error, other.sd))
    one_text, other_text = category(found), category(whole)
    assert (one_text.categories, one_text.known) == (other_text.categories, other_text.known)
    assert one_text.counts.tolist() == other_text.counts.tolist()
    assert (one_text.singletons, one_text.other) == (other_text.singletons, other_text.other)
    assert (found.rows, found.first_ms, found.last_ms) == (whole.rows, whole.first_ms, whole.last_ms)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 99), st.integers(3_000, 9_000), st.integers(3_000, 9_000))
def test_of_thinned_parts_the_merged_distribution_is_as_near_as_it_states(seed: int, first: int, second: int) -> None:
    columns = {"x": np.random.default_rng(seed).lognormal(size=first + second)}
    found = number(merged(profile_of(columns, 0, first), profile_of(columns, first, first + second)))

    rows = np.sort(columns["x"])
    exact = np.searchsorted(rows, found.points, side="right") / len(rows)
    told = np.cumsum(found.weights) / found.weights.sum()
    assert np.abs(exact - told).max() <= found.ks_error + 1 / found.weights.sum()
    assert found.sd == pytest.approx(rows.std(), rel=1e-2)


def test_of_more_categories_than_are_kept_the_most_frequent_are() -> None:
    rng = np.random.default_rng(0)
    texts = [f"t{int(v)}" for v in rng.exponential(60, 8_000)]
    whole = profile_of({"c": texts}, 0, 8_000)
    found = merged(profile_of({"c": texts}, 0, 5_000), profile_of({"c": texts}, 5_000, 8_000))

    assert category(found).rows == 8_000
    assert category(found).counts.sum() + category(found).other == 8_000
    assert len(set(category(found).categories) & set(category(whole).categories)) >= 90
    assert category(found).singletons == pytest.approx(category(whole).singletons, abs=10)


def test_rows_by_season_add_up() -> None:
    columns = some_columns(9_000, 3)
    whole = profile_of(columns, 0, 9_000, Season.HOUR_OF_DAY)
    found = merged(*(profile_of(columns, *cut, Season.HOUR_OF_DAY) for cut in ((0, 4_000), (4_000, 9_000))))

    one, other = number(found).seasonal, number(whole).seasonal
    assert one is not None
    assert other is not None
    assert one.rows.tolist() == other.rows.tolist()
    assert one.missing.tolist() == other.missing.tolist()
    assert one.periods == pytest.approx(other.periods, abs=0.01)


def test_baselines_are_means_by_their_rows() -> None:
    columns = some_columns(200, 4)
    one = replace(
        profile_of(columns, 0, 100), baselines={"mae": Baseline(1.0, 100, 0.04), "rmse": Baseline(3.0, 100, 0)}
    )
    two = replace(
        profile_of(columns, 100, 200), baselines={"mae": Baseline(4.0, 300, 0.01), "rmse": Baseline(4.0, 100, 0)}
    )
    found = merged(one, two).baselines

    assert (found["mae"].value, found["mae"].n) == (3.25, 400)
    assert found["mae"].variance == pytest.approx((0.04 + 9 * 0.01) / 16)
    assert found["rmse"].value == pytest.approx(np.sqrt(12.5))


# -- dependence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_dependence_is_what_all_rows_would_have_told(rho: float) -> None:
    columns = {"x": series(20_000, rho, 5)}
    whole = number(profile_of(columns, 0, 20_000)).dependence
    found = number(merged(profile_of(columns, 0, 12_000), profile_of(columns, 12_000, 20_000))).dependence

    for size in (100, 1_000, 4_000):
        assert found.at(size)[:2] == pytest.approx(whole.at(size)[:2], rel=0.15)
    assert found.rows == whole.rows


def test_windows_vary_by_how_far_parts_lie_apart() -> None:
    """Halves half a standard deviation apart: a window of 1000 varies by 1000 · .25 · .5² more than one event."""
    columns = {"x": series(20_000, 0.0, 6)}
    columns["x"][10_000:] += 0.5
    found = number(merged(profile_of(columns, 0, 10_000), profile_of(columns, 10_000, 20_000))).dependence

    assert found.at(1_000)[0] == pytest.approx(1 + 1_000 * 0.0625 / 1.0625, rel=0.15)


def test_parts_of_one_distribution_are_rarely_taken_for_different_ones() -> None:
    """At most 4 directions of a number, each at 1 %."""
    differ = 0
    for seed in range(40):
        columns = {"x": series(2_000, 0.0, 100 + seed)}
        found = number(merged(profile_of(columns, 0, 1_000), profile_of(columns, 1_000, 2_000)))
        differ += bool(found.dependence.at(500).max() > 2)
    assert differ <= 4


def test_windows_are_judged_as_by_the_profile_of_all_rows() -> None:
    """The share of 300 windows that are called different at 1 in 20, of an autoregression."""
    columns: dict[str, Any] = {"x": series(20_000, 0.5, 7)}
    whole = profile_of(columns, 0, 20_000)
    found = merged(profile_of(columns, 0, 9_000), profile_of(columns, 9_000, 20_000))
    alarms = [rate_of_alarms(profile) for profile in (whole, found)]

    assert alarms[0] > 0
    assert alarms[1] == pytest.approx(alarms[0], abs=3)


def rate_of_alarms(profile: Profile) -> int:
    comparison = Comparison("features", [number(profile)], [], ("ks", "wasserstein"), dict.fromkeys(MIN_EFFECT, 0.0))
    windows = series(300 * 400, 0.5, 8).reshape(300, 400)
    found = 0
    for window in windows:
        counts = comparison.bin_counts(window[:, None], [])
        tests = comparison.compute(lambda name, counts=counts: None if name not in counts else counts[name].dense())  # type: ignore[misc]
        found += any(test.p_value() < 0.05 for test in tests.tests if test.statistic in ("ks", "wasserstein"))
    return found


# -- blocks ----------------------------------------------------------------------------------------------


def test_blocks_stay_apart_have_one_size_and_count_all_rows() -> None:
    columns = some_columns(9_000, 9)
    found = merged(profile_of(columns, 0, 2_000), profile_of(columns, 2_000, 9_000))

    assert [blocks.rows for blocks in found.blocks] == [2_000, 7_000]
    assert len({blocks.size for blocks in found.blocks}) == 1
    assert sum(map(len, found.blocks)) <= MOST_BLOCKS
    text = category(found)
    for name, total, missing in (("x", number(found).rows, number(found).missing), ("c", text.rows, text.missing)):
        held = [blocks.features()[name] for blocks in found.blocks]
        assert sum(int(its.counts[:, :-1].sum()) for its in held) == total
        assert sum(int(its.counts[:, -1].sum()) for its in held) == missing
    for its in (blocks.features()["d"] for blocks in found.blocks):
        assert len(its.cell) == len(number(found, "d").points)
        assert set(its.cell.tolist()) == set(range(its.counts.shape[1] - 1))


def test_a_merged_profile_merges_again_and_knows_its_parts() -> None:
    columns = some_columns(900, 10)
    one, two, three = (profile_of(columns, start, start + 300) for start in (0, 300, 600))
    found = Profile.from_bytes(merged(merged(one, two), three).to_bytes())

    assert [blocks.rows for blocks in found.blocks] == [300, 300, 300]
    assert [part.rows for part in found.parts] == [600, 300]
    assert number(found).weights.sum() == number(profile_of(columns, 0, 900)).weights.sum()


# -- what cannot be merged -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"x": np.zeros(50)}, "p0 has 'c' and p1 has not"),
        ({"x": np.zeros(50), "c": np.zeros(50)}, "is categorical in p0"),
    ],
)
def test_what_differs_is_named(other: dict[str, Column], words: str) -> None:
    one = profile_of({"x": np.zeros(50), "c": ["a"] * 50}, 0, 50)
    kinds = dict.fromkeys(other, True)
    two = build(kinds, other, 50)
    with pytest.raises(UnlikeError, match=words):
        merged(one, Profile(two.features, 50, ordered=True, blocks=(two.blocks,)))


def test_profiles_without_blocks_or_with_another_season_are_refused() -> None:
    columns = some_columns(200, 11)
    one = profile_of(columns, 0, 100)
    with pytest.raises(UnlikeError, match="earlier release"):
        merged(one, replace(profile_of(columns, 100, 200), blocks=()))
    with pytest.raises(UnlikeError, match="season"):
        merged(one, profile_of(columns, 100, 200, Season.HOUR_OF_DAY))


def test_rows_in_no_order_stay_in_no_order() -> None:
    columns = some_columns(200, 12)
    one, two = profile_of(columns, 0, 100), profile_of(columns, 100, 200)

    assert merged(one, two).ordered
    assert not merged(one, two, ordered=False).ordered
    assert not merged(one, replace(two, ordered=False)).ordered
