"""Whatever happens makes exactly one line of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import structlog

from detectors.reference import Profile
from fallback.decisions import make_champion
from fallback.types import Decision, Reason, Route, Serving, Tier
from monitor.alerting.episodes import SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, Subject
from monitor.events.refusals import Refusal
from monitor.pipeline.commands import Command, CommandName
from monitor.pipeline.commit import ModelCommit, PipelineCommit
from monitor.pipeline.effects import DeadLetter
from monitor.reference.subjects import FEATURES, NewReference, answers_of
from monitor.service.journal import Journal
from monitor.spec import Severity
from monitor.stream.types import Partition
from tests.monitor.kit import SECOND, T0, Run, a_core, a_model

SERVING = Serving(champion="v1", previous=None)
AFTER = replace(SERVING, champion="v2", previous="v1", challengers=(Route("v3", 500),))
NOWHERE = Partition("events", 3)


def an_episode(kind: AlertKind = AlertKind.METRIC, name: str = "errors") -> SimpleEpisode:
    return SimpleEpisode(Subject("heat", "v1", kind, name))


def began() -> AlertRecord:
    return an_episode().fire(Severity.CRITICAL, "error_rate 0.4 is above 0.3", T0, T0)


def changed() -> AlertRecord:
    return replace(began(), begins=False, severity=Severity.WARNING)


def ended() -> AlertRecord:
    episode = an_episode()
    episode.fire(Severity.WARNING, "error_rate 0.4 is above 0.3", T0, T0)
    record = episode.resolve("back to normal", T0 + SECOND)
    assert record is not None
    return record


def a_decision() -> Decision:
    return Decision("heat", 2, T0, Reason.RULE_BREACHED, "abc", AFTER, "heat/0")


def a_letter(offset: int = 7, reason: Refusal = Refusal.NOT_JSON) -> DeadLetter:
    return DeadLetter(NOWHERE, offset, reason, "line 1: no JSON", T0, b"{")


def a_commit(
    published: Sequence[AlertRecord | Decision] = (),
    letters: Sequence[DeadLetter] = (),
    references: Sequence[NewReference] = (),
    answers: Sequence[tuple[int, str]] = (),
) -> PipelineCommit:
    empty = Run(a_core(a_model("heat"))).commit()
    return replace(
        empty, published=list(published), dead_letters=list(letters), commands=list(answers),
        models={"heat": ModelCommit(references=list(references))},
    )  # fmt: skip


def lines(*commits: tuple[PipelineCommit, float], orders: Sequence[Command] = ()) -> list[dict[str, Any]]:
    journal = Journal({"heat": SERVING})
    with structlog.testing.capture_logs() as found:
        for commit, now in commits:
            journal.tell(commit, orders, now)
    return [dict(line) for line in found]


NOTHING_LEARNED = Profile((), 500, ordered=True)
ORDER = Command(4, "heat", CommandName.SILENCE, {"for_ms": 1}, "known", who="ada")


@pytest.mark.parametrize(
    ("commit", "orders", "event", "level", "says"),
    [
        (a_commit([began()]), (), "alert.began", "error", {"kind": "metric", "model": "heat", "version": "v1"}),
        (a_commit([began()]), (), "alert.began", "error", {"summary": "error_rate 0.4 is above 0.3", "rule": "errors"}),
        (a_commit([changed()]), (), "alert.changed", "warning", {"severity": "warning"}),
        (a_commit([ended()]), (), "alert.ended", "info", {"summary": "back to normal"}),
        (a_commit([replace(began(), silenced=True)]), (), "alert.began", "error", {"silenced": True}),
        (a_commit([a_decision()]), (), "decision.made", "warning", {"before": "v1", "after": "v2, v3 5 %"}),
        (a_commit([a_decision()]), (), "decision.made", "warning", {"reason": "rule_breached", "alert": "abc"}),
        (
            a_commit(letters=[a_letter()]), (), "record.refused", "warning",
            {"reason": "not_json", "topic": "events", "partition": 3, "offset": 7, "detail": "line 1: no JSON"},
        ),
        (
            a_commit(references=[NewReference(FEATURES, NOTHING_LEARNED)]), (), "reference.in_force", "info",
            {"model": "heat", "rows": 500},
        ),
        (
            a_commit(references=[NewReference(answers_of("v2"), NOTHING_LEARNED)]), (), "reference.in_force", "info",
            {"subject": answers_of("v2")},
        ),
        (
            a_commit(answers=[(4, "silent until noon")]), (ORDER,), "order.applied", "info",
            {"name": "silence", "who": "ada", "reason": "known", "result": "silent until noon"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_one_event_is_exactly_one_line(
    commit: PipelineCommit, orders: Sequence[Command], event: str, level: str, says: dict[str, Any]
) -> None:
    (line,) = lines((commit, 0.0), orders=orders)

    assert (line["event"], line["log_level"]) == (event, level)
    assert says.items() <= line.items()


def test_the_next_decision_begins_where_the_last_one_ended() -> None:
    back = make_champion(AFTER, "v1")
    assert back is not None
    first, second = lines((a_commit([a_decision()]), 0.0), (a_commit([replace(a_decision(), serving=back)]), 1.0))

    assert second["before"] == first["after"]


def test_a_tier_that_answers_for_the_champion_is_named() -> None:
    fallen = replace(AFTER, challengers=(), active=Tier.RULES)
    (line,) = lines((a_commit([replace(a_decision(), serving=fallen)]), 0.0))

    assert line["after"] == "v2, level rules answers"


def test_of_each_reason_to_refuse_the_first_record_a_minute_is_told_with_how_many_were_not() -> None:
    many = a_commit(letters=[a_letter(offset) for offset in range(5)] + [a_letter(9, Refusal.BAD_TIME)])

    found = lines((many, 0.0), (many, 30.0), (many, 61.0))

    assert [(line["reason"], line["offset"], line["more_before"]) for line in found] == [
        ("not_json", 0, 0), ("bad_time", 9, 0), ("not_json", 0, 9), ("bad_time", 9, 1),
    ]  # fmt: skip


def test_a_quiet_commit_writes_nothing() -> None:
    assert lines((a_commit(), 0.0)) == []
