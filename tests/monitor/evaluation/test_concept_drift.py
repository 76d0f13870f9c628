"""Concept drift: errors that rise fire, errors that fall back resolve, and nothing else does either."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from sqlalchemy.engine import Engine

from detectors.types import FloatArray
from monitor.alerting.records import AlertRecord, AlertStatus, ClosedBecause
from monitor.evaluation.concept_drift import ConceptDrift, SavedConceptDrift
from monitor.pipeline.commands import CommandName
from monitor.saved import from_plain, to_plain
from monitor.spec import CoreSpec, Severity, Task
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
    counted,
    ends_of,
    learned,
    outcome,
    prediction,
    records_of,
    replay_of,
    some_outcomes,
    timed,
)

N = 1_000


def a_watch(task: Task = Task.BINARY, baseline_n: int = N) -> ConceptDrift:
    return ConceptDrift("m", "v1", task, baseline_n)


def mistakes(*levels: tuple[float, int], seed: int = 0) -> FloatArray:
    """1 where a classifier is wrong, at one rate after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(count) < rate).astype(np.float64) for rate, count in levels])


def deviations(*levels: tuple[float, int], seed: int = 0) -> FloatArray:
    """Errors of a regression, normal with one deviation after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.standard_normal(count) * sd for sd, count in levels])


def watched(watch: ConceptDrift, errors: FloatArray) -> list[tuple[int, AlertRecord]]:
    """What a watch says of errors; stream time is the number of the pair."""
    return watch.add(errors, np.zeros(len(errors)), np.arange(len(errors)))


def statuses(said: list[tuple[int, AlertRecord]]) -> list[AlertStatus]:
    return [record.status for _, record in said]


FIRING, RESOLVED = AlertStatus.FIRING, AlertStatus.RESOLVED


# -- firing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "errors"),
    [(Task.BINARY, mistakes((0.1, 5_000), (0.4, 500))), (Task.REGRESSION, deviations((2.0, 5_000), (6.0, 500)))],
)
def test_a_rise_of_errors_fires(task: Task, errors: FloatArray) -> None:
    """A warning, soon after the rise, with the level before and after."""
    ((pair, record),) = watched(a_watch(task), errors)

    assert 5_000 < pair < 5_300
    assert (record.status, record.severity, record.begins) == (FIRING, Severity.WARNING, True)
    assert (record.starts_at, record.issued_at) == (pair, pair)
    assert record.metric is not None
    assert record.metric.baseline == pytest.approx(np.abs(errors[:5_000]).mean(), rel=0.1)
    assert record.metric.value == pytest.approx(np.abs(errors[5_000:]).mean(), rel=0.35)
    assert record.metric.n == pytest.approx(pair + 1 - 5_000, abs=40)


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_m33_a_fall_of_errors_does_not_fire(task: Task) -> None:
    """Good news needs no page."""
    for seed in range(10):
        errors = mistakes((0.4, 4_000), (0.1, 4_000), seed=seed)
        errors = errors if task is Task.BINARY else errors * deviations((1.0, 8_000), seed=seed)
        assert watched(a_watch(task), errors) == []


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_a_stationary_classifier_does_not_fire(rate: float) -> None:
    """Twenty streams of ten thousand."""
    assert sum(len(watched(a_watch(), mistakes((rate, 10_000), seed=seed))) for seed in range(20)) == 0


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.standard_normal(10_000),
        lambda rng: rng.standard_exponential(10_000),
        lambda rng: rng.standard_t(2.5, 10_000),
        lambda rng: np.full(10_000, 3.0),
    ],
)
def test_a_stationary_regression_does_not_fire(draw: Callable[[np.random.Generator], FloatArray]) -> None:
    """Whatever its errors are like: light tails, heavy ones, none at all."""
    streams = [draw(np.random.default_rng(seed)) for seed in range(10)]

    assert sum(len(watched(a_watch(Task.REGRESSION), errors)) for errors in streams) == 0


def test_errors_that_come_in_clusters_hardly_ever_fire() -> None:
    """test_m04: AR(1) with .9, ten streams of ten thousand. Taken one by one they would fire a hundred times."""
    fired = 0
    for seed in range(10):
        noise = np.random.default_rng(seed).standard_normal(10_000) * np.sqrt(1 - 0.81)
        fired += len(watched(a_watch(Task.REGRESSION), lfilter([1.0], [1.0, -0.9], noise)))

    assert fired <= 1


def test_errors_in_clusters_that_rise_fire() -> None:
    """Later, but they do."""
    noise = np.random.default_rng(0).standard_normal(10_000) * np.sqrt(1 - 0.81)
    errors = lfilter([1.0], [1.0, -0.9], noise) * np.repeat([1.0, 2.5], 5_000)
    ((pair, _),) = watched(a_watch(Task.REGRESSION), errors)

    assert 5_000 < pair < 6_500


@given(st.integers(-30, 30))
@settings(max_examples=20)
def test_m31_units_do_not_matter(power: int) -> None:
    """Errors times a power of two fire at the same pairs."""
    errors = deviations((1.0, 2_000), (3.0, 1_000), (1.0, 3_000))

    plain, scaled = (watched(a_watch(Task.REGRESSION), errors * unit) for unit in (1.0, 2.0**power))

    assert [(pair, r.status) for pair, r in scaled] == [(pair, r.status) for pair, r in plain]
    assert len(plain) == 2


def test_errors_that_hardly_vary_may_double() -> None:
    """The scale leaves room above the first errors."""
    errors = np.concatenate([np.full(3_000, 5.0), np.full(500, 9.0)])

    assert statuses(watched(a_watch(Task.REGRESSION), errors)) == [FIRING]


def test_a_model_without_errors_that_begins_to_err_fires() -> None:
    """There is no scale: anything that is something counts."""
    errors = np.concatenate([np.zeros(3_000), np.full(500, 1e-9)])

    assert statuses(watched(a_watch(Task.REGRESSION), errors)) == [FIRING]


def test_errors_beyond_all_floats_count_as_large() -> None:
    """The difference of two of them overflows."""
    predicted, actual = np.full(3_000, 1e308), np.full(3_000, 1e308)
    actual[2_000:] = -1e308

    assert statuses(a_watch(Task.REGRESSION).add(predicted, actual, np.arange(3_000))) == [FIRING]


def test_pairs_without_a_prediction_are_passed_over() -> None:
    """A failed answer has an outcome too."""
    errors = mistakes((0.1, 3_000), (0.5, 500))
    holes = np.insert(errors, np.arange(0, 3_500, 7), np.nan)
    ((plain, _),) = watched(a_watch(), errors)
    ((pair, _),) = watched(a_watch(), holes)

    assert np.count_nonzero(~np.isnan(holes[:pair])) == plain


def test_a_rise_among_the_first_pairs_is_told_with_the_last_of_them() -> None:
    """They are learned from together."""
    said = watched(a_watch(baseline_n=4_000), mistakes((0.1, 2_000), (0.25, 2_000)))

    assert [pair for pair, _ in said] == [3_999]


def test_nothing_is_said_before_there_is_a_baseline() -> None:
    """However bad it looks."""
    assert watched(a_watch(), mistakes((0.0, 500), (1.0, 499))) == []


# -- resolving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_errors_that_fall_back_resolve(task: Task) -> None:
    """After `baseline_n` pairs at the level before, or the next so many that are clear."""
    errors = mistakes((0.1, 4_000), (0.5, 2_000), (0.1, 4_000))
    errors = errors if task is Task.BINARY else 3 * errors + deviations((0.1, 10_000))
    said = watched(a_watch(task), errors)

    assert statuses(said) == [FIRING, RESOLVED]
    pair, record = said[1]
    assert 6_000 + N <= pair <= 6_000 + 2 * N + 300
    assert (record.starts_at, record.ends_at) == (said[0][0], pair)
    assert record.event_id == said[0][1].event_id
    assert record.metric is not None
    assert record.metric.value <= record.metric.limit


def test_errors_that_stay_high_do_not_resolve() -> None:
    """Nor does getting used to them."""
    assert statuses(watched(a_watch(), mistakes((0.1, 4_000), (0.4, 30_000)))) == [FIRING]


def test_errors_that_fall_half_way_do_not_resolve() -> None:
    """Near the level before is within a fifth of the rise."""
    assert statuses(watched(a_watch(), mistakes((0.1, 4_000), (0.6, 2_000), (0.35, 10_000)))) == [FIRING]


def test_a_further_rise_is_said_again() -> None:
    """In the same episode, against the level before the first."""
    said = watched(a_watch(), mistakes((0.05, 4_000), (0.3, 3_000), (0.7, 3_000), (0.05, 4_000)))
    first, second, last = (record for _, record in said)

    assert [first.status, second.status, last.status] == [FIRING, FIRING, RESOLVED]
    assert first.event_id == second.event_id == last.event_id
    assert (first.begins, second.begins) == (True, False)
    assert first.metric is not None
    assert second.metric is not None
    assert second.metric.baseline == first.metric.baseline
    assert second.metric.value > 0.5


def test_a_rise_after_the_end_is_another_episode() -> None:
    """With an id of its own."""
    said = watched(a_watch(), mistakes((0.1, 4_000), (0.5, 1_000), (0.1, 4_000), (0.5, 1_000)))

    assert statuses(said) == [FIRING, RESOLVED, FIRING]
    assert said[0][1].event_id != said[2][1].event_id


def test_a_level_is_never_measured_over_a_handful() -> None:
    """A tiny `baseline_n`: ten lucky answers are no evidence."""
    for seed in range(10):
        said = watched(a_watch(baseline_n=10), mistakes((0.05, 3_000), (0.4, 5_000), seed=seed))
        assert RESOLVED not in statuses(said)
        assert FIRING in statuses(said)


def test_a_reference_that_was_replaced_ends_the_episode() -> None:
    """What is normal is learned anew: the level that was high is normal now."""
    watch = a_watch()
    watched(watch, mistakes((0.1, 4_000), (0.5, 1_000)))
    record = watch.abandon(9_000)

    assert record is not None
    assert (record.status, record.ends_at) == (RESOLVED, 9_000)
    assert record.closed_because is ClosedBecause.REFERENCE_CHANGED
    assert watched(watch, mistakes((0.5, 10_000))) == []
    assert watch.abandon(10) is None


# -- keeping ---------------------------------------------------------------------------------------------

RISES_AND_FALLS = mistakes((0.1, 1_500), (0.5, 900), (0.1, 2_500), (0.3, 900), (0.6, 500), (0.1, 2_500))


def said_in_parts(task: Task, errors: FloatArray, cuts: list[int], *, saving: bool) -> tuple[list[Any], dict[str, Any]]:
    watch, said, start = a_watch(task, 300), list[Any](), 0
    for stop in [*sorted(cuts), len(errors)]:
        part = errors[start:stop]
        found = watch.add(part, np.zeros(len(part)), np.arange(start, stop))
        said += [(pair + start, record) for pair, record in found]
        start = stop
        if saving:
            saved = json.loads(json.dumps(to_plain(watch.saved())))
            watch = a_watch(task, 300)
            watch.restore(from_plain(saved, SavedConceptDrift))
    return said, to_plain(watch.saved())


@settings(max_examples=25)
@given(
    st.sampled_from([Task.BINARY, Task.REGRESSION]),
    st.lists(st.integers(0, len(RISES_AND_FALLS)), max_size=8),
    st.booleans(),
)
def test_neither_batches_nor_restarts_matter(task: Task, cuts: list[int], saving: bool) -> None:
    """The same records at the same pairs, and the same state in the end."""
    errors = RISES_AND_FALLS * (1.0 if task is Task.BINARY else 1.7)
    whole = said_in_parts(task, errors, [], saving=False)

    assert said_in_parts(task, errors, cuts, saving=saving) == whole
    assert statuses(whole[0]).count(RESOLVED) == 2


def test_state_is_small() -> None:
    """It is written with every commit: half a kilobyte for a classifier, a dozen for a regression."""
    classifier, regression = a_watch(), a_watch(Task.REGRESSION)
    watched(classifier, mistakes((0.1, 20_000)))
    watched(regression, deviations((1.0, 20_000)))

    assert len(str(to_plain(classifier.saved()))) < 3_000
    assert len(str(to_plain(regression.saved()))) < 14_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'core.db'}")
    yield engine
    engine.dispose()


# -- in the core -----------------------------------------------------------------------------------------


def a_watched_core(*, by_time: bool, task: Task = Task.BINARY, adwin: bool = True) -> CoreSpec:
    outcomes = replace(
        some_outcomes(pane=MINUTE if by_time else 0, baseline_n=200), concept_drift="adwin" if adwin else None
    )
    window = timed(MINUTE, 5 * MINUTE) if by_time else counted(100, 50)
    return a_core(a_model(task=task, window=window, outcomes=outcomes))


def answered(wrong: FloatArray, *, version: str = "v1", first: int = 0) -> list[Event]:
    """A prediction a second; its outcome, half a minute later, shows whether it was wrong."""
    events: list[Event] = []
    for i in range(first, first + len(wrong)):
        at = T0 + i * SECOND
        events.append(prediction(f"{version} {i}", at, 1, version=version))
        if i - 30 >= first:
            events.append(outcome(f"{version} {i - 30}", at, 0 if wrong[i - 30 - first] else 1))
    return events


RISE_AND_FALL = mistakes((0.1, 800), (0.6, 300), (0.1, 900))


def replayed(core: CoreSpec, events: list[Event], sizes: list[int] | None = None) -> Told:
    return replay_of(core, events, sizes=sizes)


@pytest.mark.parametrize("by_time", [True, False])
def test_an_alert_of_the_kind_concept_drift_is_published(by_time: bool) -> None:
    """In stream time, between the outcome that showed it and the one that showed its end."""
    told = replayed(a_watched_core(by_time=by_time), answered(RISE_AND_FALL))
    fired, resolved = told.alerts("concept_drift")

    assert (fired["status"], fired["severity"], resolved["status"]) == ("firing", "warning", "resolved")
    assert fired["features"] == []
    assert fired["metric"]["name"] == "error"
    assert fired["metric"]["value"] > 0.4 > 0.2 > fired["metric"]["baseline"]
    assert resolved["event_id"] == fired["event_id"]
    assert fired["starts_at"] < resolved["ends_at"]
    assert told.status["alerts"]["by_kind"]["concept_drift"] == 1
    assert told.status["models"]["m"]["versions"]["v1"]["concept_drift"] is False


def test_while_it_fires_the_status_says_so() -> None:
    """Of the version."""
    told = replayed(a_watched_core(by_time=True), answered(RISE_AND_FALL[:1_100]))

    assert told.status["models"]["m"]["versions"]["v1"]["concept_drift"] is True


def test_m26_without_the_option_nothing_is_watched() -> None:
    """And with it something is."""
    assert replayed(a_watched_core(by_time=True, adwin=False), answered(RISE_AND_FALL)).alerts("concept_drift") == []


def test_every_version_is_watched_by_itself() -> None:
    """One errs more and more, the other does not."""
    steady = answered(mistakes((0.1, 1_100), seed=1), version="v0")
    both = sorted([*answered(RISE_AND_FALL[:1_100]), *steady], key=lambda event: int(event["time"]))

    assert {alert["version"] for alert in replayed(a_watched_core(by_time=True), both).alerts("concept_drift")} == {
        "v1"
    }


def test_levels_without_a_version_are_not_watched() -> None:
    """What business rules say is no model's concept."""
    told = replayed(a_watched_core(by_time=True), answered(RISE_AND_FALL[:1_100], version="rules"))

    assert told.alerts("concept_drift") == []
    assert told.status["models"]["m"]["versions"]["rules"]["outcomes"] > 1_000


@pytest.mark.parametrize("by_time", [True, False])
@pytest.mark.parametrize("sizes", [[37], [1_000, 1, 2, 3, 399], [911]])
def test_the_core_says_the_same_however_the_stream_is_cut(by_time: bool, sizes: list[int]) -> None:
    """Everything that was published, in order; the history and the status too."""
    core, events = a_watched_core(by_time=by_time), answered(RISE_AND_FALL)

    assert replayed(core, events, sizes) == replayed(core, events)


def test_before_stream_time_is_known_the_outcome_dates_what_it_shows() -> None:
    """A partition that has shown nothing yet holds the clock, but not the news."""
    run = Run(a_watched_core(by_time=False), partitions=(0, 1))
    run.feed(records_of(answered(RISE_AND_FALL[:1_100])))
    run.commit()
    (fired,) = run.told().alerts("concept_drift")

    assert run.pipeline.watermark.now < 0
    assert format_time(T0 + 800 * SECOND) < fired["starts_at"] < format_time(T0 + 1_100 * SECOND)


@pytest.mark.parametrize("stops", [(500,), (1_500, 1_700), (1_900, 2_400, 2_500, 3_000)])
def test_the_core_goes_on_after_a_restart_as_if_it_had_not_stopped(stops: tuple[int, ...], engine: Engine) -> None:
    """While it learns, before the rise, in the middle of an episode; by what the database has."""
    core, records = a_watched_core(by_time=True), records_of(answered(RISE_AND_FALL))
    stored = StoredRun(core, ends_of(records), engine=engine)
    start = 0
    for stop in stops:
        stored.feed(records[start:stop], [250])
        stored.commit()
        stored.restart()
        start = stop
    stored.feed(records[start:], [250])

    uncut = Run(core, ends_of(records))
    uncut.feed(records)
    assert stored.finish().alerts() == uncut.finish().alerts()


def test_switching_it_off_ends_its_alerts(engine: Engine) -> None:
    """Never by silence, and never for ever either."""
    records = records_of(answered(RISE_AND_FALL[:1_100]))
    stored = StoredRun(a_watched_core(by_time=True), engine=engine)
    stored.feed(records)
    stored.commit()
    stored.restart(a_watched_core(by_time=True, adwin=False))
    stored.events(prediction("next", T0 + HOUR, 1))

    assert [a["status"] for a in stored.told().alerts("concept_drift")] == ["firing", "resolved"]
    assert stored.told().alerts("concept_drift")[-1]["summary"] == "not configured any more"


def test_learning_the_reference_anew_ends_its_alerts() -> None:
    """An operator says that what is now is normal."""
    (model,) = a_watched_core(by_time=True).models
    run = Run(a_core(replace(model, reference=learned(500), drift=a_drift())))
    run.feed(records_of(answered(RISE_AND_FALL[:1_100])))
    run.command(CommandName.RELEARN, events=500)

    assert [a["status"] for a in run.told().alerts("concept_drift")] == ["firing", "resolved"]
