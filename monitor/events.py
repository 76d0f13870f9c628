"""Events: bytes in, columns out.

Each record is decoded once. What is not finite, known and bounded is refused with a reason that names the
field and the value; the rest becomes columns, in the order of the batch, with texts replaced by codes. The
normal case is a handful of passes over a list; `refusals.examine` explains the others one by one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import chain, compress, repeat
from operator import attrgetter
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.types import BoolArray, FloatArray, IntArray
from monitor.catalog import NEGATIVE, POSITIVE, UNKNOWN, Codes, Labels, Variants
from monitor.features import FeatureReader, FeatureRows
from monitor.join.ids import hash_ids, model_seed
from monitor.refusals import LARGEST_INTEGER, SERVED_BY, Refusal, Refused, examine
from monitor.spec import CoreSpec, Task
from monitor.stream.types import Batch
from monitor.times import UNREADABLE, format_time, parse_times

_DECODE_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
_SERVED_BY_CODE = {name: i for i, name in enumerate(SERVED_BY)}


class Kind(IntEnum):
    """What an event is. The first three are what the join knows (`join.rows.Kind`)."""

    SERVED = 0
    UNSERVED = 1
    OUTCOME = 2
    RESOURCES = 3


@dataclass(frozen=True, slots=True)
class Events:
    """Accepted events of a batch in order, as columns of equal length.

    `row` is the record's position in the batch. A prediction's `value` is its number or the code of its
    label, NaN without one; an outcome's is the actual one. What an event has not is NaN, 0 or None.
    """

    row: IntArray
    kind: NDArray[np.uint8]
    model: IntArray
    variant: NDArray[np.uint16]
    time: IntArray
    lo: NDArray[np.uint64]
    hi: NDArray[np.uint64]
    value: FloatArray
    score: FloatArray
    segment: NDArray[np.uint16]
    served_by: NDArray[np.uint8]
    failed: BoolArray
    contaminated: BoolArray
    latency: FloatArray
    batch_size: FloatArray
    batch_ms: FloatArray
    resources: FloatArray  # (events, 3): memory in MB, CPU and GPU in percent
    metrics: NDArray[np.object_]  # dict or None
    feature_row: IntArray  # row of the event in its model's features, -1 for what is not a prediction
    features: Mapping[int, FeatureRows]  # by model

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: IntArray) -> Events:
        """These events; the features stay whole, `feature_row` still points into them."""
        return Events(**{f.name: _taken(getattr(self, f.name), rows) for f in fields(self)})


def _taken(column: Any, rows: IntArray) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else column


class _Decoded(Protocol):
    """What the decoder makes of a record; an outcome and resources have a part of it."""

    request_id: str
    time: str | int | float
    model: str


class EventDecoder:
    """Decodes batches. Owns the codes of segments and labels; readers of features are given to it."""

    def __init__(self, spec: CoreSpec, variants: Variants, seed: int) -> None:
        self._limits = spec.limits
        self._max_future = spec.max_future
        self._variants = variants
        self.segments = Codes("", "segment", spec.limits.segments)
        self.segments[""]  # code 0
        self._tasks = [model.task for model in spec.models]
        self._thresholds = [model.threshold for model in spec.models]
        self._names = [model.name for model in spec.models]
        self._index = {name: i for i, name in enumerate(self._names)}
        self.labels = [
            Labels(m.name, spec.limits.labels, binary=m.task is Task.BINARY, positive=m.positive) for m in spec.models
        ]
        self.readers: list[FeatureReader] = [
            FeatureReader(None, m.feature_kinds, spec.limits.features, learning=False) for m in spec.models
        ]
        self._seeds = [model_seed(seed, name) for name in self._names]
        self._types = _event_types(spec.limits.id_length)
        self._decode = msgspec.json.Decoder(self._types.any).decode

    def decode(self, batch: Batch, wall: int) -> tuple[Events, list[Refused]]:
        """Columns of what is accepted, and the refused records in order. `wall` is the time of day in ms."""
        refused: dict[int, Refused] = {}
        rows, events = self._decoded(batch.values, refused)
        while True:
            found: dict[int, Refusal | None] = {}
            columns = self._columns(batch, rows, events, wall, found)
            if not found:
                return columns, [refused[row] for row in sorted(refused)]
            for position, reason in found.items():
                row = rows[position]
                refused[row] = self._explained(batch, row, events[position], reason)
            kept = [i not in found for i in range(len(rows))]
            rows, events = list(compress(rows, kept)), list(compress(events, kept))

    def _decoded(self, values: Sequence[bytes | None], refused: dict[int, Refused]) -> tuple[list[int], list[_Decoded]]:
        decode, most = self._decode, self._limits.event_bytes
        if all(values) and max(map(len, values), default=0) <= most:  # type: ignore[arg-type]  # none is None
            try:
                events = list(map(decode, values))  # type: ignore[arg-type]  # none is None
            except _DECODE_FAULTS:
                pass
            else:
                rows = list(range(len(values)))
                return self._without_nul(values, rows, events, refused)
        rows, events = [], []
        for row, raw in enumerate(values):
            try:
                if not raw or len(raw) > most:
                    raise msgspec.DecodeError
                events.append(decode(raw))
            except _DECODE_FAULTS as fault:
                reason, detail = examine(raw, self._limits) or (Refusal.NOT_JSON, str(fault))
                refused[row] = Refused(row, reason, detail)
            else:
                rows.append(row)
        return self._without_nul(values, rows, events, refused)

    def _without_nul(
        self, values: Sequence[bytes | None], rows: list[int], events: list[_Decoded], refused: dict[int, Refused]
    ) -> tuple[list[int], list[_Decoded]]:
        """JSON may spell a NUL that no database stores as text."""
        if b"\\" not in b"".join(values[row] for row in rows):  # type: ignore[misc]  # none is None
            return rows, events  # few events have a backslash, and looking for one byte is cheap
        suspects = [i for i, row in enumerate(rows) if b"\\u0000" in values[row]]  # type: ignore[operator]  # not None
        for i in reversed(suspects):
            row = rows[i]
            finding = examine(values[row], self._limits)
            if finding is not None:
                refused[row] = Refused(row, *finding)
                del rows[i], events[i]
        return rows, events

    def _explained(self, batch: Batch, row: int, event: _Decoded, reason: Refusal | None) -> Refused:
        match reason:
            case Refusal.UNKNOWN_MODEL:
                return Refused(row, reason, f"model: {event.model!r}: not in the configuration")
            case Refusal.TIME_IN_FUTURE:
                stamp = int(batch.timestamp[row])
                written = f", the record is of {format_time(stamp)}" if stamp >= 0 else ""
                return Refused(row, reason, f"time: {event.time!r}: too far in the future{written}")
        numeric = self._tasks[self._index[event.model]] is Task.REGRESSION
        finding = examine(batch.values[row], self._limits, numeric)
        return Refused(row, *(finding or (Refusal.BAD_VALUE, "a value is out of range")))

    # -- columns -----------------------------------------------------------------------------------------

    def _columns(
        self, batch: Batch, rows: list[int], events: list[_Decoded], wall: int, found: dict[int, Refusal | None]
    ) -> Events:
        count = len(events)
        kind_of = self._types.kinds.__getitem__
        kinds = np.fromiter(map(kind_of, map(type, events)), np.uint8, count)
        predictions = np.flatnonzero(kinds == Kind.SERVED)
        outcomes = np.flatnonzero(kinds == Kind.OUTCOME)
        resources = np.flatnonzero(kinds == Kind.RESOURCES)
        row = np.array(rows, np.int64)
        c = _Builder(count)
        c.time = self._times(batch, row, events, wall, found)
        said = list(compress(events, (kinds == Kind.SERVED).tolist())) if len(predictions) < count else events
        told = [events[i] for i in outcomes.tolist()]
        c.variant[predictions] = np.fromiter(
            map(self._variants.__getitem__, map(attrgetter("model", "version"), said)), np.uint16, len(said)
        )
        self._outcome_variants(c, outcomes, told, found)
        self._resources(c, resources, [events[i] for i in resources.tolist()])
        c.model = self._variants.model_of()[c.variant]
        for i in np.flatnonzero(c.model < 0).tolist():
            found.setdefault(i, Refusal.UNKNOWN_MODEL)
        if found:
            return c.events(row, kinds)
        self._hash(c, np.flatnonzero(kinds != Kind.RESOURCES), events, len(resources) == 0)
        self._answers(c, predictions, said)
        self._metrics(c, predictions, said, found)
        self._metrics(c, outcomes, told, found)
        self._values(c, predictions, said, "prediction", found)
        for i in predictions[np.isnan(c.value[predictions]) & ~c.failed[predictions]].tolist():
            found.setdefault(i, None)
        self._values(c, outcomes, told, "actual", found)
        self._features(c, predictions, said, found)
        unserved = np.fromiter(map(attrgetter("served"), said), np.bool_, len(said))
        kinds[predictions[~unserved]] = Kind.UNSERVED
        return c.events(row, kinds)

    def _times(
        self, batch: Batch, row: IntArray, events: list[_Decoded], wall: int, found: dict[int, Refusal | None]
    ) -> IntArray:
        times = parse_times(list(map(attrgetter("time"), events)))
        stamp = batch.timestamp[row]
        # A record that claims to be of the future proves nothing: not later than the clock on the wall.
        stamp = np.where((stamp < 0) | (stamp > wall), wall, stamp)
        for i in np.flatnonzero(times == UNREADABLE).tolist():
            found[i] = None
        for i in np.flatnonzero(times > stamp + self._max_future).tolist():
            found[i] = Refusal.TIME_IN_FUTURE
        return times

    def _outcome_variants(
        self, c: _Builder, at: IntArray, told: list[_Decoded], found: dict[int, Refusal | None]
    ) -> None:
        """Outcomes carry no version: they wait under the code of their model."""
        if len(at):
            codes = {name: self._variants.of_model(i) for name, i in self._index.items()}
            c.variant[at] = [codes.get(event.model, UNKNOWN) for event in told]

    def _hash(self, c: _Builder, at: IntArray, events: list[Any], all_of_them: bool) -> None:
        hashed = events if all_of_them else [events[i] for i in at.tolist()]
        seeds: Iterator[int] = repeat(self._seeds[0])
        if len(self._seeds) > 1:
            seeds = map(self._seeds.__getitem__, c.model[at].tolist())
        c.lo[at], c.hi[at] = hash_ids(list(map(attrgetter("request_id"), hashed)), seeds)

    def _answers(self, c: _Builder, at: IntArray, said: list[Any]) -> None:
        """Columns that only predictions have."""
        count = len(said)
        served_by = map(_SERVED_BY_CODE.__getitem__, map(attrgetter("served_by"), said))
        c.served_by[at] = np.fromiter(served_by, np.uint8, count)
        segments = list(map(attrgetter("segment"), said))
        if None in segments:
            segments = [segment or "" for segment in segments]
        c.segment[at] = np.fromiter(map(self.segments.__getitem__, segments), np.uint16, count)
        c.failed[at] = [error is not None for error in map(attrgetter("error"), said)]
        c.latency[at] = _numbers(list(map(attrgetter("latency_ms"), said)))
        assigned = list(map(attrgetter("assigned"), said))
        if any(assigned):
            c.contaminated[at] = [
                a is not None and a != event.version and event.served_by == "primary"
                for a, event in zip(assigned, said, strict=True)
            ]
        batches = list(map(attrgetter("batch"), said))
        for i in compress(range(count), batches):
            c.batch_size[at[i]], c.batch_ms[at[i]] = batches[i].size, batches[i].ms

    def _resources(self, c: _Builder, at: IntArray, reports: list[Any]) -> None:
        for i, report in zip(at.tolist(), reports, strict=True):
            c.variant[i] = self._variants[report.model, report.version]
            amounts = (report.memory_mb, report.cpu_percent, report.gpu_percent)
            c.resources[i] = [np.nan if amount is None else amount for amount in amounts]

    def _metrics(self, c: _Builder, at: IntArray, events: list[Any], found: dict[int, Refusal | None]) -> None:
        metrics = list(map(attrgetter("metrics"), events))
        given = [values for values in metrics if values]
        if not given:
            return
        c.metrics[at] = metrics
        flat = _numbers(list(chain.from_iterable(map(dict.values, given))))
        if (np.abs(flat) > LARGEST_INTEGER).any():
            # A large whole number is fine as a float and a fault as an integer: only the text can tell.
            for i, values in zip(at.tolist(), metrics, strict=True):
                if values and any(v is not None and abs(v) > LARGEST_INTEGER for v in values.values()):
                    found[i] = None

    def _values(
        self, c: _Builder, at: IntArray, events: list[Any], field: str, found: dict[int, Refusal | None]
    ) -> None:
        values = list(map(attrgetter(field), events))
        models = c.model[at]
        for model in np.unique(models).tolist():
            mine = np.flatnonzero(models == model)
            picked, its = (values, events) if len(mine) == len(values) else (
                [values[i] for i in mine.tolist()], [events[i] for i in mine.tolist()]
            )  # fmt: skip
            rows = at[mine]
            if self._tasks[model] is Task.REGRESSION:
                numbers, bad = _regression(picked)
                c.value[rows] = numbers
            else:
                codes, scores, bad = self._classified(model, picked, its, predicted=field == "prediction")
                c.value[rows], c.score[rows] = codes, scores
            for i in bad:
                found[int(rows[i])] = None

    def _classified(
        self, model: int, values: list[Any], events: list[Any], *, predicted: bool
    ) -> tuple[FloatArray, FloatArray, list[int]]:
        """(label codes, scores, positions to refuse). A score is P(positive), or that of the predicted class."""
        labels, binary = self.labels[model], self._tasks[model] is Task.BINARY
        code = labels.code
        codes = np.array([np.nan if v is None else code(v) for v in values], np.float64)
        scores = np.full(len(values), np.nan)
        kinds = set(map(type, values))
        bad = []
        if int in kinds:
            bad = [i for i, v in enumerate(values) if type(v) is int and abs(v) > LARGEST_INTEGER]
        if not predicted:
            return codes, scores, bad
        if binary and float in kinds:
            for i, v in enumerate(values):
                # Between the labels 0 and 1 lies a probability of the positive class.
                if type(v) is float and 0 < v < 1:
                    codes[i] = POSITIVE if v >= self._thresholds[model] else NEGATIVE
                    scores[i] = v
        given = list(map(attrgetter("scores"), events))
        for i in compress(range(len(given)), given):
            scores[i] = self._score(labels, given[i], values[i], binary=binary)
        return codes, scores, bad

    def _score(self, labels: Labels, scores: Mapping[str, float], predicted: object, *, binary: bool) -> float:
        if not binary:
            if predicted is None:
                return float("nan")
            wanted = labels.code(predicted)
            return next((p for name, p in scores.items() if labels.code(name) == wanted), float("nan"))
        return next((p for name, p in scores.items() if labels.is_positive(name)), float("nan"))

    def _features(self, c: _Builder, at: IntArray, said: list[Any], found: dict[int, Refusal | None]) -> None:
        raws = list(map(attrgetter("features"), said))
        models = c.model[at]
        for model in np.unique(models).tolist():
            mine = np.flatnonzero(models == model)
            picked = raws if len(mine) == len(raws) else [raws[i] for i in mine.tolist()]
            c.features[model], bad = self.readers[model].read(picked)
            c.feature_row[at[mine]] = np.arange(len(mine))
            for i in bad:
                found[int(at[mine[i]])] = None


class _Builder:
    """Columns while they are filled."""

    def __init__(self, count: int) -> None:
        self.time = np.zeros(count, np.int64)
        self.model = np.zeros(count, np.int64)
        self.variant = np.zeros(count, np.uint16)
        self.lo = np.zeros(count, np.uint64)
        self.hi = np.zeros(count, np.uint64)
        self.value = np.full(count, np.nan)
        self.score = np.full(count, np.nan)
        self.segment = np.zeros(count, np.uint16)
        self.served_by = np.zeros(count, np.uint8)
        self.failed = np.zeros(count, np.bool_)
        self.contaminated = np.zeros(count, np.bool_)
        self.latency = np.full(count, np.nan)
        self.batch_size = np.full(count, np.nan)
        self.batch_ms = np.full(count, np.nan)
        self.resources = np.full((count, 3), np.nan)
        self.metrics = np.full(count, None, np.object_)
        self.feature_row = np.full(count, -1, np.int64)
        self.features: dict[int, FeatureRows] = {}

    def events(self, row: IntArray, kinds: NDArray[np.uint8]) -> Events:
        return Events(row=row, kind=kinds, **vars(self))


def _numbers(values: list[float | None]) -> FloatArray:
    try:
        return np.fromiter(values, np.float64, len(values))
    except TypeError:
        return np.array(values, np.float64)


def _regression(values: list[Any]) -> tuple[FloatArray, list[int]]:
    """(numbers, positions to refuse); None is NaN."""
    kinds = set(map(type, values))
    bad: list[int] = []
    if not kinds <= {int, float, type(None)}:
        bad = [i for i, v in enumerate(values) if isinstance(v, bool | str)]
        values = [None if isinstance(v, bool | str) else v for v in values]
    if int in kinds:
        bad += [i for i, v in enumerate(values) if type(v) is int and abs(v) > LARGEST_INTEGER]
        values = [None if type(v) is int and abs(v) > LARGEST_INTEGER else v for v in values] if bad else values
    return _numbers(values), bad


@dataclass(frozen=True, slots=True)
class _Types:
    any: Any
    kinds: Mapping[type, int]


def _event_types(id_length: int) -> _Types:
    """The structs that records are decoded into; what they can check is checked in C."""
    ident = Annotated[str, msgspec.Meta(min_length=1, max_length=id_length)]
    text = Annotated[str, msgspec.Meta(max_length=id_length)]
    amount = Annotated[float, msgspec.Meta(ge=0, le=float(LARGEST_INTEGER))]
    probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
    time = str | int | float
    label = text | int | float | bool
    options: dict[str, Any] = {"tag_field": "type", "gc": False}
    batch = msgspec.defstruct("Batch", [("size", amount), ("ms", amount)], gc=False)
    prediction = msgspec.defstruct(
        "Prediction",
        [
            ("request_id", ident), ("time", time), ("model", ident), ("version", ident),
            ("schema", Literal[1], 1), ("assigned", text | None, None), ("served", bool, True),
            ("served_by", Literal[SERVED_BY], "primary"), ("segment", text | None, ""),
            ("features", msgspec.Raw, msgspec.Raw(b"")), ("prediction", label | None, None),
            ("scores", dict[str, probability] | None, None), ("latency_ms", amount | None, None),
            ("error", text | None, None), ("metrics", dict[str, float | None] | None, None),
            ("batch", batch | None, None),
        ],
        tag="prediction", **options,
    )  # fmt: skip
    outcome = msgspec.defstruct(
        "Outcome",
        [
            ("request_id", ident), ("time", time), ("model", ident), ("actual", label), ("schema", Literal[1], 1),
            ("metrics", dict[str, float | None] | None, None),
        ],
        tag="outcome", **options,
    )  # fmt: skip
    resources = msgspec.defstruct(
        "Resources",
        [
            ("model", ident), ("version", ident), ("time", time), ("schema", Literal[1], 1),
            ("memory_mb", amount | None, None), ("cpu_percent", amount | None, None),
            ("gpu_percent", amount | None, None),
        ],
        tag="resources", **options,
    )  # fmt: skip
    return _Types(
        prediction | outcome | resources,
        {prediction: Kind.SERVED, outcome: Kind.OUTCOME, resources: Kind.RESOURCES},
    )
