"""Features may be called like names of ours: they are watched, and told apart from the model's own answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detectors.reference import Profile
from monitor.spec import FeatureKind, ModelSpec, Task
from monitor.store.engine import connect
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    Event,
    Run,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    counted,
    from_file,
    learned,
    prediction,
    timed,
)

NAMES = (
    "score", "prediction", "scores", "latency", "actual", "time", "version", "model", "error_rate", "tally", "features",
    "features.score", "", "a b", "a.b", "größe", 'q"uote', "new\nline", "ks", "missing_rate", "answers:v1",
)  # fmt: skip
SHOWN = {"score": "features.score", "prediction": "features.prediction", "features.score": "features.features.score"}
WINDOWS = {"counted": counted(200, 100), "timed": timed(50 * SECOND, 200 * SECOND)}


def a_watch(**parts: object) -> ModelSpec:
    plain = a_model(window=counted(200, 100), drift=a_drift(events=100_000), reference=learned(400))
    return replace(plain, **parts)  # type: ignore[arg-type]  # a field of a specification


def events_of(
    start: int, stop: int, shifted: tuple[str, ...] = (), names: tuple[str, ...] = NAMES, *, binary: bool = False
) -> Iterator[Event]:
    """A prediction a second; what is `shifted` lies five standard deviations higher. Answers never are."""
    r = random.Random(start)
    for i in range(start, stop):
        features = {name: r.gauss(5 if name in shifted else 0, 1) for name in names}
        more: dict[str, Any] = {"scores": {"1": r.uniform(0.6, 0.9)}} if binary else {}
        yield prediction(f"r{i}", T0 + i * SECOND, 1 if binary else r.gauss(0, 1), features=features, **more)


def drifted(run: Run) -> set[str]:
    return {f["name"] for f in run.told().alerts("drift")[-1]["features"]} if run.told().alerts("drift") else set()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_feature_of_any_name_is_learned_and_watched(window: str) -> None:
    """Of 0.1.0 `score` and `prediction` were dropped without a word."""
    run = Run(a_core(a_watch(window=WINDOWS[window], drift=a_drift(period=HOUR))))
    run.events(*events_of(0, 800), *events_of(800, 1_300, NAMES))

    assert drifted(run) == {SHOWN.get(name, name) for name in NAMES}


@pytest.mark.parametrize("name", ["score", "prediction"])
def test_drift_of_a_feature_is_not_that_of_the_answer_of_its_name(name: str) -> None:
    """Both are watched, and have their own rows in the history."""
    run = Run(a_core(a_watch(task=Task.BINARY)))
    run.events(*events_of(0, 800, binary=True), *events_of(800, 1_200, (name,), binary=True))
    told = run.told()

    assert drifted(run) == {f"features.{name}"}
    assert told.values("ks", feature=f"features.{name}")[-1][2] > 0.9
    assert told.values("ks", feature="score")[-1][2] < 0.2


def test_what_people_look_at_has_the_feature_and_the_answer_of_its_name() -> None:
    """Their courses in the status document, and so on the page and in `/metrics`."""
    run = Run(a_core(a_watch(task=Task.BINARY)))
    run.events(*events_of(0, 1_300, names=("score", "x"), binary=True))
    (version,) = run.model.versions.states.values()

    assert {"features.score", "x", "prediction", "score"} == version.features.features.keys()


def test_a_feature_called_like_an_answer_is_configured_by_the_name_under_which_it_is_shown() -> None:
    """Ignored, it is not watched; the model's own score is ignored by its plain name."""
    kinds = {"features.score": FeatureKind.IGNORE, "features.prediction": FeatureKind.CATEGORICAL}
    run = Run(a_core(a_watch(feature_kinds=kinds)))
    run.events(*events_of(0, 500))
    own = Run(a_core(a_watch(task=Task.BINARY, feature_kinds={"score": FeatureKind.IGNORE})))
    own.events(*events_of(0, 500, binary=True))

    features = run.model.references.features
    assert features is not None
    assert "features.score" not in features.names
    assert features.names[-1] == "features.prediction"  # a category
    watched = [name for c in own.model.references.comparisons("v1") for name in c.names]
    assert "features.score" in watched
    assert "score" not in watched


def test_it_goes_on_after_a_restart_as_if_there_had_been_none(tmp_path: Path) -> None:
    """While it learns, and while it alarms."""
    parts = [(0, 200, ()), (200, 800, ()), (800, 1_000, ("score",)), (1_000, 1_300, ("score",))]
    plain = Run(a_core(a_watch()))
    stored = StoredRun(a_core(a_watch()), engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    for start, stop, shifted in parts:
        plain.events(*events_of(start, stop, shifted))
        stored.events(*events_of(start, stop, shifted))
        stored.restart()

    assert drifted(stored) == drifted(plain) == {"features.score"}
    assert stored.told().published == plain.told().published


def answers_of_a_table() -> Profile:
    """A table with a feature `score`, and with answers."""
    features = a_profile([e["features"] for e in events_of(0, 400, names=("score", "x"))])
    answers = a_profile([{"prediction": e["prediction"]} for e in events_of(0, 400)]).features
    return replace(features, answers=answers)


def test_the_answers_of_a_table_are_the_reference_of_the_champions_answers(tmp_path: Path) -> None:
    """Beside a feature of the table that is called like one; also after a restart."""
    run = StoredRun(
        a_core(a_watch(reference=from_file())),
        profiles={"m": answers_of_a_table()},
        engine=connect(f"sqlite:///{tmp_path}/driftd.db"),
    )
    run.events(*events_of(0, 100, names=("score", "x")))
    run.restart()
    own = run.model.references.answers["v1"]

    assert own.names == ("prediction",)
    assert [name for c in run.model.references.comparisons("v1") for name in c.names] == [
        "features.score", "x", "prediction",
    ]  # fmt: skip


def test_what_came_instead_is_called_as_it_would_be_watched() -> None:
    """A reference that has a feature under another name than events do."""
    run = Run(
        a_core(a_watch(reference=from_file())), profiles={"m": a_profile([{"scored": i / 7} for i in range(400)])}
    )
    run.events(*events_of(0, 100, names=("score",)))

    assert run.model.references.instead(["scored"], T0 + HOUR) == ["features.score"]


def test_a_feature_of_an_odd_type_does_not_cost_the_event() -> None:
    """A list under such a name was never looked at; now it is a value that cannot be used."""
    run = Run(a_core(a_watch()))
    run.events(prediction("r", T0, 1.0, features={"score": [1], "x": 2}))

    assert run.told().dead_letters == []
    assert run.told().status["models"]["m"]["versions"]["v1"]["predictions"] == 1
