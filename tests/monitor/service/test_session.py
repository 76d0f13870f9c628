"""One run of the pipeline: claimed, restored, committed, and what keeps a commit from being written twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.alerting.records import AlertRecord
from monitor.errors import ConfigError, Fenced, StoreError
from monitor.pipeline.commit import PipelineCommit
from monitor.pipeline.inspection import look_up
from monitor.service.session import Session
from monitor.store import tables as t
from monitor.store.engine import connect
from monitor.store.writer import Claim, Gap, StoreWriter
from monitor.stream.types import Partition
from tests.monitor.kit import HOUR, T0, WALL, a_core, a_model, batch_of, prediction, records_of, some_outcomes

CORE = a_core(a_model(outcomes=some_outcomes()))
EVENTS = Partition("events", 0)
BATCH = batch_of(records_of(prediction(f"r{i}", T0 + i) for i in range(5)))


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{database}")
    yield engine
    engine.dispose()


def claimed(engine: Engine, owner: str = "us") -> Session:
    session = Session.claim(CORE, engine, StoreWriter(engine, owner, 90 * 24 * HOUR), 0.0)
    assert isinstance(session, Session)
    return session


class Log:
    """Keeps `CommitWriter`: a list, and failures that are wished for."""

    def __init__(self, *errors: StoreError, written_all_the_same: bool = False) -> None:
        self.written: list[PipelineCommit] = []
        self.gaps: list[Sequence[Gap]] = []
        self._errors = list(errors)
        self._written_all_the_same = written_all_the_same

    def commit(self, delta: PipelineCommit, *, identities: Mapping[str, str], gaps: Sequence[Gap]) -> None:
        error = self._errors.pop(0) if self._errors else None
        if error is None or self._written_all_the_same:
            self.written.append(delta)
            self.gaps.append(tuple(gaps))
        if error is not None:
            raise error

    def is_committed(self, seq: int) -> bool:
        return any(delta.seq == seq for delta in self.written)

    def release(self) -> None:
        pass


AWAY = StoreError("the database is away", retryable=True)


def test_a_session_goes_on_where_the_last_commit_was(engine: Engine) -> None:
    first = claimed(engine)
    first.assign({EVENTS: 0})
    first.process(BATCH, WALL)
    first.commit()
    first.process(batch_of(records_of([prediction("lost", T0)])), WALL)

    second = claimed(engine)

    assert second.restored
    assert second.assign({EVENTS: 0, Partition("events", 1): 7}) == {EVENTS: 5, Partition("events", 1): 7}
    assert second.pipeline.totals.events["read"] == 5


def test_a_store_that_is_owned_tells_how_long_its_lease_holds(engine: Engine) -> None:
    claimed(engine, "somebody")

    left = Session.claim(CORE, engine, StoreWriter(engine, "us", HOUR), 60.0, is_gone=lambda owner: False)

    assert isinstance(left, float)
    assert 0 < left <= 60.0


def test_a_session_that_only_looks_knows_what_was_committed_and_disturbs_no_owner(engine: Engine) -> None:
    owner = claimed(engine)
    owner.assign({EVENTS: 0})
    owner.process(BATCH, WALL)
    owner.commit()

    looking = Session.read_only(CORE, engine)
    (model,) = looking.pipeline.models

    assert look_up(looking.pipeline, model, looking.seed, "r3")["state"] == "waiting"
    owner.commit()


def test_a_session_without_a_writer_commits_nothing() -> None:
    with pytest.raises(RuntimeError, match="without a writer"):
        Session(CORE).commit()


def test_a_session_whose_epoch_is_over_is_fenced(engine: Engine) -> None:
    session = claimed(engine)
    claimed(engine, "other")

    with pytest.raises(Fenced):
        session.commit(lambda failed, error: True)


def test_effects_are_kept_until_they_are_committed_and_then_they_are_gone() -> None:
    log = Log()
    session = Session(CORE, log, claim=Claim(1, 7))
    session.assign({EVENTS: 0})
    session.process(BATCH, WALL)
    session.process(batch_of(records_of([b"rubbish"])), WALL)

    session.commit()
    session.commit()

    assert session.effects.records == 0
    assert [len(c.dead_letters) for c in log.written] == [1, 0]
    assert [len(c.published) for c in log.written] == [1, 0]


def test_a_commit_is_retried_as_it_is_told() -> None:
    log = Log(AWAY, AWAY)
    failed: list[int] = []

    def retry(attempts: int, error: StoreError) -> bool:
        failed.append(attempts)
        return True

    Session(CORE, log).commit(retry)

    assert failed == [0, 1]
    assert len(log.written) == 1


def test_a_commit_that_was_written_although_it_failed_is_not_written_again() -> None:
    log = Log(AWAY, written_all_the_same=True)

    Session(CORE, log).commit(lambda n, error: True)

    assert len(log.written) == 1


def test_without_a_policy_the_first_failure_is_the_last() -> None:
    with pytest.raises(StoreError, match="away"):
        Session(CORE, Log(AWAY)).commit()


def test_a_failure_that_waiting_does_not_mend_is_not_retried() -> None:
    with pytest.raises(StoreError, match="damaged"):
        Session(CORE, Log(StoreError("damaged", retryable=False))).commit(lambda n, error: True)


def test_a_gap_is_written_with_one_commit_only() -> None:
    log = Log()
    session = Session(CORE, log)
    session.assign({EVENTS: 0})
    session.skip(EVENTS, 2, 9)

    session.commit()
    session.commit()

    assert log.gaps == [(Gap(EVENTS, 2, 9),), ()]
    assert log.written[-1].positions == {EVENTS: 9}


def test_an_alert_of_the_daemon_fires_once_while_it_lasts() -> None:
    log = Log()
    session = Session(CORE, log)
    session.assign({EVENTS: 0})
    session.process(BATCH, WALL)
    session.fire("gap events[0]", "lost")
    session.fire("gap events[0]", "lost")
    session.resolve("gap events[0]", "over")

    session.commit()

    documents = [alert.document() for alert in log.written[0].published if isinstance(alert, AlertRecord)]
    assert [(d["status"], d["summary"]) for d in documents] == [("firing", "lost"), ("resolved", "over")]


def test_a_topic_that_was_made_anew_is_refused() -> None:
    session = Session(CORE)
    session.identify({"events": "1", "more": ""})
    session.identify({"events": "1", "more": "7"})

    with pytest.raises(ConfigError, match="events: was deleted and made anew"):
        session.identify({"events": "2", "more": "7"})


def test_identities_are_stored_beside_the_offsets(engine: Engine) -> None:
    session = claimed(engine)
    session.assign({EVENTS: 0})
    session.identify({"events": "abc"})
    session.commit()

    assert claimed(engine).identities == {"events": "abc"}


def test_a_released_store_is_owned_by_nobody(engine: Engine) -> None:
    claimed(engine).release()

    with engine.connect() as c:
        assert c.execute(sa.select(t.shard.c.owner)).scalar_one() is None
