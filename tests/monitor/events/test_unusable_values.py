"""A value that an event can do without and that cannot be used is missing, and told; the event counts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from monitor.events.columns import Events
from monitor.events.refusals import Aside, FieldFault, Refusal, SetAside
from tests.monitor.events.decoding import (
    SPEC,
    T0,
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
from tests.monitor.kit import T0 as START
from tests.monitor.kit import Event, Run, a_core, a_model
from tests.monitor.kit import prediction as kit_prediction

LONG_IDS = replace(SPEC, limits=replace(SPEC.limits, id_length=20))

R = Refusal
HUGE = 10**400

UNUSABLE: list[tuple[dict[str, object], str, Refusal]] = [
    (a_prediction(features=Verbatim("[" * 200 + "]" * 200)), "features", R.TOO_DEEP),
    (a_prediction(features={"load": Verbatim("1e999")}), "features.load", R.NOT_FINITE),
    (a_prediction(metrics={"cost": Verbatim("1e999")}), "metrics.cost", R.NOT_FINITE),
    (resources(cpu_percent=Verbatim("1e999")), "cpu_percent", R.NOT_FINITE),
    (a_prediction(latency_ms=2**53 + 1), "latency_ms", R.INTEGER_TOO_LARGE),
    (a_prediction(features={"load": 2**53 + 1}), "features.load", R.INTEGER_TOO_LARGE),
    (a_prediction(features={"kind": HUGE}), "features.kind", R.INTEGER_TOO_LARGE),
    (a_prediction(metrics={"cost": 2**53 + 1}), "metrics.cost", R.INTEGER_TOO_LARGE),
    (a_prediction(batch={"size": 2**60, "ms": 1}), "batch.size", R.INTEGER_TOO_LARGE),
    (resources(memory_mb=2**60), "memory_mb", R.INTEGER_TOO_LARGE),
    (a_prediction(features={"kind": "\udfff"}), "features.kind", R.BAD_TEXT),
    (a_prediction(segment="e\0u"), "segment", R.BAD_TEXT),
    (a_prediction(features={"a\0": 1}), "features", R.BAD_TEXT),
    (a_prediction(features={"kind": "\0"}), "features.kind", R.BAD_TEXT),
    (a_prediction(scores={"\0": 1}), "scores", R.BAD_TEXT),
    (a_prediction(segment="x" * 17), "segment", R.ID_TOO_LONG),
    (a_prediction(scores=[0.1]), "scores", R.WRONG_TYPE),
    (a_prediction(scores={"yes": "0.1"}), "scores.yes", R.WRONG_TYPE),
    (a_prediction(scores={"yes": True}), "scores.yes", R.WRONG_TYPE),
    (a_prediction(scores={"yes": 1.1}), "scores.yes", R.BAD_VALUE),
    (a_prediction(scores={"yes": -0.1}), "scores.yes", R.BAD_VALUE),
    (a_prediction(latency_ms="5"), "latency_ms", R.WRONG_TYPE),
    (a_prediction(latency_ms=False), "latency_ms", R.WRONG_TYPE),
    (a_prediction(latency_ms=-0.1), "latency_ms", R.BAD_VALUE),
    (a_prediction(latency_ms=1e300), "latency_ms", R.BAD_VALUE),
    (a_prediction(metrics=[1]), "metrics", R.WRONG_TYPE),
    (a_prediction(metrics={"cost": "1"}), "metrics.cost", R.WRONG_TYPE),
    (a_prediction(metrics={"cost": True}), "metrics.cost", R.WRONG_TYPE),
    (a_prediction(metrics={"cost": {}}), "metrics.cost", R.WRONG_TYPE),
    (a_prediction(batch=32), "batch", R.WRONG_TYPE),
    (a_prediction(batch={"size": 1}), "batch.ms", R.MISSING_FIELD),
    (a_prediction(batch={"size": None, "ms": 1}), "batch.size", R.MISSING_FIELD),
    (a_prediction(batch={"size": "1", "ms": 1}), "batch.size", R.WRONG_TYPE),
    (a_prediction(batch={"size": 1, "ms": -1}), "batch.ms", R.BAD_VALUE),
    (a_prediction(features=[]), "features", R.WRONG_TYPE),
    (a_prediction(features="none"), "features", R.WRONG_TYPE),
    (a_prediction(features={"load": [1]}), "features.load", R.WRONG_TYPE),
    (a_prediction(features={"kind": {"a": 1}}), "features.kind", R.WRONG_TYPE),
    (an_outcome(metrics="none"), "metrics", R.WRONG_TYPE),
    (an_outcome(metrics={"revenue": [1]}), "metrics.revenue", R.WRONG_TYPE),
    (resources(memory_mb="812"), "memory_mb", R.WRONG_TYPE),
    (resources(cpu_percent=True), "cpu_percent", R.WRONG_TYPE),
    (resources(gpu_percent=-1), "gpu_percent", R.BAD_VALUE),
]

FINE: list[object] = [
    a_prediction(scores={"yes": None}),
    a_prediction(unknown={"\ud800": 1}),
    a_prediction(unknown={"deep": ["\0"]}),
    a_prediction(**{"\0": 1}),
    a_prediction(features={"note": ["\0"]}),
    a_prediction(batch=Verbatim('{"size": "x", "size": 1, "ms": 1}')),
    raw(a_prediction()).replace(b'"version": "v1"', b'"version": 5, "version": "v1"'),
    a_prediction(assigned_by="override", assigned="v1"),
    a_prediction(assigned_by=None, synthetic=None),
]


def prediction(i: int, **fields: object) -> Event:
    """The i-th of some predictions, one a second."""
    return {**kit_prediction(f"r{i}", START + i * 1_000), **fields}


def faults(events: Events) -> list[tuple[FieldFault, ...] | None]:
    return list(events.faults)


@pytest.mark.parametrize(("event", "path", "reason"), UNUSABLE)
def test_a_value_that_cannot_be_used_is_missing_and_told(event: dict[str, object], path: str, reason: Refusal) -> None:
    """Alone or between others, which lose nothing."""
    alone, refused = decode(event)
    among, _ = decode(a_prediction(), event, a_prediction(request_id="r2"))

    assert not refused
    assert faults(alone) == [(FieldFault(path, reason),)]
    assert faults(among) == [None, (FieldFault(path, reason),), None]


@pytest.mark.parametrize("event", FINE)
def test_what_nobody_looks_at_costs_nothing(event: object) -> None:
    """JSON that is ignored, a null, the first of two equal names: there is nothing to tell."""
    events, refused = decode(event)

    assert not refused
    assert faults(events) == [None]


def test_what_an_event_can_do_without_is_missing_and_the_rest_of_it_is_there() -> None:
    """Each part by itself: the other features, metrics and scores are read."""
    events, _ = decode(
        a_prediction(
            latency_ms=-0.4, segment=3, batch={"size": -1, "ms": 2}, metrics={"cost": "1", "gain": 2},
            features={"load": [0.7], "flow": 0.5},
        ),
        a_prediction(model="fuel", prediction="gas", scores={"gas": 0.5, "oil": "x"}),
    )  # fmt: skip

    assert np.isnan([events.latency[0], events.batch_size[0], events.batch_ms[0]]).all()
    assert events.segment[0] == 0
    assert events.metrics[0] == {"cost": None, "gain": 2}
    assert reader().read(events.features[0]).numbers[0, :2].tolist() == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert events.score[1] == 0.5


@pytest.mark.parametrize(
    ("given", "read"),
    [(1.0000001192092896, 1.0), (-1e-7, 0.0), (1 + 1e-6, 1.0), (1 + 2e-6, np.nan), (-2e-6, np.nan)],
)
def test_a_probability_a_rounding_beyond_its_bounds_is_clamped(given: float, read: float) -> None:
    """As a float32 softmax writes it. One further away is no probability."""
    events, refused = decode(a_prediction(model="churn", prediction=True, scores={"1": given}))

    assert not refused
    assert events.score.tolist() == pytest.approx([read], nan_ok=True)
    assert (faults(events)[0] is None) == (read == read)


@pytest.mark.parametrize(
    ("model", "scores", "read"),
    [
        ("churn", {"no": 0.9}, 0.1),
        ("churn", {"0": 0.25}, 0.75),
        ("churn", {"False": 1.0}, 0.0),
        ("spam", {"ham": 0.2}, 0.8),
        ("spam", {"ham": 0.5, "eggs": 0.3}, 0.2),  # whatever is not the configured class is the other one
        ("churn", {"no": 0.9, "yes": 0.3}, 0.3),  # as it is given, where it is given
        ("spam", {"ham": 0.7, "eggs": 0.7}, float("nan")),
        ("churn", {"ham": 0.9}, float("nan")),  # neither class
        ("churn", {"no": 0.9, "maybe": 0.05}, float("nan")),  # what is left is not all of yes
    ],
)
def test_the_negative_class_says_how_likely_the_positive_one_is(
    model: str, scores: dict[str, float], read: float
) -> None:
    """A producer may write the probability of one class only."""
    events, refused = decode(a_prediction(model=model, prediction=False, scores=scores))

    assert not refused
    assert events.score.tolist() == pytest.approx([read], nan_ok=True)
    assert events.probability.tolist() == pytest.approx([read], nan_ok=True)


@pytest.mark.parametrize("number", [17, 2**53 + 1, 1234567890123456789, 2**63, 2**64 - 1, -5, -(2**63)])
def test_an_integer_request_id_is_the_same_as_its_digits(number: int) -> None:
    """Predictions with one and outcomes with the other are joined, whatever 64 bits hold."""
    events, refused = decode(
        a_prediction(request_id=number), an_outcome(request_id=str(number)), a_prediction(request_id=number ^ 1),
        using=decoder(LONG_IDS),
    )  # fmt: skip

    assert not refused
    assert events.lo[0] == events.lo[1] != events.lo[2]
    assert events.hi[0] == events.hi[1]


def test_a_large_integer_request_id_stays_beside_a_value_that_cannot_be_used() -> None:
    """The record is mended, and its id is not rounded."""
    events, refused = decode(
        a_prediction(request_id=2**64 - 1, latency_ms=-1),
        an_outcome(request_id=str(2**64 - 1)),
        using=decoder(LONG_IDS),
    )

    assert not refused
    assert events.lo[0] == events.lo[1]
    assert faults(events)[0] is not None


def test_an_answer_of_the_champion_for_a_challenger_is_a_fallback() -> None:
    """It is counted as served by the champion, and is not contaminated."""
    events, refused = decode(a_prediction(served_by="champion", assigned="v2"))
    run = Run(a_core(a_model()))
    run.events(*(prediction(i, served_by="champion", assigned="v2") for i in range(200)))

    assert not refused
    assert events.contaminated.tolist() == [False]
    assert run.pipeline.status()["models"]["m"]["versions"]["v1"]["served_by"]["champion"] > 0


# -- what counts nowhere ---------------------------------------------------------------------------------


def test_a_synthetic_event_counts_nowhere() -> None:
    """Nor does it give a code to a version, or move time."""
    made = decoder()
    values = map(raw, (a_prediction(synthetic=True, version="probe"), an_outcome(synthetic=True), a_prediction()))

    decoded = made.decode(batch_of(list(values)), WALL)

    assert decoded.events.row.tolist() == [2]
    assert decoded.aside == [SetAside(0, Aside.SYNTHETIC, "heat"), SetAside(1, Aside.SYNTHETIC, "heat")]
    assert "probe" not in {variant.version for variant in made._variants.table}


def test_a_synthetic_event_is_refused_like_any_other() -> None:
    """It has to make sense."""
    _, refused = decode(a_prediction(synthetic=True, prediction="x"), a_prediction(synthetic=True, time="soon"))

    assert [r.reason for r in refused] == [R.WRONG_TYPE, R.BAD_TIME]


def test_synthetic_events_are_counted_and_in_no_window() -> None:
    """The model has the predictions that were real."""
    run = Run(a_core(a_model()))
    run.events(*(prediction(i, synthetic=i % 2 == 0) for i in range(10)))
    status = run.pipeline.status()

    assert (status["events"]["predictions"], status["events"]["synthetic"]) == (5, 5)
    assert status["models"]["m"]["versions"]["v1"]["predictions"] == 5


# -- what is counted -------------------------------------------------------------------------------------


def test_unusable_values_are_counted_by_model_field_and_reason() -> None:
    """However the stream is cut into batches."""
    events = [prediction(i, latency_ms=-1.0, features={"load": [i]} if i % 2 else {"load": 1.0}) for i in range(10)]
    for size in (1, 3, 10):
        run = Run(a_core(a_model()))
        for start in range(0, 10, size):
            run.events(*events[start : start + size])
        assert run.pipeline.status()["unusable"] == {
            "m": {"features.load": {"wrong_type": 5}, "latency_ms": {"bad_value": 10}}
        }


def test_the_names_of_unusable_values_are_bounded() -> None:
    """A stream may invent any number of them; what is beyond is counted under the field."""
    run = Run(a_core(a_model()))
    run.events(*(prediction(i, features={f"item_{i}": [1]}) for i in range(200)))
    fields = run.pipeline.status()["unusable"]["m"]

    assert len(fields) <= 51
    assert sum(reasons["wrong_type"] for reasons in fields.values()) == 200
    assert fields["features"]["wrong_type"] == 150


def test_events_of_models_that_are_not_configured_are_counted_by_name() -> None:
    """They are no dead letters, whatever else is wrong with them, and their names are bounded."""
    run = Run(a_core(a_model()))
    odd: list[dict[str, object]] = [{}, {"time": "soon"}, {"version": 3}]
    strange = [prediction(i, model="new_model", **given) for i, given in enumerate(odd)]
    run.events(*strange, prediction(3), *(prediction(i, model=f"m{i}") for i in range(4, 104)))
    events = run.pipeline.status()["events"]

    assert (events["read"], events["predictions"], events["dead_letters"]) == (104, 1, 0)
    assert events["ignored"]["new_model"] == 3
    assert events["ignored"]["__other__"] == 51
    assert sum(events["ignored"].values()) == 103


def test_events_of_models_that_are_not_configured_are_refused_where_that_is_configured() -> None:
    """Then a misspelt name is a dead letter."""
    _, refused = decode(a_prediction(model="nobody"))  # these tests are configured so

    assert [r.reason for r in refused] == [R.UNKNOWN_MODEL]


def test_what_is_not_json_is_refused_wherever_it_stands() -> None:
    """A token such as NaN in a field that may be missing, or that nobody looks at; and in the first of two names."""
    first = raw(a_prediction()).replace(b'"version"', b'"latency_ms": NaN, "latency_ms": 1, "version"')
    _, refused = decode(a_prediction(latency_ms=Verbatim("NaN")), a_prediction(x=[Verbatim("-Infinity")]), first)

    assert [r.reason for r in refused] == [R.NOT_FINITE] * 3


def test_a_text_that_says_nan_is_a_text() -> None:
    """Also beside a value that cannot be used."""
    events, refused = decode(a_prediction(segment="NaN", latency_ms=-1, unknown={"deep": [json.dumps([T0])]}))

    assert not refused
    assert len(events) == 1
