"""Episodes of drift that windows of several extents begin and end, and what their records say of the windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding, Value
from monitor.alerting.drift_episodes import DriftEpisode, WindowCheck
from monitor.alerting.records import AlertRecord, AlertStatus, AlertWindow, ChangeInterval, ClosedBecause
from monitor.saved import from_plain, to_plain
from tests.monitor.kit import MINUTE

FEATURES = ("age", "load", "zip")
# Minutes of each window; the configured one is of 10.
EXTENTS = {"2m": 2, "10m": 10, "30m": 30, "50m": 50}
CONFIGURED = "10m"
Weights = Mapping[str, float]


def a_finding(feature: str, weight: float) -> Finding:
    return Finding(Family.DRIFT, feature, "ks", weight / 10, weight / 10, 0.1, lambda: 1e-9, 1e-6, 100, 0.0)


def a_result(found: Weights, listed: Sequence[tuple[Family, str]] = ()) -> CheckResult:
    """A check that judged all features, found those to drift, and all others calm."""
    values = tuple(Value(name, "ks", 0.0, 100) for name in FEATURES)
    calm = frozenset((Family.DRIFT, name) for name in FEATURES if name not in found)
    findings = tuple(a_finding(name, weight) for name, weight in found.items())
    now = tuple(a_finding(name, found.get(name, 0.1)) for _, name in listed)
    return CheckResult(values, findings, calm, {}, now)


class Checks:
    """Feeds an episode, a check a minute; a window that is not named is calm, and None is one that was not judged."""

    def __init__(self, resolve_after: int = 3) -> None:
        self.episode = DriftEpisode("m", "v1", Family.DRIFT, resolve_after)
        self.now = 100 * MINUTE

    def take(self, found: Mapping[str, Weights | None] | None = None) -> AlertRecord | None:
        self.now += MINUTE
        listed = self.episode.features()
        checks = {label: self._check(label, (found or {}).get(label, {}), listed) for label in EXTENTS}
        current = checks.pop(CONFIGURED)
        assert current.result is not None
        return self.episode.update(current.result, current.window, FEATURES, current.evidence, list(checks.values()))

    def _check(self, label: str, found: Weights | None, listed: Sequence[tuple[Family, str]]) -> WindowCheck:
        minutes = EXTENTS[label]
        window = AlertWindow(self.now - minutes * MINUTE, self.now, 100 * minutes, label)

        def evidence(name: str) -> Evidence:
            return Evidence((0.5,), (50, 50), (minutes, minutes))

        return WindowCheck(window, None if found is None else a_result(found, listed), evidence, longer=minutes > 10)

    def until_over(self, found: Mapping[str, Weights | None] | None = None, most: int = 80) -> int:
        """Take checks until the episode ends; return how many."""
        for count in range(1, most + 1):
            record = self.take(found)
            if record is not None and record.status is AlertStatus.RESOLVED:
                assert record.closed_because is ClosedBecause.RECOVERED
                return count
        return 0


def test_any_window_begins_an_episode() -> None:
    for label in EXTENTS:
        record = Checks().take({label: {"age": 1.5}})

        assert record is not None
        assert (record.status, record.begins) == (AlertStatus.FIRING, True)
        assert record.window is not None
        assert record.window.label == CONFIGURED


def test_an_alert_names_the_windows_that_see_it_with_their_strongest_finding() -> None:
    record = Checks().take({"2m": {"age": 3.0, "load": 4.0}, "50m": {"age": 1.2}})

    assert record is not None
    told = [(w["window"], w["events"], w["feature"], w["statistic"], w["effect"], w["p_value"])
            for w in record.document()["windows"]]  # fmt: skip
    assert told == [("2m", 200, "load", "ks", 0.4, 1e-9), ("50m", 5_000, "age", "ks", 0.12, 1e-9)]
    assert record.summary == "2 of 3 features drifted: load, age (seen in 2m, 50m)"


def test_statistics_are_of_the_configured_window_where_it_sees_the_feature() -> None:
    record = Checks().take({"2m": {"age": 5.0, "load": 4.0}, "10m": {"age": 2.0}, "50m": {"load": 1.5}})

    assert record is not None
    features = {f["name"]: f for f in record.document()["features"]}
    assert (features["age"]["effect"], features["age"]["window"]) == (0.2, None)
    assert (features["load"]["effect"], features["load"]["window"]) == (0.4, "2m")
    assert [features[name]["current"]["counts"] for name in ("age", "load")] == [[10, 10], [2, 2]]
    assert "seen in" not in record.summary


def test_an_episode_ends_when_the_configured_window_and_all_shorter_ones_are_calm() -> None:
    """However long a longer one still shows what is over."""
    checks = Checks()
    checks.take({"10m": {"age": 2.0}, "50m": {"age": 1.5}})

    assert [checks.take({"2m": {"age": 2.0}, "50m": {"age": 1.5}}) for _ in range(10)].count(None) >= 9
    assert checks.episode.firing
    assert checks.until_over({"50m": {"age": 1.5}}) == 3


def test_a_longer_window_keeps_open_an_episode_that_it_alone_began() -> None:
    checks = Checks()
    checks.take({"50m": {"age": 1.5}})

    assert checks.until_over({"50m": {"age": 1.5}}, most=30) == 0
    assert checks.until_over() == 3


def test_an_episode_does_not_end_while_the_window_that_keeps_it_open_is_not_judged() -> None:
    checks = Checks()
    checks.take({"50m": {"age": 1.5}})

    assert checks.until_over({"50m": None}, most=30) == 0
    assert checks.until_over() == 3


def test_what_only_longer_windows_have_seen_is_kept_open_by_any_of_them() -> None:
    """Here the longest one goes on where the other ends."""
    checks = Checks()
    checks.take({"30m": {"age": 1.5}})
    checks.take({"30m": {"age": 1.5}, "50m": {"age": 1.2}})

    assert checks.until_over({"50m": {"age": 1.2}}, most=30) == 0


def test_a_feature_keeps_the_statistics_of_the_window_that_showed_it_until_a_nearer_one_does() -> None:
    """Though it is no finding of that window for a while, the noise of the configured one is not told."""
    checks = Checks()
    checks.take({"50m": {"age": 2.0}})
    told = [checks.take({"50m": {"age": 2.0}}) for _ in range(60)]
    nearer = checks.take({"10m": {"age": 1.9, "load": 1.1}})

    assert told == [None] * 60
    assert nearer is not None
    assert [(f.name, f.window) for f in nearer.features] == [("age", None), ("load", None)]


def test_a_longer_window_that_joins_later_does_not_keep_the_episode_open() -> None:
    checks = Checks()
    checks.take({"10m": {"age": 2.0}})
    checks.take({"10m": {"age": 2.0}, "50m": {"age": 2.0, "load": 1.2}})

    assert checks.until_over({"50m": {"age": 2.0}}) == 3


def test_what_is_over_does_not_begin_again_because_a_longer_window_still_holds_it() -> None:
    """Until that window has nothing of the time before the configured one was calm."""
    checks = Checks()
    checks.take({"10m": {"age": 2.0}})
    ended = checks.until_over({"50m": {"age": 2.0}})
    again = next(i for i in range(1, 100) if checks.take({"50m": {"age": 2.0}}) is not None)

    assert ended == 3
    assert again == 40


def test_another_feature_begins_an_episode_in_a_longer_window_meanwhile() -> None:
    checks = Checks()
    checks.take({"10m": {"age": 2.0}})
    checks.until_over({"50m": {"age": 2.0}})
    record = checks.take({"50m": {"age": 2.0, "load": 1.5}})

    assert record is not None
    assert [f.name for f in record.features] == ["load"]
    assert [seen.feature for seen in record.seen] == ["load"]


def test_a_new_change_is_seen_by_the_windows_that_hold_nothing_of_the_old_one() -> None:
    for label in ("2m", "10m"):
        checks = Checks()
        checks.take({"10m": {"age": 2.0}})
        checks.until_over()

        assert checks.take({label: {"age": 2.0}}) is not None


def test_when_the_change_began_stays_with_the_episode() -> None:
    checks = Checks()
    first = checks.take({"10m": {"age": 1.5}})
    checks.episode.date(ChangeInterval(95 * MINUTE, 94 * MINUTE, 97 * MINUTE))
    second = checks.take({"10m": {"age": 1.5, "load": 1.5}})

    assert first is not None
    assert first.document()["since"]["at"] == "1970-01-01T01:41:00.000Z"  # where nothing dates it: as it began
    assert second is not None
    assert second.document()["since"] == {
        "at": "1970-01-01T01:35:00.000Z", "from": "1970-01-01T01:34:00.000Z", "to": "1970-01-01T01:37:00.000Z",
    }  # fmt: skip
    checks.until_over()
    third = checks.take({"2m": {"age": 1.5}})
    assert third is not None
    assert third.change is None


def test_what_a_restart_restores_goes_on_as_it_was() -> None:
    """After any check: what keeps the episode open, what was near, what is over."""
    script: list[Mapping[str, Weights]] = [
        {"50m": {"age": 1.5}}, {"50m": {"age": 1.5}}, {"10m": {"load": 2.0}, "50m": {"age": 1.5}}, {}, {}, {},
        {"50m": {"load": 2.0}}, {"50m": {"load": 2.0, "zip": 1.1}}, {"2m": {"age": 2.0}}, {}, {}, {},
    ]  # fmt: skip
    for stop in range(len(script)):
        told = []
        for restarts in (False, True):
            checks, records = Checks(), []
            for i, found in enumerate(script):
                if restarts and i == stop:
                    plain = to_plain(checks.episode.state)
                    checks.episode.state = from_plain(plain, type(checks.episode.state))
                record = checks.take(found)
                records.append(record and record.document())
            told.append(records)
        assert told[0] == told[1]
