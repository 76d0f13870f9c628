"""Windows against seasonal references: what the season explains is no drift, and what it does not is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from detectors.cells import NumericCells
from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.findings import CheckResult, Family
from detectors.numeric import NumericDistances
from detectors.reference import CategoricalReference, NumericReference
from detectors.reference_builder import Column, build_features
from detectors.registry import MIN_EFFECT
from detectors.season import Season
from detectors.season_law import Arc, Arcs
from detectors.types import FloatArray, IntArray
from tests.detectors.samples import NAN, a_number, autoregressive, samples

HOUR = 3_600_000
DAY = 24 * HOUR
PER_DAY = 1_000
DAYS = 14
RATES = Rates(1e-4, 1e-4, 10)
NO_EFFECT = {**dict.fromkeys(MIN_EFFECT, 1e-12), "missing_rate": 2.0, "unseen_rate": 2.0}
DETECTORS = ("ks", "wasserstein", "chi_square", "jensen_shannon")


def times(days: float, first_day: float = 0.0) -> IntArray:
    """A thousand times a day."""
    return ((first_day * PER_DAY + np.arange(round(days * PER_DAY))) * (DAY / PER_DAY)).astype(np.int64)


def sine(time: IntArray, seed: int, size: float = 1.0, rho: float = 0.0) -> FloatArray:
    noise = autoregressive(len(time), rho, np.random.default_rng(seed))[:, 0]
    return noise + size * np.sin(2 * np.pi * time / DAY)


def comparison_of(
    column: Column, time: IntArray, season: Season | None = Season.HOUR_OF_DAY, effects: dict[str, float] | None = None
) -> Comparison:
    numeric = isinstance(column, np.ndarray)
    built = build_features({"f": numeric}, {"f": column}, len(time), 2_048, season, time)
    return Comparison(
        "r",
        [f for f in built if isinstance(f, NumericReference)],
        [f for f in built if isinstance(f, CategoricalReference)],
        DETECTORS,
        effects or MIN_EFFECT,
    )


def counts_of(comparison: Comparison, column: Column, time: IntArray) -> dict[str, IntArray]:
    if isinstance(column, np.ndarray):
        found = comparison.bin_counts(column[:, None], [], time)
    else:
        (codes,) = comparison.category_cells.codes
        found = comparison.bin_counts(np.zeros((len(time), 0)), [np.array([codes[t] for t in column])], time)
    return {name: counts.dense() for name, counts in found.items()}


def check(comparison: Comparison, column: Column, time: IntArray, rates: Rates = RATES) -> CheckResult:
    return comparison.check(counts_of(comparison, column, time).get, rates)


def names(result: CheckResult) -> set[tuple[Family, str]]:
    return {(f.family, f.statistic) for f in result.findings}


# -- mixtures --------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(samples, samples)
def test_the_weights_of_the_whole_reference_give_its_distances(reference: FloatArray, window: FloatArray) -> None:
    """Where all values are points."""
    r = a_number(reference)
    cells = NumericCells([r])
    found = cells.bin_counts(window[:, None])
    whole = NumericDistances(cells)
    same = whole.expecting(r.weights.astype(np.float64), np.array([float(r.rows)]))
    counts, positions = found.counts.dense(), found.positions.dense()

    assert same.ks(same.window(counts)).value == pytest.approx(whole.ks(whole.window(counts)).value)
    assert same.wasserstein(same.window(counts), positions).value == pytest.approx(
        whole.wasserstein(whole.window(counts), positions).value, nan_ok=True
    )
    assert same.psi(same.window(counts))[0].value == pytest.approx(whole.psi(whole.window(counts))[0].value)


def test_a_number_of_few_values_is_compared_by_them() -> None:
    """However many rows there are of each."""
    time, day = times(DAYS), times(0.5, DAYS)
    rng = np.random.default_rng(3)
    comparison = comparison_of(rng.integers(0, 3, len(time)).astype(np.float64), time)
    dice = rng.integers(0, 3, len(day)).astype(np.float64)

    values = {v.statistic: v.value for v in check(comparison, dice, day).values}

    assert values["wasserstein"] < 0.1
    assert not check(comparison, dice, day).findings
    assert check(comparison, np.where(dice > 1, 1.0, dice), day).findings


def test_a_window_of_the_night_is_compared_with_nights() -> None:
    """A quarter of a day says nothing against the whole, and is known against the same quarter of other days."""
    time, night = times(DAYS), times(0.25, DAYS)
    x, window = sine(time, 1), sine(night, 2)

    assert check(comparison_of(x, time, None), window + 1, night).skipped
    assert not check(comparison_of(x, time), window, night).findings
    assert check(comparison_of(x, time), window + 1, night).findings


def test_what_is_expected_of_a_window_is_shown() -> None:
    """Evidence is about the same hours of the reference."""
    time, day = times(DAYS), times(0.25, DAYS)
    comparison = comparison_of(sine(time, 1, 3.0), time)

    evidence = comparison.evidence("f", counts_of(comparison, sine(day, 2, 3.0), day).get)

    assert evidence is not None
    expected, came = (np.array(held) / sum(held) for held in (evidence.reference, evidence.current))
    assert np.abs(expected - came).max() < 0.1
    assert expected[:3].sum() < 0.05  # the lowest values are of other hours


def test_missing_values_are_expected_by_the_hour() -> None:
    """Half of the values are missing at night, and none by day."""
    time, night, day = times(DAYS), times(0.4, DAYS + 0.05), times(0.4, DAYS + 0.55)

    def with_gaps(time: IntArray, seed: int, *, always: bool = False) -> FloatArray:
        rng = np.random.default_rng(seed)
        gap = (rng.random(len(time)) < 0.5) & ((time % DAY < DAY / 2) | always)
        return np.where(gap, NAN, rng.standard_normal(len(time)))

    comparison = comparison_of(with_gaps(time, 1), time)

    assert not check(comparison, with_gaps(night, 2), night).findings
    assert names(check(comparison, with_gaps(day, 3, always=True), day)) == {(Family.DATA_QUALITY, "missing_rate")}


def test_categories_are_expected_by_the_hour() -> None:
    """A product of the day sold at night is drift; sold by day it is not."""

    def sold(time: IntArray, seed: int, shift: int = 0) -> list[str]:
        rng = np.random.default_rng(seed)
        by_day = (time + shift) % DAY >= DAY / 2
        return ["day" if is_it else "night" for is_it in rng.random(len(time)) < np.where(by_day, 0.8, 0.2)]

    time, night = times(DAYS), times(0.3, DAYS + 0.1)
    comparison = comparison_of(sold(time, 1), time)

    assert not check(comparison, sold(night, 2), night).findings
    assert (Family.DRIFT, "chi_square") in names(check(comparison, sold(night, 3, DAY // 2), night))


def test_a_number_that_is_constant_at_night_is_watched_at_night() -> None:
    """Zero at night, as the power of the sun is; one that is not zero then is found."""
    time, night = times(DAYS), times(0.25, DAYS + 0.1)
    rng = np.random.default_rng(1)
    x = np.where(time % DAY < DAY / 2, 0.0, rng.exponential(size=len(time)))
    comparison = comparison_of(x, time)

    assert not check(comparison, np.zeros(len(night)), night).findings
    assert check(comparison, rng.exponential(size=len(night)), night).findings


def test_a_window_lies_on_an_arc_as_wide_and_where_it_is() -> None:
    """Of traffic that comes by day alone, too."""
    rows = np.concatenate([np.zeros(12, np.int64), np.full(12, 100)])
    arcs = Arcs(rows)

    whole, noon = arcs.of(rows / rows.sum()), arcs.of(np.eye(24)[18])

    assert whole == Arc(0, 0)
    assert arcs.weights(whole).tolist() == (rows / rows.sum()).tolist()
    assert int(arcs.weights(noon).argmax()) == 18
    assert arcs.weights(noon)[17:20].sum() == pytest.approx(1.0)


# -- rates -----------------------------------------------------------------------------------------------


def episodes(comparison: Comparison, x: FloatArray, time: IntArray, window: int, pane: int, rate: float) -> list[int]:
    """At which checks of a stream alarms begin."""
    panes = [counts_of(comparison, x[a : a + pane], time[a : a + pane]) for a in range(0, len(x), pane)]
    held = window // pane
    total = {name: np.sum([p[name] for p in panes[:held]], axis=0) for name in panes[0]}
    begun, alarmed, calm = [], False, 0
    for i in range(len(panes) - held + 1):
        if i:
            total = {name: t + panes[i + held - 1][name] - panes[i - 1][name] for name, t in total.items()}
        result = comparison.check(total.get, Rates(rate, 0.0, held), {(Family.DRIFT, "f")} if alarmed else ())
        if result.findings and not alarmed:
            begun.append(i)
            alarmed, calm = True, 0
        elif alarmed:
            calm = calm + 1 if result.calm else 0
            alarmed = calm < 3
    return begun


def test_a_shift_of_a_daily_sine_is_found_within_two_days() -> None:
    """Half a standard deviation, in windows of a day, with a budget of one alarm in a thousand days."""
    time = times(DAYS)
    for seed in range(5):
        comparison = comparison_of(sine(time, seed), time)
        later = times(3, DAYS)
        begun = episodes(
            comparison, sine(later, 100 + seed) + np.where(later >= (DAYS + 1) * DAY, 0.5, 0.0), later, 1_000, 100, 1e-4
        )
        assert len(begun) == 1
        assert 0 < begun[0] <= 20


def test_a_year_of_a_daily_sine_raises_no_more_alarms_than_the_budget() -> None:
    """0.4 are promised."""
    time, year = times(DAYS), times(366, DAYS)

    assert len(episodes(comparison_of(sine(time, 1), time), sine(year, 2), year, 1_000, 100, 1e-4)) <= 1


@pytest.mark.parametrize(("window", "pane", "rho"), [(1_000, 100, 0.9), (100, 20, 0.0)])
def test_windows_of_a_day_and_of_hours_keep_the_promise(window: int, pane: int, rho: float) -> None:
    """Six references of two weeks and three alarms promised, without minimum effects: more than 8 come once in 300."""
    time, begun, checks = times(DAYS), 0, 500
    for seed in range(6):
        later = times((window + checks * pane) / PER_DAY, DAYS)
        both = sine(np.concatenate([time, later]), 20 + seed, 0.8, rho)
        comparison = comparison_of(both[: len(time)], time, effects=NO_EFFECT)
        begun += len(episodes(comparison, both[len(time) :], later, window, pane, 1e-3))

    assert begun <= 8
