"""Features and a model's answers share one space of names without being taken for each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.names import feature_of, shown_name

names = st.text(max_size=6) | st.builds(
    "".join, st.tuples(st.sampled_from(["", "features.", "features.features."]), st.sampled_from(["score", "x", ""]))
)


@pytest.mark.parametrize(
    ("feature", "shown"),
    [
        ("load", "load"), ("score", "features.score"), ("prediction", "features.prediction"), ("scores", "scores"),
        ("Score", "Score"), ("features.score", "features.features.score"), ("features.load", "features.load"),
        ("actual", "actual"), ("latency", "latency"), ("", ""),
    ],
)  # fmt: skip
def test_only_what_would_be_taken_for_an_answer_is_shown_otherwise(feature: str, shown: str) -> None:
    assert shown_name(feature) == shown


@given(names)
def test_what_is_shown_says_which_feature_it_is(feature: str) -> None:
    """So no two features are shown alike, and none like an answer."""
    assert feature_of(shown_name(feature)) == feature


def test_the_plain_names_are_those_of_the_answers() -> None:
    assert feature_of("prediction") is None
    assert feature_of("score") is None
