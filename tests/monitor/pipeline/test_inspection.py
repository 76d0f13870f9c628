"""What became of a request: every way in which it can go, told from what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitor.join.ended import EndedRequests
from monitor.pipeline.inspection import keys_of, look_up
from monitor.spec import Task
from tests.monitor.kit import (
    SECOND,
    SEED,
    T0,
    Event,
    Run,
    a_core,
    a_model,
    believed,
    outcome,
    prediction,
    some_outcomes,
)

WITHIN = 100 * SECOND
LATER = T0 + 10 * WITHIN
BESIDE: dict[str, Any] = {"version": "v2", "served": False}


def found(request_id: str, *events: Event) -> dict[str, Any]:
    """A request of a model whose outcomes are awaited for a hundred seconds."""
    run = Run(a_core(a_model(outcomes=some_outcomes(WITHIN, outcome_ttl=WITHIN))))
    run.events(*events)
    return told_of(run, request_id)


def told_of(run: Run, request_id: str) -> dict[str, Any]:
    """What is told with the details that the commits of the run have stored."""
    which = run.pipeline, run.model, SEED, request_id
    ended = EndedRequests.concatenated([commit.join.ended for commit in run.told_so_far])
    return look_up(*which, ended.take(np.flatnonzero(np.isin(ended.key, keys_of(*which)))))


@pytest.mark.parametrize(
    ("state", "events"),
    [
        ("unknown", [prediction("another", T0, 1.0)]),
        ("waiting", [prediction("r", T0, 1.0)]),
        ("early", [outcome("r", T0, 1.0)]),
        ("beside", [prediction("r", T0, 1.0, **BESIDE)]),
        ("joined", [prediction("r", T0, 1.0), outcome("r", T0, 2.0)]),
        ("joined", [outcome("r", T0, 2.0), prediction("r", T0, 1.0)]),
        ("closed", [prediction("r", T0, 1.0), *believed(prediction("another", LATER, 1.0))]),
        ("late", [prediction("r", T0, 1.0), *believed(prediction("another", LATER)), outcome("r", LATER, 0.0)]),
    ],
)
def test_every_way_in_which_a_request_can_go(state: str, events: list[Event]) -> None:
    assert found("r", *events)["state"] == state


def test_what_waits_says_what_for_and_how_long() -> None:
    told = found("r", prediction("r", T0, 1.5), prediction("r", T0, 2.5, **BESIDE))

    served, beside = told["answers"]
    assert (served["prediction"], served["served"], beside["prediction"], beside["served"]) == (1.5, True, 2.5, False)
    assert served["expires_at"] == beside["expires_at"] == "2023-11-14T22:14:40.000Z"


def test_an_outcome_that_waits_is_shown() -> None:
    assert found("r", outcome("r", T0, 2.5))["outcome"] == {"actual": 2.5, "time": "2023-11-14T22:13:00.000Z"}


def test_an_answer_that_met_its_outcome_is_shown_with_it() -> None:
    answer = prediction("r", T0 + SECOND, 1.5, served_by="previous")
    told = found("r", answer, outcome("r", T0 + 3 * SECOND, 2.5))

    (its,) = told["answers"]
    assert its["window"].pop("counted")
    assert its == {
        "version": "v1", "served": True, "state": "joined", "time": "2023-11-14T22:13:01.000Z", "prediction": 1.5,
        "score": None, "served_by": "previous", "window": its["window"],
    }  # fmt: skip
    assert told["outcome"] == {"actual": 2.5, "time": "2023-11-14T22:13:03.000Z"}
    assert told["details"] is None


def test_each_answer_to_a_request_is_shown_with_the_version_that_gave_it() -> None:
    told = found("r", prediction("r", T0, 1.5), prediction("r", T0, 2.5, **BESIDE), outcome("r", T0, 3.5))

    answers = [(a["version"], a["served"], a["state"], a["prediction"]) for a in told["answers"]]
    assert answers == [("v1", True, "joined", 1.5), ("v2", False, "joined", 2.5)]


def test_labels_are_shown_by_their_text() -> None:
    run = Run(a_core(a_model(task=Task.MULTICLASS, outcomes=some_outcomes(WITHIN))))
    run.events(prediction("r", T0, "cat"), outcome("r", T0, "dog"))

    told = told_of(run, "r")

    assert (told["answers"][0]["prediction"], told["outcome"]["actual"]) == ("cat", "dog")


def test_an_answer_whose_outcome_did_not_come_in_time_is_shown() -> None:
    told = found("r", prediction("r", T0, 1.5), *believed(prediction("another", LATER, 1.0)))

    (its,) = told["answers"]
    assert (told["state"], its["state"], its["version"], its["prediction"]) == ("closed", "closed", "v1", 1.5)
    assert its["time"] == "2023-11-14T22:13:00.000Z"
    assert told["outcome"] is None


@pytest.mark.parametrize("swept", [True, False])
def test_an_outcome_that_came_too_late_is_shown_with_the_answer(swept: bool) -> None:
    run = Run(a_core(a_model(outcomes=some_outcomes(WITHIN, outcome_ttl=WITHIN))))
    late = outcome("r", LATER, 2.5)
    events = [prediction("r", T0, 1.5), *believed(prediction("another", LATER, 1.0))] if swept else []
    run.events(*(events or [prediction("r", T0, 1.5)]))
    run.events(late)

    told = told_of(run, "r")

    assert told["state"] == "late"
    assert [a["prediction"] for a in told["answers"]] == [1.5]
    assert told["outcome"] == {"actual": 2.5, "time": "2023-11-14T22:29:40.000Z"}


def test_an_outcome_to_which_no_answer_came_is_shown() -> None:
    told = found("r", outcome("r", T0, 2.5), *believed(prediction("another", LATER, 1.0)))

    assert (told["state"], told["answers"]) == ("orphaned", [])
    assert told["outcome"] == {"actual": 2.5, "time": "2023-11-14T22:13:00.000Z"}


@pytest.mark.parametrize("again", [2.5, 3.5])
def test_of_outcomes_that_come_again_the_first_one_is_shown(again: float) -> None:
    """The same one is a duplicate, another one a conflict."""
    told = found("r", prediction("r", T0, 1.5), outcome("r", T0, 2.5), outcome("r", T0 + SECOND, again))

    assert (told["state"], told["outcome"]["actual"]) == ("joined", 2.5)


def test_what_is_not_kept_any_more_is_said() -> None:
    run = Run(a_core(a_model(outcomes=some_outcomes(WITHIN))))
    run.events(prediction("r", T0, 1.5), outcome("r", T0, 2.5))

    told = look_up(run.pipeline, run.model, SEED, "r")

    assert (told["state"], told["answers"], told["outcome"]) == ("joined", [], None)
    assert "the latest 1000000 requests that ended (limits.ended)" in told["details"]


def test_nothing_is_noted_where_none_are_kept() -> None:
    core = a_core(a_model(outcomes=some_outcomes(WITHIN)))
    run = Run(replace(core, limits=replace(core.limits, ended=0)))
    run.events(prediction("r", T0, 1.5), outcome("r", T0, 2.5))

    assert sum(len(commit.join.ended) for commit in run.told_so_far) == 0
    assert "limits.ended is 0" in told_of(run, "r")["details"]
