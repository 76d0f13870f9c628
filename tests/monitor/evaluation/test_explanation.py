"""Who has which share of the budget, and how well the promise is founded."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detectors.dependence import Dependence
from detectors.reference import NumericReference, Profile
from detectors.reference_builder import build_features
from detectors.registry import MIN_EFFECT
from fallback.types import ServingSpec
from monitor.cli.explain import add_expected, explanation_of
from monitor.spec import ModelSpec
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Run,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    counted,
    from_file,
    prediction,
    some_outcomes,
    timed,
)
from tests.monitor.random_streams import a_busy_core, random_records
from tests.monitor.random_streams import a_reference as random_reference

WINDOWS = (0.2, 0.5, 1, 2, 5)
WATCHED = a_model(
    window=counted(1000, 100),
    drift=replace(a_drift(events=1_000_000), windows=WINDOWS),
    reference=from_file(),
    rules=(a_rule("errors", "error_rate", above=0.01, checks=3),),
)


def a_reference(rows: int = 20_000, *, ordered: bool = True) -> Profile:
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {"x": rng.normal(size=rows), "c": [str(i) for i in rng.integers(0, 4, rows)]}
    features = build_features({"x": True, "c": False}, columns, rows, 512)
    return Profile(features, rows, ordered=ordered)


def explained(spec: ModelSpec = WATCHED, profile: Profile | None = None) -> Mapping[str, Any]:
    """What is said of a model that nothing was sent of yet."""
    run = Run(a_core(spec), profiles={"m": profile or a_reference()})
    add_expected(run.pipeline, run.model)
    return explanation_of(run.model).document()


def test_all_that_looks_may_raise_adds_up_to_the_budget() -> None:
    version = explained()["versions"]["v1"]
    looks = sum(w["per_look"]["drift"] / w["looks_every"] for w in version["windows"])

    assert version["checks_per_alarm"] == pytest.approx(10_000)
    assert sum(version["parts"].values()) == pytest.approx(1e-4)
    assert looks == pytest.approx(version["parts"]["drift"])


def test_a_model_without_rules_leaves_their_part_to_drift_and_quality() -> None:
    parts = explained(replace(WATCHED, rules=()))["versions"]["v1"]["parts"]

    assert parts["rules"] == 0
    assert sum(parts.values()) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("off", "parts"),
    [
        (("missing_rate", "unseen_rate"), {"drift": 0.6 / 0.95, "quality": 0, "rules": 0.35 / 0.95}),
        (
            ("ks", "wasserstein", "psi", "chi_square", "jensen_shannon"),
            {"drift": 0, "quality": 0.05 / 0.4, "rules": 0.35 / 0.4},
        ),
    ],
    ids=["quality", "drift"],
)
def test_what_can_never_alarm_leaves_its_part_to_the_others(off: tuple[str, ...], parts: Mapping[str, float]) -> None:
    """Wasserstein and the stability index have no bound, and are left out instead."""
    assert WATCHED.drift is not None
    numeric = tuple(name for name in WATCHED.drift.numeric if name == "ks" or name not in off)
    drift = replace(WATCHED.drift, numeric=numeric, min_effect={**MIN_EFFECT, **dict.fromkeys(off, 2.0)})

    found = explained(replace(WATCHED, drift=drift))["versions"]["v1"]["parts"]

    assert found == pytest.approx({name: part * 1e-4 for name, part in parts.items()})


def test_every_window_that_panes_hold_is_explained() -> None:
    version = explained()["versions"]["v1"]

    assert [w["multiple"] for w in version["windows"]] == list(WINDOWS)
    assert [w["events"] for w in version["features"]["x"]["windows"]] == [200, 500, 1000, 2000, 5000]


def test_the_window_that_finds_a_change_first_is_named() -> None:
    feature = explained()["versions"]["v1"]["features"]["x"]
    (smallest,) = feature["smallest"]
    sizes = {w["window"]: w["changes"][0]["size"] for w in feature["windows"]}

    assert smallest["size"] == sizes[smallest["window"]]
    assert smallest["size"] <= min(sizes.values()) / 0.95
    assert all(sizes[w["window"]] > smallest["size"] for w in feature["windows"] if w["events"] < smallest["events"])
    assert feature["shifts"]["1"]["events"] < 200


def test_windows_by_time_hold_the_events_of_the_rate_of_the_reference() -> None:
    spec = replace(WATCHED, window=timed(MINUTE, 10 * MINUTE, min_events=500))
    profile = replace(a_reference(), first_ms=0, last_ms=20_000 * 1000)

    windows = explained(spec, profile)["versions"]["v1"]["windows"]

    assert [w["events"] for w in windows] == [120, 300, 600, 1200, 3000]


def test_versions_that_a_decision_names_are_explained_before_they_answer() -> None:
    spec = replace(WATCHED, serving=ServingSpec("v1", shadows=("v2",)))

    assert {name: v["role"] for name, v in explained(spec)["versions"].items()} == {"v1": "champion", "v2": "shadow"}


def test_whatever_the_versions_of_a_stream_did_they_are_explained() -> None:
    """Windows by time and counted, versions in every role, rules that are judged and that are not."""
    core, dice = a_busy_core(), random.Random(3)
    run = Run(core, profiles={"reg": a_profile(random_reference(dice))})
    run.feed(random_records(dice, 2_000, core))
    run.commit()

    for model in run.pipeline.models:
        add_expected(run.pipeline, model)
        document = explanation_of(model).document()
        for name, version in document["versions"].items():
            assert version["founded"] in ((None,) if document["no_promise"] else ("kept", "assumed")), name
            assert len(version["rules"]) == len(model.spec.rules)
        assert json.dumps(document, allow_nan=False)


# -- how well it is founded ------------------------------------------------------------------------------


def reasons(profile: Profile) -> list[str]:
    version = explained(replace(WATCHED, rules=()), profile)["versions"]["v1"]
    assert version["founded"] == ("assumed" if version["reasons"] else "kept")
    return list(version["reasons"])


def test_a_reference_of_many_windows_in_order_keeps_the_promise() -> None:
    assert reasons(a_reference()) == []


def test_a_reference_of_few_windows_only_assumes_it() -> None:
    (reason,) = reasons(a_reference(5_000))

    assert reason.startswith("the reference has 5000 rows, 5 windows")


def test_rows_without_an_order_of_time_only_assume_it() -> None:
    (reason,) = reasons(a_reference(ordered=False))

    assert "not known to be in the order of time" in reason


def test_a_profile_of_an_earlier_release_is_to_be_built_again() -> None:
    profile = a_reference()
    older = [replace(f, dependence=Dependence()) if isinstance(f, NumericReference) else f for f in profile.features]

    (reason,) = reasons(replace(profile, features=tuple(older)))

    assert "did not learn the dependence of x: build it again" in reason


def test_rules_without_panes_only_suppose_how_much_events_depend_on_each_other() -> None:
    version = explained()["versions"]["v1"]

    assert version["founded"] == "assumed"
    assert version["reasons"] == [
        "rules on error_rate: fewer than 16 panes before the window show how events depend on each other; "
        "overdispersion is supposed"
    ]


@pytest.mark.parametrize(
    ("shadows", "outcomes", "assumed"),
    [((), True, []), (("v2",), False, []), (("v2",), True, ["v2"])],
    ids=["no shadow", "no outcomes", "measured"],
)
def test_agreement_is_a_reason_only_where_it_will_be_measured(
    shadows: tuple[str, ...], outcomes: bool, assumed: list[str]
) -> None:
    agreement = a_rule("agreement", "agreement", below=0.75)
    spec = replace(WATCHED, rules=(agreement,), serving=ServingSpec("v1", shadows=shadows))

    versions = explained(replace(spec, outcomes=some_outcomes() if outcomes else None))["versions"]

    assert [name for name, version in versions.items() if any("agreement" in why for why in version["reasons"])] == (
        assumed
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (a_model(), "nothing is watched: neither drift nor rules"),
        (a_model(outcomes=some_outcomes(concept_drift="adwin")), "only concept drift is watched, without any promise"),
        (
            a_model(rules=(a_rule("slow", "latency_p95_ms", above=9, hard=True),)),
            "only hard rules are watched, without any promise",
        ),
        (a_model(rules=(a_rule("slow", "latency_p95_ms", above=9),)), None),
        (WATCHED, None),
    ],
    ids=["nothing", "concept drift", "hard rules", "rules", "drift"],
)
def test_where_nothing_has_a_promise_none_is_said_to_be_kept(spec: ModelSpec, says: str | None) -> None:
    run = Run(a_core(spec), profiles={"m": a_reference()} if spec.drift else {})
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, 1.0) for i in range(3)))

    document = explanation_of(run.model).document()
    status = run.told().status["models"]["m"]["versions"]["v1"]

    assert document["no_promise"] == says
    assert (document["versions"]["v1"]["founded"] is None) is (says is not None)
    assert (status["founded"] is None) is (says is not None)
