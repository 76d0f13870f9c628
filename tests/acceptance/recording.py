"""Tables as recordings, replayed by the real command."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_MS = 1_700_000_000_000
STEP_MS = 1_000  # between rows, where a table has no times


def rows_of(path: Path) -> list[dict[str, str]]:
    """A gzipped CSV with a header."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def write_topic(folder: Path, topic: str, events: Iterable[dict[str, Any]]) -> None:
    """A topic of a file stream."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{topic}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


@dataclass(frozen=True)
class Replayed:
    """What a replay left behind."""

    folder: Path
    summary: dict[str, Any]
    alerts: list[dict[str, Any]]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Records of one kind of alert."""
        return [a for a in self.alerts if a["kind"] == kind]

    def history(self, model: str, *options: str) -> list[dict[str, Any]]:
        """`driftd history`."""
        out = driftd(self.folder, "history", model, "--json", *options)
        return [json.loads(line) for line in out.splitlines()]


def replay(folder: Path, config: str) -> Replayed:
    """Replay the topics in `folder/stream` under a configuration."""
    (folder / "driftd.yaml").write_text(config, encoding="utf-8")
    summary = json.loads(driftd(folder, "replay", "--json", "--out", "out"))
    path = folder / "out" / "driftd.alerts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    alerts = [json.loads(line) for line in lines]
    assert not [alert["summary"] for alert in alerts if alert["kind"] == "blind"]
    return Replayed(folder, summary, alerts)


def driftd(folder: Path, *arguments: str) -> str:
    """Run the command in a folder. -> what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
