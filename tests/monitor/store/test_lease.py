"""The lease between the claim and the first commit: renewed while it is ours, and lost once another daemon has it."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.errors import Fenced
from monitor.service.session import Session
from monitor.store import tables as t
from monitor.store.engine import database_clock, snapshot
from monitor.store.lease import LeaseKeeper, renew
from monitor.store.writer import Claim, StoreWriter
from tests.monitor.kit import a_core, a_model

STUCK_S = 20.0


def claimed(engine: Engine, owner: str, lease_s: float = 0.0) -> Claim:
    claim = StoreWriter(engine, owner, 1_000).claim(lease_s, lambda name: False)
    assert isinstance(claim, Claim)
    return claim


def age(engine: Engine, seconds: float) -> None:
    """Let so much of the lease have passed."""
    with engine.begin() as c:
        c.execute(sa.update(t.shard).values(updated_at=t.shard.c.updated_at - seconds))


def still_held(engine: Engine, lease_s: float) -> bool:
    return not isinstance(StoreWriter(engine, "other", 1_000).claim(lease_s, lambda name: False), Claim)


def still_held_by(engine: Engine, claim: Claim, lease_s: float) -> bool:
    """Whether the lease has not run out; nobody takes it."""
    with engine.connect() as c:
        row = c.execute(sa.select(t.shard.c.epoch, (database_clock(c) - t.shard.c.updated_at).label("age"))).one()
    return bool(row.epoch == claim.epoch and row.age < lease_s)


def test_a_renewed_lease_begins_anew(engine: Engine) -> None:
    mine = claimed(engine, "us")
    age(engine, 30)

    renew(engine, mine.epoch)

    assert still_held(engine, 20)


def test_the_lease_of_an_epoch_that_is_over_is_not_renewed(engine: Engine) -> None:
    mine = claimed(engine, "us")
    claimed(engine, "other")

    with pytest.raises(Fenced):
        renew(engine, mine.epoch)


def test_a_keeper_renews_until_it_is_stopped(engine: Engine) -> None:
    mine, renewed = claimed(engine, "us"), threading.Event()
    age(engine, 30)

    def gets_on() -> bool:
        renewed.set()
        return True

    keeper = LeaseKeeper(engine, mine.epoch, 0.04, gets_on)

    keeper.start()
    assert renewed.wait(STUCK_S)
    keeper.stop()

    keeper.check()
    assert still_held(engine, 20)
    age(engine, 30)
    assert not still_held(engine, 20)


def test_a_keeper_renews_only_while_the_owner_gets_on(engine: Engine) -> None:
    mine, asked, moves = claimed(engine, "us"), threading.Semaphore(0), threading.Event()
    age(engine, 30)

    def gets_on() -> bool:
        asked.release()
        return moves.is_set()

    keeper = LeaseKeeper(engine, mine.epoch, 0.04, gets_on)
    keeper.start()
    for _ in range(3):
        assert asked.acquire(timeout=STUCK_S)
    left_alone = not still_held_by(engine, mine, 20)
    moves.set()
    for _ in range(6):
        assert asked.acquire(timeout=STUCK_S)
    keeper.stop()

    assert left_alone
    assert still_held(engine, 20)


def test_a_keeper_tells_that_the_store_was_lost(engine: Engine) -> None:
    mine = claimed(engine, "us")
    claimed(engine, "other")
    keeper = LeaseKeeper(engine, mine.epoch, 0.04)

    keeper.start()
    keeper._thread.join(STUCK_S)

    with pytest.raises(Fenced):
        keeper.check()


def test_the_lease_is_renewed_while_the_state_is_read(engine: Engine) -> None:
    """On SQLite as well: who reads has no lock that writers need."""
    mine = claimed(engine, "us")
    age(engine, 30)

    with snapshot(engine) as c:
        assert c.execute(sa.select(t.shard.c.epoch)).scalar_one() == mine.epoch
        renew(engine, mine.epoch)

    assert still_held(engine, 20)


def test_a_snapshot_does_not_change_while_it_is_read(engine: Engine) -> None:
    mine = claimed(engine, "us")

    with snapshot(engine) as c:
        before = c.execute(sa.select(t.shard.c.epoch)).scalar_one()
        claimed(engine, "other")
        assert c.execute(sa.select(t.shard.c.epoch)).scalar_one() == before == mine.epoch


def test_a_session_whose_store_was_taken_before_its_first_commit_is_fenced(engine: Engine) -> None:
    session = Session.claim(
        a_core(a_model()), engine, StoreWriter(engine, "us", 1_000), 0.04, is_gone=lambda name: True
    )
    assert isinstance(session, Session)
    claimed(engine, "other")

    with pytest.raises(Fenced):
        until_checked(session)


def test_nobody_keeps_the_store_for_a_session_that_is_gone(engine: Engine) -> None:
    before = set(threading.enumerate())
    session = Session.claim(a_core(a_model()), engine, StoreWriter(engine, "us", 1_000), 0.2, is_gone=lambda name: True)
    (keeper,) = set(threading.enumerate()) - before

    del session
    gc.collect()
    keeper.join(STUCK_S)

    assert not keeper.is_alive()


def until_checked(session: Session) -> None:
    deadline = time.monotonic() + STUCK_S
    while time.monotonic() < deadline:
        session.check_owner()
        time.sleep(0.01)
