"""Vocabulary of decisions: tiers, routes, serving states.

Frozen values, standard library only, because serving applications import them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WHOLE: Final = 10_000  # weights are basis points of the traffic
SCHEMA: Final = 1

Scalar = str | int | float | bool | None


class Tier(StrEnum):
    """Tiers of the fallback chain, best first. The last tier of a chain should be one that cannot fail."""

    PRIMARY = "primary"
    PREVIOUS = "previous"
    RULES = "rules"
    ENSEMBLE = "ensemble"
    DEFAULT = "default"


FALLBACK_TIERS: Final = tuple(tier for tier in Tier if tier is not Tier.PRIMARY)
VERSIONLESS_TIERS: Final = tuple(tier for tier in FALLBACK_TIERS if tier is not Tier.PREVIOUS)  # no version answers


class Reason(StrEnum):
    """Reasons of a decision: a metric label, a log field and a field of the published document."""

    INITIAL = "initial"
    CONFIG = "config"
    STAGE_ADVANCED = "stage_advanced"
    PROMOTED = "promoted"
    GUARDRAIL_BREACHED = "guardrail_breached"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"
    RULE_BREACHED = "rule_breached"
    FALLBACK_ENGAGED = "fallback_engaged"
    RECOVERED = "recovered"
    MANUAL_ROLLBACK = "manual_rollback"
    MANUAL = "manual"


class Health(StrEnum):
    """Health of a version, as its rules judge it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Route:
    """A version's share of the traffic, in basis points."""

    version: str
    weight: int


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one feature: `op` is one of < <= > >= == != in."""

    feature: str
    op: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class BusinessRule:
    """An answer of the level `rules`: `then` where all conditions hold."""

    when: tuple[Condition, ...]
    then: Scalar


@dataclass(frozen=True, slots=True)
class ServingParts:
    """Fields that the configured and the current serving state of a model share.

    Attributes:
        champion: Version that gets all traffic that no route gives to a challenger.
        previous: Version to roll back to.
        shadows: Versions that answer without being served.
        cohorts: Cohort → version that answers it.
        chain: Fallback tiers in the order in which they are tried.
        ensemble: Versions that answer together at the tier `ensemble`.
        rules: Business rules of the tier `rules`.
        default: Answer of the tier `default`, where `has_default`.
    """

    champion: str
    previous: str | None = None
    shadows: tuple[str, ...] = ()
    cohorts: Mapping[str, str] = field(default_factory=dict)
    chain: tuple[Tier, ...] = FALLBACK_TIERS
    ensemble: tuple[str, ...] = ()
    rules: tuple[BusinessRule, ...] = ()
    default: Scalar = None
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class ServingSpec(ServingParts):
    """The serving state of a model as configured. `routes` are the challengers' shares, the champion has the rest."""

    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Serving(ServingParts):
    """The current serving state of a model: what decisions are made of.

    Attributes:
        challengers: Routes with a share of the traffic.
        active: Tier that answers.
        failed: Tiers that were left since the primary tier last answered, in order.
    """

    challengers: tuple[Route, ...] = ()
    active: Tier = Tier.PRIMARY
    failed: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A numbered serving state. `generation` only grows; a client ignores a lower one."""

    model: str
    generation: int
    issued_at: int  # ms since the epoch, stream time
    reason: Reason
    cause: str | None  # id of the alert behind it
    serving: Serving
    salt: str
