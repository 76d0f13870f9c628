"""Rules, dashboard, unit and documents name what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fallback.routing import bucket
from monitor.alerting.records import AlertKind
from monitor.cli.commands import COMMANDS, load
from monitor.events.refusals import Refusal
from monitor.web.metrics import DECLARED, Telemetry
from monitor.web.server import application
from tests.docs.blocks import DOCS, blocks, read
from tests.servers.debian import environment_of, program, root_of, skip_or_fail

METRIC = re.compile(r"\bdriftd_[a-z_]+")
LABELS = {d.name: set(d.labels) for d in DECLARED}


@pytest.mark.parametrize("name", ["config/prometheus-rules.yaml", "config/grafana-dashboard.json"])
def test_metrics_that_are_used_exist(name: str) -> None:
    assert set(METRIC.findall(read(name))) <= set(LABELS)


def test_alerting_rules_have_what_prometheus_needs() -> None:
    for group in yaml.safe_load(read("config/prometheus-rules.yaml"))["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule)
            used = set(re.findall(r"labels\.(\w+)", rule["annotations"]["summary"]))
            known = set().union(*(LABELS[m] for m in METRIC.findall(rule["expr"]) if m in LABELS))
            assert used <= known | {"instance"}


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads(read("config/grafana-dashboard.json"))
    assert all(panel["targets"] for panel in dashboard["panels"])


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md", "docs/events.md"])
def test_metrics_that_documents_name_exist(name: str) -> None:
    assert set(METRIC.findall(read(name))) <= set(LABELS)


def test_every_route_is_documented() -> None:
    routes = {getattr(r, "path", "") for r in application(Telemetry(), dict).routes} - {""}
    text = read("README.md") + read("docs/operations.md")
    assert {r for r in routes if r != "/" and f"`{r}`" not in text} == set()


def test_every_command_is_documented() -> None:
    text = read("README.md")
    assert {n for n in COMMANDS if f"driftd {n}" not in text and f"make {n}" not in text} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_overview_can_be_loaded_and_says_more_than_it(name: str) -> None:
    assert load(name).help


def test_every_reason_of_refusal_is_documented() -> None:
    assert {r for r in Refusal if f"| `{r.value}` |" not in read("docs/events.md")} == set()


def test_every_kind_of_alert_is_documented() -> None:
    later = {AlertKind.OUTLIER, AlertKind.ROLLOUT}  # of the format, not raised by this release
    assert {k for k in AlertKind if k not in later and f"`{k.value}`" not in read("README.md")} == set()


def test_the_vectors_of_routing_are_right() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (\d+) \|$", read("docs/alerts-and-decisions.md"), re.MULTILINE)
    assert rows
    assert all(bucket(salt, key) == int(at) for salt, key, at in rows)


@pytest.mark.parametrize("name", DOCS)
def test_commands_in_documents_have_the_options_that_are_shown(name: str) -> None:
    for block in blocks(read(name), "sh"):
        for line in block.text.splitlines():
            if line.startswith("driftd "):
                words = line.split()
                options = set(re.findall(r"(--[a-z-]+)", line))
                assert options <= _options(words[1:3]), line


def _options(words: list[str]) -> set[str]:
    command = load(words[0])
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    return {option for parameter in command.params for option in parameter.opts}


def test_the_overview_of_commands_loads_nothing_that_takes_long() -> None:
    program = (
        "import sys; sys.argv = ['driftd', '--help']\n"
        "from monitor.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print({'numpy', 'scipy', 'kafka', 'sqlalchemy', 'river'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert told.stdout.splitlines()[-1] == "set()"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """All of it: a key that it does not know it only warns of."""
    skip_or_fail("systemd-analyze")
    analyze = program("systemd-analyze")
    units = {"SYSTEMD_UNIT_PATH": str(root_of(analyze) / "lib" / "systemd" / "system")}
    unit = tmp_path / "driftd.service"
    unit.write_text(read("config/driftd.service").replace("/opt/driftd/bin/driftd", "/bin/true"))  # it must be there

    told = subprocess.run(
        [analyze, "verify", unit], env=environment_of(analyze) | units, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    about_others = "Suspicious symlink "  # of units of the system that are not installed
    words = [line for line in (told.stdout + told.stderr).splitlines() if not line.startswith(about_others)]
    assert (told.returncode, words) == (0, [])


def test_the_unit_keeps_files_to_its_user_and_memory_within_a_bound() -> None:
    lines = read("config/driftd.service").splitlines()

    assert "UMask=0077" in lines
    assert any(re.fullmatch(r"MemoryMax=\d+G", line) for line in lines)
