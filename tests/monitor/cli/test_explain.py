"""The command `explain`: before the first commit, of what was committed, and when there is nothing to explain."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from detectors.reference import Profile
from detectors.reference_builder import build_features
from monitor.cli import run
from monitor.cli.explained import show_explanation
from tests.in_process import logging_as_it_was
from tests.monitor.kit import SECOND, T0, outcome, prediction

CONFIG = """
stream: {url: "file:./stream", events: [ml.predictions]}
store: {url: "sqlite:///driftd.db"}
models:
  m:
    task: regression
    champion: v1
    window: {events: 200, every: 20}
    outcomes: {within: 1d}
    reference: {path: reference.bin}
  idle: {task: regression, champion: v1, window: {events: 200, every: 20}, drift: null, rules: []}
  rolled:
    task: regression
    champion: v1
    reference: {learn: 10000, rolling: 30d}
    drift: {min_effect: {ks: 2}}
  learned: {task: regression, champion: v1, window: {events: 200, every: 20}, reference: {learn: 500}}
"""
Driftd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def driftd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Driftd:
    """Runs commands in a folder with a configuration and the profile of a reference."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {"load": rng.normal(size=5000), "fuel": [str(i) for i in rng.integers(0, 3, 5000)]}
    profile = Profile(build_features({"load": True, "fuel": False}, columns, 5000, 512), 5000, ordered=True)
    Path("reference.bin").write_bytes(profile.to_bytes())
    Path("driftd.yaml").write_text(CONFIG)

    def driftd(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with logging_as_it_was():
            code = run(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return driftd


def test_before_the_first_commit_the_configured_reference_is_explained(driftd: Driftd) -> None:
    code, out, _ = driftd("explain", "m", "--json")
    document = json.loads(out)

    assert code == 0
    assert document["as_of"] is None
    assert set(document["versions"]["v1"]["features"]) == {"load", "fuel"}
    assert document["versions"]["v1"]["features"]["load"]["smallest"]


def test_it_is_told_in_tables(driftd: Driftd) -> None:
    _, out, _ = driftd("explain", "m")

    assert "promised: 1 false alarm in 1,000,000 events" in out
    assert "v1 (champion): the promise is assumed, because" in out
    assert "mean by" in out
    assert "supposed, 0/16 panes" in out


def test_at_most_so_many_features_are_printed(driftd: Driftd) -> None:
    _, out, _ = driftd("explain", "m", "--features", "1")

    assert "and 1 more features: --features 2, or --json" in out


def test_what_was_learned_of_a_version_is_explained(driftd: Driftd) -> None:
    rng = np.random.default_rng(2)
    events = []
    for i in range(1_500):
        at, features = T0 + i * SECOND, {"load": float(rng.normal()), "fuel": str(rng.integers(0, 3))}
        events += [
            prediction(f"r{i}", at, 1.0, features=features, latency_ms=9.0),
            outcome(f"r{i}", at + 1, 1.0 + float(rng.normal())),
        ]
    Path("stream").mkdir()
    Path("stream/ml.predictions.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert driftd("replay")[0] == 0

    document = json.loads(driftd("explain", "m", "--version", "v1", "--json")[1])
    rules = {rule["name"]: rule for rule in document["versions"]["v1"]["rules"]}

    assert document["as_of"] is not None
    assert document["versions"]["v1"]["predictions"] == 1_500
    assert not rules["error_warning"]["dependence"]["supposed"]
    assert rules["error_warning"]["finds"][0]["value"] > rules["error_warning"]["baseline"]
    assert rules["memory_rollback"]["why_not"] == "no_data"
    assert rules["memory_rollback"]["finds"] == []
    assert [find["windows"] for find in rules["error_warning"]["finds"]] == [1, 2, 3, 5]


def test_what_a_rule_finds_in_each_stretch_has_a_column(driftd: Driftd) -> None:
    out = io.StringIO()
    document = json.loads(driftd("explain", "m", "--json")[1])
    finds = [
        {"windows": many, "value": many / 8, "events": 200 * many, "decided_by": "budget"} for many in (1, 2, 3, 5)
    ]
    document["versions"]["v1"]["rules"] = [{**document["versions"]["v1"]["rules"][0], "finds": finds}]

    show_explanation(Console(file=out, width=300), document, 30)

    for many in (1, 2, 3, 5):
        assert f"{many} window" in out.getvalue()
        assert f"after {200 * many:,}" in out.getvalue()


def test_a_reference_that_is_yet_to_be_learned_is_said_to_be_missing(driftd: Driftd) -> None:
    version = json.loads(driftd("explain", "learned", "--json")[1])["versions"]["v1"]

    assert version["reasons"][0] == "there is no reference yet, so drift is not checked"
    assert version["features"] == {}


def test_a_model_of_which_nothing_is_watched_is_told_so(driftd: Driftd) -> None:
    _, out, _ = driftd("explain", "idle")
    _, config, _ = driftd("check-config")

    assert "nothing is watched: neither drift nor rules" in out
    assert "promise" not in out
    assert "note: nothing is watched: neither drift nor rules: give it a `reference`" in config


def test_check_config_notes_what_is_switched_off_and_what_is_assumed(driftd: Driftd) -> None:
    """At ten predictions a second 64 windows of 15 minutes are more than 200 000; at one in a second they are not."""
    busy, quiet = (json.loads(driftd("check-config", "--json", "--rate", rate)[1]) for rate in ("10", "1"))
    about = [[note.partition(":")[0] for note in told["models"]["rolled"]["notes"]] for told in (busy, quiet)]

    assert about == [["drift.min_effect.ks", "reference.rolling"], ["drift.min_effect.ks"]]
    assert busy["memory_mb"]["rolling"] > 100
    assert "MB for what rolling references are made from" in " ".join(driftd("check-config")[1].split())


def test_check_config_says_how_well_a_reference_founds_the_promise(driftd: Driftd) -> None:
    reference = json.loads(driftd("check-config", "--json")[1])["models"]["m"]["reference"]

    assert (reference["founded"], reference["assumed_because"]) == ("kept", [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["n"], "there is no model n"), (["m", "--version", "v7"], "there is no version v7")],
    ids=["model", "version"],
)
def test_what_is_not_known_is_a_usage_error(driftd: Driftd, arguments: list[str], says: str) -> None:
    code, _, err = driftd("explain", *arguments)

    assert code == 64
    assert says in " ".join(err.split())


def test_a_reference_that_cannot_be_read_is_65(driftd: Driftd) -> None:
    Path("reference.bin").unlink()

    assert driftd("explain", "m")[0] == 65
