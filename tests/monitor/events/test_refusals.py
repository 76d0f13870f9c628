"""Refusals: every rule has its reason, and a detail from which an operator finds the field and the value."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.events.formats.examiner import SchemaOf, mend
from monitor.events.formats.json_text import BrokenRule
from monitor.events.refusals import Finding, Refusal
from monitor.events.schema import ModelSchema
from monitor.pipeline.effects import DeadLetter
from monitor.spec import Limits
from monitor.stream.types import Partition
from tests.monitor.event_streams import records
from tests.monitor.events.decoding import (
    LIMITS,
    SPEC,
    T0,
    TIME,
    WALL,
    Verbatim,
    a_prediction,
    an_outcome,
    batch_of,
    decode,
    decoder,
    raw,
    resources,
)

R = Refusal
HUGE = 10**400
SHOWN = "1" + "0" * 59 + "…"
INTEGERS = "integers lie between -2^53 and 2^53"
IDS = "integer ids lie between -2^63 and 2^64 - 1"
IDENTITY = ("request_id", "model", "version")
TEXTS = ("assigned", "error")
HALF = "has half a surrogate pair, or bytes that are not UTF-8"


def examine(record: bytes | None, limits: Limits, schema_of: SchemaOf = lambda model: None) -> Finding | None:
    """Why a record is refused, None if it is not."""
    try:
        mend(record, limits, schema_of)
    except BrokenRule as stop:
        return stop.finding
    return None


def spelled(event: dict[str, Any], old: str, new: bytes) -> bytes:
    """The event with a part of its text replaced by bytes."""
    return raw(event).replace(json.dumps(old).encode(), b'"' + new + b'"')


CASES: list[tuple[object, Refusal, str]] = [
    # what is no record
    (None, R.EMPTY, "the record has no value"),
    (b"", R.EMPTY, "the record has no value"),
    (b" \n", R.EMPTY, "the record has no value"),
    (b'{"a": "' + b"x" * 10_000_000 + b'"}', R.TOO_LARGE, "10000009 bytes, at most 4000"),
    (b'{"type": "prediction"', R.NOT_JSON, "'{\"type\": \"prediction\"': Expecting ',' delimiter"),
    (b"NaN", R.NOT_AN_OBJECT, "the record is a number, not an object"),
    (b"nonsense", R.NOT_JSON, "'nonsense': Expecting value"),
    (b"\xff\xfe{\x00}\x00", R.NOT_JSON, "'��{\\x00}\\x00': Expecting value"),
    (b"\xef\xbb\xbf" + raw(a_prediction()), R.NOT_JSON, "'\\ufeff{\"type\": \"prediction\""),
    (b"\0", R.NOT_JSON, "'\\x00': Expecting value"),
    (raw(a_prediction()) + b"}", R.NOT_JSON, "'{\"type\": \"prediction\", "),
    (b"[]", R.NOT_AN_OBJECT, "the record is a list, not an object"),
    (b"17", R.NOT_AN_OBJECT, "the record is a number, not an object"),
    (b'"text"', R.NOT_AN_OBJECT, "the record is text, not an object"),
    (b"true", R.NOT_AN_OBJECT, "the record is a boolean, not an object"),
    (b"null", R.NOT_AN_OBJECT, "the record is null, not an object"),
    (b"[" * 3_000, R.TOO_DEEP, "nested deeper than 100 levels"),
    # schema and type
    (a_prediction(schema=2), R.NEWER_SCHEMA, "schema: 2: this release knows 1"),
    (a_prediction(schema=2, type="novelty", time={"s": 1}), R.NEWER_SCHEMA, "schema: 2: this release knows 1"),
    (a_prediction(schema=0), R.BAD_VALUE, "schema: 0: the first schema is 1"),
    (a_prediction(schema="1"), R.WRONG_TYPE, "schema: '1': an integer is needed"),
    (a_prediction(schema=1.0), R.WRONG_TYPE, "schema: 1.0: an integer is needed"),
    (a_prediction(schema=True), R.WRONG_TYPE, "schema: True: an integer is needed"),
    (a_prediction(schema=None), R.WRONG_TYPE, "schema: None: an integer is needed"),
    (a_prediction(schema=HUGE), R.INTEGER_TOO_LARGE, f"schema: {SHOWN}: {INTEGERS}"),
    ({}, R.MISSING_FIELD, "type: one of prediction, outcome, resources is needed"),
    (a_prediction(type=None), R.MISSING_FIELD, "type: one of prediction, outcome, resources is needed"),
    (a_prediction(type="novelty"), R.UNKNOWN_TYPE, "type: 'novelty': one of prediction, outcome, resources is needed"),
    (a_prediction(type=3), R.UNKNOWN_TYPE, "type: 3: one of "),
    (a_prediction(type=["prediction"]), R.UNKNOWN_TYPE, "type: ['prediction']: one of "),
    # who
    *((a_prediction(**{name: ...}), R.MISSING_FIELD, f"{name}: is needed") for name in IDENTITY),
    *((a_prediction(**{name: ""}), R.MISSING_FIELD, f"{name}: is needed") for name in IDENTITY),
    *((an_outcome(**{name: None}), R.MISSING_FIELD, f"{name}: is needed") for name in ("request_id", "model")),
    *((resources(**{name: None}), R.MISSING_FIELD, f"{name}: is needed") for name in ("model", "version")),
    (a_prediction(request_id=7.0), R.WRONG_TYPE, "request_id: 7.0: text is needed, not a number"),
    (a_prediction(request_id=True), R.WRONG_TYPE, "request_id: True: text is needed, not a boolean"),
    (an_outcome(request_id=2**64), R.INTEGER_TOO_LARGE, f"request_id: {2**64}: {IDS}"),
    (a_prediction(request_id=-(2**63) - 1), R.INTEGER_TOO_LARGE, f"request_id: {-(2**63) - 1}: {IDS}"),
    (a_prediction(request_id=HUGE), R.INTEGER_TOO_LARGE, f"request_id: {SHOWN}: {IDS}"),
    (an_outcome(request_id=-HUGE), R.INTEGER_TOO_LARGE, f"request_id: -{SHOWN[:-2]}…: {IDS}"),
    (a_prediction(request_id=2**64, features={"x": {}}), R.INTEGER_TOO_LARGE, f"request_id: {2**64}: {IDS}"),
    (an_outcome(model=["heat"]), R.WRONG_TYPE, "model: ['heat']: text is needed, not a list"),
    (resources(version={}), R.WRONG_TYPE, "version: {}: text is needed, not an object"),
    (a_prediction(request_id="x" * 17), R.ID_TOO_LONG, f"request_id: '{'x' * 17}': 17 characters, at most 16"),
    (a_prediction(version="😀" * 17), R.ID_TOO_LONG, f"version: '{'😀' * 17}': 17 characters, at most 16"),
    (a_prediction(model="heating"), R.UNKNOWN_MODEL, "model: 'heating': not in the configuration"),
    # when
    (a_prediction(time=...), R.MISSING_FIELD, "time: is needed"),
    (an_outcome(time=None), R.MISSING_FIELD, "time: is needed"),
    (a_prediction(time="2026-11-21T09:30:00"), R.BAD_TIME, "time: '2026-11-21T09:30:00' has no time zone"),
    (a_prediction(time="yesterday"), R.BAD_TIME, "time: 'yesterday' is not a time like 2026-11-21T09:30:00.123Z"),
    (a_prediction(time=str(T0)), R.BAD_TIME, f"time: '{T0}' is not a time like {TIME}: milliseconds are a number wi"),
    (a_prediction(time="2026-12-31T23:59:60Z"), R.BAD_TIME, "time: '2026-12-31T23:59:60Z' is not a time"),
    (a_prediction(time="2026-02-30T00:00:00Z"), R.BAD_TIME, "time: '2026-02-30T00:00:00Z': day "),
    (a_prediction(time=-1), R.BAD_TIME, "time: -1 is not between the years 1970 and 9999"),
    (a_prediction(time=-0.5), R.BAD_TIME, "time: -0.5 is not between the years"),
    (a_prediction(time=True), R.BAD_TIME, "time: True is neither text nor a number"),
    (resources(time=[]), R.BAD_TIME, "time: [] is neither text nor a number"),
    (a_prediction(time=0), R.BAD_TIME, "time: 0 is before 1970-03-01T00:00:00Z"),
    (a_prediction(time="1970-02-28T23:59:59.999Z"), R.BAD_TIME, "time: '1970-02-28T23:59:59.999Z' is before 1970-03"),
    (an_outcome(time=1_700_000_000), R.BAD_TIME, "time: 1700000000 is before 1970-03-01T00:00:00Z: seconds?"),
    (resources(time=1_700_000_000.5), R.BAD_TIME, "time: 1700000000.5 is before 1970-03-01T00:00:00Z: seconds?"),
    (a_prediction(time=T0 * 1_000), R.BAD_TIME, f"time: {T0}000 is not between the years 1970 and 9999: microseconds?"),
    (a_prediction(time=T0 * 1e6), R.BAD_TIME, "time: 1.795253400123e+18 is not between the years 1970 and 9999: nan"),
    (a_prediction(time=T0 * 10**6), R.INTEGER_TOO_LARGE, f"time: {T0}000000: {INTEGERS}: nanoseconds?"),
    (a_prediction(time=Verbatim("NaN")), R.NOT_FINITE, "time: NaN: is not a JSON number"),
    (a_prediction(time=HUGE), R.INTEGER_TOO_LARGE, f"time: {SHOWN}: {INTEGERS}"),
    (a_prediction(time="3000-01-01T00:00:00Z"), R.TIME_IN_FUTURE, "time: '3000-01-01T00:00:00Z': too far in"),
    (an_outcome(time=32_503_680_000_000), R.TIME_IN_FUTURE, "time: 32503680000000: too far in the future"),
    # numbers
    (a_prediction(prediction=Verbatim("NaN")), R.NOT_FINITE, "prediction: NaN: is not a JSON number"),
    (a_prediction(prediction=Verbatim("Infinity")), R.NOT_FINITE, "prediction: Infinity: is not a JSON number"),
    (a_prediction(latency_ms=Verbatim("-Infinity")), R.NOT_FINITE, "latency_ms: -Infinity: is not a JSON number"),
    (a_prediction(prediction=Verbatim("1e999")), R.NOT_FINITE, "prediction: 1e999: is beyond the largest float"),
    (an_outcome(actual=Verbatim("-1e999")), R.NOT_FINITE, "actual: -1e999: is beyond the largest float"),
    (a_prediction(features={"note": Verbatim("NaN")}), R.NOT_FINITE, "features.note: NaN: is not a JSON number"),
    (a_prediction(unknown=[Verbatim("NaN")]), R.NOT_FINITE, "unknown: NaN: is not a JSON number"),
    (a_prediction(scores={"yes": Verbatim("NaN")}), R.NOT_FINITE, "scores.yes: NaN: is not a JSON number"),
    (a_prediction(prediction=2**53 + 1), R.INTEGER_TOO_LARGE, f"prediction: 9007199254740993: {INTEGERS}"),
    (a_prediction(prediction=-(2**53) - 1), R.INTEGER_TOO_LARGE, f"prediction: -9007199254740993: {INTEGERS}"),
    (a_prediction(prediction=HUGE), R.INTEGER_TOO_LARGE, f"prediction: {SHOWN}: {INTEGERS}"),
    (a_prediction(prediction=Verbatim("1" * 3_000)), R.INTEGER_TOO_LARGE, f"prediction: {'1' * 60}…: {INTEGERS}"),
    (an_outcome(actual=2**63), R.INTEGER_TOO_LARGE, f"actual: 9223372036854775808: {INTEGERS}"),
    # texts
    (a_prediction(request_id="\ud800"), R.BAD_TEXT, f"request_id: '\\ud800': {HALF}"),
    (spelled(a_prediction(request_id="?"), "?", b"\xff"), R.BAD_TEXT, f"request_id: '\\udcff': {HALF}"),
    (spelled(a_prediction(unknown="?"), "?", b"\xed\xa0\x80"), R.BAD_TEXT, "unknown: '\\udced\\udca0\\udc80': has"),
    (spelled(a_prediction(features={"?": 1}), "?", b"\xc3"), R.BAD_TEXT, "a name in features: '\\udcc3': has half"),
    (an_outcome(actual="\0"), R.BAD_TEXT, "actual: '\\x00': has a NUL character"),
    (raw(a_prediction(segment="?")).replace(b"?", b"\0"), R.NOT_JSON, "'{\"type\": \"prediction\","),
    # the fields of a prediction
    (a_prediction(served=None), R.WRONG_TYPE, "served: None: true or false is needed"),
    (a_prediction(served=1), R.WRONG_TYPE, "served: 1: true or false is needed"),
    (a_prediction(served_by="somebody"), R.BAD_VALUE, "served_by: 'somebody': one of primary, previous, rules, "),
    (a_prediction(served_by=None), R.BAD_VALUE, "served_by: None: one of primary, "),
    (a_prediction(served_by=["primary"]), R.BAD_VALUE, "served_by: ['primary']: one of primary, "),
    *((a_prediction(**{n: 5}), R.WRONG_TYPE, f"{n}: 5: text is needed, not a number") for n in TEXTS),
    (a_prediction(error=True), R.WRONG_TYPE, "error: True: text is needed, not a boolean"),
    (a_prediction(prediction=...), R.MISSING_FIELD, "prediction: is needed where there is no error"),
    (a_prediction(prediction=None, error=None), R.MISSING_FIELD, "prediction: is needed where there is no error"),
    (a_prediction(prediction=[0.5]), R.WRONG_TYPE, "prediction: [0.5]: a number or a label is needed, not a list"),
    (a_prediction(model="fuel", prediction={"gas": 1}), R.WRONG_TYPE, "prediction: {'gas': 1}: a number or a label"),
    (a_prediction(prediction="0.5"), R.WRONG_TYPE, "prediction: '0.5': a regression needs a number, not text"),
    (a_prediction(prediction=True), R.WRONG_TYPE, "prediction: True: a regression needs a number, not a boolean"),
    (a_prediction(model="fuel", prediction="x" * 17), R.ID_TOO_LONG, f"prediction: '{'x' * 17}': 17 characters"),
    (a_prediction(features=dict.fromkeys("abcdefg", 1)), R.TOO_MANY_FEATURES, "features: 7 of them, at most 6"),
    # the fields of the others
    (an_outcome(actual=...), R.MISSING_FIELD, "actual: is needed"),
    (an_outcome(actual=None), R.MISSING_FIELD, "actual: is needed"),
    (an_outcome(actual=[1]), R.WRONG_TYPE, "actual: [1]: a number or a label is needed, not a list"),
    (an_outcome(actual="1"), R.WRONG_TYPE, "actual: '1': a regression needs a number, not text"),
    (an_outcome(model="fuel", actual="x" * 17), R.ID_TOO_LONG, f"actual: '{'x' * 17}': 17 characters"),
    (a_prediction(assigned_by="chance"), R.BAD_VALUE, "assigned_by: 'chance': one of weight, cohort, override, envi"),
    (a_prediction(assigned_by=1), R.BAD_VALUE, "assigned_by: 1: one of weight, "),
    (a_prediction(synthetic="yes"), R.WRONG_TYPE, "synthetic: 'yes': true or false is needed"),
    (an_outcome(synthetic=1), R.WRONG_TYPE, "synthetic: 1: true or false is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "reason", "detail"), CASES, ids=[f"{c[1]}-{c[2][:40]}" for c in CASES])
def test_each_refusal_has_its_reason_and_names_field_and_value(event: object, reason: Refusal, detail: str) -> None:
    """Alone or between good ones, which are accepted."""
    _, alone = decode(event)
    events, among = decode(a_prediction(), event, a_prediction(request_id="r2"))

    assert [(r.reason, r.detail[: len(detail)]) for r in alone] == [(reason, detail)]
    assert events.row.tolist() == [0, 2]
    assert [(r.row, r.reason, r.detail) for r in among] == [(1, reason, alone[0].detail)]


def test_every_reason_of_the_decoder_has_a_case() -> None:
    """The others come from the join (another actual value, a hash collision) and from the stream (unreadable bytes).

    TIME_IN_PAST needs a record with a timestamp (`test_decoder.py`).
    """
    assert set(Refusal) - {case[1] for case in CASES} == {
        R.CONFLICT, R.HASH_COLLISION, R.UNREADABLE, R.TIME_IN_PAST,
    }  # fmt: skip


@pytest.mark.parametrize("brackets", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_a_hundred_thousand_brackets_are_refused_as_too_deep(brackets: bytes) -> None:
    """Wherever they stand, no parser's recursion gets out."""
    limits = Limits()
    inside = raw(a_prediction(unknown="?")).replace(b'"?"', brackets)

    assert examine(brackets, limits) == (R.TOO_DEEP, "nested deeper than 100 levels")
    assert examine(inside, limits) == (R.TOO_DEEP, "nested deeper than 100 levels")


def test_the_default_limits_are_those_of_the_documentation() -> None:
    """500 features, 1 MiB, 256 characters, 20 versions."""
    limits = Limits()

    assert (limits.features, limits.event_bytes, limits.id_length, limits.versions) == (500, 1 << 20, 256, 20)
    assert examine(raw(a_prediction(request_id="x" * 256)), limits) is None
    assert examine(raw(a_prediction(request_id="x" * 257)), limits) == (
        R.ID_TOO_LONG, f"request_id: '{'x' * 59}…: 257 characters, at most 256",
    )  # fmt: skip


@settings(max_examples=400)
@given(records)
def test_examining_finds_a_fault_exactly_where_decoding_does(record: bytes | None) -> None:
    """The slow way and the fast one are two descriptions of one set of rules; no refusal lacks an explanation."""
    made = decoder()

    _, refused = made.decode(batch_of([record]), WALL)[:2]
    finding = examine(record, LIMITS, made.schema)

    # Which models there are, and what time it is, only the decoder knows.
    if not refused or refused[0].reason not in (R.UNKNOWN_MODEL, R.TIME_IN_FUTURE):
        assert (finding is not None) == bool(refused)


@settings(max_examples=200)
@given(records | st.text().map(lambda text: raw(a_prediction(**{text: "\0", "served_by": text * 50}))))
def test_a_detail_is_short_and_can_be_written_anywhere(record: bytes | None) -> None:
    """No half surrogates, no NUL: a dead letter must not become poison itself."""
    for refused in decode(record)[1]:
        letter = DeadLetter(Partition("t", 0), 0, refused.reason, refused.detail, 0, record)

        assert len(refused.detail) < 500
        assert "\0" not in refused.detail
        assert json.dumps(letter.document(), ensure_ascii=False).encode()


def test_a_dead_letter_carries_the_beginning_of_a_large_record() -> None:
    """64 KiB of it, and says that there was more."""
    record = b'{"a": "' + b"x" * 10_000_000 + b'"}'
    document = DeadLetter(Partition("t", 3), 17, R.TOO_LARGE, "…", -1, record).document()

    assert document["truncated"]
    assert base64.b64decode(document["raw"]) == record[: 64 << 10]
    assert (document["topic"], document["partition"], document["offset"], document["time"]) == ("t", 3, 17, None)


def test_examining_knows_the_model_by_its_name() -> None:
    """What a regression needs is told of regressions only; features are checked unless the model ignores them."""
    asked: list[object] = []

    def schema_of(model: object) -> ModelSchema | None:
        asked.append(model)
        return ModelSchema(numeric=True, ignored=frozenset({"other"})) if model == "heat" else None

    record = a_prediction(features={"other": [1]}, prediction="x")
    assert examine(raw(record), LIMITS, schema_of) == (
        R.WRONG_TYPE, "prediction: 'x': a regression needs a number, not text",
    )  # fmt: skip
    assert examine(raw(a_prediction(features={"other": [1]})), LIMITS, schema_of) is None
    assert examine(raw(a_prediction(model="fuel", prediction="x")), LIMITS, schema_of) is None
    assert asked == ["heat", "heat", "fuel"]


def test_the_models_of_these_tests_are_what_they_should_be() -> None:
    """Regression, binary, binary with a positive class, multiclass."""
    assert [(m.task.value, m.positive) for m in SPEC.models] == [
        ("regression", None), ("binary", None), ("binary", "spam"), ("multiclass", None),
    ]  # fmt: skip


def test_a_dead_letter_of_a_record_whose_timestamp_is_no_time_has_none() -> None:
    """A producer may write any integer there."""
    batch = batch_of([raw(a_prediction(time="3000-01-01T00:00:00Z"))], [1 << 62])
    (refused,) = decoder().decode(batch, WALL)[1]

    assert refused.detail.endswith(f"too far in the future, the record is of {1 << 62}")
    assert DeadLetter(Partition("t", 3), 17, refused.reason, refused.detail, 1 << 62, None).document()["time"] is None
