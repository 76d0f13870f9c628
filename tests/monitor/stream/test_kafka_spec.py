"""Security settings that contradict themselves, or give a password away."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from monitor.errors import ConfigError
from monitor.stream.kafka_spec import KafkaSecurity

USER: dict[str, Any] = {"mechanism": "SCRAM-SHA-512", "username": "driftd", "password": "secret"}


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls": True}, "SSL"),
        ({"tls": True, **USER}, "SASL_SSL"),
        ({"allow_insecure": True, **USER}, "SASL_PLAINTEXT"),
    ],
)
def test_the_protocol_follows_from_the_settings(settings: dict[str, Any], protocol: str) -> None:
    """Nobody has to know Kafka's names for them."""
    assert KafkaSecurity(**settings).protocol == protocol


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (USER, "stream.security.tls"),
        ({**USER, "mechanism": "PLAIN"}, "stream.security.tls"),
        ({"tls": True, "mechanism": "PLAIN"}, "stream.security.mechanism"),
        ({"tls": True, **USER, "password": None}, "stream.security.mechanism"),
        ({"tls": True, "username": "driftd", "password": "secret"}, "stream.security.mechanism"),
        ({"ca_file": Path("ca.pem")}, "stream.security.tls"),
        ({"cert_file": Path("cert.pem")}, "stream.security.tls"),
        ({"tls": True, "key_file": Path("key.pem")}, "stream.security.cert_file"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], path: str) -> None:
    """A password goes over the wire in the clear only for those who say so."""
    with pytest.raises(ConfigError) as raised:
        KafkaSecurity(**settings)

    assert raised.value.path == path
    assert "secret" not in str(raised.value)


def test_secrets_are_not_printed() -> None:
    """Not in a log, not in an error."""
    security = KafkaSecurity(tls=True, cert_file=Path("cert.pem"), key_password="hidden", **USER)

    assert "secret" not in repr(security)
    assert "hidden" not in repr(security)


def test_brokers_are_checked_by_default() -> None:
    """TLS without knowing whom one talks to is no security."""
    context = KafkaSecurity(tls=True).ssl_context()

    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert KafkaSecurity().ssl_context() is None


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    """At the start, and not as a connection that fails for ever."""
    for content in (None, b"no certificate"):
        path = tmp_path / "file.pem"
        if content is not None:
            path.write_bytes(content)
        settings: dict[str, Any] = {"tls": True, name: path}
        with pytest.raises(ConfigError, match=r"file\.pem") as raised:
            KafkaSecurity(**settings).ssl_context()
        assert raised.value.path == f"stream.security.{name}"
