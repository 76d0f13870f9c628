"""A place where a daemon runs: its directory, its configuration, and the topics around it.

`FilePlace` is a directory of JSON lines with SQLite, `KafkaPlace` has topics of its own on a broker. Both are
written and read without the code under test.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.e2e import workload
from tests.e2e.auditor import Found, Input, found_in
from tests.e2e.daemon import Answer, Daemon, command
from tests.servers.topics import Topics

OUTPUTS: Final = ("alerts", "decisions", "dead-letters")


class Place(ABC):
    """`events` are the topics that are read, `outputs` the names of the topics that are written."""

    def __init__(self, directory: Path, store_url: str) -> None:
        self.directory = directory
        self.store_url = store_url
        self.written: list[Input] = []  # what the test has put into the topics, in order

    events: Sequence[str]
    outputs: Mapping[str, str]
    partitions: int = 1  # of every topic of events

    @property
    @abstractmethod
    def stream_url(self) -> str: ...

    @abstractmethod
    def append(self, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
        """Write records; returns when a reader can see them."""

    @abstractmethod
    def values(self, topic: str, partition: int = 0) -> list[bytes]:
        """All that is in a partition of a topic now."""

    # -- configuration -----------------------------------------------------------------------------------

    def configure(
        self, models: Mapping[str, Any] | None = None, *, name: str = "driftd.yaml", **sections: Mapping[str, Any]
    ) -> None:
        """Write the configuration. `sections` are merged into `stream`, `store`, `http` and `limits`."""
        stream = {
            "url": self.stream_url,
            "events": list(self.events),
            "alerts": self.outputs["alerts"],
            "decisions": self.outputs["decisions"],
            "dead_letters": self.outputs["dead-letters"],
            "lateness": f"{workload.LATENESS}ms",
            "unknown_models": "refuse",  # `workload.RUBBISH` has some
            "idle_after": "1d",  # a partition without records holds stream time: then counts do not depend on pauses
            "session_timeout": "3s",
        }
        config: dict[str, dict[str, Any]] = {
            "stream": stream,
            "store": {"url": self.store_url, "commit_every": "100ms", "lease": "3s"},
            "http": {"port": 0},
            "models": dict(workload.models() if models is None else models),
        }
        for section, values in sections.items():
            config.setdefault(section, {}).update(values)
        # JSON is YAML.
        (self.directory / name).write_text(json.dumps(config, indent=1))
        reference = self.directory / "reference.csv"
        if not reference.exists():
            reference.write_text(workload.reference_table(1))

    # -- input -------------------------------------------------------------------------------------------

    def topic_of(self, kind: str) -> str:
        """The topic that holds the predictions or the outcomes of a workload."""
        return self.events[0] if kind == workload.PREDICTIONS else self.events[-1]

    def produce(self, lines: Iterable[workload.Line]) -> None:
        """Write lines of a workload, spread over the partitions by their request."""
        by_place: dict[tuple[str, int], list[workload.Line]] = {}
        for line in lines:
            place = self.topic_of(line.topic), self.partition_of(line)
            by_place.setdefault(place, []).append(line)
        for (topic, partition), mine in by_place.items():
            self.append(topic, [line.value for line in mine], partition)
            before = sum(r.topic == topic and r.partition == partition for r in self.written)
            self.written += [Input(topic, partition, before + i, x.value, x.reason) for i, x in enumerate(mine)]

    def partition_of(self, line: workload.Line) -> int:
        """All that concerns a request is in partitions of one number."""
        if self.partitions == 1 or line.reason is not None:
            return 0
        request = str(json.loads(line.value).get("request_id", ""))
        return int.from_bytes(request.split("-")[0].encode(), "big") % self.partitions

    @property
    def inputs(self) -> list[tuple[str, int]]:
        """All partitions that are read."""
        return [(topic, number) for topic in self.events for number in range(self.partitions)]

    # -- output ------------------------------------------------------------------------------------------

    def found(self) -> Found:
        """What is in the database and on the topics."""
        return found_in(self.store_url, *(self.values(self.outputs[name]) for name in OUTPUTS))

    def alerts(self) -> list[dict[str, Any]]:
        """The alert records that were published, in order."""
        return [json.loads(value) for value in self.values(self.outputs["alerts"])]

    def decisions(self) -> list[dict[str, Any]]:
        """The decisions that were published, in order."""
        return [json.loads(value) for value in self.values(self.outputs["decisions"])]

    def dead_letters(self) -> list[dict[str, Any]]:
        """The dead letters that were published, in order."""
        return [json.loads(value) for value in self.values(self.outputs["dead-letters"])]

    # -- processes ---------------------------------------------------------------------------------------

    def daemon(self, *arguments: str, **options: Any) -> Daemon:
        """Start the daemon here."""
        return Daemon(self.directory, *arguments, **options)

    def driftd(self, *arguments: str, **options: Any) -> Answer:
        """Run a command here."""
        return command(self.directory, *arguments, **options)


class FilePlace(Place):
    """Files and SQLite."""

    def __init__(self, directory: Path, store_url: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, store_url or f"sqlite:///{directory}/driftd.db")
        self.stream = directory / "stream"
        self.stream.mkdir(exist_ok=True)
        self.events = ("ml.outcomes", "ml.predictions")[::-1]
        self.outputs = {name: f"driftd.{name}" for name in OUTPUTS}
        for topic in self.events:
            (self.stream / f"{topic}.jsonl").touch()

    @property
    def stream_url(self) -> str:
        return f"file:{self.stream}"

    def append(self, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
        with self._path(topic, partition).open("ab") as file:
            file.write(b"".join((value or b"") + b"\n" for value in values))

    def values(self, topic: str, partition: int = 0) -> list[bytes]:
        path = self._path(topic, partition)
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def _path(self, topic: str, partition: int) -> Path:
        return self.stream / (f"{topic}-{partition}.jsonl" if partition else f"{topic}.jsonl")

    def link(self, other: FilePlace) -> None:
        """Have the same input as another place."""
        for topic in self.events:
            path = self.stream / f"{topic}.jsonl"
            path.unlink()
            os.link(other.stream / path.name, path)
        self.written = other.written


class KafkaPlace(Place):
    """Topics of its own on a broker, and any database. `missing`: the topics are not made."""

    def __init__(
        self,
        directory: Path,
        topics: Topics,
        store_url: str | None = None,
        *,
        partitions: int = 1,
        missing: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, store_url or f"sqlite:///{directory}/driftd.db")
        self.topics, self.partitions = topics, partitions
        make = topics.name if missing else lambda prefix: topics.make(partitions)
        self.events = (make("predictions"), make("outcomes"))
        compacted = {"cleanup.policy": "compact"}
        self.outputs = {
            "alerts": topics.name("alerts") if missing else topics.make(1, compacted),
            "decisions": topics.name("decisions") if missing else topics.make(1, compacted),
            "dead-letters": topics.name("dead-letters") if missing else topics.make(1),
        }

    @property
    def stream_url(self) -> str:
        return f"kafka://{self.topics.bootstrap}"

    def append(self, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
        self.topics.write(topic, values, partition)

    def values(self, topic: str, partition: int = 0) -> list[bytes]:
        return [record.value for record in self.topics.read(topic, partition)]
