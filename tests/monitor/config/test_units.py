"""Units as people write them, and what is said of those that nobody can read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import units
from monitor.config.units import Limit
from monitor.spec import BudgetSpec, LimitBasis
from monitor.times import duration_text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500), ("1s", 1_000), ("15m", 900_000), ("6h", 21_600_000), ("7d", 604_800_000), ("2w", 1_209_600_000),
        ("1.5h", 5_400_000), ("0.5s", 500), (" 15 m ", 900_000), ("36500d", 36_500 * 86_400_000),
    ],
)  # fmt: skip
def test_a_duration_has_a_number_and_a_unit(text: str, ms: int) -> None:
    assert units.duration_ms(text) == ms


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "a number and a unit"), (5.0, "a number and a unit"), (True, "a number and a unit"),
        (None, "a number and a unit"), ("5", "a number and a unit"), ("", "a number and a unit"),
        ("-5s", "a number and a unit"), ("1h30m", "a number and a unit"), ("15min", "a number and a unit"),
        ("15M", "a number and a unit"), ("1e3s", "a number and a unit"), (".5s", "a number and a unit"),
        ("١٥m", "a number and a unit"), ("15m\n", None), ([15, "m"], "a number and a unit"),
        ("0s", "at least a millisecond"), ("0.0001ms", "at least a millisecond"),
        ("36501d", "at most 36500d"), ("9" * 400 + "d", "at most 36500d"),
    ],
)  # fmt: skip
def test_what_is_no_duration_says_what_one_is(value: object, why: str | None) -> None:
    if why is None:
        assert units.duration_ms(value) == 900_000  # white space around it does no harm
        return
    with pytest.raises(ValueError, match=why):
        units.duration_ms(value)


@given(st.integers(1, 36_500 * 86_400_000))
def test_a_duration_in_words_is_read_back(ms: int) -> None:
    assert units.duration_ms(duration_text(ms)) == ms


@pytest.mark.parametrize(
    ("ms", "words"), [(900_000, "15m"), (90_000, "90s"), (604_800_000, "1w"), (86_400_000, "1d"), (7, "7ms")]
)
def test_a_duration_in_words_is_short(ms: int, words: str) -> None:
    assert duration_text(ms) == words


@pytest.mark.parametrize(
    ("value", "share"),
    [("5%", 0.05), ("0.5 %", 0.005), ("100%", 1.0), ("0%", 0.0), (0.05, 0.05), (0, 0.0), (1, 1.0), ("0.25", 0.25)],
)
def test_a_share_is_written_in_percent_or_as_a_number(value: object, share: float) -> None:
    """A text that is a number comes from the environment."""
    assert units.share(value) == pytest.approx(share)


@pytest.mark.parametrize(
    "value", [5, "5", "140%", "-5%", -0.1, 1.01, "%", "5 percent", True, None, math.nan, math.inf, "nan", []]
)
def test_what_is_no_share_says_what_one_is(value: object) -> None:
    with pytest.raises(ValueError, match=r"written like 5% or 0\.05"):
        units.share(value)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("1 per 30d", BudgetSpec(1, period=30 * 86_400_000)),
        ("0.5 per 1w", BudgetSpec(0.5, period=7 * 86_400_000)),
        ("2  per  12 h", BudgetSpec(2, period=43_200_000)),
        ("1 per 100000 events", BudgetSpec(1, events=100_000)),
        ("3 per 1_000_000 events", BudgetSpec(3, events=1_000_000)),
        ("1 per 1 event", BudgetSpec(1, events=1)),
    ],
)
def test_a_budget_is_so_many_false_alarms_in_a_time_or_in_a_number_of_events(text: str, budget: BudgetSpec) -> None:
    assert units.budget(text) == budget


@pytest.mark.parametrize(
    "value",
    [
        "1", 1, "1 per month", "1 per 30", "0 per 30d", "-1 per 30d", "1 per 100,000 events", "1 per ___ events",
        "1 in 30d", "per 30d", "1 per 0s", "9" * 400 + " per 30d", "1 per " + "9" * 400 + "d", None, True,
    ],
)  # fmt: skip
def test_what_is_no_budget_says_what_one_is(value: object) -> None:
    with pytest.raises(ValueError, match="written like `1 per 30d` or `1 per 100000 events`"):
        units.budget(value)


def test_a_budget_over_no_events_is_none() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        units.budget("1 per 0 events")


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (750, Limit(750.0, LimitBasis.NOTHING)), (0, Limit(0.0, LimitBasis.NOTHING)),
        (-3.5, Limit(-3.5, LimitBasis.NOTHING)), ("750", Limit(750.0, LimitBasis.NOTHING)),
        ("1e3", Limit(1000.0, LimitBasis.NOTHING)),
        ("1%", Limit(0.01, LimitBasis.NOTHING, percent=True)), ("-5%", Limit(-0.05, LimitBasis.NOTHING, percent=True)),
        ("105% of baseline", Limit(1.05, LimitBasis.SHARE)), ("150 %  of  baseline", Limit(1.5, LimitBasis.SHARE)),
        ("50% of baseline", Limit(0.5, LimitBasis.SHARE)),
    ],
)  # fmt: skip
def test_a_limit_is_a_number_a_share_or_relative_to_the_baseline(value: object, limit: Limit) -> None:
    found = units.limit(value)

    assert (found.reference, found.percent) == (limit.reference, limit.percent)
    assert found.value == pytest.approx(limit.value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        *((value, "a limit is") for value in (True, None, "", "a lot", "5 points", "baseline", [1])),
        *((value, "a limit is") for value in (math.nan, math.inf, "nan", "1e999", 10**400)),
        ("9" * 400 + "% of baseline", "a limit is"),
        ("105% of the baseline", "a limit is"), ("105%", "`105% of baseline`"), ("-101%", "no share is above 100%"),
    ],
)  # fmt: skip
def test_what_is_no_limit_says_what_one_is(value: object, why: str) -> None:
    """A share above 100% is nearly always meant to be relative to the baseline."""
    with pytest.raises(ValueError, match=why):
        units.limit(value)


@pytest.mark.parametrize(
    ("value", "amount", "percent"),
    [
        ("3 points", 0.03, True), ("1 point", 0.01, True), ("3%", 0.03, True), ("0.5points", 0.005, True),
        (12, 12.0, False), (0.5, 0.5, False),
    ],
)  # fmt: skip
def test_points_are_hundredths_and_a_number_is_in_the_metrics_unit(value: object, amount: float, percent: bool) -> None:
    found = units.points(value)

    assert (found.reference, found.percent) == (LimitBasis.POINTS, percent)
    assert found.value == pytest.approx(amount)


@pytest.mark.parametrize(
    "value", [-1, "-3 points", "3 pts", "three points", "", None, True, math.nan, math.inf, "105% of baseline"]
)
def test_what_are_no_points_says_what_they_are(value: object) -> None:
    with pytest.raises(ValueError, match="written like `3 points`"):
        units.points(value)


@pytest.mark.parametrize(
    ("value", "dwell"),
    [("3 checks", (3, 0)), ("1 check", (1, 0)), (" 2  checks", (2, 0)), ("30m", (1, 1_800_000)), ("1s", (1, 1_000))],
)
def test_a_rule_holds_for_checks_or_for_a_time(value: str, dwell: tuple[int, int]) -> None:
    assert units.dwell(value) == dwell


@pytest.mark.parametrize("value", [3, "3", "three checks", "-1 checks", "0s", None, True, "3 cheks", "1.5 checks"])
def test_what_is_no_dwell_says_what_one_is(value: object) -> None:
    with pytest.raises(ValueError, match="written like `3 checks` or 30m"):
        units.dwell(value)


def test_no_checks_are_not_enough() -> None:
    with pytest.raises(ValueError, match="at least one check"):
        units.dwell("0 checks")


@pytest.mark.parametrize(("value", "number"), [(5, 5), ("9464", 9464), (-1, -1), ("1_000", 1000)])
def test_a_whole_number_may_come_from_the_environment(value: object, number: int) -> None:
    assert units.whole(value) == number


@pytest.mark.parametrize("value", [True, False, 5.0, "5.0", "five", None, [], math.nan, "9" * 5_000])
def test_what_is_no_whole_number_says_so(value: object) -> None:
    """In YAML 1.1 a bare `yes` is true, and in Python true is 1."""
    with pytest.raises(ValueError, match="a whole number is needed"):
        units.whole(value)


@pytest.mark.parametrize("value", [10**24, -(10**24)])
def test_a_whole_number_that_nothing_is_counted_to_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="at most 1000000000000"):
        units.whole(value)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_nothing_but_a_value_error_is_ever_raised(value: object) -> None:
    """It is what the loader knows how to tell."""
    for read in (
        units.duration_ms, units.share, units.budget, units.limit, units.points, units.dwell, units.whole, units.number,
        units.text, units.label,
    ):  # fmt: skip
        try:
            read(value)
        except ValueError as error:
            assert str(error)  # noqa: PT017 (nothing need be raised)
