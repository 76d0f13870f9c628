"""Stored states: those of 0.1.0 are upgraded, those of a newer release are refused, damaged ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detectors.saved import DamagedError
from monitor.errors import SchemaTooNew
from monitor.pipeline.saved_states import SCHEMA, read_model, read_shard
from monitor.saved import to_plain
from tests.monitor.kit import T0, Run, a_core, a_model, prediction

OF_0_1_0 = json.loads((Path(__file__).parents[1] / "evaluation" / "state_0_1_0.json").read_text())


def test_a_model_that_0_1_0_stored_has_no_number_and_is_read() -> None:
    assert "schema" not in OF_0_1_0

    saved = read_model(OF_0_1_0)

    assert saved.schema == SCHEMA
    assert saved.steering.serving.champion == OF_0_1_0["steering"]["serving"]["champion"]
    assert saved.versions.keys() == OF_0_1_0["versions"].keys()


def test_what_is_stored_has_a_number_and_comes_back_as_it_was() -> None:
    run = Run(a_core(a_model()))
    run.events(*(prediction(f"r{i}", T0 + i) for i in range(120)))
    commit = run.commit()

    for stored, read in ((commit.models["m"].state, read_model), (commit.shard, read_shard)):
        plain = json.loads(json.dumps(stored))
        assert plain["schema"] == SCHEMA
        assert json.loads(json.dumps(to_plain(read(plain)))) == plain


@pytest.mark.parametrize("schema", [SCHEMA + 1, "1", None])
def test_a_state_of_a_newer_release_is_refused(schema: object) -> None:
    with pytest.raises(SchemaTooNew, match=f"the state of a model has schema {schema}"):
        read_model({**OF_0_1_0, "schema": schema})


def test_a_damaged_state_is_named() -> None:
    with pytest.raises(DamagedError, match="SavedModel"):
        read_model({**OF_0_1_0, "versions": 7})
