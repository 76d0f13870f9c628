"""One decision a look: which proposal it follows, and that their order does not matter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallback.chain import answering, tiers
from fallback.decisions import initial
from fallback.types import BusinessRule, Condition, Health, Reason, Route, Serving, ServingSpec, Tier
from monitor.alerting.episodes import EpisodeState
from monitor.saved import from_plain, to_plain
from monitor.serving.controller import ServingController
from monitor.serving.proposals import Action, HealthOf, Proposal, Proposer, ServingEffects, choose
from monitor.serving.state import ServingState

SPEC = ServingSpec(
    champion="v1",
    previous="v0",
    routes=(Route("v2", 1_000), Route("v3", 500)),
    shadows=("v4",),
    rules=(BusinessRule((Condition("load", ">", 3),), 1),),
    default=0,
    has_default=True,
)
VERSIONS = ("v0", "v1", "v2", "v3", "v4", "rules")


def fails(action: Action, version: str, rank: int = 0, cause: str | None = None) -> Proposal:
    """What a rule proposes that begins to fire."""
    return Proposal(Proposer.RULES, action, version, cause, rank)


def well(version: str) -> Health:
    return Health.HEALTHY


def decided_state(serving: Serving, spec: ServingSpec = SPEC) -> ServingState:
    """After the first decision."""
    return ServingState(serving, spec, generation=3)


def look(state: ServingState, proposals: Sequence[Proposal], health: HealthOf) -> tuple[ServingState, ServingEffects]:
    """One look, on a copy of the state."""
    controller = ServingController("m", SPEC, "m/0")
    controller.restore(from_plain(to_plain(state), ServingState))
    effects = controller.decide(proposals, health, 100)
    return controller.state, effects


# -- precedence ------------------------------------------------------------------------------------------

IN_ORDER = [
    Proposal.configure(replace(SPEC, shadows=())),
    Proposal.make_champion("v2"),
    Proposal.acknowledge(),
    fails(Action.STEP_DOWN, "v2"),
    fails(Action.ROLL_BACK, "v1"),
    fails(Action.STEP_DOWN, "v0"),
    Proposal.recover(),
]
STEPPED_DOWN = decided_state(replace(initial(SPEC), active=Tier.PREVIOUS, failed=(Tier.PRIMARY,)))


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_of_several_proposals_the_first_by_precedence_is_followed(first: int) -> None:
    """Configuration, operators, rollback of a challenger, of the champion, stepping down, recovery."""
    change = choose(reversed(IN_ORDER[first:]), STEPPED_DOWN, well)

    assert change is not None
    assert change.proposal == IN_ORDER[first]


def test_the_first_decision_comes_before_everything() -> None:
    change = choose([*IN_ORDER, Proposal.start()], ServingState.of(SPEC), well)

    assert change is not None
    assert change.reason is Reason.INITIAL


def test_of_two_rules_the_first_of_the_configuration_is_the_cause() -> None:
    proposals = [fails(Action.STEP_DOWN, "v1", rank, f"alert {rank}") for rank in (2, 0, 1)]

    change = choose(proposals, decided_state(initial(SPEC)), well)

    assert change is not None
    assert change.proposal.cause == "alert 0"


def test_a_proposal_that_would_change_nothing_gives_way_to_the_next() -> None:
    """The version has no share and does not answer."""
    change = choose(
        [fails(Action.ROLL_BACK, "v9"), fails(Action.STEP_DOWN, "v1", 7)], decided_state(initial(SPEC)), well
    )

    assert change is not None
    assert (change.proposal.version, change.reason) == ("v1", Reason.FALLBACK_ENGAGED)


def test_without_a_proposal_that_changes_something_nothing_is_decided() -> None:
    state, effects = look(decided_state(initial(SPEC)), [Proposal.recover(), fails(Action.STEP_DOWN, "v9")], well)

    assert effects == ServingEffects()
    assert state == decided_state(initial(SPEC))


def test_two_rules_on_a_champion_are_one_decision() -> None:
    """One wants to step down, the other to roll back: it is rolled back, and there is no fallback to end."""
    before = decided_state(initial(SPEC))
    state, effects = look(before, [fails(Action.STEP_DOWN, "v1", 0), fails(Action.ROLL_BACK, "v1", 1)], well)

    assert state.generation == before.generation + 1
    assert (state.serving.champion, state.serving.active) == ("v0", Tier.PRIMARY)
    assert [(r.subject.kind.value, r.status.value) for r in effects.records] == [("rollback", "firing")]


def test_alerts_follow_the_decision_that_gave_rise_to_them() -> None:
    _, effects = look(decided_state(initial(SPEC)), [fails(Action.STEP_DOWN, "v1")], well)

    assert effects.published == (effects.decision, *effects.records)
    assert len(effects.records) == 1


def test_several_versions_that_have_traffic_again_are_told_in_a_set_order() -> None:
    """The champion first, then challengers as they are configured."""
    serving = replace(initial(SPEC), champion="v9", challengers=(), previous=None)
    rolled_back = {version: EpisodeState(starts_at=5) for version in ("v2", "v1", "v3")}
    state = replace(decided_state(serving, replace(SPEC, champion="v9", routes=())), rolled_back=rolled_back)

    _, effects = look(state, [Proposal.configure(SPEC)], well)

    assert [record.subject.version for record in effects.records] == ["v1", "v2", "v3"]


# -- laws ------------------------------------------------------------------------------------------------

rules_of = st.builds(
    fails,
    st.sampled_from([Action.ROLL_BACK, Action.STEP_DOWN]),
    st.sampled_from(VERSIONS),
    st.integers(0, 3),
    st.sampled_from([None, "a", "b"]),
)
operators = st.just(Proposal.acknowledge()) | st.builds(Proposal.make_champion, st.sampled_from(VERSIONS))
some_proposals = st.lists(rules_of | operators | st.just(Proposal.recover()) | st.just(Proposal.start()), max_size=6)
configurations = st.lists(
    st.builds(
        lambda **changed: Proposal.configure(replace(SPEC, **changed)),
        champion=st.sampled_from(["v1", "v2"]),
        routes=st.sampled_from([SPEC.routes, ()]),
        chain=st.sampled_from([SPEC.chain, (Tier.RULES, Tier.DEFAULT)]),
    ),
    max_size=1,
)
healths = st.fixed_dictionaries({version: st.sampled_from(Health) for version in (*VERSIONS, "default")})


@st.composite
def states(draw: st.DrawFn) -> ServingState:
    """Any state that decisions lead to, and some more."""
    routes = draw(st.permutations(SPEC.routes).map(tuple))
    serving = initial(replace(SPEC, previous=draw(st.sampled_from(["v0", None])), routes=routes))
    order = tiers(serving)
    at = draw(st.integers(0, len(order) - 1))
    failed = tuple(tier for tier in order[:at] if draw(st.booleans()))
    alerts = draw(st.dictionaries(st.sampled_from(VERSIONS[:4]), st.builds(EpisodeState, st.sampled_from([None, 5]))))
    return ServingState(
        serving=replace(serving, active=order[at], failed=failed),
        configured=SPEC,
        generation=draw(st.sampled_from([0, 3])),
        rolled_back=alerts,
        fallback=EpisodeState(starts_at=9 if at else None),
    )


@settings(max_examples=300)
@given(states(), some_proposals, configurations, healths, st.randoms(use_true_random=False))
def test_the_order_of_proposals_does_not_matter(
    state: ServingState,
    proposals: list[Proposal],
    configuration: list[Proposal],
    health: dict[str, Health],
    r: random.Random,
) -> None:
    """The same decision, the same alerts, the same state."""
    given_order = [*proposals, *configuration]
    shuffled = list(given_order)
    r.shuffle(shuffled)

    one, other = (look(state, order, health.__getitem__) for order in (given_order, shuffled))

    assert one[0] == other[0]
    assert one[1].published == other[1].published


@settings(max_examples=300)
@given(states(), some_proposals, healths)
def test_a_look_makes_one_decision_at_most_and_numbers_it(
    state: ServingState, proposals: list[Proposal], health: dict[str, Health]
) -> None:
    after, effects = look(state, proposals, health.__getitem__)

    assert after.generation == state.generation + (effects.decision is not None)
    assert (after.serving == state.serving) or effects.decision is not None
    if effects.decision is not None:
        assert (effects.decision.serving, effects.decision.generation) == (after.serving, after.generation)


@settings(max_examples=200)
@given(states(), rules_of, healths)
def test_a_version_that_a_rule_accuses_does_not_go_on_answering_where_another_can(
    state: ServingState, proposal: Proposal, health: dict[str, Health]
) -> None:
    after, _ = look(state, [proposal], health.__getitem__)

    if answering(state.serving, state.serving.active) == proposal.version and state.serving.active is not Tier.DEFAULT:
        assert answering(after.serving, after.serving.active) != proposal.version
