"""What the store answers: the state to go on from, or why it cannot be gone on from; and people's questions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Engine

from detectors.pane import MAGIC
from monitor.errors import SchemaTooNew, StoreError
from monitor.pipeline.commands import CommandName
from monitor.pipeline.pipeline import Pipeline
from monitor.pipeline.shown import opened
from monitor.publishing.outbox import Outbox
from monitor.service.session import Session
from monitor.store import history, reader, record
from monitor.store import tables as t
from monitor.store.commands import ask, pending_commands, wait_for
from monitor.store.subscriptions import STREAM_SUBSCRIPTION, MessageKind, Subscription
from monitor.store.writer import StoreWriter
from tests.monitor.kit import SECOND, SEED, T0
from tests.monitor.store.fill import DAY, a_watched_core, a_writer, deltas, rows, written


def restored(engine: Engine) -> Pipeline:
    loaded = reader.load(engine)
    assert loaded is not None
    pipeline = Pipeline(a_watched_core(), SEED)
    pipeline.restore(loaded[0], loaded[1].positions)
    return pipeline


# -- the owner's start -----------------------------------------------------------------------------------


def test_a_store_without_commits_has_nothing_to_go_on_from(engine: Engine) -> None:
    """A claim alone is no commit."""
    a_writer(engine)

    assert reader.load(engine) is None
    assert reader.status(engine) is None
    assert reader.is_empty(engine)
    assert reader.configured_references(engine) == {}


def test_the_status_is_that_of_the_last_commit_with_and_without_a_daemon(engine: Engine) -> None:
    writer = a_writer(engine)
    for delta in deltas(4):
        writer.commit(delta, identities={})
        last = delta
    status = reader.status(engine)

    assert status is not None
    assert not reader.is_empty(engine)
    pipeline = restored(engine)
    own = opened(pipeline.status())
    assert {name: status[name] for name in own} == own
    assert status["commits"] == last.seq == 4
    assert (status["epoch"], status["owner"]) == (1, "me")
    assert str(status["committed_at"]).endswith("Z")
    assert status["stream_time"] == last.watermark
    assert status["outbox"] == len(rows(engine, t.outbox)) > 0
    assert status["destinations"] == {"stream": {"waiting": status["outbox"], "last_error": None}}
    assert status["positions"] == [["events", 0, pipeline.positions.popitem()[1]]]


def test_the_status_has_the_latest_error_of_each_destination(engine: Engine) -> None:
    pager = Subscription("pager", frozenset({MessageKind.ALERT}))
    writer = a_writer(engine, subscriptions=(STREAM_SUBSCRIPTION, pager))
    for delta in deltas(4):
        writer.commit(delta, identities={})
    outbox = Outbox(engine, "pager")
    first, second, *_ = outbox.oldest(10)
    outbox.postpone([first], "answered 500", next_at=1)
    outbox.postpone([second], "answered 503", next_at=1)

    status = reader.status(engine)
    assert status is not None
    assert status["destinations"]["pager"] == {"waiting": outbox.depth(), "last_error": "answered 503"}
    assert status["destinations"]["stream"]["last_error"] is None


def damaged_in(engine: Engine, table: sa.Table, column: str, damage: bytes | str) -> None:
    with engine.begin() as c:
        c.execute(sa.update(table).values({column: damage}))


NOT_A_PANE = zstandard.ZstdCompressor().compress(MAGIC + b"\0" * 40)


@pytest.mark.parametrize(
    ("table", "column", "damage"),
    [
        (t.join_segment, "body", b"DJ" + b"\1" * 60),
        (t.join_closed, "body", b"other"),
        (t.pane, "body", b"no zstandard frame"),
        (t.pane, "body", NOT_A_PANE),
        (t.outcome_log, "body", NOT_A_PANE),
        (t.learned, "body", b"DRIFTLRN" + b"\0" * 40),
        (t.reference, "body", b"DRIFTREF" + b"\0" * 40),
        (t.model_state, "body", "{"),
        (t.shard, "state", "{"),
    ],
    ids=[
        "segment", "closed keys", "compression of a pane", "pane", "outcomes", "learned rows", "reference",
        "state of a model", "state of the shard",
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_and_the_way_out_is_named(
    engine: Engine, table: sa.Table, column: str, damage: bytes | str
) -> None:
    """Nothing is skipped: what it held cannot be guessed."""
    written(engine, 2 if table is t.learned else 5)
    assert rows(engine, table)
    damaged_in(engine, table, column, damage)

    with pytest.raises(StoreError, match=rf"damaged.*{table.name}.*restore .* from a backup") as caught:
        restored(engine)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (t.shard, "state"), (t.shard, "totals"), (t.shard, "positions"), (t.shard, "hash_seed"),
        (t.model_state, "body"), (t.history_layout, "names"), (t.alert, "body"), (t.decision, "body"),
        (t.outbox, "headers"), (t.command, "arguments"),
    ],
    ids=str,
)  # fmt: skip
def test_no_text_that_is_damaged_ends_in_another_error_than_that_it_is(
    engine: Engine, table: sa.Table, column: str
) -> None:
    """Whatever the text says now: it is read, or told with its table."""
    written(engine, 5)
    ask(engine, "m", CommandName.SILENCE, {"until": 1}, reason="", who="us")
    assert rows(engine, table)
    told = []
    for damage in ("", "null", "[]", "{}", "{", '{"schema": "x"}', "7"):
        damaged_in(engine, table, column, damage)
        for read in READERS:
            try:
                read(engine)
            except SchemaTooNew:
                pass
            except StoreError as error:
                told.append(error)

    assert told
    assert {error.retryable for error in told} == {False}
    assert [str(error) for error in told if table.name not in str(error)] == []


@pytest.mark.parametrize(
    ("table", "column", "damage", "read", "row"),
    [
        (t.alert, "body", "{}", record.alerts, r"row '\w+' \d+: starts_at"),
        (t.alert, "body", "{}", record.firing_alerts, r"row '\w+' \d+: starts_at"),
        (t.decision, "body", "{}", record.decisions, r"row 'm' \d+: issued_at"),
        (t.model_state, "body", '{"versions": []}', record.silences, "row 'm': 'records'"),
        (t.model_state, "body", '{"records": {"silences": [{}]}}', record.silences, "row 'm': .*until"),
        (t.model_state, "body", '{"versions": {}}', reader.status, "row 'm': 'steering'"),
        (t.shard, "totals", "{", reader.status, "row 0: "),
        (t.shard, "stream_time", "abc", reader.status, "row 0: stream_time is not an integer"),
        (t.shard, "stream_time", "abc", reader.stream_time, "row 0: stream_time is not an integer"),
        (t.shard, "epoch", "x", reader.status, "row 0: epoch is not an integer"),
        (t.shard, "seq", "x", reader.load, "row 0: seq is not an integer"),
        (t.history, "start_ms", "x", lambda e: list(history.history(e, "m")), "row 'm' 'v1' "),
        (t.history, "body", b"\0" * 7, lambda e: history.last_window(e, "m"), "row 'm' 'v1' "),
    ],
    ids=lambda value: None if callable(value) else str(value),
)  # fmt: skip
def test_whatever_a_row_lacks_is_told_with_its_table_and_key(
    engine: Engine, table: sa.Table, column: str, damage: bytes | str, read: Callable[[Engine], object], row: str
) -> None:
    """A text that is a mapping, and still not what was written, ended in a traceback."""
    if isinstance(table.columns[column].type, sa.Numeric | sa.Integer) and engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL checks every number")
    written(engine, 7)
    values = sa.update(table).values({column: damage})
    if column == "start_ms":  # part of the key
        values = values.where(table.c.end_ms == sa.select(sa.func.max(table.c.end_ms)).scalar_subquery())
    with engine.begin() as c:
        c.execute(values)

    with pytest.raises(StoreError, match=f"^the store is damaged: table {table.name}, {row}") as caught:
        read(engine)
    assert not caught.value.retryable


def test_a_window_that_ends_too_early_is_damaged(engine: Engine) -> None:
    written(engine, 5)
    body = max((row[-1] for row in rows(engine, t.history)), key=len)
    told = set()
    for size in range(len(body)):
        damaged_in(engine, t.history, "body", body[:size])
        with pytest.raises(StoreError) as caught:
            list(history.history(engine, "m"))
        told.add(str(caught.value)[:39])
    assert told == {"the store is damaged: table history, ro"}


def test_a_text_that_is_not_utf_8_is_told_with_its_table_row_and_column(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL checks every text")
    written(engine, 5)
    with engine.begin() as c:
        c.exec_driver_sql("UPDATE model_state SET body = CAST(x'7b22ff' AS TEXT)")

    why = "the store is damaged: table model_state, row 'm': body is not UTF-8 at byte 2; restore it from a backup"
    with pytest.raises(StoreError, match=f"^{re.escape(why)}$") as caught:
        reader.load(engine)
    assert not caught.value.retryable


def taken_up(engine: Engine) -> None:
    session = Session.claim(a_watched_core(), engine, StoreWriter(engine, "us", DAY), 0.0, is_gone=lambda name: True)
    assert isinstance(session, Session)
    session.abandon()


READERS: tuple[Callable[[Engine], object], ...] = (
    taken_up,
    reader.status,
    reader.configured_references,
    reader.hash_seed,
    reader.stream_time,
    record.alerts,
    record.firing_alerts,
    record.silences,
    record.firing,
    lambda e: list(history.history(e, "m")),
    lambda e: history.last_window(e, "m"),
    lambda e: record.decisions(e, "m"),
    lambda e: reader.references(e, "m"),
    pending_commands,
    lambda e: Outbox(e).oldest(10),
)


def test_a_damaged_record_of_what_waits_is_refused_too(engine: Engine) -> None:
    """It would resurrect what is closed, or lose what is open, without a word."""
    written(engine)
    segment = rows(engine, t.join_segment)[0][1]
    with engine.begin() as c:
        c.execute(sa.insert(t.join_alive).values(shard=0, id=segment, as_of=4, bits=b"DJ\1" + b"\0" * 40))

    with pytest.raises(StoreError, match=r"damaged.*restore .* from a backup"):
        restored(engine)


def test_a_row_of_a_newer_release_is_refused(engine: Engine) -> None:
    written(engine)
    with engine.begin() as c:
        (body,) = c.execute(sa.select(t.join_segment.c.body).limit(1)).one()
    newer = bytearray(body)
    newer[2] = 2
    damaged_in(engine, t.join_segment, "body", bytes(newer))

    with pytest.raises(SchemaTooNew, match="install the newer release"):
        restored(engine)


def test_a_reference_that_is_damaged_is_named_to_whoever_asks(engine: Engine) -> None:
    written(engine, 5)
    damaged_in(engine, t.reference, "body", b"nothing")

    with pytest.raises(StoreError, match=r"a reference of m is damaged: .* put a new reference in force"):
        reader.references(engine, "m")


# -- questions -------------------------------------------------------------------------------------------


def test_history_is_what_windows_were_the_earliest_first(engine: Engine) -> None:
    written(engine)

    values = list(history.history(engine, "m"))

    ends = [v.end for v in values]
    assert ends == sorted(ends)
    assert {(v.model, v.version, v.segment, v.estimated) for v in values} == {("m", "v1", "", False)}
    untested = {"no_reference", "too_few", "never_came", "no_events"}
    assert all(math.isfinite(v.value) if v.value is not None else v.verdict in untested for v in values)
    assert {v.metric for v in values} >= {
        "predictions", "error_rate", "accuracy", "coverage", "revenue", "memory_mb", "ks", "missing_rate",
    }  # fmt: skip
    assert all((v.coverage is not None) == (v.metric in QUALITY) for v in values)


QUALITY = {
    "accuracy", "precision", "recall", "f1", "f1_macro", "log_loss", "brier", "roc_auc", "ece", "coverage",
    "label_delay_s", "revenue",
}  # fmt: skip


def test_history_can_be_asked_for_a_metric_a_feature_a_version_and_a_time(engine: Engine) -> None:
    written(engine)
    everything = list(history.history(engine, "m"))
    since = T0 + 100 * SECOND

    assert list(history.history(engine, "m", metric="ks")) == [v for v in everything if v.metric == "ks"]
    assert list(history.history(engine, "m", feature="x")) == [v for v in everything if v.feature == "x"]
    assert list(history.history(engine, "m", since=since)) == [v for v in everything if v.end > since]
    assert list(history.history(engine, "m", version="v1")) == everything
    assert list(history.history(engine, "m", version="v2")) == []
    assert list(history.history(engine, "n")) == []
    predictions = list(history.history(engine, "m", metric="predictions", feature=""))
    assert [(v.start, v.end, v.value, v.n) for v in predictions][:2] == [
        (T0, T0 + 19 * SECOND, 20.0, 20), (T0 + 10 * SECOND, T0 + 29 * SECOND, 20.0, 20),
    ]  # fmt: skip


def test_alerts_are_told_newest_first(engine: Engine) -> None:
    written(engine, 8)

    alerts = record.alerts(engine)

    times = [a["issued_at"] for a in alerts]
    assert times == sorted(times, reverse=True)
    assert len(alerts) == len(rows(engine, t.alert)) > 3
    assert record.alerts(engine, most=2) == alerts[:2]
    assert record.alerts(engine, "m") == alerts
    assert record.alerts(engine, "n") == []


def test_what_fires_is_the_latest_record_of_each_subject_that_is_not_resolved(engine: Engine) -> None:
    written(engine, 8)
    latest: dict[str, tuple[int, str, str]] = {}
    for event_id, seq, fingerprint, _, _, status, *_ in rows(engine, t.alert):
        latest[fingerprint] = max(latest.get(fingerprint, (0, "", "")), (seq, status, event_id))

    firing = {fingerprint: event_id for fingerprint, _, event_id in record.firing(engine)}

    assert firing == {f: event_id for f, (_, status, event_id) in latest.items() if status == "firing"}
    assert len(firing) < len(latest)


def test_decisions_are_told_newest_first(engine: Engine) -> None:
    written(engine, 8)

    generations = [d["generation"] for d in record.decisions(engine, "m")]

    assert generations == sorted(generations, reverse=True)
    assert generations[-1] == 1
    assert record.decisions(engine, "m", most=1)[0]["generation"] == generations[0]
    assert record.decisions(engine, "n") == []


def test_nobody_waits_for_a_command_for_ever(engine: Engine) -> None:
    number = ask(engine, "m", CommandName.RECOVER, {}, reason="", who="me")
    naps: list[float] = []

    assert wait_for(engine, number, 0.0, naps.append) is None
    with engine.begin() as c:
        c.execute(sa.update(t.command).values(result="done"))
    assert wait_for(engine, number, 5.0, naps.append) == "done"


def test_the_last_window_of_the_champion_is_told(engine: Engine) -> None:
    assert history.last_window(engine, "m") is None
    written(engine)

    window = history.last_window(engine, "m")

    assert window is not None
    assert (window.version, window.start, window.end, window.n) == ("v1", T0 + 180 * SECOND, T0 + 199 * SECOND, 20)
    assert history.last_window(engine, "n") is None
