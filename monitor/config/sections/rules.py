"""The section `rules` of a model: limits on metrics.

Pure.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from monitor.config import units
from monitor.config.sections.base import Count, Dwell, LimitValue, Name, Points, Section, Text
from monitor.spec import Consequence, Severity


class RuleSection(Section):
    """A limit on a metric."""

    name: Name = Field(description="name of the alert; unique in the model")
    metric: Text = Field(description="name of a metric, built-in or your own")
    above: LimitValue | None = Field(None, description="breached above this: 750, 1%, or `105% of baseline`")
    below: LimitValue | None = Field(None, description="breached below this: 0.9, 75%, or `95% of baseline`")
    drop: Points | None = Field(None, description="breached this far below the baseline: `3 points`")
    rise: Points | None = Field(None, description="breached this far above the baseline: `3 points`")
    severity: Severity = Field(Severity.WARNING, description="warning or critical")
    dwell: Dwell = Field((1, 0), alias="for", description="how long it has to hold: `3 checks` or 30m")
    then: Consequence = Field(Consequence.NONE, description="consequence of a breach: none, fallback or rollback")
    hard: bool = Field(
        False, description="compare the value alone; by default a breach must be statistically significant as well"
    )
    min_n: Count = Field(
        30,
        ge=1,
        description="with fewer events behind the metric the rule is not evaluated; see `n` of metrics",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> RuleSection:
        given = [name for name in ("above", "below", "drop", "rise") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a rule has one of above, below, drop and rise; this one has {' and '.join(given) or 'none'}"
            )
        return self

    @property
    def limit(self) -> tuple[str, units.Limit]:
        """The one key that is set, and its value."""
        return next((n, limit) for n in ("above", "below", "drop", "rise") if (limit := getattr(self, n)) is not None)
