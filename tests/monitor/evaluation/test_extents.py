"""Which multiples of the configured window are checked, and what is said of those that panes cannot hold."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from detectors.registry import MIN_EFFECT
from detectors.window import WindowRule
from monitor.evaluation.extents import left_out, other_extents, window_rule
from monitor.evaluation.notes import notes_on_effects, notes_on_learning, notes_on_rolling, notes_on_windows
from monitor.spec import ModelSpec, WindowSpec
from tests.monitor.kit import HOUR, MINUTE, SECOND, a_drift, a_model, counted, from_file, learned, rolled, timed

DEFAULT = (0.2, 0.5, 1.0, 2.0, 5.0)


def spec_of(window: WindowSpec, *windows: float) -> ModelSpec:
    return a_model(window=window, drift=replace(a_drift(), windows=windows or DEFAULT))


def labels(spec: ModelSpec) -> list[str]:
    return [extent.label for extent in other_extents(spec)]


def test_multiples_of_a_window_by_time_have_events_and_limits_in_proportion() -> None:
    spec = spec_of(timed(30 * SECOND, 15 * MINUTE, longest=150 * MINUTE, min_events=1_000))

    assert labels(spec) == ["3m", "450s", "30m", "75m"]
    assert [extent.rule for extent in other_extents(spec)] == [
        WindowRule(6, 60, 200), WindowRule(15, 150, 500), WindowRule(60, 600, 2_000), WindowRule(150, 1_500, 5_000)
    ]  # fmt: skip
    assert left_out(spec) == []


def test_multiples_of_a_counted_window_are_counted() -> None:
    spec = spec_of(counted(1_000, 100))

    assert labels(spec) == ["200 events", "500 events", "2000 events", "5000 events"]
    assert other_extents(spec)[0].rule == WindowRule(2, 2, 200)


def test_the_configured_window_alone_has_no_others() -> None:
    assert other_extents(spec_of(counted(1_000, 100), 1.0)) == []
    assert other_extents(replace(spec_of(counted(1_000, 100)), drift=None)) == []


def test_a_multiple_below_one_pane_is_left_out_and_said() -> None:
    spec = spec_of(counted(1_000, 1_000))

    assert labels(spec) == ["2000 events", "5000 events"]
    assert notes_on_windows(spec) == [
        f"drift.windows: {multiple} is left out: it is shorter than one pane: lower window.every (1000 events)"
        for multiple in (0.2, 0.5)
    ]


def test_a_multiple_that_is_no_whole_number_of_panes_is_rounded() -> None:
    """Half of five panes are three; a fifth more is the window itself."""
    spec = spec_of(counted(500, 100), 0.5, 1.0, 1.05)

    assert labels(spec) == ["300 events"]
    (note,) = notes_on_windows(spec)
    assert "1.05 is left out: in whole panes it is 1 times the window: lower window.every" in note


def test_a_short_window_with_too_few_events_is_left_out_and_a_long_one_is_not() -> None:
    spec = spec_of(timed(MINUTE, 10 * MINUTE, min_events=20))

    assert labels(spec) == ["20m", "50m"]
    assert ["raise window.min_events" in note for note in notes_on_windows(spec)] == [True, True]


def test_a_window_of_more_panes_than_are_kept_is_left_out() -> None:
    """And the limit of a longer one is what is kept at most."""
    spec = spec_of(timed(SECOND, 2_000 * SECOND, longest=20_000 * SECOND, min_events=1_000), 1.0, 5.0, 50.0)

    assert [extent.rule for extent in other_extents(spec)] == [WindowRule(10_000, 20_000, 5_000)]
    assert "50 is left out: it has 100000 panes, at most 20000" in notes_on_windows(spec)[0]


@given(
    st.one_of(
        st.builds(lambda every, panes: counted(every * panes, every), st.integers(1, 500), st.integers(1, 2_000)),
        st.builds(
            lambda span, longest, events: timed(SECOND, span * SECOND, longest=longest * SECOND, min_events=events),
            st.integers(1, 2_000), st.integers(1, 20_000), st.integers(1, 5_000),
        ),
    ),
    st.lists(st.floats(0.001, 100.0), unique=True, max_size=10),
)  # fmt: skip
def test_every_multiple_is_an_extent_of_its_own_or_left_out(window: WindowSpec, multiples: list[float]) -> None:
    """No two have the same panes, and each can hold what it asks for."""
    spec = spec_of(window, 1.0, *multiples)
    others = other_extents(spec)

    assert len(others) + len(left_out(spec)) == len(set(multiples) - {1.0})
    spans = [window_rule(window).span, *(extent.rule.span for extent in others)]
    assert len(set(spans)) == len(spans)
    assert all(1 <= extent.rule.span <= extent.rule.longest for extent in others)
    assert all(1 <= extent.stride <= extent.rule.span for extent in others)
    assert [extent.multiple for extent in others] == sorted(extent.multiple for extent in others)


def test_a_reference_that_will_be_too_short_for_the_promise_is_noted() -> None:
    """With how many predictions it would not be; and only where it is learned and drift is watched."""
    short = a_model(window=counted(1_000, 100), drift=a_drift(), reference=learned(2_000))
    (note,) = notes_on_learning(short)

    assert "2000 predictions are 2 windows of 1000" in note
    assert "raise it to 10000" in note
    assert notes_on_learning(replace(short, reference=learned(10_000))) == []
    assert notes_on_learning(replace(short, drift=None)) == []
    assert notes_on_learning(replace(short, reference=from_file())) == []


def test_a_minimum_effect_that_is_never_reached_is_noted() -> None:
    """Distances between distributions and shares are at most 1; Wasserstein's has no bound."""
    drift = replace(a_drift(), min_effect={**MIN_EFFECT, "ks": 2, "wasserstein": 2, "missing_rate": 1.5})

    assert notes_on_effects(a_model(drift=drift)) == [
        "drift.min_effect.ks: 2 is never reached, so ks raises no alarm: it is at most 1; set a smaller one, such as "
        "0.1, or leave ks out of drift.numeric",
        "drift.min_effect.missing_rate: 1.5 is never reached, so missing_rate raises no alarm: it is at most 1; set a "
        "smaller one, such as 0.05",
    ]
    assert notes_on_effects(a_model(drift=replace(drift, numeric=("psi",), min_effect={**MIN_EFFECT, "ks": 2}))) == []
    assert notes_on_effects(a_model()) == []


def test_more_traffic_than_a_rolling_reference_keeps_whole_windows_of_is_noted() -> None:
    """64 windows of 15 minutes hold 57 600 predictions at one a second, and 115 200 at two."""
    window = timed(30 * SECOND, 15 * MINUTE, min_events=100)
    model = a_model(window=window, drift=a_drift(), reference=rolled(1_000, 720 * HOUR))

    assert notes_on_rolling(model, 1, 100_000) == []
    (note,) = notes_on_rolling(model, 2, 100_000)
    assert note.startswith("reference.rolling: at 2 predictions a second the promise of false alarms is only assumed")
    assert "as limits.learning (100000) is too small for enough whole windows" in note
    assert notes_on_rolling(replace(model, drift=None), 2, 100_000) == []
    assert notes_on_rolling(replace(model, reference=learned(1_000)), 2, 100_000) == []
