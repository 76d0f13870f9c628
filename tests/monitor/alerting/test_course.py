"""The course of an episode: what is told of one that rises, falls, stays or cannot be judged."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detectors.findings import CheckResult, Family, Finding, Value
from monitor.alerting.drift_episodes import DriftEpisode, DriftEpisodeState
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, AlertWindow, MetricEvidence, Subject
from monitor.saved import from_plain, to_plain
from monitor.spec import LimitBasis, ModelSpec, Severity, Task
from monitor.store.engine import connect
from monitor.times import format_time
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    ends_of,
    from_file,
    prediction,
    records_of,
    timed,
)

WINDOW = 10  # checks a minute apart make a full window


def a_finding(name: str, effect: float) -> Finding:
    return Finding(Family.DRIFT, name, "ks", effect, effect, 0.1, lambda: 1e-9, 1e-6, 100, 0.0)


def a_check(**effects: float | None) -> CheckResult:
    """A check by effects of features, None for one that it could not judge; all drift from 0.1."""
    found = [a_finding(name, effect) for name, effect in effects.items() if effect is not None]
    values = tuple(Value(f.feature, "ks", f.value, 100) for f in found)
    calm = frozenset((Family.DRIFT, f.feature) for f in found if f.effect < 0.08)
    return CheckResult(values, tuple(f for f in found if f.effect >= 0.1), calm, {}, tuple(found))


class Checks:
    """Feeds an episode, a check a minute, whose state is stored after each."""

    def __init__(self) -> None:
        self.episode = DriftEpisode("m", "v1", Family.DRIFT, 3)
        self.now = HOUR

    def take(self, **effects: float | None) -> AlertRecord | None:
        self.now += MINUTE
        window = AlertWindow(self.now - WINDOW * MINUTE, self.now, 1_000)
        found = self.episode.update(a_check(**effects), window, ("age", "load"), lambda name: None)
        state = from_plain(to_plain(self.episode.state), DriftEpisodeState)
        self.episode = DriftEpisode("m", "v1", Family.DRIFT, 3, state)
        return found

    def take_all(self, effects: Sequence[float]) -> list[tuple[int, float]]:
        """(number of the check, largest effect told) of each record."""
        records = [(i, self.take(age=effect)) for i, effect in enumerate(effects)]
        return [(i, record.features[0].effect) for i, record in records if record is not None]


def test_a_change_that_grew_by_a_half_is_told_after_a_full_window() -> None:
    assert Checks().take_all([0.12] * 3 + [0.19] * 20) == [(0, 0.12), (WINDOW, 0.19)]


def test_a_change_that_shrank_to_two_thirds_is_told() -> None:
    assert Checks().take_all([0.19] * 15 + [0.12] * 20) == [(0, 0.19), (15, 0.12)]


def test_a_change_that_rises_all_the_time_is_told_at_most_once_per_full_window() -> None:
    rising = [0.12 * 1.1**i for i in range(50)]
    told = Checks().take_all([effect for effect in rising if effect < 0.2])
    assert told == [(0, 0.12)]

    checks = [i for i, _ in Checks().take_all([0.3 * 1.05**i for i in range(60)])]
    assert checks == list(range(0, 60, WINDOW))


def test_a_change_that_is_noisy_is_told_once() -> None:
    r = random.Random(3)
    assert len(Checks().take_all([r.uniform(0.125, 0.18) for _ in range(500)])) == 1


def test_a_change_among_calm_values_is_no_record() -> None:
    """What has fallen to next to nothing may well double."""
    checks = Checks()
    checks.episode.resolve_after = 10**6
    told = checks.take_all([0.3] + [0.02, 0.04, 0.01, 0.05] * 40)
    assert [effect for _, effect in told[:1]] == [0.3]
    assert len(told) == 2


def test_statistics_are_those_of_the_records_own_check() -> None:
    checks = Checks()
    checks.take(age=0.12, load=0.11)
    for _ in range(WINDOW - 1):
        assert checks.take(age=0.15, load=0.11) is None

    record = checks.take(age=0.5, load=0.09)

    assert record is not None
    assert [(f.name, f.effect, f.p_value) for f in record.features] == [("age", 0.5, 1e-9), ("load", 0.09, 1e-9)]
    document = record.document()["features"][0]
    assert document["as_of"] is None
    assert document["at_start"] == {"value": 0.12, "effect": 0.12, "at": "1970-01-01T01:01:00.000Z"}
    assert document["peak"]["value"] == 0.5


def test_a_feature_that_cannot_be_judged_keeps_its_last_value_and_says_of_when_it_is() -> None:
    checks = Checks()
    checks.take(age=0.12, load=0.11)
    for effect in (0.13, 0.14, None, None, None, None, None, None, None):
        checks.take(age=0.12, load=effect)

    record = checks.take(age=0.3, load=None)

    assert record is not None
    load = record.document()["features"][1]
    assert (load["name"], load["value"], load["as_of"]) == ("load", 0.14, "1970-01-01T01:03:00.000Z")
    assert (load["p_value"], load["current"]) == (None, {"edges": [], "counts": []})


def test_the_end_says_what_is_true_at_the_end_and_what_the_worst_was() -> None:
    checks = Checks()
    checks.take_all([0.12, 0.15, 0.6, 0.2, 0.05, 0.05])

    record = checks.take(age=0.05)

    assert record is not None
    (feature,) = record.features
    assert (record.status, feature.effect) == (AlertStatus.RESOLVED, 0.05)
    assert feature.at_start is not None
    assert feature.peak is not None
    assert (feature.at_start.effect, feature.peak.effect, feature.peak.at) == (0.12, 0.6, HOUR + 3 * MINUTE)
    assert record.document()["since"] == {
        "at": "1970-01-01T01:01:00.000Z", "from": "1970-01-01T00:51:00.000Z", "to": "1970-01-01T01:01:00.000Z",
    }  # fmt: skip


# -- rules -----------------------------------------------------------------------------------------------


def observed(values: Sequence[float], *, baseline: float | None = 1.0, variance: float = 0.0) -> list[float]:
    """What is told of a metric that fires with the first value, a check a minute."""
    episode = SimpleEpisode(Subject("m", "v1", AlertKind.METRIC, "a"))
    told: list[float] = []
    for i, value in enumerate(values):
        end = (i + 1) * MINUTE
        window, metric = AlertWindow(end - WINDOW * MINUTE, end, 100), MetricEvidence("mae", value, baseline, 0.0, 100)
        if i == 0:
            record: AlertRecord | None = episode.fire(Severity.WARNING, "", end, end, window, metric, variance)
        else:
            record = episode.observe("", end, window, metric, variance)
        told += [] if record is None or record.metric is None else [record.metric.value]
        episode.state = from_plain(to_plain(episode.state), EpisodeState)
    return told


def test_the_distance_from_the_baseline_counts_not_the_value() -> None:
    assert observed([1.2] * 3 + [1.31] * 20) == [1.2, 1.31]
    assert observed([1.2] * 3 + [1.29] * 20) == [1.2]


def test_a_limit_of_zero_is_counted_from_in_the_unit_of_the_metric() -> None:
    assert observed([0.2] * 3 + [0.31] * 20, baseline=None) == [0.2, 0.31]


def test_a_metric_whose_movement_chance_explains_is_not_told() -> None:
    assert observed([1.2] * 3 + [1.35] * 20, variance=0.1) == [1.2]


def test_a_metric_that_is_within_its_limit_has_not_moved() -> None:
    """It has ended, if it stays there: the end tells it."""
    window = timed(10 * SECOND, 30 * SECOND, longest=300 * SECOND, min_events=20)
    model = a_model(window=window, rules=(a_rule("bad", "error_rate", above=0.1, hard=True),))
    share = [0] * 300 + [10] * 600 + [2] * 600 + [0] * 20 + [2] * 600 + [0] * 600  # failures of ten a second
    run = Run(a_core(model))
    run.events(
        *(
            prediction(f"r{i}-{k}", T0 + i * SECOND, None if k < bad else 0.5, **({"error": "x"} if k < bad else {}))
            for i, bad in enumerate(share)
            for k in range(10)
        )
    )

    told = [(alert["status"], alert["metric"]["value"], alert["summary"]) for alert in run.told().alerts()]

    assert all("above" in summary and value > 0.1 for status, value, summary in told if status == "firing")
    assert {round(value, 1) for status, value, _ in told if status == "firing"} >= {1.0, 0.2}  # a fall is still told
    assert [status for status, *_ in told].count("resolved") == 1


@pytest.mark.parametrize("metric", ["latency_p50_ms", "latency_p90_ms", "latency_p99_ms"])
def test_the_noise_of_a_quantile_of_long_tails_is_not_told(metric: str) -> None:
    """No variance is known of it: the share of events above what was told says whether it moved."""
    dice = random.Random(3)
    window = timed(10 * SECOND, 30 * SECOND, longest=300 * SECOND, min_events=200)
    model = a_model(window=window, rules=(a_rule("slow", metric, above=5.0, hard=True),))
    noisy = [min(dice.paretovariate(1.1) * 10, 1e6) for _ in range(12_000)]
    slower = [50 * latency for latency in noisy[:4_000]]
    run = Run(a_core(model))
    run.events(
        *(prediction(f"r{i}", T0 + i * 150, 0.5, latency_ms=latency) for i, latency in enumerate(noisy + slower))
    )

    at = [alert["window"]["end"] for alert in run.told().alerts() if alert["status"] == "firing"]
    change = format_time(T0 + len(noisy) * 150)

    assert len([end for end in at if end < change]) <= 3  # of sixty full windows
    assert 1 <= len([end for end in at if end >= change]) <= 3


@pytest.mark.parametrize(("metric", "task"), [("sharpness", Task.BINARY), ("prediction_sd", Task.REGRESSION)])
def test_the_noise_of_a_spread_is_not_told(metric: str, task: Task) -> None:
    dice = random.Random(3)
    window = timed(10 * SECOND, 30 * SECOND, longest=300 * SECOND, min_events=20)
    model = a_model(task=task, window=window, rules=(a_rule("spread", metric, above=0.005, hard=True),))
    run = Run(a_core(model))
    run.events(*(prediction(f"r{i}", T0 + i * 1_500, dice.betavariate(3, 8)) for i in range(3_000)))

    assert len(run.told().alerts()) <= 4


def test_a_metric_has_how_it_began_and_its_worst_beside_it() -> None:
    episode = SimpleEpisode(Subject("m", "v1", AlertKind.METRIC, "a"))
    window = AlertWindow(0, MINUTE, 100)
    episode.fire(Severity.WARNING, "", MINUTE, MINUTE, window, MetricEvidence("accuracy", 0.7, 0.9, 0.8, 100))
    for i, value in enumerate((0.5, 0.99), start=2):
        metric = MetricEvidence("accuracy", value, 0.9, 0.8, 100)
        episode.observe("", i * MINUTE, AlertWindow(0, i * MINUTE, 100), metric, 0.0)

    record = episode.resolve("", 9 * MINUTE)

    assert record is not None
    assert record.metric is not None
    metric = record.metric
    assert metric.at_start is not None
    assert metric.peak is not None
    assert (metric.value, metric.at_start.value, metric.peak.value) == (0.99, 0.7, 0.5)
    assert metric.as_of == 3 * MINUTE


# -- on a stream -----------------------------------------------------------------------------------------


def moving(shifts: Sequence[float], seed: int = 5) -> Iterator[Event]:
    """Answers, one a second, whose feature lies so far from where it was; latency follows it."""
    r = random.Random(seed)
    for i, shift in enumerate(shifts):
        features = {"x": round(r.gauss(shift, 1), 3)}
        latency = 10 * (1 + shift) + r.random()
        yield prediction(f"r{i}", T0 + i * SECOND, 1.0, features=features, latency_ms=latency)


PROFILE = {"m": a_profile([event["features"] for event in moving([0.0] * 2_000, seed=9)])}
SLOW = a_rule("slow", "latency_p95_ms", above=1.2, of=LimitBasis.SHARE, hard=True)


def a_watched_model() -> ModelSpec:
    window = replace(timed(500 * SECOND, 500 * SECOND), pane=100 * SECOND)
    return a_model(window=window, drift=a_drift(events=1_000_000), reference=from_file(), rules=(SLOW,))


CALM = [0.0] * 3_000
RISING = CALM + [0.5] * 2_000 + [2.0] * 2_000
FALLING = CALM + [2.0] * 2_000 + [0.5] * 2_000
NOISY = CALM + [0.5 + 0.02 * (i % 7) for i in range(6_000)]


def told_of(shifts: Sequence[float]) -> Told:
    run = Run(a_core(a_watched_model()), profiles=PROFILE)
    run.feed(records_of(moving(shifts)))
    run.commit(last=True)
    return run.told()


def effects(alerts: Sequence[dict[str, Any]]) -> list[float]:
    return [alert["features"][0]["effect"] for alert in alerts]


def test_a_rising_stream_is_told_as_it_rises() -> None:
    found = effects(told_of(RISING).alerts("drift"))

    assert found == sorted(found)
    assert 3 <= len(found) <= 6
    assert found[-1] > 1.5


def test_a_falling_stream_is_told_as_it_falls() -> None:
    found = effects(told_of(FALLING).alerts("drift"))

    assert max(found) > 1.5
    assert found[-1] < 0.6
    assert len(found) <= 7


def test_a_noisy_stream_is_told_as_often_as_a_steady_one() -> None:
    steady = told_of(CALM + [0.56] * 6_000)
    noisy = told_of(NOISY)

    assert len(noisy.alerts("drift")) == len(steady.alerts("drift")) <= 3
    assert len(noisy.alerts("metric")) == len(steady.alerts("metric")) <= 2


@pytest.mark.parametrize("shifts", [RISING, FALLING], ids=["rising", "falling"])
def test_a_live_run_that_was_begun_again_tells_what_a_replay_tells(tmp_path: Path, shifts: list[float]) -> None:
    records = records_of(moving(shifts))
    replay = Run(a_core(a_watched_model()), ends_of(records), profiles=PROFILE)
    replay.feed(records)
    wanted = replay.finish().alerts()
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    run = StoredRun(a_core(a_watched_model()), profiles=PROFILE, engine=engine)
    for start in range(0, len(records), 450):
        run.feed(records[start : start + 450])
        run.commit()
        run.restart()
    found = run.finish().alerts()
    engine.dispose()

    assert found == wanted
    assert len(found) > 3
