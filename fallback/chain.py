"""The fallback chain: levels in order, the first that answers wins, the last cannot fail.

Pure. `decisions` moves the active level along it; `router` walks it for a single request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fallback.types import BusinessRule, Condition, Level, Scalar, Serving


def available(serving: Serving, level: Level) -> bool:
    """Whether something stands behind a level."""
    match level:
        case Level.PRIMARY:
            return True
        case Level.PREVIOUS:
            return serving.previous is not None
        case Level.RULES:
            return bool(serving.rules)
        case Level.ENSEMBLE:
            return bool(serving.ensemble)
        case Level.DEFAULT:
            return serving.has_default


def levels(serving: Serving) -> tuple[Level, ...]:
    """The primary and those levels of the chain that are there."""
    return (Level.PRIMARY, *(level for level in serving.chain if available(serving, level)))


def below(serving: Serving, level: Level) -> tuple[Level, ...]:
    """Available levels after `level`, in order."""
    everything = (Level.PRIMARY, *serving.chain)
    after = everything[everything.index(level) + 1 :] if level in everything else ()
    return tuple(lower for lower in after if available(serving, lower))


def answering(serving: Serving, level: Level) -> str:
    """The name under which a level's answers are measured: a version, or the level's own."""
    match level:
        case Level.PRIMARY:
            return serving.champion
        case Level.PREVIOUS if serving.previous is not None:
            return serving.previous
        case _:
            return level.value


def apply_rules(rules: Sequence[BusinessRule], features: Mapping[str, Scalar]) -> Scalar:
    """The answer of the first rule whose conditions all hold.

    Raises:
        LookupError: no rule speaks of these features.
    """
    for rule in rules:
        if all(holds(condition, features) for condition in rule.when):
            return rule.then
    raise LookupError("no business rule applies")


def holds(condition: Condition, features: Mapping[str, Scalar]) -> bool:
    """Whether a condition is met. A missing value, or one that cannot be compared, meets none."""
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
