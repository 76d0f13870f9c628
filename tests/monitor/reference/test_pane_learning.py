"""References that models with time windows learn: by whole panes, whatever the order of processing was.

A model is read from three partitions in random order, in random batches, with commits and kills between them. What
it learned, and what panes counted against that, must be the same every time.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from detectors.pane import CountsByName
from detectors.reference import Profile
from monitor.aggregation.panes import ClosedPane
from monitor.pipeline.versions import Versions
from monitor.reference.learning import AnswerLearner, FeatureLearner
from monitor.reference.pane_rows import HASH, TIME, VARIANT, PaneRows, hash_rows, most_rows
from monitor.spec import CoreSpec, Limits, Task
from monitor.store.engine import connect
from monitor.stream.types import Partition
from tests.monitor.kit import (
    HOUR,
    SECOND,
    T0,
    Event,
    Record,
    Run,
    StoredRun,
    a_core,
    a_drift,
    a_model,
    batch_of,
    counted,
    ends_of,
    learned,
    prediction,
    records_of,
    some_outcomes,
    timed,
)

PANE = 10 * SECOND
LATENESS = 25 * SECOND
MODEL = a_model(
    task=Task.BINARY,
    window=timed(PANE, 3 * PANE),
    drift=a_drift(period=HOUR),
    reference=learned(40),
    outcomes=some_outcomes(10 * 60 * SECOND, pane=PANE, baseline_n=25),
)
Compared = dict[tuple[str, int], dict[str, list[int]]]  # (version, pane) → vectors


def answers(seed: int, count: int = 450, *, span: int = 120 * SECOND) -> list[Event]:
    """Answers of two versions to the same requests now and then, by time; every hundredth has odd features."""
    dice = random.Random(seed)
    found = []
    for i in range(count):
        time = T0 + int(span * dice.betavariate(1, 2))
        features: dict[str, Any] = {"x": round(dice.gauss(0, 1), 3), "c": dice.choice("abcd")}
        if i % 100 == 7:
            features["x"] = "odd"
        version = "v1" if dice.random() < 0.7 else "v2"
        score = round(dice.random(), 3)
        request = f"r{i // 2}"
        found.append(prediction(request, time, dice.randrange(2), version=version, features=features,
                                scores={"1": score}, served=version == "v1"))  # fmt: skip
    return sorted({(e["request_id"], e["version"]): e for e in found}.values(), key=lambda e: e["time"])


def dealt(events: Sequence[Event], seed: int) -> dict[Partition, list[Record]]:
    """Each event in one of three partitions, there out of order by less than the lateness."""
    dice = random.Random(seed)
    late = sorted(events, key=lambda e: e["time"] + dice.randrange(LATENESS))
    found: dict[Partition, list[Record]] = {}
    for record in records_of(late, [dice.randrange(3) for _ in late]):
        found.setdefault(record.partition, []).append(record)
    return found


@dataclass
class Counted:
    """Subscribes to closed panes, and keeps what they counted against references."""

    versions: Versions
    found: Compared = field(default_factory=dict)

    def on_closed_pane(self, pane: ClosedPane) -> None:
        """Keep it."""
        version = self.versions[pane.variant].version
        self.found[version, pane.content.pane] = vectors_of(pane.content.counts)


def vectors_of(counts: CountsByName) -> dict[str, list[int]]:
    return {name: its.dense().tolist() for name, its in sorted(counts.items()) if name not in ("tally", "latency")}


@dataclass
class Learned:
    """What a run has learned and compared."""

    profiles: Mapping[str, bytes]
    compared: Compared


def references_of(run: Run) -> dict[str, bytes]:
    """The references that commits wrote."""
    return {
        new.subject: new.profile.to_bytes()
        for commit in run.told_so_far
        for part in commit.models.values()
        for new in part.references
    }


def lived(core: CoreSpec, parts: Mapping[Partition, Sequence[Record]], dice: random.Random) -> Learned:
    """Read partitions in any order with commits and kills, to the end."""
    with tempfile.TemporaryDirectory() as place:
        engine = connect(f"sqlite:///{Path(place)}/driftd.db")
        ends = ends_of([r for records in parts.values() for r in records])
        run = StoredRun(core, ends=ends, engine=engine)
        compared: Compared = {}
        watched = watch(run, compared)
        while left := [p for p in parts if run.session.positions.get(p, 0) < len(parts[p])]:
            batch: list[Record] = []
            taken = {p: run.session.positions.get(p, 0) for p in left}
            for _ in range(dice.choice((1, 3, 40))):
                p = dice.choice(left)
                size = dice.choice((1, 2, 15))
                batch += parts[p][taken[p] : taken[p] + size]
                taken[p] = min(taken[p] + size, len(parts[p]))
            if batch:
                run.process(batch_of(batch))
            if dice.random() < 0.2:
                run.commit()
                compared |= watched.found
            if dice.random() < 0.1:
                run.restart()
                watched = watch(run, compared)
        run.finish()
        engine.dispose()
        return Learned(references_of(run), compared | watched.found)


def watch(run: Run, compared: Compared) -> Counted:
    """See what panes that close from now on have counted."""
    watched = Counted(run.model.versions)
    run.model.pane_subscribers = (*run.model.pane_subscribers, watched)
    return watched


def read_once(core: CoreSpec, events: Sequence[Event]) -> Learned:
    """Read events from one partition in one batch, sorted by time."""
    records = records_of(events)
    run = Run(core, ends=ends_of(records))
    watched = watch(run, {})
    run.feed(records)
    run.finish()
    return Learned(references_of(run), watched.found)


@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))  # a failure is not made smaller: runs are slow
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from((40, 100, 250)), st.sampled_from((0, 60)))
def test_any_interleaving_with_commits_and_kills_learns_and_compares_the_same(
    stream: int, order: int, wanted: int, limit: int
) -> None:
    """With fewer and more rows than are taken; later panes fill before an earlier one has closed."""
    limits = Limits(pending=5_000, seen=20_000, learning=limit or 200_000)
    core = a_core(replace(MODEL, reference=learned(wanted)), lateness=LATENESS, limits=limits)
    events = answers(stream)

    once = read_once(core, events)
    again = lived(core, dealt(events, order), random.Random(order))

    assert again.profiles == once.profiles
    assert again.compared == once.compared
    assert set(once.profiles) >= {"features", "answers:v1"}


def regular(each: int, panes: int) -> list[Event]:
    """So many answers of v1 in each pane."""
    step = PANE // each
    return [
        prediction(f"r{i}", T0 + i * step, i % 2, features={"x": (i * 7) % 31}, scores={"1": 0.5})
        for i in range(each * panes)
    ]


def rows_learned(profiles: Mapping[str, bytes]) -> dict[str, int]:
    return {subject: Profile.from_bytes(body).rows for subject, body in profiles.items()}


def compared_with(found: Compared, subject: str) -> dict[int, int]:
    """Answers of v1 that were compared, by number of the pane after the first one."""
    panes: dict[int, int] = {}
    for (_, pane), vectors in found.items():
        cells = [sum(its) for name, its in vectors.items() if name.startswith(f"{subject}:") and name.endswith("cells")]
        if cells:
            panes[pane - T0 // PANE] = cells[0]
    return panes


def test_a_reference_is_learned_from_whole_panes_and_in_force_from_the_next_one() -> None:
    """40 answers are wanted, panes have 25: two panes are learned. Of 25 of a version's own one pane is enough."""
    once = read_once(a_core(MODEL, lateness=LATENESS), regular(25, 6))

    assert rows_learned(once.profiles) == {"features": 50, "answers:v1": 25}
    assert compared_with(once.compared, "features") == {2: 25, 3: 25, 4: 25, 5: 25}
    assert compared_with(once.compared, "answers") == {1: 25, 2: 25, 3: 25, 4: 25, 5: 25}


def test_the_status_says_how_many_rows_were_taken() -> None:
    records = records_of(regular(25, 6))
    run = Run(a_core(MODEL, lateness=LATENESS), ends=ends_of(records))
    run.feed(records)
    model = run.finish().status["models"]["m"]

    assert model["reference_rows"] == 50
    assert (model["versions"]["v1"]["reference_rows"], model["versions"]["v1"]["baseline_rows"]) == (25, 25)


@pytest.mark.parametrize(("limit", "rows"), [(200_000, 80), (60, 60), (10, 40)])
def test_of_more_rows_than_are_needed_some_are_taken_but_never_fewer_than_are_wanted(limit: int, rows: int) -> None:
    limits = Limits(pending=5_000, seen=20_000, learning=limit)

    once = read_once(a_core(MODEL, lateness=LATENESS, limits=limits), regular(500, 3))

    assert rows_learned(once.profiles)["features"] == rows
    assert compared_with(once.compared, "features") == {1: 500, 2: 500}


def test_with_counted_windows_the_first_answers_are_learned_exactly() -> None:
    model = replace(MODEL, window=counted(90, 30), outcomes=some_outcomes(baseline_n=25))

    once = read_once(a_core(model, lateness=LATENESS), regular(30, 6))

    assert rows_learned(once.profiles) == {"features": 40, "answers:v1": 25}


def test_what_0_1_0_began_to_learn_is_finished_by_its_rule(tmp_path: Path) -> None:
    """Its rows say nothing of their versions: exactly the first ones are learned, also with time windows."""
    engine = connect(f"sqlite:///{tmp_path}/driftd.db")
    records = records_of(regular(30, 4))
    run = StoredRun(a_core(MODEL, lateness=LATENESS), engine=engine)
    learners = run.model.references.learners
    learners.features = FeatureLearner(40, 256, {})
    learners.answers["v1"] = AnswerLearner(25, 256)
    run.feed(records[:20])
    run.commit()
    run.restart()
    kinds = [type(run.model.references.learners.features), type(run.model.references.learners.answers["v1"])]
    run.feed(records[20:41])
    run.commit()
    engine.dispose()

    assert kinds == [FeatureLearner, AnswerLearner]
    assert rows_learned(references_of(run)) == {"features": 40, "answers:v1": 25}


@st.composite
def _gathered(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int, int, int]:
    rows = draw(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 2**64 - 1)), max_size=60, unique=True))
    wanted = draw(st.integers(1, 12))
    return rows, wanted, most_rows(wanted, draw(st.integers(0, 30))), draw(st.integers(0, 1_000))


@given(_gathered())
def test_rows_are_split_the_same_whatever_was_trimmed_stored_and_restored(
    given_rows: tuple[list[tuple[int, int]], int, int, int],
) -> None:
    """Against a plain recount. Panes are ten wide; a row comes at most two panes early."""
    rows, wanted, most, seed = given_rows
    dice = random.Random(seed)
    kept, stored, found = PaneRows(wanted, most), [], None
    left = sorted(rows, key=lambda row: row[0] + dice.randrange(20))
    last = None
    for pane in range(6):
        while left and (left[0][0] < (pane + 1) * 10 or any(t < (pane + 1) * 10 for t, _ in left)):
            t, h = left.pop(0)
            one = {TIME: np.array([t]), HASH: np.array([h], np.uint64), VARIANT: np.array([0])}
            if kept.useful(one[TIME], one[HASH]).all():
                kept.add(one)
            if dice.random() < 0.3 and (fresh := kept.settle()) is not None:
                stored.append(fresh)
            if dice.random() < 0.1:
                if (fresh := kept.settle()) is not None:
                    stored.append(fresh)
                kept = PaneRows(wanted, most)
                kept.restore(stored)
                kept.advance((pane + 1) * 10)
        if kept.enough((pane + 1) * 10):
            last, found = pane, (kept.until((pane + 1) * 10)(), kept.later((pane + 1) * 10))
            break
        kept.advance((pane + 2) * 10)
    reached = [pane for pane in range(6) if sum(t < (pane + 1) * 10 for t, _ in rows) >= wanted]

    assert last == (reached[0] if reached else None)
    if found is not None and last is not None:
        whole = sorted((row for row in rows if row[0] < (last + 1) * 10), key=lambda row: row[1])[:most]
        assert list(zip(found[0][TIME].tolist(), found[0][HASH].tolist(), strict=True)) == sorted(whole)
        came = [row for row in rows if row[0] >= (last + 1) * 10 and row not in left]
        assert list(zip(found[1][TIME].tolist(), found[1][HASH].tolist(), strict=True)) == sorted(came)


def test_the_hash_of_a_row_depends_on_the_name_of_its_version_and_not_on_its_code() -> None:
    request = np.array([5, 5, 6], np.uint64)

    one = hash_rows([request], np.array([1, 2, 1]), {1: "a", 2: "b"})
    other = hash_rows([request], np.array([9, 4, 9]), {9: "a", 4: "b"})

    assert one.tolist() == other.tolist()
    assert len(set(one.tolist())) == 3
