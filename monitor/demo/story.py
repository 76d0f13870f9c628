"""Alerts and decisions in words, and whether all promised events have happened.

Pure. Its input are the documents on the topics of alerts and decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Promise(StrEnum):
    """What the demonstration promises to show, in order."""

    ROLLBACK = "a canary breaches a guardrail and is rolled back"
    DRIFT = "a feature drifts and is named"
    FALLBACK = "the champion fails and the fallback chain takes over"
    RECOVERY = "the champion recovers and serves again"


class Mood(StrEnum):
    """How a line is shown."""

    PLAIN = "plain"
    BAD = "bad"
    FAIR = "fair"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output about one event; `when` is stream time as text."""

    when: str
    what: str
    text: str
    mood: Mood = Mood.PLAIN


_SAID_BY_DECISIONS: Final = ("rollback", "fallback")  # kinds of alerts


@dataclass(slots=True)
class Story:
    """Describes alerts and decisions; `kept` has the evidence of each promise that was kept."""

    kept: dict[Promise, str] = field(default_factory=dict)
    latest: Mapping[str, Any] | None = None  # decision
    _told: set[tuple[str, int]] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether all promises were kept."""
        return len(self.kept) == len(Promise)

    @property
    def level(self) -> str:
        """The active tier of the latest decision."""
        return "primary" if self.latest is None else str(self.latest["active_level"])

    def alert(self, record: Mapping[str, Any]) -> Line | None:
        """Describe an alert record; None for a repeat, and for one that a decision reports as well."""
        key = (record["event_id"], record["seq"])
        if key in self._told:
            return None
        self._told.add(key)
        kind, firing = record["kind"], record["status"] == "firing"
        if kind == "drift" and firing:
            named = [feature["name"] for feature in record["features"] if feature["name"] not in _ANSWERS]
            if named:
                self._keep(Promise.DRIFT, f"{', '.join(named)}, seen by {record['version']}")
        if kind in _SAID_BY_DECISIONS:
            return None
        version = f"{record['version']}: " if record["version"] else ""
        about = f"{version}{record['summary']}{_evidence(record)}"
        if not firing:
            return Line(day(record["issued_at"]), f"{kind} ends", about, Mood.GOOD)
        mood = Mood.BAD if record["severity"] == "critical" else Mood.FAIR
        return Line(day(record["issued_at"]), f"{record['severity']} {kind}", about, mood)

    def decision(self, document: Mapping[str, Any], followed_from: str) -> Line:
        """Describe what a decision changes.

        Args:
            document: The decision.
            followed_from: Stream time from which the application follows it, as text.
        """
        before, self.latest = self.latest, document
        reason, level = document["reason"], document["active_level"]
        gone = sorted(_shares(before).keys() - _shares(document).keys()) if before is not None else []
        words = [f"{who} is rolled back" for who in gone]
        mood = Mood.PLAIN
        if gone:
            mood = Mood.BAD
            self._keep(Promise.ROLLBACK, f"{', '.join(gone)} ({reason})")
        if before is not None and level != before["active_level"]:
            words.append(f"level {before['active_level']} → {level}")
            mood = Mood.GOOD if level == "primary" else Mood.BAD
            if reason == "fallback_engaged":
                self._keep(Promise.FALLBACK, f"level {level} ({_behind(document)}) took over from {before['champion']}")
            if reason == "recovered" and level == "primary":
                self._keep(Promise.RECOVERY, f"{document['champion']} is back at the primary level")
        words.append(_serving(document))
        if before is not None:
            words.append(f"followed from {followed_from}")
        when = followed_from if before is None else day(document["issued_at"])
        return Line(when, f"decision {document['generation']}", f"{reason}: {'; '.join(words)}", mood)

    def _keep(self, promise: Promise, how: str) -> None:
        self.kept.setdefault(promise, how)


def day(time: str) -> str:
    """Format an RFC 3339 time to the minute, as lines show it."""
    return f"{time[:10]} {time[11:16]}"


def _shares(document: Mapping[str, Any]) -> dict[str, int]:
    return {route["version"]: route["weight"] for route in document["routes"]}


_ANSWERS: Final = ("prediction", "score")  # they drift as a consequence of the features
_BEHIND: Final = {"rules": "business rules", "ensemble": "an ensemble", "default": "a fixed value"}


def _behind(document: Mapping[str, Any]) -> str:
    """Describe who answers at an active tier below the primary one."""
    level = document["active_level"]
    return str(document["levels"]["previous"]) if level == "previous" else _BEHIND[level]


def _serving(document: Mapping[str, Any]) -> str:
    if document["active_level"] != "primary":
        return f"all requests are answered by {_behind(document)}"
    shares = _shares(document).items()
    return " and ".join(f"{version} answers {weight / 100:g}%" for version, weight in reversed(shares))


def _evidence(record: Mapping[str, Any]) -> str:
    """Describe the strongest statistic of a firing drift alert."""
    if record["status"] != "firing" or not record["features"] or record["kind"] == "blind":
        return ""
    first = record["features"][0]
    return f" ({first['name']}: {first['statistic']} {first['value']:.3g})"
