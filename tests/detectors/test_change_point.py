"""When a feature began to drift: known changes lie in the interval that is told, and near the estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from detectors.change_point import ChangePoint, binned_panes, change_point
from detectors.comparison import Comparison
from detectors.pane import CountsByName
from detectors.reference import CategoricalReference, NumericReference
from detectors.reference_builder import build_features
from detectors.registry import MIN_EFFECT
from detectors.season import Season
from detectors.types import FloatArray, IntArray

PANES, EVERY = 50, 100
SEEN = slice(PANES - 10, None)  # the configured window: the last ten panes
Rng = np.random.Generator


def a_comparison(numbers: FloatArray | None = None, texts: Sequence[str] = ()) -> Comparison:
    """A feature `x` of numbers, or `c` of texts."""
    numeric = numbers is not None
    columns: dict[str, FloatArray | Sequence[str | None]] = (
        {"x": numbers} if numbers is not None else {"c": list(texts)}
    )
    name = "x" if numeric else "c"
    built = build_features({name: numeric}, columns, len(columns[name]), 512)
    return Comparison(
        "features",
        [r for r in built if isinstance(r, NumericReference)],
        [r for r in built if isinstance(r, CategoricalReference)],
        ("ks", "wasserstein", "chi_square"),
        MIN_EFFECT,
    )


def found(comparison: Comparison, panes: Sequence[CountsByName], feature: str, statistic: str) -> ChangePoint:
    binned = binned_panes(comparison, feature, statistic, panes)
    assert binned is not None
    point = change_point(binned, SEEN)
    assert point is not None
    return point


def numbers_of(draw: Callable[[Rng, int], FloatArray], rng: Rng, comparison: Comparison, at: int) -> list[CountsByName]:
    """Panes of standard normal numbers, and from event `at` on of `draw`."""
    values = np.concatenate([rng.standard_normal(at), draw(rng, PANES * EVERY - at)])
    return [comparison.bin_counts(part[:, None], []) for part in values.reshape(PANES, EVERY)]


SHIFTS: dict[str, Callable[[Rng, int], FloatArray]] = {
    "mean .3": lambda rng, n: rng.standard_normal(n) + 0.3,
    "mean 1": lambda rng, n: rng.standard_normal(n) + 1.0,
    "scale 1.5": lambda rng, n: rng.standard_normal(n) * 1.5,
    "a tenth at 3": lambda rng, n: np.where(rng.random(n) < 0.1, 3.0, rng.standard_normal(n)),
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_interval_holds_a_change_in_nine_of_ten_cases(shift: str) -> None:
    """Changes at any event, also within a pane; two standard errors of 60 trials are allowed for."""
    rng = np.random.default_rng(11)
    comparison = a_comparison(rng.standard_normal(5_000))
    held, widths, off = 0, [], []
    for _ in range(60):
        at = int(rng.integers(30 * EVERY, 42 * EVERY))
        point = found(comparison, numbers_of(SHIFTS[shift], rng, comparison, at), "x", "wasserstein")
        held += point.first * EVERY <= at <= (point.last + 1) * EVERY
        widths.append(point.last + 1 - point.first)
        off.append(abs(point.at - at / EVERY))

    assert held >= 49
    assert np.median(off) <= np.median(widths) / 2


def test_a_change_older_than_all_panes_is_not_dated_within_them() -> None:
    """All panes differ from the reference: the change lies before the first, so the interval begins with it."""
    rng = np.random.default_rng(12)
    comparison = a_comparison(rng.standard_normal(5_000))
    for _ in range(20):
        point = found(comparison, numbers_of(SHIFTS["mean 1"], rng, comparison, 0), "x", "ks")

        assert (point.at, point.first) == (0, 0)


def test_what_is_no_drift_before_the_change_is_not_taken_for_the_change() -> None:
    """The stream differs from the reference by .08 standard deviations all along, and by 1 from pane 40 on."""
    rng = np.random.default_rng(13)
    comparison = a_comparison(rng.standard_normal(5_000) - 0.08)
    for _ in range(20):
        point = found(comparison, numbers_of(SHIFTS["mean 1"], rng, comparison, 40 * EVERY), "x", "ks")

        assert point.first >= 38


def test_the_change_of_a_category_is_dated_among_many_others() -> None:
    """One of fifty grows from .02 to .2."""
    rng = np.random.default_rng(14)
    texts = [f"t{i}" for i in rng.integers(0, 50, 10_000)]
    comparison = a_comparison(texts=texts)
    codes = comparison.category_cells.codes[0]
    for _ in range(20):
        at = int(rng.integers(40, 45)) * EVERY
        numbers = rng.integers(0, 50, PANES * EVERY)
        numbers[at:][rng.random(PANES * EVERY - at) < 0.18] = 7
        came = np.array([codes[f"t{i}"] for i in numbers])
        panes = [comparison.bin_counts(np.zeros((EVERY, 0)), [part]) for part in came.reshape(PANES, EVERY)]
        point = found(comparison, panes, "c", "chi_square")

        assert point.first * EVERY <= at <= (point.last + 1) * EVERY
        assert point.last - point.first <= 4


def test_the_change_of_a_missing_rate_is_dated() -> None:
    """No value is missing before pane 45, and a fifth from then on."""
    rng = np.random.default_rng(15)
    comparison = a_comparison(rng.standard_normal(5_000))
    values = rng.standard_normal(PANES * EVERY)
    values[45 * EVERY :][rng.random(5 * EVERY) < 0.2] = np.nan
    panes = [comparison.bin_counts(part[:, None], []) for part in values.reshape(PANES, EVERY)]
    point = found(comparison, panes, "x", "missing_rate")

    assert point.at == 45
    assert (point.first, point.last) == (44, 45)


def test_the_change_of_unseen_values_is_dated() -> None:
    comparison = a_comparison(texts=["a", "b"] * 2_000)
    codes = comparison.category_cells.codes[0]
    came = [
        [codes["new" if pane >= 44 and i % 5 == 0 else "a" if i % 2 else "b"] for i in range(EVERY)]
        for pane in range(PANES)
    ]
    panes = [comparison.bin_counts(np.zeros((EVERY, 0)), [np.array(part)]) for part in came]

    assert found(comparison, panes, "c", "unseen_rate").at == 44


@pytest.mark.parametrize("statistic", ["ks", "missing_rate", "chi_square"])
def test_the_course_of_a_day_is_not_taken_for_the_change(statistic: str) -> None:
    """A daily wave of twice the noise, a pane an hour; what changes does so twenty panes before the end."""
    hour, days = 3_600_000, 14
    wave = np.sin(2 * np.pi * np.arange(24) / 24)
    held = []
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def hours(first: int, count: int, *, changed: bool, rng: Rng = rng) -> tuple[FloatArray, IntArray]:
            """Values of a hundred events an hour; missing ones and those of a category follow the wave as well."""
            at = np.repeat(np.arange(first, first + count), EVERY)
            x = 2 * wave[at % 24] + rng.standard_normal(len(at))
            if statistic == "ks":
                return x + 0.8 * changed, at * hour
            strange = rng.random(len(at)) < 0.1 * (1 + wave[at % 24]) + 0.1 * changed
            return np.where(strange, np.nan if statistic == "missing_rate" else 1.0, 0.0), at * hour

        def columns(x: FloatArray) -> FloatArray | list[str | None]:
            return x if statistic != "chi_square" else ["b" if value else "a" for value in x]

        numeric = statistic != "chi_square"
        values, time = hours(0, 24 * days, changed=False)
        (r,) = build_features({"x": numeric}, {"x": columns(values)}, len(values), 128, Season.HOUR_OF_DAY, time)
        references: tuple[list[NumericReference], list[CategoricalReference]] = (
            ([r], []) if isinstance(r, NumericReference) else ([], [r])
        )
        comparison = Comparison("features", *references, ("ks", "chi_square"), MIN_EFFECT)
        panes = []
        for pane in range(PANES):
            values, time = hours(24 * days + pane, 1, changed=pane >= PANES - 20)
            panes.append(
                comparison.bin_counts(values[:, None], [], time)
                if numeric
                else comparison.bin_counts(np.zeros((len(values), 0)), [values.astype(np.int64)], time)
            )
        point = found(comparison, panes, "x", statistic)
        held.append(point.first <= PANES - 20 <= point.last + 1)

    assert sum(held) >= 16


def test_sparse_and_dense_panes_are_dated_alike() -> None:
    """A pane is stored in whichever form is smaller."""
    rng = np.random.default_rng(16)
    comparison = a_comparison(rng.standard_normal(5_000))
    dense = numbers_of(SHIFTS["mean 1"], rng, comparison, 42 * EVERY)
    sparse = [{name: type(counts).of(counts.dense()) for name, counts in pane.items()} for pane in dense]

    assert found(comparison, sparse, "x", "ks") == found(comparison, dense, "x", "ks")


def test_without_events_or_for_another_feature_there_is_no_change_point() -> None:
    comparison = a_comparison(np.arange(1_000.0))
    empty = [comparison.bin_counts(np.zeros((0, 1)), [])] * 3
    binned = binned_panes(comparison, "x", "ks", empty)

    assert binned is not None
    assert change_point(binned, SEEN) is None
    assert binned_panes(comparison, "y", "ks", empty) is None
