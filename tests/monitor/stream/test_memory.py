"""What tests of the daemon do to a stream in memory, beyond what every stream promises."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from monitor.errors import OffsetGone, PartitionFault, StreamError, TopicsMissing
from monitor.stream.memory import MemoryStream, Record
from monitor.stream.types import Message, Partition
from tests.monitor.service.stepping import SteppedClock

ZERO = Partition("events", 0)


def test_a_record_is_appended_in_one_line() -> None:
    """With a time of its own where a test wants one; None is a tombstone."""
    stream = MemoryStream({"events": 2})
    assert stream.append("events", b"first") == 0
    assert stream.append("events", None, timestamp=7) == 1
    assert stream.append("events", b"other", partition=1) == 0

    with closing(stream.source("events")) as source:
        source.assign({ZERO: 0})
        batch = source.poll(10, 0)

    assert batch.values == [b"first", None]
    assert batch.timestamp.tolist() == [-1, 7]


def test_what_was_sent_can_be_looked_at() -> None:
    """With key and headers."""
    stream = MemoryStream({"alerts": 1})
    stream.sink().send([Message("alerts", b"key", b"{}", {"seq": b"1"})])

    assert stream.records("alerts") == [Record(b"{}", key=b"key", headers={"seq": b"1"})]


def test_commits_can_be_looked_at() -> None:
    """They move nothing."""
    stream = MemoryStream({"events": 1})
    stream.source("events").commit({ZERO: 3})

    assert stream.committed == {ZERO: 3}


def test_retention_can_be_played() -> None:
    """A reader that was too slow finds its position gone."""
    stream = MemoryStream({"events": 1})
    for _ in range(5):
        stream.append("events", b"{}")
    stream.cut("events", 3)

    with closing(stream.source("events")) as source:
        assert source.bounds([ZERO]) == {ZERO: (3, 5)}
        source.assign({ZERO: 2})
        with pytest.raises(OffsetGone) as raised:
            source.poll(10, 0)
    assert (raised.value.position, raised.value.earliest, raised.value.latest) == (2, 3, 5)


def test_an_outage_can_be_played() -> None:
    """Everything that asks the stream fails, and works again afterwards with nothing lost."""
    stream = MemoryStream({"events": 1})
    stream.append("events", b"{}")
    source = stream.source("events")
    source.assign({ZERO: 0})

    stream.away = True
    for ask in (source.partitions, lambda: source.bounds([ZERO]), lambda: source.poll(1, 0)):
        with pytest.raises(StreamError) as raised:
            ask()
        assert raised.value.retryable

    stream.away = False
    assert source.poll(1, 0).values == [b"{}"]


def test_a_topic_can_be_made_anew() -> None:
    """Under its old name, with another identity."""
    stream = MemoryStream({"events": 1})
    with closing(stream.source("events")) as source:
        before = source.identities()
        stream.delete("events")
        with pytest.raises(TopicsMissing):
            source.partitions()
        stream.create("events")
        assert source.identities() != before


def test_a_poll_wakes_up_for_a_record() -> None:
    """It is not asleep until its time is over."""
    stream = MemoryStream({"events": 1})
    source = stream.source("events")
    source.assign({ZERO: 0})
    writer = threading.Timer(0.05, stream.append, ["events", b"{}"])
    writer.start()

    assert source.poll(1, 30.0).values == [b"{}"]
    writer.join()


def test_a_damaged_record_stops_its_partition_after_what_is_before_it() -> None:
    """And no other one, once it is paused."""
    stream = MemoryStream({"events": 2})
    for value in (b"first", b"damaged", b"third"):
        stream.append("events", value)
    stream.append("events", b"other", partition=1)
    stream.damage("events", 1)

    with closing(stream.source("events")) as source:
        source.assign({ZERO: 0})
        assert source.poll(10, 0).values == [b"first"]
        source.assign({ZERO: 1, Partition("events", 1): 0})
        with pytest.raises(PartitionFault, match=r"events\[0\]: cannot read offset 1"):
            source.poll(10, 0)
        source.pause([ZERO])
        assert source.poll(10, 0).values == [b"other"]


def test_a_source_with_a_clock_waits_by_it() -> None:
    clock = SteppedClock()

    assert len(MemoryStream({"events": 1}).source("events", clock=clock).poll(10, 7.0)) == 0

    assert clock.monotonic() == 7.0
