"""What a run has come to, and in what two runs differ, told briefly.

Shares no code with the daemon: it reads the status document, topics as JSON, and the database with plain SQL. Of two
runs of the same topics everything has to be equal but what is said here, with its reason:

- `published_at` is by the clock on the wall; a message may be there more than once, as after a crash.
- `store_epoch` is the time when a store was made, `audit_head` follows from it.
- `issued_at` of a model's first decision is of the time when its daemon was started.
- Alerts of kind `daemon` are about a process. They are left out of records and counts.
- The model `clock` only moves time, see `uneven`.

`event_id` follows from subject and start, `seq` and `generation` count within a subject and a model, `issued_at` and
all other times are of the stream: all of these are compared. So is the order of the records of a model. Numbers are
equal to nine significant digits; `inexact` counts those that are, and are not equal bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tests.e2e.auditor import RECORDED, query

Row = tuple[str, str, str, int, int]  # model, version, feature and metric, start and end of the window in ms
SECTIONS: Final = ("counts", "versions", "alerts", "decisions", "dead_letters", "references", "history")
_DIGITS: Final = 1e-9
_TINY: Final = 1e-12  # what is left of sums that cancel each other
_SHOWN: Final = 12
_NOWHERE: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Answers:
    """All that a run says, each section as name → value. `name` is that of the run."""

    name: str
    counts: Mapping[str, Any]
    versions: Mapping[str, Any]
    alerts: Mapping[str, Any]
    decisions: Mapping[str, Any]
    dead_letters: Mapping[str, Any]
    references: Mapping[str, Any]
    history: Mapping[Row, tuple[float, int]]  # value, number of events

    def section(self, name: str) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = getattr(self, name)
        return found


# -- what a run says -----------------------------------------------------------------------------------------


def answers_of(
    name: str,
    status: Mapping[str, Any],
    store_url: str,
    published: Mapping[str, Iterable[bytes]],
    leaving_out: Iterable[str] = (),
) -> Answers:
    """Read what a run that has ended has left.

    Args:
        name: Of the run, for differences.
        status: What `driftd status --json` or `driftd replay --json` says.
        store_url: Its database.
        published: Values of its topics `alerts`, `decisions` and `dead-letters`.
        leaving_out: Models that are not compared.
    """
    out = frozenset(leaving_out)
    alerts = _records(published["alerts"], ("event_id", "seq"))
    alerts = [a for a in alerts if a["kind"] != "daemon" and a["model"] not in out]
    decisions = [d for d in _records(published["decisions"], ("model", "generation")) if d["model"] not in out]
    return Answers(
        name,
        counts=dict(_counts(status, store_url, len(out))),
        versions={
            f"{model}{path}": value
            for model, document in status["models"].items()
            if model not in out
            for path, value in _flat(document)
            if path != ".decided_at" or document["generation"] > 1  # the first one is of whatever was read first
            if not _is_as_of_now(path, value)
        },
        alerts={**dict(_flat_all(alerts, _alert_name)), **_order(alerts, _alert_name)},
        decisions={**dict(_flat_all(decisions, _decision_name)), **_order(decisions, _decision_name)},
        dead_letters={
            f"{d['topic']}[{d['partition']}]:{d['offset']}": f"{d['reason']} at {d['time']}: {d['detail']}"
            for d in map(json.loads, published["dead-letters"])
        },
        references={key: value for key, value in _references(store_url) if key.split("/")[0] not in out},
        history={key: value for key, value in _history(store_url) if key[0] not in out},
    )


def _is_as_of_now(path: str, value: Any) -> bool:
    """Whether something tells how many panes of outcomes a rule has learned from by now.

    How far stream time goes on after the last event depends on when a run is stopped, and with it which panes have all
    outcomes that they can have. It is the last reason there is.
    """
    return path.endswith(".founded") or (".assumed_because[" in path and str(value).startswith("rules on "))


def _records(values: Iterable[bytes], key: tuple[str, str]) -> list[dict[str, Any]]:
    """Published records without repeats, without what may differ, in order."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for record in map(json.loads, values):
        for name in ("published_at", "store_epoch", "audit_head"):
            record.pop(name, None)
        if record.get("reason") in ("initial", "adopted"):
            del record["issued_at"]
        found.setdefault((record[key[0]], record[key[1]]), record)
    return list(found.values())


def _alert_name(alert: Mapping[str, Any]) -> str:
    about = "".join(f" {part}" for part in (alert["rule"], *alert["labels"].values()) if part)
    return f"{alert['model']}/{alert['version']} {alert['kind']}{about} since {alert['starts_at']} seq {alert['seq']}"


def _decision_name(decision: Mapping[str, Any]) -> str:
    return f"{decision['model']} generation {decision['generation']}"


def _flat_all(records: Iterable[Mapping[str, Any]], name: Any) -> Iterator[tuple[str, Any]]:
    for record in records:
        yield name(record), "published"
        yield from ((f"{name(record)}: {path.lstrip('.')}", value) for path, value in _flat(record))


def _order(records: Sequence[Mapping[str, Any]], name: Any) -> dict[str, Any]:
    """The order in which the records of each model were published."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(f"order of {record['model']}", []).append(name(record))
    return {key: " < ".join(names) for key, names in found.items()}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}")
    elif isinstance(value, list):
        if not value:
            yield path, "[]"
        for i, part in enumerate(value):
            yield from _flat(part, f"{path}[{i}]")
    else:
        yield path, value


def _counts(status: Mapping[str, Any], store_url: str, left_out: int) -> Iterator[tuple[str, Any]]:
    """Cumulative counts; those of alerts without the ones about the daemon."""
    yield from ((f"events.{name}", n) for name, n in status["events"].items())
    yield from ((f"join.{name}", n) for name, n in status["join"].items())
    alerts = status["alerts"]
    about_daemons = dict(query(store_url, "SELECT status, count(*) FROM alert WHERE kind = 'daemon' GROUP BY status"))
    yield "alerts.firing", alerts["firing"] - alerts["by_kind"].get("daemon", 0)
    yield "alerts.resolved", alerts["resolved"] - about_daemons.get("resolved", 0)
    yield from ((f"alerts.by_kind.{kind}", n) for kind, n in alerts["by_kind"].items() if kind != "daemon")
    yield "decisions", status["decisions"] - left_out
    for name in ("decisions_by_reason", "dead_letters_by_reason"):
        yield from ((f"{name}.{reason}", n) for reason, n in status[name].items())


def _references(store_url: str) -> Iterator[tuple[str, Any]]:
    sql = "SELECT model, subject, state, hash, body FROM reference WHERE state = 'active'"
    for model, subject, _, content, body in query(store_url, sql):
        data = bytes(body)
        yield f"{model}/{subject or 'champion'}", f"{content} ({len(data)} bytes, sha256 {_digest(data)})"
    for record in query(store_url, f"SELECT {RECORDED} FROM reference_record"):
        model, subject, number, *its = record
        yield f"{model}/{subject} record {number}", repr(its)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _history(store_url: str) -> Iterator[tuple[Row, tuple[float, int]]]:
    layouts = {number: json.loads(names) for number, names in query(store_url, "SELECT id, names FROM history_layout")}
    sql = "SELECT model, version, outcomes, start_ms, end_ms, layout, coverage, body FROM history"
    for model, version, outcomes, start, end, layout, coverage, body in query(store_url, sql):
        names = layouts[layout]
        values = struct.unpack_from(f"<{len(names)}d{len(names)}q", bytes(body))
        for (feature, metric), value, n in zip(names, values, values[len(names) :], strict=False):
            yield (model, version, f"{feature}.{metric}" if feature else metric, start, end), (value, n)
        if outcomes:
            yield (model, version, "(coverage)", start, end), (math.nan if coverage is None else coverage, 0)


# -- the comparison --------------------------------------------------------------------------------------------


def differences(expected: Answers, found: Answers, sections: Iterable[str] = SECTIONS) -> list[str]:
    """Everything in which a run differs from another one, a line each; empty where it does not."""
    return [
        line
        for section in sections
        for line in (
            _of_history(expected, found) if section == "history" else list(_of_section(expected, found, section))
        )
    ]


def told(lines: Sequence[str]) -> str:
    """Lines of differences for people: the first ones, and how many more there are."""
    rest = len(lines) - _SHOWN
    return "\n".join(["", *lines[:_SHOWN], *([f"… and {rest} more differences"] if rest > 0 else [])])


def _of_section(expected: Answers, found: Answers, section: str) -> Iterator[str]:
    ours, theirs = expected.section(section), found.section(section)
    absent = {key for key, value in {**ours, **theirs}.items() if value == "published"} - (ours.keys() & theirs.keys())
    for key in dict.fromkeys([*ours, *theirs]):
        if any(key.startswith(f"{record}: ") for record in absent):
            continue  # that the record is missing is said once
        a, b = ours.get(key, _NOWHERE), theirs.get(key, _NOWHERE)
        if section == "counts":
            a, b = ours.get(key, 0), theirs.get(key, 0)
        if not _same(a, b):
            if key.startswith("order of "):
                if set(str(a).split(" < ")) != set(str(b).split(" < ")):
                    continue  # has been said
                a, b = _first_difference(str(a).split(" < "), str(b).split(" < "))
            yield f"{section}: {key}: {a} ({expected.name}), {b} ({found.name})"


def _first_difference(a: Sequence[str], b: Sequence[str]) -> tuple[str, str]:
    at = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return f"record {at} is {a[at]}", b[at]


def _of_history(expected: Answers, found: Answers) -> list[str]:
    """A line for each metric of a version, with the first window that differs."""
    ours, theirs = expected.history, found.history
    by_metric: dict[tuple[str, str, str], list[Row]] = {}
    total: dict[tuple[str, str, str], int] = {}
    for key in sorted(ours.keys() | theirs.keys(), key=lambda row: (*row[:3], row[4], row[3])):
        metric = (key[0], key[1], key[2])
        total[metric] = total.get(metric, 0) + 1
        a, b = ours.get(key), theirs.get(key)
        if a is None or b is None or a[1] != b[1] or not _same(a[0], b[0]):
            by_metric.setdefault(metric, []).append(key)
    lines = []
    for metric, rows in by_metric.items():
        model, version, name = metric
        first = rows[0]
        window = f"{_clock(first[3])}–{_clock(first[4])}"
        said = [f"{_shown(answers.history.get(first))} ({answers.name})" for answers in (expected, found)]
        lines.append(
            f"history: {model}/{version} {name}: {len(rows)} of {total[metric]} windows differ, "
            f"the first {window}: {', '.join(said)}"
        )
    return lines


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and (math.isclose(a, b, rel_tol=_DIGITS, abs_tol=_TINY) or (math.isnan(a) and math.isnan(b)))
    return bool(a == b)


def inexact(expected: Answers, found: Answers) -> int:
    """How many values of the history that both have are not equal bit by bit."""
    both = expected.history.keys() & found.history.keys()
    return sum(_bits(expected.history[key][0]) != _bits(found.history[key][0]) for key in both)


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)


def _shown(value: tuple[float, int] | None) -> str:
    return _NOWHERE if value is None else f"{value[0]:.12g} of {value[1]}"


def _clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%d. %H:%M:%S")


# -- byte for byte -------------------------------------------------------------------------------------------------

_PUBLISHED: Final = re.compile(rb',"published_at":"[^"]*"')


def written_by(
    summary: Mapping[str, Any], store_url: str, published: Mapping[str, Iterable[bytes]]
) -> dict[str, bytes]:
    """All that a replay has written, each part as its bytes: without how long it took and when it was published."""
    parts = {name: _PUBLISHED.sub(b"", b"\n".join(values)) for name, values in published.items()}
    parts["summary"] = json.dumps({**summary, "seconds": 0.0}).encode()
    for key, (value, n) in sorted(_history(store_url)):
        parts[f"history {key}"] = _bits(value) + struct.pack("<q", n)
    for name, sql in (
        ("reference", "SELECT model, subject, state, hash, body FROM reference ORDER BY id"),
        ("reference_record", f"SELECT {RECORDED} FROM reference_record ORDER BY model, subject, number"),
        ("alert", "SELECT event_id, seq, body FROM alert ORDER BY event_id, seq"),
        ("decision", "SELECT model, generation, body FROM decision ORDER BY model, generation"),
    ):
        rows = query(store_url, sql)
        parts[f"table {name}"] = b"\n".join(repr(row).encode() for row in rows)
    return parts
