"""Health: it falls at once and rises slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fallback.health import HealthState, observe, worst
from fallback.types import Health

HEALTHY, DEGRADED, FAILED = Health.HEALTHY, Health.DEGRADED, Health.FAILED
ORDER = [HEALTHY, DEGRADED, FAILED]
AFTER = 100
checks = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(ORDER)), max_size=40)


def after(*observed: tuple[int, Health]) -> HealthState:
    """The state after checks at these times."""
    state = HealthState()
    for now, health in observed:
        state = observe(state, health, now, AFTER)
    return state


def test_a_version_is_healthy_until_something_is_said() -> None:
    """Without any check."""
    assert after() == HealthState(HEALTHY, None)


def test_worse_counts_at_once() -> None:
    """The first check that says so."""
    assert after((0, DEGRADED)).health is DEGRADED
    assert after((0, DEGRADED), (1, FAILED)).health is FAILED


def test_better_counts_after_its_time() -> None:
    """From the first check that was better."""
    failed = ((0, FAILED), (10, HEALTHY))

    assert after(*failed, (109, HEALTHY)).health is FAILED
    assert after(*failed, (110, HEALTHY)).health is HEALTHY


def test_a_relapse_begins_the_wait_anew() -> None:
    """One bad check in between."""
    relapsed = ((0, FAILED), (10, HEALTHY), (60, FAILED), (70, HEALTHY))

    assert after(*relapsed, (150, HEALTHY)).health is FAILED
    assert after(*relapsed, (170, HEALTHY)).health is HEALTHY


def test_what_is_only_a_little_better_is_what_it_becomes() -> None:
    """A failed version that is degraded for long is degraded, not healthy."""
    assert after((0, FAILED), (10, DEGRADED), (110, DEGRADED)).health is DEGRADED


def test_the_wait_goes_on_while_checks_say_different_things_that_are_better() -> None:
    """The last of them decides."""
    assert after((0, FAILED), (10, DEGRADED), (60, HEALTHY), (110, HEALTHY)).health is HEALTHY


def test_silence_is_no_recovery() -> None:
    """A single check much later is the beginning of the wait, not its end."""
    assert after((0, FAILED), (10_000, HEALTHY)).health is FAILED


def test_without_a_wait_better_counts_at_once() -> None:
    """`recover_after: 0`."""
    assert observe(HealthState(FAILED), HEALTHY, 5, 0) == HealthState(HEALTHY)


def test_a_clock_that_steps_back_does_not_lengthen_the_wait_for_ever() -> None:
    """The wait begins at the earliest time that was seen."""
    state = observe(HealthState(FAILED, 1_000), HEALTHY, 10, AFTER)

    assert state.better_since == 10
    assert observe(state, HEALTHY, 110, AFTER).health is HEALTHY


def test_the_worst_of_several_counts() -> None:
    """Healthy without any."""
    assert worst([]) is HEALTHY
    assert worst([DEGRADED, HEALTHY]) is DEGRADED
    assert worst([DEGRADED, FAILED, HEALTHY]) is FAILED


@given(checks)
def test_health_is_never_better_than_what_was_seen_for_so_long(steps: list[tuple[int, Health]]) -> None:
    """Against all checks of the last `AFTER`, looked up one by one."""
    state, now, seen = HealthState(), 0, list[tuple[int, Health]]()
    for gap, health in steps:
        now += gap
        state = observe(state, health, now, AFTER)
        seen.append((now, health))
        assert ORDER.index(state.health) >= ORDER.index(health)
        if ORDER.index(state.health) > ORDER.index(health):
            assert state.better_since is not None
            assert now - state.better_since < AFTER
        recent = [h for at, h in seen if now - at < AFTER]
        if len(recent) == len(seen):
            assert state.health is worst(recent)
