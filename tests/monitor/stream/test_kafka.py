"""Kafka as a stream, on a real broker: outages, damage, retention, transactions, and what goes wrong in the client.

What every stream promises is in `tests/contracts`.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata
from structlog.testing import capture_logs

from monitor.errors import OffsetGone, PartitionFault, StreamError, TopicsMissing
from monitor.stream.kafka import KafkaAdmin, KafkaSink, KafkaSource, KafkaSpec
from monitor.stream.kafka_repairs import construct
from monitor.stream.types import Message, Partition
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

pytestmark = pytest.mark.kafka

PATIENCE_S = 30.0


@pytest.fixture
def spec(kafka: Cluster, topics: Topics) -> KafkaSpec:
    return KafkaSpec(
        bootstrap=(kafka.bootstrap,),
        group=topics.name("group"),
        bootstrap_timeout_ms=1_000,
        ask_timeout_ms=1_000,
        delivery_timeout_ms=1_500,
    )


@contextmanager
def reading(spec: KafkaSpec, **positions: int) -> Iterator[tuple[KafkaSource, list[Partition]]]:
    """Partition 0 of each topic, from these offsets."""
    partitions = [Partition(topic, 0) for topic in positions]
    with closing(KafkaSource(spec, list(positions))) as source:
        source.assign(dict(zip(partitions, positions.values(), strict=True)))
        yield source, partitions


def read(source: KafkaSource, count: int) -> list[bytes | None]:
    """Values, once `count` of them came."""
    values: list[bytes | None] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(values) < count:
        assert time.monotonic() < deadline, values
        values += source.poll(count - len(values), 1.0).values
    return values


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def client_of(source: KafkaSource) -> Any:
    """The object of kafka-python behind a source, to break it."""
    assert source._client is not None
    return source._client._consumer


class TestOutages:
    def test_reading_goes_on_where_it_stood_after_the_broker_was_killed(
        self, kafka: Cluster, topics: Topics, spec: KafkaSpec
    ) -> None:
        """Every record once, in order; polls in between are empty, not errors; and soon after it is back."""
        topic = topics.make()
        topics.write(topic, numbered(100))
        with reading(spec, **{topic: 0}) as (source, _):
            assert read(source, 50) == numbered(50)
            kafka.nodes[0].kill()
            try:
                while len(batch := source.poll(50, 0.2)):  # what was fetched before
                    assert len(batch) == 50
                assert len(source.poll(50, 0.2)) == 0
            finally:
                kafka.nodes[0].start()
            topics.write(topic, numbered(50, 100))
            back = time.monotonic()
            assert read(source, 50) == numbered(50, 100)
            assert time.monotonic() - back < 3

    def test_sending_fails_while_the_broker_is_dead_and_works_when_it_is_back(
        self, kafka: Cluster, topics: Topics, spec: KafkaSpec
    ) -> None:
        """The outbox keeps its rows meanwhile and sends them again; the sink needs no help."""
        topic = topics.make()
        messages = [Message(topic, b"key", value) for value in numbered(3)]
        with closing(KafkaSink(spec)) as sink:
            sink.send(messages[:1])
            kafka.nodes[0].kill()
            try:
                for _ in range(2):
                    with pytest.raises(StreamError) as raised:
                        sink.send(messages[1:])
                    assert raised.value.retryable
                    assert not isinstance(raised.value, TopicsMissing)
            finally:
                kafka.nodes[0].start()
            wait_for(lambda: is_sent(sink, messages[1:]))

        assert list(dict.fromkeys(record.value for record in topics.read(topic))) == numbered(3)

    def test_a_hung_broker_is_waited_out(self, kafka: Cluster, topics: Topics, spec: KafkaSpec) -> None:
        """Polls return empty in their time; questions fail and may be asked again."""
        topic = topics.make()
        topics.write(topic, numbered(5))
        with reading(spec, **{topic: 0}) as (source, partitions):
            assert read(source, 5) == numbered(5)
            kafka.nodes[0].freeze()
            try:
                started = time.monotonic()
                assert len(source.poll(10, 0.3)) == 0
                assert time.monotonic() - started < 1.5
                with pytest.raises(StreamError) as raised:
                    source.bounds(partitions)
                assert raised.value.retryable
            finally:
                kafka.nodes[0].thaw()
            topics.write(topic, numbered(5, 5))
            assert read(source, 5) == numbered(5, 5)
            assert source.bounds(partitions) == {partitions[0]: (0, 10)}

    def test_no_broker_is_an_error_that_waiting_may_cure(self, spec: KafkaSpec) -> None:
        """The daemon tries again; a try costs no more than its time."""
        nowhere = dataclasses.replace(spec, bootstrap=("127.0.0.1:1",), bootstrap_timeout_ms=100)
        threads = threading.active_count()
        tries: list[Callable[[], object]] = [
            lambda: KafkaSource(nowhere, ["topic"]),
            lambda: KafkaAdmin(nowhere),
            lambda: KafkaSink(nowhere).send([Message("topic", b"", b"")]),
        ]
        for one in tries:
            with pytest.raises(StreamError, match=r"127\.0\.0\.1:1") as raised:
                one()
            assert raised.value.retryable
        assert threading.active_count() == threads


def is_sent(sink: KafkaSink, messages: list[Message]) -> bool:
    try:
        sink.send(messages)
    except StreamError:
        return False
    return True


class TestDamage:
    def test_a_damaged_batch_parks_its_partition_alone(self, kafka: Cluster, topics: Topics, spec: KafkaSpec) -> None:
        """The error names partition and offset; past the batch, reading goes on."""
        damaged, fine = topics.make(), topics.make()
        for value in (b"good", b"damaged", b"behind"):
            topics.write(damaged, [value])
        kafka.damage(damaged, b"damaged")
        with reading(spec, **{damaged: 0, fine: 0}) as (source, (lost, _)):
            assert read(source, 1) == [b"good"]
            for _ in range(3):
                with pytest.raises(PartitionFault) as raised:
                    read(source, 1)
                fault = raised.value
                assert (fault.topic, fault.partition, fault.offset, fault.retryable) == (damaged, 0, 1, False)
                assert "crc" in fault.detail

            source.pause([lost])
            topics.write(fine, [b"fine"])
            assert read(source, 1) == [b"fine"]

            source.seek(lost, 2)
            source.resume([lost])
            assert read(source, 1) == [b"behind"]

    def test_a_codec_that_is_not_installed_is_a_fault_of_the_partition(
        self, topics: Topics, spec: KafkaSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some producer has another one than ours."""
        topic = topics.make()
        topics.write(topic, [b"packed" * 100], compression="zstd")
        monkeypatch.setattr("kafka.codec.has_zstd", lambda: False)
        with reading(spec, **{topic: 0}) as (source, _), pytest.raises(PartitionFault, match="zstd") as raised:
            read(source, 1)

        assert raised.value.offset == 0

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    def test_a_batch_that_decompresses_to_too_much_parks_its_partition_alone(
        self, topics: Topics, spec: KafkaSpec, codec: str
    ) -> None:
        """The error says where reading can go on: behind the batch, whose records come together or not at all."""
        bombed, fine = topics.make(), topics.make()
        topics.write(bombed, [b"good"])
        topics.write(bombed, [b"0" * (4 << 20)], compression=codec)
        topics.write(bombed, [b"behind"])
        with reading(dataclasses.replace(spec, batch_bytes=2 << 20), **{bombed: 0, fine: 0}) as (source, (lost, _)):
            assert read(source, 1) == [b"good"]
            for _ in range(2):
                with pytest.raises(PartitionFault) as raised:
                    read(source, 1)
                fault = raised.value
                assert (fault.topic, fault.partition, fault.offset, fault.behind) == (bombed, 0, 1, 2)
                assert fault.detail == "a batch of records decompresses to more than 2097152 bytes (stream.batch_bytes)"

            source.pause([lost])
            topics.write(fine, [b"fine"])
            assert read(source, 1) == [b"fine"]

            assert fault.behind is not None
            source.seek(lost, fault.behind)
            source.resume([lost])
            assert read(source, 1) == [b"behind"]

    def test_what_is_waited_for_is_not_decoded(self, kafka: Cluster, topics: Topics, spec: KafkaSpec) -> None:
        """Whatever decoding it does to the process: it is told by the poll, however often it was waited for."""
        topic = topics.make()
        topics.write(topic, [b"damaged"])
        kafka.damage(topic, b"damaged")
        with reading(spec, **{topic: 0}) as (source, (partition,)):
            wait_for(lambda: source.wait(0.5))
            assert source.wait(0.0)
            with pytest.raises(PartitionFault):
                source.poll(1, 0.0)
            assert source.positions() == {partition: 0}

    def test_an_answer_without_records_is_nothing_to_decode_and_tells_the_end(
        self, topics: Topics, spec: KafkaSpec
    ) -> None:
        topic = topics.make()
        topics.write(topic, numbered(3))
        with reading(spec, **{topic: 3}) as (source, (partition,)):
            wait_for(lambda: not source.wait(0.3) and source.ends() == {partition: 3})

    def test_a_poll_is_limited_in_bytes_as_well(self, topics: Topics, spec: KafkaSpec) -> None:
        """A thousand records of a kilobyte on the wire may be a gigabyte in memory."""
        one, other = topics.make(), topics.make()
        for topic in (one, other):
            topics.write(topic, [b"%d" % n * (1 << 20) for n in range(8)], compression="zstd")
        with reading(dataclasses.replace(spec, poll_bytes=3 << 20), **{one: 0, other: 0}) as (source, partitions):
            sizes, found = [], dict.fromkeys(partitions, 0)
            deadline = time.monotonic() + PATIENCE_S
            while sum(found.values()) < 16:
                assert time.monotonic() < deadline
                batch = source.poll(5_000, 0.5)
                sizes.append(len(batch))
                for run in batch.runs():
                    assert run.offset[0] == found[run.partition]
                    found[run.partition] += len(run.values)
        assert max(sizes) <= 3

    def test_a_large_batch_of_a_paused_partition_is_fetched_again(
        self, kafka: Cluster, topics: Topics, spec: KafkaSpec
    ) -> None:
        """It is not kept meanwhile; nothing is lost, and nothing comes twice."""
        paused = topics.make()
        large: dict[str, Any] = {"batch_size": 16 << 20, "max_request_size": 16 << 20, "linger_ms": 500}
        producer: Any = construct(KafkaProducer, bootstrap_servers=kafka.bootstrap, compression_type="zstd", **large)
        with closing(producer):
            for number in range(8):  # in one batch
                producer.send(paused, b"%d" % number * (1 << 20))
            producer.flush(PATIENCE_S)
        with reading(spec, **{paused: 0}) as (source, (partition,)):
            first = read(source, 2)
            source.pause([partition])
            assert len(source.poll(5, 0.3)) == 0
            assert client_of(source)._fetcher._next_partition_records is None
            assert client_of(source)._fetcher._paused_partition_records == {}
            source.resume([partition])
            assert [value[:1] for value in first + read(source, 6) if value] == numbered(8)

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    def test_every_codec_is_installed(self, topics: Topics, spec: KafkaSpec, codec: str) -> None:
        """Producers choose; a missing one would be a poison batch."""
        topic = topics.make()
        topics.write(topic, [b"x" * 1_000], compression=codec)  # what does not get smaller is not packed
        with reading(spec, **{topic: 0}) as (source, _):
            assert read(source, 1) == [b"x" * 1_000]

    def test_a_client_that_breaks_is_replaced(self, topics: Topics, spec: KafkaSpec) -> None:
        """An error that it never should have raised is told as an outage; the next client goes on without a gap."""
        moving, paused = topics.make(), topics.make()
        topics.write(moving, numbered(10))
        topics.write(paused, numbered(10))
        with reading(spec, **{moving: 0, paused: 5}) as (source, (_, parked)):
            source.pause([parked])
            assert read(source, 4) == numbered(4)
            client_of(source)._fetcher.send_fetches = lambda: 1 / 0  # which it does after taking records

            with pytest.raises(StreamError, match="division by zero") as raised:
                source.poll(10, 1.0)
            assert raised.value.retryable
            assert source.positions() == {Partition(moving, 0): 4, parked: 5}

            assert read(source, 6) == numbered(6, 4)
            assert len(source.poll(10, 0.3)) == 0
            source.resume([parked])
            assert read(source, 5) == numbered(5, 5)

    def test_a_client_that_stands_still_is_replaced(self, topics: Topics, spec: KafkaSpec) -> None:
        """Nothing is raised and nothing comes, though there is more: what stuck partitions of the past looked like."""
        topic = topics.make()
        topics.write(topic, numbered(5))
        with reading(dataclasses.replace(spec, stall_s=0.6), **{topic: 0}) as (source, _), capture_logs() as logs:
            assert read(source, 5) == numbered(5)
            stuck = client_of(source)
            stuck._fetcher._create_fetch_requests = dict
            topics.write(topic, numbered(5, 5))

            assert poll_often(source, 5) == numbered(5, 5)
            assert client_of(source) is not stuck
        assert logs == [{"event": "stream.stuck", "partitions": [f"{topic}[0]"], "log_level": "warning"}]


def poll_often(source: KafkaSource, count: int) -> list[bytes | None]:
    """As `read`, in short polls."""
    values: list[bytes | None] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(values) < count:
        assert time.monotonic() < deadline, values
        values += source.poll(count, 0.1).values
    return values


class TestOffsets:
    def test_records_that_retention_has_removed_are_gone(self, topics: Topics, spec: KafkaSpec) -> None:
        """The error says what is left; nothing is skipped silently."""
        topic = topics.make()
        topics.write(topic, numbered(10))
        topics.cut(topic, 6)
        with reading(spec, **{topic: 2}) as (source, (partition,)):
            assert source.bounds([partition]) == {partition: (6, 10)}
            with pytest.raises(OffsetGone) as raised:
                read(source, 1)
            gone = raised.value
            assert (gone.topic, gone.partition, gone.position) == (topic, 0, 2)
            assert (gone.earliest, gone.latest) == (6, 10)

            source.seek(partition, gone.earliest)
            assert read(source, 4) == numbered(4, 6)

    def test_a_truncated_log_is_told_for_each_partition(self, topics: Topics, spec: KafkaSpec) -> None:
        """After an unclean election the log may end before our position. The client tells only once; we do not."""
        one, other = topics.make(), topics.make()
        topics.write(one, numbered(10))
        topics.write(other, numbered(10))
        with reading(spec, **{one: 0, other: 0}) as (source, partitions):
            read(source, 20)
            for partition in partitions:
                state = client_of(source)._subscription.assignment[TopicPartition(*partition)]
                state.seek(OffsetAndMetadata(15, "", 0))
                state.request_position_validation()

            told = set()
            for _ in partitions:
                with pytest.raises(OffsetGone) as raised:
                    read(source, 1)
                assert (raised.value.position, raised.value.earliest, raised.value.latest) == (15, 0, 10)
                told.add(raised.value.topic)
                source.seek(Partition(raised.value.topic, 0), 10)
            assert told == {one, other}

    def test_a_topic_that_was_made_anew_has_another_identity(self, topics: Topics, spec: KafkaSpec) -> None:
        """Its offsets begin again at 0: positions of the old one mean nothing there."""
        topic = topics.make()
        with closing(KafkaSource(spec, [topic])) as source:
            before = source.identities()[topic]
            assert before
            topics.admin.delete_topics([topic])
            wait_for(lambda: source.identities() == {})
            with pytest.raises(TopicsMissing):
                source.partitions()

            wait_for(lambda: is_made(topics, topic))
            wait_for(lambda: source.identities().get(topic, before) != before)

    def test_what_transactions_leave_behind_does_not_look_like_lag(
        self, kafka: Cluster, topics: Topics, spec: KafkaSpec
    ) -> None:
        """Aborted records never come, and markers hold offsets: the position passes them, the last record does not."""
        topic = topics.make()
        producer: Any = construct(KafkaProducer, bootstrap_servers=kafka.bootstrap, transactional_id=topic)
        with closing(producer):
            producer.init_transactions()
            producer.begin_transaction()
            producer.send(topic, b"aborted").get(10)
            producer.abort_transaction()
            producer.begin_transaction()
            producer.send(topic, b"committed").get(10)
            producer.commit_transaction()
        with reading(spec, **{topic: 0}) as (source, (partition,)):
            batch = source.poll(10, PATIENCE_S)
            assert (batch.values, batch.offset.tolist()) == ([b"committed"], [2])
            assert batch.next_positions() == {partition: 3}

            wait_for(lambda: len(source.poll(10, 0.1)) == 0 and source.positions() == {partition: 4})
            assert source.ends() == {partition: 4}

    def test_commits_reach_the_group(self, topics: Topics, spec: KafkaSpec) -> None:
        """For the dashboards that show the lag of groups; nobody ever joins it."""
        topic = topics.make()
        topics.write(topic, numbered(10))
        asked = TopicPartition(topic, 0)
        with reading(spec, **{topic: 0}) as (source, (partition,)):

            def is_committed(position: int) -> bool:
                source.commit({partition: position})
                source.poll(10, 0.1)
                return committed(topics, spec.group).get(asked) == position

            wait_for(lambda: is_committed(4))  # the first commit of a new cluster may find no coordinator yet
            wait_for(lambda: is_committed(10))

    def test_commits_that_fail_are_said_once_and_reading_goes_on(self, crippled: Cluster, spec: KafkaSpec) -> None:
        """Here the group has no coordinator. The database is the truth, so nothing is lost."""
        spec = dataclasses.replace(spec, bootstrap=(crippled.bootstrap,))
        with closing(Topics(crippled.bootstrap)) as topics:
            topic = topics.make()
            topics.write(topic, numbered(10))
        with reading(spec, **{topic: 0}) as (source, (partition,)), capture_logs() as logs:
            for count in range(1, 11):
                assert read(source, 1) == numbered(1, count - 1)
                source.commit({partition: count})
            wait_for(lambda: len(source.poll(1, 0.1)) == 0 and bool(logs))
        assert [entry["event"] for entry in logs] == ["stream.commit_failed"]


def is_made(topics: Topics, topic: str) -> bool:
    try:
        topics.admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    except TopicAlreadyExistsError:  # the old one is still being deleted
        return False
    return True


def committed(topics: Topics, group: str) -> dict[TopicPartition, int]:
    try:
        offsets = topics.admin.list_group_offsets([group])[group]
    except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return {}
    return {partition: found.offset for partition, found in offsets.items()}


class TestRecords:
    def test_timestamps_and_tombstones_are_kept(self, topics: Topics, spec: KafkaSpec) -> None:
        """A tombstone has no value, which is not an empty one."""
        topic = topics.make()
        topics.write(topic, [b"value", None, b""])
        with reading(spec, **{topic: 0}) as (source, _):
            batch = source.poll(3, PATIENCE_S)

        assert batch.values == [b"value", None, b""]
        assert (batch.timestamp > 1_700_000_000_000).all()

    def test_a_record_larger_than_a_fetch_comes(self, kafka: Cluster, topics: Topics, spec: KafkaSpec) -> None:
        """Its size is for the decoder to refuse; a reader that cannot pass it would stand still for ever."""
        topic = topics.make()
        large = b"x" * (9 << 20)
        made = construct(KafkaProducer, bootstrap_servers=kafka.bootstrap, max_request_size=16 << 20)
        with closing(made) as producer:
            producer.send(topic, large).get(20)
            producer.send(topic, b"small").get(20)
        with reading(spec, **{topic: 0}) as (source, _):
            assert read(source, 2) == [large, b"small"]

    def test_keys_and_headers_are_sent(self, topics: Topics, spec: KafkaSpec) -> None:
        """The key decides the partition and what compaction keeps, headers carry the ids."""
        topic = topics.make()
        with closing(KafkaSink(spec)) as sink:
            sink.send([Message(topic, b"key", b"value", {"event_id": b"1", "seq": b"2"})])

        (record,) = topics.read(topic)
        assert (record.key, record.value) == (b"key", b"value")
        assert record.headers == [("event_id", b"1"), ("seq", b"2")]

    def test_a_key_stays_in_its_partition(self, topics: Topics, spec: KafkaSpec) -> None:
        """Else the records of one alert would have no order."""
        topic = topics.make(4)
        keys = [b"%d" % number for number in range(40)]
        with closing(KafkaSink(spec)) as sink:
            sink.send([Message(topic, key, value) for value in numbered(3) for key in keys])

        found = [[(record.key, record.value) for record in topics.read(topic, number)] for number in range(4)]
        assert all(found)
        for records in found:
            for key in {key for key, _ in records}:
                assert [value for other, value in records if other == key] == numbered(3)

    def test_a_message_that_is_too_large_is_named_and_not_retried(self, topics: Topics, spec: KafkaSpec) -> None:
        """No broker would ever take it; what comes after it can be sent."""
        topic = topics.make()
        with closing(KafkaSink(spec)) as sink:
            with pytest.raises(StreamError, match=f"{topic}.*larger than") as raised:
                sink.send([Message(topic, b"key", b"x" * (1 << 20))])
            assert not raised.value.retryable
            sink.send([Message(topic, b"key", b"x")])

        assert [record.value for record in topics.read(topic)] == [b"x"]

    def test_a_topic_that_is_not_there_is_named_and_not_made(self, topics: Topics, spec: KafkaSpec) -> None:
        """Made by accident it would have one partition, and forget decisions."""
        missing = topics.name("missing")
        with closing(KafkaSink(spec)) as sink, pytest.raises(TopicsMissing) as raised:
            sink.send([Message(missing, b"key", b"value")])

        assert raised.value.topics == (missing,)
        assert missing not in topics.admin.list_topics()
