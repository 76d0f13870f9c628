"""The owner's side of the store: who owns it, and that a commit is all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from detectors.reference import Profile
from fallback.types import Decision
from monitor.alerting.records import AlertKind, AlertRecord, AlertStatus, Subject
from monitor.errors import Fenced, StoreError
from monitor.pipeline.commands import CommandName
from monitor.pipeline.commit import PipelineCommit
from monitor.publishing.outbox import Outbox
from monitor.spec import Severity
from monitor.store import reader, record
from monitor.store import tables as t
from monitor.store.commands import ask, pending_commands
from monitor.store.subscriptions import STREAM_SUBSCRIPTION, MessageKind, Subscription, trouble_with
from monitor.store.writer import Claim, Gap, StoreWriter
from monitor.stream.types import Partition
from tests.monitor.kit import T0, Run, a_profile
from tests.monitor.store.fill import DAY, a_watched_core, a_writer, deltas, everything, rows, some_events, written

LEASE_S = 10.0
IDENTITIES = {"events": "topic 1"}


def alive(owner: str) -> bool:
    return False


def gone(owner: str) -> bool:
    return True


# -- owning ----------------------------------------------------------------------------------------------


def test_a_store_that_nobody_owns_is_claimed_at_once(engine: Engine) -> None:
    claim = StoreWriter(engine, "me", DAY).claim(LEASE_S, alive)

    assert isinstance(claim, Claim)
    assert claim.epoch == 1


def test_a_store_that_somebody_owns_is_claimed_when_the_lease_is_over(engine: Engine) -> None:
    a_writer(engine, "other")
    mine = StoreWriter(engine, "me", DAY)

    wait = mine.claim(LEASE_S, alive)
    assert isinstance(wait, float)
    assert 5 < wait <= LEASE_S
    with engine.begin() as c:
        c.execute(sa.update(t.shard).values(updated_at=t.shard.c.updated_at - LEASE_S))
    claim = mine.claim(LEASE_S, alive)

    assert isinstance(claim, Claim)
    assert claim.epoch == 2


def test_a_commit_renews_the_lease(engine: Engine) -> None:
    writer = a_writer(engine, "other")
    with engine.begin() as c:
        c.execute(sa.update(t.shard).values(updated_at=t.shard.c.updated_at - LEASE_S))

    writer.commit(deltas(1)[0], identities=IDENTITIES)

    assert isinstance(StoreWriter(engine, "me", DAY).claim(LEASE_S, alive), float)


@pytest.mark.parametrize(("owner", "is_gone"), [("me", alive), ("other", gone)])
def test_nobody_waits_for_oneself_or_for_a_process_that_has_ended(
    engine: Engine, owner: str, is_gone: Callable[[str], bool]
) -> None:
    a_writer(engine, owner)

    assert isinstance(StoreWriter(engine, "me", DAY).claim(LEASE_S, is_gone), Claim)


def test_nobody_waits_for_a_store_that_was_given_back(engine: Engine) -> None:
    a_writer(engine, "other").release()

    assert isinstance(StoreWriter(engine, "me", DAY).claim(LEASE_S, alive), Claim)


def test_the_hash_seed_of_a_store_never_changes(engine: Engine) -> None:
    claims = [StoreWriter(engine, f"owner {i}", DAY).claim(0.0, gone) for i in range(3)]

    assert [c.epoch for c in claims if isinstance(c, Claim)] == [1, 2, 3]
    assert len({c.hash_seed for c in claims if isinstance(c, Claim)}) == 1


def test_a_writer_whose_epoch_is_over_changes_nothing(engine: Engine) -> None:
    """Neither by a commit, nor by giving back what is not its own."""
    first, second, *_ = deltas(2)
    old = a_writer(engine, "old")
    old.commit(first, identities=IDENTITIES)
    a_writer(engine, "new")
    before = everything(engine)

    acts: list[Callable[[], object]] = [
        lambda: old.commit(second, identities=IDENTITIES), lambda: old.is_committed(1),
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(Fenced, match="another daemon owns the store; epoch 1 is over"):
            act()
    old.release()

    assert everything(engine) == before


# -- committing ------------------------------------------------------------------------------------------


def test_a_commit_is_known_to_be_there(engine: Engine) -> None:
    writer = a_writer(engine)
    delta = deltas(1)[0]

    assert not writer.is_committed(delta.seq)
    writer.commit(delta, identities=IDENTITIES)
    assert writer.is_committed(delta.seq)
    assert not writer.is_committed(delta.seq + 1)


def spoiled(delta: PipelineCommit) -> PipelineCommit:
    """A delta whose very last part cannot be written: the same alert twice."""
    alert = AlertRecord(
        Subject("m", "v1", AlertKind.DAEMON), 1, AlertStatus.FIRING, Severity.WARNING, "spoiled", T0, None, T0
    )
    return replace(delta, published=[*delta.published, alert, alert])


def test_a_commit_that_fails_in_the_middle_leaves_nothing(engine: Engine) -> None:
    writer = a_writer(engine)
    commits = deltas(4)
    for i, delta in enumerate(commits):
        before = everything(engine)
        with pytest.raises(StoreError, match="database: ") as caught:
            writer.commit(spoiled(delta), identities=IDENTITIES)
        assert not caught.value.retryable
        assert everything(engine) == before, i
        writer.commit(delta, identities=IDENTITIES)

    assert len(rows(engine, t.history_layout)) > 1


def test_a_commit_can_be_written_again_after_it_failed(engine: Engine) -> None:
    """The database is that of a writer to whom nothing happened."""
    writer = a_writer(engine)
    for delta in deltas(4):
        with pytest.raises(StoreError):
            writer.commit(spoiled(delta), identities=IDENTITIES)
        writer.commit(delta, identities=IDENTITIES)
    failed = everything(engine)
    with engine.begin() as c:
        for table in reversed(t.metadata.sorted_tables):
            c.execute(sa.delete(table))
    written(engine)
    smooth = everything(engine)

    for name in (
        "alert",
        "decision",
        "history",
        "join_segment",
        "join_closed",
        "pane",
        "outcome_log",
        "code",
        "learned",
    ):
        assert strip(failed[name], name) == strip(smooth[name], name), name
    values = [[row[3] for row in found["outbox"]] for found in (failed, smooth)]
    assert values[0] == values[1]


def strip(found: list[tuple[object, ...]], name: str) -> list[tuple[object, ...]]:
    """Without the number of a layout, which depends on how often one was tried."""
    return [row[:5] + row[6:] for row in found] if name == "history" else found


def test_a_commit_writes_everything_that_there_is(engine: Engine) -> None:
    """Or the tests above would prove little."""
    written(engine, 8)

    filled = {name for name, found in everything(engine).items() if found}
    empty = {"gap", "command", "learned", "join_alive", "attempt"}
    assert filled == {table.name for table in t.metadata.sorted_tables} - empty


def test_positions_are_kept_with_the_identity_of_their_topic(engine: Engine) -> None:
    written(engine)

    loaded = reader.load(engine)
    assert loaded is not None
    _, progress = loaded
    assert progress.identities == {"events": "topic 1"}
    assert progress.positions == {Partition("events", 0): sum(len(some_events(50 * i, 50 * i + 50)) for i in range(4))}


def test_panes_that_left_all_windows_are_deleted(engine: Engine) -> None:
    written(engine, 8)

    # A window is two panes; one may be open.
    panes = {(row[1], row[2]) for row in rows(engine, t.pane)}
    assert max(pane for _, pane in panes) == 39
    assert len(panes) == 2


def test_learned_rows_are_deleted_once_they_became_a_reference(engine: Engine) -> None:
    writer = a_writer(engine)
    subjects = []
    for delta in deltas(5):
        writer.commit(delta, identities=IDENTITIES)
        learned = {row[1] for row in rows(engine, t.learned)}
        subjects.append(("features" in learned, [row[2] for row in rows(engine, t.reference) if row[4] == "active"]))

    assert [held for held, _ in subjects] == [True, True, False, False, False]
    assert subjects[-1][1] == ["answers:v1", "features"]


# -- publishing ------------------------------------------------------------------------------------------


def test_the_outbox_has_everything_in_the_order_of_the_stream(engine: Engine) -> None:
    commits = deltas(8)
    writer = a_writer(engine)
    for delta in commits:
        writer.commit(delta, identities=IDENTITIES)

    wanted = []
    for delta in commits:
        wanted += ["decision" if isinstance(what, Decision) else "alert" for what in delta.published]
        wanted += ["dead_letter"] * len(delta.dead_letters)
    waiting = Outbox(engine).oldest(1_000)
    assert [m.kind for m in waiting] == wanted
    assert {"decision", "alert", "dead_letter"} == set(wanted)
    assert [m.id for m in waiting] == sorted(m.id for m in waiting)
    assert {m.key for m in waiting if m.kind == "decision"} == {b"m"}
    alerts = [json.loads(m.value) for m in waiting if m.kind == "alert"]
    assert [m.key.decode() for m in waiting if m.kind == "alert"] == [a["fingerprint"] for a in alerts]
    assert [m.headers["seq"] for m in waiting if m.kind == "alert"] == [str(a["seq"]) for a in alerts]


def test_what_is_published_is_crossed_off_and_nothing_else(engine: Engine) -> None:
    written(engine)
    outbox = Outbox(engine)
    depth = outbox.depth()
    first = outbox.oldest(3)

    outbox.remove(first)
    outbox.remove([])

    assert outbox.depth() == depth - 3
    assert outbox.oldest(1)[0].id == first[-1].id + 1


def test_an_owner_that_is_not_the_owner_any_more_finds_nothing_to_send(engine: Engine) -> None:
    """And crosses nothing off: the new owner sends it, or has sent it."""
    outbox = Outbox(engine)
    written(engine)
    mine = outbox.oldest(1_000, epoch=1)
    assert mine == outbox.oldest(1_000)
    assert outbox.is_owned(1)

    a_writer(engine, "other")
    outbox.remove(mine, epoch=1)

    assert not outbox.is_owned(1)
    assert outbox.oldest(1_000, epoch=1) == []
    assert outbox.oldest(1_000, epoch=2) == mine


def test_a_replay_that_must_not_publish_keeps_history_and_fills_no_outbox(engine: Engine) -> None:
    commits = deltas(8)
    writer = a_writer(engine, subscriptions=())
    for delta in commits:
        writer.commit(delta, identities=IDENTITIES)

    assert Outbox(engine).depth() == 0
    told = [what for delta in commits for what in delta.published]
    assert len(rows(engine, t.decision)) == sum(isinstance(what, Decision) for what in told) > 0
    assert len(rows(engine, t.alert)) == sum(isinstance(what, AlertRecord) for what in told) > 0
    assert len(rows(engine, t.history)) > 0


def test_each_destination_gets_what_it_wants_in_the_order_of_the_stream(engine: Engine) -> None:
    pager = Subscription("pager", frozenset({MessageKind.ALERT}))
    rollouts = Subscription("rollouts", frozenset({MessageKind.DECISION}))
    writer = a_writer(engine, subscriptions=(STREAM_SUBSCRIPTION, pager, rollouts))
    for delta in deltas(8):
        writer.commit(delta, identities=IDENTITIES)

    stream = Outbox(engine).oldest(1_000)
    for name, kind in (("pager", MessageKind.ALERT), ("rollouts", MessageKind.DECISION)):
        waiting = Outbox(engine, name).oldest(1_000)
        assert [m.value for m in waiting] == [m.value for m in stream if m.kind is kind] != []
        assert [m.id for m in waiting] == sorted(m.id for m in waiting)


def test_an_alert_about_a_destination_goes_everywhere_but_there(engine: Engine) -> None:
    """It would be refused as well, and be the reason for the next one."""
    subscriptions = [Subscription(name, frozenset({MessageKind.ALERT})) for name in ("pager", "chat")]
    writer = a_writer(engine, subscriptions=(STREAM_SUBSCRIPTION, *subscriptions))
    run = Run(a_watched_core())
    run.session.fire(trouble_with("pager").name, "it refuses everything")
    run.events(*some_events(0, 50))
    for delta in run.told_so_far:
        writer.commit(delta, identities=IDENTITIES)

    def told_to(name: str) -> list[str]:
        waiting = Outbox(engine, name).oldest(1_000)
        return [json.loads(m.value)["summary"] for m in waiting if m.kind is MessageKind.ALERT]

    told = {name: told_to(name) for name in ("stream", "pager", "chat")}
    assert told == {"stream": ["it refuses everything"], "pager": [], "chat": ["it refuses everything"]}


def test_a_silenced_alert_is_on_record_and_not_in_the_outbox(engine: Engine) -> None:
    run = Run(a_watched_core())
    run.events(*some_events(0, 50))
    run.command(CommandName.SILENCE, for_ms=DAY, kind="metric")
    run.events(*some_events(50, 100, failing=True))
    writer = a_writer(engine)
    for delta in run.told_so_far:
        writer.commit(delta, identities=IDENTITIES)

    (alert,) = [a for a in record.alerts(engine) if a["kind"] == "metric"]
    assert alert["silenced"]
    assert "metric" not in {json.loads(m.value)["kind"] for m in Outbox(engine).oldest(1_000) if m.kind == "alert"}


# -- keeping ---------------------------------------------------------------------------------------------


def test_history_beyond_the_retention_is_forgotten_by_stream_time(engine: Engine) -> None:
    """What still holds stays: the latest decision of a model, and the latest record of an alert that fires."""
    run = Run(a_watched_core())
    writer = a_writer(engine, retention=DAY)
    for i in range(3):
        run.events(*some_events(50 * i, 50 * i + 50, failing=i == 1))
    run.events(*some_events(150, 200, failing=True))
    before = len(rows_of_run(engine, writer, run))
    later = 10 * 24 * 3_600
    while run.pipeline.seq % 64:
        run.events(*some_events(later, later + 1, failing=True))
        later += 1
    rows_of_run(engine, writer, run)

    kept = rows(engine, t.history)
    assert before > 20
    assert all(row[3] >= T0 + 9 * DAY for row in kept)
    assert len(rows(engine, t.decision)) == 1
    alerts = rows(engine, t.alert)
    assert [(row[5], row[1]) for row in alerts if row[4] == "metric"] == [("firing", 3)]
    assert {row[5] for row in alerts} == {"firing"}
    assert [fingerprint for fingerprint, _, _ in record.firing(engine)] == sorted({row[2] for row in alerts})


def rows_of_run(engine: Engine, writer: StoreWriter, run: Run) -> list[tuple[object, ...]]:
    """Write what a run has not written yet. -> the history."""
    while run.told_so_far:
        writer.commit(run.told_so_far.pop(0), identities=IDENTITIES)
    return rows(engine, t.history)


def test_a_gap_is_on_record_with_the_commit_that_goes_on_after_it(engine: Engine) -> None:
    first, second = deltas(2)
    writer = a_writer(engine)
    gap = Gap(Partition("events", 1), 5, 9)

    writer.commit(first, identities=IDENTITIES, gaps=[gap])
    writer.commit(second, identities=IDENTITIES, gaps=[gap])

    assert rows(engine, t.gap) == [("events", 1, 5, 9, first.seq)]


# -- commands --------------------------------------------------------------------------------------------


def test_a_command_is_pending_until_a_commit_says_what_came_of_it(engine: Engine) -> None:
    first = ask(engine, "m", CommandName.RECOVER, {}, reason="tired", who="me")
    second = ask(engine, "m", CommandName.ROLLBACK, {"to": "v0"}, reason="bad", who="you")
    assert [(c.id, c.name, c.arguments, c.reason) for c in pending_commands(engine)] == [
        (first, CommandName.RECOVER, {}, "tired"), (second, CommandName.ROLLBACK, {"to": "v0"}, "bad"),
    ]  # fmt: skip

    delta = replace(deltas(1)[0], commands=[(first, "done")])
    a_writer(engine).commit(delta, identities=IDENTITIES)

    assert [c.id for c in pending_commands(engine)] == [second]
    (row,) = [row for row in rows(engine, t.command) if row[0] == first]
    assert row[-2:] == (delta.seq, "done")


def test_the_same_key_is_the_same_command(engine: Engine) -> None:
    ids = [
        ask(engine, "m", CommandName.RECOVER, {}, reason=f"{i}", who="me", key=key)
        for i, key in enumerate(("a", "a", None, None, "b"))
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert [c.reason for c in pending_commands(engine)] == ["0", "2", "3", "4"]


def test_a_reference_travels_with_its_command_and_is_offered_until_it_is_in_force(engine: Engine) -> None:
    profile = a_profile([{"x": float(i)} for i in range(20)])
    ask(engine, "m", CommandName.REFERENCE, {}, reason="", who="me", profile=profile)

    (command,) = pending_commands(engine)
    assert command.profile is not None
    assert command.profile.content_hash == profile.content_hash
    assert [(subject, state) for subject, state, _ in reader.references(engine, "m")] == [("features", "offered")]


def test_a_command_that_cannot_be_understood_does_not_stop_the_daemon(engine: Engine) -> None:
    ask(engine, "m", CommandName.REFERENCE, {}, reason="", who="me", profile=a_profile([{"x": 1.0}]))
    ask(engine, "m", CommandName.RECOVER, {}, reason="", who="me")
    with engine.begin() as c:
        c.execute(sa.update(t.reference).values(body=b"damaged"))
        c.execute(sa.update(t.command).where(t.command.c.name == "recover").values(name="promote"))

    assert [(c.name, c.profile) for c in pending_commands(engine)] == [
        (CommandName.REFERENCE, None), (CommandName.UNKNOWN, None),
    ]  # fmt: skip


def test_a_profile_is_stored_as_it_is(engine: Engine) -> None:
    written(engine, 5)

    for subject, state, profile in reader.references(engine, "m"):
        assert (subject, state) in {("features", "active"), ("answers:v1", "active")}
        assert Profile.from_bytes(profile.to_bytes()).content_hash == profile.content_hash
