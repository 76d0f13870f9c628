"""The life of alerts: what is told when, under which ids, and what an operator's silence changes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding, Value
from monitor.alerting.drift_episodes import DriftEpisode, DriftEpisodeState
from monitor.alerting.records import (
    AlertKind,
    AlertRecord,
    AlertStatus,
    AlertWindow,
    ClosedBecause,
    DriftedFeature,
    Subject,
)
from monitor.saved import from_plain, to_plain
from monitor.spec import ModelSpec, Severity
from monitor.stream.types import Batch
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    counted,
    from_file,
    prediction,
    records_of,
    timed,
)

FEATURES = ("age", "load", "zip")


def a_finding(feature: str, weight: float, *, statistic: str = "ks", family: Family = Family.DRIFT) -> Finding:
    return Finding(family, feature, statistic, weight / 10, weight / 10, 0.1, lambda: 1e-9, 1e-6, 100, 0.0)


def a_check(
    *findings: Finding,
    calm: Sequence[str] = (),
    judged: Sequence[str] = FEATURES,
    family: Family = Family.DRIFT,
) -> CheckResult:
    """A check that judged these features; it calls calm what it lists as such."""
    statistic = "ks" if family is Family.DRIFT else "missing_rate"
    values = [Value(name, statistic, 0.0, 100) for name in judged]
    values += [Value(name, "missing_rate", 0.0, 100) for name in FEATURES]
    return CheckResult(tuple(values), findings, frozenset((family, name) for name in calm), {})


class Checks:
    """Feeds an episode, a check a minute."""

    def __init__(self, family: Family = Family.DRIFT, resolve_after: int = 3) -> None:
        self.episode = DriftEpisode("m", "v1", family, resolve_after)
        self.now = 0

    def take(self, check: CheckResult, watched: Sequence[str] = FEATURES) -> AlertRecord | None:
        self.now += MINUTE
        window = AlertWindow(self.now - 10 * MINUTE, self.now, 1_000)
        return self.episode.update(check, window, watched, lambda name: None)


def names(record: AlertRecord | None) -> list[str]:
    assert record is not None
    return [feature.name for feature in record.features]


# -- drift -----------------------------------------------------------------------------------------------


def test_an_episode_begins_with_the_window_that_raised_it() -> None:
    checks = Checks()

    assert checks.take(a_check()) is None
    record = checks.take(a_check(a_finding("load", 1.5), a_finding("age", 1.8)))

    assert record is not None
    assert (record.status, record.severity, record.begins) == (AlertStatus.FIRING, Severity.WARNING, True)
    assert record.starts_at == record.issued_at == 2 * MINUTE
    assert names(record) == ["age", "load"]
    assert record.summary == "2 of 3 features drifted: age, load"


def test_the_strongest_detector_speaks_for_a_feature() -> None:
    record = Checks().take(a_check(a_finding("age", 1.2), a_finding("age", 1.7, statistic="wasserstein")))

    assert record is not None
    (feature,) = record.features
    assert (feature.statistic, round(feature.weight, 9)) == ("wasserstein", 1.7)


def test_the_same_again_is_nothing_new() -> None:
    checks = Checks()
    checks.take(a_check(a_finding("age", 1.5)))

    assert checks.take(a_check(a_finding("age", 1.6))) is None


def test_a_feature_that_joins_is_a_new_record_of_the_same_episode() -> None:
    checks = Checks()
    first = checks.take(a_check(a_finding("age", 1.5)))
    second = checks.take(a_check(a_finding("load", 1.4)))

    assert first is not None
    assert second is not None
    assert names(second) == ["age", "load"]
    assert (second.event_id, second.begins) == (first.event_id, False)
    assert (second.starts_at, second.issued_at) == (MINUTE, 2 * MINUTE)


def test_twice_the_minimum_effect_is_critical_and_much_less_is_a_warning_again() -> None:
    """In between it stays as it was, so that it does not flutter."""
    checks = Checks()
    said = [checks.take(a_check(a_finding("age", weight))) for weight in (1.9, 2.1, 1.9, 1.7, 1.5, 1.9, 2.0)]

    assert [r and r.severity for r in said] == [
        Severity.WARNING, Severity.CRITICAL, None, None, Severity.WARNING, None, Severity.CRITICAL,
    ]  # fmt: skip


def test_it_ends_after_calm_checks_in_a_row() -> None:
    checks = Checks()
    checks.take(a_check(a_finding("age", 1.5), a_finding("load", 1.5)))

    both = a_check(calm=("age", "load"))
    said = [checks.take(check) for check in (both, both, a_check(calm=("load",)), both, both, both)]

    assert said[:-1] == [None] * 5
    last = said[-1]
    assert last is not None
    assert (last.status, last.ends_at) == (AlertStatus.RESOLVED, 7 * MINUTE)
    assert names(last) == ["age", "load"]
    assert checks.episode.state.starts_at is None


def test_a_check_that_could_not_judge_a_listed_feature_is_evidence_of_nothing() -> None:
    """It may be missing in all of the window: that is an alert of its own, and no end of this one."""
    checks = Checks()
    checks.take(a_check(a_finding("age", 1.5)))
    calm, silent = a_check(calm=("age",)), a_check(calm=("age",), judged=("load",))

    assert [checks.take(c) for c in (silent, silent, silent, calm, silent, calm)] == [None] * 6
    assert checks.take(calm) is not None


def test_a_feature_that_is_not_compared_any_more_leaves() -> None:
    checks = Checks()
    checks.take(a_check(a_finding("age", 1.5), a_finding("load", 1.5)))

    record = checks.take(a_check(a_finding("load", 1.5)), watched=("load", "zip"))

    assert record is not None
    assert (record.status, names(record)) == (AlertStatus.FIRING, ["load"])


def test_an_episode_of_which_nothing_is_compared_any_more_ends() -> None:
    checks = Checks()
    checks.take(a_check(a_finding("age", 1.5)))

    record = checks.take(a_check(), watched=("load", "zip"))

    assert record is not None
    assert (record.status, record.summary) == (AlertStatus.RESOLVED, "what drifted is not compared any more")


def test_drift_and_data_quality_are_two_alerts() -> None:
    drift, quality = Checks(), Checks(Family.DATA_QUALITY)
    check = a_check(a_finding("age", 3, statistic="missing_rate", family=Family.DATA_QUALITY))

    assert drift.take(check) is None
    record = quality.take(check)
    assert record is not None
    assert (record.subject.kind, record.summary) == (AlertKind.DATA_QUALITY, "1 of 3 features changed in quality: age")


def test_a_new_reference_ends_an_episode() -> None:
    checks = Checks()
    assert checks.episode.end(5, ClosedBecause.REFERENCE_CHANGED, "the reference was replaced") is None
    checks.take(a_check(a_finding("age", 1.5)))

    record = checks.episode.end(2 * MINUTE, ClosedBecause.REFERENCE_CHANGED, "the reference was replaced")

    assert record is not None
    assert (record.status, record.summary) == (AlertStatus.RESOLVED, "the reference was replaced")


def test_an_episode_comes_back_as_it_was() -> None:
    checks = Checks()
    checks.take(a_check(a_finding("age", 2.5)))
    checks.take(a_check(calm=("age",)))
    listed = checks.episode.state.listed["age"]
    checks.episode.state.listed["age"] = replace(listed, evidence=Evidence((0.5, 1.5), (1, 2, 3), (4, 5, 6)))
    restored = DriftEpisode("m", "v1", Family.DRIFT, 3)

    restored.state = from_plain(json.loads(json.dumps(to_plain(checks.episode.state))), DriftEpisodeState)

    assert restored == checks.episode


# -- ids -------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_what_an_alert_is_about_and_the_event_id_the_episode() -> None:
    """Known answers: whoever consumes alerts may compute them, and they never change."""
    subject = Subject("heat", "v1", AlertKind.METRIC, "latency", "eu")
    parts = json.dumps(["heat", "v1", "eu", "metric", "latency"])
    fingerprint = hashlib.sha256(parts.encode()).hexdigest()[:16]

    assert subject.fingerprint == fingerprint
    assert subject.event_id(5) == hashlib.sha256(f"{fingerprint}:5".encode()).hexdigest()[:32]


def test_what_alerts_are_about_differs_in_every_part() -> None:
    plain = Subject("m", "v1", AlertKind.DRIFT)
    others = [
        replace(plain, model="n"),
        replace(plain, version="v2"),
        replace(plain, kind=AlertKind.METRIC),
        replace(plain, name="x"),
        replace(plain, segment="eu"),
    ]

    assert len({s.fingerprint for s in (plain, *others)}) == 6


# -- on a stream -----------------------------------------------------------------------------------------


def moving(count: int, shifted: range, *, step: int = SECOND) -> Iterator[Event]:
    """An answer a second; the features x and y move within `shifted`."""
    r = random.Random(5)
    for i in range(count):
        x, y = r.gauss(0, 1), r.gauss(0, 1)
        moved = i in shifted
        features = {"x": round(x + 3 * moved, 3), "y": round(y, 3)}
        yield prediction(f"r{i}", T0 + i * step, 1.0, features=features)


PROFILE = {"m": a_profile([event["features"] for event in moving(1_000, range(0))])}
WATCHED = a_model(window=counted(200, 50), drift=a_drift(events=1_000_000), reference=from_file())


def told_of(model: ModelSpec, events: Iterator[Event]) -> Told:
    run = Run(a_core(model), profiles=PROFILE)
    run.feed(records_of(events))
    run.commit(last=True)
    return run.told()


def test_a_drift_alert_has_everything_that_an_alert_has() -> None:
    first, *_, last = told_of(WATCHED, moving(1_400, range(400, 800))).alerts("drift")

    assert set(first) == {
        "schema", "event_id", "fingerprint", "seq", "kind", "status", "severity", "model", "version", "labels",
        "summary", "starts_at", "ends_at", "closed_because", "issued_at", "window", "windows", "since", "features",
        "metric", "rule", "silenced",
    }  # fmt: skip
    (feature,) = first["features"]
    assert feature["name"] == "x"
    assert feature["p_value"] < feature["threshold"] < 1e-3
    bins = len(feature["reference"]["edges"]) + 1
    assert len(feature["reference"]["counts"]) == len(feature["current"]["counts"]) == bins
    assert sum(feature["current"]["counts"]) == 200
    assert (first["status"], first["ends_at"], first["metric"], first["rule"]) == ("firing", None, None, None)
    assert (last["status"], last["ends_at"]) == ("resolved", last["issued_at"])
    assert last["event_id"] == first["event_id"]


def test_alerts_of_drift_and_of_rules_name_the_window_that_was_measured() -> None:
    rules = (a_rule("mean", "prediction_mean", above=-1e9),)
    told = told_of(replace(WATCHED, rules=rules), moving(1_400, range(400, 800)))

    for record in (told.alerts("drift")[0], told.alerts("metric")[0]):
        window = record["window"]
        (told,) = record["windows"]
        assert told.items() >= {
            "window": "200 events", "from": window["start"], "to": window["end"], "events": window["events"]
        }.items()  # fmt: skip


def test_a_second_episode_has_an_id_of_its_own_and_goes_on_counting() -> None:
    events = list(moving(3_000, range(400, 800)))
    shifted = [{**e, "features": {**e["features"], "x": e["features"]["x"] + 3}} for e in events[2_000:2_400]]
    alerts = told_of(WATCHED, iter([*events[:2_000], *shifted, *events[2_400:]])).alerts("drift")

    assert len({a["event_id"] for a in alerts}) == 2
    assert len({a["fingerprint"] for a in alerts}) == 1
    assert [a["seq"] for a in alerts] == list(range(1, len(alerts) + 1))


def test_no_data_is_never_the_end_of_drift() -> None:
    """The stream stops while an episode runs: that is an alert of its own."""
    model = replace(WATCHED, window=timed(50 * SECOND, 200 * SECOND), no_data_after=5 * MINUTE)
    run = Run(a_core(model), profiles=PROFILE, partitions=(0, 1))
    run.feed(records_of(moving(600, range(400, 800)), [i % 2 for i in range(600)]))
    for hours in range(1, 5):
        run.process(Batch.empty(), T0 + hours * HOUR, list(run.pipeline.positions))
    run.commit()

    assert {a["status"] for a in run.told().alerts("drift")} == {"firing"}
    (silence,) = run.told().alerts("no_data")
    assert (silence["status"], silence["version"]) == ("firing", "")


def test_a_record_of_many_features_fits_into_a_message() -> None:
    """All are named; the most important ones show how they are distributed."""
    levels = tuple(f"{'x' * 200}{i}" for i in range(40))
    evidence = Evidence(levels, (1,) * 40, (2,) * 40)
    features = [DriftedFeature(f"f{i}", "chi_square", 0.5, 0.5, 1e-9, 1e-6, 5.0, evidence) for i in range(500)]
    subject = Subject("m", "v1", AlertKind.DRIFT)

    document = AlertRecord(
        subject, 1, AlertStatus.FIRING, Severity.CRITICAL, "", T0, None, T0, features=tuple(features)
    ).document()

    shown = [bool(feature["reference"]["counts"]) for feature in document["features"]]
    assert len(json.dumps(document)) < 1 << 20
    assert [feature["name"] for feature in document["features"]] == [f.name for f in features]
    assert shown == sorted(shown, reverse=True)
    assert 10 < sum(shown) < 500
