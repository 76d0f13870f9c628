"""References that the configuration names: read when they are new, and kept when the file goes away."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from detectors.reference import Profile
from monitor.alerting.records import AlertRecord
from monitor.errors import InputFileError
from monitor.pipeline.pipeline import Pipeline
from monitor.reference.build import load
from monitor.reference.file import ReferenceFile, reference_files, table_spec
from monitor.reference.subprocess import load_apart
from monitor.reference.table_roles import TableSpec
from monitor.service.session import activate
from monitor.spec import CoreSpec, FeatureKind, ReferenceSpec
from monitor.stream.types import Partition
from tests.monitor import kit


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reference.csv"
    write(path, 10.0)
    return path


def write(path: Path, centre: float) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["load", "fuel"])
        writer.writerows([centre + i % 7, "gas" if i % 3 else "oil"] for i in range(300))


def pipeline_of(table: Path) -> Pipeline:
    spec = kit.a_model(reference=ReferenceSpec(str(table), 0, 64), drift=kit.a_drift(1, events=100_000))
    return Pipeline(CoreSpec((spec,), 0, 10 * kit.MINUTE, kit.SMALL), kit.SEED)


def adopted(pipeline: Pipeline) -> Profile | None:
    activate(pipeline, reference_files(CoreSpec(tuple(m.spec for m in pipeline.models), 0, 0, kit.SMALL)), kit.T0)
    return pipeline.models[0].references.profile


def test_a_table_is_in_force_from_the_first_start_on(table: Path) -> None:
    profile = adopted(pipeline_of(table))
    assert profile is not None
    assert [f.name for f in profile.features] == ["load", "fuel"]


def test_a_file_that_did_not_change_is_not_read_again(table: Path) -> None:
    pipeline = pipeline_of(table)
    before = adopted(pipeline)
    assert adopted(pipeline) is before


def test_a_file_with_another_content_replaces_the_reference(table: Path) -> None:
    pipeline = pipeline_of(table)
    before = adopted(pipeline)
    write(table, 20.0)
    with capture_logs() as said:
        after = adopted(pipeline)
    assert {event["log_level"] for event in said} <= {"info"}  # the journal says it, once, when it is committed
    assert before is not None
    assert after is not None
    assert after.content_hash != before.content_hash


def test_what_drifted_from_the_old_reference_is_resolved_when_the_file_changes(table: Path) -> None:
    pipeline = pipeline_of(table)
    files = reference_files(CoreSpec(tuple(m.spec for m in pipeline.models), 0, 0, kit.SMALL))
    assert activate(pipeline, files, kit.T0).published == []
    pipeline.positions[Partition("events", 0)] = 0
    pipeline.assign(pipeline.positions)
    drifted = (
        kit.prediction(f"r{i}", kit.T0 + i, 1.0, features={"load": 90.0 + i % 7, "fuel": "gas"}) for i in range(400)
    )
    fired = pipeline.process(kit.batch_of(kit.records_of(drifted)), kit.WALL)
    assert [what.status.value for what in fired.published if isinstance(what, AlertRecord)] == ["firing"]
    write(table, 90.0)
    files = reference_files(CoreSpec(tuple(m.spec for m in pipeline.models), 0, 0, kit.SMALL))

    ended = activate(pipeline, files, kit.T0)

    (record,) = ended.published
    assert isinstance(record, AlertRecord)
    assert (record.status.value, record.seq) == ("resolved", 2)


def test_the_reference_in_force_is_kept_when_its_file_is_gone(table: Path) -> None:
    pipeline = pipeline_of(table)
    before = adopted(pipeline)
    table.unlink()
    assert adopted(pipeline) is before


def test_without_a_reference_in_force_a_missing_file_is_an_error(table: Path) -> None:
    pipeline = pipeline_of(table)
    table.unlink()
    with pytest.raises(InputFileError, match=r"reference\.csv"):
        adopted(pipeline)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: replace(spec, points=128),
        lambda spec: replace(spec, kinds={"load": FeatureKind.CATEGORICAL}),
        lambda spec: replace(spec, columns={"prediction": "load"}),
    ],
)
def test_reading_the_same_file_in_another_way_is_another_content(
    table: Path, change: Callable[[TableSpec], TableSpec]
) -> None:
    spec = table_spec(kit.a_model())
    assert ReferenceFile(table, change(spec)).digest() != ReferenceFile(table, spec).digest()


def test_a_table_that_0_1_0_has_read_is_not_read_again(table: Path) -> None:
    """Its digest is that of the content and of what could be configured then."""
    how: dict[str, object] = {"task": "regression", "positive": None, "threshold": 0.5, "kinds": {}, "points": 256}
    before = hashlib.sha256(table.read_bytes() + msgspec.json.encode(how, order="sorted")).hexdigest()

    assert ReferenceFile(table, table_spec(kit.a_model())).digest() == before


def test_columns_are_told_to_be_of_no_effect_on_a_built_profile(table: Path, tmp_path: Path) -> None:
    built = tmp_path / "profile"
    built.write_bytes(load(table, TableSpec()).to_bytes())
    spec = TableSpec(columns={"time": "load"})

    assert ReferenceFile(built, spec).notices == [
        "reference.columns: of no effect on a built profile; build it with them"
    ]
    assert ReferenceFile(table, spec).notices == ReferenceFile(built, TableSpec()).notices == []


def test_a_child_process_comes_to_the_same_profile(table: Path) -> None:
    told: list[int] = []
    apart = load_apart(table, TableSpec(), told.append)
    assert apart.to_bytes() == load(table, TableSpec()).to_bytes()
    assert told[-1] == 600  # both readings


def test_what_the_child_complains_of_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("load\n")
    with pytest.raises(InputFileError, match=r"empty\.csv: has no rows"):
        load_apart(path, TableSpec(), lambda rows: None)


def test_a_built_profile_is_read_as_it_is(table: Path, tmp_path: Path) -> None:
    built = tmp_path / "profile"
    built.write_bytes(load(table, TableSpec()).to_bytes())
    told: list[int] = []
    assert load_apart(built, TableSpec(), told.append).content_hash == load(table, TableSpec()).content_hash
    assert not told


def test_models_that_share_a_table_and_how_it_is_read_profile_it_once(table: Path) -> None:
    reference = ReferenceSpec(str(table), 0, 64)
    specs = [kit.a_model(name=name, reference=reference) for name in ("a", "b")]
    specs.append(kit.a_model(name="c", reference=replace(reference, points=32)))
    files = reference_files(CoreSpec(tuple(specs), 0, 0, kit.SMALL))

    assert files["a"].profile() is files["b"].profile()
    assert files["c"].profile().content_hash != files["a"].profile().content_hash
