"""The section `fallback` of a model: the fallback tiers, which answer when the champion fails.

Pure.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from monitor.config import units
from monitor.config.sections.base import ConfigIssue, Duration, Misfits, Name, Scalar, Section


class ConditionSection(Section):
    """A condition on a feature."""

    feature: Name = Field(description="name of the feature")
    op: Literal["<", "<=", ">", ">=", "==", "!=", "in"] = Field(description="one of < <= > >= == != in")
    value: Any = Field(description="value to compare with: a number, text, boolean or null; a list of them for `in`")

    @field_validator("value", mode="before")
    @classmethod
    def _scalars(cls, value: object) -> object:
        return [units.label(v) for v in value] if isinstance(value, list) else units.label(value)

    @model_validator(mode="after")
    def _list_for_in(self) -> ConditionSection:
        if isinstance(self.value, list) != (self.op == "in"):
            raise Misfits([ConfigIssue("value", None, "`in` needs a list, and only `in`")])
        return self


class BusinessRuleSection(Section):
    """A business rule: conditions and the answer."""

    when: list[ConditionSection] = Field(
        min_length=1, description="conditions that must all hold; a single one needs no list"
    )
    then: Scalar = Field(description="the answer")

    @field_validator("when", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value


class DefaultSection(Section):
    """The answer of the tier `default`, which needs no model."""

    value: Scalar = Field(description="the answer")


class FallbackSection(Section):
    """The fallback tiers, which answer when the champion fails."""

    chain: list[Literal["previous", "rules", "ensemble", "default"]] = Field(
        ["previous", "rules", "ensemble", "default"],
        description="tiers in order; those that are not configured are skipped",
    )
    recover_after: Duration = Field(
        600_000, description="how long a failed tier must be healthy before it answers again"
    )
    ensemble: list[Name] = Field([], description="tier `ensemble`: versions whose answers are combined")
    rule_based: list[BusinessRuleSection] = Field(
        [], description="tier `rules`: the first rule whose conditions hold gives the answer"
    )
    default: DefaultSection | None = Field(None, description="tier `default`: a fixed answer")

    @field_validator("chain")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a level stands twice")
        return value
