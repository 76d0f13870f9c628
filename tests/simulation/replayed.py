"""One row again, through files, the real command and all of the daemon's pipeline: the same alarms must come out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.types import FloatArray
from monitor.config import build
from monitor.config.load import parse
from monitor.reference.build import load
from monitor.reference.file import table_spec
from monitor.times import format_time
from tests.simulation.families import FAMILIES, Marginal, path_of
from tests.simulation.figures import Figure, Verdict
from tests.simulation.monitored import PANE, START_MS, STEP_MS, Monitored, feature_slice

_ROWS: Final = 10_000
_FEATURES: Final = 3
_CONFIG: Final = """\
stream: {url: "file:./stream", events: [events]}
store: {url: "sqlite:///driftd.db"}
models:
  m:
    task: regression
    champion: v1
    reference: reference.csv
    window: {events: 1000, every: 100}
    drift: {false_alarms: 1 per 200 events}
    outcomes: null
    rules: []
    features: {prediction: ignore}  # the answers have no reference in the simulation
"""


def replayed(seed: int, events: int = 40_000) -> Figure:
    """Return whether the harness and `driftd replay` raise the same alarms on one stream with a loose budget."""
    rng = np.random.default_rng([seed, 4])
    values = path_of(FAMILIES["ar.9"], _ROWS + events, _FEATURES, rng)
    with tempfile.TemporaryDirectory(prefix="driftd-simulation-") as name:
        folder = Path(name)
        _write(folder, values)
        here, there = _fed(folder, values[_ROWS:]), _run(folder)
    verdict = Verdict.KEPT if here == there and here else Verdict.MISSED
    words = f"{len(here)} alarms in the simulation, {len(there)} in the replay, {len(here & there)} the same"
    return Figure("replay", "AR(1) .9, 3 features, one alarm in 200 events", words, "the same", verdict)


def _names() -> list[str]:
    return [f"x{i}" for i in range(_FEATURES)]


def _write(folder: Path, values: FloatArray) -> None:
    (folder / "driftd.yaml").write_text(_CONFIG, encoding="utf-8")
    with (folder / "reference.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_names())
        writer.writerows(values[:_ROWS].tolist())
    (folder / "stream").mkdir()
    with (folder / "stream" / "events.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in _events(values[_ROWS:]))


def _events(values: FloatArray) -> Iterable[dict[str, Any]]:
    names = _names()
    for i, row in enumerate(values.tolist()):
        yield {
            "type": "prediction", "request_id": f"r{i}", "time": START_MS + i * STEP_MS, "model": "m",
            "version": "v1", "features": dict(zip(names, row, strict=True)), "prediction": 0.0,
        }  # fmt: skip


def _fed(folder: Path, values: FloatArray) -> set[tuple[str, str]]:
    """Return (kind, when it began) of the alarms that the harness sees."""
    (spec,) = build.core(parse(_CONFIG, {})).models
    model = Monitored(spec, load(folder / "reference.csv", table_spec(spec), lambda rows: None))
    panes = model.panes(Marginal.NORMAL)
    found = set()
    for pane in range(len(values) // PANE):
        counts = panes.counts(values[pane * PANE : (pane + 1) * PANE])
        for alarm in model.add(feature_slice(pane, PANE, counts)).alarms:
            found.add((alarm.subject.kind.value, format_time(alarm.starts_at)))
    return found


def _run(folder: Path) -> set[tuple[str, str]]:
    """Return the same of the alarms that `driftd replay` publishes."""
    command = [sys.executable, "-m", "monitor", "replay", "--out", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    path = folder / "out" / "driftd.alerts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {(r["kind"], r["starts_at"]) for r in records if r["status"] == "firing" and r["kind"] == "drift"}
