"""A run that goes on under another configuration: what fits is kept, what does not is dropped and said."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.reference import Profile
from detectors.reference_builder import Column, build_features
from fallback.types import ServingSpec
from monitor.pipeline.model import ModelMonitor
from monitor.spec import FeatureKind, LimitBasis, ModelSpec, Task
from monitor.store import reader
from monitor.store.engine import connect
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    SMALL,
    T0,
    Event,
    Run,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    counted,
    from_file,
    learned,
    outcome,
    prediction,
    records_of,
    some_outcomes,
    timed,
)


def events_of(start: int, stop: int, *, model: str = "m", shifted: bool = False) -> Iterator[Event]:
    """A prediction a second, each with its outcome a minute later."""
    r = random.Random(start)
    for i in range(start, stop):
        time = T0 + i * SECOND
        features = {"x": round(r.gauss(4.0 * shifted, 1), 3), "zip": str(r.randrange(4))}
        yield prediction(f"r{i}", time, 1, model=model, features=features, scores={"1": 0.75})
        if i >= 60:
            yield outcome(f"r{i - 60}", time, i % 2, model=model)


PROFILE = a_profile([e["features"] for e in events_of(5_000, 5_400) if e["type"] == "prediction"])
ACCURACY = a_rule("accuracy", "accuracy", below=-0.4, of=LimitBasis.POINTS, hard=True)
BY_TIME = a_model(
    task=Task.BINARY,
    window=timed(10 * SECOND, 50 * SECOND),
    drift=a_drift(period=HOUR),
    reference=from_file(),
    outcomes=some_outcomes(10 * MINUTE, pane=10 * SECOND, baseline_n=30),
    rules=(ACCURACY,),
)


def begun(tmp_path: Path, before: ModelSpec, *, shifted: bool = False) -> StoredRun:
    """Five minutes of a model, committed."""
    run = StoredRun(a_core(before), profiles={"m": PROFILE}, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*events_of(0, 200, shifted=shifted))
    run.events(*events_of(200, 300, shifted=shifted))
    return run


def said(run: Run) -> list[tuple[str, str]]:
    return [(notice.model, notice.event) for notice in run.pipeline.warnings]


def held(run: Run) -> dict[str, Any]:
    """What windows of v1 hold."""
    (watch,) = run.model.versions.states.values()
    panes = len(watch.outcomes.coverage()[0]) if watch.outcomes is not None else 0
    return {
        "window": len(watch.window),
        "open": len(run.model.stage_one.panes.open()),
        "outcomes": panes,
        "waits": len(watch.windows),
    }


OTHER_SHAPES: dict[str, dict[str, Any]] = {
    "another pane": {"window": timed(5 * SECOND, 50 * SECOND)},
    "another span": {"window": timed(10 * SECOND, 100 * SECOND)},
    "counted": {"window": counted(50, 25), "outcomes": some_outcomes(10 * MINUTE, baseline_n=30)},
    "another pane of outcomes": {"outcomes": some_outcomes(10 * MINUTE, pane=50 * SECOND, baseline_n=30)},
}


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_under_another_shape_of_windows_they_begin_anew(tmp_path: Path, name: str) -> None:
    run = begun(tmp_path, BY_TIME)
    before = held(run)

    run.restart(a_core(replace(BY_TIME, **OTHER_SHAPES[name])))

    assert said(run) == [("m", "windows_dropped")]
    assert min(before["window"], before["outcomes"], before["waits"]) > 4
    assert held(run) == {"window": 0, "open": 0, "outcomes": 0, "waits": 0}
    run.commit()
    run.restart()
    assert said(run) == []
    assert held(run) == {"window": 0, "open": 0, "outcomes": 0, "waits": 0}


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_references_episodes_serving_totals_and_baselines_stay(tmp_path: Path, name: str) -> None:
    run = begun(tmp_path, BY_TIME, shifted=True)
    run.restart()
    before = run.model
    (watch,) = before.versions.states.values()
    state, totals = before.state(), run.told().status

    run.restart(a_core(replace(BY_TIME, **OTHER_SHAPES[name])))

    (again,) = run.model.versions.states.values()
    assert watch.drift.state.starts_at is not None
    assert again.drift == watch.drift
    assert again.baseline.saved() == watch.baseline.saved()
    assert again.outcomes is not None
    assert watch.outcomes is not None
    assert again.outcomes.baseline_pairs == watch.outcomes.baseline_pairs >= 30
    assert run.model.references.profile is not None
    assert run.model.references.profile.content_hash == PROFILE.content_hash
    assert {k: run.model.state()[k] for k in ("steering", "records", "configured_reference", "seen", "last_event")} == {
        k: state[k] for k in ("steering", "records", "configured_reference", "seen", "last_event")
    }
    assert {k: run.told().status[k] for k in ("events", "join", "alerts")} == {
        k: totals[k] for k in ("events", "join", "alerts")
    }


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_it_goes_on_like_a_run_that_had_that_shape_from_there_on(tmp_path: Path, name: str) -> None:
    """Windows of what came since are those of a run that saw nothing else; the answers from before are in none."""
    before = replace(BY_TIME, rules=(), drift=None)
    after = replace(before, **OTHER_SHAPES[name])
    run = begun(tmp_path, before)
    run.restart(a_core(after))
    run.commit()
    run.restart()
    later = list(events_of(300, 700))
    run.events(*later)
    fresh = Run(a_core(after), profiles={"m": PROFILE})
    fresh.events(*(e for e in later if e["type"] == "prediction" or int(e["request_id"][1:]) >= 300))

    told, wanted = run.finish(), fresh.finish()

    assert len(wanted.history) > 10
    assert {key: row for key, row in told.history.items() if key in wanted.history} == wanted.history
    assert told.status["models"]["m"]["versions"]["v1"]["outcomes"] == 640


def test_pairs_of_answers_from_before_are_joined_and_say_nothing_of_a_window(tmp_path: Path) -> None:
    run = begun(tmp_path, BY_TIME)
    run.restart(a_core(replace(BY_TIME, window=timed(5 * SECOND, 5 * SECOND), rules=())))
    joined = run.told().status["join"]["joined"]
    run.events(*(outcome(f"r{i}", T0 + 310 * SECOND, 1) for i in range(240, 300)))

    assert run.told().status["join"]["joined"] == joined + 60
    assert held(run)["outcomes"] == 0


@pytest.mark.parametrize("parts", [{"positive": "0"}, {"task": Task.MULTICLASS}, {"task": Task.REGRESSION}])
def test_where_answers_are_of_another_kind_their_baselines_begin_anew_too(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    before = replace(BY_TIME, reference=learned(100), rules=())
    run = begun(tmp_path, before)
    assert run.model.references.answers.keys() | run.model.references.learners.answers.keys() == {"v1"}
    run.restart(a_core(replace(before, **parts)))

    assert said(run) == [("m", "windows_dropped")]
    (watch,) = run.model.versions.states.values()
    assert watch.outcomes is not None
    assert watch.outcomes.baseline_pairs == 0
    assert run.model.references.answers == {}
    assert [learner.missing for learner in run.model.references.learners.answers.values()] == [30]
    run.events(*events_of(300, 500))
    run.restart()
    run.finish()
    assert said(run) == []
    assert set(run.model.references.answers) == {"v1"}


def test_the_same_configuration_is_no_reason_to_say_anything(tmp_path: Path) -> None:
    run = begun(tmp_path, BY_TIME)
    before = held(run)

    run.restart()

    assert said(run) == []
    assert held(run) == before


def test_what_no_shape_depends_on_may_change(tmp_path: Path) -> None:
    run = begun(tmp_path, BY_TIME)
    before = held(run)
    window = replace(BY_TIME.window, min_events=77)

    run.restart(a_core(replace(BY_TIME, window=window, recover_after=5, no_data_after=HOUR)))

    assert said(run) == []
    assert held(run) == before


# -- features --------------------------------------------------------------------------------------------


def compared(model: ModelMonitor) -> list[str]:
    return [name for c in model.references.comparisons("v1") for name in c.names]


def test_a_feature_that_is_ignored_now_leaves_windows_and_alerts(tmp_path: Path) -> None:
    """What was counted is counted against all features together, so the comparison begins anew."""
    assert BY_TIME.drift is not None
    before = replace(BY_TIME, rules=(), drift=replace(BY_TIME.drift, categorical=()))  # x alone drifts
    run = begun(tmp_path, before, shifted=True)
    (watch,) = run.model.versions.states.values()
    assert "x" in watch.drift.state.listed
    run.restart(a_core(replace(before, feature_kinds={"x": FeatureKind.IGNORE})))

    assert said(run) == [("m", "comparison_dropped")]
    assert "x" not in compared(run.model)
    run.events(*events_of(300, 400))
    last = run.told().alerts("drift")[-1]
    assert (last["status"], last["summary"]) == ("resolved", "what drifted is not compared any more")


def test_a_feature_that_is_declared_to_be_of_another_kind_is_said_and_not_guessed(tmp_path: Path) -> None:
    """The reference in force decides until it is learned or built anew."""
    before = replace(BY_TIME, reference=learned(100))
    run = begun(tmp_path, before)
    kinds = {"zip": FeatureKind.NUMERIC, "x": FeatureKind.NUMERIC, "unheard of": FeatureKind.NUMERIC}
    run.restart(a_core(replace(before, feature_kinds=kinds)))

    assert said(run) == [("m", "feature_kind_differs")]
    assert "features.zip" in run.pipeline.warnings[0].detail
    assert "zip" in compared(run.model)


def test_a_reference_that_is_replaced_leaves_nothing_that_was_counted_against_the_old_one(tmp_path: Path) -> None:
    """Also in panes that were stored before, which a restart brings back."""
    run = begun(tmp_path, BY_TIME)
    other = a_profile([{"x": float(i), "zip": "7", "new": i % 3} for i in range(300)])
    run.model.replace_reference(other, T0 + 300 * SECOND)
    run.events(*events_of(300, 305))
    run.restart()
    (watch,) = run.model.versions.states.values()

    features = run.model.references.features
    assert features is not None
    assert all(watch.window.total(name) is None for name in features.vectors)
    assert said(run) == [("m", "comparison_dropped")]
    run.events(*events_of(305, 400))
    assert watch.window.total(features.vectors[0]) is not None


def test_a_champion_that_lost_its_place_keeps_the_reference_of_its_own_answers(tmp_path: Path) -> None:
    """The table spoke of it, and does not speak of the new champion."""
    scores = np.random.default_rng(1).random(200)
    columns: dict[str, Column] = {"x": scores, "score": scores}
    table = Profile(build_features(dict.fromkeys(columns, True), columns, 200), 200, ordered=True)
    model = replace(BY_TIME, rules=())
    run = StoredRun(a_core(model), profiles={"m": table}, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*events_of(0, 100))
    run.restart(a_core(replace(model, serving=ServingSpec("v2"))))

    assert set(run.model.references.answers) == {"v1"}
    run.events(*events_of(100, 200))
    assert run.model.references.learners.answers == {}


def of_both(start: int, stop: int) -> Iterator[Event]:
    """The same events of two models, in the order of time."""
    for one, other in zip(events_of(start, stop), events_of(start, stop, model="n"), strict=True):
        yield from (one, other)


# -- models ----------------------------------------------------------------------------------------------


def test_a_model_that_is_gone_is_said_and_its_waiting_answers_expire(tmp_path: Path) -> None:
    two = a_core(BY_TIME, replace(BY_TIME, name="n"))
    run = StoredRun(two, profiles={"m": PROFILE, "n": PROFILE}, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*of_both(0, 100))
    pending = run.told().status["join"]["pending"]
    run.restart(a_core(BY_TIME))

    assert said(run) == [("n", "model_removed")]
    run.events(*events_of(100, 101), prediction("r7", T0 + 100 * SECOND, 1, model="n"))
    told = run.told()
    assert told.status["events"]["ignored"] == {"n": 1}
    assert {name: model["removed_at"] is not None for name, model in told.status["models"].items()} == {
        "m": False, "n": True,
    }  # fmt: skip
    assert pending == 120
    assert told.status["join"]["pending"] == 60
    assert told.status["join"]["expired"] == 60


def test_a_model_that_is_back_goes_on_where_it_was(tmp_path: Path) -> None:
    two = a_core(BY_TIME, replace(BY_TIME, name="n"))
    run = StoredRun(two, profiles={"m": PROFILE, "n": PROFILE}, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*of_both(0, 100))
    run.restart(a_core(BY_TIME))
    run.events(*events_of(100, 110))
    run.restart(two)
    run.events(*of_both(110, 130))

    told = run.told()
    versions = {name: found["versions"]["v1"]["predictions"] for name, found in told.status["models"].items()}
    assert versions == {"m": 130, "n": 120}
    assert [(d["model"], d["reason"]) for d in told.decisions()] == [("m", "initial"), ("n", "initial")]


def test_a_model_that_is_new_begins_with_a_decision_and_the_others_go_on(tmp_path: Path) -> None:
    """It may stand before them in the configuration."""
    run = begun(tmp_path, BY_TIME)
    before = held(run)
    run.restart(a_core(replace(BY_TIME, name="a"), BY_TIME))

    assert said(run) == []
    new, old = run.pipeline.models
    (watch,) = old.versions.states.values()
    assert len(watch.window) == before["window"]
    run.events(*events_of(300, 310), prediction("r1", T0 + 310 * SECOND, 1, model="a"))
    told = run.told()
    assert [(d["model"], d["reason"]) for d in told.decisions()] == [("m", "initial"), ("a", "initial")]
    assert new.versions.states.keys().isdisjoint(old.versions.states)
    assert {e.code for e in _codes(run)} >= set(new.versions.states) | set(old.versions.states)


def _codes(run: StoredRun) -> Iterator[Any]:
    assert run.engine is not None
    loaded = reader.load(run.engine)
    assert loaded is not None
    yield from (e for e in loaded[0].codes if e.kind == "version")


def test_a_run_that_learned_less_than_is_wanted_now_goes_on_learning_and_one_that_learned_more_is_done(
    tmp_path: Path,
) -> None:
    model = a_model(window=timed(10 * SECOND, 50 * SECOND), drift=a_drift(), reference=learned(200))
    run = StoredRun(a_core(model), engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.feed(records_of(e for e in events_of(0, 150) if e["type"] == "prediction"))
    run.commit()
    rows = []
    for wanted in (300, 100):
        run.restart(a_core(replace(model, reference=learned(wanted))))
        start = run.pipeline.positions.popitem()[1]
        more = [
            r._replace(offset=r.offset + start)
            for r in records_of(e for e in events_of(start, start + 15) if e["type"] == "prediction")
        ]
        run.feed(more)
        run.commit()
        profile = run.model.references.profile
        rows.append(None if profile is None else profile.rows)

    assert rows == [None, 170]  # whole panes of ten: it is learned when the seventeenth ends


SPAM = a_model(
    task=Task.BINARY, window=timed(10 * SECOND, 30 * SECOND), outcomes=some_outcomes(10 * MINUTE, pane=10 * SECOND)
)
TOPICS = replace(SPAM, task=Task.MULTICLASS)


def answered(start: int, stop: int, label: Any) -> Iterator[Event]:
    for i in range(start, stop):
        yield prediction(f"a{i}", T0 + i * SECOND, label(i))
        yield outcome(f"a{i}", T0 + i * SECOND + 10, label(i))


@pytest.mark.parametrize(
    ("after", "label"),
    [
        (replace(SPAM, task=Task.REGRESSION), 1.0),
        (replace(SPAM, task=Task.MULTICLASS), "spam"),
        (replace(SPAM, outcomes=None), "spam"),
        (replace(SPAM, positive="spam"), "spam"),
    ],
    ids=["regression", "multiclass", "no outcomes", "positive"],
)
def test_an_alert_about_labels_ends_when_the_configuration_makes_it_void(
    after: ModelSpec, label: Any, tmp_path: Path
) -> None:
    """As it does by what the alert advises; nothing else would end it."""
    run = StoredRun(a_core(SPAM), engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*answered(0, 100, lambda i: "spam"))
    run.restart(a_core(after))
    run.events(*answered(100, 150, lambda i: label))
    told = run.finish()

    assert [(a["status"], a["closed_because"]) for a in told.alerts("blind")] == [
        ("firing", None), ("resolved", "not_configured"),
    ]  # fmt: skip
    assert told.status["models"]["m"]["alerts"] == []


@pytest.mark.parametrize(("limit", "ends"), [(5, []), (1_000, ["not_configured"])])
def test_an_alert_about_the_limit_of_labels_ends_with_that_limit(limit: int, ends: list[str], tmp_path: Path) -> None:
    limits = replace(SMALL, labels=5)
    run = StoredRun(a_core(TOPICS, limits=limits), engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*answered(0, 100, lambda i: f"topic {i % 20}"))
    run.restart(a_core(TOPICS, limits=replace(limits, labels=limit)))
    run.events(*answered(100, 150, lambda i: "topic 0"))

    assert [a["closed_because"] for a in run.finish().alerts("blind") if a["status"] == "resolved"] == ends
