"""What follows from records and commands, as values: alerts, decisions, dead letters, answers to operators.

Pure. The pipeline returns effects, whoever drives it gathers them until the next commit, and the commit writes
them to the outbox.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from fallback.types import Decision
from monitor.alerting.records import AlertRecord
from monitor.events.refusals import Refusal
from monitor.stream.types import Partition
from monitor.times import format_stamp

DEAD_LETTER_SCHEMA: Final = 1
_RAW_BYTES: Final = 64 << 10  # of a refused record that its dead letter carries


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, with where it lay and why."""

    partition: Partition
    offset: int
    reason: Refusal
    detail: str
    time: int  # ms, below zero where nothing is known
    raw: bytes | None

    def document(self) -> dict[str, Any]:
        """As published."""
        raw = self.raw or b""
        return {
            "schema": DEAD_LETTER_SCHEMA,
            "topic": self.partition.topic,
            "partition": self.partition.number,
            "offset": self.offset,
            "reason": self.reason.value,
            "detail": self.detail,
            "time": format_stamp(self.time),
            "raw": base64.b64encode(raw[:_RAW_BYTES]).decode(),
            "truncated": len(raw) > _RAW_BYTES,
        }


@dataclass(slots=True)
class Effects:
    """Everything that followed from some records or commands and is not committed yet.

    Attributes:
        published: Alert records and decisions, in the order of the stream.
        dead_letters: Refused records, in the order of the batch.
        commands: (id of the command, what came of it).
        records: How many records were processed.
        heard: Partitions of which accepted events were processed.
    """

    published: list[AlertRecord | Decision] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    commands: list[tuple[int, str]] = field(default_factory=list)
    records: int = 0
    heard: set[Partition] = field(default_factory=set)

    def extend(self, later: Effects) -> None:
        """Append what followed afterwards."""
        self.published += later.published
        self.dead_letters += later.dead_letters
        self.commands += later.commands
        self.records += later.records
        self.heard |= later.heard
