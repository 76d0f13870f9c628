"""Transitions of the serving state, and the published document of a decision.

Pure: each transition takes the current state and returns the next one, or None if nothing changes. The
daemon numbers the results, stores and publishes them; `document` and `serving_of` are each other's inverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fallback.chain import answering, below, tiers
from fallback.routing import weights
from fallback.types import (
    SCHEMA,
    BusinessRule,
    Condition,
    Decision,
    Route,
    Serving,
    ServingParts,
    ServingSpec,
    Tier,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHARED = tuple(part.name for part in fields(ServingParts))


def initial(spec: ServingSpec) -> Serving:
    """Return the serving state that a configuration begins with.

    Raises:
        ValueError: The shares are impossible.
    """
    weights(spec.champion, spec.routes)
    shared = {name: getattr(spec, name) for name in _SHARED}
    return Serving(**shared, challengers=_with_share(spec.routes))


def reconfigured(serving: Serving, before: ServingSpec, after: ServingSpec) -> Serving | None:
    """Apply the fields that differ between two configurations, and leave the others as decided since.

    A rollback stays in force if its fields were not changed.

    Returns:
        The next state; None if nothing changes.

    Raises:
        ValueError: The shares are impossible.
    """
    changed: dict[str, Any] = {
        name: getattr(after, name) for name in _SHARED if getattr(before, name) != getattr(after, name)
    }
    if before.routes != after.routes:
        changed["challengers"] = _with_share(after.routes)
    if not changed:
        return None
    result = replace(serving, **changed)
    result = replace(result, challengers=_without(result.challengers, result.champion))
    weights(result.champion, result.challengers)
    if result.active not in tiers(result):
        result = replace(result, active=Tier.PRIMARY, failed=())
    return result if result != serving else None


def roll_back(serving: Serving, version: str) -> Serving | None:
    """Take the traffic from a version that fails.

    The share of a challenger goes to the champion; the champion is replaced by the previous version.

    Returns:
        The next state; None if the version has no traffic, or if there is no previous version.
    """
    if any(route.version == version for route in serving.challengers):
        return replace(serving, challengers=_without(serving.challengers, version))
    if version == serving.champion and serving.previous is not None:
        return make_champion(serving, serving.previous)
    return None


def make_champion(serving: Serving, version: str) -> Serving | None:
    """Make a version the champion, at the primary tier.

    If it is the previous version, there is none afterwards: the version that it replaces is not one to go back to.

    Returns:
        The next state; None if the version already serves as the champion.
    """
    result = replace(
        serving,
        champion=version,
        previous=None if version == serving.previous else serving.previous,
        challengers=_without(serving.challengers, version),
        shadows=tuple(s for s in serving.shadows if s != version),
        active=Tier.PRIMARY,
        failed=(),
    )
    return result if result != serving else None


def step_down(serving: Serving, tier: Tier) -> Serving | None:
    """Leave `tier`, which failed, for the next available one; None if it is not active or is the last."""
    if tier is not serving.active:
        return None
    lower = below(serving, tier)
    return replace(serving, active=lower[0], failed=(*serving.failed, tier)) if lower else None


def recover(serving: Serving, tier: Tier) -> Serving | None:
    """Go back up to `tier`; None if it or a better tier is active."""
    order = tiers(serving)
    if tier not in order or order.index(tier) >= order.index(serving.active):
        return None
    kept = tuple(f for f in serving.failed if f in order and order.index(f) < order.index(tier))
    return replace(serving, active=tier, failed=kept)


def shadows(serving: Serving) -> tuple[str, ...]:
    """Return the versions that answer without being served: as configured, and those of failed tiers.

    A failed version goes on answering beside the one that serves: that is the evidence of its recovery.
    """
    failed = [answering(serving, tier) for tier in serving.failed if tier in (Tier.PRIMARY, Tier.PREVIOUS)]
    serving_now = answering(serving, serving.active)
    return tuple(dict.fromkeys(v for v in (*serving.shadows, *failed) if v != serving_now))


def document(decision: Decision) -> dict[str, Any]:
    """Return the document of a decision as it is published."""
    serving = decision.serving
    issued = _EPOCH + timedelta(milliseconds=decision.issued_at)
    return {
        "schema": SCHEMA,
        "model": decision.model,
        "generation": decision.generation,
        "issued_at": issued.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "reason": decision.reason.value,
        "by": decision.by or None,
        "cause": decision.cause,
        "champion": serving.champion,
        "routes": [{"version": r.version, "weight": r.weight} for r in weights(serving.champion, serving.challengers)],
        "shadows": list(shadows(serving)),
        "cohorts": dict(serving.cohorts),
        "chain": [tier.value for tier in serving.chain],
        "levels": {
            "previous": serving.previous,
            "ensemble": list(serving.ensemble),
            "rules": [
                {
                    "when": [{"feature": c.feature, "op": c.op, "value": _plain(c.value)} for c in rule.when],
                    "then": rule.then,
                }
                for rule in serving.rules
            ],
            "default": {"value": serving.default} if serving.has_default else None,
        },
        "active_level": serving.active.value,
        "salt": decision.salt,
        "rollout": None,
    }


def serving_of(document: Mapping[str, Any]) -> Serving:
    """Read the serving state out of a published document.

    Args:
        document: As `document` returns it, possibly written by another release of the same schema.

    Raises:
        AttributeError, KeyError, TypeError: A field is missing or of another type.
        ValueError: A tier is unknown, or the shares do not sum to the whole.
    """
    champion, tiers = document["champion"], document["levels"]
    routes = tuple(Route(route["version"], route["weight"]) for route in document["routes"])
    challengers = tuple(route for route in routes if route.version != champion)
    if set(weights(champion, challengers)) != set(routes):
        raise ValueError("the shares do not sum to 10 000, the champion's included")
    chain = tuple(map(Tier, document["chain"]))
    if Tier.PRIMARY in chain:
        raise ValueError("a chain begins after the primary level")
    default = tiers.get("default")
    return Serving(
        champion=champion,
        previous=tiers.get("previous"),
        challengers=challengers,
        shadows=tuple(document["shadows"]),
        cohorts=dict(document["cohorts"]),
        chain=chain,
        ensemble=tuple(tiers.get("ensemble") or ()),
        rules=tuple(map(_rule, tiers.get("rules") or ())),
        default=None if default is None else default["value"],
        has_default=default is not None,
        active=Tier(document["active_level"]),
    )


def _rule(saved: Mapping[str, Any]) -> BusinessRule:
    return BusinessRule(tuple(map(_condition, saved["when"])), saved["then"])


def _condition(saved: Mapping[str, Any]) -> Condition:
    value = saved["value"]
    return Condition(saved["feature"], saved["op"], tuple(value) if isinstance(value, list) else value)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _with_share(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return tuple(route for route in routes if route.weight)


def _without(routes: tuple[Route, ...], version: str) -> tuple[Route, ...]:
    return tuple(route for route in routes if route.version != version)
