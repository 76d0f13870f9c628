"""Two daemons on one store: one works, the other waits, and whoever lost the store says and writes nothing more.

The two have topics of alerts, decisions and dead letters of their own, so that it can be told who published what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import auditor, workload
from tests.e2e.auditor import query
from tests.e2e.daemon import Daemon
from tests.e2e.place import OUTPUTS, FilePlace, KafkaPlace, Place

LINES = workload.Workload(seed=41, seconds=300).lines()
HALF = len(LINES) // 2


class Pair:
    """Two configurations of one store, which differ in the names of what they publish to."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.names = {
            "first": dict(place.outputs),
            "second": {name: f"{topic}.second" for name, topic in place.outputs.items()},
        }
        for name, topics in self.names.items():
            stream = {"alerts": topics["alerts"], "decisions": topics["decisions"]}
            stream["dead_letters"] = topics["dead-letters"]
            place.configure(workload.models(drift=False), name=f"{name}.yaml", stream=stream)

    def start(self, name: str) -> Daemon:
        """The first or the second daemon. Frozen inside a transaction of SQLite it would keep the database locked."""
        return self.place.daemon(name=name, config=f"{name}.yaml", gated=True)

    @contextmanager
    def both(self) -> Iterator[tuple[Daemon, Daemon]]:
        """The first owns the store, and the second waits for it."""
        with self.start("first") as first:
            first.until(lambda: bool(first.status()), "it owns the store")
            with self.start("second") as second:
                yield first, second

    def published(self, name: str) -> dict[str, list[bytes]]:
        """What one of them has published, by kind."""
        return {kind: self.place.values(self.names[name][kind]) for kind in OUTPUTS}

    def owner(self) -> int:
        """The process that owns the store."""
        ((owner,),) = query(self.place.store_url, "SELECT owner FROM shard")
        return int(owner.split("/")[1])

    def found(self) -> auditor.Found:
        """What both have left behind."""
        both = [self.published("first")[kind] + self.published("second")[kind] for kind in OUTPUTS]
        return auditor.found_in(self.place.store_url, *both)

    def expected(self) -> auditor.Expected:
        return auditor.recount(self.place.written, self.place.inputs)


@pytest.fixture
def pair(file_place: FilePlace) -> Pair:
    return Pair(file_place)


def test_the_second_daemon_waits_and_is_not_ready(pair: Pair) -> None:
    pair.place.produce(LINES)
    with pair.start("first") as first:
        first.until_ready()
        with pair.start("second") as second:
            second.until(lambda: "another daemon owns the store" in (second.why_not_ready or ""), "it says why")
            first.until_read(len(LINES)).until_published()

            assert first.is_ready
            assert not second.is_ready
            assert second.get("/-/healthy").code == 200
            assert second.status() == {}
            assert pair.owner() == first.pid
            assert first.stop() == 0
            second.until_ready()
            assert second.stop() == 0
    assert pair.published("second") == {kind: [] for kind in OUTPUTS}
    assert auditor.differences(pair.expected(), pair.found()) == []


def test_the_second_daemon_takes_over_at_once_when_the_first_is_killed(pair: Pair) -> None:
    """It can see that the process is gone, and does not wait for the lease."""
    lease = {"store": {"lease": "1h"}}
    for name in pair.names:
        stream = {"alerts": pair.names[name]["alerts"], "decisions": pair.names[name]["decisions"]}
        stream["dead_letters"] = pair.names[name]["dead-letters"]
        pair.place.configure(workload.models(drift=False), name=f"{name}.yaml", stream=stream, **lease)
    pair.place.produce(LINES[:HALF])
    with pair.both() as (first, second):
        first.until_ready().until_read(HALF)
        second.until_not_ready()
        first.kill()
        pair.place.produce(LINES[HALF:])

        second.until_ready().until_read(len(LINES)).until_published()

        assert pair.owner() == second.pid
        assert second.stop() == 0
    assert auditor.differences(pair.expected(), pair.found()) == []


@contextmanager
def hand_over(pair: Pair) -> Iterator[tuple[Daemon, Daemon]]:
    """The first daemon is frozen with work done and more to come; the second takes over and finishes it."""
    pair.place.produce(LINES[:HALF])
    with pair.both() as (first, second):
        first.until_ready().until_read(HALF).until_published()
        second.until_not_ready()
        first.freeze()
        pair.place.produce(LINES[HALF:])
        second.until_ready().until_read(len(LINES)).until_published()
        yield first, second


def until_it_notices(zombie: Daemon) -> None:
    zombie.until(lambda: "another daemon owns the store" in (zombie.why_not_ready or ""), "it notices")


def a_zombie_does_nothing(pair: Pair) -> None:
    with hand_over(pair) as (first, second):
        before = pair.published("first")
        commits = query(pair.place.store_url, "SELECT epoch FROM shard")

        first.thaw()
        until_it_notices(first)

        assert len(first.logged("worker.fenced")) == 1
        assert pair.published("first") == before
        assert pair.owner() == second.pid
        assert query(pair.place.store_url, "SELECT epoch FROM shard") == commits
        assert second.is_ready
        # What it goes on with when its turn comes is what the other has committed.
        assert second.stop() == 0
        first.until_ready()
        assert first.stop() == 0
    assert auditor.differences(pair.expected(), pair.found()) == []


def test_a_daemon_that_was_frozen_past_its_lease_writes_and_publishes_nothing(pair: Pair) -> None:
    a_zombie_does_nothing(pair)


@pytest.mark.kafka
@pytest.mark.postgres
def test_so_it_is_on_kafka_and_postgresql(postgres_place: KafkaPlace) -> None:
    pair = Pair(postgres_place)
    assert postgres_place.driftd("topics", "--create", "--config", "second.yaml").code == 0

    a_zombie_does_nothing(pair)


def test_a_relay_that_was_frozen_with_messages_in_hand_does_not_cross_off_those_of_the_new_owner(
    pair: Pair,
) -> None:
    """The topics of the first daemon cannot be written to, so everything it has committed still waits."""
    blocked = pair.place.directory / "stream" / f"{pair.names['first']['decisions']}.jsonl"
    blocked.mkdir()
    pair.place.produce(LINES[:HALF])
    with pair.both() as (first, second):
        first.until_read(HALF)
        first.until(lambda: first.metric("driftd_outbox_depth") > 0, "messages wait")
        first.freeze()
        second.until_ready().until_published()
        blocked.rmdir()
        pair.place.produce(LINES[HALF:])

        first.thaw()
        until_it_notices(first)
        second.until_read(len(LINES)).until_published()

        assert pair.published("first") == {kind: [] for kind in OUTPUTS}
        assert second.stop() == 0
        assert first.stop() == 0
    assert auditor.differences(pair.expected(), pair.found()) == []


def test_ownership_goes_back_and_forth_without_a_loss(pair: Pair) -> None:
    """Each in turn is frozen, loses the store, and waits until the other one is frozen."""
    parts = [LINES[i : i + HALF // 2] for i in range(0, len(LINES), HALF // 2)]
    with pair.both() as (working, waiting):
        working.until_ready()
        for part in parts:
            pair.place.produce(part)
            working.freeze()
            waiting.until_ready().until_read(len(pair.place.written))
            working.thaw()
            working.until_not_ready()
            working, waiting = waiting, working
        working.until_published()
        assert waiting.stop() == 0
        assert working.stop() == 0
    assert auditor.differences(pair.expected(), pair.found()) == []
