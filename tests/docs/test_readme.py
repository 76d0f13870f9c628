"""What the README says can be typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.config import build
from monitor.config.load import parse
from monitor.pipeline.pipeline import Pipeline
from monitor.stream.types import Batch, Partition, Run
from monitor.times import parse_time
from tests.docs.blocks import DOCS, ROOT, blocks, read, section

LATER = parse_time("2026-12-01T00:00:00Z")


@pytest.fixture(scope="module")
def first_alert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of `Your first alert`, and what each of its commands printed."""
    folder = tmp_path_factory.mktemp("first")
    text = section(read("README.md"), "Your first alert")
    (configuration,) = blocks(text, "yaml")
    (script,) = blocks(text, "python")
    (folder / "driftd.yaml").write_text(configuration.text, encoding="utf-8")
    subprocess.run([sys.executable, "-c", script.text], cwd=folder, check=True)
    commands = blocks(text, "sh")[-1].text.splitlines()
    return folder, {command: run(command, folder) for command in commands}


def run(command: str, folder: Path) -> str:
    assert command.startswith("driftd ")
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *command.split()[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_the_first_alert_comes_and_names_the_feature(first_alert: tuple[Path, dict[str, str]]) -> None:
    folder, printed = first_alert
    assert "1 began (drift 1)" in printed["driftd replay"]
    records = [json.loads(line) for line in (folder / "stream" / "driftd.alerts.jsonl").read_text().splitlines()]
    assert "load" in {f["name"] for f in records[0]["features"]}
    assert not [record for record in records if record["kind"] == "blind"]


@pytest.mark.process
def test_history_shows_the_change(first_alert: tuple[Path, dict[str, str]]) -> None:
    rows = first_alert[1]["driftd history heat --feature load --metric ks"].splitlines()[1:]
    whole = [row.split() for row in rows if "too_few" not in row]
    values = [float(value) for _, _, _, _, value, n, *_ in whole if n == "1000"]
    assert values[0] < 0.1
    assert values[-1] > 0.9
    assert "drift" in whole[-1]


@pytest.mark.process
def test_inspect_knows_the_request(first_alert: tuple[Path, dict[str, str]]) -> None:
    assert "joined" in first_alert[1]["driftd inspect r17"]


@pytest.mark.process
def test_explain_says_what_would_be_found_and_how_well_it_is_founded(first_alert: tuple[Path, dict[str, str]]) -> None:
    told = first_alert[1]["driftd explain heat"]
    assert "the promise is assumed" in told
    assert "the reference has 2000 rows, 2 windows" in told
    assert re.search(r"^load +mean by 0\.1\d* sd", told, re.MULTILINE)


def test_the_events_of_the_readme_are_accepted() -> None:
    values: list[bytes | None] = [
        line.encode() for line in blocks(section(read("README.md"), "Events"), "json")[0].text.splitlines()
    ]
    (configuration,) = blocks(section(read("README.md"), "Your first alert"), "yaml")
    pipeline = Pipeline(build.core(parse(configuration.text, {})), 1)
    pipeline.assign({Partition("events", 0): 0})
    at = np.arange(len(values))
    pipeline.process(Batch.of([Run(Partition("events", 0), at, np.full(len(values), -1), values)]), LATER)
    assert pipeline.totals.events["dead_letters"] == 0
    assert pipeline.totals.events["read"] == 3


def test_the_configuration_that_the_readme_checks_is_there() -> None:
    parse(read("config/driftd.yaml"), {})


def test_ci_runs_the_command_that_the_readme_names() -> None:
    command = blocks(section(read("README.md"), "Tests"), "sh")[0].text.strip()
    assert command == "make test"
    assert "README.md" in read(".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", read(name))
    missing = [t for t in targets if "://" not in t and not (ROOT / name).parent.joinpath(t).exists()]
    assert not missing


def test_make_targets_that_the_readme_names_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z]+)", " ".join(b.text for b in blocks(read("README.md"), "sh")))) | set(
        re.findall(r"`make ([a-z]+)", read("README.md"))
    )
    assert named <= made


@pytest.mark.parametrize("name", DOCS)
def test_python_examples_run(name: str, tmp_path: Path) -> None:
    for block in blocks(read(name), "python"):
        subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", DOCS)
def test_json_examples_are_json(name: str) -> None:
    for block in blocks(read(name), "json"):
        for line in block.text.splitlines():
            document: dict[str, Any] = json.loads(line)
            assert document["schema"] == 1
