"""The history as it is stored and read: statistics with their verdicts, windows by what they are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from detectors.findings import Value, Verdict
from detectors.significance import KolmogorovLaw
from monitor.evaluation.history import HistoryRow
from monitor.store import tables as t
from monitor.store.history import HistoryValue, history
from monitor.store.history_rows import HistoryWriter, decoded, encoded
from monitor.times import parse_time
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Event,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    counted,
    from_file,
    prediction,
    records_of,
    timed,
)

NUMBER = st.floats(allow_nan=False)
P_VALUES = st.none() | NUMBER | st.builds(KolmogorovLaw, NUMBER, NUMBER)


def a_row(end: int = T0, window: str = "15m", tests: tuple[Value, ...] = (), **more: Any) -> HistoryRow:
    """A window of ten answers with what was tested."""
    names = (("", "predictions"), *((v.feature, v.statistic) for v in tests))
    values, events = (10.0, *(v.value for v in tests)), (10, *(v.events for v in tests))
    its = {"threshold": 1e-6} | more
    return HistoryRow("v1", False, end - MINUTE, end, names, values, events, None, window=window, tests=tests, **its)


def told(engine: Engine, *rows: HistoryRow, **wanted: Any) -> list[HistoryValue]:
    with engine.begin() as c:
        HistoryWriter().write(c, "m", rows)
    return list(history(engine, "m", **wanted))


class Stored:
    """A row of the table, of which only the body is read."""

    def __init__(self, body: bytes) -> None:
        self.body = body


@given(
    st.lists(
        st.builds(
            Value,
            feature=st.text(min_size=1),
            statistic=st.sampled_from(("ks", "psi")),
            value=NUMBER,
            events=st.integers(0, 2**60),
            effect=NUMBER,
            verdict=st.sampled_from(Verdict),
            p_value=P_VALUES,
            alpha=st.none() | NUMBER,
        ),
        max_size=4,
    ),
    st.text(max_size=20),
    st.sampled_from((None, False, True)),
)
def test_what_is_stored_of_a_window_is_read_back(tests: list[Value], window: str, reading: bool | None) -> None:
    row = a_row(window=window, tests=tuple(tests), probabilities=reading)

    found: Any = decoded(Stored(encoded(row)), row.names)  # type: ignore[arg-type]

    assert [value.test for value in found.values] == [None, *tests]
    assert (found.window, found.threshold) == (window, 1e-6)
    assert found.answers == {None: None, False: "label", True: "probability"}[reading]


@pytest.mark.parametrize(("tail", "answers"), [(b"", None), (b"\0", "label"), (b"\1", "probability")])
def test_a_window_of_an_earlier_release_is_read_and_its_verdict_is_unknown(
    engine: Engine, tail: bytes, answers: str | None
) -> None:
    row = a_row(tests=(Value("x", "ks", 0.25, 10, 0.25),))
    told(engine, row)
    with engine.begin() as c:
        body = np.array([10.0, 0.25], "<f8").tobytes() + np.array([10, 10], "<i8").tobytes() + tail
        c.execute(sa.update(t.history).values(body=body))

    metric, ks = history(engine, "m", window="another")

    assert (ks.value, ks.statistic, ks.effect, ks.p_value, ks.verdict, ks.window) == (
        0.25, "ks", None, None, "unknown", None,
    )  # fmt: skip
    assert (metric.value, metric.verdict, metric.answers) == (10.0, None, answers)


def test_windows_of_another_extent_are_left_out_and_named(engine: Engine) -> None:
    rows = [a_row(T0 + i * SECOND, "5m" if i in (1, 3) else "15m") for i in range(4)]
    left_out: set[str] = set()

    configured = told(engine, *rows, window="15m", left_out=left_out)
    latest = list(history(engine, "m", window="15m", last=1))
    every = list(history(engine, "m", last=3))

    assert [(v.end - T0, v.window) for v in configured] == [(0, "15m"), (2 * SECOND, "15m")]
    assert left_out == {"5m"}
    assert latest == configured[-1:]
    assert [v.end - T0 for v in every] == [SECOND, 2 * SECOND, 3 * SECOND]


def events(count: int, shift: float = 0.0) -> list[Event]:
    rng = np.random.default_rng(5)
    return [
        prediction(f"r{i}", T0 + i * SECOND, 1.0, features={"x": float(x) + shift})
        for i, x in enumerate(rng.normal(size=count))
    ]


PROFILE = {"m": a_profile([{"x": float(x), "y": float(x)} for x in np.random.default_rng(6).normal(size=1_000)])}


def stored(engine: Engine, its: list[Event], **parts: Any) -> tuple[StoredRun, list[HistoryValue]]:
    model = a_model(window=counted(200, 50), drift=a_drift(events=1_000_000), reference=from_file())
    run = StoredRun(a_core(replace(model, **parts)), profiles=PROFILE, engine=engine)
    run.feed(records_of(its))
    run.finish()
    return run, list(history(engine, "m"))


def test_a_feature_that_drifts_has_the_figures_of_its_alert(engine: Engine) -> None:
    run, values = stored(engine, events(400, 1.0))

    record = next(r for r in run.told().alerts("drift") if r["status"] == "firing")
    (feature,) = record["features"]
    end = parse_time(record["window"]["end"])
    (its,) = [v for v in values if (v.feature, v.metric, v.end) == ("x", feature["statistic"], end)]
    assert (its.value, its.effect, its.threshold, its.p_value) == (
        feature["value"], feature["effect"], feature["threshold"], feature["p_value"],
    )  # fmt: skip
    assert (its.statistic, its.verdict, its.window) == (feature["statistic"], "drift", "200 events")


def test_a_feature_that_never_came_says_so_in_each_of_its_statistics(engine: Engine) -> None:
    _, values = stored(engine, events(400))

    never = {(v.metric, v.value, v.verdict) for v in values if v.feature == "y"}
    assert never == {(name, None, "never_came") for name in ("missing_rate", "ks", "wasserstein")}
    assert {v.verdict for v in values if v.feature == "x"} == {"ok", "chance"}


def test_a_window_that_holds_too_few_events_says_so_of_every_feature(engine: Engine) -> None:
    _, values = stored(engine, events(400), window=timed(MINUTE, MINUTE, min_events=1_000))

    said = {(v.feature, v.value, v.verdict) for v in values if v.feature in ("x", "y")}
    assert said == {("x", None, "too_few"), ("y", None, "too_few")}
