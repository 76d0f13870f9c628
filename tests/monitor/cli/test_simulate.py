"""`driftd simulate`: alarms on a model's own reference against its budget, and what cannot be simulated."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec
from monitor.times import format_time
from tests.in_process import driftd

START_MS = 1_700_000_000_000
MODEL = "{task: binary, champion: v1, reference: table.csv, window: {events: 200, every: 20}, drift: DRIFT}"
BY_TIME = "{task: binary, champion: v1, reference: table.csv, window: {span: 5m, pane: 1m}, drift: DRIFT}"


def configured(folder: Path, model: str, drift: str = "{false_alarms: 1 per 1000 events}") -> str:
    path = folder / "driftd.yaml"
    text = f"stream: {{url: 'file:{folder}/stream', events: [events]}}\nstore: {{url: 'sqlite:///{folder}/d.db'}}\n"
    model = model.replace("DRIFT", drift).replace("table.csv", str(folder / "table.csv"))
    path.write_text(f"{text}models:\n  m: {model}\n", encoding="utf-8")
    return str(path)


def write(folder: Path, *, rows: int = 3_000, times: bool = True, outcomes: bool = False) -> None:
    """A table of an autocorrelated number and a category, a row a second."""
    rng = np.random.default_rng(0)
    columns: dict[str, Sequence[object]] = {
        "x": lfilter([1.0], [1.0, -0.7], rng.standard_normal(rows)).tolist(),
        "kind": rng.choice(["a", "b", "c"], rows).tolist(),
    }
    if times:
        columns["time"] = [format_time(START_MS + i * 1_000) for i in range(rows)]
    if outcomes:
        columns["prediction"] = rng.integers(0, 2, rows).tolist()
        columns["actual"] = rng.integers(0, 2, rows).tolist()
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def test_alarms_are_counted_against_what_is_promised(tmp_path: Path) -> None:
    """500 panes of 20 predictions, ten of which fill the window: 491 checks, one alarm in 50 of them."""
    write(tmp_path)
    told = driftd("simulate", "m", "--events", "10000", "--json", "-c", configured(tmp_path, MODEL))

    found = told.json()
    assert (told.code, found["checks"]) == (0, 491)
    # The share of the rules, .35, is not promised where the table has no outcomes.
    assert sum(found["promised"].values()) == pytest.approx(0.65 * 491 / 50, rel=1e-3)
    assert sum(found["raised"].values()) == len(found["alarms"])


def test_the_same_seed_gives_the_same_alarms_and_they_are_told(tmp_path: Path) -> None:
    """With a budget of one alarm in forty events there are some."""
    write(tmp_path)
    config = configured(
        tmp_path, MODEL, "{false_alarms: 1 per 40 events, min_effect: {ks: 1.0e-9, wasserstein: 1.0e-9}}"
    )
    first, second = (driftd("simulate", "m", "--days", "0.2", "--seed", "3", "-c", config) for _ in range(2))

    assert first.code == 0
    assert first.out == second.out
    assert "drift: " in first.out
    assert " raised, " in first.out.split("\nnote: ")[0].splitlines()[-1]
    assert "day 0" in first.out


def test_panes_of_time_come_as_they_were_in_the_table(tmp_path: Path) -> None:
    """An hour of minutes; the five windows that are needed are in 50 minutes of rows."""
    write(tmp_path)
    config = configured(tmp_path, BY_TIME, "{false_alarms: 1 per 1h}")
    found = driftd("simulate", "m", "--days", "0.0417", "--json", "-c", config).json()

    assert found["checks"] == 60
    assert sum(found["promised"].values()) == pytest.approx(0.65, rel=0.01)


def test_rules_on_quality_are_simulated_where_a_table_has_outcomes(tmp_path: Path) -> None:
    write(tmp_path, outcomes=True)
    config = configured(tmp_path, MODEL)
    simulate = ["simulate", "m", "--events", "4000", "--json", "-c", config]

    found = driftd(*simulate, "--from", str(tmp_path / "table.csv")).json()
    assert set(found["promised"]) == {"drift", "data_quality", "metric"}
    assert found["kept"]
    assert [note.partition(":")[0] for note in found["notes"]] == [
        "the rows have no values for these rules, which are not simulated"
    ]

    drawn = driftd(*simulate).json()
    assert set(drawn["promised"]) == {"drift", "data_quality"}
    assert any("--from" in note for note in drawn["notes"])


RULES = "[{name: slow, metric: latency_p95_ms, above: 9}, {name: wrong, metric: accuracy, drop: 20 points}]"


@pytest.mark.parametrize(
    ("of_table", "left_out"), [(True, ["slow"]), (False, ["slow", "wrong"])], ids=["table", "blocks"]
)
def test_rules_on_what_the_rows_do_not_have_are_named(tmp_path: Path, of_table: bool, left_out: list[str]) -> None:
    write(tmp_path, outcomes=True)
    model = MODEL.replace("drift:", f"outcomes: {{within: 1d}}, rules: {RULES}, drift:")
    source = ("--from", str(tmp_path / "table.csv")) if of_table else ()
    asked = ("simulate", "m", "--events", "400", "-c", configured(tmp_path, model), *source)

    assert driftd(*asked, "--json").json()["rules_left_out"] == left_out
    words = " ".join(driftd(*asked).out.split())
    assert f"for these rules, which are not simulated: {', '.join(left_out)}" in words


def test_a_built_profile_is_enough(tmp_path: Path) -> None:
    """It gives what its table gives: the profile of that has the same blocks."""
    write(tmp_path)
    profile, table = tmp_path / "p.profile", tmp_path / "table.csv"
    of_table = driftd("simulate", "m", "--events", "1000", "--json", "-c", configured(tmp_path, MODEL)).json()
    assert driftd("reference", "build", str(table), "--out", str(profile)).code == 0
    table.unlink()
    config = configured(tmp_path, MODEL.replace("table.csv", str(profile)))

    assert driftd("simulate", "m", "--events", "1000", "--json", "-c", config).json() == of_table
    assert of_table["block"] == 8
    assert (
        driftd("simulate", "m", "--events", "1000", "--json", "--from", str(profile), "-c", config).json() == of_table
    )


def test_a_profile_without_blocks_has_to_be_built_again(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "old.profile"
    path.write_bytes(replace(load(tmp_path / "table.csv", TableSpec()), blocks=()).to_bytes())
    refused = driftd("simulate", "m", "-c", configured(tmp_path, MODEL.replace("table.csv", str(path))))

    assert refused.code == 78
    assert "earlier release" in refused.err
    assert "driftd reference build" in refused.err


def test_a_learned_reference_is_simulated_from_the_store(tmp_path: Path) -> None:
    """The champion's own answers as well, which were learned from other predictions."""
    rng = np.random.default_rng(0)
    (tmp_path / "stream").mkdir()
    with (tmp_path / "stream" / "events.jsonl").open("w", encoding="utf-8") as file:
        for i in range(3_000):
            event = {
                "type": "prediction", "model": "m", "version": "v1", "request_id": f"r{i}",
                "time": format_time(START_MS + i * 1_000), "prediction": int(rng.integers(2)),
                "features": {"x": float(rng.standard_normal())},
            }  # fmt: skip
            file.write(json.dumps(event) + "\n")
    model = "{task: binary, champion: v1, reference: {learn: 2000}, window: {events: 100, every: 20}, drift: DRIFT}"
    config = configured(tmp_path, model)
    assert driftd("replay", "-c", config).code == 0

    found = driftd("simulate", "m", "--events", "2000", "--json", "-c", config)
    assert found.code == 0, found.err
    assert found.json()["rows"] == 2_000
    assert found.json()["left_out"] == []


@pytest.mark.parametrize(
    ("model", "drift", "words"),
    [
        ("{task: binary, champion: v1, reference: {learn: 1000}}", "", "none is in the store yet"),
        (MODEL, "null", "nothing to simulate"),
    ],
)
def test_what_cannot_be_simulated_is_said(tmp_path: Path, model: str, drift: str, words: str) -> None:
    write(tmp_path)
    told = driftd("simulate", "m", "-c", configured(tmp_path, model, drift))

    assert told.code == 78
    assert words in told.err


def test_without_times_days_are_unknown_and_events_are_not(tmp_path: Path) -> None:
    write(tmp_path, times=False)
    config = configured(tmp_path, MODEL)

    refused = driftd("simulate", "m", "--days", "3", "-c", config)
    assert refused.code == 78
    assert "no times in order" in refused.err
    assert driftd("simulate", "m", "--events", "1000", "-c", config).code == 0


def test_a_table_of_less_than_five_windows_is_too_short(tmp_path: Path) -> None:
    write(tmp_path, rows=900)
    told = driftd("simulate", "m", "--events", "1000", "-c", configured(tmp_path, MODEL))

    assert told.code == 78
    assert "too short" in told.err


def test_windows_by_time_are_not_simulated_by_events(tmp_path: Path) -> None:
    write(tmp_path)
    told = driftd("simulate", "m", "--events", "1000", "-c", configured(tmp_path, BY_TIME, "{}"))

    assert told.code == 64
    assert "--events" in told.err
