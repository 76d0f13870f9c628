"""Decoding: batches of bytes become columns, whatever the bytes are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.events.codes import OTHER
from monitor.events.columns import EventKind
from monitor.events.decoder import EventDecoder
from monitor.events.readings import DOUBTFUL, NEGATIVE, POSITIVE, LabelCode
from monitor.events.refusals import Refusal
from monitor.reference.feature_reader import FeatureColumns, FeatureReader
from monitor.times import EARLIEST_EVENT
from tests.monitor.event_streams import streams, torn
from tests.monitor.events.decoding import (
    AWKWARD,
    LIMITS,
    PLAIN,
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
    reader,
    resources,
)
from tests.monitor.events.decoding_one_by_one import OneByOne, columns_of, read, readable, same

compared = st.sampled_from([(), PLAIN, AWKWARD])  # numeric features of the first model's reference


def reader_of(compared: tuple[str, ...]) -> FeatureReader | None:
    return reader(compared) if compared else None


@settings(max_examples=150)
@given(st.lists(st.binary() | st.none() | torn(), max_size=20))
def test_any_bytes_are_accepted_or_refused_exactly_once(values: list[bytes | None]) -> None:
    """Nothing is raised, and each record is either in the columns or among the refused, in order."""
    events, refused = decoder().decode(batch_of(values), WALL)[:2]

    rows = [*events.row.tolist(), *(r.row for r in refused)]
    assert sorted(rows) == list(range(len(values)))
    assert events.row.tolist() == sorted(events.row.tolist())
    assert [r.row for r in refused] == sorted(r.row for r in refused)
    assert all(r.detail for r in refused)


@settings(max_examples=300)
@given(streams, compared)
def test_a_batch_is_what_a_decoder_of_one_record_at_a_time_makes_of_it(
    values: list[bytes | None], compared: tuple[str, ...]
) -> None:
    """Bulk decoding, early exits and second thoughts change nothing: neither who is accepted nor what was said."""
    made, model = decoder(), OneByOne(SPEC, WALL, compared)

    events, refused = made.decode(batch_of(values), WALL)[:2]
    columns = read(events, reader_of(compared))

    expected = [model.decode(value) for value in values]
    assert [r.row for r in refused] == [i for i, said in enumerate(expected) if said is None]
    wanted = [{n: v for n, v in said.items() if n != "request_id"} for said in expected if said is not None]
    assert same(readable(events, made, SPEC, columns), wanted)
    assert (columns.mistyped if columns else 0) == model.mistyped


@settings(max_examples=150)
@given(streams, streams, compared)
def test_what_was_decoded_before_does_not_change_what_is_accepted_and_read(
    earlier: list[bytes | None], values: list[bytes | None], compared: tuple[str, ...]
) -> None:
    """Which features a model has sent so far is remembered for speed alone."""
    cold, warm = decoder(), decoder()
    warm.decode(batch_of(earlier), WALL)

    (fresh, refused), (later, refused_later) = (made.decode(batch_of(values), WALL)[:2] for made in (cold, warm))

    assert refused_later == refused
    assert repr(read(later, reader_of(compared))) == repr(read(fresh, reader_of(compared)))


@settings(max_examples=150)
@given(streams, st.lists(st.integers(0, 25), max_size=4), compared)
def test_splitting_a_batch_changes_nothing(
    values: list[bytes | None], cuts: list[int], compared: tuple[str, ...]
) -> None:
    """Not a column, not a code, not a reason: results do not depend on how the stream was cut."""
    at_once, in_parts = decoder(), decoder()
    events, refused = at_once.decode(batch_of(values), WALL)[:2]
    whole = read(events, reader_of(compared))

    columns: dict[str, list[Any]] = {name: [] for name in columns_of(events)}
    told, read_in_parts = [], []
    ends = sorted({*(c for c in cuts if c < len(values)), len(values)})
    for start, end in zip([0, *ends], ends, strict=False):
        part, bad = in_parts.decode(batch_of(values[start:end]), WALL)[:2]
        for name, column in columns_of(part).items():
            columns[name] += column
        told += [(start + r.row, r.reason, r.detail) for r in bad]
        read_in_parts.append(read(part, reader_of(compared)))

    assert repr(columns) == repr(columns_of(events))
    assert told == [(r.row, r.reason, r.detail) for r in refused]
    assert [e.text for e in in_parts.segments.drain_fresh()] == [e.text for e in at_once.segments.drain_fresh()]
    parts = [columns for columns in read_in_parts if columns is not None]
    assert sum(columns.mistyped for columns in parts) == (whole.mistyped if whole else 0)
    if whole is not None:
        np.testing.assert_array_equal(np.concatenate([columns.numbers for columns in parts]), whole.numbers)
        np.testing.assert_array_equal(np.concatenate([columns.codes[0] for columns in parts]), whole.codes[0])


@settings(max_examples=100)
@given(streams)
def test_refused_records_leave_no_trace(values: list[bytes | None]) -> None:
    """Without them the codes, the columns and the counts are the same."""
    with_them, without = decoder(), decoder()
    events, refused = with_them.decode(batch_of(values), WALL)[:2]
    gone = {r.row for r in refused}

    alone, _ = without.decode(batch_of([v for i, v in enumerate(values) if i not in gone]), WALL)[:2]

    assert repr(columns_of(alone)) == repr(columns_of(events))
    assert without._variants.table == with_them._variants.table
    assert [labels.codes for labels in without.labels] == [labels.codes for labels in with_them.labels]


# -- what is accepted ------------------------------------------------------------------------------------


def test_a_prediction_with_everything_fills_every_column() -> None:
    """The example of the architecture, in columns."""
    made = decoder()
    events, refused = decode(
        a_prediction(
            schema=1, assigned="v1", key="user-42", served=True, served_by="previous", segment="eu",
            features={"age": 41, "fuel": "gas", "load": 0.71}, prediction=0.83, scores={"yes": 0.83, "no": 0.17},
            latency_ms=12.4, error=None, metrics={"cost": 0.001}, batch={"size": 32, "ms": 410},
        ),
        using=made,
    )  # fmt: skip

    assert not refused
    assert (events.kind.tolist(), events.time.tolist()) == ([EventKind.SERVED], [T0])
    assert made._variants.table[int(events.variant[0])].version == "v1"
    assert (events.value.tolist(), events.latency.tolist()) == ([0.83], [12.4])
    assert made.segments.texts[int(events.segment[0])] == "eu"
    assert (events.served_by.tolist(), events.failed.tolist()) == ([1], [False])
    assert (events.batch_size.tolist(), events.batch_ms.tolist()) == ([32.0], [410.0])
    assert events.metrics.tolist() == [{"cost": 0.001}]


def test_a_prediction_needs_no_more_than_who_when_and_what() -> None:
    """Features, scores, latency and the rest are optional."""
    events, refused = decode(a_prediction())

    assert not refused
    assert events.kind.tolist() == [EventKind.SERVED]
    assert np.isnan(events.latency).all()


@pytest.mark.parametrize("features", [{}, None, ..., Verbatim(" {  } "), Verbatim(" null ")])
def test_features_may_be_empty_or_absent(features: object) -> None:
    """An event without features is an answer like any other; what is compared is missing."""
    events, refused = decode(a_prediction(features=features))

    assert not refused
    columns = reader().read(events.features[0])
    assert np.isnan(columns.numbers).all()
    assert [codes.tolist() for codes in columns.codes] == [[-1]]


def test_an_event_with_an_error_needs_no_prediction() -> None:
    """A failed attempt counts in the version's error rate."""
    events, refused = decode(a_prediction(prediction=..., error="TimeoutError", served=False))

    assert not refused
    assert (events.kind.tolist(), events.failed.tolist()) == ([EventKind.UNSERVED], [True])
    assert math.isnan(events.value[0])


@pytest.mark.parametrize(("predicted", "failed"), [(None, True), (0.5, False)])
def test_an_empty_class_name_is_an_error_where_there_is_no_prediction(predicted: float | None, failed: bool) -> None:
    """What says that it failed has failed, even where it does not say how; others leave a field empty."""
    events, _ = decode(a_prediction(prediction=predicted, error=""))

    assert events.failed.tolist() == [failed]


def test_unknown_fields_are_ignored() -> None:
    """A producer may say more than we understand, in any JSON."""
    _, refused = decode(a_prediction(extra={"deep": [1, {"er": [Verbatim("1e999"), 10**30]}]}, actual="?"))

    assert not refused


def test_the_last_of_two_equal_names_counts() -> None:
    """As everybody's JSON parser has it."""
    made = decoder()
    record = raw(a_prediction()).replace(b'"version": "v1"', b'"version": "v1", "version": "v2"')

    events, refused = made.decode(batch_of([record]), WALL)[:2]

    assert not refused
    assert made._variants.table[int(events.variant[0])].version == "v2"


def test_text_in_utf8_and_escaped_text_are_the_same() -> None:
    """A literal backslash before u0000 is not a NUL."""
    made = decoder()
    events, refused = decode(
        raw(a_prediction(segment="größe")), raw(a_prediction(segment="größe")).replace(b"\\u00f6", "ö".encode()),
        a_prediction(segment="\\u0000"), using=made,
    )  # fmt: skip

    assert not refused
    assert [made.segments.texts[code] for code in events.segment.tolist()] == ["größe", "größe", "\\u0000"]


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        (TIME, T0),
        ("2026-11-21T15:15:00.123+05:45", T0),
        (T0, T0),
        (T0 + 0.9, T0),
        (T0 / 1, T0),
        (EARLIEST_EVENT, EARLIEST_EVENT),
    ],
)
def test_times_of_all_zones_are_one_time(time: object, ms: int) -> None:
    """Text with any offset, or milliseconds since the epoch."""
    events, _ = decode(a_prediction(time=time))

    assert events.time.tolist() == [ms]


def test_minus_zero_is_zero() -> None:
    """JSON can write it as an integer and as a float."""
    events, refused = decode(a_prediction(prediction=Verbatim("-0")), a_prediction(prediction=-0.0))

    assert not refused
    assert events.value.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [2**53, -(2**53), 1e300, -1e300, 5e-324])
def test_large_floats_and_integers_up_to_2_to_the_53rd_are_numbers(value: float) -> None:
    """A float beyond 2^53 claims no exactness; an integer up to there has it."""
    events, refused = decode(a_prediction(prediction=value, metrics={"m": value}, features={"load": value}))

    assert not refused
    assert events.value.tolist() == [float(value)]
    assert events.metrics[0] == {"m": value}


def test_a_very_large_metric_is_summed_without_a_warning() -> None:
    """Squares of 1e300 are infinite, which is no reason to lose the event."""
    events, refused = decode(an_outcome(metrics={"revenue": 1e308}))

    assert not refused
    assert events.metrics[0] == {"revenue": 1e308}


# -- time ------------------------------------------------------------------------------------------------


def test_an_event_may_be_as_far_ahead_of_its_record_as_configured() -> None:
    """One millisecond further is a dead letter that names both times."""
    made = decoder()
    stamp = T0 - 1_000
    values = [raw(a_prediction(time=stamp + SPEC.max_future + ahead)) for ahead in (0, 1)]

    events, refused = made.decode(batch_of(values, [stamp, stamp]), WALL)[:2]

    assert events.row.tolist() == [0]
    assert refused[0].reason is Refusal.TIME_IN_FUTURE
    assert "2026-11-21T09:29:59.123Z" in refused[0].detail
    assert str(stamp + SPEC.max_future + 1) in refused[0].detail


def test_a_record_that_claims_to_be_of_the_future_proves_nothing() -> None:
    """Its timestamp is not believed beyond the clock on the wall."""
    values = [raw(a_prediction(time="3000-01-01T00:00:00Z"))]

    _, refused = decoder().decode(batch_of(values, [32_503_680_000_000]), WALL)[:2]

    assert [r.reason for r in refused] == [Refusal.TIME_IN_FUTURE]


@pytest.mark.parametrize("event", [a_prediction, an_outcome, resources])
def test_an_event_may_be_as_much_older_than_its_record_as_configured(event: Callable[..., dict[str, Any]]) -> None:
    """One millisecond more is a dead letter that names both times."""
    made = decoder(replace(SPEC, max_past=1_000))
    stamp = T0 + 500
    values = [raw(event(time=stamp - 1_000 - behind)) for behind in (0, 1)]

    events, refused = made.decode(batch_of(values, [stamp, stamp]), WALL)[:2]

    assert events.row.tolist() == [0]
    assert [r.reason for r in refused] == [Refusal.TIME_IN_PAST]
    assert refused[0].detail == f"time: {stamp - 1_001}: too far in the past, the record is of 2026-11-21T09:30:00.623Z"


@pytest.mark.parametrize(("max_past", "stamp"), [(None, T0), (1_000, -1)])
def test_an_event_of_any_age_is_accepted_without_a_bound_or_a_timestamp(max_past: int | None, stamp: int) -> None:
    """Files keep no timestamps, and old events are what a replay is made of."""
    made = decoder(replace(SPEC, max_past=max_past))
    events, refused = made.decode(batch_of([raw(a_prediction(time="1970-03-01T00:00:00Z"))], [stamp]), WALL)[:2]

    assert (len(events), refused) == (1, [])


def test_the_age_of_an_event_does_not_depend_on_the_clock_on_the_wall() -> None:
    """What a daemon refused, a replay refuses ten years later, whatever the timestamp claims."""
    made = decoder(replace(SPEC, max_past=1_000))
    batch = batch_of([raw(a_prediction()), raw(a_prediction())], [T0 + 2_000, (1 << 62)])
    for wall in (T0 - 60_000, T0, 2 * T0):
        assert [r.reason for r in made.decode(batch, wall)[1]] == [Refusal.TIME_IN_PAST] * 2


def test_epoch_seconds_are_refused_whatever_else_is_in_the_batch() -> None:
    """As are all times before March 1970; the first moment of March is a time."""
    first = EARLIEST_EVENT
    values = [raw(a_prediction(time=time)) for time in (T0, T0 // 1_000, first, first - 1, T0 / 1_000)]

    events, refused = decoder().decode(batch_of(values), WALL)[:2]

    assert events.time.tolist() == [T0, first]
    assert [(r.row, r.reason, r.detail.partition("Z")[2]) for r in refused] == [
        (1, Refusal.BAD_TIME, ": seconds?"), (3, Refusal.BAD_TIME, ": seconds?"), (4, Refusal.BAD_TIME, ": seconds?"),
    ]  # fmt: skip


# -- models and versions ---------------------------------------------------------------------------------


def test_an_event_of_an_unknown_model_is_refused_by_name() -> None:
    """With an unreadable time as well, it is refused for that, and nothing breaks."""
    _, refused = decode(a_prediction(model="nobody"), a_prediction(model="nobody", time="yesterday"))

    assert [r.reason for r in refused] == [Refusal.UNKNOWN_MODEL, Refusal.BAD_TIME]
    assert "'nobody'" in refused[0].detail


def test_unknown_versions_are_told_apart_up_to_the_limit_and_share_one_name_beyond() -> None:
    """The limit of these tests is four; the fallback levels do not count."""
    made = decoder()
    wanted = ["v1", "v2", "v3", "rules", "v4", "v5", "v6", "ensemble", "v2", OTHER]

    events, refused = decode(*(a_prediction(version=v) for v in wanted), using=made)

    assert not refused
    seen = [made._variants.table[code].version for code in events.variant.tolist()]
    assert seen == ["v1", "v2", "v3", "rules", "v4", OTHER, OTHER, "ensemble", "v2", OTHER]


def test_an_outcome_waits_under_its_model() -> None:
    """It says nothing of versions."""
    made = decoder()
    events, _ = decode(an_outcome(model="fuel", actual="gas"), using=made)

    assert made._variants.table[int(events.variant[0])].version is None
    assert events.model.tolist() == [3]


def test_resources_are_columns_with_gaps() -> None:
    """What a report leaves out, or gives as null, is NaN."""
    events, refused = decode(resources(cpu_percent=63, gpu_percent=None))

    assert not refused
    assert events.resources[0, :2].tolist() == [812.0, 63.0]
    assert math.isnan(events.resources[0, 2])


def test_the_same_request_has_the_same_id_in_all_events_and_another_in_another_model() -> None:
    """The join meets answers and outcomes by it."""
    events, _ = decode(
        a_prediction(), an_outcome(), a_prediction(model="churn", prediction=1), a_prediction(request_id="r2")
    )

    lo = events.lo.tolist()
    assert lo[0] == lo[1]
    assert len(set(lo)) == 3


# -- answers ---------------------------------------------------------------------------------------------


def answers(*events: dict[str, Any]) -> tuple[EventDecoder, list[Any], list[float]]:
    made = decoder()
    columns, refused = decode(*events, using=made)
    assert not refused
    return made, columns.value.tolist(), columns.score.tolist()


@pytest.mark.parametrize("label", [1, 1.0, "1", True, "true", "True", "yes", "YES"])
def test_all_ways_to_say_yes_are_positive(label: object) -> None:
    """Labels are compared as text, and a boolean has one text in any spelling."""
    _, values, scores = answers(a_prediction(model="churn", prediction=label), an_outcome(model="churn", actual=label))

    assert values == [POSITIVE, POSITIVE]
    assert np.isnan(scores).all() or scores[0] == DOUBTFUL + 1  # a number may be a probability too


@pytest.mark.parametrize("label", [0, 0.0, "0", False, "false", "no", "No"])
def test_all_ways_to_say_no_are_negative(label: object) -> None:
    _, values, _ = answers(a_prediction(model="churn", prediction=label), an_outcome(model="churn", actual=label))

    assert values == [NEGATIVE, NEGATIVE]


def test_a_binary_prediction_between_0_and_1_is_a_probability_and_no_label() -> None:
    """It becomes a label at the threshold, and takes no place among the labels."""
    made, values, scores = answers(
        a_prediction(model="churn", prediction=0.5), a_prediction(model="churn", prediction=0.49),
        a_prediction(model="spam", prediction=0.79), a_prediction(model="spam", prediction=0.8),
    )  # fmt: skip

    assert values == [POSITIVE, NEGATIVE, NEGATIVE, POSITIVE]
    assert scores == [0.5, 0.49, 0.79, 0.8]
    assert not made.labels[1].codes.texts
    assert not made.labels[2].codes.texts


def test_with_a_positive_class_every_other_label_is_negative() -> None:
    """So a low probability agrees with an outcome that names the other class, or that says 0."""
    _, values, _ = answers(
        a_prediction(model="spam", prediction=0.1), an_outcome(model="spam", actual="ham"),
        an_outcome(model="spam", actual=0), an_outcome(model="spam", actual="spam"), an_outcome(model="spam", actual=1),
    )  # fmt: skip

    assert values == [NEGATIVE, NEGATIVE, NEGATIVE, POSITIVE, NEGATIVE]


def test_the_score_of_a_binary_answer_is_that_of_the_positive_class() -> None:
    """Where the scores do not name it, it is what the negative class leaves of 1."""
    _, _, scores = answers(
        a_prediction(model="churn", prediction="no", scores={"no": 0.7, "yes": 0.3}),
        a_prediction(model="churn", prediction="no", scores={"no": 0.7, "True": 0.3}),
        a_prediction(model="churn", prediction="no", scores={"no": 0.7}),
        a_prediction(model="churn", prediction=0.4, scores={"no": 0.6}),
        a_prediction(model="churn", prediction=0.4, scores={"1": 1}),
        a_prediction(model="spam", prediction="ham", scores={"1": 0.9, "spam": 0.2}),
        a_prediction(model="churn", prediction="no", scores={}),
    )

    assert scores[:2] == [0.3, 0.3]
    assert scores[2:4] == pytest.approx([0.3, 0.4])
    assert scores[4:6] == [1.0, 0.2]
    assert math.isnan(scores[6])


def test_the_score_of_a_multiclass_answer_is_that_of_the_predicted_class() -> None:
    """`1`, `"1"` and a class key `"1"` agree; classes that were only scored take no place among the labels."""
    made, values, scores = answers(
        a_prediction(model="fuel", prediction="gas", scores={"oil": 0.2, "gas": 0.5, "wood": 0.3}),
        a_prediction(model="fuel", prediction=1, scores={"0": 0.4, "1": 0.6}),
        a_prediction(model="fuel", prediction="gas", scores={"oil": 1}),
        a_prediction(model="fuel", prediction=None, error="E", scores={"oil": 1}),
    )

    assert scores[:2] == [0.5, 0.6]
    assert np.isnan(scores[2:]).all()
    assert [made.labels[3].text(LabelCode(int(v))) for v in values[:3]] == ["gas", "1", "gas"]
    assert len(made.labels[3].codes.texts) == 2


def test_the_score_of_a_class_beyond_the_limit_is_its_own() -> None:
    """Classes that share a code do not share their probabilities."""
    texts = [f"c{i}" for i in range(LIMITS.labels + 2)]
    _, _, scores = answers(
        *(a_prediction(model="fuel", prediction=text) for text in texts),
        a_prediction(model="fuel", prediction=texts[-1], scores={texts[-2]: 0.9, texts[-1]: 0.1}),
    )

    assert scores[-1] == 0.1


@pytest.mark.parametrize("value", ["0.5", True, "x"])
def test_a_regression_refuses_what_is_no_number(value: object) -> None:
    """Of prediction and actual value alike, and also where the answer failed."""
    _, refused = decode(
        a_prediction(prediction=value), an_outcome(actual=value), a_prediction(prediction=value, error="E")
    )

    assert [r.reason for r in refused] == [Refusal.WRONG_TYPE] * 3
    assert all(repr(value) in r.detail for r in refused)


@pytest.mark.parametrize(
    ("fields", "contaminated"),
    [
        ({}, False),
        ({"assigned": "v1"}, False),
        ({"assigned": None}, False),
        ({"assigned": ""}, False),
        ({"assigned": "v2"}, True),
        ({"assigned": "v2", "served_by": "previous"}, False),
    ],
)
def test_an_answer_by_another_version_than_assigned_is_contaminated(fields: dict[str, Any], contaminated: bool) -> None:
    """Unless a fallback level answered; and whatever else is in the batch."""
    events, _ = decode(a_prediction(**fields), a_prediction(assigned="v9"))

    assert events.contaminated.tolist() == [contaminated, True]


# -- features --------------------------------------------------------------------------------------------


def compared_with(*events: dict[str, Any], names: tuple[str, ...] = PLAIN) -> FeatureColumns:
    accepted, refused = decode(*events)
    assert not refused
    return reader(names).read(accepted.features[0])


def test_features_with_names_that_cannot_be_fields_are_compared_like_others() -> None:
    """Quotes, backslashes and control characters are allowed in the name of a column."""
    columns = compared_with(a_prediction(features={"load": 0.25, 'a "quoted" one': 0.75}), names=AWKWARD)

    assert columns.numbers.tolist() == [[0.25, 0.75]]


def test_a_value_of_another_type_than_the_reference_is_missing_and_told() -> None:
    """A prediction is not worth losing for it."""
    columns = compared_with(
        a_prediction(features={"load": "0.5"}),
        a_prediction(features={"load": True}),
        a_prediction(features={"load": 1}),
    )

    assert np.isnan(columns.numbers[:2, 0]).all()
    assert columns.numbers[2, 0] == 1.0
    assert columns.mistyped == 2


def test_a_value_of_another_type_is_told_once_though_the_batch_is_looked_at_again() -> None:
    """A refused record beside it makes the decoder begin anew."""
    events, _ = decode(
        a_prediction(features={"load": "x"}),
        a_prediction(features={"load": [1]}),
        a_prediction(prediction="x"),
    )

    assert reader().read(events.features[0]).mistyped == 1


@pytest.mark.parametrize(
    ("value", "cell"),
    [("7", 0), (7, 0), (7.0, 0), ("gas", 1), (True, 3), ("True", 3), (None, -1), ("wood", 5), (8.5, 5), (2**53, 5)],
)
def test_categories_are_compared_as_texts(value: object, cell: int) -> None:
    """The levels of the reference are 7, gas, oil and true; what it never had has the last cell."""
    columns = compared_with(a_prediction(features={"kind": value}))

    assert columns.codes[0].tolist() == [cell]


@pytest.mark.parametrize("value", [[1], {"a": 1}, Verbatim("1e999"), 2**53 + 1, -(10**400)])
@pytest.mark.parametrize("name", ["load", "kind", "z", "note"])
def test_only_features_that_the_configuration_ignores_may_be_anything(name: str, value: object) -> None:
    """The others are missing where they are no scalars within bounds, whether a reference has them or not."""
    events, refused = decode(a_prediction(features={name: value}))

    assert not refused
    assert (events.faults[0] is not None) == (name != "note")


def test_as_many_features_as_the_limit_allows() -> None:
    """One more is a dead letter that says how many."""
    fits, too_many = ({str(i): i for i in range(n)} for n in (LIMITS.features, LIMITS.features + 1))

    _, refused = decode(a_prediction(features=fits), a_prediction(features=too_many))

    assert [(r.row, r.reason) for r in refused] == [(1, Refusal.TOO_MANY_FEATURES)]
    assert refused[0].detail == "features: 7 of them, at most 6"


def test_the_features_of_each_model_are_its_own() -> None:
    """`feature_row` points into the rows of the event's model."""
    events, _ = decode(
        a_prediction(features={"load": 0.1}), a_prediction(model="fuel", prediction="x", features={"load": 0.2}),
        an_outcome(), a_prediction(features={"load": 0.3}),
    )  # fmt: skip

    assert events.feature_row.tolist() == [0, 0, -1, 1]
    assert reader().read(events.features[0]).numbers[:, 0].tolist() == [0.1, 0.3]
    assert len(events.features[3]) == 1


def test_taking_rows_of_events_keeps_their_features() -> None:
    """Some events of a batch, as the pipeline picks them."""
    events, _ = decode(*(a_prediction(features={"load": x / 10}) for x in range(5)))

    some = events.take(np.array([4, 1]))
    rows = some.features[0].take(some.feature_row)

    assert some.row.tolist() == [4, 1]
    assert reader().read(rows).numbers[:, 0].tolist() == [0.4, 0.1]


def test_an_empty_batch_has_no_events() -> None:
    """A poll without records lets time pass and asks for nothing."""
    events, refused = decode()

    assert len(events) == 0
    assert not refused


def test_segments_beyond_the_limit_share_one() -> None:
    """The limit of these tests is three, the empty one among them."""
    made = decoder()
    events, _ = decode(*(a_prediction(segment=value) for value in ("eu", "us", "asia", "africa", "eu")), using=made)

    assert [made.segments.texts[code] for code in events.segment.tolist()] == ["eu", "us", OTHER, OTHER, "eu"]
