"""What is stored with every commit: one struct for a model, one for what models share, each with a schema number.

Pure. A stored state of an earlier release is upgraded step by step before it is read; add a step to `_MODEL` or
`_SHARD` when a field changes its meaning. New fields with a default need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from monitor.alerting.daemon import DaemonAlertsState
from monitor.alerting.episodes import EpisodeState
from monitor.alerting.label_watch import SavedLabels
from monitor.alerting.numbering import NumberingState
from monitor.errors import SchemaTooNew
from monitor.evaluation.version_state import SavedVersion
from monitor.events.admission import SavedAdmission
from monitor.join.results import JoinCounts
from monitor.pipeline.blind_watch import SavedBlindWatch
from monitor.pipeline.late_watch import LateMinute
from monitor.reference.progress import ReferenceProgress
from monitor.reference.provenance import SavedRecords
from monitor.reference.rolling import SavedRoller
from monitor.saved import from_plain
from monitor.serving.state import ServingState
from monitor.stream.watermark import WatermarkState

SCHEMA: Final = 1
Plain = dict[str, Any]
Step = Callable[[Plain], Plain]


class SavedModel(msgspec.Struct, kw_only=True):
    """The state of a model, without panes, outcomes, learned rows and references, which are rows of their own.

    Attributes:
        schema: Of this struct.
        clock: Stream time at the end of the last batch, ms.
        last_event: Time of the latest event that stream time has reached, ms.
        coming: (first, last) times of runs of events that it has not reached the end of, ms.
        expected_from: Since when events are expected of a model that never had any, ms.
        shape: What panes are numbered and cut by.
        answers: What predictions and outcomes are.
        rate: Events per ms, where a budget in time meets windows counted in events.
        seen: Features that events had.
        relearning: Answers that an operator wants learned; 0: as configured.
        configured_reference: Digest of the file that was last put in force.
        no_data: The alert about missing events.
        records: Numbers of alert records, and silences.
        steering: Who serves.
        versions: By variant code, as text.
        reference_rows: Rows behind each reference in force, by subject; shown, not read.
        assumed: Why the promise of false alarms is only assumed, by version; shown, not read.
        reference: How far the reference of the features has come; shown, and read for since when it is in force.
        reference_records: Numbers of the records of references, and which are in force.
        rolling: How far references that are renewed have come, by subject.
        baseline_rows: Answers in the baseline of each version; shown, not read.
        admitted_labels: Which codes of labels are provisional, and which aliases.
        admitted_versions: The same of versions.
        removed_at: When the model was found to be configured no more, ms of the wall clock; None while it is.
        labels: Alerts about labels that cannot be compared.
        blind: What cannot be judged.
        notes: What the configuration leaves out; shown, not read.
    """

    schema: int = SCHEMA
    clock: int | None
    last_event: int | None
    shape: list[int | str]
    answers: list[str]
    rate: float | None
    seen: list[str]
    relearning: int
    configured_reference: str | None
    no_data: EpisodeState
    records: NumberingState
    steering: ServingState
    versions: dict[str, SavedVersion]
    reference_rows: dict[str, int] = {}
    reference: ReferenceProgress | None = None
    reference_records: SavedRecords = msgspec.field(default_factory=SavedRecords)
    rolling: dict[str, SavedRoller] = {}
    assumed: dict[str, list[str]] = {}
    baseline_rows: dict[str, int] = {}
    admitted_labels: SavedAdmission = msgspec.field(default_factory=SavedAdmission)
    admitted_versions: SavedAdmission = msgspec.field(default_factory=SavedAdmission)
    coming: list[tuple[int, int]] = []
    expected_from: int | None = None
    removed_at: int | None = None
    labels: SavedLabels = msgspec.field(default_factory=SavedLabels)
    blind: SavedBlindWatch = msgspec.field(default_factory=SavedBlindWatch)
    notes: list[str] = []


class SavedShard(msgspec.Struct, kw_only=True):
    """The state that models share.

    Attributes:
        schema: Of this struct.
        clock: The watermark.
        sampling: Requests whose hash is 0 modulo 2 to this power wait for outcomes.
        horizon: Requests closed before this stream time, ms, may be forgotten; None while all are remembered.
        counts: Of the join.
        begun: Whether models have begun.
        daemon: Alerts about the daemon itself.
        waiting_metrics: The user's own metrics of early outcomes, by request, as earlier releases stored them here.
        late: (topic, partition, late predictions in its latest minute).
        admitted_segments: Which codes of segments are provisional, and which aliases.
    """

    schema: int = SCHEMA
    clock: WatermarkState
    sampling: int
    horizon: int | None
    counts: JoinCounts
    begun: bool
    daemon: DaemonAlertsState
    waiting_metrics: dict[str, dict[str, float | None]]
    late: list[tuple[str, int, LateMinute]] = []
    admitted_segments: SavedAdmission = msgspec.field(default_factory=SavedAdmission)


def _from_0_1_0(saved: Plain) -> Plain:
    """0.1.0 wrote the same fields, without a number."""
    return {**saved, "schema": 1}


_MODEL: Final[Sequence[Step]] = (_from_0_1_0,)  # from schema 0, 1, …
_SHARD: Final[Sequence[Step]] = (_from_0_1_0,)


def read_model(saved: Mapping[str, Any]) -> SavedModel:
    """Read the stored state of a model. Raises `DamagedError`, or `SchemaTooNew` for one of a newer release."""
    return from_plain(_upgraded("the state of a model", saved, _MODEL), SavedModel)


def read_shard(saved: Mapping[str, Any]) -> SavedShard:
    """Read the stored state that models share. Raises as `read_model` does."""
    return from_plain(_upgraded("the state of the store", saved, _SHARD), SavedShard)


def _upgraded(what: str, saved: Mapping[str, Any], steps: Sequence[Step]) -> Plain:
    found = dict(saved)
    schema = found.get("schema", 0)
    if not isinstance(schema, int) or schema > len(steps):
        raise SchemaTooNew(what, schema, len(steps))
    for step in steps[schema:]:
        found = step(found)
    return found
