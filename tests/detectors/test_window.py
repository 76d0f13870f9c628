"""A sliding window is what a recount of its panes would be, whatever came and went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.pane import Counts
from detectors.window import Slice, Window, WindowRule

WIDTH = 10
NAMES = ("a", "b")


@dataclass(frozen=True)
class Step:
    """A pane that comes `gap` panes after the one before; or, where `forget` is set, a vector that goes."""

    gap: int
    events: int
    numbers: tuple[int, int]
    lacks: str
    forget: str


steps = st.lists(
    st.builds(
        Step,
        st.integers(1, 4),
        st.integers(0, 20),
        st.tuples(st.integers(0, 9), st.integers(0, 9)),
        st.sampled_from(["", *NAMES]),
        st.sampled_from(["", "", "", "", *NAMES]),
    ),
    min_size=1,
    max_size=40,
)
rules = st.integers(1, 6).flatmap(
    lambda span: st.builds(WindowRule, st.just(span), st.integers(span, 12), st.integers(1, 60))
)


def a_slice(pane: int, step: Step) -> Slice:
    """A pane with a sparse and a dense vector, and sums that no order of addition leaves alone."""
    counts = {
        "a": Counts.of(np.array([step.numbers[0], 0, 0, 0, 0, 0, 0, 0])),
        "b": Counts(2, None, np.array(step.numbers)),
    }
    kept = {name: vector for name, vector in counts.items() if name != step.lacks}
    sums = np.array([0.1 * step.numbers[0], 1e16 * step.numbers[1]])
    return Slice(pane, pane * WIDTH, (pane + 1) * WIDTH, step.events, kept, sums)


def recount(rule: WindowRule, panes: list[Slice]) -> list[Slice]:
    """The latest panes: over at least the span and at least so many events, but never beyond the longest."""
    last, kept, events = panes[-1].pane, [panes[-1]], panes[-1].events
    for piece in reversed(panes[:-1]):
        within_span = piece.pane > last - rule.span
        if piece.pane <= last - rule.longest or not (within_span or events < rule.min_events):
            break
        kept.insert(0, piece)
        events += piece.events
    return kept


@given(rules, steps)
def test_a_sliding_window_equals_a_recount_from_scratch(rule: WindowRule, script: list[Step]) -> None:
    """After any panes that came and any vectors that were forgotten."""
    window, panes, pane = Window(rule), list[Slice](), 0
    for step in script:
        pane += step.gap
        piece = a_slice(pane, step)
        window.push(piece)
        panes.append(piece)
        if step.forget:
            window.forget(step.forget)
            panes = [without(p, step.forget) for p in panes]
        held = recount(rule, panes)

        assert [p.pane for p in window] == [p.pane for p in held]
        assert (window.events, window.start, window.end) == (
            sum(p.events for p in held), held[0].start, held[-1].end
        )  # fmt: skip
        assert (window.first_pane, len(window)) == (held[0].pane, len(held))
        for name in NAMES:
            total, parts = window.total(name), [p.counts[name].dense() for p in held if name in p.counts]
            assert (None if total is None else total.tolist()) == (np.sum(parts, axis=0).tolist() if parts else None)


def without(piece: Slice, name: str) -> Slice:
    counts = {k: v for k, v in piece.counts.items() if k != name}
    return Slice(piece.pane, piece.start, piece.end, piece.events, counts, piece.sums)


@given(rules, steps, steps)
def test_a_window_that_was_filled_anew_is_the_same(rule: WindowRule, lost: list[Step], script: list[Step]) -> None:
    """After a restart only the panes that the window holds are there: what left it leaves no trace."""
    window, pane = Window(rule), 0
    for step in [*lost, *script]:
        pane += step.gap
        window.push(a_slice(pane, step))
    again = Window(rule)
    for piece in window:
        again.push(piece)

    assert [p.pane for p in again] == [p.pane for p in window]
    for name in NAMES:
        total, other = window.total(name), again.total(name)
        assert (None if total is None else total.tolist()) == (None if other is None else other.tolist())


@given(rules, steps)
def test_looking_at_a_partial_pane_changes_nothing(rule: WindowRule, script: list[Step]) -> None:
    """What a window would be if it ended now is another window."""
    window, pane = Window(rule), 0
    for step in script:
        pane += step.gap
        window.push(a_slice(pane, step))
    before = [p.pane for p in window], window.events

    partial = window.with_partial(a_slice(pane + 1, script[0]))

    assert ([p.pane for p in window], window.events) == before
    assert partial.end == (pane + 2) * WIDTH


def test_a_window_by_time_reaches_back_until_it_has_enough_events() -> None:
    """Six events in the span of two panes are not ten: a third one is needed."""
    window = Window(WindowRule(span=2, longest=5, min_events=10))
    for pane, events in enumerate([9, 4, 3, 3]):
        window.push(a_slice(pane, Step(1, events, (0, 0), "", "")))

    assert [p.pane for p in window] == [1, 2, 3]


def test_a_window_never_reaches_back_beyond_its_bound() -> None:
    """However few events it has: a night without traffic does not bring last week back."""
    window = Window(WindowRule(span=2, longest=3, min_events=1_000))
    for pane in (0, 1, 2, 9):
        window.push(a_slice(pane, Step(1, 5, (0, 0), "", "")))

    assert [p.pane for p in window] == [9]


def test_an_empty_window_holds_nothing() -> None:
    """Nobody may ask when it begins."""
    window = Window(WindowRule(1, 1, 1))

    assert (len(window), window.events, window.total("a")) == (0, 0, None)


@given(rules, steps)
def test_a_window_spans_its_extent_once_it_reaches_back_so_far_with_enough_events(
    rule: WindowRule, script: list[Step]
) -> None:
    """A window that has just begun does not, nor one of which a pane lacks what is asked for."""
    window, pane = Window(rule), 0
    for step in script:
        pane += step.gap
        window.push(a_slice(pane, step))
        held = list(window)
        for name in NAMES:
            full = window.events >= rule.min_events and pane - held[0].pane + 1 >= 0.9 * rule.span
            assert window.spans(name) == (full and all(name in piece.counts for piece in held))


@given(st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_a_run_of_panes_begins_once_whatever_panes_lack(length: int, gaps: list[int]) -> None:
    """Numbers say which pane is the first of its run: after a restart it is the same one."""
    window, pane, begun = Window(WindowRule(100, 1_000, 1)), 0, list[int]()
    for gap in gaps:
        pane += gap
        window.push(a_slice(pane, Step(1, 1, (0, 0), "", "")))
        if window.begins_run(length):
            begun.append(pane // length)

    assert begun == sorted(set(begun))
