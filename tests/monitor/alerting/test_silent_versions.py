"""Who is expected to send predictions, and when their silence is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.types import IntArray
from fallback.types import Route, Serving, Tier
from monitor.alerting.silent_versions import SilenceLimit, SilentVersions, expected_versions

HALF = {"v1": 0.5, "v2": 0.5}
LIMIT = 60


def of_time() -> SilentVersions:
    return SilentVersions(SilenceLimit(time=LIMIT))


def hear_panes(silent: SilentVersions, heard: dict[str, int], start: int, end: int, width: int = 10) -> None:
    for at in range(start, end, width):
        silent.hear_pane(heard, at, at + width)
        silent.look(HALF, None, at + width)


# -- who is expected -------------------------------------------------------------------------------------


def test_champion_routes_cohorts_and_shadows_are_expected_and_nobody_else() -> None:
    serving = Serving(
        "v1", previous="v0", shadows=("s",), cohorts={"staff": "c"}, ensemble=("e",),
        challengers=(Route("v2", 1_000), Route("v3", 0)),
    )  # fmt: skip

    assert expected_versions(serving) == {"s": 1.0, "c": None, "v2": 0.1, "v1": 0.9}


def test_a_champion_whose_traffic_is_all_routed_away_is_not_expected() -> None:
    assert expected_versions(Serving("v1", challengers=(Route("v2", 10_000),))) == {"v2": 1.0}


def test_while_another_tier_answers_shadows_alone_are_expected() -> None:
    serving = Serving("v1", shadows=("s",), cohorts={"staff": "c"}, active=Tier.DEFAULT)

    assert expected_versions(serving) == {"s": 1.0}
    assert expected_versions(replace(serving, failed=(Tier.PRIMARY,))) == {"s": 1.0, "v1": 1.0}


# -- by time ---------------------------------------------------------------------------------------------


def test_silence_is_told_once_it_has_lasted_as_long_as_the_limit() -> None:
    silent = of_time()
    hear_panes(silent, {"v1": 9, "v2": 9}, 0, 100)
    hear_panes(silent, {"v1": 9}, 100, 150)

    silent.hear_pane({"v1": 9}, 150, 159)
    assert not silent.look(HALF, None, 159).silent
    silent.hear_pane({"v1": 9}, 159, 160)
    assert list(silent.look(HALF, None, 160).silent) == ["v2"]


def test_a_version_that_never_sent_anything_is_silent_since_it_is_expected() -> None:
    silent = of_time()
    hear_panes(silent, {"v1": 9}, 0, 50)

    silent.hear_pane({"v1": 9}, 50, 60)
    assert list(silent.look(HALF, None, 60).silent) == ["v2"]


def test_while_the_whole_model_is_silent_no_version_is() -> None:
    silent = of_time()
    hear_panes(silent, {"v1": 9, "v2": 9}, 0, 100)

    silent.hear_pane({"v1": 9}, 500, 510)
    assert not silent.look(HALF, None, 510).silent


def test_a_silence_of_the_whole_model_that_is_shorter_than_the_limit_is_none_of_a_version() -> None:
    silent = of_time()
    hear_panes(silent, {"v1": 9, "v2": 9}, 0, 100)

    for at in (150, 160, 170):
        silent.hear_pane({"v1": 9}, at, at + 10)
        assert not silent.look(HALF, None, at + 10).silent


def test_between_sparse_predictions_of_the_others_a_version_is_silent_all_the_same() -> None:
    silent = of_time()
    told = []
    for at in range(0, 2_000, 50):
        silent.hear_pane({"v1": 9}, at, at + 10)
        told += [at] if silent.look(HALF, None, at + 10).silent else []

    assert told[0] <= 10 * 50


def test_a_cohort_that_was_heard_may_have_days_of_its_own() -> None:
    silent, cohort = SilentVersions(SilenceLimit(time=LIMIT, again=10 * LIMIT)), {"v1": 1.0, "c": None}
    told = []
    for at in range(0, 2_000, 10):
        silent.hear_pane({"v1": 9, "c": int(at % 500 < 100 and at < 1_200)}, at, at + 10)
        told += [at + 10] if silent.look(cohort, None, at + 10).silent else []

    assert told[0] == 1_100 + 10 * LIMIT


def test_a_cohort_that_never_sent_anything_is_told_after_the_first_limit() -> None:
    silent = SilentVersions(SilenceLimit(time=LIMIT, again=10 * LIMIT))
    for at in range(0, LIMIT, 10):
        silent.hear_pane({"v1": 9}, at, at + 10)
        look = silent.look({"v1": 1.0, "c": None}, None, at + 10)

    assert list(look.silent) == ["c"]


def test_a_version_that_is_awaited_later_is_silent_from_then_on() -> None:
    silent = of_time()
    silent.await_from(["v2"], 200)
    told = []
    for at in range(0, 400, 10):
        silent.hear_pane({"v1": 9}, at, at + 10)
        told += [at + 10] if silent.look(HALF, None, at + 10).silent else []

    assert told[0] == 200 + LIMIT


def test_a_share_that_would_have_had_few_predictions_is_not_silent_yet() -> None:
    """Of 60 requests one in a hundred is none at all in more than half of all cases."""
    silent, shares = of_time(), {"v1": 0.99, "v2": 0.01}
    told = []
    for at in range(0, 2_000, 10):
        silent.hear_pane({"v1": 10}, at, at + 10)
        told += [at + 10] if silent.look(shares, None, at + 10).silent else []

    assert told[0] == 1_010


def test_a_version_that_is_heard_again_is_said_to_be() -> None:
    silent = of_time()
    hear_panes(silent, {"v1": 9}, 0, 100)

    silent.hear_pane({"v1": 9, "v2": 1}, 100, 110)
    look = silent.look(HALF, None, 110)
    assert (dict(look.silent), look.heard) == ({}, ("v1", "v2"))


# -- counted ---------------------------------------------------------------------------------------------


def hear(silent: SilentVersions, versions: str, times: IntArray, sizes: list[int]) -> None:
    """Take in predictions of versions, a letter each, in batches of these sizes."""
    start = 0
    for size in sizes:
        part = versions[start : start + size]
        silent.hear({v: part.rindex(v) for v in set(part)}, times[start : start + size])
        start += size


@pytest.mark.parametrize("sizes", [[120], [1] * 120, [50, 70]])
@pytest.mark.parametrize("limit", [SilenceLimit(predictions=100), SilenceLimit(time=100)])
def test_counted_predictions_tell_the_same_however_they_are_cut(limit: SilenceLimit, sizes: list[int]) -> None:
    silent, shares = SilentVersions(limit), {"a": 0.5, "b": 0.5}
    silent.hear({}, np.array([0]))
    silent.look(shares, None, 0)
    hear(silent, "ab" * 10 + "a" * 100, np.arange(1, 121), sizes)

    silence = silent.look(shares, None, 120).silent["b"]
    assert (silence.since, silence.predictions) == (20, 100)


@pytest.mark.parametrize("sizes", [[120], [1] * 120, [50, 70]])
def test_pauses_of_the_model_count_the_same_however_predictions_are_cut(sizes: list[int]) -> None:
    silent, shares = SilentVersions(SilenceLimit(time=100)), {"a": 0.5, "b": 0.5}
    silent.hear({}, np.array([0]))
    silent.look(shares, None, 0)
    times = np.arange(1, 121) + np.where(np.arange(120) >= 60, 90, 0)
    hear(silent, "ab" * 10 + "a" * 100, times, sizes)

    assert not silent.look(shares, None, 200).silent
    assert silent.state.versions["b"].since == 20 + 91 - 10
