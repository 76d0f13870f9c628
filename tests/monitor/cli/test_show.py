"""`driftd status` for people: who answers and why, what fires since when and how much, what to do, how old it is."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from fallback.types import ServingSpec
from monitor.cli.show import show_status
from monitor.clock import wall_ms
from monitor.spec import Consequence
from monitor.times import format_time
from tests.monitor.kit import (
    SECOND,
    T0,
    Run,
    a_blind_run,
    a_core,
    a_drift,
    a_model,
    a_rule,
    counted,
    learned,
    prediction,
)


def a_status() -> dict[str, Any]:
    """The status of a model whose champion fails, and that learns a reference."""
    rule = a_rule("errors", "error_rate", above=0.1, hard=True, then=Consequence.NONE)
    model = a_model(window=counted(10, 10), rules=(rule,), drift=a_drift(), reference=learned(500))
    run = Run(a_core(replace(model, serving=ServingSpec("v1", "v0"))))
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, None, error="boom") for i in range(20)))
    committed = {"committed_at": format_time(wall_ms() - 90 * SECOND), "owner": "somebody", "destinations": {}}
    return run.told().status | committed | {"stream_time": wall_ms() - 150 * SECOND}


def shown(status: dict[str, Any]) -> str:
    out = io.StringIO()
    show_status(Console(file=out, width=200), status)
    return out.getvalue()


def test_it_says_who_answers_and_why() -> None:
    told = shown(a_status())

    assert "m: tier primary, champion v1 100 %, previous v0" in told
    assert "decided: initial by config, since 2023-11-14T22:13:" in told


def test_it_says_what_fires_how_much_against_which_limit_and_since_when() -> None:
    assert "warning metric: v1 errors error_rate 1 (limit 0.1, n 10) (since 2023-11-14T22:13:09.000Z)" in shown(
        a_status()
    )


def test_it_says_what_to_do() -> None:
    assert "what to do: driftd alerts m" in shown(a_status())


def test_it_says_how_old_the_commit_is_and_how_far_stream_time_was_behind_it() -> None:
    told = shown(a_status())

    assert "90s ago" in told or "91s ago" in told
    assert "1m before that" in told


def test_it_says_how_far_a_reference_has_come_that_is_learned() -> None:
    status = a_status()
    status["models"]["m"]["reference"] = {"state": "learning", "rows": 20, "wanted": 500, "since": None}

    assert "reference: learning, 20 of at least 500" in shown(status)
    assert "reference" not in shown(a_status() | {"models": {}})


def test_it_says_what_cannot_be_judged_and_what_rules_leave_out() -> None:
    committed = {"committed_at": format_time(wall_ms()), "owner": "somebody", "destinations": {}}
    told = shown(a_blind_run().told().status | committed | {"stream_time": wall_ms()})

    assert "v1: the window of v1 cannot be judged" in told
    assert "no rule is about errors" in told


def test_it_says_which_reference_is_in_force_and_where_it_came_from() -> None:
    run = Run(a_core(a_model(window=counted(10, 10), drift=a_drift(), reference=learned(50))))
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, features={"x": i % 7}) for i in range(60)))
    status = a_status()
    status["models"] = run.told().status["models"]

    assert "reference: number 1 (learned), 50 rows, since 2023-11-14T22:13:49.000Z" in shown(status)
