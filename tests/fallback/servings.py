"""Serving states and decisions of plain parts, for the tests of this package."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fallback.decisions import document
from fallback.types import BusinessRule, Condition, Decision, Reason, Route, Serving, Tier

FULL_CHAIN = (Tier.PREVIOUS, Tier.RULES, Tier.ENSEMBLE, Tier.DEFAULT)
A_RULE = BusinessRule((Condition("load", ">", 0.9),), 0.95)


def a_serving(**parts: Any) -> Serving:
    """A champion v1 with nothing behind it, unless `parts` say so."""
    plain: dict[str, Any] = {
        "champion": "v1",
        "previous": None,
        "challengers": (),
        "shadows": (),
        "cohorts": {},
        "chain": FULL_CHAIN,
        "ensemble": (),
        "rules": (),
        "default": None,
        "has_default": False,
    }
    return Serving(**(plain | parts))


def a_full_serving(**parts: Any) -> Serving:
    """Every tier is there."""
    everything: dict[str, Any] = {
        "previous": "v0",
        "ensemble": ("v0", "v1"),
        "rules": (A_RULE,),
        "default": 0,
        "has_default": True,
    }
    return a_serving(**(everything | parts))


def a_document(serving: Serving, generation: int = 1, salt: str = "m/0", model: str = "m") -> dict[str, Any]:
    """The decision as it is published."""
    return document(Decision(model, generation, 1_700_000_000_000, Reason.INITIAL, None, serving, salt))


def routes(*shares: tuple[str, int]) -> tuple[Route, ...]:
    """Challengers with their basis points."""
    return tuple(Route(version, weight) for version, weight in shares)


# Up to four challengers whose shares fit into the whole.
challengers = st.lists(st.integers(0, 2_500), max_size=4).map(
    lambda weights: routes(*((f"c{i}", weight) for i, weight in enumerate(weights)))
)
some_tiers = st.permutations(FULL_CHAIN).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda count: tuple(order[:count]))
)
servings = st.builds(
    a_serving,
    previous=st.none() | st.just("v0"),
    challengers=challengers,
    shadows=st.lists(st.sampled_from(["s1", "s2"]), unique=True).map(tuple),
    cohorts=st.dictionaries(st.sampled_from(["internal", "beta"]), st.sampled_from(["v1", "v9"])),
    chain=some_tiers,
    ensemble=st.sampled_from([(), ("v0", "v1")]),
    rules=st.sampled_from([(), (A_RULE,)]),
    default=st.sampled_from([0, "no", 0.5]),
    has_default=st.booleans(),
)
