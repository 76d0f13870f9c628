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
    """Name the tiers, best first; the last tier of a chain should be one that cannot fail."""

    PRIMARY = "primary"
    PREVIOUS = "previous"
    RULES = "rules"
    ENSEMBLE = "ensemble"
    DEFAULT = "default"


FALLBACK_TIERS: Final = tuple(tier for tier in Tier if tier is not Tier.PRIMARY)
VERSIONLESS_TIERS: Final = tuple(tier for tier in FALLBACK_TIERS if tier is not Tier.PREVIOUS)  # no version answers


class Reason(StrEnum):
    """Name the reasons of a decision: a metric label, a log field and a field of the published document."""

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
    """Name the states of health that the rules of a version lead to, best first."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Route:
    """Hold the share of a version; `weight` is in basis points of the traffic."""

    version: str
    weight: int


@dataclass(frozen=True, slots=True)
class Condition:
    """Compare one feature with a value.

    Attributes:
        feature: Name of the feature.
        op: One of < <= > >= == != in.
        value: A tuple for `in`, otherwise a scalar.
    """

    feature: str
    op: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class BusinessRule:
    """Answer `then` at the tier `rules` if all conditions of `when` hold."""

    when: tuple[Condition, ...]
    then: Scalar


@dataclass(frozen=True, slots=True)
class ServingParts:
    """Hold the fields that the configured and the current serving state of a model share.

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
    """Hold the configured serving state of a model.

    Attributes:
        routes: Shares of the challengers; the champion has the rest.
    """

    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Serving(ServingParts):
    """Hold the current serving state of a model, of which decisions are made.

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
    """Hold a numbered serving state.

    Attributes:
        model: Name of the model.
        generation: Number of the decision, which only grows; a client ignores a lower one.
        issued_at: Stream time in milliseconds since the epoch.
        reason: Why the decision was made.
        cause: Id of the alert that led to it; None without one.
        serving: What is decided.
        salt: Hashed together with the key, so that models are routed independently.
        by: Who decided: the name of a person, `rules`, `rollout` or `config`; empty where an earlier release did.
    """

    model: str
    generation: int
    issued_at: int  # ms since the epoch, stream time
    reason: Reason
    cause: str | None  # id of the alert behind it
    serving: Serving
    salt: str
    by: str = ""
