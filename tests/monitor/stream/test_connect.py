"""Addresses of streams, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from monitor.errors import ConfigError
from monitor.stream.connect import connect
from monitor.stream.kafka import KafkaSecurity, KafkaSpec
from monitor.stream.types import Message, Partition, TopicSpec


def spec_of(end: Callable[[], object]) -> KafkaSpec:
    """What a factory was given."""
    assert isinstance(end, partial)
    spec = end.args[0]
    assert isinstance(spec, KafkaSpec)
    return spec


@pytest.mark.parametrize(
    ("url", "brokers"),
    [
        ("kafka://localhost:9092", ("localhost:9092",)),
        ("kafka://h1:9092,h2.example.org:19092/", ("h1:9092", "h2.example.org:19092")),
        ("kafka://broker", ("broker",)),
        ("kafka://[::1]:9092", ("[::1]:9092",)),
    ],
)
def test_brokers_are_read_from_the_address(url: str, brokers: tuple[str, ...]) -> None:
    """Nothing is connected yet."""
    security = KafkaSecurity(tls=True)

    stream = connect(url, ["events"], group="mine", client_id="me", security=security)

    for end in (stream.source, stream.sink, stream.admin):
        wanted = KafkaSpec(
            bootstrap=brokers, group="mine", client_id="me", request_timeout_ms=10_000, security=security
        )
        assert spec_of(end) == wanted


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_a_directory_is_a_stream(tmp_path: Path, form: str) -> None:
    """Written, read and looked at through one address."""
    stream = connect(form.format(tmp_path / "stream"), ["events"])

    with closing(stream.admin()) as admin, closing(stream.sink()) as sink, closing(stream.source()) as source:
        admin.create([TopicSpec("events")])
        sink.send([Message("events", b"", b"{}")])
        source.assign({Partition("events", 0): 0})
        assert source.poll(10, 0).values == [b"{}"]


def test_a_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the configuration of the demonstration."""
    monkeypatch.chdir(tmp_path)

    with closing(connect("file:./stream", []).sink()) as sink:
        sink.send([Message("events", b"", b"{}")])

    assert (tmp_path / "stream" / "events.jsonl").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "events",
        "http://localhost:9092",
        "kafka:localhost:9092",
        "kafka://",
        "kafka://h1:9092,",
        "kafka://h1:99999",
        "kafka://h1:0",
        "kafka://h1:9092/topic",
        "file:",
        "file://host/directory",
    ],
)
def test_anything_else_is_refused_with_a_form_that_would_do(url: str) -> None:
    """At the start, not at the first poll."""
    with pytest.raises(ConfigError, match=r"kafka://|file:") as raised:
        connect(url, ["events"])

    assert (raised.value.path, raised.value.got) == ("stream.url", url)


@pytest.mark.parametrize("url", ["kafka://user:hunter2@host:9092", "http://user:hunter2@host", "user:hunter2@host"])
def test_a_password_in_an_address_is_refused_and_not_shown(url: str) -> None:
    """Errors get into logs."""
    with pytest.raises(ConfigError, match=r"^stream\.url: name brokers like kafka://") as raised:
        connect(url, ["events"])
    assert "hunter2" not in repr(raised.value)
