"""A rolling reference follows what changes slowly, and learns nothing that an alarm may yet be raised for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from detectors.reference import NumericReference
from detectors.types import FloatArray
from fallback.types import ServingSpec
from monitor.alerting.records import AlertRecord
from monitor.cli.explain import explanation_of
from monitor.pipeline.commands import CommandName
from monitor.pipeline.shown import renewal_words
from monitor.reference.provenance import Origin, OriginKind, ReferenceRecord
from monitor.reference.subjects import FEATURES, answers_of
from monitor.spec import ModelSpec, ReferenceSpec
from monitor.store.engine import connect
from monitor.times import format_time
from tests.monitor.kit import (
    HOUR,
    SECOND,
    SMALL,
    T0,
    Event,
    Record,
    Run,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    from_file,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

PANE, PER_PANE = 60 * SECOND, 30
SPAN = 3 * PANE
LENGTH = 60 * PANE
STEP = 2 * PANE
START = -(-T0 // STEP) * STEP  # where a step begins
MODEL = a_model(
    window=timed(PANE, SPAN, longest=2 * SPAN, min_events=50),
    reference=ReferenceSpec(None, 300, 64, rolling=LENGTH),
    drift=a_drift(1, period=2_000 * PANE),
)
Level = Callable[[float], float]  # pane → mean of the feature


def steady(pane: float) -> float:
    return 0.0


def noise(size: int, seed: int, phi: float = 0.0) -> FloatArray:
    """A standard normal series, autoregressive of the first order."""
    innovations = np.random.default_rng(seed).normal(size=size + 200) * np.sqrt(1 - phi**2)
    series: FloatArray = lfilter([1.0], [1.0, -phi], innovations)[200:]
    return series


def some_events(panes: int, level: Level = steady, seed: int = 1, phi: float = 0.0, **more: Any) -> list[Event]:
    """So many panes with one feature; the prediction is as good as constant."""
    x = noise(panes * PER_PANE, seed, phi)
    return [
        prediction(f"r{i}", START + i * PANE // PER_PANE, 1.0, features={"x": float(v) + level(i / PER_PANE)}, **more)
        for i, v in enumerate(x)
    ]


def stream(panes: int, level: Level = steady, seed: int = 1, phi: float = 0.0) -> list[Record]:
    return records_of(some_events(panes, level, seed, phi))


def run_of(records: list[Record], model: ModelSpec = MODEL, **more: Any) -> Run:
    run = Run(a_core(model), **more)
    run.feed(records, [40 * PER_PANE])
    run.commit()
    return run


def begun(run: Run, subject: str = FEATURES) -> list[ReferenceRecord]:
    """The references that were in force, in order."""
    changes = [part.records for commit in run.told_so_far for part in commit.models.values()]
    return [record for change in changes for record in change.begun if record.subject == subject]


def renewed(run: Run, subject: str = FEATURES) -> list[ReferenceRecord]:
    return [record for record in begun(run, subject) if record.origin.kind is OriginKind.ROLLING]


def alarms(run: Run) -> list[AlertRecord]:
    """Alerts of drift that began."""
    published = [what for commit in run.told_so_far for what in commit.published]
    return [what for what in published if isinstance(what, AlertRecord) and what.begins and what.features]


def feature(record: ReferenceRecord) -> NumericReference:
    (found,) = record.profile.features
    assert isinstance(found, NumericReference)
    return found


def mean_of(record: ReferenceRecord) -> float:
    its = feature(record)
    return float(np.average(its.points, weights=its.weights))


def shown(run: Run) -> Any:
    return run.pipeline.status()["models"]["m"]["reference"]


# -- when, and from what -----------------------------------------------------------------------------------


def test_it_is_renewed_from_the_latest_stretch_once_that_is_gathered() -> None:
    run = run_of(stream(80))

    first, *others = begun(run)
    assert first.origin.kind is OriginKind.LEARNED
    assert others[0].origin == Origin(OriginKind.ROLLING, window=(START, START + LENGTH))
    assert others[0].profile.rows == 60 * PER_PANE
    assert (others[0].profile.first_ms, others[0].profile.last_ms) == (START, START + LENGTH - PANE // PER_PANE)


def test_it_is_made_at_thirtieths_of_its_length_and_in_force_a_longest_window_later() -> None:
    records = renewed(run_of(stream(90)))

    assert len(records) > 5
    for record in records:
        assert record.origin.window is not None
        start, end = record.origin.window
        assert (end % STEP, end - start) == (0, LENGTH)
        assert record.since == end + SPAN  # nothing under test then was learned from


def test_with_several_windows_the_longest_one_counts() -> None:
    drift = replace(MODEL.drift, windows=(1.0, 2.0)) if MODEL.drift is not None else None

    records = renewed(run_of(stream(80), replace(MODEL, drift=drift)))

    assert {record.since - record.origin.window[1] for record in records if record.origin.window and record.since} == {
        2 * SPAN
    }


def test_a_reference_from_a_file_is_the_first_one() -> None:
    model = replace(MODEL, reference=replace(from_file(), rolling=LENGTH))
    profile = a_profile([{"x": float(value)} for value in noise(2_000, 5)])

    run = run_of(stream(80), model, profiles={"m": profile})

    assert len(renewed(run)) > 3
    assert alarms(run) == []


def test_the_reference_of_a_versions_own_answers_is_renewed_too() -> None:
    outcomes = some_outcomes(HOUR, baseline_n=100, pane=PANE)

    run = run_of(stream(80), replace(MODEL, outcomes=outcomes))

    assert len(renewed(run, answers_of("v1"))) > 3


def test_checks_go_on_without_a_gap_while_references_change() -> None:
    run = run_of(stream(90))

    checks = run.pipeline.status()["models"]["m"]["versions"]["v1"]["checks"]
    assert checks["ok"] >= 75
    assert checks["no_reference"] <= 10  # until the first one


def test_it_is_not_renewed_from_too_few_rows() -> None:
    model = replace(MODEL, reference=replace(MODEL.reference, learn=60 * PER_PANE + 1))

    run = run_of(stream(70), model)

    assert renewed(run) == []


# -- alarms --------------------------------------------------------------------------------------------------


def test_a_slow_trend_that_no_alarm_sees_is_followed() -> None:
    records = stream(300, lambda pane: pane / 500)
    fixed = replace(MODEL, reference=replace(MODEL.reference, rolling=None))

    run = run_of(records)

    assert alarms(run) == []
    assert mean_of(begun(run)[-1]) == pytest.approx((300 - 35) / 500, abs=0.05)
    assert alarms(run_of(records, fixed))


def test_a_jump_is_alarmed_and_not_learned_away() -> None:
    run = run_of(stream(200, lambda pane: 1.0 * (pane >= 100)))

    assert len(alarms(run)) == 1
    assert [a["kind"] for a in run.pipeline.status()["models"]["m"]["alerts"]] == ["drift"]
    assert mean_of(begun(run)[-1]) == pytest.approx(0, abs=0.1)
    assert renewal_words(shown(run)) == "waiting: alarm stands"


def test_what_came_while_an_alarm_stood_is_never_learned() -> None:
    run = run_of(stream(140, lambda pane: 50.0 * (80 <= pane < 100)))

    assert run.pipeline.status()["models"]["m"]["alerts"] == []
    latest = begun(run)[-1]
    assert latest.since is not None
    assert latest.since > START + 130 * PANE
    assert latest.profile.rows < 40 * PER_PANE
    assert all(feature(record).points.max() < 10 for record in begun(run))


def test_an_alarm_of_a_version_that_sends_nothing_any_more_holds_the_features_up() -> None:
    outcomes = some_outcomes(HOUR, baseline_n=100, pane=PANE)
    one = some_events(75, lambda pane: 3.0 * (pane >= 70))
    other = some_events(100, version="v2")[75 * PER_PANE :]
    serving = ServingSpec("v1", shadows=("v2",))

    run = run_of(records_of([*one, *other]), replace(MODEL, outcomes=outcomes, serving=serving))

    assert [alarm.subject.version for alarm in alarms(run)][:1] == ["v1"]
    assert max(record.since or 0 for record in begun(run)) <= START + 70 * PANE
    assert renewal_words(shown(run)) == "waiting: alarm stands"


def test_it_tells_when_the_next_one_is_due() -> None:
    early, later = run_of(stream(20)), run_of(stream(80))

    assert shown(early)["rolling"] == {"next": format_time(START + LENGTH + SPAN), "waiting": None}
    assert renewal_words(shown(early)) == f"next one not before {format_time(START + LENGTH + SPAN)}"
    assert shown(later)["rolling"]["waiting"] is None
    assert shown(later)["rolling"]["next"] > shown(later)["since"]


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_false_alarms_keep_the_promise_while_references_change(phi: float) -> None:
    """One in 250 panes: 3 seeds of 250 panes promise 3 alarms."""
    drift = None if MODEL.drift is None else a_drift(1, period=250 * PANE)
    runs = [run_of(stream(250, seed=seed, phi=phi), replace(MODEL, drift=drift)) for seed in range(3)]

    assert sum(len(renewed(run)) for run in runs) > 100
    assert sum(len(alarms(run)) for run in runs) <= 7  # more with a probability of .012


# -- orders, restarts, configuration -------------------------------------------------------------------------


def test_after_an_order_a_whole_stretch_is_gathered_anew() -> None:
    records = stream(200)
    run = run_of(records[: 80 * PER_PANE])
    run.command(CommandName.RELEARN, events=300)
    before = len(renewed(run))
    ordered = START + 80 * PANE

    run.feed(records[80 * PER_PANE :], [40 * PER_PANE])
    run.commit()

    following = renewed(run)[before:]
    assert following[0].origin.window is not None
    assert following[0].origin.window[0] >= ordered - PANE
    assert begun(run)[-1].origin.kind is OriginKind.ROLLING


@pytest.mark.parametrize("portion", [17, 45])
def test_a_restart_at_any_time_changes_nothing(tmp_path: Path, portion: int) -> None:
    """References, alerts and history: also where rows are sampled, and where a next reference is counted beside."""
    core = a_core(MODEL)
    core = replace(core, limits=replace(core.limits, learning=1_000))
    records = stream(80, lambda pane: 3.0 * (70 <= pane < 74))
    whole = Run(core)
    whole.feed(records, [40 * PER_PANE])
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(core, engine=engine)

    run.feed(records[: 58 * PER_PANE], [40 * PER_PANE])
    for start in range(58 * PER_PANE, len(records), portion):
        run.feed(records[start : start + portion])
        run.commit()
        run.restart()
    told, expected = run.finish(), whole.finish()
    engine.dispose()

    assert [(r.number, r.profile.content_hash, r.since) for r in begun(run)] == [
        (r.number, r.profile.content_hash, r.since) for r in begun(whole)
    ]
    assert len(renewed(whole)) == 2
    assert told.published == expected.published
    assert told.history == expected.history


def test_rows_are_stored_once_and_dropped_when_they_are_over(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_core(MODEL), engine=engine)
    written = []
    records = stream(100)
    for start in range(0, len(records), PER_PANE):
        run.feed(records[start : start + PER_PANE])
        commit = run.commit()
        written.append(sum(len(body) for _, body in commit.models["m"].learned))
    stored = run.session.pipeline.models[0].references.rolling.rollers[FEATURES].rows
    engine.dispose()

    assert stored.held <= 62 * PER_PANE
    assert max(written[10:]) < 20 * np.median(written[10:])


def test_rows_of_a_reference_that_is_rolling_no_more_are_forgotten(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_core(MODEL), engine=engine)
    run.feed(stream(66), [40 * PER_PANE])
    run.commit()

    run.restart(a_core(replace(MODEL, reference=replace(MODEL.reference, rolling=None))))
    forgotten = run.commit().models["m"].forget_learned
    run.restart()
    left = run.commit().models["m"].forget_learned
    engine.dispose()

    assert any(name.startswith("rolling:") for name in forgotten)
    assert left == []


@pytest.mark.parametrize(("most", "assumed"), [(500, True), (5_000, False)])
def test_where_stretches_are_shorter_than_a_window_dependence_is_assumed(most: int, assumed: bool) -> None:
    """Of the 1 800 rows in the stretch that is learned from 500 are kept: a fourth of each window."""
    run = Run(a_core(MODEL, limits=replace(SMALL, learning=most)))
    run.feed(stream(80), [40 * PER_PANE])
    run.commit()
    (explained,) = explanation_of(run.model).document()["versions"].values()

    assert renewed(run)
    told = run.told().status["models"]["m"]["versions"]["v1"]["assumed_because"]
    for reasons in (told, explained["reasons"]):
        assert any("made from stretches of 45s, shorter than a window" in why for why in reasons) is assumed
