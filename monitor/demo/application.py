"""The serving application of the demonstration, as a user of driftd would run it.

Shell: appends to files. It answers one request an hour by the latest decision, writes each answer to the topic of
predictions and, hours later, the actual rentals to the topic of outcomes. It is controlled by the topic of decisions
only. Faults are injected here, where they would occur.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fallback.router import Features, Request, Router
from monitor.demo.rides import HOUR_MS, Hour, in_percent
from monitor.stream.layout import path_of
from monitor.stream.lines import LineReader
from monitor.stream.types import Partition
from monitor.times import format_time

PREDICTIONS: Final = "ml.predictions"
OUTCOMES: Final = "ml.outcomes"
_LATE_SHARE: Final = 20  # percent of the outcomes that come after one or two days
_SOON_H, _LATE_H = (1, 6), (24, 44)


@dataclass(slots=True)
class Faults:
    """The faults that are active."""

    hum_in_percent: bool = False
    models_down: bool = False


class Follower:
    """Reads new documents of a topic that is one growing file."""

    def __init__(self, directory: Path, topic: str) -> None:
        partition = Partition(topic, 0)
        self._reader = LineReader(partition, path_of(directory, partition))

    def news(self) -> list[dict[str, Any]]:
        """Return the documents written since the last call."""
        found: list[dict[str, Any]] = []
        while lines := self._reader.read():
            found += map(json.loads, lines)
        return found

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class Application:
    """Serves hours in order of time, and writes predictions and outcomes."""

    def __init__(
        self,
        directory: Path,
        decision: Mapping[str, Any],
        models: Mapping[str, Callable[[Features], float]],
    ) -> None:
        """Open the topics.

        Args:
            directory: Directory of the topics.
            decision: The first decision.
            models: Functions from features to a prediction, by version.
        """
        self.faults = Faults()
        self.served: Counter[tuple[str, str]] = Counter()  # answers by (level, version)
        self.failed: Counter[str] = Counter()  # attempts by version
        self.lines = 0  # written to both topics
        guarded = {version: self._guarded(model) for version, model in models.items()}
        self._router = Router(decision["model"], decision, guarded, timer=time.perf_counter)
        self._due: list[tuple[int, str, int]] = []  # (when, request, rentals) of outcomes to come
        with ExitStack() as stack:
            self._predictions = stack.enter_context(path_of(directory, Partition(PREDICTIONS, 0)).open("ab"))
            self._outcomes = stack.enter_context(path_of(directory, Partition(OUTCOMES, 0)).open("ab"))
            self._files = stack.pop_all()

    def _guarded(self, model: Callable[[Features], float]) -> Callable[[Features], float]:
        def call(features: Features) -> float:
            if self.faults.models_down:
                raise ConnectionError("the host of the models does not answer")
            return model(features)

        return call

    def follow(self, decision: Mapping[str, Any]) -> bool:
        """Follow a decision from the next request on; return whether it is newer than the current one."""
        return self._router.follow(decision)

    def serve(self, hour: Hour) -> None:
        """Answer the request of an hour, and write its events and the outcomes known by then."""
        outcomes, predictions = self._known(hour.time), self._answer(hour)
        for file, events in ((self._predictions, predictions), (self._outcomes, outcomes)):
            file.write(b"".join(json.dumps(event).encode() + b"\n" for event in events))
            file.flush()
        self.lines += len(predictions) + len(outcomes)

    def _answer(self, hour: Hour) -> Sequence[Mapping[str, Any]]:
        request = f"ride-{format_time(hour.time)[:13]}"
        features = in_percent(hour.features) if self.faults.hum_in_percent else hour.features
        served = self._router.answer(Request(request, format_time(hour.time), features))
        self.served[served.served_by.value, served.version] += 1
        self.failed.update(event["version"] for event in served.events if event["error"] is not None)
        heapq.heappush(self._due, (hour.time + HOUR_MS + _delay(request), request, hour.actual))
        return served.events

    def _known(self, now: int) -> Sequence[Mapping[str, Any]]:
        events = []
        while self._due and self._due[0][0] <= now:
            when, request, rentals = heapq.heappop(self._due)
            events.append({
                "schema": 1, "type": "outcome", "request_id": request, "time": format_time(when),
                "model": self._router.model, "actual": rentals,
            })  # fmt: skip
        return events

    def close(self) -> None:
        """Close the topics; outcomes not known yet are dropped."""
        self._files.close()


def _delay(request: str) -> int:
    """Return the delay of the outcome in ms: hours, or one to two days. Deterministic."""
    digest = sha256(request.encode()).digest()
    low, high = _LATE_H if digest[0] % 100 < _LATE_SHARE else _SOON_H
    return (low * 3600 + int.from_bytes(digest[1:4], "big") % ((high - low) * 3600)) * 1000
