"""Routing: anybody can compute it, it sticks, and raising a share moves nobody but those it adds."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.routing import bucket, choose, weights
from fallback.types import WHOLE, Route
from tests.fallback.servings import a_serving, challengers, routes

keys = st.text(max_size=40)
KEYS = [f"user-{i}" for i in range(20_000)]


# -- known answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("salt", "key", "expected"),
    [
        ("heat_predictor/0", "user-42", 5645),
        ("heat_predictor/5", "7f3c", 614),
        ("m/0", "a", 5061),
        ("m/1", "a", 8453),
        ("m/0", "", 4328),
        ("m/0", "ü✓", 2494),
    ],
)
def test_a_bucket_has_the_known_answer(salt: str, key: str, expected: int) -> None:
    """These never change: applications in other languages compute the same."""
    assert bucket(salt, key) == expected


@given(keys, keys)
def test_a_bucket_is_eight_bytes_of_sha256(salt: str, key: str) -> None:
    """Big-endian, modulo ten thousand; spelled out here once more."""
    digest = hashlib.sha256((salt + ":" + key).encode("utf-8")).hexdigest()

    assert bucket(salt, key) == int(digest[:16], 16) % 10_000


def test_buckets_are_even() -> None:
    """Of twenty thousand keys about two thousand in each tenth."""
    tenths = Counter(bucket("m/0", key) // 1_000 for key in KEYS)

    assert all(1_830 < tenths[i] < 2_170 for i in range(10))


def test_another_salt_mixes_anew() -> None:
    """A new rollout does not meet the same users first."""
    first = {key for key in KEYS if bucket("m/0", key) < 500}
    second = {key for key in KEYS if bucket("m/1", key) < 500}

    assert len(first & second) < 0.1 * len(first)


# -- weights ---------------------------------------------------------------------------------------------


@given(challengers)
def test_weights_sum_to_the_whole(routed: tuple[Route, ...]) -> None:
    """Challengers in their order, the champion last with the rest."""
    found = weights("v1", routed)

    assert sum(route.weight for route in found) == WHOLE
    assert found[:-1] == routed
    assert found[-1].version == "v1"


@pytest.mark.parametrize(
    ("routed", "fault"),
    [
        (routes(("a", 6_000), ("b", 4_001)), "100.01% of the traffic"),
        (routes(("a", -1)), "negative"),
        (routes(("a", 1), ("a", 2)), "stands twice"),
        (routes(("v1", 1)), "stands twice"),
    ],
)
def test_impossible_shares_are_refused(routed: tuple[Route, ...], fault: str) -> None:
    """With what is wrong about them."""
    with pytest.raises(ValueError, match=fault):
        weights("v1", routed)


# -- choosing --------------------------------------------------------------------------------------------


@given(challengers, keys)
def test_a_key_is_answered_by_the_owner_of_its_bucket(routed: tuple[Route, ...], key: str) -> None:
    """Challengers own consecutive ranges from zero on, the champion the rest."""
    owners = [route.version for route in weights("v1", routed) for _ in range(route.weight)]

    assert choose(a_serving(challengers=routed), "m/0", key) == owners[bucket("m/0", key)]


@given(challengers, keys)
def test_routing_is_sticky(routed: tuple[Route, ...], key: str) -> None:
    """The same key, the same version."""
    serving = a_serving(challengers=routed)

    assert choose(serving, "m/0", key) == choose(serving, "m/0", key)


@given(st.integers(0, WHOLE), st.integers(0, WHOLE), keys)
def test_raising_the_share_of_the_first_challenger_only_adds_keys(one: int, other: int, key: str) -> None:
    """Who has met the new version keeps meeting it."""
    smaller, larger = sorted((one, other))
    before = choose(a_serving(challengers=routes(("v2", smaller))), "m/0", key)

    if before == "v2":
        assert choose(a_serving(challengers=routes(("v2", larger))), "m/0", key) == "v2"


@pytest.mark.parametrize("weight", [0, 1, 500, 2_500, WHOLE])
def test_shares_are_what_they_say(weight: int) -> None:
    """test_d18: of none none, of all all, in between within four deviations."""
    serving = a_serving(challengers=routes(("v2", weight)))
    hits, share = sum(choose(serving, "m/0", key) == "v2" for key in KEYS), weight / WHOLE

    assert abs(hits - share * len(KEYS)) <= 4 * (share * (1 - share) * len(KEYS)) ** 0.5


def test_an_override_beats_a_cohort_beats_the_bucket() -> None:
    """In that order; a cohort that the decision does not know is none."""
    serving = a_serving(challengers=routes(("v2", WHOLE)), cohorts={"internal": "v3"})

    assert choose(serving, "m/0", "k") == "v2"
    assert choose(serving, "m/0", "k", cohort="strangers") == "v2"
    assert choose(serving, "m/0", "k", cohort="internal") == "v3"
    assert choose(serving, "m/0", "k", cohort="internal", override="v4") == "v4"
