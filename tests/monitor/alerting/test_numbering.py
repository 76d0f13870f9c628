"""Numbers of records, and what an operator's silence changes."""

from __future__ import annotations

import json

from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.numbering import AlertNumbering, NumberingState, Silence
from monitor.alerting.records import AlertKind, AlertRecord, AlertWindow, MetricEvidence, Subject
from monitor.pipeline.commands import CommandName
from monitor.saved import from_plain, to_plain
from monitor.spec import Severity
from tests.monitor.kit import HOUR, MINUTE, SECOND, T0, Run, a_core, a_model, a_rule, believed, counted, prediction


def an_episode(kind: AlertKind = AlertKind.METRIC, name: str = "a") -> SimpleEpisode:
    return SimpleEpisode(Subject("m", "v1", kind, name))


# -- numbers ---------------------------------------------------------------------------------------------


def test_the_number_of_a_record_grows_for_ever() -> None:
    """Over all episodes of a subject, and apart from other subjects."""
    alerts, one, other = AlertNumbering(), an_episode(), an_episode(name="b")
    out: list[AlertRecord | None] = []
    for now in (1, 2):
        out.append(alerts.publish(one.fire(Severity.WARNING, "", now, now)))
        out.append(alerts.publish(other.fire(Severity.WARNING, "", now, now)))
        out.append(alerts.publish(one.resolve("", now)))

    found = [r for r in out if r is not None]
    assert [(r.subject.name, r.seq) for r in found] == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("a", 4)]
    assert len({r.event_id for r in found if r.subject.name == "a"}) == 2
    assert len({r.event_id for r in found if r.subject.name == "b"}) == 1


def test_nothing_to_say_is_not_numbered() -> None:
    alerts = AlertNumbering()

    assert alerts.publish_all([None, an_episode().resolve("", 5)]) == []
    assert alerts.state == NumberingState()


# -- silences --------------------------------------------------------------------------------------------


def test_a_silence_covers_its_version_and_kind_until_its_time() -> None:
    subject = Subject("m", "v1", AlertKind.METRIC, "a")

    assert Silence(10, "").covers(subject, 9)
    assert not Silence(10, "").covers(subject, 10)
    assert Silence(10, "", version="v1", kind="metric").covers(subject, 9)
    assert not Silence(10, "", version="v2").covers(subject, 9)
    assert not Silence(10, "", kind="drift").covers(subject, 9)


def silenced(*silences: Silence) -> AlertNumbering:
    return AlertNumbering(NumberingState(silences=silences))


def test_what_fires_in_a_silence_is_said_when_it_ends() -> None:
    alerts, episode = silenced(Silence(10, "known")), an_episode()
    first = alerts.publish(episode.fire(Severity.WARNING, "told", 5, 5))
    assert first is not None
    assert [r.silenced for r in (first, *alerts.unmute(9))] == [True]

    (again,) = alerts.unmute(10)

    assert (again.silenced, again.seq, again.issued_at, again.starts_at) == (False, 2, 10, 5)
    assert not alerts.silences


def test_what_fired_and_ended_in_a_silence_is_not_said() -> None:
    alerts, episode = silenced(Silence(10, "known")), an_episode()
    alerts.publish(episode.fire(Severity.WARNING, "told", 5, 5))
    alerts.publish(episode.resolve("over", 7))

    assert alerts.unmute(10) == []


def test_what_another_silence_covers_stays_silent() -> None:
    alerts = silenced(Silence(10, "one"), Silence(20, "other"))
    alerts.publish(an_episode(AlertKind.DRIFT).fire(Severity.WARNING, "", 5, 5))

    assert alerts.unmute(10) == []
    assert [s.until for s in alerts.silences] == [20]


def test_what_fires_in_a_silence_is_said_once_in_the_order_in_which_it_first_fired() -> None:
    """With its latest record."""
    alerts, one, other = silenced(Silence(10, "known")), an_episode(), an_episode(name="b")
    for now, episode in ((5, one), (6, other), (7, one)):
        alerts.publish(episode.fire(Severity.WARNING, f"at {now}", now, now))

    assert [(r.subject.name, r.summary) for r in alerts.unmute(10)] == [("a", "at 7"), ("b", "at 6")]
    assert alerts.state.muted == []


def test_numbers_silences_and_what_is_muted_come_back() -> None:
    alerts = silenced(Silence(10, "one", "v1", "metric"))
    metric = MetricEvidence("mae", 2.0, 1.0, 1.5, 100)
    window = AlertWindow(1, 5, 100)
    alerts.publish(an_episode().fire(Severity.CRITICAL, "told", 5, 5, window, metric))

    restored = AlertNumbering(from_plain(json.loads(json.dumps(to_plain(alerts.state))), NumberingState))

    assert restored.state == alerts.state
    assert restored.unmute(10) == alerts.unmute(10)


# -- on a stream -----------------------------------------------------------------------------------------


def test_a_silenced_alert_is_on_record_and_counted() -> None:
    rule = a_rule("errors", "error_rate", above=0.1, hard=True)
    run = Run(a_core(a_model(window=counted(10, 10), rules=(rule,))))
    run.events(prediction("0", T0))
    result = run.command(CommandName.SILENCE, for_ms=HOUR)
    run.events(*(prediction(f"{i}", T0 + i, None, error="Timeout") for i in range(1, 30)))

    (alert,) = run.told().alerts()
    assert alert["silenced"]
    assert result.startswith("silent until ")
    assert run.told().status["alerts"]["firing"] == 1


def test_the_end_of_a_silence_is_at_the_event_that_passes_it() -> None:
    rule = a_rule("errors", "error_rate", above=0.1, hard=True)
    run = Run(a_core(a_model(window=counted(10, 10), rules=(rule,))))
    run.events(*believed(prediction("0", T0)))
    run.command(CommandName.SILENCE, for_ms=MINUTE)
    errors = [prediction(f"{i}", T0 + i * SECOND, None, error="Timeout") for i in range(1, 70)]
    run.events(*errors[:59], *believed(errors[59]), *errors[60:])

    alerts = [w for d in run.told_so_far for w in d.published if isinstance(w, AlertRecord)]
    assert [(a.silenced, a.issued_at) for a in alerts] == [(True, T0 + 9 * SECOND), (False, T0 + MINUTE)]
