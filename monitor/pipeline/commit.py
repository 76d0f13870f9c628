"""What one commit writes, and what the database has: values between the pipeline and the store.

Pure. A commit holds what changed since the last one. It can be written again if that fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from detectors.reference import Profile
from fallback.types import Decision
from monitor.aggregation.panes import Fragment
from monitor.alerting.records import AlertRecord
from monitor.evaluation.history import HistoryRow
from monitor.events.codes import Entry
from monitor.join.log import AliveRow, ClosedRow, JoinCommit, SegmentRow
from monitor.pipeline.effects import DeadLetter
from monitor.pipeline.status import Totals
from monitor.reference.provenance import RecordChanges
from monitor.reference.subjects import NewReference
from monitor.stream.types import Partition

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OutcomeRows:
    """Changed outcome panes of a version and its new windows; with `everything`, all that there is."""

    variant: int
    everything: bool
    arrays: Arrays


@dataclass(slots=True)
class ModelCommit:
    """What one commit writes of a model."""

    fragments: list[Fragment] = field(default_factory=list)
    first_panes: dict[int, int] = field(default_factory=dict)  # by variant: earlier ones have left the window
    outcomes: list[OutcomeRows] = field(default_factory=list)
    windows_reset: bool = False  # panes and outcomes of earlier commits are void
    learned: list[tuple[str, bytes]] = field(default_factory=list)
    forget_learned: list[str] = field(default_factory=list)
    references: list[NewReference] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)  # references of these subjects are not in force any more
    records: RecordChanges = field(default_factory=RecordChanges)
    history: list[HistoryRow] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class PipelineCommit:
    """All that one commit writes, in one transaction."""

    seq: int
    positions: Mapping[Partition, int]
    shard: Mapping[str, Any]
    join: JoinCommit
    codes: list[Entry]
    models: dict[str, ModelCommit]
    published: list[AlertRecord | Decision]  # in the order of the stream
    dead_letters: list[DeadLetter]
    totals: Totals
    commands: list[tuple[int, str]]  # (command, what came of it)
    watermark: int  # stream time, ms


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What the database has of a model: the rows of all earlier commits."""

    state: Mapping[str, Any]
    panes: Mapping[tuple[int, int], Sequence[bytes]]  # (variant, pane) → fragments in order of commits
    outcomes: Mapping[int, Sequence[Arrays]]  # variant → rows in order
    references: Mapping[str, Profile]
    learned: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database has: the rows of all earlier commits."""

    seq: int
    shard: Mapping[str, Any]
    totals: Mapping[str, Any]
    segments: Sequence[SegmentRow]
    alive: Sequence[AliveRow]
    closed: Sequence[ClosedRow]
    codes: Sequence[Entry]
    models: Mapping[str, ModelSnapshot]


@dataclass(frozen=True, slots=True)
class RestoreWarning:
    """Something that was stored and does not fit the configuration, for the log."""

    model: str
    event: str
    detail: str
