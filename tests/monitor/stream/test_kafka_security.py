"""Being sure of the brokers and known to them, on a broker that insists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing

import pytest

from monitor.errors import StreamError
from monitor.stream.kafka import KafkaAdmin, KafkaSink, KafkaSource, KafkaSpec
from monitor.stream.kafka_spec import Mechanism
from monitor.stream.types import Message, Partition, TopicSpec

pytestmark = pytest.mark.kafka


def goes_round(spec: KafkaSpec, topic: str) -> bool:
    """Make a topic, write to it and read it."""
    with closing(KafkaAdmin(spec)) as admin:
        admin.create([TopicSpec(topic)])
    with closing(KafkaSink(spec)) as sink:
        sink.send([Message(topic, b"key", b"value")])
    with closing(KafkaSource(spec, [topic])) as source:
        source.assign({Partition(topic, 0): 0})
        return source.poll(1, 20.0).values == [b"value"]


def test_a_password_is_enough_with_scram(by_password: KafkaSpec) -> None:
    """What we recommend."""
    assert goes_round(by_password, "scram")


def test_a_password_is_enough_with_plain(by_password: KafkaSpec) -> None:
    """What some clouds want; over TLS."""
    security = dataclasses.replace(by_password.security, mechanism="PLAIN")

    assert goes_round(dataclasses.replace(by_password, security=security), "plain")


def test_a_certificate_is_enough(by_certificate: KafkaSpec) -> None:
    """Mutual TLS."""
    assert goes_round(by_certificate, "certificate")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_an_error_that_waiting_does_not_cure(by_password: KafkaSpec, mechanism: Mechanism) -> None:
    """The daemon should say so at once, and not knock for ever: knocking locks accounts."""
    security = dataclasses.replace(by_password.security, mechanism=mechanism, password="guessed")
    wrong = dataclasses.replace(by_password, security=security)
    ends: list[Callable[[], object]] = [
        lambda: KafkaSource(wrong, ["topic"]),
        lambda: KafkaSink(wrong).send([Message("topic", b"", b"")]),
        lambda: KafkaAdmin(wrong),
    ]
    for end in ends:
        with pytest.raises(StreamError, match="SaslAuthenticationFailedError") as raised:
            end()
        assert not raised.value.retryable
        assert "guessed" not in str(raised.value)


def test_a_broker_that_nobody_vouches_for_is_not_talked_to(by_password: KafkaSpec) -> None:
    """Without our authority it could be anybody."""
    security = dataclasses.replace(by_password.security, ca_file=None)
    unsure = dataclasses.replace(by_password, security=security, bootstrap_timeout_ms=3_000)

    with pytest.raises(StreamError, match="CERTIFICATE_VERIFY_FAILED"):
        KafkaSource(unsure, ["topic"])


def test_a_client_without_a_certificate_is_not_let_in(by_certificate: KafkaSpec) -> None:
    """Where one is required, and the error says so."""
    security = dataclasses.replace(by_certificate.security, cert_file=None)
    unknown = dataclasses.replace(by_certificate, security=security, bootstrap_timeout_ms=3_000)

    with pytest.raises(StreamError, match="CERTIFICATE_REQUIRED"):
        KafkaSource(unknown, ["topic"])
