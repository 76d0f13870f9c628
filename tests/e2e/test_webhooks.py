"""Webhooks beside a real daemon: one that is away holds nothing up, and gets everything when it is back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e import auditor, workload
from tests.e2e.place import FilePlace
from tests.servers.receiver import KEY, SECRET, Receiver

LINES = workload.Workload(seed=81, seconds=400).lines()


@pytest.fixture
def place(file_place: FilePlace, receiver: Receiver) -> FilePlace:
    """A webhook that wants everything, and events from which alerts and decisions follow."""
    write(file_place, receiver.url)
    file_place.produce(LINES)
    return file_place


def write(place: FilePlace, url: str, **more: Any) -> None:
    place.configure(workload.models(drift=False))
    path = place.directory / "driftd.yaml"
    hook = {"name": "pager", "url": url, "secret": SECRET, "kinds": ["alert", "decision"], "timeout": "2s", **more}
    path.write_text(json.dumps({**json.loads(path.read_text()), "webhooks": [hook]}))


@pytest.fixture
def away(receiver: Receiver) -> Receiver:
    """Nobody listens, until the test says so."""
    receiver.close()
    return receiver


def ids_on_topics(place: FilePlace) -> set[tuple[Any, ...]]:
    alerts = {("alert", a["event_id"], a["seq"]) for a in place.alerts()}
    return alerts | {("decision", d["model"], d["generation"]) for d in place.decisions()}


def ids_received(receiver: Receiver) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for request in receiver.requests:
        told = request.document()
        data = told["data"]
        if told["type"] == "decision":
            found.append(("decision", data["model"], data["generation"]))
        else:
            assert told["type"] == f"alert.{data['status']}"
            found.append(("alert", data["event_id"], data["seq"]))
    return found


def test_a_webhook_that_is_away_holds_nothing_up_and_gets_everything_when_it_is_back(
    place: FilePlace, away: Receiver
) -> None:
    """Over a kill as well; each message once, signed, and in the order of its alert or model."""
    with place.daemon() as daemon:
        daemon.until_ready().until_read(len(LINES)).until_published()
        daemon.until(lambda: daemon.metric('driftd_destination_failing{destination="pager"}') == 1, "it is seen")
        assert daemon.is_ready
        wanted = ids_on_topics(place)
        assert {kind for kind, *_ in wanted} == {"alert", "decision"}
        daemon.until(
            lambda: daemon.metric('driftd_destination_depth{destination="pager"}') == len(wanted), "all of them wait"
        )
        assert "cannot connect" in daemon.status()["destinations"]["pager"]["last_error"]
        daemon.kill()
    told = place.driftd("status")
    assert f"destination pager: {len(wanted)} messages wait, cannot connect" in told.out

    away.listen()
    with place.daemon(name="next") as daemon:
        daemon.until(lambda: len(away.requests) >= len(wanted), "everything has come")
        daemon.until(lambda: daemon.metric('driftd_destination_depth{destination="pager"}') == 0, "nothing waits")
        assert daemon.stop() == 0

    received = ids_received(away)
    assert set(received) == wanted
    assert len(received) == len(wanted) == len(set(away.taken))
    assert all(request.is_signed_with(KEY) for request in away.requests)
    for model in workload.models():
        generations = [number for kind, name, number in received if (kind, name) == ("decision", model)]
        assert generations == sorted(generations)
    assert auditor.differences(auditor.recount(place.written, place.inputs), place.found()) == []
    secrets = (SECRET, SECRET.removeprefix("whsec_"), "/hook")
    assert not any(s in (place.directory / f"{n}.log").read_text() for s in secrets for n in ("daemon", "next"))


def test_a_kill_between_request_and_commit_repeats_the_same_id(place: FilePlace, receiver: Receiver) -> None:
    """At least once: the receiver drops what it knows."""
    for n in (1, 3):
        with place.daemon(module="tests.e2e.crashing", before=[f"posted:{n}"], name="crashing") as daemon:
            daemon.ended()
    with place.daemon() as daemon:
        daemon.until_read(len(LINES)).until_published()
        daemon.until(lambda: set(ids_received(receiver)) >= ids_on_topics(place), "everything has come")
        daemon.until(lambda: daemon.metric('driftd_destination_depth{destination="pager"}') == 0, "nothing waits")
        assert daemon.stop() == 0

    bodies = {(request.id, request.body) for request in receiver.requests}
    assert len(bodies) == len({identity for identity, _ in bodies}) == len(ids_on_topics(place))
    assert 0 < len(receiver.requests) - len(bodies) <= 2


def test_a_message_that_is_refused_is_told_by_an_alert(place: FilePlace, receiver: Receiver) -> None:
    """On the topic; the webhook itself is spared it."""
    receiver.answer(400)
    with place.daemon() as daemon:
        daemon.until_read(len(LINES)).until_published()
        daemon.until(lambda: any(a["kind"] == "daemon" for a in place.alerts()), "it is told")
        assert daemon.is_ready
        (line,) = daemon.logged("relay.given_up")
        assert (line["destination"], line["messages"], line["reason"]) == ("pager", 1, "rejected")
        refused = 'driftd_destination_given_up_total{destination="pager",reason="rejected"}'
        assert daemon.metric(refused) == 1
        assert daemon.stop() == 0

    told = [a for a in place.alerts() if a["kind"] == "daemon"]
    assert told[0]["summary"].startswith("destination pager: 1 message was given up (rejected): answered 400")
    assert all(request.document()["data"].get("kind") != "daemon" for request in receiver.requests)
    assert len(set(receiver.taken)) == len(receiver.taken)


@pytest.mark.parametrize(
    ("secret", "code", "told"),
    [
        (SECRET, 0, "webhook pager: alert and decision"),
        ("hunter2", 78, "webhooks[0].secret: whsec_ and 24 to 64 bytes in base64 are needed"),
    ],
)
def test_the_configuration_is_checked_without_showing_secrets(
    file_place: FilePlace, secret: str, code: int, told: str
) -> None:
    write(file_place, "https://pager.example.org/token-in-path", secret=secret)
    answer = file_place.driftd("check-config")

    assert answer.code == code
    assert told in answer.out + answer.err
    assert secret not in answer.out + answer.err
    assert "token-in-path" not in answer.out + answer.err


def test_a_replay_calls_nobody(place: FilePlace, receiver: Receiver) -> None:
    told = place.driftd("replay", "--fresh", "--out", "told")

    assert told.code == 0
    assert receiver.requests == []
