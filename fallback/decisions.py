"""How who serves changes: from configuration, by rollback, down the chain and back up.

Pure: each function takes what is and gives what shall be, or None where nothing changes. The daemon numbers
the results, stores them and publishes them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fallback.chain import answering, below, tiers
from fallback.routing import weights
from fallback.types import SCHEMA, Decision, Route, Serving, ServingSpec, Tier

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def initial(spec: ServingSpec) -> Serving:
    """As configured. Raises ValueError where the shares are impossible."""
    weights(spec.champion, spec.routes)
    return Serving(
        champion=spec.champion,
        previous=spec.previous,
        challengers=tuple(route for route in spec.routes if route.weight),
        shadows=spec.shadows,
        cohorts=dict(spec.cohorts),
        chain=spec.chain,
        ensemble=spec.ensemble,
        rules=spec.rules,
        default=spec.default,
        has_default=spec.has_default,
    )


def reconfigured(serving: Serving, before: ServingSpec, after: ServingSpec) -> Serving | None:
    """What was changed in the configuration since it was last applied, and nothing else.

    A rollback since then stays in force where its value was not touched.
    """
    changed: dict[str, Any] = {}
    for name in ("champion", "previous", "shadows", "cohorts", "chain", "ensemble", "rules", "default", "has_default"):
        if getattr(before, name) != getattr(after, name):
            changed[name] = getattr(after, name)
    if before.routes != after.routes:
        changed["challengers"] = tuple(route for route in after.routes if route.weight)
    if not changed:
        return None
    result = replace(serving, **changed)
    result = replace(result, challengers=_without(result.challengers, result.champion))
    weights(result.champion, result.challengers)
    if result.active not in tiers(result):
        result = replace(result, active=Tier.PRIMARY, failed=())
    return result if result != serving else None


def roll_back(serving: Serving, version: str) -> Serving | None:
    """Take traffic from a version that fails.

    A challenger's share goes to the champion; the champion's place goes to the previous version. None where
    it has no share, or where there is no previous version to go back to.
    """
    if any(route.version == version for route in serving.challengers):
        return replace(serving, challengers=_without(serving.challengers, version))
    if version == serving.champion and serving.previous is not None:
        return make_champion(serving, serving.previous)
    return None


def make_champion(serving: Serving, version: str) -> Serving | None:
    """Give a version the champion's place; None if it has it and serves.

    The version it replaces is not what to go back to next time, so `previous` is emptied where it is used.
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
    """Leave `tier`, which failed, for the next one that is there; None if it does not serve or is the last."""
    if tier is not serving.active:
        return None
    lower = below(serving, tier)
    return replace(serving, active=lower[0], failed=(*serving.failed, tier)) if lower else None


def recover(serving: Serving, tier: Tier) -> Serving | None:
    """Go back up to `tier`; None if something as good serves already."""
    order = tiers(serving)
    if tier not in order or order.index(tier) >= order.index(serving.active):
        return None
    kept = tuple(f for f in serving.failed if f in order and order.index(f) < order.index(tier))
    return replace(serving, active=tier, failed=kept)


def shadows(serving: Serving) -> tuple[str, ...]:
    """Versions that answer without being served: as configured, and those of failed levels.

    A failed version is watched while another serves: that is where the evidence of its recovery comes from.
    """
    failed = [answering(serving, tier) for tier in serving.failed if tier in (Tier.PRIMARY, Tier.PREVIOUS)]
    serving_now = answering(serving, serving.active)
    return tuple(dict.fromkeys(v for v in (*serving.shadows, *failed) if v != serving_now))


def document(decision: Decision) -> dict[str, Any]:
    """The decision as it is published."""
    serving = decision.serving
    issued = _EPOCH + timedelta(milliseconds=decision.issued_at)
    return {
        "schema": SCHEMA,
        "model": decision.model,
        "generation": decision.generation,
        "issued_at": issued.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "reason": decision.reason.value,
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


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _without(routes: tuple[Route, ...], version: str) -> tuple[Route, ...]:
    return tuple(route for route in routes if route.version != version)
