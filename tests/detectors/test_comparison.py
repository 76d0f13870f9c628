"""Checks: what is drift, what is not, and what cannot be judged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.checking import Rates, check, shared
from detectors.comparison import Comparison
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding, Skipped
from detectors.reference_builder import Texts
from detectors.registry import CATEGORICAL, MIN_EFFECT, NUMERIC
from detectors.significance import chi_square_p_value, ks_p_value, pair_size
from detectors.types import FloatArray
from tests.detectors.samples import NAN, a_category, a_number, coded, totals_of

ALL = (*NUMERIC, *CATEGORICAL)
ALPHA = 1e-6
T = TypeVar("T")
DRIFT, QUALITY = Family.DRIFT, Family.DATA_QUALITY


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def each(alpha: float) -> Rates:
    """So many alarms by each test, in windows that do not overlap: then alpha is the level."""
    return Rates(alpha, alpha)


def shuffled(values: Sequence[T], counts: Sequence[int]) -> list[T]:
    """Each value so often, in no order: rows that come in runs are less evidence."""
    row = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return [row[i] for i in rng().permutation(len(row))]


def of_numbers(*columns: FloatArray, detectors: Sequence[str] = ALL) -> Comparison:
    """With these columns as references x0, x1 …"""
    return Comparison("f", [a_number(c, f"x{i}") for i, c in enumerate(columns)], [], detectors, MIN_EFFECT)


def of_texts(texts: Texts, detectors: Sequence[str] = ALL) -> Comparison:
    return Comparison("f", [], [a_category(texts)], detectors, MIN_EFFECT)


def check_numbers(comparison: Comparison, *columns: FloatArray, alpha: float = ALPHA) -> CheckResult:
    return comparison.check(totals_of(comparison.bin_counts(np.column_stack(columns), [])), each(alpha))


def check_texts(comparison: Comparison, texts: Texts, alpha: float = ALPHA) -> CheckResult:
    codes = coded(comparison.category_cells.references[0], texts)
    return comparison.check(totals_of(comparison.bin_counts(np.zeros((len(texts), 0)), [codes])), each(alpha))


def statistics(result: CheckResult) -> dict[str, float]:
    """Values of the only feature."""
    return {value.statistic: value.value for value in result.values}


def found(result: CheckResult) -> set[tuple[str, str]]:
    """(feature, statistic) of findings."""
    return {(finding.feature, finding.statistic) for finding in result.findings}


# -- drift and no drift ----------------------------------------------------------------------------------


def test_a_shift_of_a_number_is_found_by_every_detector() -> None:
    """And says by which."""
    reference = rng().standard_normal(5_000)
    result = check_numbers(of_numbers(reference), rng(1).standard_normal(1_000) + 0.5)

    assert found(result) == {("x0", "ks"), ("x0", "wasserstein"), ("x0", "psi")}
    assert {f.family for f in result.findings} == {DRIFT}


def test_what_has_not_changed_is_not_found() -> None:
    """All statistics are told all the same, for the history."""
    result = check_numbers(of_numbers(rng().standard_normal(5_000)), rng(1).standard_normal(1_000))

    assert not result.findings
    assert set(statistics(result)) == {"missing_rate", "ks", "wasserstein", "psi"}


def test_m01_a_significant_shift_below_the_minimum_effect_is_no_drift() -> None:
    """A hundred thousand events: p is tiny, the effect is nothing."""
    reference, window = rng().standard_normal(100_000), rng(1).standard_normal(100_000) + 0.05
    comparison = of_numbers(reference)
    result = check_numbers(comparison, window)

    ks = statistics(result)["ks"]
    assert ks_p_value(ks, pair_size(1e5, 1e5)) < 1e-15
    assert 0.01 < ks < MIN_EFFECT["ks"]
    assert not result.findings


def test_an_effect_that_chance_explains_is_no_drift() -> None:
    """Fifty events: distances are large, and say nothing."""
    result = check_numbers(of_numbers(rng().standard_normal(5_000)), rng(7).standard_normal(50))

    assert max(statistics(result).values()) > 0.1
    assert not result.findings


def test_m29_one_feature_of_many_is_found() -> None:
    """No average hides it."""
    columns = [rng(i).standard_normal(2_000) for i in range(20)]
    windows = [rng(100 + i).standard_normal(500) + (i == 7) for i in range(20)]

    assert {feature for feature, _ in found(check_numbers(of_numbers(*columns), *windows))} == {"x7"}


def test_m31_units_do_not_matter() -> None:
    """A feature × 1024 gives the same verdicts, with the same numbers."""
    reference, window = rng().standard_normal(2_000), rng(1).standard_normal(500) + 0.4
    one = check_numbers(of_numbers(reference), window)
    other = check_numbers(of_numbers(1024 * reference), 1024 * window)

    assert statistics(one) == pytest.approx(statistics(other))
    assert found(one) == found(other) != set()


def test_only_the_detectors_that_were_asked_for_run() -> None:
    """Missing values are always watched."""
    result = check_numbers(of_numbers(rng().standard_normal(500), detectors=["psi"]), rng(1).standard_normal(500))

    assert set(statistics(result)) == {"psi", "missing_rate"}


def test_a_changed_mix_of_categories_is_found() -> None:
    """By both."""
    comparison = of_texts(shuffled(["a", "b"], [500, 500]))

    assert found(check_texts(comparison, ["a"] * 500 + ["b"] * 200)) == {("c", "chi_square"), ("c", "jensen_shannon")}
    assert not check_texts(comparison, ["a"] * 340 + ["b"] * 360).findings


def test_m08_categories_that_were_never_seen_are_a_matter_of_data_quality() -> None:
    """Where they are many, they are drift as well."""
    result = check_texts(of_texts(shuffled(["a", "b"], [5_000, 5_000])), ["a"] * 494 + ["b"] * 494 + ["new"] * 12)

    assert found(result) == {("c", "unseen_rate")}
    assert {f.family for f in result.findings} == {QUALITY}
    assert statistics(result)["unseen_rate"] == 0.012


def test_new_categories_are_normal_where_the_reference_saw_most_of_its_own_once() -> None:
    """Good (1953): what was seen once tells how often something new comes."""
    words = shuffled([*(f"w{i}" for i in range(900)), "the"], [1] * 900 + [100])
    result = check_texts(of_texts(words), [f"v{i}" for i in range(450)] + ["the"] * 50)

    assert ("c", "unseen_rate") not in found(result)


@pytest.mark.parametrize("numeric", [True, False])
def test_m27_missing_values_are_found_where_there_are_more_than_before(numeric: bool) -> None:
    """Equal rates are not drift, whatever they are."""
    some = shuffled([None, 1.0, 2.0], [300, 350, 350])
    many = shuffled([None, 1.0, 2.0], [500, 250, 250])

    def check(values: list[float | None]) -> CheckResult:
        if numeric:
            reference = np.array([NAN if v is None else v for v in some * 5])
            return check_numbers(of_numbers(reference), np.array([NAN if v is None else v for v in values]))
        return check_texts(of_texts([None if v is None else str(v) for v in some * 5]),
                           [None if v is None else str(v) for v in values])  # fmt: skip

    assert not check(some).findings
    assert {f.statistic for f in check(many).findings} == {"missing_rate"}
    assert {f.family for f in check(many).findings} == {QUALITY}


# -- numbers that are discrete ---------------------------------------------------------------------------


def test_m14_a_number_with_many_ties_is_compared_by_categories_as_well() -> None:
    """KS is blind to a swap between neighbours that leaves the distribution function nearly where it was."""
    reference = np.array(shuffled([0.0, 1.0, 2.0, 3.0], [3500, 500, 500, 500]))
    swapped = np.repeat([0.0, 1.0, 2.0, 3.0], [700, 200, 0, 100])
    result = check_numbers(of_numbers(reference), swapped)

    assert statistics(result)["ks"] < 0.11
    assert {("x0", "chi_square"), ("x0", "jensen_shannon")} <= found(result)


def test_a_continuous_number_is_not_compared_by_categories() -> None:
    """Its values are all rare."""
    result = check_numbers(of_numbers(rng().standard_normal(1_000)), rng(1).standard_normal(1_000))

    assert "chi_square" not in statistics(result)


def test_new_values_of_a_discrete_number_are_one_more_category() -> None:
    """Nothing of the window is lost."""
    result = check_numbers(
        of_numbers(np.array(shuffled([1.0, 2.0], [500, 500]))), np.repeat([1.0, 2.0, 1.5], [400, 400, 200])
    )

    assert ("x0", "chi_square") in found(result)


# -- what cannot be judged -------------------------------------------------------------------------------


def test_m10_a_constant_feature_is_judged_by_ks_and_has_no_distance() -> None:
    """No scale to divide by: no NaN either."""
    comparison = of_numbers(np.full(1_000, 5.0))
    same, other = check_numbers(comparison, np.full(500, 5.0)), check_numbers(comparison, np.full(500, 6.0))

    assert "wasserstein" not in statistics(same)
    assert not same.findings
    assert ("x0", "ks") in found(other)
    assert np.isfinite(list(statistics(other).values())).all()


def test_a_feature_that_is_missing_in_all_of_the_window_is_skipped() -> None:
    """Its missing rate is told, and is a finding."""
    result = check_numbers(of_numbers(rng().standard_normal(1_000)), np.full(500, NAN))

    assert result.skipped == {"x0": Skipped.NO_EVENTS}
    assert found(result) == {("x0", "missing_rate")}


def test_a_feature_that_is_missing_in_all_of_the_reference_is_skipped() -> None:
    """There is nothing to compare with; that it is there now is a finding."""
    result = check_numbers(of_numbers(np.full(1_000, NAN)), rng().standard_normal(500))

    assert result.skipped == {"x0": Skipped.NO_REFERENCE}
    assert found(result) == {("x0", "missing_rate")}


def test_one_odd_feature_does_not_poison_the_others() -> None:
    """All missing, constant, and one that drifts."""
    n = 2_000
    comparison = of_numbers(np.full(n, NAN), np.full(n, 1.0), rng().standard_normal(n))
    result = check_numbers(comparison, np.full(500, NAN), np.full(500, 1.0), rng(1).standard_normal(500) + 1)

    assert {feature for feature, _ in found(result)} == {"x2"}
    assert result.skipped == {"x0": Skipped.NO_EVENTS}


def test_a_reference_of_one_value_can_be_checked() -> None:
    """It sees nothing but the end of the world, and says so."""
    result = check_numbers(of_numbers(np.array([3.0])), rng().standard_normal(100))

    assert result.skipped == {"x0": Skipped.BLIND}
    assert not result.findings


def test_a_window_without_events_says_nothing() -> None:
    """No finding, no value but that nothing was missing."""
    comparison = of_numbers(rng().standard_normal(100))
    result = comparison.check(totals_of(comparison.bin_counts(np.zeros((0, 1)), [])), each(ALPHA))

    assert result.skipped == {"x0": Skipped.NO_EVENTS}
    assert (found(result), statistics(result)) == (set(), {"missing_rate": 0.0})


def test_a_window_that_was_counted_against_nothing_says_nothing() -> None:
    """Before the reference was there."""
    comparison = of_numbers(rng().standard_normal(100))
    result = comparison.check(lambda name: None, each(ALPHA))

    assert not comparison.holds(lambda name: None)
    assert (result.values, result.findings, result.skipped) == ((), (), {"x0": Skipped.NO_EVENTS})


def test_a_check_that_could_see_nothing_says_that_it_is_blind() -> None:
    """Ten events at an alpha of one in a million."""
    result = check_numbers(of_numbers(rng().standard_normal(1_000)), rng(1).standard_normal(10) + 5)

    assert result.skipped == {"x0": Skipped.BLIND}


def test_a_column_that_events_never_had_is_not_judged() -> None:
    """A table has more columns than a model has features."""
    comparison = of_numbers(rng().standard_normal(500), rng(1).standard_normal(500))
    totals = totals_of(comparison.bin_counts(np.column_stack([np.full(500, NAN), rng(2).standard_normal(500)]), []))

    assert {v.feature for v in comparison.check(totals, each(ALPHA), seen=set()).values} == {"x1"}
    assert {v.feature for v in comparison.check(totals, each(ALPHA), seen={"x0"}).values} == {"x0", "x1"}


# -- findings --------------------------------------------------------------------------------------------


def test_a_finding_says_what_its_verdict_rests_on() -> None:
    """Statistic, effect, p-value, alpha, number of events, error of the summary."""
    reference, window = rng().standard_normal(10_000), rng(1).standard_normal(1_000) + 0.5
    result = check_numbers(of_numbers(reference, detectors=["ks"]), window)
    (finding,) = result.findings

    assert (finding.feature, finding.statistic, finding.events, finding.alpha) == ("x0", "ks", 1_000, ALPHA)
    assert finding.value == finding.effect > finding.min_effect == 0.1
    # Independent rows: the law is Kolmogorov's, a little above it in the tail because it is simulated.
    assert finding.p_value() == pytest.approx(ks_p_value(finding.value, pair_size(1_000, 10_000)), rel=0.5)
    assert finding.p_value() < ALPHA
    assert finding.error == 1 / 4096
    assert finding.weight == pytest.approx(finding.effect / 0.1)


def test_overdispersion_weighs_on_every_p_value() -> None:
    """The same counts of a stream that comes in runs are less evidence."""
    runs = [text for text in rng().choice(["a", "b"], 500).tolist() for _ in range(20)]
    mixed = rng().permutation(runs).tolist()
    window = ["a"] * 620 + ["b"] * 380

    def p_value(texts: list[str]) -> float:
        result = check_texts(of_texts(texts, detectors=["chi_square"]), window, alpha=0.5)
        (finding,) = [f for f in result.findings if f.statistic == "chi_square"]
        return finding.p_value()

    assert p_value(mixed) < 1e-9
    assert p_value(runs) > 1e-3


def test_chi_square_findings_have_the_p_value_of_their_statistic() -> None:
    """Independent rows: φ is one, and the p-value is that of scipy's law."""
    texts = rng().choice(["a", "b", "c"], 900).tolist()
    result = check_texts(of_texts(texts, detectors=["chi_square"]), ["a"] * 300 + ["b"] * 100 + ["c"] * 100)
    (finding,) = [f for f in result.findings if f.statistic == "chi_square"]

    assert a_category(texts).dispersion.at(500) == 1.0
    # Three categories are also three of which one may deviate most: 4/3 as many chances.
    assert finding.p_value() == pytest.approx(1.2 * chi_square_p_value(finding.value, 2))


def a_finding(effect: float, min_effect: float) -> Finding:
    return Finding(DRIFT, "x", "ks", effect, effect, min_effect, lambda: 0.0, ALPHA, 10, 0.0)


def test_findings_are_ranked_by_multiples_of_their_minimum() -> None:
    """Twice the minimum is critical, whatever the statistic."""
    assert a_finding(0.3, 0.1).weight == pytest.approx(3)
    assert a_finding(0.3, 0.0).weight == np.inf


# -- calm ------------------------------------------------------------------------------------------------


def test_a_feature_that_drifted_is_calm_when_it_is_back() -> None:
    """Restless while it drifts, and while it is in between."""
    comparison = of_numbers(rng().standard_normal(5_000), detectors=["ks"])
    listed = {(DRIFT, "x0")}

    def calm(shift: float) -> bool:
        window = rng(1).standard_normal(2_000)[:, None] + shift
        result = comparison.check(totals_of(comparison.bin_counts(window, [])), each(ALPHA), listed)
        return (DRIFT, "x0") in result.calm

    assert [calm(shift) for shift in (0.0, 0.15, 0.24, 0.5)] == [True, True, False, False]


def test_what_is_no_evidence_any_more_is_calm() -> None:
    """The effect is large, but of a handful of events."""
    comparison = of_numbers(rng().standard_normal(5_000), detectors=["ks"])
    totals = totals_of(comparison.bin_counts(rng(1).standard_normal(20)[:, None] + 0.5, []))

    assert comparison.check(totals, each(ALPHA), {(DRIFT, "x0")}).calm == {(DRIFT, "x0")}


@pytest.mark.parametrize(("share", "calm"), [(5, False), (20, True)])
def test_evidence_that_just_missed_alpha_does_not_calm(share: int, calm: bool) -> None:
    """A large effect is calm from ten times alpha on: in between nothing begins and nothing ends."""
    comparison = of_numbers(rng().standard_normal(5_000), detectors=["ks"])
    totals = totals_of(comparison.bin_counts(rng(1).standard_normal(100)[:, None] + 0.5, []))
    ((p, effect),) = [(f.p_value(), f.effect) for f in comparison.check(totals, each(0.5)).findings]
    result = comparison.check(totals, each(p / share), {(DRIFT, "x0")})

    assert effect > 0.1
    assert not result.findings
    assert ((DRIFT, "x0") in result.calm) is calm


def test_families_calm_apart() -> None:
    """Missing values say nothing about drift."""
    comparison = of_numbers(rng().standard_normal(5_000))
    window = np.where(np.arange(1_000) < 300, NAN, rng(1).standard_normal(1_000))
    listed = {(DRIFT, "x0"), (QUALITY, "x0")}
    totals = totals_of(comparison.bin_counts(window[:, None], []))

    assert comparison.check(totals, each(ALPHA), listed).calm == {(DRIFT, "x0")}


def test_two_comparisons_of_a_window_are_one_result() -> None:
    """Features and answers of a version: calm is what both call calm."""
    one = check_numbers(of_numbers(rng().standard_normal(1_000)), rng(1).standard_normal(500) + 1)
    other = check_texts(of_texts(["a", "b"] * 500), ["a"] * 500)
    joined = one.joined(other)

    assert {v.feature for v in joined.values} == {"x0", "c"}
    assert found(joined) == found(one) | found(other)
    assert joined.skipped == {**one.skipped, **other.skipped}


# -- evidence --------------------------------------------------------------------------------------------


def test_m30_evidence_of_a_number_is_its_deciles() -> None:
    """Both sides in the same bins; no raw value among them."""
    reference = np.arange(1_000.0)
    comparison = of_numbers(reference)
    evidence = comparison.evidence("x0", totals_of(comparison.bin_counts(np.full((300, 1), 1e9), [])))

    assert evidence is not None
    assert len(evidence.edges) == 9
    assert evidence.reference == (100,) * 10
    assert evidence.current == (0,) * 9 + (300,)


def test_m30_evidence_of_a_category_names_frequent_categories_only() -> None:
    """A category that few have may identify them."""
    texts = ["red"] * 600 + ["green"] * 399 + ["Mr Smith"]
    comparison = of_texts(texts)
    codes = coded(comparison.category_cells.references[0], ["red"] * 5 + ["Mr Smith"] * 3 + ["blue"] * 2)
    evidence = comparison.evidence("c", totals_of(comparison.bin_counts(np.zeros((10, 0)), [codes])))

    assert evidence == Evidence(("green", "red", "other", "unseen"), (399, 600, 1, 0), (0, 5, 3, 2))


def test_there_is_no_evidence_of_what_is_not_compared() -> None:
    """Nor of what nothing was counted of."""
    comparison = of_numbers(rng().standard_normal(100))

    assert comparison.evidence("other", totals_of(comparison.bin_counts(np.zeros((1, 1)), []))) is None
    assert comparison.evidence("x0", lambda name: None) is None


# -- the window ------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 299), max_size=4, unique=True).map(sorted))
def test_a_check_of_panes_is_a_check_of_their_events(seed: int, cuts: list[int]) -> None:
    """Cost and result do not depend on how the window was filled."""
    draw = np.random.default_rng(seed)
    numbers = np.where(draw.random((300, 2)) < 0.1, NAN, draw.standard_normal((300, 2)))
    texts = draw.choice(["a", "b", "new"], 300).tolist()
    reference = draw.standard_normal((1_000, 2))
    category = a_category(["a", "b", "c", "c"] * 200)
    comparison = Comparison(
        "f", [a_number(reference[:, 0], "x"), a_number(reference[:, 1], "y")], [category], ALL, MIN_EFFECT
    )
    codes = coded(category, texts)
    edges = [0, *cuts, 300]

    whole = comparison.check(totals_of(comparison.bin_counts(numbers, [codes])), each(0.01))
    panes = [comparison.bin_counts(numbers[a:b], [codes[a:b]]) for a, b in pairwise(edges)]
    again = comparison.check(totals_of(*panes), each(0.01))

    assert again.values == whole.values
    assert found(again) == found(whole)
    assert again.skipped == whole.skipped


def test_what_answers_one_question_has_one_share_of_the_budget() -> None:
    """KS and Wasserstein; χ², the largest deviation and Jensen-Shannon. Missing values and unseen ones are apart."""
    number, category = a_number(rng().standard_normal(1_000), "x"), a_category(shuffled(["a", "b"], [500, 500]))
    comparison = Comparison("f", [number], [category], ALL, MIN_EFFECT)
    codes = coded(category, ["a", "b"] * 200)
    computed = comparison.compute(totals_of(comparison.bin_counts(rng(1).standard_normal((400, 1)), [codes])))

    rates = shared(Rates(0.03, 0.03), [computed])

    assert (rates.drift, rates.quality) == pytest.approx((0.01, 0.01))  # x, its PSI, c; two missing rates, one unseen
    assert comparison.names == ("x", "c")


def test_what_cannot_be_significant_takes_no_share() -> None:
    """A constant feature, and one of so few events that nothing would be significant."""
    few = np.where(np.arange(500) < 8, rng(2).standard_normal(500), NAN)
    comparison = of_numbers(*(rng(i).standard_normal(1_000) for i in range(2)), np.ones(1_000), detectors=["ks"])
    window = np.column_stack([rng(1).standard_normal(500), few, np.ones(500)])
    computed = comparison.compute(totals_of(comparison.bin_counts(window, [])))

    assert shared(Rates(1e-5, 1e-5), [computed]).drift == 1e-5


def test_what_can_never_reach_its_minimum_effect_takes_no_share() -> None:
    """KS and Wasserstein have one share: it is there as long as one of them can alarm."""
    numbers = [a_number(rng(i).standard_normal(1_000), f"x{i}") for i in range(2)]
    texts = [a_category(shuffled(["a", "b"], [500, 500]))]
    codes = coded(texts[0], ["a", "b"] * 200)
    expected = {(): 3, ("ks",): 3, ("ks", "wasserstein"): 3, ("chi_square", "jensen_shannon"): 2}
    for off, shares in expected.items():
        least = {**MIN_EFFECT, **dict.fromkeys(off, 1.01)}
        comparison = Comparison("f", numbers, texts, ["ks", "wasserstein", "chi_square", "jensen_shannon"], least)
        computed = comparison.compute(totals_of(comparison.bin_counts(rng(1).standard_normal((400, 2)), [codes])))

        assert shared(Rates(0.03, 0.03), [computed]).drift == pytest.approx(0.03 / shares), off


def test_what_can_never_reach_its_minimum_effect_is_not_called_blind() -> None:
    number = a_number(rng().standard_normal(1_000), "x")
    comparison = Comparison("f", [number], [], ["ks"], {**MIN_EFFECT, "ks": 2.0})

    assert check_numbers(comparison, rng(1).standard_normal(20)).skipped == {}


def test_several_comparisons_share_what_is_allowed() -> None:
    one, other = of_numbers(rng().standard_normal(1_000), detectors=["ks"]), of_texts(shuffled(["a", "b"], [500, 500]))
    codes = coded(other.category_cells.references[0], ["a"] * 500)
    counts = {
        **one.bin_counts(rng(1).standard_normal((500, 1)) + 1, []),
        **Comparison("g", [], other.category_cells.references, ALL, MIN_EFFECT).bin_counts(np.zeros((500, 0)), [codes]),
    }
    comparisons = [one, Comparison("g", [], other.category_cells.references, ALL, MIN_EFFECT)]

    result = check(comparisons, totals_of(counts), Rates(1e-4, 1e-4))

    assert {(f.feature, f.alpha) for f in result.findings if f.family is DRIFT} == {("x0", 5e-5), ("c", 5e-5)}
