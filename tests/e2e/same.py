"""The same topics read by a daemon that never stops, by one that catches up, by one that is killed, and by replays.

    python -m tests.e2e.same --records 40000 --seed 1 --kills 6        # `make same`; Kafka is started by itself

Prints how long each took and in what they differ; exits 1 if they do. `uneven` says what is in the topics and why
nothing about the end of a run has to be allowed for, `same_answers` what is compared.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from monitor.clock import wall_ms
from tests.conftest import OF_KAFKA_PYTHON
from tests.e2e import same_answers, uneven
from tests.e2e.daemon import Daemon, Trouble
from tests.e2e.place import OUTPUTS, KafkaPlace
from tests.e2e.same_answers import Answers
from tests.servers.kafka import Cluster
from tests.servers.topics import Topics

LIVE, CATCHING_UP, KILLED, REPLAY = "live", "catching up", "killed", "replay"
IDLE_AFTER_S: Final = 8.0
STEP_S: Final = (
    0.06  # between two steps of the producer. Were it to stall for IDLE_AFTER_S, time would follow the clock
)
STUCK_S: Final = 60.0
_REFUSED_PER_MINUTE: Final = 40  # less than a burst of refused records: the partition is parked
_POINTS: Final = ("polled", "before-commit", "in-commit-early", "in-commit-late", "after-commit", "after-send")

Say = Callable[[str], None]


def _quiet(text: str) -> None:
    pass


def _stream(**settings: Any) -> dict[str, Any]:
    """The section `stream` of every run."""
    timing = {"lateness": f"{uneven.LATENESS}ms", "idle_after": f"{IDLE_AFTER_S}s", "max_future": "20m"}
    return {**timing, **settings}


def recent_end() -> int:
    """When the last events of a stream are, in ms: some two hours ago, so that the tail is in the past as well."""
    hour = 60 * uneven.MINUTE
    return (wall_ms() // hour - 2) * hour


class Proof:
    """The topics of a stream, and the runs over them. Begin with `live`, which fills the topics."""

    def __init__(self, directory: Path, topics: Topics, stream: uneven.Uneven, *, say: Say = _quiet) -> None:
        self._directory, self._topics, self._say = directory, topics, say
        self.stream = stream
        self.lines = stream.lines()
        self.events = {kind: topics.make(partitions) for kind, partitions in uneven.PARTITIONS.items()}
        self.kills = 0
        self.killed_while_parked = 0
        self.written: dict[str, dict[str, bytes]] = {}  # by replays, to be compared byte for byte

    # -- runs --------------------------------------------------------------------------------------------

    def live(self) -> Answers:
        """A daemon that never stops; records are written while it reads, in small steps by global time."""
        place = self._place(LIVE)
        with place.daemon() as daemon:
            daemon.until_ready()
            began = time.monotonic()
            for number, step in enumerate(self.stream.steps()):
                time.sleep(max(began + number * STEP_S - time.monotonic(), 0.0))
                self._write(step)
            self._finish(daemon)
        return self._answers(LIVE, place)

    def catching_up(self) -> Answers:
        """A daemon that begins when everything is there."""
        place = self._place(CATCHING_UP)
        with place.daemon() as daemon:
            self._finish(daemon)
        return self._answers(CATCHING_UP, place)

    def killed(self, kills: int, seed: int) -> Answers:
        """Daemons that are killed one after the other, in turns while a partition is parked and at a random point."""
        place = self._place(KILLED)
        place.configure(
            uneven.models(), name="strict.yaml", stream=_stream(dead_letters_per_minute=_REFUSED_PER_MINUTE)
        )
        chance = random.Random(seed)
        for number in range(kills):
            if number % 2 == 0:
                self._kill_while_parked(place, f"parked-{number}", chance)
            else:
                self._kill_at_a_point(place, f"killed-{number}", chance)
        with place.daemon() as daemon:
            self._finish(daemon)
        return self._answers(KILLED, place)

    def replay(self, number: int = 1) -> Answers:
        """`driftd replay` of the topics; what it publishes goes to a folder."""
        name = f"{REPLAY} {number}"
        place = self._place(name, outputs={output: output for output in OUTPUTS})
        folder = place.directory / "out"
        told = place.driftd("replay", "--json", "--out", str(folder))
        if told.code:
            raise Trouble(f"driftd replay ended with {told.code}:\n{told.err}")
        summary = told.json()
        paths = {output: folder / f"{output}.jsonl" for output in OUTPUTS}
        published = {output: path.read_bytes().splitlines() if path.exists() else [] for output, path in paths.items()}
        self.written[name] = same_answers.written_by(summary, place.store_url, published)
        return same_answers.answers_of(name, summary, place.store_url, published, [uneven.CLOCK])

    # -- parts of runs -----------------------------------------------------------------------------------

    def _place(self, name: str, outputs: Mapping[str, str] | None = None) -> KafkaPlace:
        place = KafkaPlace(self._directory / name.replace(" ", "-"), self._topics, missing=outputs is not None)
        place.events = tuple(self.events.values())
        place.outputs = outputs or place.outputs
        place.configure(uneven.models(), stream=_stream())
        return place

    def _write(self, lines: Sequence[uneven.Line]) -> None:
        self._topics.write_all((self.events[x.topic], x.partition, x.value, x.at) for x in lines)

    def _finish(self, daemon: Daemon) -> None:
        """Until everything is read, the tail has closed all windows, and everything is published; then stop."""
        daemon.until_read(len(self.lines), STUCK_S)
        passed = (self.stream.tail - uneven.LATENESS) / 1000

        def stream_time() -> float:
            return daemon.metric("driftd_stream_time_seconds")

        daemon.until(
            lambda: stream_time() >= passed and not daemon.is_freezing,
            "stream time has passed the tail, and all checks are made",
            STUCK_S,
            stream_time,
        )
        daemon.until_published()
        if daemon.stop() != 0:
            raise Trouble(f"it has not ended well\n{daemon.told()}")

    def _kill_at_a_point(self, place: KafkaPlace, name: str, chance: random.Random) -> None:
        point = f"{chance.choice(_POINTS)}:{chance.randint(1, 3)}"
        with place.daemon(config="strict.yaml", name=name, module="tests.e2e.crashing", before=[point]) as daemon:
            try:
                daemon.until_read(len(self.lines), STUCK_S)
                daemon.kill()  # it did not come to the point
            except Trouble:
                if daemon.ended() != -signal.SIGKILL:
                    raise
            self.kills += 1
            self._say(f"killed at {point}")

    def _kill_while_parked(self, place: KafkaPlace, name: str, chance: random.Random) -> None:
        def is_parked() -> bool:
            """Any partition: one that is parked holds the others, so which one it is first is a matter of chance."""
            return any(value for name, value in daemon.metrics().items() if name.startswith("driftd_partition_parked{"))

        with place.daemon(config="strict.yaml", name=name) as daemon:
            all_read = len(self.lines)
            daemon.until(lambda: is_parked() or daemon.read >= all_read, "a partition is parked", STUCK_S)
            time.sleep(chance.uniform(0.0, 0.5))
            parked = is_parked()
            daemon.kill()
            self.kills += 1
            self.killed_while_parked += parked
            self._say(f"killed while a partition {'is' if parked else 'is not'} parked")

    def _answers(self, name: str, place: KafkaPlace) -> Answers:
        published = {output: place.values(place.outputs[output]) for output in OUTPUTS}
        status = place.driftd("status", "--json").json()
        return same_answers.answers_of(name, status, place.store_url, published, [uneven.CLOCK])


# -- the command ---------------------------------------------------------------------------------------------------


def compare(directory: Path, records: int, seed: int, kills: int, hours: float) -> list[str]:
    """Run everything. -> what differs."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(directory / "kafka"))
        topics = stack.enter_context(closing(Topics(cluster.bootstrap)))
        end = recent_end()
        proof = Proof(directory, topics, uneven.Uneven(records, seed, end, hours), say=say)
        late = uneven.late_in(proof.lines)
        say(f"seed {seed}: {len(proof.lines)} records of {hours:g} hours, {late} of them late, in {directory}")
        expected = timed(LIVE, len(proof.lines), proof.live)
        wrong = []
        for name, run in (
            (CATCHING_UP, proof.catching_up),
            (KILLED, lambda: proof.killed(kills, seed)),
            (f"{REPLAY} 1", lambda: proof.replay(1)),
            (f"{REPLAY} 2", lambda: proof.replay(2)),
        ):
            found = timed(name, len(proof.lines), run)
            lines = same_answers.differences(expected, found)
            values = len(expected.history)
            say(f"  {len(lines)} differences; {same_answers.inexact(expected, found)} of {values} values not bitwise")
            wrong += lines
        if proof.written[f"{REPLAY} 1"] != proof.written[f"{REPLAY} 2"]:
            wrong.append("two replays have not written the same bytes")
        say(f"{proof.kills} kills, {proof.killed_while_parked} of them while a partition was parked")
        _say_what_was_compared(expected)
        if expected.counts["events.late_predictions"] != late:
            wrong.append(f"{expected.counts['events.late_predictions']} predictions were late, not {late}")
        return wrong


def _say_what_was_compared(answers: Answers) -> None:
    counts = {name: n for name, n in answers.counts.items() if n}
    say(f"compared: {', '.join(f'{name} {n}' for name, n in counts.items())}")
    say(f"{len(answers.references)} references in force, {len(answers.history)} values of the history")


def timed(name: str, records: int, run: Callable[[], Answers]) -> Answers:
    """Run, and say how long it took."""
    began = time.monotonic()
    answers = run()
    took = time.monotonic() - began
    say(f"{name}: {took:.1f} s, {records / took:.0f} records a second")
    return answers


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--hours", type=float, default=3.0, help="of stream time")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", OF_KAFKA_PYTHON, DeprecationWarning)
    with tempfile.TemporaryDirectory(prefix="driftd-same-", ignore_cleanup_errors=True) as directory:
        wrong = compare(Path(directory), asked.records, asked.seed, asked.kills, asked.hours)
    for difference in wrong[:100]:
        say(f"DIFFERENT: {difference}")
    say(f"FAILED: {len(wrong)} differences" if wrong else "PASSED: the same answers, however the stream was read")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
