"""Kafkas for what the shared one cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.stream.kafka_spec import KafkaSecurity, KafkaSpec
from tests.servers.certificates import IS_POSSIBLE, Certificates
from tests.servers.kafka import Cluster

PASSWORD = "known to the tests alone"


@pytest.fixture(scope="session")
def crippled(server_directory: Path) -> Iterator[Cluster]:
    """One whose groups have no coordinator: the topic of their offsets wants more brokers than there are."""
    with Cluster(server_directory / "crippled", properties={"offsets.topic.replication.factor": "3"}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def certificates(server_directory: Path) -> Certificates:
    if not IS_POSSIBLE:
        pytest.skip("there is no openssl to make certificates with")
    return Certificates(server_directory / "certificates")


@pytest.fixture(scope="session")
def guarded(server_directory: Path, certificates: Certificates) -> Iterator[Cluster]:
    """One with a listener for passwords and one for certificates, both with TLS."""
    module = "org.apache.kafka.common.security"
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.sign("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority),
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.password.plain.sasl.jaas.config": (
            f'{module}.plain.PlainLoginModule required user_driftd="{PASSWORD}";'
        ),
        "listener.name.password.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        "listener.name.certificate.ssl.client.auth": "required",
    }
    with Cluster(
        server_directory / "guarded",
        listeners={"PASSWORD": "SASL_SSL", "CERTIFICATE": "SSL"},
        properties=properties,
        format_options=("--add-scram", f"SCRAM-SHA-512=[name=driftd,password={PASSWORD}]"),
    ) as cluster:
        yield cluster


@pytest.fixture
def by_password(guarded: Cluster, certificates: Certificates) -> KafkaSpec:
    return KafkaSpec(
        bootstrap=(f"127.0.0.1:{guarded.ports['PASSWORD']}",),
        bootstrap_timeout_ms=3_000,
        security=KafkaSecurity(
            tls=True,
            ca_file=certificates.authority,
            mechanism="SCRAM-SHA-512",
            username="driftd",
            password=PASSWORD,
        ),
    )


@pytest.fixture
def by_certificate(guarded: Cluster, certificates: Certificates) -> KafkaSpec:
    return KafkaSpec(
        bootstrap=(f"127.0.0.1:{guarded.ports['CERTIFICATE']}",),
        bootstrap_timeout_ms=3_000,
        security=KafkaSecurity(tls=True, ca_file=certificates.authority, cert_file=certificates.sign("driftd")),
    )
