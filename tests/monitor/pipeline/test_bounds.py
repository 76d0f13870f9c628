"""What a stream brings of names is bounded: what is configured has its place, the rest is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from monitor.alerting.records import AlertKind, AlertRecord
from monitor.config import build
from monitor.config.load import parse
from monitor.pipeline import early_metrics
from monitor.pipeline.commands import CommandName
from monitor.spec import WindowSpec
from monitor.store.engine import connect
from tests.monitor.kit import (
    T0,
    Event,
    Run,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    counted,
    learned,
    outcome,
    prediction,
    some_outcomes,
    timed,
)

SECOND = 1_000
OWN_METRICS = """
stream: {url: "file:./s"}
store: {url: "sqlite:///x.db"}
models:
  m:
    task: regression
    champion: v1
    window: {events: 200, every: 100}
    metrics: {cost: lower}
    rules: [{name: costly, metric: cost, above: 5, hard: true, min_n: 1, severity: critical}]
    outcomes: null
"""


def named(i: int, names: int = 1) -> Event:
    """A prediction with the id of something in the names of features, and a real feature."""
    features = {f"item_{i}_{j}": 1 for j in range(names)} | {"load": float(i % 7)}
    return prediction(f"r{i}", T0 + i * SECOND, features=features)


def learning(window: WindowSpec, rows: int) -> Run:
    return Run(a_core(a_model(reference=learned(rows), window=window, drift=a_drift(1, events=1_000))))


def told(run: Run) -> list[tuple[str, int, str]]:
    return [
        (record.subject.name, record.starts_at, record.summary)
        for commit in run.told_so_far
        for record in commit.published
        if isinstance(record, AlertRecord) and record.subject.kind is AlertKind.DAEMON
    ]


def test_names_that_hold_an_id_are_not_learned_and_that_is_told_once() -> None:
    """With counted windows: the features that predictions share are the reference."""
    run = learning(counted(100, 50), 300)
    run.events(*(named(i, names=5) for i in range(400)))
    run.events(*(named(i, names=5) for i in range(400, 500)))
    profile = run.model.references.profile

    assert profile is not None
    assert [feature.name for feature in profile.features] == ["load"]
    assert "1500 features are left out" in profile.notices[-1]
    (alert,) = told(run)
    assert alert[:2] == ("features:m", T0 + 299 * SECOND)
    assert "the reference leaves out 1500 features" in alert[2]


def test_the_alert_about_names_is_the_same_however_the_stream_is_cut() -> None:
    """By time: at the end of the pane that completed the reference."""
    events = [named(i, names=5) for i in range(400)]
    found = []
    for size in (17, 400):
        run = learning(timed(10 * SECOND, 60 * SECOND), 300)
        for start in range(0, 400, size):
            run.events(*events[start : start + size])
        found.append(told(run))

    assert found[0] == found[1]
    assert [name for name, *_ in found[0]] == ["features:m"]


def test_features_that_predictions_share_are_learned_however_rare_others_are() -> None:
    """A thousand names are no cause to leave out anything."""
    run = learning(counted(100, 50), 300)
    run.events(*(named(i) for i in range(400)))
    profile = run.model.references.profile

    assert profile is not None
    assert len(profile.features) == 301
    assert not told(run)


def test_a_configured_metric_has_its_place_before_stray_ones() -> None:
    """Sixteen names that nobody configured came first."""
    run = Run(build.core(parse(OWN_METRICS, {})))
    stray: dict[str, float] = {f"t{i}_ms": 1.0 for i in range(16)}
    metrics = [stray | {"cost": 100.0}] + [{"cost": 100.0}] * 599
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, metrics=its) for i, its in enumerate(metrics)))
    version = run.pipeline.status()["models"]["m"]["versions"]["v1"]

    assert version["metrics"]["cost"] == 100.0
    assert version["firing"] == ["costly"]


def test_places_of_metrics_survive_a_restart_and_a_configuration_with_more(tmp_path: Path) -> None:
    """A metric that is configured later takes the next place; one for which there is none is said."""
    core = build.core(parse(OWN_METRICS, {}))
    (model,) = core.models
    before = replace(core, models=(replace(model, user_metrics=()),))
    run = StoredRun(before, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    stray: dict[str, float] = {f"t{i}_ms": float(i) for i in range(15)}
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, metrics=stray) for i in range(200)))
    run.restart(core)
    run.events(*(prediction(f"s{i}", T0 + (200 + i) * SECOND, metrics=stray | {"cost": 7.0}) for i in range(200)))
    metrics = run.pipeline.status()["models"]["m"]["versions"]["v1"]["metrics"]

    assert {name: metrics[name] for name in stray} == stray
    assert metrics["cost"] == 7.0
    run.restart(replace(core, models=(replace(model, user_metrics=("cost", "gain")),)))
    assert [(w.model, w.event) for w in run.pipeline.warnings] == [("m", "metric_without_place")]


def early(i: int, value: float = 1.5, names: int = 40) -> Event:
    """An outcome before its prediction, with so many metrics."""
    metrics = {f"metric_with_a_long_name_{j}": value for j in range(names)}
    return outcome(f"r{i}", T0 + i, 1.0, metrics=metrics)


def with_outcomes() -> Run:
    return Run(a_core(a_model(window=counted(10, 10), outcomes=some_outcomes())))


def test_metrics_of_early_outcomes_are_written_once() -> None:
    """A commit writes those that are new, as far as windows have a place for them."""
    run = with_outcomes()
    sizes = []
    for start in (0, 1_000, 2_000):
        run.events(*(early(i) for i in range(start, start + 1_000)))
        commit = run.told_so_far[-1]
        sizes.append([len(body) for subject, body in commit.models["m"].learned if subject.startswith("early:")])
        assert commit.shard["waiting_metrics"] == {}
    run.commit()

    assert [len(rows) for rows in sizes] == [1, 1, 1]
    assert max(size for rows in sizes for size in rows) < 1_000 * (16 + 2) * 8
    assert not run.told_so_far[-1].models["m"].learned


def test_a_stored_row_is_dropped_when_nothing_of_it_waits() -> None:
    """The last of its predictions has come."""
    run = with_outcomes()
    run.events(early(0), early(1))
    run.events(prediction("r0", T0))
    first = run.told_so_far[-1].models["m"].forget_learned
    run.events(prediction("r1", T0 + 1))

    assert first == []
    assert run.told_so_far[-1].models["m"].forget_learned == ["early:0"]


def test_metrics_of_early_outcomes_survive_a_restart(tmp_path: Path) -> None:
    """And a second one, with what an earlier release stored."""
    core = a_core(a_model(window=counted(10, 10), outcomes=some_outcomes()))
    run = StoredRun(core, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*(early(i, 2.0, 1) for i in range(5)))
    run.restart()
    run.events(*(early(i, 4.0, 1) for i in range(5, 10)))
    run.restart()
    run.events(*(prediction(f"r{i}", T0 + i, 1.0) for i in range(10)))

    metrics = run.pipeline.status()["models"]["m"]["versions"]["v1"]["metrics"]
    assert metrics["metric_with_a_long_name_0"] == 3.0


def test_metrics_of_too_many_early_outcomes_are_dropped_and_counted() -> None:
    """The earliest ones."""
    run = with_outcomes()
    run.events(*(early(i, names=1) for i in range(early_metrics.MOST + 20)))

    assert run.pipeline.status()["join"]["early_metrics_dropped"] == 20


def test_the_alert_about_names_lasts_as_long_as_the_reference_and_a_start_goes_on_with_it(tmp_path: Path) -> None:
    """Whatever a daemon ends that begins anew; `driftd reference` with a clean table ends it."""
    core = learning(counted(100, 50), 300).core
    run = StoredRun(core, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*(named(i, names=5) for i in range(400)))
    run.restart()
    run.session.resolve_all("the daemon began anew", T0)
    run.events(*(named(i, names=5) for i in range(400, 500)))
    assert [statuses(run), *run.pipeline.daemon.state.firing] == [["firing"], "features:m"]

    run.command(CommandName.REFERENCE, profile=a_profile([{"load": float(i % 7)} for i in range(300)]))
    assert statuses(run) == ["firing", "resolved"]


def test_an_alert_about_names_that_was_ended_though_it_lasts_begins_again(tmp_path: Path) -> None:
    """As a release did that ended it with each start."""
    run = StoredRun(learning(counted(100, 50), 300).core, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*(named(i, names=5) for i in range(400)))
    run.pipeline.daemon.state.firing.clear()
    run.commit()
    run.restart()
    run.events(named(400))

    assert statuses(run) == ["firing", "firing"]


def test_to_learn_anew_ends_the_alert_about_names() -> None:
    run = learning(counted(100, 50), 300)
    run.events(*(named(i, names=5) for i in range(400)))
    run.command(CommandName.RELEARN, events=100)

    assert statuses(run) == ["firing", "resolved"]


def test_the_alert_about_names_ends_with_the_model(tmp_path: Path) -> None:
    run = StoredRun(learning(counted(100, 50), 300).core, engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    run.events(*(named(i, names=5) for i in range(400)))
    run.restart(a_core(a_model("n")))
    run.events(prediction("later", T0 + 500 * SECOND, model="n"))

    assert statuses(run) == ["firing", "resolved"]


def statuses(run: Run) -> list[str]:
    run.commit()
    return [alert["status"] for alert in run.told().alerts("daemon")]
