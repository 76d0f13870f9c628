"""The chain: tiers that are there, in order; and what business rules answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.chain import answering, apply_rules, available, below, holds, tiers
from fallback.types import BusinessRule, Condition, Scalar, Serving, Tier
from tests.fallback.servings import A_RULE, FULL_CHAIN, a_full_serving, a_serving, servings

# -- tiers -----------------------------------------------------------------------------------------------


def test_tiers_that_are_there_are_in_the_order_of_the_chain() -> None:
    """The primary is always there."""
    assert tiers(a_full_serving()) == (Tier.PRIMARY, *FULL_CHAIN)
    assert tiers(a_full_serving(chain=(Tier.DEFAULT, Tier.PREVIOUS))) == (
        Tier.PRIMARY, Tier.DEFAULT, Tier.PREVIOUS
    )  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "tier"),
    [
        ({"previous": None}, Tier.PREVIOUS),
        ({"rules": ()}, Tier.RULES),
        ({"ensemble": ()}, Tier.ENSEMBLE),
        ({"has_default": False}, Tier.DEFAULT),
    ],
)
def test_tiers_with_nothing_behind_them_are_skipped(missing: dict[str, object], tier: Tier) -> None:
    """Each for itself."""
    serving = a_full_serving(**missing)

    assert not available(serving, tier)
    assert tiers(serving) == tuple(each for each in (Tier.PRIMARY, *FULL_CHAIN) if each is not tier)


def test_a_default_of_nothing_is_a_default() -> None:
    """`value: null` is an answer."""
    assert available(a_serving(default=None, has_default=True), Tier.DEFAULT)


@given(servings)
def test_what_is_below_a_tier_is_the_rest_of_the_tiers(serving: Serving) -> None:
    """Whichever of them are there."""
    found = tiers(serving)

    for i, tier in enumerate(found):
        assert below(serving, tier) == found[i + 1 :]


def test_below_a_tier_that_is_not_there_are_those_after_it() -> None:
    """It stands in the chain all the same."""
    serving = a_full_serving(previous=None)

    assert below(serving, Tier.PREVIOUS) == (Tier.RULES, Tier.ENSEMBLE, Tier.DEFAULT)


def test_nothing_is_below_a_tier_that_the_chain_does_not_name() -> None:
    """Nor below the last."""
    serving = a_full_serving(chain=(Tier.DEFAULT,))

    assert below(serving, Tier.RULES) == below(serving, Tier.DEFAULT) == ()


def test_answers_are_measured_under_the_version_or_the_name_of_the_tier() -> None:
    """Where no version answered there is only the tier."""
    serving = a_full_serving()

    assert [answering(serving, tier) for tier in (Tier.PRIMARY, *FULL_CHAIN)] == [
        "v1", "v0", "rules", "ensemble", "default"
    ]  # fmt: skip


# -- business rules --------------------------------------------------------------------------------------


def test_the_first_rule_that_holds_answers() -> None:
    """All of its conditions must."""
    rules = (
        BusinessRule((Condition("load", ">", 0.9), Condition("fuel", "==", "gas")), "a"),
        BusinessRule((Condition("load", ">", 0.9),), "b"),
        BusinessRule((), "c"),
    )

    assert apply_rules(rules, {"load": 0.95, "fuel": "gas"}) == "a"
    assert apply_rules(rules, {"load": 0.95, "fuel": "oil"}) == "b"
    assert apply_rules(rules, {"load": 0.5}) == "c"


def test_where_no_rule_holds_there_is_no_answer() -> None:
    """And none is invented."""
    with pytest.raises(LookupError, match="no business rule applies"):
        apply_rules((A_RULE,), {"load": 0.1})


@pytest.mark.parametrize(
    ("op", "truths"),
    [
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        (">", (False, False, True)),
        (">=", (False, True, True)),
        ("==", (False, True, False)),
        ("!=", (True, False, True)),
    ],
)
def test_numbers_are_compared(op: str, truths: tuple[bool, ...]) -> None:
    """Below, at and above the value."""
    assert tuple(holds(Condition("x", op, 5), {"x": x}) for x in (4.5, 5.0, 6)) == truths


@pytest.mark.parametrize("op", ["<", "<=", ">", ">="])
def test_texts_have_no_order(op: str) -> None:
    """A condition that cannot be compared is not met."""
    assert not holds(Condition("x", op, 5), {"x": "6"})
    assert not holds(Condition("x", op, "5"), {"x": 6})


def test_a_list_of_values_is_asked_with_in() -> None:
    """And only with it."""
    wanted = ("gas", "oil", None)

    assert holds(Condition("fuel", "in", wanted), {"fuel": "oil"})
    assert not holds(Condition("fuel", "in", wanted), {"fuel": "coal"})
    assert not holds(Condition("fuel", "==", wanted), {"fuel": "gas"})


@given(st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "in"]), st.sampled_from([0, "a", True, (1, "a")]))
def test_a_missing_value_meets_no_condition(op: str, value: Scalar | tuple[Scalar, ...]) -> None:
    """Not even `!=`: nothing is known of it."""
    assert not holds(Condition("x", op, value), {"y": 1})
    assert not holds(Condition("x", op, value), {"x": None})
