"""The process that makes references: a real one, which may die, and what is asked for is answered all the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from monitor.service.freezing import FreezingProcess
from tests.monitor.kit import Run, batch_of
from tests.monitor.pipeline.test_waiting_references import Waiting, answered, shown, waits

MAKES = "from monitor.reference.freezing_process import main; main()"
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
STANDS = "import time; time.sleep(600)"


def python(program: str) -> Sequence[str]:
    return sys.executable, "-c", program


def makes(process: FreezingProcess, waiting: Waiting) -> Run:
    """Turn the loop until the reference is there."""
    run = waiting.run
    deadline = time.monotonic() + 60
    while shown(run)["reference"]["state"] == "freezing":
        assert time.monotonic() < deadline
        process.exchange(run.pipeline)
        run.process(batch_of([]))
        time.sleep(0.01)
    return run


@pytest.fixture
def waiting() -> Waiting:
    return waits(5, take=False)


@pytest.fixture
def at_once() -> Run:
    run = waits(5)
    answered(run.run, run.asked)
    return run.run


def profile(run: Run) -> str:
    """What tells a profile from others: not its laws, which another process makes beforehand and the loop does not."""
    made = run.model.references.profile
    assert made is not None
    return made.content_hash


def test_it_makes_what_would_be_made_at_once(waiting: Waiting, at_once: Run) -> None:
    with FreezingProcess() as process:
        assert profile(makes(process, waiting)) == profile(at_once)


def test_one_that_dies_is_tried_again_and_told(
    tmp_path: Path, waiting: Waiting, at_once: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"import pathlib; p = pathlib.Path({str(tmp_path / 'was')!r})\n"
    program += f"if not p.exists():\n    p.touch()\n    {DIES}\n{MAKES}"

    with FreezingProcess(python(program)) as process:
        assert profile(makes(process, waiting)) == profile(at_once)

    told = capsys.readouterr()
    assert (told.out + told.err).count("reference.not_made") == 1


def test_what_fails_three_times_is_made_in_the_loop(
    waiting: Waiting, at_once: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with FreezingProcess(python(DIES)) as process:
        assert profile(makes(process, waiting)) == profile(at_once)

    told = capsys.readouterr()
    assert (told.out + told.err).count("reference.not_made") == 3
    assert (told.out + told.err).count("reference.made_in_the_loop") == 1
    assert "killed by signal 9" in told.out + told.err


def test_its_end_waits_for_nothing(waiting: Waiting) -> None:
    began = time.monotonic()

    with FreezingProcess(python(STANDS)) as process:
        process.exchange(waiting.run.pipeline)

    assert time.monotonic() - began < 30
