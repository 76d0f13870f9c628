"""The sections `store`, `http` and `limits`: the daemon and its resources.

Pure.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from monitor.config.sections.base import HOUR, ConfigIssue, Count, Duration, Section, Text, raise_if_any
from monitor.times import duration_text


class StoreSection(Section):
    """The database: state, progress and history."""

    url: Text | None = Field(
        None,
        repr=False,
        description="sqlite:///driftd.db, relative to the working directory (four slashes for an absolute path), or "
        "postgresql+psycopg://user@host/database; this or `url_file` is needed",
    )
    url_file: Text | None = Field(None, description="file with the URL, for a URL with a password")
    retention: Duration = Field(
        90 * 24 * HOUR,
        description="how long history and alerts are kept, back from a model's newest window",
    )
    lease: Duration = Field(
        10_000, description="a standby daemon takes over after this long without a commit of the owner"
    )
    commit_every: Duration = Field(1_000, description="longest time between two commits")

    @model_validator(mode="after")
    def _fits(self) -> StoreSection:
        found = []
        if (self.url is None) == (self.url_file is None):
            found.append(ConfigIssue("url", None, "give either url or url_file"))
        if self.commit_every * 3 > self.lease:
            hint = "at least three times commit_every is needed, or a live daemon looks dead"
            found.append(ConfigIssue("lease", duration_text(self.lease), hint))
        raise_if_any(found)
        return self


class HttpSection(Section):
    """The HTTP server of metrics, probes and the status page."""

    host: Text = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: Count = Field(9464, ge=0, le=65_535, description="port to listen on; 0 takes any free port and logs it")
    hosts: list[Text] = Field(
        [],
        description="names by which it may be asked, in the header Host, so that no page of a browser can read it "
        "under a name of its own; empty: any, or no further ones where `host` is a loopback address. IP addresses, "
        "localhost and the probes are always served; a scraper that asks by a name needs it here",
    )


class LimitsSection(Section):
    """Upper bounds that keep memory and messages finite."""

    features: Count = Field(500, ge=1, le=10_000, description="features of an event; an event with more is refused")
    event_bytes: Count = Field(1 << 20, ge=1_024, description="bytes of an event; a larger one is refused")
    id_length: Count = Field(
        256,
        ge=16,
        le=4_096,
        description="characters of an id, a name or a label; an event with a longer one is refused",
    )
    versions: Count = Field(
        20, ge=1, le=1_000, description="versions of a model; further ones are measured together as `__other__`"
    )
    segments: Count = Field(200, ge=1, le=10_000, description="segments; further ones are counted as one")
    labels: Count = Field(
        50_000, ge=2, le=100_000, description="classes of a model; answers with further ones are left out of quality"
    )
    pending: Count = Field(
        1_500_000, ge=1_000, description="predictions waiting for their outcome; beyond, only a sample of them waits"
    )
    seen: Count = Field(3_500_000, ge=1_000, description="requests remembered to recognise duplicates")
    ended: Count = Field(
        1_000_000,
        ge=0,
        le=100_000_000,
        description="requests of all models that were joined, or ended otherwise, of which `driftd inspect` shows the "
        "details: the latest ones; about 30 bytes of the database each",
    )
    learning: Count = Field(
        200_000,
        ge=1_000,
        description="predictions that a reference is learned from at most, where that is more than `learn`; a sample "
        "of them is taken",
    )
    outbox: Count = Field(
        50_000,
        ge=1_000,
        description="messages waiting to be published; beyond, reading pauses; of a webhook the oldest are given up",
    )
