"""The keys of the configuration, with their defaults and allowed values.

Pure. `sections` has the parts of the file. The description of each field is its documentation (`docs/build.py`);
unknown keys are refused. Constraints between several keys are checked here as well, so that all errors are reported
together.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from monitor.config.sections.base import ConfigIssue, Misfits, Name, Section, raise_if_any
from monitor.config.sections.daemon import HttpSection, LimitsSection, StoreSection
from monitor.config.sections.model import ModelSection
from monitor.config.sections.stream import StreamSection
from monitor.config.sections.webhooks import WebhookSection
from monitor.events.codes import CODES_OF_A_MODEL, VARIANT_CODES


class Configuration(Section):
    """The whole file."""

    stream: StreamSection = Field(description="source of events, and topics of alerts and decisions")
    store: StoreSection = Field(description="the database: state, progress and history")
    http: HttpSection = Field(HttpSection(), description="the HTTP server of metrics, probes and the status page")
    limits: LimitsSection = Field(LimitsSection(), description="upper bounds that keep memory and messages finite")
    models: dict[Name, ModelSection] = Field(min_length=1, description="the watched models, by name")
    webhooks: list[WebhookSection] = Field(
        [], max_length=8, description="HTTP endpoints that receive alerts or decisions in addition to the topics"
    )

    @model_validator(mode="after")
    def _webhooks_differ(self) -> Configuration:
        names = [webhook.name for webhook in self.webhooks]
        raise_if_any(
            ConfigIssue(f"webhooks[{i}].name", name, "another webhook has this name")
            for i, name in enumerate(names)
            if name in names[:i]
        )
        return self

    @model_validator(mode="after")
    def _codes_suffice(self) -> Configuration:
        if len(self.models) * (self.limits.versions + CODES_OF_A_MODEL) >= VARIANT_CODES:
            most = VARIANT_CODES // len(self.models) - CODES_OF_A_MODEL - 1
            hint = f"with {len(self.models)} models at most {most} versions of each"
            raise Misfits([ConfigIssue("limits.versions", self.limits.versions, hint)])
        return self
