"""Which references were in force when, and where they came from: one record each, whatever commits and restarts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from detectors.reference import Profile
from monitor.pipeline.commands import Command, CommandName
from monitor.reference.file import ReferenceFile, table_spec
from monitor.reference.provenance import (
    LearnedFrom,
    Origin,
    OriginKind,
    RecordBook,
    RecordChanges,
    SavedRecords,
    config_digest,
)
from monitor.reference.subjects import FEATURES, answers_of
from monitor.saved import from_plain, to_plain
from monitor.service.session import activate
from monitor.spec import ModelSpec, Task
from monitor.store import reference_records
from monitor.store import tables as t
from monitor.store.engine import connect
from monitor.store.reference_records import StoredRecord
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    WALL,
    Event,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    a_profile,
    counted,
    from_file,
    learned,
    prediction,
    some_outcomes,
    timed,
)

PANE = 10 * SECOND
BY_TIME = a_model(
    window=timed(PANE, 2 * PANE, longest=4 * PANE), reference=learned(50), drift=a_drift(period=HOUR)
)  # fmt: skip
COUNTED = replace(BY_TIME, window=counted(20, 10))
OTHER = a_profile([{"x": float(i % 9)} for i in range(60)])
V1 = answers_of("v1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    yield engine
    engine.dispose()


def some_events(start: int, stop: int) -> list[Event]:
    """A prediction a second."""
    return [prediction(f"r{i}", T0 + i * SECOND, i % 5, features={"x": i % 7}) for i in range(start, stop)]


def begun(engine: Engine, model: ModelSpec, stop: int = 100, profile: Profile | None = None) -> StoredRun:
    run = StoredRun(a_core(model), profiles={} if profile is None else {"m": profile}, engine=engine)
    run.events(*some_events(0, stop))
    return run


def recorded(run: StoredRun, subject: str = FEATURES) -> list[StoredRecord]:
    assert run.engine is not None
    return [r for r in reference_records.records(run.engine, "m") or () if r.subject == subject]


def order(run: StoredRun, name: CommandName, profile: Profile | None = None, **arguments: object) -> None:
    """Give an order, and do not commit yet."""
    run.session.apply(Command(1, "m", name, arguments, "because", profile, "ann"), WALL)


def test_a_learned_reference_is_in_force_from_the_first_pane_after_those_it_was_learned_from(engine: Engine) -> None:
    run = begun(engine, BY_TIME)

    (record,) = recorded(run)
    assert (record.number, record.since, record.until, record.in_force) == (1, T0 + 50 * SECOND, None, True)
    assert (record.rows, record.first, record.last) == (50, T0, T0 + 49 * SECOND)
    assert record.origin == Origin(OriginKind.LEARNED, learned_from=LearnedFrom.PANES)
    assert record.config == config_digest(BY_TIME)
    profile = run.model.references.profile
    assert profile is not None
    assert record.hash == profile.content_hash


def test_with_counted_windows_it_is_in_force_from_the_last_prediction_it_was_learned_from(engine: Engine) -> None:
    run = begun(engine, COUNTED)

    (record,) = recorded(run)
    assert (record.since, record.rows) == (T0 + 49 * SECOND, 50)
    assert record.origin == Origin(OriginKind.LEARNED, learned_from=LearnedFrom.FIRST)


@pytest.mark.parametrize(("model", "since"), [(BY_TIME, 1_000), (COUNTED, 999)], ids=["time", "events"])
def test_the_answers_of_each_version_have_records_of_their_own(engine: Engine, model: ModelSpec, since: int) -> None:
    run = begun(engine, model, 1_020)

    (record,) = recorded(run, V1)
    assert (record.number, record.since, record.rows) == (1, T0 + since * SECOND, 1_000)
    assert record.origin.kind is OriginKind.LEARNED


def test_where_fewer_answers_are_wanted_after_a_restart_they_are_in_force_from_the_next_prediction(
    engine: Engine,
) -> None:
    model = replace(COUNTED, outcomes=some_outcomes(baseline_n=500))
    run = begun(engine, model, 100)
    assert recorded(run, V1) == []
    run.restart(a_core(replace(model, outcomes=some_outcomes(baseline_n=80))))
    run.events(*some_events(100, 120))

    (record,) = recorded(run, V1)
    assert (record.since, record.rows) == (T0 + 100 * SECOND, 100)


def test_an_accepted_window_ends_the_record_before_and_says_who_accepted_it_and_why(engine: Engine) -> None:
    run = begun(engine, BY_TIME)
    order(run, CommandName.REFERENCE, OTHER, start=T0, end=T0 + PANE)
    run.commit()

    first, second = recorded(run)
    assert (first.in_force, second.in_force) == (False, True)
    assert first.until == second.since == run.pipeline.time
    assert (second.number, second.hash) == (2, OTHER.content_hash)
    assert second.origin == Origin(OriginKind.ACCEPTED, window=(T0, T0 + PANE), who="ann", reason="because")


def test_a_reference_that_is_relearned_says_who_wanted_it_also_after_a_restart(engine: Engine) -> None:
    """Until it is complete there is none."""
    run = begun(engine, BY_TIME)
    order(run, CommandName.RELEARN, events=100)
    run.commit()
    asked_at = run.pipeline.time
    assert [r.in_force for r in recorded(run)] == [False]
    run.restart()
    run.events(*some_events(100, 230))

    first, second = recorded(run)
    assert (first.until, second.since) == (asked_at, T0 + 200 * SECOND)
    assert second.origin == Origin(OriginKind.RELEARNED, learned_from=LearnedFrom.PANES, who="ann", reason="because")


def test_after_that_the_next_one_is_not_taken_for_relearned(engine: Engine) -> None:
    run = begun(engine, BY_TIME)
    order(run, CommandName.RELEARN, events=100)
    order(run, CommandName.REFERENCE, OTHER)
    run.commit()

    assert run.model.references.records.state.asked is None
    assert [r.origin.kind for r in recorded(run)] == [OriginKind.LEARNED, OriginKind.ACCEPTED]


def test_references_that_begin_and_end_within_one_commit_are_all_recorded(engine: Engine) -> None:
    run = begun(engine, BY_TIME)
    for shift in (1, 2, 3):
        order(run, CommandName.REFERENCE, a_profile([{"x": float(i + shift)} for i in range(40)]))
    run.commit()

    found = recorded(run)
    assert [(r.number, r.in_force) for r in found] == [(1, False), (2, False), (3, False), (4, True)]
    assert len({r.hash for r in found}) == 4
    assert [r.until for r in found[:-1]] == [run.pipeline.time] * 3


@pytest.mark.parametrize("built", [False, True], ids=["table", "profile"])
def test_a_file_is_recorded_with_its_name_and_the_hash_of_its_content(
    engine: Engine, tmp_path: Path, built: bool
) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("x,prediction\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(300)))
    model = replace(BY_TIME, reference=replace(from_file(), path=str(path)))
    file = ReferenceFile(path, table_spec(model))
    if built:
        path.write_bytes(file.profile().to_bytes())
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    run = StoredRun(a_core(model), engine=engine)
    activate(run.pipeline, {"m": ReferenceFile(path, table_spec(model))}, T0)
    run.events(*some_events(0, 100))

    (features,), (answers,) = recorded(run), recorded(run, V1)
    kind = OriginKind.PROFILE if built else OriginKind.TABLE
    assert features.origin == Origin(kind, file=str(path), sha256=content)
    assert (features.since, features.rows) == (None, 300)
    assert answers.origin == Origin(OriginKind.TABLE_ANSWERS, features=1)


def test_a_file_with_other_content_begins_another_record(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("x\n" + "".join(f"{i % 7}\n" for i in range(300)))
    model = replace(BY_TIME, reference=replace(from_file(), path=str(path)))
    run = StoredRun(a_core(model), engine=engine)
    activate(run.pipeline, {"m": ReferenceFile(path, table_spec(model))}, T0)
    run.events(*some_events(0, 100))
    path.write_text("x\n" + "".join(f"{i % 6}\n" for i in range(300)))
    run.restart()
    activate(run.pipeline, {"m": ReferenceFile(path, table_spec(model))}, T0 + 99 * SECOND)
    run.commit()

    first, second = recorded(run)
    assert first.until == second.since == T0 + 99 * SECOND
    assert first.origin.sha256 != second.origin.sha256


def test_a_restart_begins_no_record_again(engine: Engine) -> None:
    run = begun(engine, BY_TIME, 1_020)
    before = recorded(run), recorded(run, V1)
    run.restart()
    run.events(*some_events(1_020, 1_100))

    assert (recorded(run), recorded(run, V1)) == before


def test_answers_of_another_kind_end_the_records_of_answers_and_leave_that_of_the_features(engine: Engine) -> None:
    run = begun(engine, BY_TIME, 1_020)
    run.restart(a_core(replace(BY_TIME, task=Task.MULTICLASS)))
    run.commit()

    (features,), (answers,) = recorded(run), recorded(run, V1)
    assert (features.in_force, answers.in_force, answers.until) == (True, False, run.pipeline.time)


def without_records(run: StoredRun) -> None:
    """As an earlier release stored it."""
    assert run.engine is not None
    with run.engine.begin() as c:
        body = c.execute(sa.select(t.model_state.c.body)).scalar_one()
        state = {k: v for k, v in json.loads(body).items() if k != "reference_records"}
        c.execute(sa.update(t.model_state).values(body=json.dumps(state)))
        c.execute(sa.delete(t.reference_record))


def test_references_of_an_earlier_release_get_records_of_unknown_origin_once(engine: Engine) -> None:
    """Since when they were in force is known where that was stored."""
    run = begun(engine, BY_TIME, 1_020)
    without_records(run)
    for _ in range(2):
        run.restart()
        run.commit()

    (features,), (answers,) = recorded(run), recorded(run, V1)
    assert (features.number, features.since, answers.since) == (1, T0 + 50 * SECOND, None)
    assert {features.origin.kind, answers.origin.kind} == {OriginKind.UNKNOWN}
    assert (features.release, features.config) == (None, None)


def test_status_says_which_are_in_force(engine: Engine) -> None:
    run = begun(engine, BY_TIME, 1_020)
    order(run, CommandName.REFERENCE, OTHER)

    told = run.pipeline.status()["models"]["m"]["reference"]
    assert (told["number"], told["origin"]) == (2, "accepted")
    assert told["answers"] == {"v1": {"number": 1, "origin": "learned", "since": "2023-11-14T22:29:40.000Z"}}


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (lambda m: replace(m, reference=learned(60)), True),
        (lambda m: replace(m, window=counted(10, 5)), True),
        (lambda m: replace(m, drift=a_drift(2, period=HOUR)), False),
    ],
    ids=["learn", "window", "budget"],
)
def test_settings_that_shape_no_reference_do_not_change_their_digest(
    change: Callable[[ModelSpec], ModelSpec], other: bool
) -> None:
    assert (config_digest(change(BY_TIME)) != config_digest(BY_TIME)) is other


@dataclass
class Rows:
    """What commits make of the changes of a book."""

    since: dict[tuple[str, int], int | None] = field(default_factory=dict)
    until: dict[tuple[str, int], int | None] = field(default_factory=dict)

    def write(self, changes: RecordChanges) -> None:
        for record in changes.begun:
            assert (record.subject, record.number) not in self.since
            self.since[record.subject, record.number] = record.since
        for ended in changes.ended:
            assert (ended.subject, ended.number) not in self.until
            self.until[ended.subject, ended.number] = ended.until


BEGIN, END, COMMIT, RESTART = "begin", "end", "commit", "restart"
STEPS = st.lists(st.tuples(st.sampled_from((BEGIN, END, COMMIT, RESTART)), st.sampled_from((FEATURES, V1))))


@given(STEPS)
def test_at_any_time_one_record_of_a_subject_at_most_is_in_force_and_none_is_written_twice(
    steps: list[tuple[str, str]],
) -> None:
    """Whatever begins and ends between commits, and is forgotten by restarts and done again."""
    rows, book = Rows(), RecordBook(BY_TIME)
    stored = to_plain(book.state)
    for now, (step, subject) in enumerate(steps):
        if step == BEGIN:
            book.begin(subject, OTHER, now, Origin(OriginKind.LEARNED))
        elif step == END:
            book.end(subject, now)
        elif step == COMMIT:
            rows.write(book.drain_changes())
            stored = to_plain(book.state)
        else:
            book = RecordBook(BY_TIME)
            book.state = from_plain(stored, SavedRecords)
    rows.write(book.drain_changes())

    for subject in (FEATURES, V1):
        numbers = [number for its, number in rows.since if its == subject]
        assert numbers == list(range(1, len(numbers) + 1))
        for number in numbers[:-1]:
            ended, begun_next = rows.until[subject, number], rows.since[subject, number + 1]
            assert ended is not None
            assert begun_next is not None
            assert ended <= begun_next
        in_force = [n for n in numbers if (subject, n) not in rows.until]
        known = book.state.in_force.get(subject)
        assert in_force == ([] if known is None else [known.number])
