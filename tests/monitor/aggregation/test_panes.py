"""Panes: whatever order and batches the answers came in, a pane is the sum of its answers and of its fragments."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detectors.pane import Counts
from detectors.types import IntArray
from detectors.window import Slice
from monitor.aggregation.metrics import (
    LATENCY_CELLS,
    SUM_AT,
    SUMS,
    TALLY,
    TALLY_AT,
    PaneCounter,
    Sum,
    joined_sums,
    latency_cells,
)
from monitor.aggregation.panes import OpenPane, Panes, slice_of, whole
from monitor.aggregation.predictions import Predictions
from monitor.events.columns import EventColumns, EventKind
from monitor.events.features import NO_FEATURES
from monitor.events.schema import SERVED_BY
from tests.monitor.kit import (
    SECOND,
    T0,
    Run,
    a_core,
    a_model,
    believed,
    ends_of,
    prediction,
    records_of,
    resources,
    timed,
)

WIDTH = 10
NAN = float("nan")
PLACES = {"cost": 0, "clicks": 1}


@dataclass(frozen=True)
class Answer:
    """One answer; its pane follows from its time."""

    variant: int
    time: int
    served: bool
    served_by: int
    failed: bool
    contaminated: bool
    latency: float
    measured: float
    batch: tuple[float, float]
    metrics: Mapping[str, float | None] | None


numbers = st.floats(-1e6, 1e6) | st.just(NAN)
amounts = st.floats(0, 1e6) | st.just(NAN)
user_metrics = st.dictionaries(
    st.sampled_from([*PLACES, "beyond the limit"]), st.none() | st.integers(-9, 9) | st.floats(0, 1)
)
answers = st.builds(
    Answer,
    variant=st.sampled_from([1, 2]),
    time=st.integers(0, 39),
    served=st.booleans(),
    served_by=st.integers(0, len(SERVED_BY) - 1),
    failed=st.booleans(),
    contaminated=st.booleans(),
    latency=amounts,
    measured=numbers,
    batch=st.just((NAN, NAN)) | st.tuples(st.integers(1, 64).map(float), st.floats(0, 1e4)),
    metrics=st.none() | user_metrics,
)
streams = st.lists(answers, max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=5)


def measuring(time: int, value: float) -> Answer:
    """An answer of which only the prediction matters."""
    return Answer(1, time, True, 0, False, False, NAN, value, (NAN, NAN), None)


def columns(part: Sequence[Answer]) -> Predictions:
    c = EventColumns(len(part))
    c.variant[:] = [a.variant for a in part]
    c.time[:] = [a.time for a in part]
    c.served_by[:] = [a.served_by for a in part]
    c.failed[:] = [a.failed for a in part]
    c.contaminated[:] = [a.contaminated for a in part]
    c.latency[:] = [a.latency for a in part]
    c.batch_size[:] = [a.batch[0] for a in part]
    c.batch_ms[:] = [a.batch[1] for a in part]
    c.metrics[:] = [a.metrics for a in part]
    rows = np.arange(len(part))
    kinds = np.array([EventKind.SERVED if a.served else EventKind.UNSERVED for a in part], np.uint8)
    measured = np.array([a.measured for a in part], np.float64)
    events = c.events(rows, kinds)
    return Predictions(rows, events, events.variant.astype(np.int64), ~np.isnan(measured), measured, NO_FEATURES)


def filled(
    stream: Sequence[Answer], at: Sequence[int] = (), *, committing: bool = False
) -> tuple[Panes, dict[tuple[int, int], list[bytes]]]:
    """(panes with the stream in them, the fragments of each so far). `committing` takes fragments after each batch."""
    panes = Panes(PLACES.get)
    fragments: dict[tuple[int, int], list[bytes]] = {}
    ends = sorted({*(c for c in at if c < len(stream)), len(stream)})
    for start, end in zip([0, *ends], ends, strict=False):
        part = columns(stream[start:end])

        def place(variant: int, rows: IntArray, times: IntArray = part.time) -> Mapping[str, Counts]:
            # Something that is compared: the last digit of the time, say.
            return {"digits": Counts(10, None, np.bincount(times[rows] % 10, minlength=10))}

        panes.add(part, part.time // WIDTH, place)
        if committing:
            for fragment in panes.drain_fragments():
                fragments.setdefault((fragment.variant, fragment.pane), []).append(fragment.body)
    return panes, fragments


def told(piece: Slice) -> dict[str, object]:
    """Everything of a slice, to the last bit."""
    counts = {name: c.dense().tolist() for name, c in sorted(piece.counts.items()) if c.total or name != "digits"}
    return {
        "pane": piece.pane, "start": piece.start, "end": piece.end, "events": piece.events, "counts": counts,
        "sums": piece.sums.tolist(),
    }  # fmt: skip


def closed(panes: Panes) -> dict[tuple[int, int], dict[str, object]]:
    return {(variant, pane): told(panes.close(variant, pane, WIDTH)[0]) for pane, variant in panes.open()}


# -- laws ------------------------------------------------------------------------------------------------


@given(streams, cuts)
def test_a_pane_is_a_recount_of_its_answers(stream: list[Answer], at: list[int]) -> None:
    """Counts exactly; sums as adding one by one in the order of the stream gives them."""
    panes, _ = filled(stream, at)

    assert panes.open() == sorted({(a.time // WIDTH, a.variant) for a in stream})
    for pane, variant in panes.open():
        mine = [a for a in stream if (a.variant, a.time // WIDTH) == (variant, pane)]
        piece, _ = panes.close(variant, pane, WIDTH)
        tally = piece.counts["tally"].dense()

        assert piece.events == len(mine) == tally[TALLY_AT[PaneCounter.PREDICTIONS]]
        for told_as, of in (
            (PaneCounter.FAILED, "failed"), (PaneCounter.SERVED, "served"), (PaneCounter.CONTAMINATED, "contaminated"),
        ):  # fmt: skip
            assert tally[TALLY_AT[told_as]] == sum(getattr(a, of) for a in mine)
        assert tally[-len(SERVED_BY) :].tolist() == [sum(a.served_by == i for a in mine) for i in range(len(SERVED_BY))]
        values = [a.measured for a in mine if not math.isnan(a.measured)]
        measured = [v - values[0] for v in values]
        assert piece.sums[SUM_AT[Sum.VALUES]] == len(values)
        assert piece.sums[SUM_AT[Sum.ORIGIN]] == (values[0] if values else 0)
        timed_batches = [a.batch[1] for a in mine if not math.isnan(a.batch[1])]
        assert_sums(piece, PaneCounter.VALUES, Sum.VALUE, Sum.VALUE_SQUARED, measured)
        assert_sums(piece, PaneCounter.BATCHES, Sum.BATCH_MS, Sum.BATCH_MS_SQUARED, timed_batches)
        for name, place in PLACES.items():
            given_values = [float(v) for a in mine if (v := (a.metrics or {}).get(name)) is not None]
            assert tally[len(TALLY) + place] == len(given_values)
            assert piece.sums[len(SUMS) + 2 * place] == in_order(given_values)
            assert piece.sums[len(SUMS) + 2 * place + 1] == in_order([v * v for v in given_values])
        latencies = np.array([a.latency for a in mine])
        if not np.isnan(latencies).all():
            assert piece.counts["latency"].dense().tolist() == latency_cells(latencies).tolist()
        assert (
            piece.counts["digits"].dense().tolist() == np.bincount([a.time % 10 for a in mine], minlength=10).tolist()
        )


def assert_sums(piece: Slice, count: PaneCounter, total: Sum, squares: Sum, values: list[float]) -> None:
    assert piece.counts["tally"].dense()[TALLY_AT[count]] == len(values)
    assert piece.sums[SUM_AT[total]] == in_order(values)
    assert piece.sums[SUM_AT[squares]] == in_order([v * v for v in values])


def in_order(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@given(streams, cuts)
def test_panes_do_not_depend_on_how_the_stream_was_cut(stream: list[Answer], at: list[int]) -> None:
    """To the last bit of every sum."""
    at_once, in_parts = filled(stream)[0], filled(stream, at)[0]

    assert repr(closed(in_parts)) == repr(closed(at_once))


odd_numbers = st.floats(-1e6, 1e6) | st.floats(1.7e9, 1.7e9 + 10) | st.just(-999_999_999.0)


@example([[1700000000.0, 1700000000.4188163], [1700000000.0]])
@given(st.lists(st.lists(odd_numbers, max_size=20), min_size=1, max_size=6))
def test_panes_together_have_the_mean_and_variance_of_all_their_values(panes: list[list[float]]) -> None:
    """Whatever the first value was, and those of panes that have left the window."""
    stream = [measuring(i * WIDTH, value) for i, values in enumerate(panes) for value in values]
    filled_panes, _ = filled(stream)
    pieces = [filled_panes.close(variant, pane, WIDTH)[0].sums for pane, variant in filled_panes.open()]
    values = np.array([v for part in panes for v in part])
    if not len(values):
        return

    sums = joined_sums(pieces)
    again = joined_sums([joined_sums(pieces[:1]), *pieces[1:]])

    assert sums[SUM_AT[Sum.VALUES]] == len(values)
    for found in (sums, again):
        assert found[SUM_AT[Sum.ORIGIN]] == pytest.approx(values.mean(), rel=1e-12, abs=1e-12 * np.abs(values).max())
        spread = float(np.abs(values - values.mean()).max())
        rounding = float(np.spacing(np.abs(values).max()))
        assert abs(found[SUM_AT[Sum.VALUE]]) <= len(values) * rounding  # what the origin lost by it
        assert found[SUM_AT[Sum.VALUE_SQUARED]] == pytest.approx(
            ((values - values.mean()) ** 2).sum(), rel=1e-9, abs=1e-9 * spread**2 + 1e-12
        )


@given(st.lists(st.lists(odd_numbers, min_size=1), min_size=1), st.randoms(use_true_random=False))
def test_in_another_order_of_panes_only_roundings_differ(panes: list[list[float]], dice: random.Random) -> None:
    stream = [measuring(i * WIDTH, value) for i, values in enumerate(panes) for value in values]
    filled_panes, _ = filled(stream)
    pieces = [filled_panes.close(variant, pane, WIDTH)[0].sums for pane, variant in filled_panes.open()]
    shuffled = dice.sample(pieces, len(pieces))

    one, other = joined_sums(pieces), joined_sums(shuffled)
    values = np.array([v for part in panes for v in part])
    rounding = 4 * len(values) * float(np.spacing(np.abs(values).max()))
    spread = float(np.abs(values - values.mean()).max())
    at, total, squares = SUM_AT[Sum.ORIGIN], SUM_AT[Sum.VALUE], SUM_AT[Sum.VALUE_SQUARED]
    assert other[at] + other[total] / len(values) == pytest.approx(one[at] + one[total] / len(values), abs=rounding)
    assert other[squares] == pytest.approx(one[squares], rel=1e-9, abs=1e-9 * spread**2 + 1e-12)


@given(streams, cuts)
def test_a_pane_is_the_sum_of_its_fragments(stream: list[Answer], at: list[int]) -> None:
    """What was gained from commit to commit, put together, is the pane; and it goes on from there."""
    panes, fragments = filled(stream, at, committing=True)
    assert panes.drain_fragments() == []

    restored = Panes(PLACES.get)
    for (variant, pane), bodies in fragments.items():
        restored.restore(variant, pane, whole(bodies))
    for it in (panes, restored):
        it.add(columns(stream), columns(stream).time // WIDTH, lambda variant, rows: {})

    assert repr(closed(restored)) == repr(closed(panes))


@given(streams, cuts)
def test_what_closing_writes_completes_the_fragments(stream: list[Answer], at: list[int]) -> None:
    """The last fragment of a pane is told when it closes, also when it gained nothing since the last commit."""
    panes, fragments = filled(stream, at, committing=True)
    first = columns(stream[:3])
    panes.add(first, first.time // WIDTH, lambda variant, rows: {})

    for pane, variant in panes.open():
        piece, last = panes.close(variant, pane, WIDTH)
        together = whole([*fragments.get((variant, pane), []), last.body])

        assert repr(told(slice_of(pane, together, WIDTH))) == repr(told(piece))


@given(streams)
def test_the_order_of_other_variants_does_not_matter(stream: list[Answer]) -> None:
    """Each variant's panes are its own."""
    both = closed(filled(stream)[0])
    alone = closed(filled([a for a in stream if a.variant == 1])[0])

    assert repr({key: piece for key, piece in both.items() if key[0] == 1}) == repr(alone)


# -- slices ----------------------------------------------------------------------------------------------


@given(streams, cuts)
def test_panes_that_are_merged_hold_the_answers_of_both_variants(stream: list[Answer], at: list[int]) -> None:
    """Committed before or not: all of it is in the fragment that the merged pane writes."""
    panes, fragments = filled(stream, at, committing=True)
    panes.merge(2, into=1)
    one, _ = filled([replace(answer, variant=1) for answer in stream])

    assert panes.open() == one.open()
    for pane, variant in one.open():
        (merged, rest), (wanted, _) = panes.close(variant, pane, WIDTH), one.close(variant, pane, WIDTH)
        stored = slice_of(pane, whole([*fragments.get((variant, pane), []), rest.body]), WIDTH)
        assert told(stored) == told(merged)
        assert (merged.events, merged.start, merged.end) == (wanted.events, wanted.start, wanted.end)
        assert {name: c.dense().tolist() for name, c in merged.counts.items()} == {
            name: c.dense().tolist() for name, c in wanted.counts.items()
        }
        np.testing.assert_allclose(joined_sums([merged.sums]), joined_sums([wanted.sums]), rtol=1e-6, atol=1e-3)


def test_a_time_pane_spans_its_width_and_a_counted_one_its_events() -> None:
    """Time panes are aligned to the epoch; a counted pane is where its events were."""
    held = OpenPane(first_time=1_234, last_time=1_777, events=3)

    assert (slice_of(12, held, 100).start, slice_of(12, held, 100).end) == (1_200, 1_300)
    assert (slice_of(12, held, 0).start, slice_of(12, held, 0).end) == (1_234, 1_777)


def test_a_pane_remembers_its_first_and_last_event() -> None:
    """In whatever order they came."""
    base = Answer(1, 7, True, 0, False, False, 1.0, 0.5, (NAN, NAN), None)
    stream = [Answer(**{**asdict(base), "time": time}) for time in (7, 3, 9, 5)]
    held = filled(stream, [1, 3])[0].peek(1, 0)

    assert (held.first_time, held.last_time, held.events) == (3, 9, 4)


def test_resources_are_summed_and_are_no_events() -> None:
    """What a report leaves out is not counted."""
    panes = Panes(PLACES.get)
    at = np.array([1, 1]), np.array([0, 0]), np.array([3, 4])
    panes.add_resources(*at, np.array([[100.0, 50.0, NAN], [200.0, NAN, NAN]]))
    piece, _ = panes.close(1, 0, WIDTH)
    tally = piece.counts["tally"].dense()

    assert piece.events == 0
    assert [tally[TALLY_AT[name]] for name in (PaneCounter.MEMORY, PaneCounter.CPU, PaneCounter.GPU)] == [2, 1, 0]
    assert (piece.sums[SUM_AT[Sum.MEMORY]], piece.sums[SUM_AT[Sum.MEMORY_SQUARED]]) == (300.0, 50_000.0)


def test_extreme_values_make_sums_infinite_and_nothing_else() -> None:
    """No warning, and the counts are right."""
    base = Answer(1, 7, True, 0, False, False, 2.0**53, 1.7e308, (1.0, 2.0**53), {"cost": 1.7e308})
    stream = [base, Answer(**{**asdict(base), "measured": -1.7e308}), base]
    piece, _ = filled(stream)[0].close(1, 0, WIDTH)

    assert piece.counts["tally"].dense()[TALLY_AT[PaneCounter.VALUES]] == 3
    assert piece.counts["latency"].dense()[LATENCY_CELLS - 1] == 3
    assert piece.sums[SUM_AT[Sum.VALUE_SQUARED]] == math.inf
    assert piece.sums[len(SUMS)] == math.inf


def test_vectors_of_a_reference_that_is_gone_can_be_forgotten() -> None:
    """Committed ones as well as fresh ones; the rest of the pane stays."""
    base = Answer(1, 7, True, 0, False, False, 1.0, 0.5, (NAN, NAN), None)
    panes, _ = filled([base, base], [1], committing=True)
    panes.forget(["digits"])
    piece, _ = panes.close(1, 0, WIDTH)

    assert "digits" not in piece.counts
    assert piece.events == 2


# -- in the pipeline -------------------------------------------------------------------------------------


def run_of(*events: Mapping[str, object], lateness: int = 5 * SECOND) -> Run:
    """A live run of a model with panes of ten seconds."""
    run = Run(a_core(a_model(window=timed(10 * SECOND, 10 * SECOND)), lateness=lateness))
    run.events(*events)
    return run


def test_panes_are_aligned_to_the_epoch() -> None:
    """Whenever the first event came."""
    run = run_of(prediction("a", T0 + 12_345), *believed(prediction("b", T0 + 300_000)))

    assert [(start, end) for start, end, _, _ in run.told().values("predictions")] == [(T0 + 10_000, T0 + 20_000)]


def test_a_late_prediction_is_counted_as_late_and_nowhere_else() -> None:
    """Its pane has closed: it is neither in a window nor waiting nor known as a repeat."""
    on_time = prediction("a", T0)
    late = prediction("late", T0 + 9_999)
    run = run_of(on_time, *believed(prediction("b", T0 + 15_000)), late, late, *believed(prediction("c", T0 + 30_000)))
    told = run.told()

    assert told.status["events"]["late_predictions"] == 2
    assert told.status["join"]["duplicates"] == 16  # of b and c
    assert told.status["models"]["m"]["versions"]["v1"]["predictions"] == 3
    assert [(start - T0, n) for start, _, _, n in told.values("predictions")] == [(0, 1), (10_000, 1)]


def test_a_prediction_within_the_lateness_still_counts() -> None:
    """Its pane closes when stream time, the latest event less the lateness, passes its end."""
    run = run_of(prediction("a", T0), prediction("b", T0 + 14_999), prediction("c", T0 + 9_999))

    assert run.told().status["events"]["late_predictions"] == 0
    assert run.told().status["models"]["m"]["versions"]["v1"]["predictions"] == 3


def test_a_late_report_of_resources_is_dropped() -> None:
    """It would change what was told already."""
    run = run_of(resources(T0, memory_mb=100), prediction("a", T0 + 60_000), resources(T0, memory_mb=900))
    run.events(prediction("b", T0 + 300_000))

    assert {value for _, _, value, _ in run.told().values("memory_mb")} <= {100.0}


def test_the_sum_over_panes_is_the_number_of_predictions() -> None:
    """With windows of one pane each, over several partitions and versions."""
    events = [
        prediction(f"r{i}", T0 + 1_700 * i, version=f"v{i % 3}", latency_ms=float(i)) for i in range(200)
    ]  # fmt: skip
    records = records_of(events, [i % 2 for i in range(200)])
    run = Run(a_core(a_model(window=timed(10 * SECOND, 10 * SECOND)), lateness=5 * SECOND), ends=ends_of(records))
    run.feed(records, [7, 31])
    told = run.finish()

    for version in ("v0", "v1", "v2"):
        rows = told.values("predictions", version=version)
        assert all(start % (10 * SECOND) == 0 and end == start + 10 * SECOND for start, end, _, _ in rows)
        assert sum(n for *_, n in rows) == told.status["models"]["m"]["versions"][version]["predictions"]
