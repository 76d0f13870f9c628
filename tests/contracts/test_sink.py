"""What every `Sink` and every `TopicAdmin` promises, held against memory, files and a real Kafka."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from monitor.errors import StreamError
from monitor.stream.types import Message, TopicSpec, TopicState
from tests.contracts.streams import Backend, Files


def numbered(topic: str, count: int, first: int = 0) -> list[Message]:
    return [Message(topic, b"key", b'{"n": %d}' % number) for number in range(first, first + count)]


def values(messages: list[Message]) -> list[bytes]:
    return [message.value for message in messages]


def test_messages_are_there_in_order_when_send_returns(stream: Backend) -> None:
    """Send after send, to several topics at once."""
    one, other = stream.topic(), stream.topic()
    mixed = [message for pair in zip(numbered(one, 20), numbered(other, 20), strict=True) for message in pair]
    with closing(stream.sink()) as sink:
        sink.send(mixed)
        assert stream.read(one) == values(numbered(one, 20))
        assert stream.read(other) == values(numbered(other, 20))

        sink.send(numbered(one, 5, 20))
        assert stream.read(one) == values(numbered(one, 25))


def test_many_messages_are_sent_in_order(stream: Backend) -> None:
    """More than are ever on the way at once."""
    topic = stream.topic()
    with closing(stream.sink()) as sink:
        sink.send(numbered(topic, 2_500))

    assert stream.read(topic) == values(numbered(topic, 2_500))


def test_sending_nothing_does_nothing(stream: Backend) -> None:
    """Not even connect: the relay calls it at every turn."""
    with closing(stream.sink()) as sink, stream.outage():
        sink.send([])


def test_headers_are_kept_or_ignored_but_never_in_the_way(stream: Backend) -> None:
    """Files have no place for them."""
    topic = stream.topic()
    with closing(stream.sink()) as sink:
        sink.send([Message(topic, b"key", b"{}", {"event_id": b"1", "seq": b"2"})])

    assert stream.read(topic) == [b"{}"]


def test_after_an_outage_the_same_messages_can_be_sent_again(stream: Backend) -> None:
    """All of them are there then, in order; some may be there twice, and readers know them by their ids."""
    topic = stream.topic()
    with closing(stream.sink()) as sink:
        sink.send(numbered(topic, 3))
        with stream.outage():
            for _ in range(2):
                with pytest.raises(StreamError) as raised:
                    sink.send(numbered(topic, 3, 3))
                assert raised.value.retryable or isinstance(stream, Files)  # a file in the way stays there
        sink.send(numbered(topic, 3, 3))
        sink.send(numbered(topic, 1, 6))

    assert list(dict.fromkeys(stream.read(topic))) == values(numbered(topic, 7))


def test_closing_twice_is_closing_once(stream: Backend) -> None:
    """Before and after anything was sent."""
    topic = stream.topic()
    sink = stream.sink()
    sink.close()
    sink = stream.sink()
    sink.send(numbered(topic, 1))
    sink.close()
    sink.close()


def test_closing_is_quick_when_the_stream_is_away(stream: Backend) -> None:
    """A daemon must end in its grace period."""
    topic = stream.topic()
    sink = stream.sink()
    sink.send(numbered(topic, 1))
    with stream.outage():
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 5


def test_missing_topics_are_told_and_made(stream: Backend) -> None:
    """With as many partitions as wanted; those that are there are left alone."""
    present, missing = stream.topic(2), stream.free_name()
    stream.write(present, [b"{}"])
    wanted = [TopicSpec(present, partitions=5), TopicSpec(missing, partitions=3)]
    with closing(stream.admin()) as admin:
        assert admin.check(wanted) == {present: TopicState.PRESENT, missing: TopicState.MISSING}
        assert admin.check(wanted)[missing] is TopicState.MISSING, "asking makes no topic"

        for _ in range(2):
            admin.create(wanted)
            assert admin.check(wanted) == {present: TopicState.PRESENT, missing: TopicState.PRESENT}
        admin.create([])
        assert admin.check([]) == {}

    with closing(stream.source(present, missing)) as source:
        found = source.partitions()
    assert sum(partition.topic == present for partition in found) == 2
    assert sum(partition.topic == missing for partition in found) == 3
    assert stream.read(present) == [b"{}"]


def test_compaction_is_checked_where_there_is_any(stream: Backend) -> None:
    """Decisions are looked up by key: a topic that forgets the oldest would lose some."""
    plain, compacted = stream.topic(), stream.free_name()
    with closing(stream.admin()) as admin:
        admin.create([TopicSpec(compacted, compacted=True)])
        states = admin.check([TopicSpec(plain, compacted=True), TopicSpec(compacted, compacted=True)])
        admin.close()

    unfit = TopicState.PRESENT if isinstance(stream, Files) else TopicState.NOT_COMPACTED
    assert states == {plain: unfit, compacted: TopicState.PRESENT}
