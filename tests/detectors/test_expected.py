"""What is expected of categories that were seen rarely or never: no drift where nothing has changed, however many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.checking import Rates
from detectors.comparison import Comparison
from detectors.expected import ExpectedCategories, expected_rows
from detectors.findings import CheckResult, Skipped, Verdict
from detectors.reference import CategoricalReference
from detectors.registry import CATEGORICAL, MIN_EFFECT
from tests.detectors.samples import a_category, a_number

RATES = Rates(1e-5, 1e-5)


def check(reference: CategoricalReference, window: Sequence[str]) -> CheckResult:
    """Both categorical detectors and the rate of unseen values."""
    compared = Comparison("c", [], [reference], CATEGORICAL, MIN_EFFECT)
    codes = np.array([compared.category_cells.codes[0][text] for text in window])
    counts = compared.bin_counts(np.zeros((len(window), 0)), [codes])
    return compared.check(lambda name: counts[name].dense(), RATES)


def drawn(rng: np.random.Generator, shares: np.ndarray, n: int) -> list[str]:
    """Categories of a source that does not change."""
    return [f"c{i}" for i in rng.choice(len(shares), n, p=shares / shares.sum()).tolist()]


EVEN = {f"{k} alike": np.ones(k) for k in (90, 150, 500, 3_000)}
ZIPF = {"words": 1 / np.arange(1, 20_001), "long tail": np.arange(1, 5_001) ** -0.7}


@pytest.mark.parametrize("source", [*EVEN, *ZIPF])
@pytest.mark.parametrize(("rows", "events"), [(300, 300), (2_000, 1_000)])
def test_many_categories_do_not_drift_by_themselves(source: str, rows: int, events: int) -> None:
    """Over seeds: most categories of a window were never seen, and those that seemed frequent are rarer."""
    shares = {**EVEN, **ZIPF}[source]
    for seed in range(8):
        rng = np.random.default_rng(seed)
        reference = a_category(drawn(rng, shares, rows))

        assert check(reference, drawn(rng, shares, events)).findings == ()


@pytest.mark.parametrize("source", [*EVEN, *ZIPF])
def test_a_new_category_is_found_among_many(source: str) -> None:
    """A third of the window."""
    shares = {**EVEN, **ZIPF}[source]
    rng = np.random.default_rng(1)
    reference = a_category(drawn(rng, shares, 2_000))
    window = drawn(rng, shares, 700) + ["new"] * 300

    assert "unseen_rate" in {finding.statistic for finding in check(reference, window).findings}


def test_a_frequent_category_that_grows_is_found_among_many() -> None:
    rng = np.random.default_rng(1)
    reference = a_category(drawn(rng, ZIPF["words"], 2_000))
    window = drawn(rng, ZIPF["words"], 800) + ["c3"] * 200

    assert {finding.statistic for finding in check(reference, window).findings} == set(CATEGORICAL)


def test_fewer_new_categories_than_expected_are_no_fault() -> None:
    """The share of what was never seen is compared with what the reference lets expect of it."""
    reference = a_category([*(f"once{i}" for i in range(300)), *["often"] * 300])

    found = check(reference, ["often"] * 500)

    assert "unseen_rate" not in {finding.statistic for finding in found.findings}


def test_rows_of_frequent_categories_are_expected_as_they_are() -> None:
    """Nothing rare, nothing unseen: exactly the counts."""
    categories = ExpectedCategories(a_category(["a"] * 50 + ["b"] * 30))

    assert categories.expected.rows.tolist() == [50.0, 30.0, 0.0]
    assert categories.expected.noise == 0.0


def test_as_many_new_rows_are_expected_as_there_were_singletons() -> None:
    """Good (1953): a fifth of the rows were the only ones of their category."""
    reference = a_category([*(f"once{i}" for i in range(20)), *["often"] * 80])

    assert ExpectedCategories(reference).expected.rows[-1] == pytest.approx(20.0)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=100), st.integers(1, 60), st.integers(0, 500))
def test_expected_rows_are_as_many_as_the_rows(counts: list[int], floor: int, others: int) -> None:
    """None is negative, and the others get what the frequent ones are expected to lose."""
    frequent = np.array([c for c in counts if c >= floor])
    total = int(frequent.sum()) + others

    found = expected_rows(frequent, floor, total)

    assert (found.rows >= -1e-9).all()
    assert found.rows.sum() == pytest.approx(total)
    assert found.rows[-1] >= others - 1e-9


def test_rare_values_of_a_number_with_ties_are_expected_as_rarely() -> None:
    """A zero in 30 rows of 100, all else different: other values are as good as these."""
    rng = np.random.default_rng(3)
    reference = a_number(np.concatenate([np.zeros(30), rng.normal(size=70)]))
    compared = Comparison("c", [reference], [], CATEGORICAL, MIN_EFFECT)
    window = np.concatenate([np.zeros(30), rng.normal(size=70)])
    counts = compared.bin_counts(window[:, None], [])

    assert compared.check(lambda name: counts[name].dense(), RATES).findings == ()


def in_any_order(codes: int, each: int) -> list[str]:
    """Return so many categories, each with exactly so many rows."""
    rows = [f"c{i % codes}" for i in range(codes * each)]
    return list(map(str, np.random.default_rng(0).permutation(rows)))


@pytest.mark.parametrize(("codes", "each"), [(1_000, 5), (3_000, 2), (150, 100)])
def test_one_of_many_equally_frequent_categories_that_takes_all_is_found(codes: int, each: int) -> None:
    """A hundred of them have a cell, and all others are as rare as these."""
    reference = a_category(in_any_order(codes, each))

    found = check(reference, [reference.categories[0]] * 1_000)

    assert {finding.statistic for finding in found.findings} == set(CATEGORICAL)


def test_one_without_a_cell_that_takes_all_is_found_among_equals() -> None:
    reference = a_category(in_any_order(1_000, 5))

    assert check(reference, ["c999"] * 1_000).findings != ()


def test_a_category_that_ties_with_the_rarest_is_found_when_it_grows() -> None:
    """A few frequent ones, and most rows with a cell are of those that tie."""
    rows = [*in_any_order(200, 20), *(f"often{i % 10}" for i in range(300))]
    reference = a_category(np.random.default_rng(1).permutation(rows).tolist())

    found = check(reference, [*rows[:700], *["c0"] * 300])

    assert {finding.statistic for finding in found.findings} == set(CATEGORICAL)


@pytest.mark.parametrize(("codes", "each"), [(1_000, 5), (3_000, 2), (300, 3), (150, 100)])
def test_equally_frequent_categories_do_not_drift_by_themselves(codes: int, each: int) -> None:
    reference = a_category(in_any_order(codes, each))
    for seed in range(8):
        rng = np.random.default_rng(seed)

        assert check(reference, drawn(rng, np.ones(codes), 1_000)).findings == ()


@pytest.mark.parametrize("alike", [3_000, 10_000])
@pytest.mark.parametrize("events", [300, 10_000])
def test_categories_that_seem_less_rare_than_others_do_not_drift_by_themselves(alike: int, events: int) -> None:
    """Most with a cell were seen once like those without; some were seen twice, which is luck too."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        reference = a_category(drawn(rng, np.ones(alike), 300))

        assert check(reference, drawn(rng, np.ones(alike), events)).findings == ()


def test_where_every_row_is_of_another_category_that_is_told() -> None:
    reference = a_category([f"once{i}" for i in range(300)])

    assert check(reference, ["new"] * 300).skipped == {reference.name: Skipped.RARE}


def test_a_test_that_cannot_tell_rare_categories_apart_does_not_say_that_all_is_well() -> None:
    found = check(a_category([f"once{i}" for i in range(300)]), ["new"] * 300)

    assert {v.verdict for v in found.values if v.statistic in CATEGORICAL} == {Verdict.RARE}
