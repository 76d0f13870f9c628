"""An independent recount: what a run must have come to, from its inputs, and what it says it has come to.

Shares no code with the daemon, not even the reading of its files: events are counted one at a time into
dictionaries, outputs are read as JSON from topics and with plain SQL from the database. `recount` says what is
to be expected, `found_in` what is there, `differences` compares the two.
"""

from __future__ import annotations

import base64
import json
import math
import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg

from tests.e2e import workload as w


class Input(NamedTuple):
    """A record that was written to a topic of events. `reason`: why it must be refused, if it must."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    reason: str | None = None


OUT_OF_SERVICE = "v9"  # no decision names it
Place = tuple[str, int, int]  # topic, partition, offset
Check = tuple[str, str, int, int]  # model, version, start and end of the window in ms


@dataclass
class Expected:
    """What a run over some inputs must come to."""

    events: Counter[str] = field(default_factory=Counter)
    join: Counter[str] = field(default_factory=Counter)
    versions: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # predictions, outcomes
    dead_letters: dict[Place, str] = field(default_factory=dict)
    raw: dict[Place, bytes] = field(default_factory=dict)  # of the dead letters
    predictions: dict[Check, int] = field(default_factory=dict)
    error_rates: dict[Check, float] = field(default_factory=dict)
    quality: dict[Check, tuple[int, float]] = field(default_factory=dict)  # n, mean absolute error or accuracy
    episodes: set[tuple[str, str, int, int | None]] = field(default_factory=set)  # model, version, starts, ends
    decisions: dict[str, list[tuple[int, str, str, str]]] = field(default_factory=dict)
    """By model: generation, reason, champion, active level."""


# -- the recount -------------------------------------------------------------------------------------------


@dataclass
class _Answer:
    version: str
    time: int
    predicted: Any  # None where an outcome has nothing to score
    open: bool = True


@dataclass
class _Request:
    served: _Answer | None = None
    others: dict[str, _Answer] = field(default_factory=dict)
    outcome: tuple[int, Any] | None = None  # came first, waits for the served answer
    met: bool = False  # the waiting outcome met an answer that was not served
    closed: bool = False
    actual: Any = None


@dataclass
class _Version:
    predictions: int = 0
    outcomes: int = 0
    panes: dict[int, list[_Answer]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[int] = field(default_factory=Counter)
    held: list[int] = field(default_factory=list)  # panes of the window
    checks: list[tuple[int, int]] = field(default_factory=list)
    scored: list[tuple[int, int, float]] = field(default_factory=list)
    """Time of the answer, pair time, its error or 1 for a hit."""
    breaches: int = 0
    calm: int = 0
    firing_since: int | None = None
    retired: bool = False
    """A decision has taken it out of service: nothing of it is judged."""


class Recount:
    """Takes records in the order of processing."""

    def __init__(self, partitions: Iterable[tuple[str, int]]) -> None:
        self.expected = Expected()
        self._latest: dict[tuple[str, int], int | None] = dict.fromkeys(partitions)
        self._clock = -1
        self._requests: dict[tuple[str, str], _Request] = defaultdict(_Request)
        self._versions: dict[tuple[str, str], _Version] = defaultdict(_Version)
        self._closed_to = -1
        for model in ("clicks", "prices"):
            self.expected.decisions[model] = [(1, "initial", "v2", "primary")]

    def put(self, record: Input) -> None:
        """Count one record."""
        expected = self.expected
        expected.events["read"] += 1
        if record.reason is not None:
            self._refuse(record, record.reason)
            return
        event = json.loads(record.value or b"")
        time = event["time"]
        self._advance((record.topic, record.partition), time)
        if event["type"] == "resources":
            expected.events["resources"] += 1
        elif event["type"] == "outcome":
            expected.events["outcomes"] += 1
            if self._outcome(self._requests[event["model"], event["request_id"]], event) == "conflict":
                expected.join["conflicts"] += 1
                self._refuse(record, "conflict")
        else:
            expected.events["predictions"] += 1
            self._prediction(event)

    def _refuse(self, record: Input, reason: str) -> None:
        place = (record.topic, record.partition, record.offset)
        self.expected.events["dead_letters"] += 1
        self.expected.dead_letters[place] = reason
        self.expected.raw[place] = record.value or b""

    def _advance(self, partition: tuple[str, int], time: int) -> None:
        latest = self._latest[partition]
        self._latest[partition] = time if latest is None else max(latest, time)
        known = [at for at in self._latest.values() if at is not None]
        if len(known) == len(self._latest):
            self._clock = max(self._clock, min(known) - w.LATENESS)
        self._close_panes()

    # -- answers and outcomes --------------------------------------------------------------------------------

    def _prediction(self, event: Mapping[str, Any]) -> None:
        expected, model, name, time = self.expected, event["model"], event["version"], event["time"]
        if self._has_ended(time):
            expected.events["late_predictions"] += 1
            return
        request = self._requests[model, event["request_id"]]
        self._be_impatient(request)
        served, failed = event.get("served", True), "error" in event
        known = name in request.others or (request.served is not None and request.served.version == name)
        if known or (served and (request.closed or request.served is not None)):
            expected.join["duplicates"] += 1
            return
        answer = _Answer(name, time, event.get("prediction"))
        self._answer(request, answer, model, served=served, waits=served or not failed)
        version = self._versions[model, name]
        version.predictions += 1
        version.panes[time // w.PANE].append(answer)
        version.failed[time // w.PANE] += failed

    def _answer(self, request: _Request, answer: _Answer, model: str, *, served: bool, waits: bool) -> None:
        if served:
            request.served = answer
        else:
            request.others[answer.version] = answer
        if not waits or (request.closed and not served):
            answer.open = False
            return
        if request.outcome is not None:
            self._join(answer, model, *request.outcome)
            if served:
                request.closed, request.actual, request.outcome = True, request.outcome[1], None
            else:
                request.met = True

    def _outcome(self, request: _Request, event: Mapping[str, Any]) -> str:
        """What became of it."""
        join, model, actual = self.expected.join, event["model"], event["actual"]
        self._be_impatient(request, event["time"])
        earlier = request.outcome[1] if request.outcome is not None else request.actual
        if earlier is not None:
            if earlier != actual:
                return "conflict"
            join["duplicates"] += 1
            return "duplicate"
        if request.closed:
            join["late"] += 1
            request.actual = actual
            return "late"
        waiting = [a for a in (*request.others.values(), request.served) if a is not None and a.open]
        for answer in waiting:
            self._join(answer, model, event["time"], actual)
        if request.served is not None:
            request.closed, request.actual = True, actual
        else:
            request.outcome, request.met = (event["time"], actual), bool(waiting)
        return "joined"

    def _join(self, answer: _Answer, model: str, time: int, actual: Any) -> None:
        answer.open = False
        self.expected.join["joined"] += 1
        version = self._versions[model, answer.version]
        version.outcomes += 1
        if answer.predicted is not None:
            score = abs(answer.predicted - actual) if model == "prices" else float(answer.predicted == actual)
            version.scored.append((answer.time, max(answer.time, time), score))

    def _be_impatient(self, request: _Request, outcome: int = -1) -> None:
        """What has waited too long by now, or by the time of its outcome."""
        join = self.expected.join
        for answer in (request.served, *request.others.values()):
            if answer is not None and answer.open and max(self._clock, outcome) - answer.time >= w.WITHIN:
                answer.open = False
                join["expired"] += 1
                request.closed = request.closed or answer is request.served or request.served is None
        # An answer still to come may be older than the clock, by less than a pane.
        if request.outcome is not None and self._clock - request.outcome[0] >= w.EARLY + w.PANE:
            join["orphans"] += not request.met
            request.closed = request.met or bool(request.others)
            request.actual = request.outcome[1] if request.met else None
            request.outcome = None

    # -- windows -----------------------------------------------------------------------------------------------

    def _close_panes(self) -> None:
        ripe = self._clock // w.PANE
        if ripe <= self._closed_to:
            return
        closing = {
            (pane, model, name)
            for (model, name), version in self._versions.items()
            for pane in version.panes
            if self._closed_to <= pane < ripe
        }
        for pane, model, name in sorted(closing):
            self._check(model, name, self._versions[model, name], pane)
        self._closed_to = ripe

    def _has_ended(self, time: int) -> bool:
        """Whether the pane of this time has."""
        return (time // w.PANE + 1) * w.PANE <= self._clock

    def _check(self, model: str, name: str, version: _Version, pane: int) -> None:
        held = [*version.held, pane]
        while len(held) > 1:
            rest = sum(len(version.panes[p]) for p in held[1:])
            in_span, in_reach = held[0] > pane - w.SPAN // w.PANE, held[0] > pane - w.LONGEST // w.PANE
            if in_reach and (in_span or rest < w.MIN_EVENTS):
                break
            held = held[1:]
        version.held = held
        start, end = held[0] * w.PANE, (pane + 1) * w.PANE
        count = sum(len(version.panes[p]) for p in held)
        rate = sum(version.failed[p] for p in held) / count
        self._fall_silent(model, name, version, end - w.PANE)
        version.checks.append((start, end))
        self.expected.predictions[model, name, start, end] = count
        self.expected.error_rates[model, name, start, end] = rate
        self._rule(model, name, version, rate, end)

    def _rule(self, model: str, name: str, version: _Version, rate: float, end: int) -> None:
        """The only rule there is: the bare error rate, for so many checks; three calm ones end it."""
        if version.retired:
            return
        breaches = rate > w.LIMIT
        version.breaches = version.breaches + 1 if breaches else 0
        version.calm = 0 if breaches else version.calm + 1
        if version.firing_since is None and version.breaches >= w.CHECKS:
            version.firing_since = end
            self.expected.episodes.add((model, name, end, None))
            decided = self.expected.decisions[model]
            if name == "v2" and len(decided) == 1:
                turned = (2, "rule_breached", "v1", "primary"), (2, "fallback_engaged", "v2", "previous")
                decided.append(turned[model == "clicks"])
                if model != "clicks":  # it was rolled back
                    self._end_episode(model, name, version, end)
                    version.retired = True
        elif version.firing_since is not None and version.calm >= 3:
            self._end_episode(model, name, version, end)

    def _end_episode(self, model: str, name: str, version: _Version, end: int) -> None:
        assert version.firing_since is not None
        self.expected.episodes.discard((model, name, version.firing_since, None))
        self.expected.episodes.add((model, name, version.firing_since, end))
        version.firing_since = None

    def _fall_silent(self, model: str, name: str, version: _Version, now: int) -> None:
        """What fires of a version that is not in service ends when it has sent nothing for the longest window."""
        if name != OUT_OF_SERVICE or not version.checks:
            return
        at = version.checks[-1][1] + w.LONGEST
        if at > now:
            return
        if version.firing_since is not None:
            self._end_episode(model, name, version, at)
        version.breaches = version.calm = 0

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> Expected:
        """What is expected when the daemon has read everything and was stopped."""
        expected = self.expected
        for request in self._requests.values():
            self._be_impatient(request)
            answers = (request.served, *request.others.values())
            expected.join["pending"] += sum(a is not None and a.open for a in answers)
        for (model, name), version in self._versions.items():
            self._fall_silent(model, name, version, self._clock)
            expected.versions[model, name] = (version.predictions, version.outcomes)
            # Pairs whose pane of pair time is still open have not landed.
            landed = [(time, score) for time, met, score in version.scored if self._has_ended(met)]
            for start, end in version.checks:
                scores = [score for time, score in landed if start <= time < end]
                if scores:
                    expected.quality[model, name, start, end] = len(scores), sum(scores) / len(scores)
        return expected


def recount(records: Iterable[Input], partitions: Iterable[tuple[str, int]]) -> Expected:
    """Count records, given in the order of processing. `partitions` are all that are read."""
    counting = Recount(partitions)
    for record in records:
        counting.put(record)
    return counting.finish()


def merged(topics: Mapping[str, Sequence[w.Line]]) -> Iterator[Input]:
    """Lines of several files in the order in which files are read.

    Of the next lines of all files the one with the earliest (time, topic) comes first; a line whose time cannot be
    read takes that of the line before it in its file.
    """
    times = {topic: _carried(lines) for topic, lines in topics.items()}
    at = dict.fromkeys(sorted(topics), 0)
    while True:
        heads = [(times[topic][i], topic) for topic, i in at.items() if i < len(topics[topic])]
        if not heads:
            return
        _, topic = min(heads)
        line = topics[topic][at[topic]]
        yield Input(topic, 0, at[topic], line.value, line.reason)
        at[topic] += 1


def _carried(lines: Sequence[w.Line]) -> list[float]:
    found: list[float] = []
    for line in lines:
        time = _time_of(line)
        found.append(time if time is not None else found[-1] if found else -math.inf)
    return found


def _time_of(line: w.Line) -> float | None:
    try:
        time = json.loads(line.value)["time"]
    except (ValueError, TypeError, KeyError):
        return None
    readable = isinstance(time, int) and not (line.reason == "bad_time" or b"NaN" in line.value)
    return time if readable else None


# -- what is there ---------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a run has left behind: in the database, and on its topics."""

    totals: dict[str, Any]
    versions: dict[tuple[str, str], tuple[int, int]]
    history: dict[tuple[str, str, str, int, int], tuple[int, float]]  # model, version, metric, start, end: n, value
    alerts: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    outbox: int
    gaps: list[tuple[Any, ...]]
    references: list[tuple[Any, ...]]  # records of all that were ever in force
    published_alerts: list[dict[str, Any]] = field(default_factory=list)
    published_decisions: list[dict[str, Any]] = field(default_factory=list)
    published_dead_letters: list[dict[str, Any]] = field(default_factory=list)


RECORDED: Final = (
    "model, subject, number, hash, rows, first_ms, last_ms, since_ms, until_ms, in_force, detail, release, config"
)


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a SELECT, from SQLite or PostgreSQL, past the daemon's own code."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as postgres:
        return postgres.execute(sql.encode()).fetchall()


def found_in(
    url: str,
    alerts: Sequence[bytes],
    decisions: Sequence[bytes],
    dead_letters: Sequence[bytes],
) -> Found:
    """Read the database at a URL; the rest are the values on the topics."""
    ((totals,),) = query(url, "SELECT totals FROM shard")
    versions = {}
    for model, body in query(url, "SELECT model, body FROM model_state"):
        for version in json.loads(body)["versions"].values():
            versions[model, version["version"]] = version["predictions"], version["joined"]
    ((outbox,),) = query(url, "SELECT count(*) FROM outbox")
    return Found(
        totals=json.loads(totals),
        versions=versions,
        history=dict(_history(url)),
        alerts=[json.loads(body) for (body,) in query(url, "SELECT body FROM alert ORDER BY fingerprint, seq")],
        decisions=[json.loads(body) for (body,) in query(url, "SELECT body FROM decision ORDER BY model, generation")],
        outbox=outbox,
        gaps=query(url, "SELECT topic, partition, from_offset, to_offset FROM gap"),
        references=query(url, f"SELECT {RECORDED} FROM reference_record ORDER BY model, subject, number"),
        published_alerts=[json.loads(value) for value in alerts],
        published_decisions=[json.loads(value) for value in decisions],
        published_dead_letters=[json.loads(value) for value in dead_letters],
    )


def _history(url: str) -> Iterator[tuple[tuple[str, str, str, int, int], tuple[int, float]]]:
    for (model, version, feature, metric, start, end), found in measured(url):
        if not feature:
            yield (model, version, metric, start, end), found


def measured(url: str) -> Iterator[tuple[tuple[str, str, str, str, int, int], tuple[int, float]]]:
    """Yield all of the history: model, version, feature (or nothing), metric, start and end; events and value."""
    layouts = {number: json.loads(names) for number, names in query(url, "SELECT id, names FROM history_layout")}
    sql = "SELECT model, version, start_ms, end_ms, layout, body FROM history"
    for model, version, start, end, layout, body in query(url, sql):
        names = layouts[layout]
        values = struct.unpack_from(f"<{len(names)}d{len(names)}q", bytes(body))
        for (feature, metric), value, n in zip(names, values, values[len(names) :], strict=False):
            yield (model, version, feature or "", metric, start, end), (n, value)


# -- the comparison -----------------------------------------------------------------------------------------------


def differences(expected: Expected, found: Found) -> list[str]:
    """Everything in which a run is not what it must be; empty for a good one."""
    return [
        *_compare("events", dict(expected.events), found.totals["events"]),
        *_compare("join", dict(expected.join), found.totals["join"]),
        *_compare("versions", expected.versions, found.versions),
        *_of_history(expected, found),
        *_of_alerts(expected, found),
        *_of_decisions(expected, found),
        *_of_dead_letters(expected, found),
        *([f"outbox: {found.outbox} messages were never crossed off"] if found.outbox else []),
        *([f"gaps: {found.gaps}"] if found.gaps else []),
    ]


def _compare(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys(), key=str):
        wanted, is_there = expected.get(key, 0), found.get(key, 0)
        if wanted != is_there:
            yield f"{what} {key}: expected {wanted}, found {is_there}"


def _of_history(expected: Expected, found: Found) -> Iterator[str]:
    wanted: dict[tuple[str, str, str, int, int], tuple[int, float]] = {}
    for (model, version, start, end), count in expected.predictions.items():
        wanted[model, version, "predictions", start, end] = count, float(count)
        wanted[model, version, "error_rate", start, end] = count, expected.error_rates[model, version, start, end]
    for (model, version, start, end), (n, value) in expected.quality.items():
        wanted[model, version, "mae" if model == "prices" else "accuracy", start, end] = n, value
    metrics = {metric for _, _, metric, _, _ in wanted}
    there = {key: value for key, value in found.history.items() if key[2] in metrics}
    for key in sorted(wanted.keys() | there.keys()):
        a, b = wanted.get(key), there.get(key)
        if a is None or b is None or a[0] != b[0] or not math.isclose(a[1], b[1], rel_tol=1e-12):
            yield f"history {key}: expected {a}, found {b}"


def milliseconds(text: str | None) -> int | None:
    """Of a time as it is published."""
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


def _of_alerts(expected: Expected, found: Found) -> Iterator[str]:
    episodes: dict[str, tuple[str, str, int | None, int | None]] = {}
    for record in found.alerts:
        if record["kind"] == "metric":
            about = (record["model"], record["version"], milliseconds(record["starts_at"]))
            episodes[record["event_id"]] = (*about, milliseconds(record["ends_at"]))
    if len(set(episodes.values())) != len(episodes):
        yield f"alerts: an episode has two ids: {sorted(episodes.values(), key=str)}"
    if set(episodes.values()) != expected.episodes:
        yield f"episodes: expected {sorted(expected.episodes, key=str)}, found {sorted(episodes.values(), key=str)}"
    yield from _same_records("alert", ("event_id", "seq"), found.alerts, found.published_alerts)


def _of_decisions(expected: Expected, found: Found) -> Iterator[str]:
    there: dict[str, list[tuple[int, str, str, str]]] = defaultdict(list)
    for d in found.decisions:
        there[d["model"]].append((d["generation"], d["reason"], d["champion"], d["active_level"]))
    yield from _compare("decisions", expected.decisions, there)
    yield from _same_records("decision", ("model", "generation"), found.decisions, found.published_decisions)


def _same_records(
    what: str, key: tuple[str, str], stored: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Each stored record was published, none else was, and repeats differ in `published_at` only."""
    by_key = {(s[key[0]], s[key[1]]): s for s in stored}
    if len(by_key) != len(stored):
        yield f"{what}: {len(stored)} records are stored under {len(by_key)} keys"
    seen = set()
    for record in published:
        name = (record[key[0]], record[key[1]])
        seen.add(name)
        if "published_at" not in record:
            yield f"{what} {name}: does not say when it was published"
        bare = {k: v for k, v in record.items() if k != "published_at"}
        if by_key.get(name) != bare:
            yield f"{what} {name}: was published as {bare}, stored is {by_key.get(name)}"
    for name in by_key.keys() - seen:
        yield f"{what} {name}: was never published"


def _of_dead_letters(expected: Expected, found: Found) -> Iterator[str]:
    there: dict[Place, str] = {}
    for letter in found.published_dead_letters:
        place = letter["topic"], letter["partition"], letter["offset"]
        there[place] = letter["reason"]
        if place in expected.raw and base64.b64decode(letter["raw"]) != expected.raw[place]:
            yield f"dead letter {place}: does not carry the bytes that were refused"
    yield from _compare("dead letters", expected.dead_letters, there)


# -- two runs ------------------------------------------------------------------------------------------------------


def told(found: Found) -> set[tuple[Any, ...]]:
    """What a run told the world, without when it was told: to be compared with what another one told.

    The first decision of a model is of the time when the daemon was first started.
    """
    alerts = {("alert", a["event_id"], a["seq"], a["status"], a["severity"], a["issued_at"]) for a in found.alerts}
    decisions = {
        ("decision", d["model"], d["generation"], d["reason"], d["champion"], d["active_level"], d["cause"])
        for d in found.decisions
    }
    references = {("reference", *record) for record in found.references}
    return alerts | decisions | references
