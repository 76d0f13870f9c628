"""`driftd demo`: a demonstration in under a minute, on files and SQLite, with a real daemon and a real application.

Shell. In half a year of hourly requests a canary turns out worse than expected, a sensor is replaced by one with
another unit, and the host of the models fails. The daemon detects each from the events only and decides; the
application follows. Injected faults are marked as such; everything else is in the data.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitor.demo.application import OUTCOMES, PREDICTIONS, Application, Faults, Follower
from monitor.demo.daemon import Daemon, DaemonFailedError, free_port
from monitor.demo.rides import SERVED_FROM, VERSIONS, Hour, Precomputed, load, write_reference
from monitor.demo.story import Line, Mood, Promise, Story, day
from monitor.errors import ConfigError
from monitor.times import format_time, parse_time

MODEL: Final = "bike_demand"
ALERTS: Final = "driftd.alerts"
DECISIONS: Final = "driftd.decisions"
DONE, NOT_ALL_SEEN = 0, 1
_PORT: Final = 9464
_HOURS_PER_S: Final = 24 * 7  # of the data, in a second of ours
_STEP_S: Final = 0.05
_ASK_S: Final = 0.25
_MOST_AHEAD: Final = 150  # lines that the daemon may lag: about four days of requests and outcomes
_PATIENCE_S: Final = 60.0  # without progress of the daemon
_AFTERWARDS_MS: Final = 3 * 86_400_000  # served after the last recovery, so that it shows in the output
_COLOURS: Final = {Mood.PLAIN: "default", Mood.BAD: "red", Mood.FAIR: "yellow", Mood.GOOD: "green"}


@dataclass(frozen=True, slots=True)
class Scene:
    """A fault that begins or ends at a time."""

    time: int
    text: str
    change: Callable[[Faults], None]


def _sensor(broken: bool) -> Callable[[Faults], None]:
    def change(faults: Faults) -> None:
        faults.hum_in_percent = broken

    return change


def _outage(begins: bool) -> Callable[[Faults], None]:
    def change(faults: Faults) -> None:
        faults.models_down = begins

    return change


SCENES: Final = (
    Scene(
        parse_time("2012-07-02T00:00:00Z"),
        "a new humidity sensor reports percent (62) where it was a share (0.62); nobody told the model",
        _sensor(True),
    ),
    Scene(parse_time("2012-07-16T00:00:00Z"), "the sensor is put right", _sensor(False)),
    Scene(
        parse_time("2012-09-03T00:00:00Z"), "the host of the models goes down: v1.1.0 and v1.0.0 raise", _outage(True)
    ),
    Scene(parse_time("2012-09-10T00:00:00Z"), "the host of the models is back", _outage(False)),
)


@dataclass(frozen=True, slots=True)
class Place:
    """The folder and the port of one demonstration."""

    folder: Path
    port: int

    @property
    def stream(self) -> Path:
        """The directory of topics."""
        return self.folder / "stream"

    @property
    def config(self) -> Path:
        """The configuration file of the daemon."""
        return self.folder / "demo.yaml"

    @property
    def url(self) -> str:
        """The base URL of the daemon."""
        return f"http://127.0.0.1:{self.port}"


def run(console: Console, folder: Path | None = None, *, keep_serving: bool = False, port: int = _PORT) -> int:
    """Run the demonstration and print what happens.

    Args:
        console: Where to print.
        folder: An empty or new folder; None: a new temporary one.
        keep_serving: Leave the daemon running at the end, until Ctrl-C.
        port: HTTP port of the daemon; any free one if it is taken.

    Returns:
        0 if everything promised has happened, else 1.

    Raises:
        ConfigError: The folder is not empty.
        DaemonFailedError: The daemon did not start, or exited.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the daemon is stopped.
    """
    hours = load()
    place = _prepared(folder, free_port(port), hours)
    with _terminable(), ExitStack() as stack:
        _introduce(console, place, hours)
        daemon = stack.enter_context(Daemon(place.config, place.url, place.folder / "daemon.log"))
        daemon.wait_until_ready()
        models = {version: Precomputed(version, hours) for version in VERSIONS}
        show = _Show(console, place, daemon, models, stack)
        show.replay([hour for hour in hours if hour.time >= SERVED_FROM])
        (place.folder / "metrics.txt").write_bytes(daemon.metrics())
        if keep_serving:
            with _until_interrupted():
                _sum_up(console, place, show)
                console.print(f"\nThe daemon is still running: {place.url}/ and {place.url}/metrics. Ctrl-C stops it.")
                daemon.wait()
        code = daemon.stop()
        if code != 0:
            raise DaemonFailedError(f"ended with exit code {code}", daemon.log)
    if not keep_serving:
        _sum_up(console, place, show)
    return DONE if show.story.complete else NOT_ALL_SEEN


# -- before and after ------------------------------------------------------------------------------------


def _prepared(folder: Path | None, port: int, hours: Sequence[Hour]) -> Place:
    """Create the folder with everything that the daemon needs."""
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="driftd-demo-"))
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("--folder", str(folder), "give a folder that is empty, or is not there yet")
    place = Place(folder.resolve(), port)
    place.stream.mkdir(parents=True, exist_ok=True)
    for topic in (PREDICTIONS, OUTCOMES):
        (place.stream / f"{topic}.jsonl").touch()
    write_reference(hours, place.folder / "reference.csv.gz")
    place.config.write_text(configuration(place.folder, port), encoding="utf-8")
    return place


def configuration(folder: Path, port: int) -> str:
    """Return the packaged configuration, adapted to a folder and a port."""
    text = files("monitor.demo").joinpath("demo.yaml").read_text(encoding="utf-8")
    inside = json.dumps(str(folder), ensure_ascii=False)[1:-1]
    return text.replace("./demo/", f"{inside}/").replace(f"port: {_PORT}", f"port: {port}")


def _introduce(console: Console, place: Place, hours: Sequence[Hour]) -> None:
    trained = sum(hour.time < SERVED_FROM for hour in hours)
    console.print(
        "[bold]driftd demo[/bold]: a model predicts how many bikes are rented in the next hour, in Washington, D.C.\n"
        f"Real data ({trained} hours to train on, {len(hours) - trained} to serve) by Fanaee-T & Gama, CC BY 4.0.\n"
        "v1.1.0 is the champion, v1.2.0 a canary with 30% of the requests, v1.0.0 the previous version.\n"
        "A week of the data passes in a second. Actual rentals become known hours or days later.\n"
        "The daemon sees the events only. Faults that are not in the data are marked as [magenta]INJECTED[/magenta].\n"
    )
    console.print(f"folder   {escape(str(place.folder))}", soft_wrap=True)
    console.print(f"daemon   driftd run --config {escape(shlex.quote(str(place.config)))}", soft_wrap=True)
    console.print(f"metrics  {place.url}/metrics (and a status page at {place.url}/)\n")


def _sum_up(console: Console, place: Place, show: _Show) -> None:
    story, application = show.story, show.application
    console.print("\n[bold]Promised events[/bold]")
    for promise in Promise:
        how = story.kept.get(promise)
        mark = "[green]seen[/green]    " if how is not None else "[red]NOT SEEN[/red]"
        console.print(f"  {mark}  {promise.value}{f': {escape(how)}' if how is not None else ''}")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for head in ("level", "answered by", "requests"):
        table.add_column(head, justify="right" if head == "requests" else "left")
    for (level, version), count in application.served.items():
        table.add_row(level, version, str(count))
    console.print("\n[bold]Answers[/bold] (every request was answered)")
    console.print(table)
    failed = ", ".join(f"{version} {count}" for version, count in application.failed.items())
    console.print(f"failed attempts of versions: {failed or 'none'}")
    _point_at(console, place)


def _point_at(console: Console, place: Place) -> None:
    console.print("\n[bold]Files[/bold]")
    for what, path in (
        ("alerts", place.stream / f"{ALERTS}.jsonl"),
        ("decisions", place.stream / f"{DECISIONS}.jsonl"),
        ("events", place.stream / f"{PREDICTIONS}.jsonl"),
        ("database", place.folder / "driftd.db"),
        ("configuration", place.config),
        ("metrics", place.folder / "metrics.txt"),
        ("log", place.folder / "daemon.log"),
    ):
        console.print(f"  {what:<14} {escape(str(path))}", soft_wrap=True)
    driftd, config = _driftd(), shlex.quote(str(place.config))
    again = shlex.quote(str(place.folder / "again"))
    console.print("\n[bold]Try next[/bold]")
    for what, command in (
        ("active versions and firing alerts", "status"),
        ("the champion's error in each window", f"history {MODEL} --version v1.1.0 --metric mae"),
        ("the feature that drifted", f"history {MODEL} --version v1.1.0 --feature hum --metric ks"),
        ("a replay of the same events", f"replay --fresh --out {again}"),
    ):
        console.print(f"  [dim]{what}:[/dim]\n    {escape(f'{driftd} {command} --config {config}')}", soft_wrap=True)


def _driftd() -> str:
    """Return the command as it can be typed: with its path if it is not on the PATH."""
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == "driftd" and shutil.which("driftd") is None else "driftd"


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that no daemon is left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        return


# -- the replay ------------------------------------------------------------------------------------------


class _Show:
    """Runs the application, follows alerts and decisions, and prints them."""

    def __init__(
        self, console: Console, place: Place, daemon: Daemon, models: Mapping[str, Precomputed], stack: ExitStack
    ) -> None:
        self._console, self._daemon = console, daemon
        self._alerts, self._decisions = (Follower(place.stream, topic) for topic in (ALERTS, DECISIONS))
        self._asked_at = 0.0
        self._status: Mapping[str, Any] = {}
        self._month = ""
        self._outcomes: Mapping[str, int] = {}  # by version, when quality was last told
        self._scenes = list(SCENES)
        self._recovered_at: int | None = None
        self.story = Story()
        for follower in (self._alerts, self._decisions):
            stack.callback(follower.close)
        first = self._first_decision()
        self.application = Application(place.stream, first, models)
        stack.callback(self.application.close)
        self._tell(self.story.decision(first, day(format_time(SERVED_FROM))))

    def _first_decision(self) -> Mapping[str, Any]:
        """Wait for the first decision of the daemon."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            self._daemon.check()
            if found := self._decisions.news():
                return found[0]
            time.sleep(_STEP_S)
        raise DaemonFailedError("published no decision", self._daemon.log)

    def replay(self, hours: Sequence[Hour]) -> None:
        """Serve the hours at their pace, or at the daemon's if that is slower, until the story is complete."""
        done = 0
        began = time.monotonic()
        while done < len(hours):
            due = int((time.monotonic() - began) * _HOURS_PER_S) + 1
            stop = min(due, len(hours))
            if stop <= done:
                time.sleep(_STEP_S)
                continue
            for hour in hours[done:stop]:
                self._set_scene(hour.time)
                self.application.serve(hour)
            done = stop
            self._listen(hours[done - 1].time)
            if self._is_over(hours[done - 1].time):
                break
            began += self._wait_for_daemon(_MOST_AHEAD)
            time.sleep(_STEP_S)
        self._wait_for_daemon(0)
        self._listen(hours[done - 1].time)

    def _set_scene(self, now: int) -> None:
        while self._scenes and self._scenes[0].time <= now:
            scene = self._scenes.pop(0)
            scene.change(self.application.faults)
            self._tell(Line(day(format_time(scene.time)), "INJECTED", scene.text))

    def _listen(self, now: int) -> None:
        """Read new alerts and decisions, follow them and print them."""
        when = day(format_time(now))
        for record in self._alerts.news():
            line = self.story.alert(record)
            if line is not None:
                self._tell(line)
        for decision in self._decisions.news():
            if self.application.follow(decision):
                self._tell(self.story.decision(decision, when))
        if when[:7] != self._month and self._status:
            self._month = when[:7]
            self._tell_quality(when)

    def _is_over(self, now: int) -> bool:
        """Return whether all faults are over and the champion has served again for some days."""
        if self._scenes or self.story.level != "primary":
            self._recovered_at = None
            return False
        if self._recovered_at is None:
            self._recovered_at = now
        return now - self._recovered_at >= _AFTERWARDS_MS

    def _wait_for_daemon(self, most_ahead: int) -> float:
        """Wait until the daemon lags by at most `most_ahead` lines; return the seconds that this took."""
        began = time.monotonic()
        if most_ahead and began - self._asked_at < _ASK_S:
            return 0.0
        before, moved_at = -1, began
        while True:
            self._asked_at = time.monotonic()
            self._status = self._daemon.status()
            read = self._status["events"]["read"] if self._status else 0
            if self.application.lines - read <= most_ahead:
                return time.monotonic() - began
            if read != before:
                before, moved_at = read, time.monotonic()
            if time.monotonic() - moved_at > _PATIENCE_S:
                raise DaemonFailedError(f"reads nothing for {_PATIENCE_S:g} s", self._daemon.log)
            time.sleep(_STEP_S)

    # -- output ------------------------------------------------------------------------------------------

    def _tell_quality(self, when: str) -> None:
        versions = self._status["models"][MODEL]["versions"]
        busy = {name: v for name, v in versions.items() if v["outcomes"] > self._outcomes.get(name, 0)}
        self._outcomes = {name: v["outcomes"] for name, v in versions.items()}
        known = {name: v["metrics"]["mae"] for name, v in busy.items() if "mae" in v["metrics"]}
        if known:
            errors = ", ".join(f"{name} {mae:.0f}" for name, mae in known.items())
            self._tell(Line(when, "mean error", f"{errors} rentals, in the latest two weeks with outcomes"))

    def _tell(self, line: Line) -> None:
        colour = "magenta" if line.what == "INJECTED" else _COLOURS[line.mood]
        self._console.print(
            f"[dim]{line.when}[/dim]  [{colour}]{escape(f'{line.what:<15}')}[/]  {escape(line.text)}", soft_wrap=True
        )
