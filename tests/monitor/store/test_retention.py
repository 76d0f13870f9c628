"""What a store keeps: what is as old as the retention at the end of a model's newest window; nothing grows on."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.spec import WindowSpec
from monitor.store import record
from monitor.store import tables as t
from monitor.store.writer import StoreWriter
from monitor.stream.types import Partition
from tests.monitor.kit import SECOND, T0, Event, Run, a_core, a_model, a_rule, batch_of, counted, prediction, timed
from tests.monitor.store.fill import DAY, a_writer, rows

YEARS = 3 * 365 * DAY
ERRORS = a_rule("errors", "error_rate", above=0.5, hard=True)
IDLE = (Partition("events", 0),)


def a_run(*models: str, window: WindowSpec | None = None) -> Run:
    window = window or counted(20, 10)
    return Run(a_core(*(a_model(name, window=window, rules=(ERRORS,)) for name in models)))


def some(model: str, start: int, count: int = 40, *, failing: bool = False) -> list[Event]:
    error = {"error": "Timeout"} if failing else {}
    value = None if failing else 0.5
    return [prediction(f"{model}{start}{i}", start + i * SECOND, value, model=model, **error) for i in range(count)]


def burst(model: str, start: int) -> list[Event]:
    """An alert that fires and ends."""
    return [*some(model, start, failing=True), *some(model, start + 40 * SECOND)]


def goes_idle(run: Run, wall: int) -> None:
    """Nothing comes, and stream time follows the wall clock, for as many commits as make the store tidy up."""
    while True:
        run.process(batch_of([]), wall=wall, idle=IDLE)
        wall += SECOND
        run.commit()
        if run.pipeline.seq % 64 == 0:
            return


def write(writer: StoreWriter, run: Run) -> None:
    while run.told_so_far:
        writer.commit(run.told_so_far.pop(0), identities={})


def ends(engine: Engine, model: str = "m") -> list[int]:
    return sorted(row[3] for row in rows(engine, t.history) if row[0] == model)


@pytest.mark.parametrize("window", [counted(20, 10), timed(10 * SECOND, 20 * SECOND)], ids=["events", "time"])
def test_what_old_data_showed_is_kept_when_stream_time_goes_on_to_the_wall_clock(
    engine: Engine, window: WindowSpec
) -> None:
    """The first example: events of years ago, and then nothing more."""
    run = a_run("m", window=window)
    run.events(*burst("m", T0))
    writer = a_writer(engine, retention=90 * DAY)
    write(writer, run)
    before, alerts = ends(engine), record.alerts(engine)
    assert before
    assert {a["status"] for a in alerts} == {"firing", "resolved"}

    goes_idle(run, T0 + YEARS)
    reached = run.told_so_far[-1].watermark
    write(writer, run)

    assert reached > T0 + YEARS - DAY
    assert set(before) <= set(ends(engine))
    kept = [a["event_id"] for a in record.alerts(engine)]
    assert set(kept) >= {a["event_id"] for a in alerts}


def test_what_is_older_than_a_models_newest_window_goes_whatever_others_do(engine: Engine) -> None:
    run = a_run("m", "old")
    run.events(*some("m", T0), *some("old", T0))
    run.events(*some("m", T0 + 10 * DAY))
    goes_idle(run, T0 + 11 * DAY)
    write(a_writer(engine, retention=2 * DAY), run)

    assert min(ends(engine)) >= T0 + 10 * DAY
    assert max(ends(engine, "old")) < T0 + DAY


def test_a_restarted_writer_knows_the_newest_windows_too(engine: Engine) -> None:
    run = a_run("m")
    run.events(*some("m", T0))
    run.events(*some("m", T0 + 10 * DAY))
    goes_idle(run, T0 + 11 * DAY)
    last = run.told_so_far.pop()
    write(a_writer(engine, retention=2 * DAY), run)
    assert min(ends(engine)) < T0 + DAY

    a_writer(engine, "another", retention=2 * DAY).commit(last, identities={})

    assert min(ends(engine)) >= T0 + 10 * DAY


def test_alerts_long_after_the_newest_window_are_forgotten_by_stream_time_and_none_fires_again(engine: Engine) -> None:
    """A model whose windows never come again may still have alerts: it must not fill the store."""
    run = a_run("m")
    run.events(*burst("m", T0))
    goes_idle(run, T0 + YEARS)
    last = run.told_so_far.pop()
    writer = a_writer(engine, retention=90 * DAY)
    write(writer, run)
    began = T0 + 89 * DAY  # within the retention of the newest window; what follows is beyond it
    told = [("firing", began), *(("firing", began + i * 30 * DAY) for i in range(1, 9)), ("resolved", T0 + 400 * DAY)]
    before = record.firing(engine)
    with engine.begin() as c:
        for seq, (status, at) in enumerate(told, 1):
            c.execute(
                sa.insert(t.alert).values(
                    event_id="e", seq=seq, fingerprint="f", model="m", kind="no_data", status=status, silenced=False,
                    issued_at=at, body="{}",
                )
            )  # fmt: skip

    writer.commit(last, identities={})

    assert [row[1] for row in rows(engine, t.alert) if row[2] == "f"] == [1, 10]
    assert record.firing(engine) == before


def test_alerts_of_a_model_without_windows_are_kept_by_stream_time(engine: Engine) -> None:
    run = a_run("m")
    goes_idle(run, T0 + 100 * DAY)
    last = run.told_so_far.pop()
    writer = a_writer(engine, retention=90 * DAY)
    write(writer, run)
    with engine.begin() as c:
        for event, at in (("a", T0), ("b", T0 + 50 * DAY)):
            c.execute(
                sa.insert(t.alert).values(
                    event_id=event, seq=1, fingerprint=event, model="m", kind="no_data", status="resolved",
                    silenced=False, issued_at=at, body="{}",
                )
            )  # fmt: skip

    writer.commit(last, identities={})

    assert [row[0] for row in rows(engine, t.alert) if row[4] == "no_data" and row[0] in "ab"] == ["b"]
