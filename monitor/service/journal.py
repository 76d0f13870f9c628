"""The log's lines about what happened: one for each alert record, decision, new reference, order and kind of refusal.

Shell in that it logs. It is told what was committed, so the log never says what a crash would undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from fallback.chain import answering
from fallback.types import Decision, Serving
from monitor.alerting.records import AlertRecord, AlertStatus
from monitor.events.refusals import Refusal
from monitor.names import shown_names
from monitor.pipeline.commands import Command
from monitor.pipeline.commit import PipelineCommit
from monitor.pipeline.effects import DeadLetter
from monitor.reference.subjects import FEATURES
from monitor.spec import Severity
from monitor.times import format_time

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 60.0  # between two lines about refusals for the same reason


class Journal:
    """Writes what commits contain to the log."""

    def __init__(self, serving: Mapping[str, Serving]) -> None:
        """Begin with who serves each model now."""
        self._serving = dict(serving)
        self._refused_at: dict[Refusal, float] = {}
        self._left_out: dict[Refusal, int] = {}

    def tell(self, commit: PipelineCommit, orders: Iterable[Command], now_s: float) -> None:
        """Log what a commit contains.

        Args:
            commit: What is in the database now.
            orders: The orders that were applied in it.
            now_s: Seconds of a clock that never goes back.
        """
        for what in commit.published:
            if isinstance(what, Decision):
                self._tell_decision(what)
            else:
                _tell_alert(what)
        for model, changes in commit.models.items():
            for new in changes.references:
                of = {} if new.subject == FEATURES else {"subject": new.subject}
                compared = len(shown_names(new.profile))
                log.info("reference.in_force", model=model, rows=new.profile.rows, features=compared, **of)
        results = dict(commit.commands)
        for order in orders:
            log.info(
                "order.applied", id=order.id, name=order.name.value, model=order.model, who=order.who,
                reason=order.reason, result=results.get(order.id),
            )  # fmt: skip
        self._tell_refused(commit.dead_letters, now_s)

    def _tell_decision(self, decision: Decision) -> None:
        before, after = self._serving.get(decision.model), decision.serving
        self._serving[decision.model] = after
        log.warning(
            "decision.made",
            model=decision.model,
            generation=decision.generation,
            reason=decision.reason.value,
            before=None if before is None else _told(before),
            after=_told(after),
            by=decision.by,
            alert=decision.cause,
        )

    def _tell_refused(self, letters: Sequence[DeadLetter], now_s: float) -> None:
        """Log the first refusal of each reason, and again after a minute with how many were left out."""
        for letter in letters:
            reason = letter.reason
            if now_s - self._refused_at.get(reason, float("-inf")) < _AGAIN_S:
                self._left_out[reason] = self._left_out.get(reason, 0) + 1
                continue
            self._refused_at[reason] = now_s
            log.warning(
                "record.refused", reason=reason.value, detail=letter.detail, topic=letter.partition.topic,
                partition=letter.partition.number, offset=letter.offset, more_before=self._left_out.pop(reason, 0),
            )  # fmt: skip


def _tell_alert(record: AlertRecord) -> None:
    ended = record.status is AlertStatus.RESOLVED
    event = "alert.ended" if ended else "alert.began" if record.begins else "alert.changed"
    tell = log.info if ended else log.error if record.severity is Severity.CRITICAL else log.warning
    fields: dict[str, Any] = {"rule": record.subject.name} if record.subject.name else {}
    tell(
        event, kind=record.subject.kind.value, severity=record.severity.value, model=record.subject.model,
        version=record.subject.version, summary=record.summary, since=format_time(record.starts_at), seq=record.seq,
        event_id=record.event_id, silenced=record.silenced, **fields,
    )  # fmt: skip


def _told(serving: Serving) -> str:
    """Return who answers, in short: the champion, shares of others, and the tier where it is not the primary one."""
    shares = "".join(f", {route.version} {route.weight / 100:g} %" for route in serving.challengers)
    tier = serving.active
    fallen = "" if answering(serving, tier) == serving.champion else f", level {tier.value} answers"
    return f"{serving.champion}{shares}{fallen}"
