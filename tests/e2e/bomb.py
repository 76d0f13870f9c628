"""Writes a record that is small on the wire and huge in memory.

    python -m tests.e2e.bomb BOOTSTRAP TOPIC PARTITION CODEC MEGABYTES

A process of its own: whoever writes it needs several times as much memory.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

from kafka import KafkaProducer

WAIT_S = 120


def main(bootstrap: str, topic: str, partition: str, codec: str, megabytes: str) -> None:
    size = int(megabytes) << 20
    producer: Any = KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        max_request_size=2**31 - 1,
        batch_size=2**31 - 1,
        request_timeout_ms=WAIT_S * 500,
        delivery_timeout_ms=WAIT_S * 1_000,
    )
    with closing(producer):
        producer.send(topic, b"0" * size, partition=int(partition)).get(WAIT_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
