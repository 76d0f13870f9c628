"""The section `webhooks`: HTTP endpoints for alerts and decisions.

Pure.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from monitor.config.sections.base import HOUR, ConfigIssue, Duration, Name, Section, Text, raise_if_any
from monitor.publishing.destinations.webhook import parse_keys
from monitor.store.subscriptions import STREAM

_URL: Final = re.compile(r"[\x21-\x7e]+")


class WebhookSection(Section):
    """An HTTP endpoint that receives alerts or decisions as signed requests (Standard Webhooks)."""

    name: Name = Field(description="name of the webhook in metrics, logs and alerts; unique")
    url: Text = Field(
        repr=False, description="http:// or https:// URL with host and path; take one with a token from the environment"
    )
    secret: Text | None = Field(
        None,
        repr=False,
        description="key that signs every request: `whsec_` and 24 to 64 bytes in base64; several, separated by "
        "spaces, while it is being changed; this or `secret_file` is needed",
    )
    secret_file: Text | None = Field(None, description="file with the secret")
    kinds: list[Literal["alert", "decision"]] = Field(
        ["alert"], min_length=1, description="messages to send: alert, decision or both"
    )
    timeout: Duration = Field(
        15_000, le=60_000, description="longest time to connect, and longest time to wait for the answer"
    )
    max_age: Duration = Field(24 * HOUR, description="a message not accepted for this long is dropped, with an alert")

    @field_validator("url")
    @classmethod
    def _usable(cls, value: str) -> str:
        hint = _why_no_webhook(value)
        if hint is not None:
            raise ValueError(hint)
        return value

    @field_validator("secret")
    @classmethod
    def _signs(cls, value: str | None) -> str | None:
        if value is not None:
            parse_keys(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> WebhookSection:
        found = []
        if (self.secret is None) == (self.secret_file is None):
            found.append(ConfigIssue("secret", None, "give either secret or secret_file"))
        if self.name == STREAM:
            found.append(ConfigIssue("name", self.name, "is the name of the stream itself"))
        raise_if_any(found)
        return self


def _why_no_webhook(url: str) -> str | None:
    """Return why a URL cannot be that of a webhook, without the URL, which may contain a token."""
    wanted = "a URL like https://host/path is needed"
    try:
        parsed = urlsplit(url)
        port = parsed.port
    except ValueError:
        return wanted
    if parsed.scheme not in ("http", "https") or not parsed.hostname or port == 0 or not _URL.fullmatch(url):
        return wanted
    try:
        parsed.hostname.encode("idna")
    except UnicodeError:
        return wanted
    if "@" in parsed.netloc:
        return "no user and password here: requests are signed with the secret"
    return "nothing after a # is ever sent; leave it out" if parsed.fragment else None
