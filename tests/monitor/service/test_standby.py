"""What a daemon shows that does not own the store: what the process has done, and nothing of the models."""

from __future__ import annotations

import asyncio

import httpx

from monitor.store.writer import Claim, StoreWriter
from monitor.web.server import application
from tests.monitor.kit import T0, prediction
from tests.monitor.service.conftest import MakeDaemon
from tests.monitor.service.stepping import SteppedDaemon


def lost_store(daemon: SteppedDaemon, owner: str = "web-1@pid:[1]/4711/boot-1") -> StoreWriter:
    """A daemon has worked, and another one has taken the store over."""
    daemon.produce(*[prediction(f"r{i}", T0 + i) for i in range(20)], b"rubbish")
    daemon.start().advance(3)
    other = StoreWriter(daemon.engine, owner, 1)
    assert isinstance(other.claim(0.0, lambda name: True), Claim)
    daemon.advance(5)
    return other


def names(daemon: SteppedDaemon) -> set[str]:
    lines = daemon.telemetry.scrape().decode().splitlines()
    return {line.partition("{")[0].partition(" ")[0] for line in lines if line.startswith("driftd_")}


def asked(daemon: SteppedDaemon, path: str) -> httpx.Response:
    app = application(daemon.telemetry, lambda: daemon.telemetry.status)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(get())


def test_it_shows_no_model_any_more(daemon: SteppedDaemon) -> None:
    lost_store(daemon)

    shown = names(daemon)
    assert not {name for name in shown if name.startswith(("driftd_version_", "driftd_model_", "driftd_alerts_"))}
    assert not shown & {
        "driftd_records_read_total",
        "driftd_outbox_depth",
        "driftd_relay_failing",
        "driftd_lag_records",
    }
    assert asked(daemon, "/status").json() == {}
    assert "<section" not in asked(daemon, "/").text


def test_it_counts_that_it_was_fenced_at_once(daemon: SteppedDaemon) -> None:
    before = daemon.metric("driftd_fenced_total")

    lost_store(daemon)

    assert (before, daemon.metric("driftd_fenced_total")) == (0, 1)


def test_what_the_process_has_done_stays(daemon: SteppedDaemon) -> None:
    lost_store(daemon)

    assert (daemon.metric("driftd_commits_total") or 0) > 0
    assert daemon.metric("driftd_destination_given_up_total", destination="stream", reason="expired") == 0


def test_the_page_names_the_owner_and_the_probe_does_not(daemon: SteppedDaemon) -> None:
    lost_store(daemon)

    assert "another daemon owns the store (host web-1, process 4711)" in asked(daemon, "/").text
    assert asked(daemon, "/-/ready").text == "not ready: another daemon owns the store\n"


def test_whoever_gets_the_store_back_shows_the_models_again(daemon: SteppedDaemon) -> None:
    other = lost_store(daemon)
    other.release()

    daemon.advance(3)

    assert "driftd_version_role" in names(daemon)
    assert daemon.metric("driftd_records_read_total") == 21


def test_all_daemons_of_a_store_have_one_name_for_it(make_daemon: MakeDaemon) -> None:
    first = make_daemon().start()
    second = make_daemon(stream=first.stream, owner="second").start().advance(2)

    assert len(first.telemetry.store) == 8
    assert first.metric("driftd_store_info", store=second.telemetry.store) == 1


def test_counters_with_labels_are_there_before_the_first_commit(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(commit_every_s=1000.0).start()

    assert daemon.metric("driftd_commits_total") == 0
    assert daemon.metric("driftd_dead_letters_total", reason="not_json") == 0
    assert daemon.metric("driftd_alerts_total", kind="drift") == 0


def test_counters_of_the_store_begin_where_the_last_commit_was(make_daemon: MakeDaemon) -> None:
    """Not at zero: to Prometheus a takeover would look as if all of it had just happened."""
    first = make_daemon()
    first.produce(b"rubbish")
    first.start().advance(2).stop()

    second = make_daemon(stream=first.stream, owner="next", commit_every_s=1000.0)
    before = second.metric("driftd_records_read_total")
    second.start()

    assert (before, second.metric("driftd_records_read_total")) == (None, 1)
