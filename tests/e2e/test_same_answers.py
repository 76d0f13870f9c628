"""A daemon that never stops, one that catches up, one that is killed and a replay say the same of the same topics.

`uneven` has the topics, `same` the runs, `same_answers` what is compared and what may differ. With other sizes and
seeds: `make same`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import pytest

from tests.e2e import same, same_answers, uneven
from tests.e2e.same_answers import SECTIONS, Answers
from tests.servers.topics import Topics

pytestmark = pytest.mark.kafka

RECORDS, SEED, KILLS = 30_000, 1, 5


class Runs:
    """Each run is made when it is first asked for; the first one fills the topics."""

    def __init__(self, proof: same.Proof) -> None:
        self.proof = proof

    @cached_property
    def live(self) -> Answers:
        return self.proof.live()

    @cached_property
    def catching_up(self) -> Answers:
        return self._after_live(self.proof.catching_up)

    @cached_property
    def killed(self) -> Answers:
        return self._after_live(lambda: self.proof.killed(KILLS, SEED))

    @cached_property
    def replay(self) -> Answers:
        return self._after_live(lambda: self.proof.replay(1))

    @cached_property
    def second_replay(self) -> Answers:
        return self._after_live(lambda: self.proof.replay(2))

    def _after_live(self, run: Callable[[], Answers]) -> Answers:
        assert self.live
        return run()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, topics: Topics) -> Runs:
    stream = uneven.Uneven(RECORDS, SEED, same.recent_end())
    return Runs(same.Proof(tmp_path_factory.mktemp("same"), topics, stream))


def test_the_stream_has_everything_that_could_make_a_difference(runs: Runs) -> None:
    """Otherwise the other tests here prove nothing."""
    counts, decisions = runs.live.counts, runs.live.decisions
    some = ["events.dead_letters", "events.resources", "events.late_predictions"]
    some += [f"join.{name}" for name in ("joined", "duplicates", "conflicts", "orphans", "late", "expired")]
    some += [f"alerts.by_kind.{kind}" for kind in ("drift", "data_quality", "concept_drift", "metric")]
    some += ["alerts.resolved", "decisions_by_reason.rule_breached", "decisions_by_reason.fallback_engaged"]

    assert {name: counts.get(name, 0) for name in some if not counts.get(name)} == {}
    assert {name.split(" ")[0] for name in decisions} >= {"prices", "clicks", "kinds"}
    assert {name.split("/")[0] for name in runs.live.references} == {"prices", "clicks", "kinds"}


def test_every_record_is_read_once_and_late_is_what_was_written_too_late(runs: Runs) -> None:
    """By the log of its partition alone, so the number is known before anything is read."""
    lines = runs.proof.lines
    counts = runs.live.counts

    assert counts["events.read"] == len(lines)
    assert counts["events.late_predictions"] == uneven.late_in(lines)
    assert counts.get("events.late_after_idle", 0) == 0


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("run", ["catching_up", "killed", "replay"])
def test_a_run_says_what_the_daemon_that_never_stopped_has_said(runs: Runs, run: str, section: str) -> None:
    found: Answers = getattr(runs, run)

    differences = same_answers.differences(runs.live, found, [section])

    assert not differences, same_answers.told(differences)


def test_it_was_killed_also_while_a_partition_was_parked(runs: Runs) -> None:
    assert runs.killed.counts["events.read"] == len(runs.proof.lines)
    assert runs.proof.kills == KILLS
    assert runs.proof.killed_while_parked > 0


def test_two_replays_write_the_same_bytes(runs: Runs) -> None:
    assert runs.replay.counts
    assert runs.second_replay.counts
    first, second = (runs.proof.written[f"{same.REPLAY} {number}"] for number in (1, 2))

    assert [part for part in first.keys() | second.keys() if first.get(part) != second.get(part)] == []
