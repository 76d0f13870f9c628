"""Settings of the connection to a Kafka cluster.

Pure, except that `ssl_context` reads files. `config` builds these from the configuration; `kafka` and `kafka_client`
read them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from monitor.errors import ConfigError

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

MIB: Final = 1 << 20
# Brokers take a batch of a megabyte by default, after compression, and JSON seldom compresses to less than a fiftieth.
BATCH_BYTES: Final = 64 * MIB
POLL_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """TLS (`tls`, `ca_file`) and authentication of the client (SASL, or a certificate for mutual TLS).

    Raises:
        ConfigError: Settings do not fit together.
    """

    tls: bool = False
    ca_file: Path | None = None  # None: the certificate authorities of the operating system
    cert_file: Path | None = None  # the client's certificate: mutual TLS
    key_file: Path | None = None  # None: the key is in `cert_file`
    key_password: str | None = field(default=None, repr=False)
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if self.mechanism and not (self.username and self.password):
            raise ConfigError("stream.security.mechanism", self.mechanism, "needs a username and a password")
        if (self.username or self.password) and not self.mechanism:
            raise ConfigError("stream.security.mechanism", None, "say which one, such as SCRAM-SHA-512")
        if self.mechanism and not self.tls and not self.allow_insecure:
            hint = "a password without TLS can be read on the way: set tls, or allow_insecure if you mean it"
            raise ConfigError("stream.security.tls", self.tls, hint)
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ConfigError("stream.security.tls", self.tls, "certificates are of no use without it")
        if self.key_file and not self.cert_file:
            raise ConfigError("stream.security.cert_file", None, "a key needs its certificate")

    @property
    def protocol(self) -> str:
        """Kafka's name of the security protocol."""
        return f"SASL_{'SSL' if self.tls else 'PLAINTEXT'}" if self.mechanism else "SSL" if self.tls else "PLAINTEXT"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context of TLS 1.2 or later that checks host names; None without TLS.

        Raises:
            ConfigError: A file cannot be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError("stream.security.ca_file", str(self.ca_file), f"cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, self.key_password or "")
            except OSError as error:
                raise ConfigError(
                    "stream.security.cert_file", str(self.cert_file), f"cannot be used: {error}"
                ) from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSpec:
    """A cluster, with timeouts and sizes. The defaults suit production; tests shorten the times."""

    bootstrap: tuple[str, ...]
    group: str = "driftd"  # receives advisory commits; it has no members
    client_id: str = "driftd"
    security: KafkaSecurity = KafkaSecurity()
    bootstrap_timeout_ms: int = 5_000
    ask_timeout_ms: int = 5_000  # of queries for topics and offsets
    request_timeout_ms: int = 15_000
    fetch_wait_ms: int = 200
    fetch_partition_bytes: int = 4 * MIB
    fetch_bytes: int = 32 * MIB  # of all partitions in one response of a broker
    batch_bytes: int = BATCH_BYTES  # what a batch of records may decompress to
    poll_bytes: int = POLL_BYTES  # of the records of one poll, about
    stall_s: float = 30.0  # a partition without progress for this long, with more to read, gets a new client
    delivery_timeout_ms: int = 10_000
    message_bytes: int = MIB  # the default limit of brokers; a longer message is refused before it is sent
