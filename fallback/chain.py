"""The fallback chain: tiers in order, of which the first that answers wins.

Pure. `decisions` moves the active tier along the chain; `router` walks it for a single request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fallback.types import BusinessRule, Condition, Scalar, Serving, Tier


def available(serving: Serving, tier: Tier) -> bool:
    """Tell whether a tier has something to answer with."""
    match tier:
        case Tier.PRIMARY:
            return True
        case Tier.PREVIOUS:
            return serving.previous is not None
        case Tier.RULES:
            return bool(serving.rules)
        case Tier.ENSEMBLE:
            return bool(serving.ensemble)
        case Tier.DEFAULT:
            return serving.has_default


def tiers(serving: Serving) -> tuple[Tier, ...]:
    """Return the primary tier and the available tiers of the chain, in order."""
    return (Tier.PRIMARY, *(tier for tier in serving.chain if available(serving, tier)))


def below(serving: Serving, tier: Tier) -> tuple[Tier, ...]:
    """Return the available tiers after `tier`, in order; none if the chain does not name it."""
    everything = (Tier.PRIMARY, *serving.chain)
    after = everything[everything.index(tier) + 1 :] if tier in everything else ()
    return tuple(lower for lower in after if available(serving, lower))


def answering(serving: Serving, tier: Tier) -> str:
    """Return the name under which the answers of a tier are measured: its version, or its own name."""
    match tier:
        case Tier.PRIMARY:
            return serving.champion
        case Tier.PREVIOUS if serving.previous is not None:
            return serving.previous
        case _:
            return tier.value


def apply_rules(rules: Sequence[BusinessRule], features: Mapping[str, Scalar]) -> Scalar:
    """Return the answer of the first rule whose conditions all hold.

    Raises:
        LookupError: No rule applies to these features.
    """
    for rule in rules:
        if all(holds(condition, features) for condition in rule.when):
            return rule.then
    raise LookupError("no business rule applies")


def holds(condition: Condition, features: Mapping[str, Scalar]) -> bool:
    """Tell whether features meet a condition; a missing or incomparable value meets none."""
    value, wanted = features.get(condition.feature), condition.value
    if value is None:
        return False
    if isinstance(wanted, tuple):
        return condition.op == "in" and value in wanted
    match condition.op:
        case "==":
            return value == wanted
        case "!=":
            return value != wanted
    if not isinstance(value, int | float) or not isinstance(wanted, int | float):
        return False
    match condition.op:
        case "<":
            return value < wanted
        case "<=":
            return value <= wanted
        case ">":
            return value > wanted
        case ">=":
            return value >= wanted
    return False
