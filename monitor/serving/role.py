"""Roles of versions in a serving state. Pure."""

from __future__ import annotations

from enum import StrEnum

from fallback import decisions
from fallback.chain import answering
from fallback.types import Serving, Tier
from monitor.events.codes import VERSIONLESS_TIERS


class Role(StrEnum):
    """Role of a version: a label of the status document."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"
    PREVIOUS = "previous"
    OBSERVED = "observed"
    TIER = "level"


def role(serving: Serving, version: str) -> Role:
    """Return the role of a version, or of a tier at which no version answers."""
    if version in VERSIONLESS_TIERS:
        return Role.TIER
    if version == serving.champion:
        return Role.CHAMPION
    if any(route.version == version for route in serving.challengers):
        return Role.CHALLENGER
    if version in serving.shadows:
        return Role.SHADOW
    return Role.PREVIOUS if version == serving.previous else Role.OBSERVED


def in_service(serving: Serving) -> set[str]:
    """Return what predictions are expected of: versions with traffic, shadows, and what answers at the active tier."""
    routed = (route.version for route in serving.challengers)
    found = {serving.champion, *routed, *serving.cohorts.values(), *decisions.shadows(serving)}
    members = serving.ensemble if serving.active is Tier.ENSEMBLE else ()
    return {*found, answering(serving, serving.active), *members}


def named_versions(serving: Serving) -> set[str]:
    """Return all versions that a serving state names."""
    routed = (route.version for route in serving.challengers)
    named = {serving.champion, *routed, *serving.shadows, *serving.ensemble, *serving.cohorts.values()}
    return named if serving.previous is None else named | {serving.previous}
