"""MetricDependence of panes: what autocorrelation takes of the information of events, and how well it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from detectors.pane_dependence import (
    FEWEST_PANES,
    INDEPENDENT,
    MetricDependence,
    dependence_of,
    in_student_law,
    supposed,
)
from detectors.types import FloatArray


def sums_of(rho: float, panes: int, seed: int) -> FloatArray:
    """Sums of the hundred events of each pane, of a Gaussian AR(1) series with variance 1."""
    noise: FloatArray = np.random.default_rng(seed).standard_normal(panes * 100 + 1_000) * (1 - rho * rho) ** 0.5
    series: FloatArray = np.asarray(lfilter([1.0], [1.0, -rho], noise), np.float64)
    sums: FloatArray = series[1_000:].reshape(panes, 100).sum(axis=1)
    return sums


@pytest.mark.parametrize(("rho", "true"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)])
def test_of_many_panes_the_variance_of_autocorrelated_events_is_found(rho: float, true: float) -> None:
    """(1 + ρ) / (1 - ρ) times that of independent ones."""
    found = [dependence_of(sums_of(rho, 200, seed), 100.0, supposed()).phi for seed in range(40)]

    assert 0.85 * true <= float(np.median(found)) <= 1.25 * true


def test_before_there_are_panes_what_is_supposed_counts() -> None:
    assert dependence_of(sums_of(0.0, FEWEST_PANES - 1, 1), 100.0, supposed()) == supposed()


def test_what_is_supposed_counts_less_with_every_pane() -> None:
    found = [dependence_of(sums_of(0.0, panes, 1), 100.0, supposed()).phi for panes in (16, 32, 64, 256)]

    assert found == sorted(found, reverse=True)
    assert found[0] >= 16
    assert found[-1] < 1.5


def test_a_version_with_a_small_share_of_the_requests_is_supposed_to_have_few_neighbours() -> None:
    assert supposed(0.0).phi == 1.0
    assert supposed(0.1).phi == pytest.approx(2.5)
    assert supposed(1.0).phi == 16.0


def test_few_panes_with_a_long_memory_leave_few_degrees_of_freedom() -> None:
    short, long = (dependence_of(sums_of(rho, 64, 3), 100.0, supposed()).df for rho in (0.0, 0.995))

    assert short > 50
    assert long < 20


@given(st.lists(st.floats(-1e6, 1e6), min_size=FEWEST_PANES, max_size=80), st.floats(0, 1e6))
def test_dependence_is_always_a_number_and_never_helps(sums: list[float], independent: float) -> None:
    found = dependence_of(np.array(sums), independent, supposed())

    assert 1.0 <= found.phi < math.inf
    assert found.df >= 3.0


def test_what_never_varies_shows_no_dependence() -> None:
    """As of errors that never came."""
    assert dependence_of(np.zeros(256), 0.0, supposed()).phi == pytest.approx(1.0, abs=0.1)


@given(st.floats(1e-12, 0.49), st.floats(3, 1e6))
def test_students_law_is_never_more_certain_than_the_normal_one(p: float, df: float) -> None:
    read = in_student_law(p, df)

    assert read >= p * (1 - 1e-9)
    assert read == pytest.approx(stats.t.cdf(stats.norm.ppf(p), df), rel=1e-6)


def test_a_known_variance_leaves_a_p_value_as_it_is() -> None:
    assert in_student_law(1e-6, INDEPENDENT.df) == 1e-6
    assert in_student_law(0.7, 5.0) == 0.7


def test_of_two_the_larger_one_counts_where_chance_does_not_explain_it() -> None:
    latest = MetricDependence(2.0, 90.0)

    assert latest.or_larger(MetricDependence(3.0, 90.0)).phi == 3.0
    assert latest.or_larger(MetricDependence(3.0, 10.0)).phi == 2.0
    assert latest.or_larger(MetricDependence(2.2, 90.0)).phi == 2.0
    assert latest.or_larger(MetricDependence(1.0, math.inf)).phi == 2.0


def test_neighbours_depend_on_each_other_across_the_ends_of_panes() -> None:
    """An AR(1) of .9 has a φ of 19; panes of a hundred show less than that."""
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(256 * 100 + 500)
    stream = lfilter([1.0], [1.0, -0.9], noise)[500:] * 0.19**0.5
    sums = stream.reshape(-1, 100).mean(axis=1)

    within, across = (dependence_of(sums, 0.01, supposed(0.0), events=events).phi for events in (math.inf, 100.0))

    assert 1.05 * within < across < 1.4 * within
    assert across == pytest.approx(19, rel=0.35)


@pytest.mark.parametrize(("events", "panes", "least", "most"), [(10, 10, 2, 2.5), (3, 1, 16, 16), (40, 5, 16, 16)])
def test_what_is_supposed_of_rare_events_agrees_with_how_many_came_together(
    events: int, panes: int, least: float, most: float
) -> None:
    assert least <= supposed().with_clusters(events, panes).phi <= most


def test_where_none_came_nothing_is_known_of_clusters() -> None:
    assert supposed().with_clusters(0, 0) == supposed()
