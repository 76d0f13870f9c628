"""The router: who answers a request, what happens when that fails, and which events tell of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.chain import tiers
from fallback.router import Answer, Features, Model, NoAnswerError, Request, Router, combined
from fallback.routing import bucket, choose
from fallback.types import WHOLE, Serving, Tier
from tests.fallback.servings import a_document, a_full_serving, a_serving, routes, servings

ROOT = Path(__file__).parents[2]
A_REQUEST = Request("r1", 1_700_000_000_000, {"load": 0.5})
LOADED = replace(A_REQUEST, features={"load": 0.95})


class Fault(Exception):
    """What a model of these tests raises."""


def says(prediction: Any) -> Model:
    """A model that always says this."""

    def model(features: Features) -> Any:
        return prediction

    return model


def fails(features: Features) -> Answer:
    raise Fault


def a_router(serving: Serving, models: Mapping[str, Model] | None = None, **parts: Any) -> Router:
    """Every version says its own name, but for those in `models`."""
    named: dict[str, Model] = {v: says(v) for v in ("v0", "v1", "v2", "v3", "v9", "s1", "s2", "c0", "c1", "c2", "c3")}
    return Router("m", a_document(serving), named | dict(models or {}), **parts)


def told(events: tuple[dict[str, Any], ...]) -> list[tuple[Any, ...]]:
    """(version, tier, served, error) of each."""
    return [(e["version"], e["served_by"], e["served"], e["error"]) for e in events]


# -- the primary tier ------------------------------------------------------------------------------------


def test_the_champion_answers() -> None:
    """With one event, in the format of the daemon's input."""
    request = Request("r1", "2026-11-21T09:30:00Z", {"load": 0.5, "fuel": "gas"}, segment="eu")
    served = a_router(a_serving(), {"v1": says(Answer(0.83, {"yes": 0.83, "no": 0.17}, {"cost": 0.001}))}).answer(
        request
    )

    assert (served.answer.prediction, served.version, served.served_by, served.assigned) == (
        0.83, "v1", Tier.PRIMARY, "v1"
    )  # fmt: skip
    assert served.events == (
        {
            "schema": 1,
            "type": "prediction",
            "request_id": "r1",
            "time": "2026-11-21T09:30:00Z",
            "model": "m",
            "version": "v1",
            "assigned": "v1",
            "key": "r1",
            "served": True,
            "served_by": "primary",
            "segment": "eu",
            "features": {"load": 0.5, "fuel": "gas"},
            "prediction": 0.83,
            "scores": {"yes": 0.83, "no": 0.17},
            "latency_ms": None,
            "error": None,
            "metrics": {"cost": 0.001},
        },
    )


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_a_key_is_routed_by_its_bucket(key: str, salt: str) -> None:
    """The same version that `choose` names; without a key the request is its own."""
    serving = a_serving(challengers=routes(("v2", 3_000), ("v3", 3_000)))
    router = Router("m", a_document(serving, salt=salt), {v: says(v) for v in ("v1", "v2", "v3")})
    expected = "v2" if bucket(salt, key) < 3_000 else "v3" if bucket(salt, key) < 6_000 else "v1"

    assert router.answer(replace(A_REQUEST, key=key)).version == expected
    assert router.answer(replace(A_REQUEST, request_id=key)).version == expected


def test_an_override_beats_a_cohort_beats_the_bucket() -> None:
    """As the decision says."""
    router = a_router(a_serving(challengers=routes(("v2", WHOLE)), cohorts={"internal": "v3"}))

    assert router.answer(A_REQUEST).version == "v2"
    assert router.answer(replace(A_REQUEST, cohort="internal")).version == "v3"
    assert router.answer(replace(A_REQUEST, cohort="internal", override="v9")).version == "v9"


def test_a_model_may_answer_with_the_bare_prediction() -> None:
    """A number or a label, without anything around it."""
    assert a_router(a_serving(), {"v1": says(3)}).answer(A_REQUEST).answer == Answer(3)


# -- falling back ----------------------------------------------------------------------------------------


def test_an_exception_of_a_model_is_answered_by_the_next_tier() -> None:
    """The failed attempt is an event of its own, with the name of the error."""
    served = a_router(a_full_serving(), {"v1": fails}).answer(A_REQUEST)

    assert (served.answer.prediction, served.version, served.served_by, served.assigned) == (
        "v0", "v0", Tier.PREVIOUS, "v1"
    )  # fmt: skip
    assert told(served.events) == [("v1", "primary", False, "Fault"), ("v0", "previous", True, None)]
    assert [e["prediction"] for e in served.events] == [None, "v0"]
    assert {e["assigned"] for e in served.events} == {"v1"}


def test_tiers_that_are_not_there_are_skipped() -> None:
    """Without an event: nothing failed."""
    served = a_router(a_full_serving(previous=None, rules=(), ensemble=()), {"v1": fails}).answer(A_REQUEST)

    assert told(served.events) == [("v1", "primary", False, "Fault"), ("default", "default", True, None)]


def test_business_rules_answer_where_one_of_them_applies() -> None:
    """Where none does, the next tier answers, and that is no failure of theirs."""
    router = a_router(a_full_serving(), {"v0": fails, "v1": fails})

    assert told(router.answer(LOADED).events)[-1] == ("rules", "rules", True, None)
    assert router.answer(LOADED).answer.prediction == 0.95
    assert told(router.answer(A_REQUEST).events)[2:] == [("ensemble", "ensemble", False, "NobodyAnsweredError"),
                                                         ("default", "default", True, None)]  # fmt: skip


def test_an_ensemble_answers_with_those_of_its_versions_that_do() -> None:
    """A version that fails in it is told of."""
    serving = a_full_serving(previous=None, rules=(), ensemble=("v2", "v3", "v9"))
    router = a_router(serving, {"v1": fails, "v2": says(0.2), "v3": says(0.4), "v9": fails})
    served = router.answer(A_REQUEST)

    assert served.answer.prediction == pytest.approx(0.3)
    assert told(served.events) == [
        ("v1", "primary", False, "Fault"), ("v9", "ensemble", False, "Fault"), ("ensemble", "ensemble", True, None)
    ]  # fmt: skip


def test_the_default_cannot_fail() -> None:
    """Whatever happened before it."""
    assert a_router(a_full_serving(), dict.fromkeys(("v0", "v1"), fails)).answer(A_REQUEST).answer == Answer(0)


@given(
    servings, st.sets(st.sampled_from(["v0", "v1", "v9", "c0", "c1", "c2", "c3"])), st.text(max_size=5), st.floats(0, 1)
)
def test_whatever_fails_the_first_tier_that_answers_is_the_answer(
    serving: Serving, broken: set[str], key: str, load: float
) -> None:
    """And where the chain has a default, there is one."""
    router = a_router(serving, dict.fromkeys(broken, fails))
    request = replace(A_REQUEST, key=key, features={"load": load})
    assigned = choose(serving, "m/0", key)
    answers = {
        Tier.PRIMARY: assigned not in broken,
        Tier.PREVIOUS: serving.previous not in broken,
        Tier.RULES: load > 0.9,
        Tier.ENSEMBLE: not broken.issuperset(serving.ensemble),
        Tier.DEFAULT: True,
    }
    expected = next((tier for tier in tiers(serving) if answers[tier]), None)

    if expected is None:
        with pytest.raises(NoAnswerError) as error:
            router.answer(request)
        events = error.value.events
    else:
        served = router.answer(request)
        assert served.served_by is expected
        events = served.events
    assert sum(e["served"] for e in events) == (expected is not None)
    versions = [e["version"] for e in events]
    assert len(set(versions)) == len(versions)  # a prediction event is identified by request and version
    assert all((e["error"] is None) != (e["prediction"] is None) for e in events)


def test_without_a_default_the_failure_is_told() -> None:
    """The application hears of it, and has the events to emit."""
    with pytest.raises(NoAnswerError, match="m: every level failed, and the chain has no default") as error:
        a_router(a_serving(), {"v1": fails}).answer(A_REQUEST)

    assert told(error.value.events) == [("v1", "primary", False, "Fault")]


def test_a_version_is_called_once_a_request() -> None:
    """The champion is its own previous version, part of the ensemble, and a shadow."""
    calls = count()

    def broken(features: Features) -> Answer:
        next(calls)
        raise Fault

    serving = a_full_serving(previous="v1", rules=(), ensemble=("v1", "v2"), shadows=("v1",))
    served = a_router(serving, {"v1": broken}).answer(A_REQUEST)

    assert next(calls) == 1
    assert told(served.events) == [("v1", "primary", False, "Fault"), ("ensemble", "ensemble", True, None)]


def test_a_version_that_is_not_deployed_fails() -> None:
    """The decision is ahead of the deployment."""
    served = Router("m", a_document(a_full_serving()), {"v0": says(1)}).answer(A_REQUEST)

    assert told(served.events)[0] == ("v1", "primary", False, "NotDeployedError")
    assert served.version == "v0"


@pytest.mark.parametrize("prediction", [None, float("nan"), float("inf"), Answer(None)])
def test_an_answer_of_nothing_is_a_failure(prediction: Any) -> None:
    """Nor is a number that is not finite an answer: the daemon would refuse the event."""
    served = a_router(a_full_serving(), {"v1": says(prediction)}).answer(A_REQUEST)

    assert told(served.events)[0] == ("v1", "primary", False, "NoPredictionError")
    assert served.served_by is Tier.PREVIOUS


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_application_is_not_caught(stop: type[BaseException]) -> None:
    """Only exceptions are failures of a model."""

    def model(features: Features) -> Answer:
        raise stop

    with pytest.raises(stop):
        a_router(a_full_serving(), {"v1": model}).answer(A_REQUEST)


# -- the active tier -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("active", "version"),
    [(Tier.PREVIOUS, "v0"), (Tier.RULES, "rules"), (Tier.ENSEMBLE, "ensemble"), (Tier.DEFAULT, "default")],
)
def test_the_active_tier_answers(active: Tier, version: str) -> None:
    """Not the primary, even where it could; `assigned` stays what routing chose."""
    served = a_router(a_full_serving(active=active), {"v0": says(0.5), "v1": says(0.7)}).answer(LOADED)

    assert (served.version, served.served_by, served.assigned) == (version, active, "v1")
    assert told(served.events) == [(version, active.value, True, None)]


def test_from_the_active_tier_it_goes_down_not_up() -> None:
    """The tiers above were given up for all requests."""
    served = a_router(a_full_serving(active=Tier.PREVIOUS), {"v0": fails}).answer(LOADED)

    assert told(served.events) == [("v0", "previous", False, "Fault"), ("rules", "rules", True, None)]


def test_an_active_tier_that_is_not_there_is_skipped() -> None:
    """The next one answers."""
    assert a_router(a_full_serving(previous=None, active=Tier.PREVIOUS)).answer(LOADED).served_by is Tier.RULES


# -- shadows ---------------------------------------------------------------------------------------------


def test_shadows_answer_without_being_served() -> None:
    """They were not assigned, so they do not count as an answer in another's place."""
    served = a_router(a_serving(shadows=("v2", "v3")), {"v3": fails}).answer(A_REQUEST)

    assert served.answer.prediction == "v1"
    assert told(served.events) == [
        ("v1", "primary", True, None), ("v2", "primary", False, None), ("v3", "primary", False, "Fault")
    ]  # fmt: skip
    assert [e["assigned"] for e in served.events] == ["v1", None, None]
    assert served.events[1]["prediction"] == "v2"


def test_a_failed_champion_is_watched_as_a_shadow() -> None:
    """The published decision lists it: that is where the evidence of its recovery comes from."""
    served = a_router(a_full_serving(active=Tier.PREVIOUS, failed=(Tier.PRIMARY,))).answer(A_REQUEST)

    assert told(served.events) == [("v0", "previous", True, None), ("v1", "primary", False, None)]


def test_a_shadow_that_the_application_does_not_have_is_not_called() -> None:
    """It may answer elsewhere."""
    served = Router("m", a_document(a_serving(shadows=("v2",))), {"v1": says(1)}).answer(A_REQUEST)

    assert told(served.events) == [("v1", "primary", True, None)]


def test_a_shadow_that_serves_is_told_of_once() -> None:
    """Its cohort sends it traffic."""
    serving = a_serving(shadows=("v2",), cohorts={"internal": "v2"})
    served = a_router(serving).answer(replace(A_REQUEST, cohort="internal"))

    assert told(served.events) == [("v2", "primary", True, None)]


# -- following -------------------------------------------------------------------------------------------


def test_a_younger_decision_is_followed() -> None:
    """From the next request on."""
    router = a_router(a_serving())

    assert router.follow(a_document(a_serving(champion="v2"), generation=2))
    assert (router.answer(A_REQUEST).version, router.generation) == ("v2", 2)


@pytest.mark.parametrize("generation", [1, 4, 5])
def test_a_decision_that_is_not_younger_is_ignored(generation: int) -> None:
    """A repeat, or a late one."""
    router = a_router(a_serving())
    router.follow(a_document(a_serving(), generation=5))

    assert not router.follow(a_document(a_serving(champion="v2"), generation=generation))
    assert router.answer(A_REQUEST).version == "v1"


def test_a_decision_of_another_model_is_ignored() -> None:
    """The topic carries all of them. To begin with, it is a mistake."""
    other = a_document(a_serving(champion="v2"), generation=9, model="other")

    assert not a_router(a_serving()).follow(other)
    with pytest.raises(ValueError, match="a decision of other is none of m"):
        Router("m", other, {})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": 2}, "a decision of schema 2, this release knows 1"),
        ({"active_level": "plan-b"}, "plan-b"),
        ({"chain": ["previous", "plan-b"]}, "plan-b"),
        ({"chain": ["primary"]}, "after the primary"),
        ({"routes": [{"version": "v1", "weight": 9_999}]}, "do not sum to 10 000"),
        ({"routes": []}, "do not sum to 10 000"),
        ({"routes": [{"version": "v2", "weight": 10_001}, {"version": "v1", "weight": -1}]}, "negative"),
        ({"routes": [{"version": "v1"}]}, "without what it needs"),
        ({"levels": None}, "without what it needs"),
        ({"shadows": None}, "without what it needs"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(change: dict[str, Any], fault: str) -> None:
    """The one before stays in force."""
    router = a_router(a_serving())

    with pytest.raises(ValueError, match=fault):
        router.follow(a_document(a_serving(champion="v2"), generation=2) | change)
    assert (router.answer(A_REQUEST).version, router.generation) == ("v1", 1)


@pytest.mark.parametrize("missing", ["routes", "champion", "salt", "levels", "chain", "active_level", "cohorts"])
def test_a_decision_that_lacks_something_is_refused(missing: str) -> None:
    """With its name."""
    decision = a_document(a_serving(), generation=2)
    del decision[missing]

    with pytest.raises(ValueError, match=missing):
        a_router(a_serving()).follow(decision)


def test_fields_that_are_not_known_are_ignored() -> None:
    """A newer daemon says more."""
    assert a_router(a_serving()).follow(a_document(a_serving(), generation=2) | {"published_at": "…", "more": 1})


def test_a_request_sees_one_decision_from_beginning_to_end() -> None:
    """A decision that comes while a model answers holds for the next request."""
    router: Router

    def overtaken(features: Features) -> Answer:
        router.follow(a_document(a_full_serving(champion="v2", previous="v9"), generation=2))
        raise Fault

    router = a_router(a_full_serving(), {"v1": overtaken})

    assert router.answer(A_REQUEST).version == "v0"
    assert router.answer(A_REQUEST).version == "v2"


def test_threads_share_a_router() -> None:
    """While decisions come and go, each request has one answer and a version that some decision named."""
    router = a_router(a_serving(), {"v1": says(1.0), "v2": says(2.0)})
    found: list[tuple[Any, str]] = []
    start = threading.Barrier(5)

    def ask() -> None:
        start.wait()
        for i in range(300):
            served = router.answer(replace(A_REQUEST, request_id=f"{i}"))
            found.append((served.answer.prediction, served.version))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    for generation in range(2, 200):
        router.follow(a_document(a_serving(champion=f"v{1 + generation % 2}"), generation=generation))
    for thread in threads:
        thread.join()

    assert len(found) == 1_200
    assert set(found) <= {(1.0, "v1"), (2.0, "v2")}


# -- time ------------------------------------------------------------------------------------------------


def ticking(*seconds: float) -> Callable[[], float]:
    """A clock that shows these times, one after the other."""
    times: Iterator[float] = iter(seconds)
    return lambda: next(times)


def test_latency_is_that_of_each_call() -> None:
    """In milliseconds, for failures too."""
    router = a_router(a_full_serving(), {"v1": fails}, timer=ticking(10.0, 10.25, 20.0, 20.5))

    assert [e["latency_ms"] for e in router.answer(A_REQUEST).events] == [250.0, 500.0]


def test_the_latency_of_an_ensemble_is_that_of_all_of_it() -> None:
    """Its versions are called one after the other."""
    serving = a_full_serving(active=Tier.ENSEMBLE)
    router = a_router(serving, {"v0": says(0.5), "v1": says(0.5)}, timer=ticking(0.0, 1.0, 2.0, 3.0, 4.0, 5.0))

    assert router.answer(A_REQUEST).events[0]["latency_ms"] == 5_000.0


def test_tiers_without_a_model_take_no_time() -> None:
    """Business rules and the default."""
    router = a_router(a_full_serving(active=Tier.RULES), timer=ticking())

    assert router.answer(LOADED).events[0]["latency_ms"] is None


# -- ensembles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "prediction"),
    [
        ([Answer(1.0), Answer(2.0), Answer(6.0)], 3.0),
        ([Answer("a"), Answer("b"), Answer("b")], "b"),
        ([Answer("b"), Answer("a")], "b"),
        ([Answer(1), Answer(0), Answer(1)], 1),
        ([Answer(1.5), Answer("a")], 1.5),
        ([Answer("x", {"a": 0.6, "b": 0.4}), Answer("x", {"b": 0.9, "a": 0.1})], "b"),
        ([Answer("x", {"a": 1.0}), Answer("x", {"b": 1.0})], "a"),
        ([Answer("a", {"a": 1.0}), Answer("b"), Answer("b")], "b"),
    ],
)
def test_answers_are_combined(answers: list[Answer], prediction: Any) -> None:
    """Mean probabilities where all have them, the mean of numbers, the most frequent label; the first of equals."""
    assert combined(answers).prediction == prediction


def test_combined_probabilities_are_means() -> None:
    """And sum to one if those did."""
    found = combined([Answer("a", {"a": 0.6, "b": 0.4}), Answer("b", {"b": 0.9, "c": 0.1})]).scores

    assert found == pytest.approx({"a": 0.3, "b": 0.65, "c": 0.05})


def test_an_application_may_combine_in_its_own_way() -> None:
    """One that fails is a failure of the tier."""
    serving = a_full_serving(active=Tier.ENSEMBLE)

    assert a_router(serving, combine=lambda answers: Answer(len(answers))).answer(A_REQUEST).answer == Answer(2)
    assert told(a_router(serving, combine=lambda answers: answers[9]).answer(A_REQUEST).events) == [
        ("ensemble", "ensemble", False, "IndexError"), ("default", "default", True, None)
    ]  # fmt: skip


# -- the package -----------------------------------------------------------------------------------------


def test_a_serving_application_imports_nothing_but_the_standard_library() -> None:
    """Neither the daemon nor its libraries."""
    code = (
        "import sys; import fallback.router; "
        "found = {name.partition('.')[0] for name in sys.modules} - {'fallback'} - set(sys.stdlib_module_names); "
        "print(sorted(name for name in found if not name.startswith('_')))"
    )
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert shown.stdout.strip() == "[]"
