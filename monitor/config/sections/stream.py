"""The section `stream`: source of events, topics, and security of the connection.

Pure.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from monitor.config.sections.base import ConfigIssue, Count, Duration, Name, Section, Text, Topic, raise_if_any


class SecuritySection(Section):
    """TLS and authentication of the connection to Kafka."""

    tls: bool = Field(False, description="encrypt the connection, and verify the certificates and names of the brokers")
    ca_file: Text | None = Field(
        None, description="certificates of the authorities, PEM; those of the operating system by default"
    )
    cert_file: Text | None = Field(None, description="client certificate, PEM, for mutual TLS")
    key_file: Text | None = Field(None, description="private key of the client certificate, if not in `cert_file`")
    key_password: Text | None = Field(None, repr=False, description="password of the private key")
    key_password_file: Text | None = Field(None, description="file with the password of the private key")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; no SASL by default"
    )
    username: Text | None = Field(None, description="SASL username")
    password: Text | None = Field(None, repr=False, description="SASL password")
    password_file: Text | None = Field(None, description="file with the SASL password")
    allow_insecure: bool = Field(False, description="allow SASL without TLS, which sends the password in the clear")

    @model_validator(mode="after")
    def _one_of_each(self) -> SecuritySection:
        raise_if_any(
            ConfigIssue(f"{name}_file", None, f"give either {name} or {name}_file")
            for name in ("key_password", "password")
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None
        )
        return self


class StreamSection(Section):
    """The source of events, and the topics of alerts and decisions."""

    url: Text = Field(
        description="address of the stream: kafka://host:9092,host2:9092, or file:./directory of JSON-lines topics, "
        "relative to the working directory"
    )
    events: list[Topic] = Field(["ml.predictions", "ml.outcomes"], min_length=1, description="topics of events")
    alerts: Topic = Field("driftd.alerts", description="topic of alerts, compacted, keyed by fingerprint")
    decisions: Topic = Field("driftd.decisions", description="topic of decisions, compacted, keyed by model")
    dead_letters: Topic = Field("driftd.dead-letters", description="topic of refused records")
    group: Name = Field("driftd", description="consumer group to which progress is committed; it has no members")
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="where to begin reading a partition that was never read: earliest or latest"
    )
    lateness: Duration = Field(5_000, description="how much later than others an event may come and still count")
    idle_after: Duration = Field(
        10_000,
        description="idle timeout: a partition with no new records for this long no longer holds back the watermark",
    )
    hold: Duration = Field(
        60_000,
        description="how long the others wait for a partition that cannot deliver: without a leader, behind an open "
        "transaction, or full of refused records; then it is left out until it delivers again",
    )
    buffer_bytes: Count = Field(
        64 << 20, ge=1 << 20, description="records held in memory while partitions are merged in the order of time"
    )
    batch_bytes: Count = Field(
        64 << 20,
        ge=1 << 20,
        description="what a batch of records of Kafka may decompress to: of a larger one only so much is decompressed, "
        "and its partition waits. A quarter of it in the formats of messages before Kafka 0.11; twice "
        "limits.event_bytes where that is more",
    )
    max_future: Duration = Field(
        600_000, description="events whose time is further ahead of their record's timestamp than this are refused"
    )
    max_past: Duration | None = Field(
        None,
        description="events whose time is this much older than their record's timestamp are refused; off by default, "
        "and not applied to records without a timestamp",
    )
    session_timeout: Duration = Field(
        10_000, description="a request to a broker without an answer for this long fails and is retried"
    )
    heartbeat: Duration = Field(
        300_000, description="interval at which the latest record of a firing alert is published again"
    )
    unknown_models: Literal["ignore", "refuse"] = Field(
        "ignore",
        description="events of models that are not configured: `ignore` counts them by the name of the model, `refuse` "
        "makes dead letters of them",
    )
    dead_letters_per_minute: Count = Field(
        10_000, ge=1, description="refused records of a partition in a minute beyond which it pauses until the next one"
    )
    security: SecuritySection = Field(SecuritySection(), description="TLS and SASL")

    @model_validator(mode="after")
    def _topics_differ(self) -> StreamSection:
        taken = set(self.events)
        found = []
        if len(taken) < len(self.events):
            found.append(ConfigIssue("events", None, "a topic stands twice"))
        for name in ("alerts", "decisions", "dead_letters"):
            topic = getattr(self, name)
            if topic in taken:
                found.append(
                    ConfigIssue(name, topic, "events, alerts, decisions and dead_letters must be different topics")
                )
            taken.add(topic)
        raise_if_any(found)
        return self
