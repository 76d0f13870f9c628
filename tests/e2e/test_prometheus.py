"""A daemon, a real Prometheus that scrapes it, and the queries of the dashboard."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import ROOT
from tests.e2e import workload
from tests.e2e.place import FilePlace
from tests.servers.debian import program, skip_or_fail
from tests.servers.prometheus import Prometheus

DASHBOARD: Final = json.loads((ROOT / "config" / "grafana-dashboard.json").read_text())
EXPRESSIONS: Final = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])})
LINES: Final = workload.Workload(seed=3, seconds=200).lines()
PATIENCE_S: Final = 60.0

pytestmark = pytest.mark.process


@pytest.fixture
def place(file_place: FilePlace) -> FilePlace:
    file_place.configure()
    file_place.produce(LINES[: len(LINES) // 2])
    return file_place


def test_every_query_of_the_dashboard_finds_something(place: FilePlace, tmp_path: Path) -> None:
    skip_or_fail("prometheus")
    with place.daemon() as daemon, Prometheus(tmp_path / "prometheus", daemon.port) as prometheus:
        daemon.until_read(len(LINES) // 2)
        end, missing = time.monotonic() + PATIENCE_S, list(EXPRESSIONS)
        while not prometheus.query("driftd_ready == 1"):
            assert time.monotonic() < end, "it scrapes nothing"
            time.sleep(0.2)
        place.produce(LINES[len(LINES) // 2 :])  # rates need two values
        while missing and time.monotonic() < end:
            missing = [e for e in missing if not prometheus.query(e.replace("$model", ".*"))]
            time.sleep(0.2)
        assert missing == []
        assert daemon.stop() == 0


def test_promtool_finds_nothing_wrong_with_the_metrics(place: FilePlace) -> None:
    skip_or_fail("promtool")
    with place.daemon() as daemon:
        daemon.until_read(len(LINES) // 2)
        page = daemon.get("/metrics").text
    found = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )

    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")
