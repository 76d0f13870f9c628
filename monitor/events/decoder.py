"""Events: bytes in, columns out.

Each record is decoded once. What is not finite, known and bounded is refused with a reason that names the
field and the value; the rest becomes columns, in the order of the batch, with texts replaced by codes. The
normal case is a handful of passes over a list; `refusals.examine` explains the others one by one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import compress, repeat
from operator import attrgetter, contains, ne
from types import NoneType
from typing import Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.categorical import text_of
from detectors.types import BoolArray, FloatArray, IntArray
from monitor.events.codes import NEGATIVE, POSITIVE, Codes, Labels, Variants
from monitor.events.features import FeatureReader, FeatureRows, Whole
from monitor.events.refusals import LARGEST_INTEGER, SERVED_BY, Expected, Refusal, Refused, bad_text, examine
from monitor.join.ids import hash_ids, model_seed
from monitor.spec import CoreSpec, Task
from monitor.stream.types import Batch
from monitor.times import UNREADABLE, format_time, parse_times

_DECODE_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)
_NOBODY = -1
_SERVED_BY_CODE = {name: i for i, name in enumerate(SERVED_BY)}


class EventKind(IntEnum):
    """What an event is. The first three are what the join knows (`join.rows.EventKind`)."""

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


class _Index(dict[str, int]):
    """Name of a model → its number."""

    def __missing__(self, name: str) -> int:
        return _NOBODY


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
        self._index = _Index((name, i) for i, name in enumerate(self._names))
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
        """Columns of what is accepted, and the refused records in order. `wall` is the time of day in ms.

        A refused record leaves no trace: no code is given to its texts.
        """
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
                return self._without_bad_text(values, rows, events, refused)
        rows, events = [], []
        for row, raw in enumerate(values):
            try:
                if not raw or len(raw) > most:
                    raise msgspec.DecodeError
                events.append(decode(raw))
            except _DECODE_FAULTS as fault:
                reason, detail = examine(raw, self._limits, self._expected) or (Refusal.NOT_JSON, str(fault))
                refused[row] = Refused(row, reason, detail)
            else:
                rows.append(row)
        return self._without_bad_text(values, rows, events, refused)

    def _without_bad_text(
        self, values: Sequence[bytes | None], rows: list[int], events: list[_Decoded], refused: dict[int, Refused]
    ) -> tuple[list[int], list[_Decoded]]:
        """Two things that the decoder lets pass: a NUL, and bytes that are not UTF-8 in what it skips."""
        taken: Any = values if len(rows) == len(values) else [values[row] for row in rows]
        if all(map(bytes.isascii, taken)) and not any(map(contains, taken, repeat(b"\\u0000"))):
            return rows, events
        for i in reversed(range(len(rows))):
            row, raw = rows[i], values[rows[i]] or b""
            if b"\\u0000" in raw or not _is_utf8(raw):
                finding = bad_text(raw)
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
        finding = examine(batch.values[row], self._limits, self._expected)
        return Refused(row, *(finding or (Refusal.BAD_VALUE, "a value is out of range")))

    def _expected(self, model: object) -> Expected | None:
        """What a model makes of its events, None for one that is not configured."""
        index = self._index.get(str(model), _NOBODY)
        if index == _NOBODY:
            return None
        return Expected(self._tasks[index] is Task.REGRESSION, self.readers[index].looks_at)

    # -- columns -----------------------------------------------------------------------------------------

    def _columns(
        self, batch: Batch, rows: list[int], events: list[_Decoded], wall: int, found: dict[int, Refusal | None]
    ) -> Events:
        """The columns; or, where that leaves something in `found`, columns that are of no use."""
        count = len(events)
        kind_of = self._types.kinds.__getitem__
        kinds = np.fromiter(map(kind_of, map(type, events)), np.uint8, count)
        predictions = np.flatnonzero(kinds == EventKind.SERVED)
        outcomes = np.flatnonzero(kinds == EventKind.OUTCOME)
        resources = np.flatnonzero(kinds == EventKind.RESOURCES)
        row = np.array(rows, np.int64)
        c = _Builder(count)
        c.time = self._times(batch, row, events, wall, found)
        c.model = np.fromiter(map(self._index.__getitem__, map(attrgetter("model"), events)), np.int64, count)
        for i in np.flatnonzero(c.model == _NOBODY).tolist():
            found.setdefault(i, Refusal.UNKNOWN_MODEL)
        if found:
            return c.events(row, kinds)
        said: list[Any] = events if len(predictions) == count else [events[i] for i in predictions.tolist()]
        told: list[Any] = [events[i] for i in outcomes.tolist()]
        self._numbers(c, predictions, said, "prediction", found)
        self._numbers(c, outcomes, told, "actual", found)
        if None in map(attrgetter("prediction"), said):
            for i, event in zip(predictions.tolist(), said, strict=True):
                if event.prediction is None and event.error is None:
                    found[i] = None
        if not found:
            self._features(c, predictions, said, found)
        if found:
            return c.events(row, kinds)
        # From here on texts are given codes, in the order of events, so that it does not matter how the stream was cut.
        self._variant_codes(c, kinds, events)
        self._hash(c, np.flatnonzero(kinds != EventKind.RESOURCES), events, len(resources) == 0)
        self._answers(c, predictions, said)
        self._labels(c, kinds, events)
        for i, event in zip(outcomes.tolist(), told, strict=True):
            c.metrics[i] = event.metrics or None
        self._resources(c, resources, [events[i] for i in resources.tolist()])
        unserved = np.fromiter(map(attrgetter("served"), said), np.bool_, len(said))
        kinds[predictions[~unserved]] = EventKind.UNSERVED
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

    def _variant_codes(self, c: _Builder, kinds: NDArray[np.uint8], events: list[Any]) -> None:
        """Outcomes carry no version: they wait under the code of their model."""
        outcome = kinds == EventKind.OUTCOME
        if not outcome.any():
            versions = map(attrgetter("model", "version"), events)
            c.variant[:] = np.fromiter(map(self._variants.__getitem__, versions), np.uint16, len(events))
            return
        of_model = np.array([self._variants.of_model(i) for i in range(len(self._names))], np.uint16)
        c.variant[outcome] = of_model[c.model[outcome]]
        named = list(compress(events, (~outcome).tolist()))
        versions = map(attrgetter("model", "version"), named)
        c.variant[~outcome] = np.fromiter(map(self._variants.__getitem__, versions), np.uint16, len(named))

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
        errors = list(map(attrgetter("error"), said))
        if errors.count(None) < count:
            # An empty text beside a prediction is a field that was left empty.
            c.failed[at] = [
                bool(error) or (error is not None and event.prediction is None)
                for error, event in zip(errors, said, strict=True)
            ]
        c.latency[at] = _numbers(list(map(attrgetter("latency_ms"), said)))
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

    def _resources(self, c: _Builder, at: IntArray, reports: list[Any]) -> None:
        for i, report in zip(at.tolist(), reports, strict=True):
            amounts = (report.memory_mb, report.cpu_percent, report.gpu_percent)
            c.resources[i] = [np.nan if amount is None else amount for amount in amounts]

    def _numbers(
        self, c: _Builder, at: IntArray, events: list[Any], field: str, found: dict[int, Refusal | None]
    ) -> None:
        """What regressions predict, and what was actual."""
        values = list(map(attrgetter(field), events))
        for model, mine in self._by_model(c.model[at]):
            if self._tasks[model] is not Task.REGRESSION:
                continue
            picked = values if len(mine) == len(values) else [values[i] for i in mine.tolist()]
            if set(map(type, picked)) <= {int, float, NoneType}:
                c.value[at[mine]] = _numbers(picked)
            else:
                for i, value in zip(at[mine].tolist(), picked, strict=True):
                    if isinstance(value, bool | str):
                        found[i] = None

    def _by_model(self, models: IntArray) -> Iterator[tuple[int, IntArray]]:
        """(model, its rows)."""
        for model in np.unique(models).tolist():
            yield model, np.flatnonzero(models == model)

    def _labels(self, c: _Builder, kinds: NDArray[np.uint8], events: list[Any]) -> None:
        """What classifiers predict, and what was actual, in the order of events."""
        for model, rows in self._by_model(c.model):
            if self._tasks[model] is Task.REGRESSION:
                continue
            told = kinds == EventKind.OUTCOME
            at = rows[kinds[rows] != EventKind.RESOURCES]
            its = events if len(at) == len(events) else [events[i] for i in at.tolist()]
            if told[at].any():
                values = [e.actual if t else e.prediction for e, t in zip(its, told[at].tolist(), strict=True)]
                said = np.flatnonzero(~told[at])
                answers = [its[i] for i in said.tolist()]
            else:
                values, said, answers = list(map(attrgetter("prediction"), its)), np.arange(len(at)), its
            probable = self._probable(model, values, said)
            code = self.labels[model].code
            codes = [None if v is None else code(v) for v in values]
            scores = np.full(len(values), np.nan)
            for i, (label, score) in probable.items():
                codes[i], scores[i] = label, score
            c.value[at] = _numbers(codes)
            self._scores(model, scores, said, answers)
            c.score[at] = scores

    def _probable(self, model: int, values: list[Any], said: IntArray) -> dict[int, tuple[int, float]]:
        """Predictions of a binary task that are probabilities: (label, score) by position. Takes them out of `values`.

        Between the labels 0 and 1 lies a probability of the positive class; it is no label itself.
        """
        found: dict[int, tuple[int, float]] = {}
        if self._tasks[model] is not Task.BINARY or float not in set(map(type, values)):
            return found
        for i in said.tolist():
            value = values[i]
            if type(value) is float and 0 < value < 1:
                found[i] = (POSITIVE if value >= self._thresholds[model] else NEGATIVE, value)
                values[i] = None
        return found

    def _scores(self, model: int, scores: FloatArray, said: IntArray, answers: list[Any]) -> None:
        """A score is P(positive) of a binary task, else that of the predicted class; it is not always given."""
        given = list(map(attrgetter("scores"), answers))
        labels = self.labels[model]
        if not any(given):
            return
        if self._tasks[model] is Task.BINARY:
            for i, ps in compress(zip(said.tolist(), given, strict=True), given):
                scores[i] = next((p for name, p in ps.items() if labels.is_positive(name)), scores[i])
            return
        for i, answer in compress(zip(said.tolist(), answers, strict=True), given):
            scores[i] = _score_of(answer.prediction, answer.scores)

    def _features(self, c: _Builder, at: IntArray, said: list[Any], found: dict[int, Refusal | None]) -> None:
        raws = list(map(attrgetter("features"), said))
        models = c.model[at]
        for model, mine in self._by_model(models):
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


def _numbers(values: Sequence[float | None]) -> FloatArray:
    try:
        return np.fromiter(values, np.float64, len(values))
    except TypeError:
        return np.array(values, np.float64)


def _score_of(predicted: object, scores: Mapping[str, float]) -> float:
    """The probability of the predicted class; NaN where it is not among them."""
    if predicted is None:
        return np.nan
    text = text_of(predicted)
    if text in scores:
        return scores[text]
    return next((p for name, p in scores.items() if text_of(name) == text), np.nan)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Types:
    any: Any
    kinds: Mapping[type, int]


def _event_types(id_length: int) -> _Types:
    """The structs that records are decoded into; what they can check is checked in C."""
    ident = Annotated[str, msgspec.Meta(min_length=1, max_length=id_length)]
    text = Annotated[str, msgspec.Meta(max_length=id_length)]
    most = LARGEST_INTEGER
    amount = Annotated[int, msgspec.Meta(ge=0, le=most)] | Annotated[float, msgspec.Meta(ge=0, le=float(most))]
    probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
    time = str | Whole | float
    label = text | Whole | float | bool
    metrics = dict[str, Whole | float | None] | None
    options: dict[str, Any] = {"tag_field": "type", "gc": False}
    batch = msgspec.defstruct("Batch", [("size", amount), ("ms", amount)], gc=False)
    prediction = msgspec.defstruct(
        "Prediction",
        [
            ("request_id", ident), ("time", time), ("model", ident), ("version", ident),
            ("schema", Literal[1], 1), ("assigned", text | None, None), ("served", bool, True),
            ("served_by", Literal[SERVED_BY], "primary"), ("segment", text | None, ""),
            ("features", msgspec.Raw, msgspec.Raw(b"{}")), ("prediction", label | None, None),
            ("scores", dict[str, probability] | None, None), ("latency_ms", amount | None, None),
            ("error", text | None, None), ("metrics", metrics, None),
            ("batch", batch | None, None),
        ],
        tag="prediction", **options,
    )  # fmt: skip
    outcome = msgspec.defstruct(
        "Outcome",
        [
            ("request_id", ident), ("time", time), ("model", ident), ("actual", label), ("schema", Literal[1], 1),
            ("metrics", metrics, None),
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
        {prediction: EventKind.SERVED, outcome: EventKind.OUTCOME, resources: EventKind.RESOURCES},
    )
