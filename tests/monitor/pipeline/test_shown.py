"""What the status document says for people survives a restart, and says what to do and who gets the traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from monitor.pipeline.shown import next_step, opened, reference_of, traffic
from monitor.store import reader
from monitor.store.engine import connect
from tests.monitor.kit import SECOND, T0, StoredRun, a_core, a_drift, a_model, learned, prediction


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'core.db'}")
    yield engine
    engine.dispose()


QUIET: dict[str, Any] = {
    "active_level": "primary", "alerts": [], "versions": {}, "champion": "v1", "previous": None, "routes": {},
}  # fmt: skip


def test_features_and_the_reference_are_told_as_before_after_a_restart(engine: Engine) -> None:
    run = StoredRun(a_core(a_model(drift=a_drift(), reference=learned(200))), engine=engine)
    values = [{"x": i * 37 % 100 + (i // 400 * 200)} for i in range(500)]
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, features=its) for i, its in enumerate(values)))
    before = opened(run.pipeline.status())["models"]["m"]
    run.restart()

    after, stored = opened(run.pipeline.status())["models"]["m"], reader.status(engine)
    assert stored is not None
    assert before["versions"]["v1"]["features"]["x"]["drift"]["ratio"] > 1
    assert sum(before["versions"]["v1"]["features"]["x"]["histograms"]["current"]) == 100
    assert before == after == stored["models"]["m"] | {"versions": after["versions"]}
    assert before["reference"]["since"] is not None


def test_of_a_state_of_an_earlier_release_it_is_known_whether_there_is_a_reference() -> None:
    assert reference_of({"reference_rows": {"features": 40}})["state"] == "frozen"
    assert reference_of({})["state"] == "absent"


def test_where_nothing_fires_there_is_nothing_to_do() -> None:
    assert next_step("m", QUIET) is None


def test_what_to_do_follows_from_what_fires() -> None:
    drift, rule = {"kind": "drift"}, {"kind": "metric"}
    failed = {"versions": {"v1": {"health": "failed"}}, "previous": "v0", "alerts": [rule]}

    assert next_step("m", QUIET | {"active_level": "rules"}) == "driftd recover m --reason '…'"
    assert next_step("m", QUIET | failed) == "driftd rollback m --to v0 --reason '…'"
    assert next_step("m", QUIET | {"alerts": [drift]}) == "driftd history m --last 20"
    assert next_step("a b", QUIET | {"alerts": [rule]}) == "driftd alerts 'a b'"


def test_the_champion_has_what_no_challenger_has() -> None:
    assert traffic(QUIET) == "100 %"
    assert traffic(QUIET | {"routes": {"v2": 1_250, "v3": 500}}) == "82.5 %, v2 12.5 %, v3 5 %"
