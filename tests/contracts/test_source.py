"""What every `Source` promises, held against memory, files and a real Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager

import numpy as np
import pytest

from monitor.errors import OffsetGone, TopicsMissing
from monitor.stream.types import Batch, Envelope, Message, Partition, Source
from tests.contracts.streams import Backend

PATIENCE_S = 20.0


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b'{"n": %d}' % number for number in range(first, first + count)]


@contextmanager
def reading(stream: Backend, positions: Mapping[Partition, int]) -> Iterator[Source]:
    with closing(stream.source(*sorted({partition.topic for partition in positions}))) as source:
        source.assign(positions)
        yield source


class Seen:
    """What was delivered, by partition: offsets and values."""

    def __init__(self) -> None:
        self.offsets: dict[Partition, list[int]] = {}
        self.values: dict[Partition, list[bytes | None]] = {}
        self.count = 0

    def add(self, batch: Batch) -> None:
        self.count += len(batch)
        for i, offset, value in zip(batch.source.tolist(), batch.offset.tolist(), batch.values, strict=True):
            self.offsets.setdefault(batch.partitions[i], []).append(offset)
            self.values.setdefault(batch.partitions[i], []).append(value)


def read(source: Source, count: int, max_records: int = 1_000) -> Seen:
    """Poll until `count` records came."""
    seen, deadline = Seen(), time.monotonic() + PATIENCE_S
    while seen.count < count:
        assert time.monotonic() < deadline, f"{seen.count} of {count} records came"
        batch = source.poll(min(max_records, count - seen.count), 1.0)
        assert len(batch) <= max_records
        seen.add(batch)
    return seen


def envelopes(source: Source, count: int) -> list[Envelope] | None:
    """Poll until `count` records came; what they carried beside their values."""
    found: list[Envelope] | None = None
    came, deadline = 0, time.monotonic() + PATIENCE_S
    while came < count:
        assert time.monotonic() < deadline, f"{came} of {count} records came"
        batch = source.poll(count - came, 1.0)
        came += len(batch)
        if batch.envelopes is not None:
            assert len(batch.envelopes) == len(batch)
            found = [*(found or []), *batch.envelopes]
    return found


def gone(source: Source, others: Collection[Partition] = ()) -> tuple[OffsetGone, Seen]:
    """Poll until OffsetGone comes; what other partitions deliver meanwhile is fine."""
    seen, deadline = Seen(), time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline, "OffsetGone did not come"
        try:
            seen.add(source.poll(1_000, 1.0))
        except OffsetGone as error:
            assert set(seen.offsets) <= set(others)
            return error, seen


def is_silent(stream: Backend, source: Source) -> bool:
    return len(source.poll(1_000, stream.quiet_s)) == 0


class TestPartitions:
    def test_all_partitions_are_found_and_new_ones_appear(self, stream: Backend) -> None:
        """Topics grow while the daemon runs."""
        topic = stream.topic(2)
        with closing(stream.source(topic)) as source:
            assert source.partitions() == {Partition(topic, 0), Partition(topic, 1)}

            stream.grow(topic, 3)
            deadline = time.monotonic() + PATIENCE_S
            while Partition(topic, 2) not in source.partitions():
                assert time.monotonic() < deadline

            stream.write(topic, numbered(3), 2)
            source.assign({Partition(topic, 2): 0})
            assert read(source, 3).offsets == {Partition(topic, 2): [0, 1, 2]}

    def test_missing_topics_are_named(self, stream: Backend) -> None:
        """All of them and only them; and asking does not make them."""
        present, first, second = stream.topic(), stream.free_name(), stream.free_name()
        with closing(stream.source(first, present, second)) as source:
            for _ in range(2):
                with pytest.raises(TopicsMissing) as raised:
                    source.partitions()
                assert set(raised.value.topics) == {first, second}
                assert raised.value.retryable
            assert source.identities().keys() == {present}

    def test_identities_are_told_for_each_topic_and_stay(self, stream: Backend) -> None:
        """Else every restart would look like a topic made anew."""
        one, other = stream.topic(), stream.topic()
        with closing(stream.source(one, other)) as source, closing(stream.source(one, other)) as again:
            assert source.identities() == again.identities()
            assert source.identities().keys() == {one, other}

    def test_bounds_are_the_first_offset_and_the_next_to_be_written(self, stream: Backend) -> None:
        """Before anything is assigned: this is how a start at `latest` finds its position."""
        topic = stream.topic(2)
        stream.write(topic, numbered(5), 1)
        with closing(stream.source(topic)) as source:
            assert source.bounds([Partition(topic, 0), Partition(topic, 1)]) == {
                Partition(topic, 0): (0, 0),
                Partition(topic, 1): (0, 5),
            }
            stream.write(topic, numbered(1), 1)
            assert source.bounds([Partition(topic, 1)]) == {Partition(topic, 1): (0, 6)}
            assert source.bounds([]) == {}


class TestEnvelopes:
    def test_keys_and_headers_come_where_they_are_asked_for(self, stream: Backend) -> None:
        """Row by row beside the values; files have none."""
        topic = stream.topic()
        with closing(stream.sink()) as sink:
            sink.send([Message(topic, b"k", b'{"n": 0}', {"ce-type": b"a"}), Message(topic, b"l", b'{"n": 1}')])

        with closing(stream.source(topic, enveloped=[topic])) as source:
            source.assign({Partition(topic, 0): 0})
            found = envelopes(source, 2)

        wanted = [Envelope(b"k", {"ce-type": b"a"}), Envelope(b"l", {})]
        assert found == (wanted if stream.keeps_envelopes else None)

    def test_without_being_asked_for_there_are_none(self, stream: Backend) -> None:
        """Another topic's are another matter."""
        topic, other = stream.topic(), stream.topic()
        stream.write(topic, numbered(2))

        with closing(stream.source(topic, enveloped=[other])) as source:
            source.assign({Partition(topic, 0): 0})
            assert envelopes(source, 2) is None


class TestReading:
    def test_records_come_in_order_with_their_offsets(self, stream: Backend) -> None:
        """Per partition; offsets are counted from 0."""
        topic = stream.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(30), 0)
        stream.write(topic, numbered(20, 100), 1)

        with reading(stream, {zero: 0, one: 0}) as source:
            seen = read(source, 50)

            assert seen.offsets == {zero: list(range(30)), one: list(range(20))}
            assert seen.values == {zero: numbered(30), one: numbered(20, 100)}
            assert is_silent(stream, source)

    @pytest.mark.parametrize("max_records", [1, 7, 60])
    def test_nothing_is_lost_however_little_is_asked_for(self, stream: Backend, max_records: int) -> None:
        """What was fetched and did not fit into one poll comes in the next."""
        topic = stream.topic(3)
        partitions = [Partition(topic, number) for number in range(3)]
        for partition in partitions:
            stream.write(topic, numbered(40), partition.number)

        with reading(stream, dict.fromkeys(partitions, 0)) as source:
            seen = read(source, 120, max_records)

        assert seen.offsets == {partition: list(range(40)) for partition in partitions}

    def test_columns_agree_and_name_the_next_positions(self, stream: Backend) -> None:
        """What the daemon stores after a batch is where a restart reads on."""
        topic = stream.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(3), 0)
        stream.write(topic, numbered(2), 1)

        with reading(stream, {zero: 0, one: 1}) as source:
            positions = {zero: 0, one: 1}
            while positions != {zero: 3, one: 2}:
                batch = source.poll(10, PATIENCE_S)
                assert len(batch) == len(batch.source) == len(batch.offset) == len(batch.timestamp)
                columns = (batch.source, batch.offset, batch.timestamp)
                assert [column.dtype for column in columns] == [np.dtype("i4"), np.dtype("i8"), np.dtype("i8")]
                assert (batch.timestamp >= -1).all()
                positions.update(batch.next_positions())
                assert source.positions() == positions

    @pytest.mark.parametrize("position", [0, 1, 13, 29, 30])
    def test_reading_begins_at_any_offset(self, stream: Backend, position: int) -> None:
        """Also at the end, and then only what is new comes."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(30))

        with reading(stream, {zero: position}) as source:
            assert source.positions() == {zero: position}
            assert position == 30 or read(source, 30 - position).offsets == {zero: list(range(position, 30))}
            stream.write(topic, numbered(1, 30))
            assert read(source, 1).values == {zero: numbered(1, 30)}

    def test_a_poll_without_records_returns_empty_when_its_time_is_over(self, stream: Backend) -> None:
        """The daemon's loop has other things to do."""
        zero = Partition(stream.topic(), 0)
        with reading(stream, {zero: 0}) as source:
            is_silent(stream, source)  # the first poll may have to connect
            started = time.monotonic()
            assert len(source.poll(10, 0.3)) == 0
            assert 0.25 < time.monotonic() - started < 5

    def test_nothing_assigned_is_nothing_read(self, stream: Backend) -> None:
        """A daemon without partitions is idle, not broken."""
        stream_topic = stream.topic()
        stream.write(stream_topic, numbered(1))
        with closing(stream.source(stream_topic)) as source:
            source.assign({})
            assert is_silent(stream, source)
            assert source.positions() == source.ends() == {}

    def test_records_that_are_written_later_come(self, stream: Backend) -> None:
        """In the middle of a poll."""
        zero = Partition(stream.topic(), 0)
        with reading(stream, {zero: 0}) as source:
            assert is_silent(stream, source)
            writer = threading.Timer(0.1, stream.write, [zero.topic, numbered(3)])
            writer.start()
            assert read(source, 3).offsets == {zero: [0, 1, 2]}
            writer.join()

    def test_an_assignment_replaces_the_one_before(self, stream: Backend) -> None:
        """With what was fetched or paused for it."""
        topic = stream.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(10), 0)
        stream.write(topic, numbered(10), 1)
        with reading(stream, {zero: 0, one: 0}) as source:
            read(source, 3, max_records=3)
            source.pause([one])

            source.assign({one: 4})
            assert read(source, 6).offsets == {one: list(range(4, 10))}
            assert is_silent(stream, source)

            source.assign({zero: 9, one: 9})
            assert read(source, 2).offsets == {zero: [9], one: [9]}

    def test_ends_are_those_of_the_partitions_that_were_read(self, stream: Backend) -> None:
        """Position and end agree when and only when nothing is left: that is what idle means."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(10))
        with reading(stream, {zero: 0}) as source:
            read(source, 4, max_records=4)
            assert source.ends() == {zero: 10}
            assert source.positions() == {zero: 4}

            read(source, 6)
            assert is_silent(stream, source)
            assert source.ends() == source.positions() == {zero: 10}


def comes(source: Source) -> bool:
    """Whether bytes come into hand while a test is patient."""
    deadline = time.monotonic() + PATIENCE_S
    while not source.wait(0.2):
        if time.monotonic() > deadline:
            return False
    return True


def full(stream: Backend, partitions: int, records: int) -> list[Partition]:
    """Partitions of one topic with so many records each."""
    topic = stream.topic(partitions)
    for number in range(partitions):
        stream.write(topic, numbered(records), number)
    return [Partition(topic, number) for number in range(partitions)]


class TestWaiting:
    def test_nothing_is_in_hand_before_it_is_written(self, stream: Backend) -> None:
        """Until then whoever waits has touched no record."""
        zero = Partition(stream.topic(), 0)
        with reading(stream, {zero: 0}) as source:
            source.wait(stream.quiet_s)  # the first one may have to connect
            started = time.monotonic()
            assert not source.wait(0.3)
            assert 0.25 < time.monotonic() - started < 5

            stream.write(zero.topic, numbered(1))
            assert comes(source)

    def test_what_is_in_hand_stays_there_until_it_is_read_and_comes_at_once(self, stream: Backend) -> None:
        """One record, and those behind it, which may have come with it."""
        zero = Partition(stream.topic(), 0)
        stream.write(zero.topic, numbered(3))
        with reading(stream, {zero: 0}) as source:
            for offset in range(3):
                assert comes(source)
                assert source.wait(0.0)
                assert source.positions() == {zero: offset}
                assert source.poll(1, 0.0).values == numbered(1, offset)
            assert not source.wait(stream.quiet_s)

    def test_it_is_waited_for_partitions_that_are_not_paused(self, stream: Backend) -> None:
        """Taking turns, with bytes of both in hand: those of the one that is paused do not count, and are not lost."""
        partitions = full(stream, 2, 20)
        with reading(stream, dict.fromkeys(partitions, 0)) as source:
            source.pause(partitions)
            assert not source.wait(stream.quiet_s)
            for turn in range(40):
                partition = partitions[turn % 2]
                source.resume([partition])
                assert comes(source)
                batch = source.poll(1, 0.0)
                assert (batch.partitions, batch.values) == ((partition,), numbered(1, turn // 2))
                source.pause([partition])
            source.resume(partitions)
            assert not source.wait(stream.quiet_s)

    def test_whoever_waits_and_polls_by_turns_misses_nothing(self, stream: Backend) -> None:
        partitions = full(stream, 3, 50)
        with reading(stream, dict.fromkeys(partitions, 0)) as source:
            seen = Seen()
            while seen.count < 150 and comes(source):
                seen.add(source.poll(7, 0.0))

        assert seen.offsets == {partition: list(range(50)) for partition in partitions}

    def test_a_position_that_is_not_in_the_log_is_told_and_not_waited_for(self, stream: Backend) -> None:
        zero = Partition(stream.topic(), 0)
        stream.write(zero.topic, numbered(3))

        def wait_and_poll(source: Source) -> None:
            assert comes(source)
            source.poll(1, 1.0)

        with reading(stream, {zero: 9}) as source, pytest.raises(OffsetGone) as raised:
            wait_and_poll(source)
        assert raised.value.position == 9


class TestPausing:
    def test_a_paused_partition_is_silent_and_loses_nothing(self, stream: Backend) -> None:
        """One of two, with records of both already fetched: the others go on, and it goes on where it stood."""
        topic = stream.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(100), 0)
        stream.write(topic, numbered(100), 1)
        with reading(stream, {zero: 0, one: 0}) as source:
            first = read(source, 10, max_records=10).offsets
            paused = min(first)
            (other,) = {zero, one} - {paused}
            done = {partition: len(first.get(partition, ())) for partition in (paused, other)}
            source.pause([paused])

            rest = list(range(done[other], 100))
            assert read(source, len(rest), max_records=10).offsets == {other: rest}
            assert is_silent(stream, source)

            source.resume([paused])
            rest = list(range(done[paused], 100))
            assert read(source, len(rest), max_records=10).offsets == {paused: rest}
            assert is_silent(stream, source)

    def test_pausing_again_and_again_loses_nothing(self, stream: Backend) -> None:
        """Backpressure comes and goes, for one partition and for all."""
        topic = stream.topic(3)
        partitions = [Partition(topic, number) for number in range(3)]
        for partition in partitions:
            stream.write(topic, numbered(60), partition.number)
        with reading(stream, dict.fromkeys(partitions, 0)) as source:
            seen, deadline = Seen(), time.monotonic() + PATIENCE_S
            for turn in range(10_000):
                chosen = partitions if turn % 4 == 3 else [partitions[turn % 3]]
                source.pause(chosen)
                batch = source.poll(5, 0.05)
                assert not {batch.partitions[i] for i in batch.source} & set(chosen)
                seen.add(batch)
                source.resume(chosen)
                seen.add(source.poll(5, 0.05))
                if seen.count == 180:
                    break
                assert time.monotonic() < deadline, f"{seen.count} of 180 records came"

        assert seen.offsets == {partition: list(range(60)) for partition in partitions}

    def test_a_pause_before_the_first_poll_holds(self, stream: Backend) -> None:
        """Parked partitions stay parked over a restart."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(5))
        with reading(stream, {zero: 0}) as source:
            source.pause([zero])
            assert is_silent(stream, source)
            source.pause([zero])
            source.resume([zero])
            source.resume([zero])
            assert read(source, 5).offsets == {zero: [0, 1, 2, 3, 4]}

    def test_a_position_that_is_set_while_paused_holds(self, stream: Backend) -> None:
        """An operator skips ahead in a parked partition."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(20))
        with reading(stream, {zero: 0}) as source:
            read(source, 5, max_records=5)
            source.pause([zero])
            source.seek(zero, 15)
            assert is_silent(stream, source)
            source.resume([zero])
            assert read(source, 5).offsets == {zero: [15, 16, 17, 18, 19]}

    def test_only_assigned_partitions_can_be_paused_resumed_or_moved(self, stream: Backend) -> None:
        """Anything else is a mistake of the caller."""
        topic = stream.topic(2)
        with reading(stream, {Partition(topic, 0): 0}) as source:
            other = Partition(topic, 1)
            with pytest.raises(ValueError, match="not assigned"):
                source.pause([other])
            with pytest.raises(ValueError, match="not assigned"):
                source.resume([other])
            with pytest.raises(ValueError, match="not assigned"):
                source.seek(other, 0)


class TestSeeking:
    def test_the_next_record_is_the_one_at_the_offset(self, stream: Backend) -> None:
        """Back and forth, with other records already fetched."""
        topic = stream.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(50), 0)
        stream.write(topic, numbered(50), 1)
        with reading(stream, {zero: 0, one: 0}) as source:
            read(source, 20, max_records=10)
            source.seek(zero, 45)
            source.seek(one, 0)
            assert source.positions() == {zero: 45, one: 0}
            assert read(source, 55).offsets == {zero: list(range(45, 50)), one: list(range(50))}

            source.seek(zero, 0)
            assert read(source, 50).offsets == {zero: list(range(50))}
            assert is_silent(stream, source)

    def test_a_position_beyond_the_end_is_gone(self, stream: Backend) -> None:
        """Never another position instead: that would count twice or lose silently."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(10))
        with reading(stream, {zero: 11}) as source:
            for _ in range(2):  # and it stays so until somebody decides
                error, _seen = gone(source)
                assert (error.topic, error.partition, error.position) == (topic, 0, 11)
                assert (error.earliest, error.latest) == (0, 10)
                assert not error.retryable

            source.seek(zero, 8)
            assert read(source, 2).offsets == {zero: [8, 9]}

    def test_the_others_can_be_read_once_a_lost_partition_is_paused_or_moved(self, stream: Backend) -> None:
        """One topic whose retention was too short must not stop the daemon."""
        topic = stream.topic(2)
        lost, fine = Partition(topic, 0), Partition(topic, 1)
        stream.write(topic, numbered(10), 0)
        stream.write(topic, numbered(10), 1)
        with reading(stream, {lost: 99, fine: 0}) as source:
            _, seen = gone(source, others=[fine])
            source.pause([lost])
            stream.write(topic, numbered(5, 10), 1)
            rest = read(source, 15 - seen.count)
            assert seen.offsets.get(fine, []) + rest.offsets[fine] == list(range(15))

            source.resume([lost])
            gone(source)
            source.seek(lost, 0)
            stream.write(topic, numbered(5, 15), 1)
            assert read(source, 15).offsets == {lost: list(range(10)), fine: list(range(15, 20))}


class TestEnding:
    def test_commits_are_advice(self, stream: Backend) -> None:
        """They do not move this reader or the next one: positions come from the database."""
        topic = stream.topic()
        zero = Partition(topic, 0)
        stream.write(topic, numbered(10))
        with reading(stream, {zero: 0}) as source:
            source.commit({zero: 7})
            assert read(source, 4, max_records=4).offsets == {zero: [0, 1, 2, 3]}
            source.commit({zero: 4})
            source.commit({})
        with reading(stream, {zero: 2}) as source:
            assert read(source, 8).offsets == {zero: list(range(2, 10))}

    def test_closing_twice_is_closing_once(self, stream: Backend) -> None:
        """Clean-up code runs more than once."""
        topic = stream.topic()
        source = stream.source(topic)
        source.assign({Partition(topic, 0): 0})
        source.poll(1, 0)
        source.close()
        source.close()

    def test_closing_is_quick_when_the_stream_is_away(self, stream: Backend) -> None:
        """A daemon must end in its grace period."""
        topic = stream.topic()
        source = stream.source(topic)
        source.assign({Partition(topic, 0): 0})
        source.poll(1, 0.1)
        with stream.outage():
            started = time.monotonic()
            source.close()
            assert time.monotonic() - started < 5
