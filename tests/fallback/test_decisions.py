"""Decisions: each move does what it says and nothing else, and the published document says all of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.chain import tiers
from fallback.decisions import (
    document,
    initial,
    make_champion,
    reconfigured,
    recover,
    roll_back,
    serving_of,
    shadows,
    step_down,
)
from fallback.types import WHOLE, Decision, Reason, Serving, ServingSpec, Tier
from tests.fallback.servings import A_RULE, a_document, a_full_serving, a_serving, routes, servings

SPEC = ServingSpec("v1", "v0", ("v3",), {"internal": "v2"}, routes=routes(("v2", 500)))


# -- configuration ---------------------------------------------------------------------------------------


def test_a_model_begins_as_configured() -> None:
    """At the primary tier."""
    found = initial(SPEC)

    assert (found.champion, found.previous, found.challengers) == ("v1", "v0", routes(("v2", 500)))
    assert (found.shadows, found.cohorts, found.active, found.failed) == (
        ("v3",), {"internal": "v2"}, Tier.PRIMARY, ()
    )  # fmt: skip


def test_a_challenger_without_a_share_is_none() -> None:
    """`routes: {v2: 0%}`."""
    assert initial(replace(SPEC, routes=routes(("v2", 0), ("v3", 1)))).challengers == routes(("v3", 1))


def test_impossible_shares_are_refused() -> None:
    """At the start, not with the first request."""
    with pytest.raises(ValueError, match="110% of the traffic"):
        initial(replace(SPEC, routes=routes(("v2", 11_000))))


@given(servings)
def test_the_same_configuration_changes_nothing(serving: Serving) -> None:
    """Whatever was decided since."""
    assert reconfigured(serving, SPEC, SPEC) is None


def test_only_what_was_changed_in_the_configuration_is_applied() -> None:
    """A rollback since then stays in force."""
    rolled_back = replace(initial(SPEC), champion="v0", previous=None, challengers=())
    found = reconfigured(rolled_back, SPEC, replace(SPEC, shadows=("v9",)))

    assert found == replace(rolled_back, shadows=("v9",))


def test_a_change_to_what_is_in_force_already_is_none() -> None:
    """An operator did by command what the file says now."""
    after = replace(SPEC, champion="v0", previous=None)

    assert reconfigured(replace(initial(SPEC), champion="v0", previous=None), SPEC, after) is None


def test_a_challenger_that_became_champion_has_no_share_of_its_own() -> None:
    """It has the rest."""
    found = reconfigured(initial(SPEC), SPEC, replace(SPEC, champion="v2"))

    assert found is not None
    assert (found.champion, found.challengers) == ("v2", ())


def test_an_active_tier_that_is_no_longer_there_is_left_for_the_primary() -> None:
    """The rules that answered were taken out of the configuration."""
    before = replace(SPEC, rules=(A_RULE,))
    serving = replace(initial(before), active=Tier.RULES, failed=(Tier.PRIMARY, Tier.PREVIOUS))
    found = reconfigured(serving, before, SPEC)

    assert found is not None
    assert (found.active, found.failed) == (Tier.PRIMARY, ())


def test_a_changed_configuration_with_impossible_shares_is_refused() -> None:
    """Nothing is applied."""
    with pytest.raises(ValueError, match="of the traffic"):
        reconfigured(initial(SPEC), SPEC, replace(SPEC, routes=routes(("v2", 6_000), ("v3", 6_000))))


# -- rolling back ----------------------------------------------------------------------------------------


def test_a_challenger_that_is_rolled_back_loses_its_share() -> None:
    """To the champion; others keep theirs."""
    serving = a_serving(challengers=routes(("v2", 500), ("v3", 700)))

    assert roll_back(serving, "v2") == replace(serving, challengers=routes(("v3", 700)))


def test_a_champion_that_is_rolled_back_makes_room_for_the_previous_version() -> None:
    """Which is used up by that: the next rollback has nowhere to go."""
    found = roll_back(a_serving(previous="v0"), "v1")

    assert found is not None
    assert (found.champion, found.previous) == ("v0", None)
    assert roll_back(found, "v0") is None


@pytest.mark.parametrize("version", ["v1", "v0", "v9"])
def test_what_cannot_be_rolled_back_is_not(version: str) -> None:
    """A champion without a previous version, a version without a share."""
    assert roll_back(a_serving(), version) is None


def test_a_version_that_becomes_champion_is_nothing_else() -> None:
    """Neither challenger nor shadow, and a fallback is over."""
    serving = a_full_serving(
        challengers=routes(("v2", 500)), shadows=("v2", "v3"), active=Tier.RULES, failed=(Tier.PRIMARY,)
    )
    found = make_champion(serving, "v2")

    assert found is not None
    assert (found.champion, found.challengers, found.shadows) == ("v2", (), ("v3",))
    assert (found.active, found.failed, found.previous) == (Tier.PRIMARY, (), "v0")


def test_the_champion_is_the_champion_already() -> None:
    """Nothing to decide."""
    assert make_champion(a_serving(), "v1") is None


# -- the chain -------------------------------------------------------------------------------------------


def test_stepping_down_goes_to_the_next_tier_that_is_there() -> None:
    """And remembers what failed; routes stay."""
    serving = a_full_serving(previous=None, challengers=routes(("v2", 500)))
    found = step_down(serving, Tier.PRIMARY)

    assert found == replace(serving, active=Tier.RULES, failed=(Tier.PRIMARY,))


def test_a_tier_that_does_not_serve_cannot_step_down() -> None:
    """Another breach was faster."""
    assert step_down(a_full_serving(active=Tier.RULES), Tier.PRIMARY) is None


@given(servings)
def test_stepping_down_ends_at_the_last_tier(serving: Serving) -> None:
    """Through all that are there, each once; and the last does not fail."""
    seen = [serving.active]
    while (after := step_down(serving, serving.active)) is not None:
        serving = after
        seen.append(serving.active)

    assert tuple(seen) == tiers(serving)
    assert serving.failed == tuple(seen[:-1])


def test_recovery_goes_up_and_forgets_what_is_below() -> None:
    """The tiers above stay failed."""
    serving = a_full_serving(active=Tier.DEFAULT, failed=(Tier.PRIMARY, Tier.PREVIOUS, Tier.RULES))
    found = recover(serving, Tier.PREVIOUS)

    assert found is not None
    assert (found.active, found.failed) == (Tier.PREVIOUS, (Tier.PRIMARY,))


@pytest.mark.parametrize("tier", [Tier.RULES, Tier.ENSEMBLE, Tier.DEFAULT])
def test_recovery_never_goes_down(tier: Tier) -> None:
    """Nor to where it is."""
    assert recover(a_full_serving(active=Tier.RULES, failed=(Tier.PRIMARY,)), tier) is None


def test_recovery_to_a_tier_that_is_not_there_is_none() -> None:
    """Its version was taken out of the configuration."""
    serving = a_full_serving(previous=None, active=Tier.DEFAULT, failed=(Tier.PRIMARY, Tier.PREVIOUS))

    assert recover(serving, Tier.PREVIOUS) is None


@given(servings, st.integers(1, 4))
def test_down_and_up_again_is_where_it_was(serving: Serving, steps: int) -> None:
    """Nothing of a fallback remains."""
    down = serving
    for _ in range(steps):
        down = step_down(down, down.active) or down

    if down != serving:
        assert recover(down, Tier.PRIMARY) == serving


def test_versions_of_failed_tiers_are_watched_as_shadows() -> None:
    """That is where the evidence of their recovery comes from; what serves is no shadow."""
    serving = a_full_serving(shadows=("v3", "v0"))

    assert shadows(serving) == ("v3", "v0")
    assert shadows(replace(serving, active=Tier.PREVIOUS, failed=(Tier.PRIMARY,))) == ("v3", "v1")
    assert shadows(replace(serving, active=Tier.RULES, failed=(Tier.PRIMARY, Tier.PREVIOUS))) == ("v3", "v0", "v1")


# -- the document ----------------------------------------------------------------------------------------


def test_the_document_is_that_of_the_contract() -> None:
    """Field by field."""
    serving = a_full_serving(
        challengers=routes(("v2", 500)), shadows=("v3",), cohorts={"internal": "v2"}, active=Tier.PREVIOUS,
        failed=(Tier.PRIMARY,),
    )  # fmt: skip
    decision = Decision("m", 17, 1_763_717_400_123, Reason.FALLBACK_ENGAGED, "alert", serving, "m/5", "rules")

    assert document(decision) == {
        "schema": 1,
        "model": "m",
        "generation": 17,
        "issued_at": "2025-11-21T09:30:00.123Z",
        "reason": "fallback_engaged",
        "by": "rules",
        "cause": "alert",
        "champion": "v1",
        "routes": [{"version": "v2", "weight": 500}, {"version": "v1", "weight": 9_500}],
        "shadows": ["v3", "v1"],
        "cohorts": {"internal": "v2"},
        "chain": ["previous", "rules", "ensemble", "default"],
        "levels": {
            "previous": "v0",
            "ensemble": ["v0", "v1"],
            "rules": [{"when": [{"feature": "load", "op": ">", "value": 0.9}], "then": 0.95}],
            "default": {"value": 0},
        },
        "active_level": "previous",
        "salt": "m/5",
        "rollout": None,
    }


@given(servings)
def test_a_document_is_json_whose_weights_sum_to_the_whole(serving: Serving) -> None:
    """Whatever was decided."""
    found = a_document(serving)

    assert json.loads(json.dumps(found)) == found
    assert sum(route["weight"] for route in found["routes"]) == WHOLE
    assert found["chain"] == [tier.value for tier in serving.chain]


def test_a_default_that_is_not_there_is_told_from_a_default_of_nothing() -> None:
    """`null` is no tier, `{"value": null}` is one."""
    assert a_document(a_serving())["levels"]["default"] is None
    assert a_document(a_serving(has_default=True))["levels"]["default"] == {"value": None}


def test_a_decision_of_an_earlier_or_a_later_release_is_read() -> None:
    serving = a_full_serving(failed=())
    found = document(Decision("m", 17, 1_763_717_400_123, Reason.MANUAL, None, serving, "m/5", "ada"))
    earlier = {name: value for name, value in found.items() if name != "by"}

    assert serving_of(earlier) == serving_of({**found, "audit_head": "x", "store_epoch": 5}) == serving_of(found)
