"""A silence and the end of an episode: who was told that it fires is told that it ends, in every order of events."""

from __future__ import annotations

import itertools

import pytest

from fallback.types import Decision
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.numbering import AlertNumbering, NumberingState, Silence
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, Subject
from monitor.pipeline.commands import CommandName
from monitor.saved import from_plain, to_plain
from monitor.spec import Severity
from tests.monitor.kit import HOUR, SECOND, T0, Run, a_core, a_model, a_rule, believed, counted, prediction

UNTIL = 100


def told(*steps: str) -> list[AlertStatus]:
    """What is published of an alert that fires, grows and ends while silences begin and end, one step after another."""
    alerts, episode = AlertNumbering(), SimpleEpisode(Subject("m", "v1", AlertKind.METRIC, "a"))
    out: list[AlertRecord | Decision] = []
    now = 1
    for step in steps:
        match step:
            case "silence":
                alerts.silence(Silence(UNTIL, ""))
            case "over":
                now = UNTIL
                out += alerts.unmute(now)
            case "fires" | "grows":
                out += alerts.publish_all([episode.fire(Severity.WARNING, step, now, now)])
            case "ends":
                out += alerts.publish_all([episode.resolve(step, now)])
        now += 1
        alerts = AlertNumbering(from_plain(to_plain(alerts.state), NumberingState))
    return [record.status for record in out if isinstance(record, AlertRecord) and not record.silenced]


FIRING, RESOLVED = AlertStatus.FIRING, AlertStatus.RESOLVED


@pytest.mark.parametrize(
    ("steps", "published"),
    [
        ("fires silence ends over", [FIRING, RESOLVED]),
        ("fires silence over ends", [FIRING, RESOLVED]),
        ("fires silence grows ends over", [FIRING, RESOLVED]),
        ("fires silence grows over ends", [FIRING, FIRING, RESOLVED]),
        ("silence fires ends over", []),
        ("silence fires grows ends over", []),
        ("silence fires over ends", [FIRING, RESOLVED]),
        ("silence fires over grows ends", [FIRING, FIRING, RESOLVED]),
        ("silence fires ends over fires ends", [FIRING, RESOLVED]),
        ("fires ends silence fires ends over", [FIRING, RESOLVED]),
    ],
)
def test_what_was_published_as_firing_is_published_as_resolved(steps: str, published: list[AlertStatus]) -> None:
    assert told(*steps.split()) == published


def test_whatever_happens_in_whatever_order_the_last_word_is_no_firing_of_what_has_ended() -> None:
    for steps in itertools.permutations(("silence", "fires", "grows", "ends", "over")):
        if steps.index("fires") < steps.index("grows") < steps.index("ends"):
            published = told(*steps)
            assert published == [] or published[-1] is RESOLVED, steps


def test_an_alert_that_an_earlier_release_published_is_ended_for_all_to_see() -> None:
    """It did not store what was published: that much is taken for granted."""
    episode = SimpleEpisode(Subject("m", "v1", AlertKind.METRIC, "a"))
    alerts = AlertNumbering()
    alerts.publish(episode.fire(Severity.WARNING, "", 1, 1))
    alerts.silence(Silence(UNTIL, ""))
    before = to_plain(alerts.state)
    del before["untold"]

    record = AlertNumbering(from_plain(before, NumberingState)).publish(episode.resolve("", 5))

    assert record is not None
    assert not record.silenced


def test_an_alert_that_is_told_after_a_silence_is_counted_once() -> None:
    rule = a_rule("errors", "error_rate", above=0.1, hard=True)
    run = Run(a_core(a_model(window=counted(10, 10), rules=(rule,))))
    run.events(*believed(prediction("0", T0)))
    run.command(CommandName.SILENCE, for_ms=60 * SECOND)
    run.events(*(prediction(f"{i}", T0 + i * SECOND, None, error="Timeout") for i in range(1, 90)))

    told = run.told()

    assert [a["silenced"] for a in told.alerts()] == [True, False]
    assert told.status["alerts"]["firing"] == told.status["alerts"]["active"] == 1


def test_the_end_of_a_published_alert_is_published_in_a_silence() -> None:
    rule = a_rule("errors", "error_rate", above=0.1, hard=True)
    run = Run(a_core(a_model(window=counted(10, 10), rules=(rule,))))
    run.events(*(prediction(f"{i}", T0 + i * SECOND, None, error="Timeout") for i in range(20)))
    run.command(CommandName.SILENCE, for_ms=HOUR)
    run.events(*(prediction(f"{i}", T0 + i * SECOND) for i in range(20, 80)))

    first, *_, last = run.told().alerts()

    assert (first["status"], first["silenced"]) == ("firing", False)
    assert (last["status"], last["silenced"], last["closed_because"]) == ("resolved", False, "recovered")
    assert run.told().status["alerts"]["active"] == 0
