"""A folder with a recording and a configuration, and what `driftd replay` makes of it: the way a user would see it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.in_process import Told, driftd
from tests.monitor.kit import HOUR, MINUTE, SECOND, T0, Event, outcome, prediction

__all__ = ["HOUR", "MINUTE", "SECOND", "T0", "Event", "answer", "label", "outcome", "prediction"]

CHAMPION: Final[Mapping[str, Any]] = {"champion": "v1"}
COUNTED: Final[Mapping[str, Any]] = {"window": {"events": 500, "every": 500}}
UNLABELLED: Final[Mapping[str, Any]] = {"outcomes": None}


def answer(number: int, value: Any, features: Mapping[str, Any] | None = None, **more: Any) -> Event:
    """The answer to one request a second, unless `time` says when."""
    time = more.pop("time", T0 + number * SECOND)
    return prediction(f"r{number}", time, value, features=features or {}, **more)


def label(number: int, actual: Any, **more: Any) -> Event:
    """What was right for a request, known a minute later."""
    time = more.pop("time", T0 + number * SECOND + MINUTE)
    return outcome(f"r{number}", time, actual, **more)


def of_stream_time(events: Iterable[Event]) -> list[Event]:
    """The events in the order of their times, as a producer writes them."""
    return sorted(events, key=lambda event: event["time"])


@dataclass(frozen=True)
class Replay:
    """What a replay told: its summary, the topics that it wrote, and its store."""

    folder: Path
    told: Told

    @cached_property
    def status(self) -> dict[str, Any]:
        """The document of the summary."""
        assert self.told.code == 0, self.told.err
        document: dict[str, Any] = self.told.json()
        return document

    @property
    def events(self) -> dict[str, Any]:
        """Counts of what was read."""
        counts: dict[str, Any] = self.status["events"]
        return counts

    def alerts(self, kind: str | None = None, *, model: str | None = None) -> list[dict[str, Any]]:
        """Alert records in order; of one kind and model, or of all."""
        return [
            record
            for record in self._topic("driftd.alerts")
            if kind in (None, record["kind"]) and model in (None, record["model"])
        ]

    def kinds(self) -> set[str]:
        """The kinds of all alerts."""
        return {record["kind"] for record in self.alerts()}

    def features(self, kind: str) -> set[str]:
        """The features that alerts of a kind ever named."""
        return {feature["name"] for record in self.alerts(kind) for feature in record["features"]}

    def summaries(self, kind: str) -> str:
        """The texts of all alerts of a kind."""
        return "\n".join(record["summary"] for record in self.alerts(kind))

    def refused(self) -> list[dict[str, Any]]:
        """Dead letters."""
        return self._topic("driftd.dead-letters")

    def decisions(self) -> list[dict[str, Any]]:
        """Decisions."""
        return self._topic("driftd.decisions")

    def metric(self, name: str, *, model: str = "m", feature: str | None = None) -> list[dict[str, Any]]:
        """Rows of `driftd history`, the oldest window first."""
        more = () if feature is None else ("--feature", feature)
        told = driftd("history", model, "--metric", name, *more, "--json", "-c", str(self.folder / "driftd.yaml"))
        assert told.code == 0, told.err
        return told.rows()

    def values(self, name: str, *, model: str = "m") -> set[float]:
        """The different values of a metric over all windows, to six digits."""
        return {round(row["value"], 6) for row in self.metric(name, model=model)}

    def _topic(self, name: str) -> list[dict[str, Any]]:
        assert self.told.code == 0, self.told.err
        path = self.folder / "stream" / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configure(folder: Path, models: Mapping[str, Any], **sections: Any) -> Path:
    """Write the configuration of a folder, and return its path."""
    configuration = {
        "stream": {"url": f"file:{folder}/stream", "events": ["predictions", "outcomes"]},
        "store": {"url": f"sqlite:///{folder}/driftd.db"},
        "models": models,
    }
    path = folder / "driftd.yaml"
    path.write_text(json.dumps(configuration | sections))  # JSON is YAML
    return path


def replay(
    folder: Path,
    models: Mapping[str, Any],
    predictions: Sequence[Event | str],
    outcomes: Sequence[Event | str] = (),
    **sections: Any,
) -> Replay:
    """Replay events; a text among them is a line as it is."""
    (folder / "stream").mkdir()
    for topic, events in (("predictions", predictions), ("outcomes", outcomes)):
        lines = (event if isinstance(event, str) else json.dumps(event) for event in events)
        (folder / "stream" / f"{topic}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    path = configure(folder, models, **sections)
    return Replay(folder, driftd("replay", "--json", "-c", str(path)))
