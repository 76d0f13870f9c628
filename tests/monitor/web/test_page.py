"""The status page: what is wrong comes first, with how much, since when and what to do; nothing in it does anything."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from fallback.types import ServingSpec
from monitor.spec import Consequence, Task
from monitor.web.page import Vitals, render
from tests.monitor.kit import SECOND, T0, Run, a_core, a_model, a_rule, counted, prediction


def a_status(*names: str, failing: str = "") -> dict[str, Any]:
    """The status of models of which one fails, or none."""
    rule = a_rule("errors", "error_rate", above=0.1, hard=True, then=Consequence.NONE)
    model = a_model(task=Task.REGRESSION, window=counted(10, 10), rules=(rule,), serving=ServingSpec("v1", "v0"))
    run = Run(a_core(*(replace(model, name=name) for name in names)))
    for i in range(20):
        for name in names:
            its: dict[str, Any] = {"error": "boom"} if name == failing else {}
            value = None if name == failing else 1.0
            run.events(prediction(f"{name}{i}", T0 + i * SECOND, value, model=name, **its))
    return run.told().status | {"destinations": {}}


def shown(status: dict[str, Any], **vitals: Any) -> str:
    return render(status, ready=True, why_not="", vitals=Vitals(**vitals))


def test_the_model_that_fails_comes_first() -> None:
    page = shown(a_status("a", "b", "c", failing="b"))

    assert re.findall(r"<h2>(\w)</h2>", page) == ["b", "a", "c"]


def test_what_fires_says_how_much_against_which_limit_and_since_when() -> None:
    page = shown(a_status("a", failing="a"))

    assert "error_rate 1 (limit 0.1, n 10)" in page
    assert "since 2023-11-14T22:13:" in page


def test_it_says_what_to_do_next() -> None:
    assert "driftd alerts a" in shown(a_status("a", failing="a"))
    assert "driftd" not in re.sub(r"<h1>.*?</h1>|<title>.*?</title>", "", shown(a_status("a")))


def test_it_says_how_the_daemon_is_doing() -> None:
    page = shown(a_status("a"), stream_time=T0, lag=12.0, commit_age_s=3.4)

    assert "stream time 2023-11-14T22:13:" in page
    assert "behind 12 records" in page
    assert "last commit 3 s ago" in page


def test_a_version_that_sent_nothing_is_not_shown_as_healthy() -> None:
    status = a_status("a")
    status["models"]["a"]["versions"]["v1"]["health"] = "unknown"

    assert "unknown" in shown(status)
    assert "healthy" not in shown(status)


def test_names_are_only_names() -> None:
    status = a_status("a", failing="a")
    status["models"]["<script>\x1b[31m"] = status["models"].pop("a")
    page = shown(status)

    assert "<script>" not in page
    assert "\x1b" not in page


def test_before_the_first_commit_it_says_why_it_is_not_ready() -> None:
    assert "not ready: store: the database is unavailable" in render({}, False, "store: the database is unavailable")
