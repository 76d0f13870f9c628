"""A daemon that is killed while references are renewed leaves behind what one leaves that nobody disturbs."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e import auditor
from tests.e2e.auditor import query
from tests.e2e.place import FilePlace

SECOND: Final = 1_000
T0: Final = 1_700_000_400_000  # where a step of the reference begins
SECONDS, PER_SECOND = 1_500, 4
SHIFTED: Final = range(780, 860)  # seconds
POINTS: Final = ("polled:1", "in-commit-late:1", "in-commit-early:1", "in-commit-late:1")  # one a portion of the events
MODEL: Final[dict[str, Any]] = {
    "task": "regression", "champion": "v1", "outcomes": None, "rules": [],
    "window": {"span": "30s", "pane": "10s", "min_events": 20, "max_span": "1m"},
    "reference": {"learn": 100, "rolling": "5m"},  # a step is 10 s
    "drift": {"windows": [1], "false_alarms": "1 per 1d"},
}  # fmt: skip


def events() -> list[bytes]:
    """A feature that wanders slowly, and is elsewhere for a while: an alarm stands then, and nothing is renewed."""
    chance = random.Random(1)
    found = []
    for i in range(SECONDS * PER_SECOND):
        at = i // PER_SECOND
        level = at / SECONDS + (5 if at in SHIFTED else 0)
        event = {
            "type": "prediction", "request_id": f"r{i}", "time": T0 + i * SECOND // PER_SECOND, "model": "m",
            "version": "v1", "features": {"x": round(chance.gauss(level, 1), 3), "c": chance.choice("abc")},
            "prediction": round(chance.gauss(0, 1), 3),
        }  # fmt: skip
        found.append(json.dumps(event).encode())
    return found


def a_place(directory: Path) -> FilePlace:
    place = FilePlace(directory)
    place.configure({"m": MODEL}, store={"commit_every": "1ms"}, stream={"events": [place.events[0]]})
    return place


def finish(place: FilePlace, records: int) -> None:
    with place.daemon() as daemon:
        daemon.until_read(records)
        assert daemon.stop() == 0


def is_being_renewed(place: FilePlace) -> bool:
    """Whether a next reference is counted against, and not in force yet, by the last commit."""
    ((body,),) = query(place.store_url, "SELECT body FROM model_state WHERE model = 'm'") or [("{}",)]
    return json.loads(body).get("rolling", {}).get("features", {}).get("beside") is not None


@pytest.mark.slow
def test_kills_while_references_are_renewed_change_nothing(tmp_path: Path) -> None:
    values = events()
    calm, killed = a_place(tmp_path / "calm"), a_place(tmp_path / "killed")
    calm.append(calm.events[0], values)
    finish(calm, len(values))
    each = len(values) // len(POINTS)
    for portion, point in enumerate(POINTS, 1):
        killed.append(killed.events[0], values[(portion - 1) * each : portion * each])
        with killed.daemon(module="tests.e2e.crashing", before=[point], name=f"died-{portion}") as daemon:
            assert daemon.ended() == -signal.SIGKILL, daemon.told()
        with killed.daemon(name=f"killed-{portion}") as daemon:
            daemon.until_read(portion * each).kill()
        assert is_being_renewed(killed)
    finish(killed, len(values))

    expected, found = calm.found(), killed.found()
    renewed = {subject for _, subject, *_, detail, _, _ in expected.references if '"rolling"' in detail}
    assert renewed == {"features", "answers:v1"}
    assert {alert["status"] for alert in expected.alerts} == {"firing", "resolved"}
    assert found.references == expected.references
    assert auditor.told(found) == auditor.told(expected)
    assert dict(auditor.measured(killed.store_url)) == dict(auditor.measured(calm.store_url))
