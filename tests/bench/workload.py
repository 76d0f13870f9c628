"""The events of the benchmark: what a busy model sends.

Predictions of about 700 bytes with twenty numeric features (twelve normal, four log-normal, two Poisson, two
rounded), of two versions, half of them with an outcome a little later.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from kafka import KafkaProducer
from numpy.typing import NDArray

from monitor.stream.kafka_repairs import construct
from monitor.times import format_time

FEATURES = tuple(f"feature_{i:02d}" for i in range(20))
START_MS = 1_700_000_000_000
PER_SECOND = 500  # predictions per second of stream time
REFERENCE_ROWS = 20_000
_BLOCK = 10_000
_ID, _ID_DIGITS = b'"request_id":"7f3c9a', 10


def features(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """A matrix of features, (rows, 20)."""
    return np.column_stack(
        [
            rng.normal(size=(rows, 12)).round(6),
            rng.lognormal(size=(rows, 4)).round(6),
            rng.poisson(4, size=(rows, 2)).astype(float),
            rng.normal(50, 10, size=(rows, 2)).round(1),
        ]
    )


def write_reference(path: Path) -> None:
    """A table of features, as CSV."""
    matrix = features(np.random.default_rng(1), REFERENCE_ROWS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FEATURES)
        writer.writerows(matrix.tolist())


def events(predictions: int, *, labelled: bool, seed: int = 2) -> Iterator[bytes]:
    """Events in the order of time; every second prediction has its outcome 5 000 predictions later."""
    rng = np.random.default_rng(seed)
    waiting: list[tuple[str, float]] = []
    for first in range(0, predictions, _BLOCK):
        rows = min(_BLOCK, predictions - first)
        matrix = features(rng, rows).tolist()
        noise = rng.normal(size=rows).tolist()
        latency = rng.lognormal(3, 0.3, rows).round(2).tolist()
        for i in range(rows):
            number = first + i
            at = format_time(START_MS + number * 1000 // PER_SECOND)
            request = f"7f3c9a{number:010x}"
            version = "v1.1.0" if number % 10 == 0 else "v1.0.0"
            values = ",".join(f'"{n}":{v}' for n, v in zip(FEATURES, matrix[i], strict=True))
            predicted = round(matrix[i][0] + 0.5, 6)
            yield (
                f'{{"schema":1,"type":"prediction","request_id":"{request}","time":"{at}","model":"heat","version":"{version}",'
                f'"assigned":"{version}","served":true,"served_by":"primary","features":{{{values}}},"prediction":{predicted},'
                f'"latency_ms":{latency[i]},"error":null}}'
            ).encode()
            if labelled and number % 2:
                waiting.append((request, round(predicted + noise[i], 6)))
            if labelled and number >= 5_000 and number % 2:
                name, actual = waiting[(number - 5_000) // 2]
                yield (
                    f'{{"schema":1,"type":"outcome","request_id":"{name}","time":"{at}","model":"heat","actual":{actual}}}'
                ).encode()


def produce(bootstrap: str, topic: str, predictions: int, *, labelled: bool, partitions: int = 1) -> tuple[int, float]:
    """Fill a topic, all records of a request in one partition. -> (records, mean size in bytes of a prediction)."""
    producer = construct(KafkaProducer, bootstrap_servers=bootstrap, linger_ms=50, batch_size=1 << 18)
    sent, size, sized = 0, 0, 0
    for value in events(predictions, labelled=labelled):
        producer.send(topic, value, partition=_partition_of(value, partitions))
        sent += 1
        if sized < 10_000 and b'"prediction"' in value[:40]:
            size, sized = size + len(value), sized + 1
    producer.flush(300)
    producer.close()
    return sent, size / max(sized, 1)


def _partition_of(value: bytes, partitions: int) -> int:
    """By the number at the end of the id."""
    if partitions == 1:
        return 0
    at = value.index(_ID) + len(_ID)
    return int(value[at : at + _ID_DIGITS], 16) % partitions


CONFIG = """\
stream: {{url: "kafka://{bootstrap}", events: [{topic}], alerts: {topic}.alerts, decisions: {topic}.decisions,
          dead_letters: {topic}.dead}}
store: {{url: "{store}"}}
http: {{port: 0}}
models:
  heat:
    task: regression
    champion: v1.0.0
    routes: {{v1.1.0: 10%}}
    reference: {reference}
    window: {{span: 5m, pane: 30s, min_events: 1000}}
    drift: {{numeric: [ks, wasserstein]}}
    outcomes: {{within: 7d}}
"""
