"""Which database a command uses, and what is said where what it holds does not last."""

from __future__ import annotations

import pytest

from tests.e2e import workload
from tests.e2e.auditor import query
from tests.e2e.place import FilePlace

CONFIGURATION = 78


@pytest.fixture
def place(file_place: FilePlace) -> FilePlace:
    file_place.configure(workload.models(drift=False))
    file_place.produce(workload.Workload(seed=44, seconds=20).lines())
    return file_place


def commits(place: FilePlace, name: str) -> int:
    ((found,),) = query(f"sqlite:///{place.directory}/{name}", "SELECT seq FROM shard")
    return int(found)


def test_a_replay_takes_its_database_from_a_file_that_others_cannot_read(place: FilePlace) -> None:
    secret = place.directory / "store-url"
    secret.write_text(f"sqlite:///{place.directory}/other.db\n")
    secret.chmod(0o600)

    assert place.driftd("replay", "--store-file", "store-url", "--out", "out").code == 0

    assert commits(place, "other.db") > 0


def test_a_replay_takes_its_database_from_the_environment(place: FilePlace) -> None:
    environment = {"FOLDER": str(place.directory)}

    answer = place.driftd("replay", "--store", "sqlite:///${FOLDER}/other.db", "--out", "out", environment=environment)

    assert answer.code == 0
    assert commits(place, "other.db") > 0


def test_a_variable_that_is_missing_is_named(place: FilePlace) -> None:
    answer = place.driftd("replay", "--store", "sqlite:///${NOWHERE_SET}/other.db")

    assert answer.code == CONFIGURATION
    assert "the environment has no variable NOWHERE_SET" in answer.err


def test_what_a_replay_in_memory_loses_is_said(place: FilePlace) -> None:
    answer = place.driftd("replay", "--store", "sqlite://", "--out", "out")

    assert answer.code == 0
    assert "history, alerts and decisions of this replay are lost when it ends" in answer.err


def test_a_daemon_does_not_start_on_a_database_in_memory(place: FilePlace) -> None:
    place.configure(workload.models(drift=False), store={"url": "sqlite://"})

    answer = place.driftd("run")

    assert answer.code == CONFIGURATION
    assert "state, history and alerts would be lost" in answer.err


def test_a_replay_says_what_a_store_holds_already(place: FilePlace) -> None:
    assert place.driftd("replay", "--out", "out").code == 0

    answer = place.driftd("replay", "--out", "out")

    assert answer.code == CONFIGURATION
    assert "holds the state, history and alerts of clicks, prices until " in answer.err
    assert "neither continues nor overwrites" in answer.err
