"""A reference that is made elsewhere may take as long as it likes: what is told is what a replay tells.

Meanwhile the model reads, joins and counts on. Its checks wait, and are made up in order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from detectors.reference import Profile
from monitor.pipeline.commands import CommandName
from monitor.reference.freezer import Freezing
from monitor.reference.freezing import freeze
from monitor.reference.pane_rows import HASH, KEPT, TIME, PaneRows
from monitor.service.session import Session
from monitor.store.engine import connect
from monitor.stream.types import Partition
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    WALL,
    Record,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    batch_of,
    learned,
    prediction,
    records_of,
    some_outcomes,
    timed,
)
from tests.monitor.pipeline.test_any_order import (
    LATENESS,
    MODELS,
    LiveReader,
    answers,
    begins_with_a_gap,
    logs_of,
    replay_of,
    replayed,
)

LEARNING = ("learning", "rolling", "everything")


class Apart:
    """A run whose references are made by whoever runs it."""

    def open(self) -> Session:
        session: Session = super().open()  # type: ignore[misc]
        session.pipeline.freeze_apart(0)
        return session


class ApartRun(Apart, Run): ...


class StoredApartRun(Apart, StoredRun): ...


def answered(run: Run, asked: Sequence[Freezing]) -> None:
    """All references that were asked for are there, and the loop turns."""
    for freezing in asked:
        run.pipeline.answer_freezing(freezing, freeze(freezing.request()))
    run.process(batch_of([]))


@dataclass
class Elsewhere:
    """Makes references, each after some batches."""

    dice: random.Random
    longest: int
    working: list[tuple[int, Freezing]] = field(default_factory=list)
    waited: int = 0  # batches that ended with a model that waits

    def turn(self, run: Run, *, all_at_once: bool = False) -> None:
        """One turn of the loop."""
        pipeline = run.pipeline
        for freezing in pipeline.wanted_references():
            self.working.append((self.dice.randint(0, self.longest), freezing))
        self.waited += len(self.working) > 0
        for left, freezing in self.working:
            if not left or all_at_once:
                fails = self.dice.random() < 0.1
                frozen = None if fails else Profile.from_bytes(freeze(freezing.request()).to_bytes())
                pipeline.answer_freezing(freezing, frozen)
        self.working = [(left - 1, freezing) for left, freezing in self.working if left and not all_at_once]


class WaitingReader(LiveReader):
    """Reads on while references are made."""

    elsewhere: Elsewhere

    def process(self, records: list[Record]) -> None:
        super().process(records)
        self.elsewhere.turn(self.run)

    def read(self) -> Told:
        while self.unread:
            self.step()
            self.interrupt()
        self.make_the_rest()
        return self.run.finish()

    def make_the_rest(self) -> None:
        """One after the other: a reference may be asked for only when the one before is there."""
        for turn in range(500):
            self.run.session.process(batch_of([]), WALL)
            if turn and not self.run.model.references.freezer.waiting:
                return
            self.elsewhere.turn(self.run, all_at_once=True)


def read(run: Run, logs: dict[Partition, list[Record]], seed: int, longest: int) -> tuple[Told, Elsewhere]:
    reader = WaitingReader(run, logs, random.Random(seed))
    reader.elsewhere = Elsewhere(random.Random(seed), longest)
    return reader.read(), reader.elsewhere


@pytest.mark.parametrize("longest", [0, 3, 10_000])
@pytest.mark.parametrize("model", LEARNING)
def test_it_is_told_what_a_replay_tells(model: str, longest: int) -> None:
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(5, [300, 120])

    told, elsewhere = read(ApartRun(core, partitions=range(2)), logs, 5, longest)

    assert elsewhere.waited > 0
    assert answers(told) == replayed(core, logs)


@pytest.mark.slow
@pytest.mark.parametrize("model", LEARNING)
@settings(max_examples=25)
@given(st.integers(0, 10**6), st.lists(st.sampled_from((3, 30, 120, 300)), min_size=1, max_size=3), st.integers(0, 40))
def test_so_it_is_of_any_stream(model: str, seed: int, sizes: list[int], longest: int) -> None:
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(seed, sizes)
    replay = replay_of(core, logs)
    expected = answers(replay.finish())
    assume(not begins_with_a_gap(replay, expected))

    told, _ = read(ApartRun(core, partitions=range(len(sizes))), logs, seed, longest)

    assert answers(told) == expected


@pytest.mark.parametrize("model", LEARNING)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40))
def test_a_crash_meanwhile_begins_it_again(tmp_path: Path, model: str, seed: int, longest: int) -> None:
    core, logs = a_core(MODELS[model], lateness=LATENESS), logs_of(seed, [120, 120])
    engine = connect(f"sqlite:///{tmp_path}/{seed}-{longest}-{random.random()}.db")

    told, _ = read(StoredApartRun(core, partitions=range(2), engine=engine), logs, seed, longest)
    engine.dispose()

    assert answers(told) == replayed(core, logs)


# -- one model, step by step -------------------------------------------------------------------------------

PANE = 10 * SECOND
MODEL = a_model(
    window=timed(PANE, 2 * PANE, longest=4 * PANE), reference=learned(40), drift=a_drift(period=HOUR)
)  # fmt: skip


def stream(panes: int) -> list[Record]:
    """So many panes of 20 predictions; all but the last one have ended."""
    dice = random.Random(3)
    times = [T0 + pane * PANE + i * PANE // 20 for pane in range(panes) for i in range(20)]
    events = [
        prediction(str(i), time, dice.random(), features={"x": dice.gauss(0, 1), "c": dice.choice("ab")})
        for i, time in enumerate(times)
    ]
    return records_of(events)


@dataclass
class Waiting:
    """A run that waits for its first reference."""

    run: ApartRun
    asked: Sequence[Freezing]


def waits(panes: int, *, take: bool = True) -> Waiting:
    run = ApartRun(a_core(MODEL))
    run.feed(stream(panes), [20])
    run.commit()
    return Waiting(run, run.pipeline.wanted_references() if take else ())


def shown(run: Run) -> Any:
    return run.pipeline.status()["models"]["m"]


def test_status_says_that_the_reference_is_being_made_and_nothing_is_called_healthy() -> None:
    waiting = waits(5)

    assert [freezing.subject for freezing in waiting.asked] == ["features"]
    assert shown(waiting.run)["reference"]["state"] == "freezing"
    assert shown(waiting.run)["versions"]["v1"]["health"] == "unknown"


def test_a_small_reference_is_made_at_once() -> None:
    run = Run(a_core(MODEL))
    run.pipeline.freeze_apart()

    run.feed(stream(5), [20])

    assert not run.pipeline.wanted_references()
    assert shown(run)["reference"]["state"] == "frozen"


def test_the_state_of_a_reference_that_is_not_being_made() -> None:
    assert shown(waits(1).run)["reference"]["state"] == "learning"

    done = waits(5)
    answered(done.run, done.asked)
    assert shown(done.run)["reference"]["state"] == "frozen"


def test_a_reference_in_force_is_told_while_that_of_a_versions_answers_is_made() -> None:
    run = ApartRun(a_core(replace(MODEL, outcomes=some_outcomes(HOUR, baseline_n=80, pane=PANE))))
    run.feed(stream(4), [20])
    answered(run, run.pipeline.wanted_references())
    run.feed(stream(7)[80:], [20])
    run.commit()

    assert [freezing.subject for freezing in run.pipeline.wanted_references()] == ["answers:v1"]
    found = shown(run)["reference"]
    assert (found["state"], found["rows"]) == ("freezing", 40)
    assert found["since"] is not None


def test_what_is_learned_of_features_is_told_as_it_is_while_the_reference_of_answers_is_made() -> None:
    """Not as if all of it were there; checks wait, which is told as ever."""
    outcomes = some_outcomes(HOUR, baseline_n=80, pane=PANE)
    run = ApartRun(a_core(replace(MODEL, reference=learned(1_000), outcomes=outcomes)))
    run.feed(stream(7), [20])
    run.commit()

    assert [freezing.subject for freezing in run.pipeline.wanted_references()] == ["answers:v1"]
    found = shown(run)["reference"]
    assert (found["state"], found["wanted"]) == ("freezing", 1_000)
    assert 80 <= found["rows"] < 1_000


def test_counts_go_on_and_checks_wait() -> None:
    waiting = waits(5)
    version = shown(waiting.run)["versions"]["v1"]

    assert version["predictions"] == 100
    assert sum(version["checks"].values()) == 1  # of the first pane: the second one waits

    answered(waiting.run, waiting.asked)
    assert sum(shown(waiting.run)["versions"]["v1"]["checks"].values()) == 4


def test_what_could_not_be_made_elsewhere_is_made_in_the_loop() -> None:
    waiting = waits(5)

    waiting.run.pipeline.answer_freezing(waiting.asked[0], None)
    waiting.run.process(batch_of([]))

    assert shown(waiting.run)["reference"]["state"] == "frozen"
    assert shown(waiting.run)["reference_rows"] == 40


def test_an_order_meanwhile_voids_what_is_being_made() -> None:
    waiting = waits(5)

    waiting.run.command(CommandName.RELEARN, events=1_000)
    answered(waiting.run, waiting.asked)

    assert shown(waiting.run)["reference"]["state"] == "waiting"
    assert sum(shown(waiting.run)["versions"]["v1"]["checks"].values()) == 4


def test_it_asks_once() -> None:
    waiting = waits(5)

    waiting.run.process(batch_of([]))

    assert waiting.run.pipeline.wanted_references() == []


def test_no_more_is_read_once_the_windows_are_full_of_what_waits() -> None:
    assert not waits(2 + 3).run.pipeline.is_behind
    assert waits(2 + 6).run.pipeline.is_behind


def test_rows_of_later_panes_are_kept_up_to_a_bound() -> None:
    rows = PaneRows(10, 20)
    rows.advance(1_000)
    early, late = np.full(3 * KEPT, 999), np.full(KEPT, 1_000)
    hashes = np.zeros(3 * KEPT, np.uint64)

    rows.add({TIME: early, HASH: hashes})
    rows.add({TIME: late, HASH: hashes[:KEPT]})
    assert not rows.is_full

    rows.add({TIME: late[:1], HASH: hashes[:1]})
    assert rows.is_full
