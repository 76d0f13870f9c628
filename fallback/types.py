"""The words of a decision. Frozen, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WHOLE: Final = 10_000  # weights are basis points of the traffic
SCHEMA: Final = 1

Scalar = str | int | float | bool | None


class Tier(StrEnum):
    """Who answers, best first. The last of a chain should be one that cannot fail."""

    PRIMARY = "primary"
    PREVIOUS = "previous"
    RULES = "rules"
    ENSEMBLE = "ensemble"
    DEFAULT = "default"


class Reason(StrEnum):
    """Why a decision was made: metric label, log field and field of the record."""

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
    """What the rules say of a version."""

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
class ServingSpec:
    """Who serves a model, as configured. `routes` are the challengers' shares, the champion has the rest."""

    champion: str
    previous: str | None = None
    routes: tuple[Route, ...] = ()
    shadows: tuple[str, ...] = ()
    cohorts: Mapping[str, str] = field(default_factory=dict)
    chain: tuple[Tier, ...] = (Tier.PREVIOUS, Tier.RULES, Tier.ENSEMBLE, Tier.DEFAULT)
    ensemble: tuple[str, ...] = ()
    rules: tuple[BusinessRule, ...] = ()
    default: Scalar = None
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves a model now: what decisions are made of, and what a command or a rule changes.

    `failed` are the levels that were given up since the primary served, in order.
    """

    champion: str
    previous: str | None
    challengers: tuple[Route, ...]
    shadows: tuple[str, ...]
    cohorts: Mapping[str, str]
    chain: tuple[Tier, ...]
    ensemble: tuple[str, ...]
    rules: tuple[BusinessRule, ...]
    default: Scalar
    has_default: bool
    active: Tier = Tier.PRIMARY
    failed: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The routing document of a model. `generation` only grows; a client ignores a lower one."""

    model: str
    generation: int
    issued_at: int  # ms since the epoch, stream time
    reason: Reason
    cause: str | None  # id of the alert behind it
    serving: Serving
    salt: str
