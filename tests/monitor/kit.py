"""A core that tests drive by hand: specifications, events, and runs with and without a database.

A `Run` is a pipeline together with all that it has told. What two runs told can be compared with `==`: the
published records in order, dead letters, rows of the history, totals and the status document.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy.engine import Engine

from detectors.reference import Profile
from detectors.registry import MIN_EFFECT
from fallback.decisions import document as decision_document
from fallback.types import Decision, ServingSpec
from monitor.alerting.records import AlertRecord
from monitor.pipeline.commands import Command, CommandName
from monitor.pipeline.commit import PipelineCommit
from monitor.pipeline.merge import Holding
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.pipeline import Pipeline
from monitor.reference.learning import columns_of
from monitor.service.session import Session
from monitor.spec import (
    Bound,
    BudgetSpec,
    Consequence,
    CoreSpec,
    DriftSpec,
    LimitBasis,
    Limits,
    ModelSpec,
    OutcomesSpec,
    ReferenceSpec,
    RuleSpec,
    Severity,
    Task,
    WindowSpec,
)
from monitor.store import history, schema
from monitor.store import tables as t
from monitor.store.engine import insert
from monitor.store.subscriptions import STREAM_SUBSCRIPTION
from monitor.store.writer import SHARD, Claim, Gap, StoreWriter
from monitor.stream.partition_time import RECENT
from monitor.stream.types import Batch, Partition

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
T0: Final = 28_333_333 * MINUTE  # in November 2023, at the full minute
WALL: Final = T0 + 1_000 * HOUR
SEED: Final = 7
SMALL: Final = Limits(pending=5_000, seen=20_000)
Event = Mapping[str, Any]


# -- specifications --------------------------------------------------------------------------------------


def a_rule(
    name: str,
    metric: str,
    *,
    above: float | None = None,
    below: float | None = None,
    of: LimitBasis = LimitBasis.NOTHING,
    severity: Severity = Severity.WARNING,
    checks: int = 1,
    dwell: int = 0,
    then: Consequence = Consequence.NONE,
    hard: bool = False,
    min_n: int = 1,
) -> RuleSpec:
    """A rule; give `above` or `below`. `of` says what the limit is measured from."""
    bound, limit = (Bound.ABOVE, above) if above is not None else (Bound.BELOW, below)
    assert limit is not None
    return RuleSpec(name, metric, bound, limit, of, severity, checks, dwell, then, hard, min_n)


def timed(pane: int, span: int, *, longest: int = 0, min_events: int = 1) -> WindowSpec:
    """A window by time."""
    return WindowSpec(pane=pane, span=span, longest=longest or span, min_events=min_events)


def counted(events: int, every: int) -> WindowSpec:
    """A window of so many events, checked every so many."""
    return WindowSpec(events=events, every=every)


def some_outcomes(
    prediction_ttl: int = HOUR,
    *,
    outcome_ttl: int = 10 * MINUTE,
    min_coverage: float = 0.8,
    pane: int = 0,
    baseline_n: int = 50,
    concept_drift: str | None = None,
) -> OutcomesSpec:
    """Outcomes; `pane` is 0 where windows are counted."""
    return OutcomesSpec(prediction_ttl, outcome_ttl, min_coverage, pane, baseline_n, concept_drift, None)


def a_drift(alarms: float = 1, *, period: int = 0, events: int = 0, resolve_after: int = 3) -> DriftSpec:
    """All detectors of the default configuration, for one false alarm in so many checks' worth of stream."""
    budget = BudgetSpec(alarms, period or (0 if events else 30 * 24 * HOUR), events)
    return DriftSpec(("ks", "wasserstein"), ("chi_square", "jensen_shannon"), budget, MIN_EFFECT, resolve_after)


def a_model(name: str = "m", task: Task = Task.REGRESSION, **parts: Any) -> ModelSpec:
    """A model with a champion v1, windows of 100 answers, and nothing else unless `parts` say so."""
    plain = ModelSpec(
        name=name,
        task=task,
        positive=None,
        threshold=0.5,
        agreement_tolerance=0.1,
        reference=ReferenceSpec(None, 0, 256),
        feature_kinds={},
        window=counted(100, 50),
        drift=None,
        outcomes=None,
        rules=(),
        recover_after=0,
        no_data_after=0,
        serving=ServingSpec("v1"),
    )
    return replace(plain, **parts)


def learned(rows: int) -> ReferenceSpec:
    """A reference learned from the first answers."""
    return ReferenceSpec(None, rows, 256)


def rolled(rows: int, length: int) -> ReferenceSpec:
    """A reference learned from the first answers, and renewed from the latest stretch of this length in ms."""
    return ReferenceSpec(None, rows, 256, rolling=length)


def from_file() -> ReferenceSpec:
    """A reference that a run is given as `profiles`."""
    return ReferenceSpec("given", 0, 256)


def a_core(*models: ModelSpec, lateness: int = 0, limits: Limits = SMALL) -> CoreSpec:
    """The core of some models."""
    return CoreSpec(models, lateness, 10 * MINUTE, limits)


def a_profile(rows: Sequence[Mapping[str, Any]]) -> Profile:
    """The profile of a table whose rows are features."""
    from detectors.reference_builder import build_features

    kinds, columns, _ = columns_of(rows, {})
    return Profile(build_features(kinds, columns, len(rows), 256), len(rows), ordered=True)


# -- events ----------------------------------------------------------------------------------------------


def prediction(request: str, at: int, value: Any = 0.5, *, model: str = "m", version: str = "v1", **more: Any) -> Event:
    """A prediction event; `more` are any further fields."""
    known = {"request_id": request, "time": at, "model": model, "version": version}
    return {"type": "prediction", **known, **({} if value is None else {"prediction": value}), **more}


def outcome(request: str, at: int, actual: Any, *, model: str = "m", **more: Any) -> Event:
    """An outcome event."""
    return {"type": "outcome", "request_id": request, "time": at, "model": model, "actual": actual, **more}


def resources(at: int, *, model: str = "m", version: str = "v1", **more: Any) -> Event:
    """A report of resources."""
    return {"type": "resources", "model": model, "version": version, "time": at, **more}


def believed(*events: Event) -> list[Event]:
    """Each event as often as it takes for partition time to follow it, however far ahead it is.

    The repeats are duplicates and count nowhere else.
    """
    return [event for event in events for _ in range(RECENT)]


class Record(NamedTuple):
    """A record of a stream."""

    partition: Partition
    offset: int
    value: bytes | None


def records_of(events: Iterable[Event | bytes | None], partitions: Iterable[int] | None = None) -> list[Record]:
    """Records in order; `partitions` tells the number of each one's partition, all 0 without it."""
    numbers = iter(partitions) if partitions is not None else iter(lambda: 0, 1)
    ends: dict[Partition, int] = {}
    found = []
    for event, number in zip(events, numbers, strict=False):
        partition = Partition("events", number)
        offset = ends.get(partition, 0)
        ends[partition] = offset + 1
        value = event if event is None or isinstance(event, bytes) else json.dumps(event).encode()
        found.append(Record(partition, offset, value))
    return found


def ends_of(records: Iterable[Record]) -> dict[Partition, int]:
    """Where each partition ends."""
    return {record.partition: record.offset + 1 for record in records}


def batch_of(records: Sequence[Record]) -> Batch:
    """One batch."""
    partitions = tuple(dict.fromkeys(record.partition for record in records))
    at = {partition: i for i, partition in enumerate(partitions)}
    return Batch(
        partitions,
        np.array([at[record.partition] for record in records], np.int32),
        np.array([record.offset for record in records], np.int64),
        np.full(len(records), -1, np.int64),
        [record.value for record in records],
    )


# -- runs ------------------------------------------------------------------------------------------------

HistoryKey = tuple[str, str, bool, int, int]  # model, version, of outcomes, start, end


@dataclass(frozen=True)
class Told:
    """All that a run has told. Values of the history are texts, so that NaN equals NaN."""

    published: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    history: dict[HistoryKey, dict[str, Any]]
    status: dict[str, Any]

    def alerts(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Alert records, of one kind or all."""
        return [d for d in self.published if "event_id" in d and kind in (None, d["kind"])]

    def decisions(self) -> list[dict[str, Any]]:
        """Decisions."""
        return [d for d in self.published if "generation" in d]

    def values(self, metric: str, *, version: str = "v1", feature: str = "", model: str = "m") -> list[tuple[Any, ...]]:
        """(start, end, value, n) of a metric, by the end of the window."""
        name = f"{feature}.{metric}"
        rows = [
            (start, end, float(row["values"][name][0]), row["values"][name][1])
            for (its_model, its_version, _, start, end), row in self.history.items()
            if (its_model, its_version) == (model, version) and name in row["values"]
        ]
        return sorted(rows, key=lambda row: (row[1], row[0]))


def document_of(what: AlertRecord | Decision) -> dict[str, Any]:
    """As published; with `silenced` for an alert."""
    if isinstance(what, Decision):
        return decision_document(what)
    return {**what.document(), "silenced": what.silenced}


class Nowhere:
    """Keeps `CommitWriter`; what is written is lost."""

    def commit(self, delta: PipelineCommit, *, identities: Mapping[str, str], gaps: Sequence[Gap]) -> None:
        pass

    def is_committed(self, seq: int) -> bool:
        return True

    def release(self) -> None:
        pass


def seed(engine: Engine) -> None:
    """Have the store use the seed of runs in memory, so that both sample the same requests."""
    with engine.begin() as c:
        row = {
            "id": SHARD, "epoch": 0, "owner": None, "seq": 0, "updated_at": 0.0, "stream_time": -1,
            "positions": "[]", "state": "{}", "totals": "{}", "hash_seed": str(SEED),
        }  # fmt: skip
        c.execute(insert(c, t.shard).values(**row).on_conflict_do_nothing())


@dataclass
class Run:
    """A pipeline in memory: its commits go nowhere but into what it has told.

    `ends` makes a replay of it. `profiles` are references from files, by model.
    """

    core: CoreSpec
    ends: Mapping[Partition, int] | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    partitions: Iterable[int] = (0,)
    told_so_far: list[PipelineCommit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Open a session, and read all partitions."""
        self.session = self.open()
        if not self.session.restored:
            for model in self.pipeline.models:
                if model.spec.name in self.profiles:
                    model.references.replace(self.profiles[model.spec.name])
                    model.configured_reference = "given"
        partitions = self.ends or [Partition("events", number) for number in self.partitions]
        self.session.assign(dict.fromkeys([*partitions, *self.session.positions], 0))

    def open(self) -> Session:
        """A session whose commits are kept in memory only."""
        return Session(self.core, Nowhere(), claim=Claim(1, SEED), ends=self.ends)

    @property
    def pipeline(self) -> Pipeline:
        """The session's pipeline."""
        return self.session.pipeline

    @property
    def model(self) -> ModelMonitor:
        """The only model."""
        (model,) = self.pipeline.models
        return model

    def feed(self, records: Sequence[Record], sizes: Iterable[int] | None = None, wall: int = WALL) -> None:
        """Process records in batches of these sizes, the last one again and again; all at once without."""
        for part in cut(records, sizes):
            self.process(batch_of(part), wall)

    def process(self, batch: Batch, wall: int = WALL, idle: Collection[Partition] = ()) -> None:
        """Process one batch."""
        self.session.process(batch, wall, Holding(idle=idle) if idle else None)

    def events(self, *events: Event | bytes | None) -> None:
        """Process events as the next records of partition 0, and commit."""
        start = self.session.positions.get(Partition("events", 0), 0)
        self.feed([record._replace(offset=start + record.offset) for record in records_of(events)])
        self.commit()

    def command(self, name: CommandName, model: str = "m", **arguments: Any) -> str:
        """Apply an operator's command. -> what came of it."""
        profile, who = arguments.pop("profile", None), arguments.pop("who", "")
        self.session.apply(Command(1, model, name, arguments, "because", profile, who), WALL)
        self.commit()
        return self.told_so_far[-1].commands[-1][1]

    def commit(self, *, last: bool = False) -> PipelineCommit:
        """What worker and replay do between batches."""
        commit = self.session.commit(last=last)
        self.told_so_far.append(commit)
        return commit

    def finish(self) -> Told:
        """The end of a replay, or a clean shutdown of what is live."""
        if self.ends is not None:
            self.session.finish(WALL)
        self.commit(last=True)
        return self.told()

    def told(self) -> Told:
        """All so far."""
        status = self.pipeline.status()
        del status["seconds"]
        return Told(
            published=[document_of(what) for delta in self.told_so_far for what in delta.published],
            dead_letters=[letter.document() for delta in self.told_so_far for letter in delta.dead_letters],
            history=self.history(),
            status=status,
        )

    def history(self) -> dict[HistoryKey, dict[str, Any]]:
        """Rows, the later ones in place of the earlier."""
        found: dict[HistoryKey, dict[str, Any]] = {}
        for delta in self.told_so_far:
            for model, part in delta.models.items():
                for row in part.history:
                    values = zip(row.names, row.values, row.events, strict=True)
                    found[model, row.version, row.outcomes, row.start, row.end] = {
                        "values": {f"{f}.{m}": (repr(float(v)), n) for (f, m), v, n in values},
                        "coverage": row.coverage,
                    }
        return found


@dataclass
class StoredRun(Run):
    """A run that commits to a database, and can be begun again from it."""

    engine: Engine | None = None
    publish: bool = True
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # of whoever interrupts it
    fed: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.engine is not None
        schema.upgrade(self.engine)
        seed(self.engine)
        self.restarts = 0
        super().__post_init__()

    def open(self) -> Session:
        """A session that goes on from the database."""
        assert self.engine is not None
        subscriptions = (STREAM_SUBSCRIPTION,) if self.publish else ()
        writer = StoreWriter(self.engine, f"owner {self.restarts}", 90 * 24 * HOUR, subscriptions=subscriptions)
        session = Session.claim(self.core, self.engine, writer, 0.0, ends=self.ends)
        assert isinstance(session, Session)
        session.identify({"events": "topic 1"})
        return session

    def feed(self, records: Sequence[Record], sizes: Iterable[int] | None = None, wall: int = WALL) -> None:
        """As of any run."""
        self.fed += records
        super().feed(records, sizes, wall)

    def restart(self, core: CoreSpec | None = None) -> None:
        """Forget everything that is not in the database; go on with this configuration.

        What was fed and only in hand, not processed, is read again.
        """
        processed = self.pipeline.positions
        in_hand = [record for record in self.fed if record.offset >= processed.get(record.partition, 0)]
        self.core = core or self.core
        self.restarts += 1
        self.begin()
        self.fed = []
        self.feed(in_hand)

    def history(self) -> dict[HistoryKey, dict[str, Any]]:
        """As the database has it."""
        assert self.engine is not None
        found: dict[HistoryKey, dict[str, Any]] = {}
        for model in self.core.models:
            for v in history.history(self.engine, model.name):
                key = (v.model, v.version, v.coverage is not None, v.start, v.end)
                row = found.setdefault(key, {"values": {}, "coverage": v.coverage})
                row["values"][f"{v.feature}.{v.metric}"] = (repr(math.nan if v.value is None else v.value), v.n)
        return found


def replay_of(
    core: CoreSpec, events: Iterable[Event], profiles: Mapping[str, Profile] | None = None,
    sizes: Sequence[int] | None = None,
) -> Told:  # fmt: skip
    """What a replay tells of these events, read in parts of these sizes."""
    records = records_of(events)
    run = Run(core, ends_of(records), profiles or {})
    run.feed(records, sizes)
    return run.finish()


def a_blind_run() -> Run:
    """A model that is watched for drift: its windows never hold enough, and no rule of its own is about errors."""
    rule = a_rule("slow", "latency_p95_ms", above=1)
    window = timed(10 * SECOND, 30 * SECOND, longest=MINUTE, min_events=1_000)
    run = Run(a_core(a_model(window=window, drift=a_drift(), reference=learned(50), rules=(rule,), own_rules=True)))
    run.events(*(prediction(f"r{i}", T0 + i * SECOND, 0.5, features={"x": i % 7}) for i in range(300)))
    return run


def cut(records: Sequence[Record], sizes: Iterable[int] | None) -> Iterator[Sequence[Record]]:
    """Parts of these sizes, the last size again and again; one part without."""
    if sizes is None:
        if records:
            yield records
        return
    start, size = 0, 1
    wanted = iter(sizes)
    while start < len(records):
        size = next(wanted, size)
        yield records[start : start + size]
        start += size


def totals_of(run: Run) -> dict[str, Any]:
    """Cumulative counts."""
    return asdict(run.pipeline.totals)
