"""Random streams of records: events as they should be, events with something wrong, and rubbish."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from monitor.events.codes import OTHER
from tests.monitor.events.decoding import MODELS, T0, TIME, Verbatim, raw

names = st.sampled_from(["a", "b", "v1", "v2", "v3", "v4", "v5", "rules", OTHER, "x" * 17, "", "é", "\0", "\ud800"])
numbers = st.sampled_from(
    [0, 1, -1, 0.5, 0.9, 1.0, 7, -0.0, 1e300, -1e300, 2**53, -(2**53), 2**53 + 1, 2.0**53, 2.0**53 + 2, 2**63,
     10**400, -(10**30), Verbatim("NaN"), Verbatim("-Infinity"), Verbatim("1e999"), Verbatim("-0"), Verbatim("1E2")]
) | st.floats(0, 1)  # fmt: skip
scalars = st.none() | st.booleans() | numbers | names | st.sampled_from(["yes", "no", "spam", "True", "gas", "oil"])
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
times = st.sampled_from(
    [TIME, T0, T0 - 0.5, "2026-11-21T09:29:00+05:45", "2026-11-21T09:30:00", "2026-12-31T23:59:60Z",
     "3000-01-01T00:00:00Z", -1, T0 + 600_000 + 60_001, T0 + 600_000, "", "x"]
)  # fmt: skip
feature_names = st.sampled_from(["load", "flow", 'a "quoted" one', "note", "kind", "z", "é", "score"])
features = st.dictionaries(feature_names, scalars, max_size=7)
metrics = st.dictionaries(st.sampled_from(["cost", "clicks"]), st.none() | numbers, max_size=2)
classes = st.sampled_from(["1", "0", "yes", "no", "spam", "gas", "True"])
probabilities = st.dictionaries(classes, st.floats(0, 1) | st.sampled_from([1, 1 + 1e-7, -1e-7, 1.1, -0.1, None]))
models = st.sampled_from([*MODELS, *MODELS, "nobody"])
versions = st.sampled_from(["v1", "v2", "v3", "v4", "v5", "rules", OTHER])
ids = st.text("abc", min_size=1) | st.integers(-3, 3) | st.sampled_from(["0", "1", 2**53 + 1])
labels = st.sampled_from([0, 1, 0.25, 0.85, True, False, "yes", "no", "spam", "gas", "oil", "1", 1.0]) | numbers


def events_of(kind: str, needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    common = {"type": st.just(kind), "model": models, "time": st.just(TIME) | times}
    return st.fixed_dictionaries(common | needed, optional={"schema": st.sampled_from([1, 1, 1, 2]), **optional})


predictions = events_of(
    "prediction",
    {"request_id": ids, "version": versions, "prediction": labels},
    served=st.booleans(),
    served_by=st.sampled_from(["primary", "previous", "rules", "ensemble", "default", "champion"]),
    assigned=st.none() | names,
    assigned_by=st.none() | st.sampled_from(["weight", "cohort", "override", "environment", "chance"]),
    segment=st.none() | st.sampled_from(["", "eu", "us", "asia", 3, "\0"]),
    features=st.none() | features,
    scores=st.none() | probabilities,
    latency_ms=st.none() | st.floats(0, 1e6) | numbers,
    error=st.none() | st.sampled_from(["", "TimeoutError"]),
    metrics=st.none() | metrics,
    batch=st.none() | st.fixed_dictionaries({"size": numbers, "ms": numbers}),
)
outcomes = events_of("outcome", {"request_id": ids, "actual": labels}, metrics=metrics)
reports = events_of("resources", {"version": versions}, memory_mb=numbers, cpu_percent=st.none() | numbers)
whole = predictions | predictions | outcomes | reports


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """An event in which some field is missing, or has any value, or that has a field nobody knows."""
    event = draw(whole)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from([*sorted(event), "features", "scores", "batch", "unknown"]))
        event = {n: v for n, v in event.items() if n != name}
        if draw(st.booleans()):
            event[name] = draw(anything)
    return event


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """A record with some bytes cut out or put in."""
    record = raw(draw(whole))
    start = draw(st.integers(0, len(record)))
    end = draw(st.integers(start, min(start + 5, len(record))))
    return record[:start] + draw(st.binary(max_size=3)) + record[end:]


def is_plain(record: bytes | None) -> bool:
    """Whether `json` in Python and JSON mean the same by it: not where a name stands twice."""
    return record is None or record.count(b'"time"') < 2


rubbish = (
    st.binary()
    | st.none()
    | torn()
    | st.sampled_from([b"[]", b"1", b"null", b'"x"', b"{}", b"\xef\xbb\xbf{}", b"[" * 3000])
)
records = st.one_of(whole.map(raw), whole.map(raw), whole.map(raw), spoilt().map(raw), rubbish).filter(is_plain)
streams = st.lists(records, max_size=25)
