"""Stored states: those of 0.1.0 are upgraded, those of a newer release are refused, damaged ones are named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from detectors.saved import DamagedError
from monitor.errors import SchemaTooNew
from monitor.pipeline.saved_states import SCHEMA, read_model, read_shard
from monitor.saved import to_plain
from tests.data.store_0_1_0.make import unpacked
from tests.monitor.kit import T0, Run, a_core, a_model, prediction


@pytest.fixture
def store_of_0_1_0(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The database that 0.1.0 left behind."""
    database = tmp_path / "driftd.db"
    database.write_bytes(unpacked("store.db"))
    with closing(sqlite3.connect(database)) as c:
        yield c


@pytest.fixture
def models(store_of_0_1_0: sqlite3.Connection) -> dict[str, Any]:
    """The stored state of each model."""
    return {name: json.loads(body) for name, body in store_of_0_1_0.execute("SELECT model, body FROM model_state")}


def test_models_that_0_1_0_stored_have_no_number_and_are_read(models: dict[str, Any]) -> None:
    assert models
    for state in models.values():
        assert "schema" not in state

        saved = read_model(state)

        assert saved.schema == SCHEMA
        assert saved.steering.serving.champion == state["steering"]["serving"]["champion"]
        assert saved.versions.keys() == state["versions"].keys()


def test_so_is_what_models_share(store_of_0_1_0: sqlite3.Connection) -> None:
    ((state,),) = store_of_0_1_0.execute("SELECT state FROM shard").fetchall()

    saved = read_shard(json.loads(state))

    assert saved.clock.now == json.loads(state)["clock"]["now"]
    assert saved.counts.joined == json.loads(state)["counts"]["joined"]


def test_what_is_stored_has_a_number_and_comes_back_as_it_was() -> None:
    run = Run(a_core(a_model()))
    run.events(*(prediction(f"r{i}", T0 + i) for i in range(120)))
    commit = run.commit()

    for stored, read in ((commit.models["m"].state, read_model), (commit.shard, read_shard)):
        plain = json.loads(json.dumps(stored))
        assert plain["schema"] == SCHEMA
        assert json.loads(json.dumps(to_plain(read(plain)))) == plain


@pytest.mark.parametrize("schema", [SCHEMA + 1, "1", None])
def test_a_state_of_a_newer_release_is_refused(models: dict[str, Any], schema: object) -> None:
    with pytest.raises(SchemaTooNew, match=f"the state of a model has schema {schema}"):
        read_model({**models["heat"], "schema": schema})


def test_a_damaged_state_is_named(models: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="SavedModel"):
        read_model({**models["heat"], "versions": 7})
