"""The demonstration to its end, as a user runs it, and what it leaves behind, read without its help."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from monitor.config.load import parse
from monitor.demo.rides import SERVED_FROM, load
from monitor.demo.run import configuration, run
from monitor.errors import ConfigError
from monitor.store import reader
from monitor.store.engine import connect
from monitor.times import parse_time

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
CHAIN = ("primary", "previous", "rules", "default")
SENSOR_BREAKS, SENSOR_REPAIRED = "2012-07-02T00:00:00.000Z", "2012-07-16T00:00:00.000Z"
WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run came to. `levels` are the active levels that /metrics showed while it ran, in order."""

    folder: Path
    code: int
    text: str
    levels: Sequence[str]
    served_afterwards: bool


class Visitor(threading.Thread):
    """Looks at /metrics from the beginning to after the end, then presses Ctrl-C."""

    def __init__(self, folder: Path, screen: io.StringIO) -> None:
        super().__init__(name="visitor", daemon=True)
        self._folder, self._screen = folder, screen
        self.levels: list[str] = []
        self.served_afterwards = False
        self.leave = threading.Event()

    def run(self) -> None:
        while not self.leave.is_set():
            ended = "Ctrl-C" in self._screen.getvalue()
            page = self._page()
            found = re.search(r'driftd_model_active_level\{level="(\w+)",model="bike_demand"\} 1\.0', page)
            if found and found[1] not in self.levels[-1:]:
                self.levels.append(found[1])
            if ended:
                self.served_afterwards = found is not None
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.1)

    def _page(self) -> str:
        try:
            port = yaml.safe_load((self._folder / "demo.yaml").read_text(encoding="utf-8"))["http"]["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
                return str(response.read().decode())
        except (FileNotFoundError, TypeError, urllib.error.URLError):
            return ""  # not yet


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("demo") / "with a space"
    screen = io.StringIO()
    visitor = Visitor(folder, screen)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the daemon is started as `python -m monitor`
        visitor.start()
        try:
            code = run(Console(file=screen, width=200, highlight=False), folder, keep_serving=True)
        finally:
            visitor.leave.set()
            visitor.join(10)
    return Ran(folder, code, screen.getvalue(), visitor.levels, visitor.served_afterwards)


def topic(ran: Ran, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ran.folder / "stream" / f"{name}.jsonl").read_text("utf-8").splitlines()]


def firing(ran: Ran, kind: str) -> list[dict[str, Any]]:
    return [a for a in topic(ran, "driftd.alerts") if a["kind"] == kind and a["status"] == "firing"]


def served(ran: Ran) -> list[dict[str, Any]]:
    return [event for event in topic(ran, "ml.predictions") if event["served"]]


def rollback(ran: Ran) -> Mapping[str, Any]:
    """The first decision without a route for the canary."""
    found = (d for d in topic(ran, "driftd.decisions") if "v1.2.0" not in {route["version"] for route in d["routes"]})
    return next(found)


def test_all_that_is_promised_is_seen_and_the_exit_code_says_so(ran: Ran) -> None:
    assert "NOT SEEN" not in ran.text
    assert ran.text.count("  seen  ") == 4
    assert ran.code == 0


def test_the_drift_alert_names_the_feature_that_was_broken_and_nothing_drifts_before(ran: Ran) -> None:
    """What the model makes of the feature drifts with it, and may be told a day earlier."""
    first, *more = firing(ran, "drift")
    episode = [first, *(record for record in more if record["event_id"] == first["event_id"])]

    assert first["version"] == "v1.1.0"
    assert 0 < parse_time(first["starts_at"]) - parse_time(SENSOR_BREAKS) < WEEK_MS
    assert {feature["name"] for record in episode for feature in record["features"]} == {"hum", "prediction"}
    hum = next(r for r in episode if "hum" in [feature["name"] for feature in r["features"]])
    assert parse_time(hum["issued_at"]) - parse_time(SENSOR_BREAKS) < WEEK_MS


def test_nothing_is_blind(ran: Ran) -> None:
    assert [(a["version"], a["summary"]) for a in firing(ran, "blind")] == []


def test_the_fault_is_in_the_events_only_while_it_is_said_to_be(ran: Ran) -> None:
    broken = [event["time"] for event in served(ran) if event["features"]["hum"] > 1]

    assert min(broken) >= SENSOR_BREAKS
    assert max(broken) < SENSOR_REPAIRED
    assert ran.text.count("INJECTED") == 5  # the legend, and two faults that begin and end


def test_the_canary_is_rolled_back_because_of_an_alert_on_its_error(ran: Ran) -> None:
    decision = rollback(ran)

    assert decision["reason"] == "rule_breached"
    cause = next(a for a in firing(ran, "metric") if a["event_id"] == decision["cause"])
    assert (cause["version"], cause["metric"]["name"]) == ("v1.2.0", "mae")
    assert cause["metric"]["value"] > cause["metric"]["limit"] > cause["metric"]["baseline"]
    assert [a["version"] for a in firing(ran, "rollback")] == ["v1.2.0"]


def test_a_canary_that_was_rolled_back_gets_no_more_requests(ran: Ran) -> None:
    at = parse_time(rollback(ran)["issued_at"])
    canary = [parse_time(event["time"]) for event in served(ran) if event["version"] == "v1.2.0"]

    assert len(canary) > 300
    assert max(canary) < at + WEEK_MS


def test_the_active_level_goes_down_the_chain_and_comes_back_twice(ran: Ran) -> None:
    decisions = topic(ran, "driftd.decisions")
    levels = [d["active_level"] for d in decisions]
    moves = [(before, after) for before, after in pairwise(levels) if after != before]

    assert levels[0] == levels[-1] == "primary"
    assert moves[:2] == [("primary", "previous"), ("previous", "primary")]
    assert moves[-1] == ("rules", "primary")
    assert all(after == "primary" or CHAIN.index(after) > CHAIN.index(before) for before, after in moves)
    assert [d["reason"] for d in decisions].count("recovered") == 2
    assert [d["generation"] for d in decisions] == list(range(1, len(decisions) + 1))


def test_requests_were_answered_by_the_level_that_was_active(ran: Ran) -> None:
    by_level: dict[str, Counter[str]] = defaultdict(Counter)
    for event in served(ran):
        by_level[event["served_by"]][event["version"]] += 1

    assert by_level.keys() == {"primary", "previous", "rules"}
    assert by_level["previous"].keys() == {"v1.0.0"}
    assert by_level["rules"].keys() == {"rules"}
    assert min(counts.total() for counts in by_level.values()) > 300
    assert served(ran)[-1]["version"] == "v1.1.0"


def test_every_request_was_answered_once_also_in_the_outage(ran: Ran) -> None:
    answered = Counter(event["request_id"] for event in served(ran))
    last = parse_time(served(ran)[-1]["time"])
    hours = [hour for hour in load() if SERVED_FROM <= hour.time <= last]

    assert set(answered.values()) == {1}
    assert len(answered) == len(hours)
    assert any(event["error"] == "ConnectionError" for event in topic(ran, "ml.predictions"))


def test_the_metrics_page_is_there_while_it_runs_and_afterwards(ran: Ran) -> None:
    assert ran.levels[0] == ran.levels[-1] == "primary"
    assert {"previous", "rules"} < set(ran.levels)
    assert ran.served_afterwards
    assert 'driftd_version_predictions_total{model="bike_demand",version="v1.1.0"}' in (
        ran.folder / "metrics.txt"
    ).read_text("utf-8")


def test_the_database_knows_every_event(ran: Ran) -> None:
    engine = connect(f"sqlite:///{ran.folder}/driftd.db", read_only=True)
    try:
        status = reader.status(engine)
    finally:
        engine.dispose()

    assert status is not None
    assert status["events"]["predictions"] == len(topic(ran, "ml.predictions"))
    assert status["events"]["outcomes"] == len(topic(ran, "ml.outcomes"))
    assert status["events"]["dead_letters"] == status["events"]["late_predictions"] == 0
    assert status["models"]["bike_demand"]["champion"] == "v1.1.0"
    assert status["models"]["bike_demand"]["active_level"] == "primary"


def test_it_says_where_everything_is(ran: Ran) -> None:
    for name in ("driftd.alerts.jsonl", "driftd.decisions.jsonl", "driftd.db", "demo.yaml", "metrics.txt"):
        path = next(iter(ran.folder.rglob(name)))
        assert str(path) in ran.text


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(ConfigError, match="empty"):
        run(Console(file=io.StringIO()), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_configuration_in_the_repository_is_the_packaged_one() -> None:
    packaged = ROOT / "monitor" / "demo" / "demo.yaml"

    assert (ROOT / "config" / "demo.yaml").read_text("utf-8") == packaged.read_text("utf-8")


@pytest.mark.parametrize("folder", ["/srv/demo", '/srv/a "quoted" demo', "/srv/mein Ordner/ä#b"])
def test_the_configuration_is_that_of_the_folder(folder: str) -> None:
    c = parse(configuration(Path(folder), 19_464), {})

    assert c.stream.url == f"file:{folder}/stream"
    assert c.store.url == f"sqlite:///{folder}/driftd.db"
    assert c.http.port == 19_464
    reference = c.models["bike_demand"].reference
    assert reference is not None
    assert reference.path == f"{folder}/reference.csv.gz"
