"""Topics that are missing, made anew, damaged, cut short, idle or given more partitions."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.e2e import workload
from tests.e2e.auditor import query
from tests.e2e.place import KafkaPlace
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

pytestmark = pytest.mark.kafka

AWAY, CONFIGURATION = 75, 78


def a_prediction(number: int, time: int | None = None, **fields: Any) -> bytes:
    """A plain answer of the model `prices`, one each 100 ms."""
    at = workload.T0 + number * 100 if time is None else time
    event = {"type": "prediction", "request_id": f"r{number}", "time": at, "model": "prices", "version": "v2"}
    return json.dumps(event | {"prediction": 1.0} | fields).encode()


def predictions(start: int, stop: int) -> list[bytes]:
    return [a_prediction(number) for number in range(start, stop)]


def versions(place: KafkaPlace) -> dict[str, int]:
    """Predictions counted, by version of `prices`."""
    ((body,),) = query(place.store_url, "SELECT body FROM model_state WHERE model = 'prices'")
    return {v["version"]: v["predictions"] for v in json.loads(body)["versions"].values()}


@pytest.fixture
def place(kafka_place: KafkaPlace) -> KafkaPlace:
    kafka_place.configure(workload.models(drift=False))
    return kafka_place


# -- missing -----------------------------------------------------------------------------------------------


def test_missing_topics_are_named_and_one_command_makes_them(tmp_path: Path, topics: Topics) -> None:
    """The daemon goes on by itself once they are there."""
    place = KafkaPlace(tmp_path, topics, missing=True)
    place.configure(workload.models(drift=False))
    with place.daemon() as daemon:
        daemon.until(lambda: "missing topics" in (daemon.why_not_ready or ""), "it says why")
        why = daemon.why_not_ready or ""
        assert all(topic in why for topic in place.events)
        assert "driftd topics --create" in why
        assert place.driftd("topics").code == AWAY

        made = place.driftd("topics", "--create", "--json")

        assert made.code == 0
        assert set(made.json()["topics"].values()) == {"present"}
        daemon.until_ready()
        place.produce(workload.Workload(seed=61, seconds=20).lines())
        daemon.until_read(len(place.written)).until_published()
        assert daemon.stop() == 0
    described = topics.admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, ["cleanup.policy"]) for topic in place.outputs.values()],
        config_filter="all",
    )["topic"]
    policies = {name: described[topic]["cleanup.policy"]["value"] for name, topic in place.outputs.items()}
    assert policies == {"alerts": "compact", "decisions": "compact", "dead-letters": "delete"}


def test_an_output_that_is_not_compacted_is_told(place: KafkaPlace, topics: Topics) -> None:
    plain = topics.make(1)
    place.configure(stream={"alerts": plain})

    checked = place.driftd("topics", "--json")

    assert checked.code == AWAY
    assert checked.json()["topics"][plain] == "not_compacted"


# -- made anew ---------------------------------------------------------------------------------------------


def test_a_topic_that_was_made_anew_is_refused_until_it_is_adopted(place: KafkaPlace, topics: Topics) -> None:
    """The same offsets are other records now. One partition is read from its new beginning, others go on."""
    topic, other = place.events
    place.append(topic, predictions(0, 300))
    place.append(other, predictions(1_000, 1_050))
    with place.daemon() as daemon:
        daemon.until_read(350)
        assert place.driftd("topics", "--adopt", topic).code == CONFIGURATION  # not while somebody reads
        assert daemon.stop() == 0
    topics.admin.delete_topics([topic])
    topics.admin.create_topics(
        {topic: {"num_partitions": 1, "replication_factor": 1, "configs": {}}}, wait_for_metadata=True
    )
    place.append(topic, predictions(300, 700))

    with place.daemon(name="refusing") as daemon:
        assert daemon.ended() == CONFIGURATION
    assert f"{topic}: was deleted and made anew" in daemon.log_path.read_text()
    assert "driftd topics --adopt" in daemon.log_path.read_text()

    assert place.driftd("topics", "--adopt", topic).code == 0
    with place.daemon(name="adopting") as daemon:
        daemon.until_read(750)
        assert daemon.stop() == 0
    assert versions(place) == {"v2": 750}
    assert place.found().gaps == []


def test_a_topic_that_is_made_anew_under_a_running_daemon_ends_it(place: KafkaPlace, topics: Topics) -> None:
    """Nothing of the new topic is taken for the old one, and nothing is told to be lost."""
    topic = place.events[0]
    place.append(topic, predictions(0, 300))
    with place.daemon() as daemon:
        daemon.until_read(300)
        topics.admin.delete_topics([topic])
        topics.admin.create_topics(
            {topic: {"num_partitions": 1, "replication_factor": 1, "configs": {}}}, wait_for_metadata=True
        )
        place.append(topic, predictions(300, 400))

        assert daemon.ended() == CONFIGURATION

    assert "driftd topics --adopt" in daemon.log_path.read_text()
    assert place.found().gaps == []


# -- damaged and cut short ---------------------------------------------------------------------------------


def test_a_partition_with_unreadable_bytes_waits_and_an_operator_skips_them(place: KafkaPlace, kafka: Cluster) -> None:
    """The others are read on."""
    topic, other = place.events
    place.append(topic, predictions(0, 10))
    place.append(topic, [a_prediction(10, segment="unreadable")])
    place.append(topic, predictions(11, 30))
    kafka.damage(topic, b"unreadable")
    with place.daemon() as daemon:
        place.append(other, predictions(100, 150))
        daemon.until_read(60).until_published()
        alert, left_out = [a for a in place.alerts() if a["kind"] == "daemon"]
        assert "driftd topics --skip" in alert["summary"]
        assert "the others go on without it" in left_out["summary"]
        assert daemon.metric(f'driftd_partition_parked{{partition="0",topic="{topic}"}}') == 1
        assert place.driftd("topics", "--skip", f"{topic}:0:11").code == CONFIGURATION  # not while somebody reads
        assert daemon.stop() == 0

    skipped = place.driftd("topics", "--skip", f"{topic}:0:11")

    assert skipped.code == 0
    assert "goes on at 11; it was at 10" in skipped.err
    with place.daemon(name="next") as daemon:
        daemon.until_read(79)
        assert daemon.stop() == 0
    # The others went on without it: the windows of what it still brought are closed.
    assert versions(place) == {"v2": 60}
    assert place.driftd("status", "--json").json()["events"]["late_after_idle"] == 19
    assert place.found().gaps == [(topic, 0, 10, 11)]
    assert place.driftd("topics", "--skip", f"{topic}:0:5").code == CONFIGURATION  # back would count twice


def test_records_that_retention_has_taken_are_a_gap_that_is_told(tmp_path: Path, topics: Topics) -> None:
    """In two partitions at once, while nobody was reading: counted on from the first records that are left."""
    place = KafkaPlace(tmp_path, topics, partitions=2)
    place.configure(workload.models(drift=False))
    topic = place.events[0]
    for partition in (0, 1):
        place.append(topic, predictions(partition * 1_000, partition * 1_000 + 100), partition)
    with place.daemon() as daemon:
        daemon.until_read(200)
        assert daemon.stop() == 0
    for partition in (0, 1):
        place.append(topic, predictions(partition * 1_000 + 100, partition * 1_000 + 200), partition)
        topics.cut(topic, 150, partition)

    with place.daemon(name="next") as daemon:
        daemon.until_read(300).until_published()
        assert daemon.metric("driftd_gap_records_total") == 100
        assert daemon.stop() == 0

    found = place.found()
    assert versions(place) == {"v2": 300}
    assert sorted(found.gaps) == [(topic, 0, 100, 150), (topic, 1, 100, 150)]
    told = [a["summary"] for a in place.alerts() if a["kind"] == "daemon" and a["status"] == "firing"]
    assert sorted(told) == [f"{topic}[{n}]: offsets 100 to 150 were lost" for n in (0, 1)]


# -- more and fewer ----------------------------------------------------------------------------------------


def test_partitions_that_are_added_are_read_from_their_beginning(place: KafkaPlace, topics: Topics) -> None:
    topic = place.events[0]
    place.append(topic, predictions(0, 100))
    with place.daemon() as daemon:
        daemon.until_read(100)
        assert daemon.stop() == 0
    topics.admin.create_partitions({topic: 3})
    with closing(Topics(topics.bootstrap)) as producer:  # one that does not remember a single partition
        for partition in (1, 2):
            producer.write(topic, predictions(partition * 1_000, partition * 1_000 + 50), partition)

    with place.daemon(name="next") as daemon:
        daemon.until_read(200)
        assert daemon.stop() == 0

    assert versions(place) == {"v2": 200}


def test_a_partition_where_nothing_comes_does_not_hold_up_time(tmp_path: Path, topics: Topics) -> None:
    """One that is merely behind does; so idleness needs its end to be reached, and a while to pass."""
    place = KafkaPlace(tmp_path, topics, partitions=2)
    place.configure(workload.models(drift=False), stream={"idle_after": "1s"})
    place.append(place.events[0], predictions(0, 400), 0)
    with place.daemon() as daemon:
        daemon.until_read(400)
        # Three of four partitions are empty: 40 s of events are 8 panes, of which lateness holds back the last.
        windows = "SELECT count(*) FROM history WHERE NOT outcomes"
        daemon.until(lambda: query(place.store_url, windows)[0][0] >= 7, "windows close")
        assert daemon.stop() == 0


def test_an_event_of_the_far_future_closes_no_window(place: KafkaPlace) -> None:
    """It is refused, so the events after it are not late."""
    topic, other = place.events
    far = 32_503_680_000_000  # the year 3000
    place.append(topic, [*predictions(0, 100), a_prediction(100, far), *predictions(101, 300)])
    place.append(other, predictions(1_000, 1_010))
    with place.daemon() as daemon:
        daemon.until_read(310).until_published()
        assert daemon.metric("driftd_late_predictions_total") == 0
        assert daemon.stop() == 0

    (letter,) = place.dead_letters()
    assert (letter["reason"], letter["offset"]) == ("time_in_future", 100)
    assert versions(place) == {"v2": 309}


# -- small -------------------------------------------------------------------------------------------------


def test_a_topic_that_takes_little_gets_messages_one_by_one_and_cut(tmp_path: Path, topics: Topics) -> None:
    """Nothing else waits for the one that is too large, and nothing is sent again and again."""
    place = KafkaPlace(tmp_path, topics)
    small = topics.make(1, {"max.message.bytes": "4000"})
    place.outputs = {**place.outputs, "dead-letters": small}
    place.configure(workload.models(drift=False))
    refused = [b"{" + b"x" * 1_000] * 20 + [b"{" + b"y" * 40_000] + [b"{"] * 5
    place.append(place.events[0], [*refused, *predictions(0, 10)])
    with place.daemon() as daemon:
        daemon.until_read(len(refused) + 10).until_published()
        assert daemon.stop() == 0

    letters = place.dead_letters()
    assert {letter["offset"] for letter in letters} == set(range(len(refused)))
    assert {letter["offset"] for letter in letters if letter["truncated"]} == {20}
    assert len(letters) < 2 * len(refused)
    assert {d["model"] for d in place.decisions()} == {"prices", "clicks"}
