"""What an event may contain, as far as the configuration of its model decides it.

Whether an event is accepted depends on the event, the limits and this schema, never on the reference that is in
force: a feature value that the reference cannot use counts as missing, and the event stays accepted. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from fallback.types import Tier
from monitor.names import feature_of
from monitor.spec import FeatureKind, ModelSpec, Task

SCHEMA: Final = 1  # version of the event format
TYPES: Final = ("prediction", "outcome", "resources")
# Tiers, and the champion that answers for a challenger that failed. Panes are counted by place: append only.
SERVED_BY: Final = (*(tier.value for tier in Tier), "champion")
ASSIGNED_BY: Final = ("weight", "cohort", "override", "environment")  # what chose the version
LARGEST_INTEGER: Final = 1 << 53  # beyond it a float cannot hold every integer
LEAST_ID, GREATEST_ID = -(1 << 63), (1 << 64) - 1  # of 64 bits, signed or not: only the digits are used

Scalar = str | int | float | bool | None
Whole = Annotated[int, msgspec.Meta(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
WholeId = Annotated[int, msgspec.Meta(ge=LEAST_ID)]  # GREATEST_ID is beyond the bounds that msgspec checks


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """Rules for the events of one model.

    Attributes:
        numeric: Predictions and actual values must be numbers, as in a regression.
        ignored: Features whose values are not checked; any JSON is accepted there.
    """

    numeric: bool
    ignored: frozenset[str]


def schema_of(model: ModelSpec) -> ModelSchema:
    """Derive the schema of a model's events from its configuration."""
    return ModelSchema(model.task is Task.REGRESSION, ignored_names(model.feature_kinds))


def ignored_names(kinds: Mapping[str, FeatureKind]) -> frozenset[str]:
    """Return the features, as they are called in events, that are never checked nor compared."""
    ignored = (feature_of(name) for name, kind in kinds.items() if kind is FeatureKind.IGNORE)
    return frozenset(name for name in ignored if name is not None)
