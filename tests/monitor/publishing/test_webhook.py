"""Requests as the Standard Webhooks specification has them, and what answers mean."""

from __future__ import annotations

import base64
import json
import socket
import threading
from dataclasses import replace

import pytest

from monitor.publishing.destinations.base import Delivered, OutboxMessage, Rejected, Retry
from monitor.publishing.destinations.webhook import Webhook, judged, parse_keys, payload, signature, webhook_id
from monitor.store.subscriptions import MessageKind
from tests.contracts.destinations import a_webhook, alert
from tests.docs.blocks import read
from tests.servers.receiver import KEY, SECRET, Receiver

NOW = 1_800_000_000_500
DECISION = OutboxMessage(
    1, MessageKind.DECISION, "wärme.v1".encode(), b'{"model":"w","issued_at":"2026-11-21T09:31:00.000Z"}',
    {"schema": "1", "generation": "17"},
)  # fmt: skip


# -- the request -------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specification() -> None:
    """The vector that its reference libraries are tested with; our documentation has it too."""
    secret, identity, at = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330
    body, wanted = b'{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    (key,) = parse_keys(secret)

    assert signature(key, identity, at, body) == wanted
    documented = " ".join(read("docs/alerts-and-decisions.md").split())
    assert all(f"`{part}`" in documented for part in (secret, identity, str(at), body.decode(), wanted))


def test_a_request_is_signed_and_says_what_it_is(receiver: Receiver) -> None:
    assert Webhook(a_webhook(f"{receiver.url}/a?b=c")).deliver([alert(3)], NOW) == Delivered()

    (request,) = receiver.requests
    assert request.path == "/hook/a?b=c"
    assert request.id == "alert_e_3"
    assert request.headers["webhook-timestamp"] == "1800000000"
    assert request.headers["content-type"] == "application/json"
    assert request.is_signed_with(KEY)


def test_while_a_secret_is_being_changed_either_one_fits(receiver: Receiver) -> None:
    old = b"another key of this length"
    Webhook(a_webhook(receiver.url, keys=(KEY, old))).deliver([alert(1)], NOW)

    assert receiver.requests[0].is_signed_with(KEY)
    assert receiver.requests[0].is_signed_with(old)
    assert not receiver.requests[0].is_signed_with(b"a third one")


def test_another_attempt_differs_in_its_timestamp_only(receiver: Receiver) -> None:
    webhook = Webhook(a_webhook(receiver.url))
    receiver.answer(500)
    webhook.deliver([alert(1)], NOW)
    webhook.deliver([replace(alert(1), attempts=1)], NOW + 60_000)

    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 60


def test_the_body_has_the_type_the_time_and_the_record() -> None:
    assert json.loads(payload(alert(1))) == {
        "type": "alert.firing", "timestamp": "2026-11-21T09:31:00.000Z", "data": json.loads(alert(1).value),
    }  # fmt: skip
    assert json.loads(payload(DECISION))["type"] == "decision"


def test_an_id_has_nothing_that_would_make_the_signed_text_ambiguous() -> None:
    """Models may have any name."""
    assert webhook_id(DECISION).startswith("decision_")
    assert webhook_id(DECISION).endswith("_17")
    assert webhook_id(DECISION).replace("_", "").isalnum()
    assert webhook_id(DECISION).isascii()
    assert webhook_id(DECISION) != webhook_id(replace(DECISION, key=b"other"))


@pytest.mark.parametrize(
    "secret",
    [
        "", " ", KEY.decode(), SECRET.removeprefix("whsec_"), "whsec_", "whsec_?", SECRET + "=a",
        "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_" + base64.b64encode(b"x" * 65).decode(),
        f"{SECRET} {SECRET[:-8]}!",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^whsec_ and 24 to 64 bytes in base64 are needed$"):
        parse_keys(secret)


def test_several_secrets_are_several_keys() -> None:
    assert parse_keys(f"{SECRET}\n{SECRET}") == (KEY, KEY)


# -- the answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert judged(status, None, NOW) == Delivered()


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 408, 425, 429, 500, 502, 503, 504, 599])
def test_what_somebody_may_mend_is_tried_again(status: int) -> None:
    assert isinstance(judged(status, None, NOW), Retry)


@pytest.mark.parametrize("status", [400, 406, 409, 413, 415, 422])
def test_what_is_about_the_message_refuses_it(status: int) -> None:
    result = judged(status, None, NOW)

    assert isinstance(result, Rejected)
    assert str(status) in result.why
    assert not result.closed


def test_gone_closes_the_webhook() -> None:
    assert judged(410, None, NOW) == Rejected("answered 410 Gone", closed=True)


@pytest.mark.parametrize(
    ("header", "after_s"),
    [
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("999999999", 3_600.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 59.5), ("Fri, 15 Jan 2020 08:01:00 GMT", 0.0),
        (None, None), ("soon", None), ("-5", None), ("1e999", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour(header: str | None, after_s: float | None) -> None:
    assert judged(503, header, NOW) == Retry("answered 503 Service Unavailable", after_s)


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """What it leads to was not configured."""
    receiver.answer(302, Location=f"{receiver.url}/elsewhere")

    assert isinstance(Webhook(a_webhook(receiver.url)).deliver([alert(1)], NOW), Retry)
    assert len(receiver.requests) == 1


def test_of_several_messages_those_before_the_failure_are_done(receiver: Receiver) -> None:
    receiver.answer(200, 200, 503, retry_after="9")
    assert Webhook(a_webhook(receiver.url)).deliver([alert(n) for n in range(4)], NOW) == Retry(
        "answered 503 Service Unavailable", 9.0, done=2
    )

    receiver.answer(200, 400)
    assert Webhook(a_webhook(receiver.url)).deliver([alert(n) for n in range(4)], NOW) == Rejected(
        "answered 400 Bad Request", done=1
    )


def test_who_does_not_answer_is_tried_again() -> None:
    """Nor does a token in the URL get into what is logged."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = Webhook(a_webhook(f"http://127.0.0.1:{port}/token", timeout_s=0.2)).deliver([alert(1)], NOW)
    assert result == Retry("does not answer in time")

    result = Webhook(a_webhook(f"http://127.0.0.1:{port}/token")).deliver([alert(1)], NOW)
    assert result == Retry("cannot connect: Connection refused")


def test_what_was_accepted_is_delivered_though_the_body_never_ends() -> None:
    """Else an accepted message would come again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nslow")
            ended.wait(10)
            connection.close()

        ended = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        result = Webhook(a_webhook(url, timeout_s=0.5)).deliver([alert(1)], NOW)
        ended.set()
        thread.join()

    assert result == Delivered()


def test_who_does_not_speak_http_is_tried_again(receiver: Receiver) -> None:
    https = receiver.url.replace("http:", "https:")

    result = Webhook(a_webhook(https)).deliver([alert(1)], NOW)

    assert isinstance(result, Retry)
    assert result.why.startswith("cannot connect: ")


def test_neither_address_nor_keys_are_shown() -> None:
    assert "token" not in repr(a_webhook("https://host/token"))
    assert KEY.decode() not in repr(a_webhook("https://host/token"))
