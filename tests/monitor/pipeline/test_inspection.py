"""What became of a request: every way in which it can go, told from what is remembered of it."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.pipeline.inspection import look_up
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
    return look_up(run.pipeline, run.model, SEED, request_id)


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
