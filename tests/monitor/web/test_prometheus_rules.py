"""The alerting rules for Prometheus, tried with the real promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from monitor.web.metrics import DECLARED
from tests.docs.blocks import ROOT
from tests.monitor.web.prometheus_rules import CASES, Case
from tests.servers.debian import program, skip_or_fail

RULES: Final = ROOT / "config" / "prometheus-rules.yaml"
pytestmark = pytest.mark.process


def promtool(*arguments: str | Path, stdin: bytes = b"") -> str:
    """What it prints, after it has found nothing wrong."""
    skip_or_fail("promtool")
    done = subprocess.run([program("promtool"), *arguments], input=stdin, capture_output=True, check=False)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


def declared_rules() -> dict[str, Any]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


# -- rules -----------------------------------------------------------------------------------------------


def test_prometheus_accepts_the_rules() -> None:
    assert f"{len(declared_rules())} rules found" in promtool("check", "rules", RULES)


def unit(alert: str, case: Case, *, fires: bool) -> dict[str, Any]:
    """A test of a rule, as promtool reads it."""
    series = case.fires if fires else case.calm
    return {
        "name": f"{alert} {'fires' if fires else 'is calm'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": case.labels(alert), "value": 1}] if fires else [],
            }
        ],
    }


def test_each_rule_fires_when_it_should_and_not_when_it_should_not(tmp_path: Path) -> None:
    units = [unit(alert, case, fires=fires) for alert, its in CASES.items() for case in its for fires in (True, False)]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": units}))

    assert CASES.keys() == declared_rules().keys()
    assert "SUCCESS" in promtool("test", "rules", file)


def test_each_rule_says_what_to_do() -> None:
    for name, rule in declared_rules().items():
        assert rule["annotations"].keys() == {"summary", "description"}, name
        assert all(len(text.split()) >= 4 for text in rule["annotations"].values()), name


def test_the_rules_name_metrics_that_there_are() -> None:
    assert set(re.findall(r"driftd_\w+", RULES.read_text())) <= {declared.name for declared in DECLARED}
