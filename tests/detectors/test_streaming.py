"""ADWIN on errors: what it finds and how soon, what it does not find, and that nothing about it is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import ADWIN

from detectors.saved import DamagedError, pack
from detectors.streaming import KEPT, MAGIC, RENEWED_AFTER, SCHEMA, Adwin, Change
from detectors.types import FloatArray
from tests.detectors.samples import autoregressive

FULL = KEPT + RENEWED_AFTER


def wrong(rate: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Errors of a classifier."""
    return (rng.random(count) < rate).astype(np.float64)


def steps(*means: tuple[float, int], seed: int = 0) -> FloatArray:
    """Errors at one rate after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([wrong(rate, count, rng) for rate, count in means])


def river_finds(errors: FloatArray) -> list[int]:
    """Where ADWIN itself finds a change."""
    river: Any = ADWIN()  # type: ignore[no-untyped-call]  # river is not typed
    found = []
    for i, error in enumerate(errors.tolist()):
        river.update(error)
        if river.drift_detected:
            found.append(i)
    return found


def first_rise(errors: FloatArray, after: int) -> int | None:
    """How many errors later a rise at `after` was found; None where it was not, or something before it."""
    found = Adwin().add(errors)
    if not found or found[0].at < after or not found[0].rose:
        return None
    return found[0].at - after


# -- finding ---------------------------------------------------------------------------------------------


def test_m16_it_finds_what_river_finds() -> None:
    """As long as it is not built again: the same errors, the same places."""
    errors = steps((0.1, 1_000), (0.4, 500), (0.1, 500), (0.3, 1_000))
    expected = river_finds(errors)

    assert [change.at for change in Adwin().add(errors)] == expected
    assert len(expected) >= 3


@pytest.mark.parametrize(("rate", "slowest"), [(0.4, 200), (0.2, 800)])
def test_a_rise_of_errors_is_found(rate: float, slowest: int) -> None:
    """statistics.md 5.3: after some 80 errors from .1 to .4, some 370 from .1 to .2."""
    delays = [first_rise(steps((0.1, 2_000), (rate, 2_000), seed=seed), 2_000) for seed in range(20)]

    assert None not in delays
    assert np.median([d for d in delays if d is not None]) < slowest


def test_m33_a_fall_is_told_from_a_rise() -> None:
    """It is found as well, and is good news."""
    for seed in range(10):
        found = Adwin().add(steps((0.4, 2_000), (0.1, 1_000), seed=seed))
        assert [change.rose for change in found] == [False]


def test_a_change_says_from_where_to_where() -> None:
    """By the split that explains most, not by the window that ADWIN is left with."""
    errors = steps((0.1, 2_000), (0.4, 1_000), seed=3)
    (change,) = Adwin().add(errors)
    cut = change.at + 1 - change.errors

    assert abs(cut - 2_000) < 60
    assert change.before == pytest.approx(errors[:cut].mean(), abs=1e-4)
    assert change.after == pytest.approx(errors[cut : change.at + 1].mean(), abs=1e-4)


def test_a_change_is_told_once() -> None:
    """The new mean is normal from then on."""
    assert len(Adwin().add(steps((0.1, 2_000), (0.5, 20_000)))) == 1


def test_a_slow_rise_is_found() -> None:
    """From .05 to .4 over ten thousand errors, more than the detector holds."""
    rng = np.random.default_rng(0)
    rate = np.concatenate([np.full(2_000, 0.05), np.linspace(0.05, 0.4, 10_000)])
    errors = (rng.random(12_000) < rate).astype(np.float64)

    assert sum(change.rose for change in Adwin().add(errors)) >= 2


def evenly(rate: float, count: int) -> FloatArray:
    """Errors at a rate, as evenly spread as they can be."""
    result: FloatArray = np.diff(np.floor(np.arange(count + 1) * rate))
    return result


def test_a_change_that_is_seen_when_the_detector_is_built_again_is_told_then() -> None:
    """Without the older half in between, what had been hidden shows; ADWIN that keeps all of it sees nothing."""
    errors = np.concatenate([evenly(0.3, KEPT), evenly(0.25, RENEWED_AFTER // 2), evenly(0.35, RENEWED_AFTER // 2)])
    (change,) = Adwin().add(errors)

    assert river_finds(errors) == []
    assert (change.at, change.rose) == (FULL - 1, True)
    assert (change.before, change.after) == pytest.approx((0.25, 0.35), abs=0.005)


# -- not finding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.4])
def test_a_stationary_stream_of_errors_raises_no_alarm(rate: float) -> None:
    """statistics.md 5.2: none in 10 000, here in 20 streams of as many."""
    assert sum(len(Adwin().add(steps((rate, 10_000), seed=seed))) for seed in range(20)) == 0


def test_groups_keep_an_autocorrelated_stream_quiet() -> None:
    """With a coefficient of .9: many alarms one by one, hardly any in groups of about φ."""
    streams = [autoregressive(10_000, 0.9, np.random.default_rng(seed))[:, 0] > 1.28 for seed in range(10)]
    one_by_one = sum(len(Adwin().add(s.astype(np.float64))) for s in streams)
    grouped = sum(len(Adwin(12).add(s.astype(np.float64))) for s in streams)

    assert one_by_one > 50
    assert grouped <= 2


def test_a_rise_is_found_in_groups_too() -> None:
    """Later, by some groups."""
    found = Adwin(8).add(steps((0.1, 4_000), (0.4, 4_000)))

    assert [change.rose for change in found] == [True]
    assert 4_000 < found[0].at < 5_000
    assert found[0].errors % 8 == 0


def test_nothing_is_found_in_nothing() -> None:
    """No errors at all, and no errors among answers."""
    assert Adwin().add(np.zeros(0)) == []
    assert Adwin().add(np.zeros(10_000)) == Adwin().add(np.ones(10_000)) == []


# -- what it takes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001])
def test_m34_an_error_outside_of_zero_and_one_is_refused(value: float) -> None:
    """One NaN would silence ADWIN for ever. What came with it was not taken in either."""
    detector = Adwin()
    with pytest.raises(ValueError, match="between 0 and 1"):
        detector.add(np.array([0.5, value]))

    assert detector.to_bytes() == Adwin().to_bytes()


@pytest.mark.parametrize("group", [0, -1, 70_000])
def test_an_impossible_group_is_refused(group: int) -> None:
    """It is the number of errors behind one input."""
    with pytest.raises(ValueError, match=f"group {group}"):
        Adwin(group)


# -- keeping ---------------------------------------------------------------------------------------------

# Means that change every now and then, over more errors than a detector holds.
streams = st.tuples(
    st.integers(0, 2**32 - 1), st.lists(st.tuples(st.sampled_from([0.05, 0.2, 0.5]), st.integers(1, 3_000)), max_size=5)
).map(lambda drawn: steps((0.1, 1), *drawn[1], seed=drawn[0]))


def fed(errors: FloatArray, cuts: list[int], group: int, *, saving: bool) -> tuple[list[Change], bytes]:
    """All changes, at their place in the whole stream; `saving` puts the detector away at every cut."""
    detector, found, start = Adwin(group), list[Change](), 0
    for stop in [*sorted(min(cut, len(errors)) for cut in cuts), len(errors)]:
        for change in detector.add(errors[start:stop]):
            found.append(Change(change.at + start, change.before, change.after, change.errors))
        start = stop
        if saving:
            detector = Adwin.from_bytes(detector.to_bytes())
    return found, detector.to_bytes()


@settings(max_examples=25)
@given(streams, st.lists(st.integers(0, 15_000), max_size=6), st.sampled_from([1, 3, 16]))
def test_m32_a_restored_detector_goes_on_as_if_nothing_had_happened(
    errors: FloatArray, cuts: list[int], group: int
) -> None:
    """The same changes at the same places, and the same state in the end."""
    assert fed(errors, cuts, group, saving=True) == fed(errors, [], group, saving=False)


@settings(max_examples=25)
@given(streams, st.lists(st.integers(0, 15_000), max_size=6), st.sampled_from([1, 3, 16]))
def test_batches_do_not_matter(errors: FloatArray, cuts: list[int], group: int) -> None:
    """Nor that a group begins in one and ends in the next."""
    assert fed(errors, cuts, group, saving=False) == fed(errors, [], group, saving=False)


def test_m24_state_is_bounded() -> None:
    """After any number of errors."""
    detector = Adwin(50)
    sizes = []
    for seed in range(50):
        detector.add(np.random.default_rng(seed).random(10_007))
        sizes.append(len(detector.to_bytes()))

    assert max(sizes) <= 2 * (FULL + 50) + 300


@settings(max_examples=30)
@given(st.data())
def test_damaged_state_is_refused(data: st.DataObject) -> None:
    """With the error that callers know."""
    detector = Adwin()
    detector.add(steps((0.1, 100)))
    blob = bytearray(detector.to_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DamagedError):
        Adwin.from_bytes(bytes(blob))


def test_state_of_a_newer_release_is_refused() -> None:
    """Rather than misread."""
    with pytest.raises(DamagedError, match=f"schema {SCHEMA + 1}, this release knows {SCHEMA}"):
        Adwin.from_bytes(pack(MAGIC, {"schema": SCHEMA + 1, "group": 1}, {}))
