"""Events: records in, columns out.

Each record is decoded once, by a format. What makes no sense is refused with a reason that names the field and the
value; the rest becomes columns, in the order of the batch, with texts replaced by codes. A value that an event can do
without is missing where it cannot be used. The normal case is a handful of passes over a list. Acceptance depends on
the records and the configuration only. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import compress, repeat
from operator import attrgetter, ne
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.types import IntArray
from monitor.events.answers import AnswerDecoder, by_model
from monitor.events.codes import SEGMENT_CODES, Codes, Labels, Variants
from monitor.events.columns import EventColumns, EventKind, Events, numbers_of
from monitor.events.features import FeatureDecoder
from monitor.events.formats.driftd import DriftdFormat
from monitor.events.formats.json_text import cut
from monitor.events.formats.types import Mended, RecordFormat
from monitor.events.records import record_types
from monitor.events.refusals import Aside, FieldFault, Refusal, Refused, SetAside
from monitor.events.schema import GREATEST_ID, SERVED_BY, ModelSchema, schema_of
from monitor.join.ids import hash_ids, model_seed
from monitor.spec import CoreSpec
from monitor.stream.types import Batch
from monitor.times import EARLIEST_EVENT, format_stamp, parse_times

Found = dict[int, Refusal | Aside | None]  # by position: None for a value that cannot be used

_NOBODY = -1
_SERVED_BY_CODE = {name: i for i, name in enumerate(SERVED_BY)}


class _Record(Protocol):
    """What of a decoded record is looked at by name here."""

    time: str | int | float
    model: str


class Decoded(NamedTuple):
    """What became of the records of a batch, each part in the order of the batch.

    Attributes:
        events: Columns of what is accepted.
        refused: What becomes dead letters.
        aside: What counts nowhere.
    """

    events: Events
    refused: list[Refused]
    aside: list[SetAside]


class _Index(dict[str, int]):
    """Name of a model → its index."""

    def __missing__(self, name: str) -> int:
        return _NOBODY


class EventDecoder:
    """Decodes batches. Owns the codes of segments and labels.

    Args:
        spec: The configuration of the core.
        variants: Codes of versions, shared with the models.
        seed: Of the hashes of request ids.

    Attributes:
        segments: Codes of segments.
        labels: Codes of labels, by model index.
    """

    def __init__(self, spec: CoreSpec, variants: Variants, seed: int) -> None:
        self._max_future, self._max_past = spec.max_future, spec.max_past
        self._ignores = not spec.refuse_unknown_models
        self._variants = variants
        # Models share segments, which are admitted by the widest panes.
        pane = max((model.window.pane for model in spec.models), default=0)
        self.segments = Codes("", "segment", spec.limits.segments, pane=pane, codes=SEGMENT_CODES)
        self.segments.admit("")  # code 0
        names = [model.name for model in spec.models]
        self._index = _Index((name, i) for i, name in enumerate(names))
        self._seeds = [model_seed(seed, name) for name in names]
        self._schemas = [schema_of(model) for model in spec.models]
        self._features = [FeatureDecoder(schema.ignored, spec.limits.features) for schema in self._schemas]
        self._answers = AnswerDecoder(spec.models, spec.limits)
        types = record_types(spec.limits.id_length)
        self._kinds = types.kinds
        self._format: RecordFormat = DriftdFormat(spec.limits, types, self.schema)

    @property
    def labels(self) -> list[Labels]:
        return self._answers.labels

    def schema(self, model: object) -> ModelSchema | None:
        """Return the schema of a model by its name, None for one that is not configured."""
        index = self._index.get(str(model), _NOBODY)
        return None if index == _NOBODY else self._schemas[index]

    def decode(self, batch: Batch, wall: int, keep_raw: Collection[int] = ()) -> Decoded:
        """Decode a batch. A record that is not accepted leaves no trace: no code is given to its texts.

        Args:
            batch: Records in the order of processing.
            wall: The time of day in milliseconds.
            keep_raw: Indexes of the models whose features are wanted undecoded too, for learning a reference.

        Returns:
            Columns of what is accepted, and what is not.
        """
        decoded = self._format.decode(batch.values)
        rows, records, refused, faults = decoded.rows, decoded.records, decoded.refused, decoded.faults
        aside = self._of_unknown_models(batch, refused)
        while True:
            found: Found = {}
            columns = self._columns(batch, rows, records, wall, keep_raw, found)
            if not found:
                events = _with_faults(columns, faults)
                return Decoded(events, [refused[row] for row in sorted(refused)], [aside[row] for row in sorted(aside)])
            for position, reason in found.items():
                row, record = rows[position], records[position]
                if isinstance(reason, Aside):
                    aside[row] = SetAside(row, reason, cut(record.model))
                elif reason is None and row not in faults:
                    records[position] = self._mended(batch, row, refused, faults)
                else:
                    refused[row] = self._explained(batch, row, record, reason)
            kept = [row not in refused and row not in aside for row in rows]
            rows, records = list(compress(rows, kept)), list(compress(records, kept))

    def _of_unknown_models(self, batch: Batch, refused: dict[int, Refused]) -> dict[int, SetAside]:
        """Take records of models that are not configured out of those that a format refuses: nobody reads them."""
        found: dict[int, SetAside] = {}
        for row in list(refused) if self._ignores else ():
            model = self._format.model_of(batch.values[row])
            if model is not None and model not in self._index:
                found[row] = SetAside(row, Aside.IGNORED, cut(model))
                del refused[row]
        return found

    def _mended(
        self, batch: Batch, row: int, refused: dict[int, Refused], faults: dict[int, tuple[FieldFault, ...]]
    ) -> Any:
        """Return a record without the values that cannot be used; None where it is refused for them."""
        match self._format.mend(batch.values[row]):
            case Mended(record, its):
                faults[row] = its
                return record
            case (reason, detail):
                refused[row] = Refused(row, reason, detail)
        return None

    def _explained(self, batch: Batch, row: int, record: _Record, reason: Refusal | None) -> Refused:
        match reason:
            case Refusal.UNKNOWN_MODEL:
                return Refused(row, reason, f"model: {record.model!r}: not in the configuration")
            case Refusal.TIME_IN_FUTURE | Refusal.TIME_IN_PAST:
                stamp = int(batch.timestamp[row])
                written = f", the record is of {format_stamp(stamp) or stamp}" if stamp >= 0 else ""
                where = "future" if reason is Refusal.TIME_IN_FUTURE else "past"
                return Refused(row, reason, f"time: {record.time!r}: too far in the {where}{written}")
        return Refused(row, Refusal.BAD_VALUE, "a value is out of range")

    def place(self, events: Events) -> None:
        """Note at which effective times texts were seen that wait for admission (`admission`).

        Args:
            events: What `decode` returned, with their effective times.
        """
        self._variants.place(events.variant, events.effective_time)
        self.segments.place(events.segment, events.effective_time)
        for model, labels in enumerate(self.labels):
            if labels.codes.waits:
                mine = np.flatnonzero(events.model == model)
                labels.codes.place(events.value[mine], events.effective_time[mine])

    # -- columns -----------------------------------------------------------------------------------------

    def _columns(
        self,
        batch: Batch,
        rows: list[int],
        records: list[Any],
        wall: int,
        keep_raw: Collection[int],
        found: Found,
    ) -> Events:
        """Return the columns; or, where that leaves something in `found`, columns that are of no use."""
        count = len(records)
        kind_of = self._kinds.__getitem__
        kinds = np.fromiter(map(kind_of, map(type, records)), np.uint8, count)
        predictions = np.flatnonzero(kinds == EventKind.SERVED)
        outcomes = np.flatnonzero(kinds == EventKind.OUTCOME)
        resources = np.flatnonzero(kinds == EventKind.RESOURCES)
        row = np.array(rows, np.int64)
        c = EventColumns(count)
        c.time = self._times(batch, row, records, wall, found)
        c.model = np.fromiter(map(self._index.__getitem__, map(attrgetter("model"), records)), np.int64, count)
        for i in np.flatnonzero(c.model == _NOBODY).tolist():
            if self._ignores:
                found[i] = Aside.IGNORED  # whatever else may be wrong with it
            else:
                found.setdefault(i, Refusal.UNKNOWN_MODEL)
        if found:
            return c.events(row, kinds)
        said: list[Any] = records if len(predictions) == count else [records[i] for i in predictions.tolist()]
        told: list[Any] = [records[i] for i in outcomes.tolist()]
        self._answers.numbers(c, predictions, said, "prediction", found)
        self._answers.numbers(c, outcomes, told, "actual", found)
        if None in map(attrgetter("prediction"), said):
            for i, record in zip(predictions.tolist(), said, strict=True):
                if record.prediction is None and record.error is None:
                    found[i] = None
        if not found:
            self._decode_features(c, predictions, said, keep_raw, found)
        if not found:
            self._hash(c, np.flatnonzero(kinds != EventKind.RESOURCES), records, len(resources) == 0, found)
        if not found:
            _find_synthetic(predictions, said, found)
            _find_synthetic(outcomes, told, found)
        if found:
            return c.events(row, kinds)
        # From here on texts are given codes, in the order of events, so that it does not matter how the stream was cut.
        self._variant_codes(c, kinds, records)
        self._prediction_columns(c, predictions, said)
        self._answers.classes(c, kinds, records)
        for i, record in zip(outcomes.tolist(), told, strict=True):
            c.metrics[i] = record.metrics or None
        self._resources(c, resources, [records[i] for i in resources.tolist()])
        served = np.fromiter(map(attrgetter("served"), said), np.bool_, len(said))
        kinds[predictions[~served]] = EventKind.UNSERVED
        return c.events(row, kinds)

    def _times(self, batch: Batch, row: IntArray, records: list[Any], wall: int, found: Found) -> IntArray:
        times = parse_times(list(map(attrgetter("time"), records)))
        written = batch.timestamp[row]
        # A record that claims to be of the future proves nothing: not later than the clock on the wall.
        stamp = np.where((written < 0) | (written > wall), wall, written)
        if self._max_past is not None:
            # The record's own timestamp and no clock: a replay refuses the same.
            for i in np.flatnonzero((written >= 0) & (times < written - self._max_past)).tolist():
                found[i] = Refusal.TIME_IN_PAST
        for i in np.flatnonzero(times < EARLIEST_EVENT).tolist():  # UNREADABLE as well
            found[i] = None
        for i in np.flatnonzero(times > stamp + self._max_future).tolist():
            found[i] = Refusal.TIME_IN_FUTURE
        return times

    def _decode_features(
        self,
        c: EventColumns,
        at: IntArray,
        said: list[Any],
        keep_raw: Collection[int],
        found: Found,
    ) -> None:
        raws = list(map(attrgetter("features"), said))
        for model, mine in by_model(c.model[at]):
            picked = raws if len(mine) == len(raws) else [raws[i] for i in mine.tolist()]
            c.features[model], bad = self._features[model].decode(picked, keep_raw=model in keep_raw)
            c.feature_row[at[mine]] = np.arange(len(mine))
            for i in bad:
                found[int(at[mine[i]])] = None

    def _variant_codes(self, c: EventColumns, kinds: NDArray[np.uint8], records: list[Any]) -> None:
        """Fill the codes of versions. An outcome has none: it waits under the code of its model."""
        outcome = kinds == EventKind.OUTCOME
        if not outcome.any():
            versions = map(attrgetter("model", "version"), records)
            c.variant[:] = np.fromiter(map(self._variants.__getitem__, versions), np.uint16, len(records))
            return
        of_model = np.array([self._variants.of_model(i) for i in range(len(self._index))], np.uint16)
        c.variant[outcome] = of_model[c.model[outcome]]
        named = list(compress(records, (~outcome).tolist()))
        versions = map(attrgetter("model", "version"), named)
        c.variant[~outcome] = np.fromiter(map(self._variants.__getitem__, versions), np.uint16, len(named))

    def _hash(self, c: EventColumns, at: IntArray, records: list[Any], all_of_them: bool, found: Found) -> None:
        hashed = records if all_of_them else [records[i] for i in at.tolist()]
        ids = list(map(attrgetter("request_id"), hashed))
        try:
            c.lo[at], c.hi[at] = hash_ids(ids, self._seeds_of(c.model[at]))
        except TypeError:  # integers among them
            large = [i for i, its in zip(at.tolist(), ids, strict=True) if type(its) is int and its > GREATEST_ID]
            found.update(dict.fromkeys(large))
            c.lo[at], c.hi[at] = hash_ids(list(map(str, ids)), self._seeds_of(c.model[at]))

    def _seeds_of(self, models: IntArray) -> Iterator[int]:
        return map(self._seeds.__getitem__, models.tolist()) if len(self._seeds) > 1 else repeat(self._seeds[0])

    def _prediction_columns(self, c: EventColumns, at: IntArray, said: list[Any]) -> None:
        """Fill the columns that only predictions have."""
        count = len(said)
        served_by = map(_SERVED_BY_CODE.__getitem__, map(attrgetter("served_by"), said))
        c.served_by[at] = np.fromiter(served_by, np.uint8, count)
        segments = list(map(attrgetter("segment"), said))
        if None in segments:
            segments = [segment or "" for segment in segments]
        c.segment[at] = np.fromiter(map(self.segments.__getitem__, segments), np.uint16, count)
        errors = list(map(attrgetter("error"), said))
        if errors.count(None) < count:
            # An empty text beside a prediction is a field that was left empty.
            c.failed[at] = [
                bool(error) or (error is not None and record.prediction is None)
                for error, record in zip(errors, said, strict=True)
            ]
        c.latency[at] = numbers_of(list(map(attrgetter("latency_ms"), said)))
        assigned = list(map(attrgetter("assigned"), said))
        elsewhere = np.fromiter(map(ne, assigned, map(attrgetter("version"), said)), np.bool_, count)
        for i in np.flatnonzero(elsewhere).tolist() if any(assigned) else ():
            c.contaminated[at[i]] = bool(assigned[i]) and said[i].served_by == "primary"
        metrics = list(map(attrgetter("metrics"), said))
        if any(metrics):
            c.metrics[at] = [given or None for given in metrics]
        batches = list(map(attrgetter("batch"), said))
        for i in compress(range(count), batches):
            c.batch_size[at[i]], c.batch_ms[at[i]] = batches[i].size, batches[i].ms

    def _resources(self, c: EventColumns, at: IntArray, reports: list[Any]) -> None:
        for i, report in zip(at.tolist(), reports, strict=True):
            amounts = (report.memory_mb, report.cpu_percent, report.gpu_percent)
            c.resources[i] = [np.nan if amount is None else amount for amount in amounts]


def _find_synthetic(at: IntArray, records: list[Any], found: Found) -> None:
    """Note the positions of events that say that they are synthetic."""
    said = list(map(attrgetter("synthetic"), records))
    if any(said):
        found.update(dict.fromkeys(compress(at.tolist(), said), Aside.SYNTHETIC))


def _with_faults(events: Events, faults: dict[int, tuple[FieldFault, ...]]) -> Events:
    """Fill the column `faults`; `faults` are by row."""
    for i, row in enumerate(events.row.tolist()) if faults else ():
        events.faults[i] = faults.get(row) or None
    return events
