"""The status page: what is wrong comes first, with how much, since when and what to do; nothing in it does anything."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from fallback.types import ServingSpec
from monitor.spec import Consequence, Task
from monitor.web.page import Vitals, render
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


def a_drifted_status(*names: str) -> dict[str, Any]:
    """The status of models of which a feature x drifts and a feature y does not."""
    model = a_model(drift=a_drift(), reference=learned(200))
    run = Run(a_core(*(replace(model, name=name) for name in names)))
    values = [{"x": i * 37 % 100 + (i // 400 * 200), "y": i * 31 % 100} for i in range(500)]
    for name in names:
        run.events(
            *(prediction(f"{name}{i}", T0 + i * SECOND, model=name, features=its) for i, its in enumerate(values))
        )
    return run.told().status | {"destinations": {}}


def shown(status: dict[str, Any], opened: str | None = None, **vitals: Any) -> str:
    return render(status, ready=True, why_not="", vitals=Vitals(**vitals), opened=opened)


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


def test_a_reference_that_is_being_made_is_said() -> None:
    status = a_status("a")
    status["models"]["a"]["reference"]["state"] = "freezing"
    status["models"]["a"]["versions"]["v1"]["health"] = "unknown"

    assert "reference: freezing" in shown(status)


def test_names_are_only_names() -> None:
    status = a_status("a", failing="a")
    status["models"]["<script>\x1b[31m"] = status["models"].pop("a")
    page = shown(status)

    assert "<script>" not in page
    assert "\x1b" not in page


def test_before_the_first_commit_it_says_why_it_is_not_ready() -> None:
    assert "not ready: store: the database is unavailable" in render({}, False, "store: the database is unavailable")


def test_what_fires_says_its_severity_in_words() -> None:
    assert "warning metric" in shown(a_status("a", failing="a"))


def test_it_says_which_tier_answers_and_the_share_of_each_version() -> None:
    status = a_status("a", failing="a")
    status["models"]["a"]["routes"] = {"v2": 1_500}

    assert "tier primary: champion v1 85 %, v2 15 % · previous v0" in shown(status)


def test_a_feature_that_drifts_is_drawn_with_its_course_and_the_others_are_not() -> None:
    page = shown(a_drifted_status("a"))
    told = re.findall(r"aria-label='(\w+), (share|effect)", page)

    assert told == [("x", "share"), ("x", "effect")]
    assert "<script" not in page


def test_a_model_that_is_opened_shows_all_features_that_are_followed_and_no_other_model() -> None:
    page = shown(a_drifted_status("a", "b"), opened="a")

    assert re.findall(r"<h2>(\w)</h2>", page) == ["a"]
    assert set(re.findall(r"aria-label='(\w+), effect", page)) == {"x", "y"}
    assert "<a href='/'>" in page


def test_a_model_that_nobody_knows_is_told_as_that() -> None:
    assert "no model is called &lt;b&gt;" in shown(a_status("a"), opened="<b>")


def test_the_number_of_pictures_of_a_page_is_bounded() -> None:
    status = a_drifted_status("a")
    status["models"] = {f"m{i:03}": status["models"]["a"] for i in range(200)}
    page = shown(status)

    assert page.count("<div class='feature'>") == 60
    assert len(page) < 500_000


def test_a_link_to_a_model_holds_its_name_and_nothing_else() -> None:
    status = a_status("a")
    status["models"]["a' onclick='x&y=\ud800"] = status["models"].pop("a")

    assert re.findall(r"<a href='([^']*)'>features", shown(status)) == ["/?model=a%27+onclick%3D%27x%26y%3D%3F"]


def test_it_says_how_far_the_reference_has_come() -> None:
    assert "reference frozen: 200 rows, since 2023-11-14T22:16:" in shown(a_drifted_status("a"))


def test_it_says_which_reference_is_in_force_and_where_it_came_from() -> None:
    assert ", number 1 (learned)</small>" in shown(a_drifted_status("a"))


def test_what_cannot_be_judged_and_what_rules_leave_out_is_said() -> None:
    page = shown(a_blind_run().told().status | {"destinations": {}})

    assert "cannot be judged</b> v1: the window of v1 cannot be judged" in page
    assert "no rule is about errors" in page
