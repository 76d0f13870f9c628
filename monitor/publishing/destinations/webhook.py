"""Webhooks as destinations: a signed POST for each message, as the Standard Webhooks specification has it.

Shell. Source: Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks. The URL may hold a token
in its path, and is treated as a secret: no result and no log line has it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from monitor.publishing.destinations.base import (
    Delivered,
    DeliveryPolicy,
    DeliveryResult,
    OutboxMessage,
    Rejected,
    Retry,
)
from monitor.store.subscriptions import MessageKind

SECRET_PREFIX: Final = "whsec_"
LEAST_KEY, MOST_KEY = 24, 64  # bytes of a key, by the specification
BACKOFF_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0)
_LONGEST_WAIT_S: Final = 3_600.0  # however much longer an answer asks for
# What is wrong with the endpoint or its set-up, and not with the message, somebody may mend: until then it is tried
# again. Any other 4xx says that the message itself is refused.
_OF_THE_ENDPOINT: Final = frozenset({401, 403, 404, 405, 407, 408, 421, 423, 425, 429})


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """One webhook as configured.

    Attributes:
        name: Name of the destination.
        url: An http or https URL without user and password.
        keys: Signing keys; several while a secret is being changed, then each message is signed with all of them.
        kinds: What is sent to it.
        timeout_s: How long connecting, and each wait for an answer, may take, seconds.
        max_age_ms: After how long in vain a message is given up, ms.
        limit: How many messages may wait for it.
    """

    name: str
    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    kinds: frozenset[MessageKind]
    timeout_s: float
    max_age_ms: int
    limit: int


class Webhook:
    """Delivers each message as one request, on a connection of its own. Redirects are not followed."""

    def __init__(self, spec: WebhookSpec) -> None:
        self._spec = spec
        self._url = urlsplit(spec.url)
        self.name = spec.name
        self.kinds = spec.kinds
        self.policy = DeliveryPolicy(1, BACKOFF_S, max_age_ms=spec.max_age_ms, limit=spec.limit)

    def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
        """Send messages, one request each; `now` becomes the timestamp that is signed."""
        for done, message in enumerate(messages):
            try:
                result = self._post(message, now)
            except (OSError, ValueError, http.client.HTTPException) as error:
                return Retry(_in_words(error), done=done)
            match result:
                case Retry():
                    return Retry(result.why, result.after_s, done)
                case Rejected():
                    return Rejected(result.why, done, result.closed)
        return Delivered()

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""

    def _post(self, message: OutboxMessage, now: int) -> DeliveryResult:
        body = payload(message)
        connection = self._connection()
        try:
            connection.request("POST", self._target(), body, self._headers(message, body, now))
            answer = connection.getresponse()
            # The body is of no interest, and waiting for its end could make an accepted message come twice.
            return judged(answer.status, answer.getheader("Retry-After"), now)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._spec.timeout_s
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _target(self) -> str:
        return (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")

    def _headers(self, message: OutboxMessage, body: bytes, now: int) -> dict[str, str]:
        identity, timestamp = webhook_id(message), now // 1000
        signatures = (signature(key, identity, timestamp, body) for key in self._spec.keys)
        return {
            "content-type": "application/json",
            "user-agent": "driftd",
            "webhook-id": identity,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }


# -- the request -------------------------------------------------------------------------------------------


def payload(message: OutboxMessage) -> bytes:
    """Return the body of a request: type, time of the event and the record.

    The type is `alert.firing`, `alert.resolved` or `decision`. The body of a message is the same at every attempt.
    """
    record = json.loads(message.value)
    kind = f"{message.kind.value}.{record['status']}" if message.kind is MessageKind.ALERT else message.kind.value
    head = json.dumps({"type": kind, "timestamp": record["issued_at"]}, separators=(",", ":"))
    return head[:-1].encode() + b',"data":' + message.value + b"}"


def webhook_id(message: OutboxMessage) -> str:
    """Return the identity of a record: the same at every attempt, and after a restore from a backup.

    It has letters, digits and underscores only: a full stop would make the signed text ambiguous.
    """
    headers = message.headers
    if message.kind is MessageKind.ALERT:
        return f"alert_{headers['event_id']}_{headers['seq']}"
    model = hashlib.sha256(message.key).hexdigest()[:16]
    return f"{message.kind.value}_{model}_{headers['generation']}"


def signature(key: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a request, scheme v1.

    Args:
        key: The secret, decoded.
        identity: The header `webhook-id`.
        timestamp: The header `webhook-timestamp`, seconds since the epoch.
        body: The body, as it is sent.
    """
    signed = f"{identity}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def parse_keys(secret: str) -> tuple[bytes, ...]:
    """Return the keys that a secret holds.

    Args:
        secret: `whsec_` and the key in base64; several of them are separated by white space.

    Raises:
        ValueError: It is no such secret. The message does not have it.
    """
    wanted = f"{SECRET_PREFIX} and {LEAST_KEY} to {MOST_KEY} bytes in base64 are needed"
    keys = []
    for text in secret.split():
        try:
            key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(wanted) from None
        if not text.startswith(SECRET_PREFIX) or not LEAST_KEY <= len(key) <= MOST_KEY:
            raise ValueError(wanted)
        keys.append(key)
    if not keys:
        raise ValueError(wanted)
    return tuple(keys)


# -- the answer --------------------------------------------------------------------------------------------


def judged(status: int, retry_after: str | None, now: int) -> DeliveryResult:
    """Return what an answer means.

    Args:
        status: The status code.
        retry_after: The header `Retry-After`: seconds, or a date.
        now: The time of day, ms.

    Returns:
        2xx is delivered. 410 closes the destination. Other 4xx refuse the message, but for those that concern the
        endpoint or its set-up: these, 5xx and redirects are tried again.
    """
    why = f"answered {status} {_phrase(status)}".rstrip()
    if 200 <= status < 300:
        return Delivered()
    if status == HTTPStatus.GONE:
        return Rejected(why, closed=True)
    if 400 <= status < 500 and status not in _OF_THE_ENDPOINT:
        return Rejected(why)
    return Retry(why, _wait_s(retry_after, now))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _wait_s(retry_after: str | None, now: int) -> float | None:
    """Seconds that an answer asks for, from 0 to an hour; None where it asks for none that can be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    try:
        wait = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - now / 1000
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S)


def _in_words(error: OSError | ValueError | http.client.HTTPException) -> str:
    """What went wrong below HTTP; errors of the library may hold the host's name, never the path."""
    match error:
        case ssl.SSLError():
            return f"cannot connect: {error.reason or 'TLS failed'}".replace("_", " ").lower()
        case TimeoutError():
            return "does not answer in time"
        case http.client.HTTPException():
            return f"does not speak HTTP: {type(error).__name__}"
        case OSError():
            return f"cannot connect: {error.strerror or type(error).__name__}"
        case _:
            return f"cannot be asked: {type(error).__name__}"
