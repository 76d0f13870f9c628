"""References: the same from any batches, the same after saving, and with an answer for every odd column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.pane import pack_counts
from detectors.reference import MAGIC, SCHEMA, Baseline, CategoricalReference, NumericReference, Profile, Reference
from detectors.reference_builder import CATEGORIES, DISTINCT, Column, DispersionPass, DistributionPass, build_features
from detectors.saved import DamagedError, pack, unpack
from tests.detectors.samples import NAN, a_category, a_number, binned

KINDS = {"x": True, "y": True, "c": False, "absent": True}


def some_columns(rows: int, seed: int) -> dict[str, Column]:
    """Numbers, numbers with ties and holes, texts with holes; `absent` is not there at all."""
    rng = np.random.default_rng(seed)
    holes = rng.random(rows) < 0.1
    texts: list[str | None] = [f"t{int(v)}" for v in rng.exponential(3, rows)]
    return {
        "x": rng.standard_normal(rows).cumsum(),
        "y": np.where(holes, NAN, rng.integers(0, 5, rows)),
        "c": [None if hole else text for hole, text in zip(holes, texts, strict=True)],
    }


def in_batches(columns: Mapping[str, Column], rows: int, sizes: Sequence[int], points: int) -> tuple[Reference, ...]:
    """Built from batches of these sizes, the rest at once."""
    edges = [0, *np.minimum(np.cumsum(sizes), rows).tolist(), rows]
    batches = [
        ({name: column[start:stop] for name, column in columns.items()}, stop - start)
        for start, stop in pairwise(edges)
    ]
    first = DistributionPass(KINDS, points)
    for part, count in batches:
        first.add(part, count)
    second = DispersionPass(first.features())
    for part, count in batches:
        second.add(part, count)
    return second.features()


def bytes_of(features: tuple[Reference, ...], rows: int = 0) -> bytes:
    return Profile(features, rows, ordered=True).to_bytes()


# -- building --------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 1_200),
    st.lists(st.integers(0, 500), max_size=8),
    st.sampled_from([16, 5_000]),
)
def test_a_reference_does_not_depend_on_batches(seed: int, rows: int, sizes: list[int], points: int) -> None:
    """Bit by bit: points, counts and dispersion."""
    columns = some_columns(rows, seed)

    assert bytes_of(in_batches(columns, rows, sizes, points)) == bytes_of(build_features(KINDS, columns, rows, points))


def test_a_numeric_reference_knows_its_rows() -> None:
    """Distinct points with multiplicities; what is missing is counted apart."""
    found = a_number([3.0, 1.0, NAN, 3.0, np.inf, 2.0, 3.0])

    assert found.points.tolist() == [1.0, 2.0, 3.0]
    assert found.weights.tolist() == [1, 1, 3]
    assert (found.rows, found.missing, found.ks_error, found.w1_error) == (5, 2, 0.0, 0.0)
    assert (found.mean, found.sd) == pytest.approx((np.mean([1, 2, 3, 3, 3]), np.std([1, 2, 3, 3, 3])))


def test_a_categorical_reference_knows_its_categories() -> None:
    """In alphabetical order, with how many were seen once."""
    found = a_category(["b", "a", None, "b", "c"])

    assert (found.categories, found.counts.tolist()) == (("a", "b", "c"), [1, 2, 1])
    assert (found.rows, found.missing, found.other, found.singletons, found.complete) == (4, 1, 0, 2, True)


def test_the_frequent_categories_have_cells_of_their_own() -> None:
    """Of equally frequent ones the first in the alphabet, so that the order of rows does not matter."""
    texts = [f"t{i:03}" for i in range(CATEGORIES + 50)]
    found, backwards = a_category([*texts, *texts[-20:]]), a_category([*texts[-20:], *reversed(texts)])

    assert len(found.categories) == CATEGORIES
    assert set(texts[-20:]) <= set(found.categories)
    assert (found.categories, found.other) == (backwards.categories, 50)


def test_texts_beyond_the_bound_are_counted_not_remembered() -> None:
    """An id-like column cannot grow a profile without limit."""
    found = a_category([f"t{i}" for i in range(DISTINCT + 5)])

    assert (len(found.known), found.complete) == (DISTINCT, False)
    assert found.rows == DISTINCT + 5 == int(found.counts.sum()) + found.other


def test_a_column_that_is_not_there_is_all_missing() -> None:
    """One batch may lack what another has."""
    number, category = build_features({"x": True, "c": False}, {}, 7)

    assert isinstance(number, NumericReference)
    assert isinstance(category, CategoricalReference)
    assert (number.rows, number.missing, len(number.points), number.sd) == (0, 7, 0, 0.0)
    assert (category.rows, category.missing, category.categories) == (0, 7, ())


def test_no_rows_make_an_empty_reference() -> None:
    """Of an empty table."""
    (found,) = build_features({"x": True}, {"x": np.zeros(0)}, 0)

    assert (found.rows, found.missing) == (0, 0)


def test_a_long_column_is_thinned_to_its_points() -> None:
    """p-values still use the number of rows; the errors are stated."""
    found = a_number(np.arange(10_000.0), points=100)

    assert (len(found.points), found.rows, found.ks_error) == (100, 10_000, 0.005)
    assert 0 < found.w1_error <= 100


def test_the_deviation_of_huge_values_is_finite() -> None:
    """Their squares are not."""
    assert a_number([-1e300, 1e300]).sd == pytest.approx(1e300)


def test_tiny_values_are_no_constant() -> None:
    """test_m31: a feature in small units has a scale as well."""
    assert a_number([1e-200, 3e-200]).sd == pytest.approx(1e-200)


# -- saving ----------------------------------------------------------------------------------------------


def a_profile(seed: int = 0, rows: int = 400, **parts: object) -> Profile:
    plain = Profile(build_features(KINDS, some_columns(rows, seed), rows), rows, ordered=True)
    return replace(plain, **parts)  # type: ignore[arg-type]  # a field of a profile


profiles = st.builds(
    a_profile,
    st.integers(0, 2**32 - 1),
    st.integers(0, 600),
    ordered=st.booleans(),
    first_ms=st.none() | st.integers(0, 2**45),
    last_ms=st.none() | st.integers(0, 2**45),
    baselines=st.dictionaries(
        st.text(max_size=8), st.builds(Baseline, st.floats(-1e9, 1e9), st.integers(1, 9), st.floats(0, 1)), max_size=3
    ),
    notices=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)


@settings(max_examples=30)
@given(profiles)
def test_a_saved_profile_comes_back(profile: Profile) -> None:
    """Everything in it, and so the same bytes again."""
    back = Profile.from_bytes(profile.to_bytes())

    assert back.to_bytes() == profile.to_bytes()
    assert back.content_hash == profile.content_hash
    assert (back.rows, back.ordered, back.first_ms, back.last_ms, back.notices) == (
        profile.rows, profile.ordered, profile.first_ms, profile.last_ms, profile.notices
    )  # fmt: skip
    assert dict(back.baselines) == dict(profile.baselines)
    for found, feature in zip(back.features, profile.features, strict=True):
        assert type(found) is type(feature)
        for name in feature.__slots__:
            np.testing.assert_equal(getattr(found, name), getattr(feature, name))


def test_the_hash_says_what_is_in_a_profile() -> None:
    """Equal content, equal hash, in whatever order metrics were added; anything else, another."""
    one, two = Baseline(0.9, 10, 0.1), Baseline(0.8, 10, 0.1)
    profile = a_profile(baselines={"a": one, "b": two})

    assert profile.content_hash == a_profile(baselines={"b": two, "a": one}).content_hash
    assert profile.content_hash != a_profile(baselines={"a": one, "b": one}).content_hash
    assert profile.content_hash != a_profile(seed=1, baselines={"a": one, "b": two}).content_hash


def test_the_hash_is_the_same_tomorrow() -> None:
    """Profiles are kept by it: neither a process nor a platform may change it."""
    feature = a_number([1.0, 2.0, 2.0, 5.0])

    assert Profile((feature, a_category(["b", "a", "b"])), 4, ordered=True).content_hash == "6f041a1bfd77d243"


def test_a_profile_holds_no_raw_rows() -> None:
    """test_m06, test_m30: a hundred times as many rows need the same space."""
    rng = np.random.default_rng(0)
    kinds, small, large = {"x": True}, rng.standard_normal(3_000), rng.standard_normal(300_000)

    one = bytes_of(build_features(kinds, {"x": small}, len(small)))
    other = bytes_of(build_features(kinds, {"x": large}, len(large)))
    assert len(other) < len(one) * 1.1


def test_features_are_found_by_name() -> None:
    """None for one that the profile has not."""
    profile = a_profile()

    assert profile.feature("y") is profile.features[1]
    assert profile.feature("z") is None


def named(profile: Profile, *names: str) -> Profile:
    """The profile with other names of its features."""
    return replace(
        profile, features=tuple(replace(f, name=name) for f, name in zip(profile.features, names, strict=True))
    )


def told(profile: Profile) -> tuple[list[str], list[str]]:
    return [f.name for f in profile.features], [f.name for f in profile.answers]


def test_a_feature_may_be_called_like_an_answer_of_the_model() -> None:
    """Both come back as what they were."""
    answers = named(a_profile(1), *("prediction", "score")[: len(KINDS)], *list(KINDS)[2:]).features[:2]
    profile = replace(named(a_profile(), "score", *list(KINDS)[1:]), answers=answers)
    back = Profile.from_bytes(profile.to_bytes())

    assert told(back) == (["score", *list(KINDS)[1:]], ["prediction", "score"])
    assert back.content_hash == profile.content_hash
    assert back.feature("score") is back.features[0]
    assert back.answer("score") is back.answers[1]
    assert back.answer("x") is None


def test_answers_in_a_profile_of_0_1_0_are_told_by_their_names() -> None:
    """They stood among the features, wherever their columns did."""
    header, arrays = unpack(MAGIC, a_profile().to_bytes())
    header["features"][0]["name"] = "prediction"
    old = pack(MAGIC, {**header, "schema": 1}, arrays)

    assert told(Profile.from_bytes(old)) == (list(KINDS)[1:], ["prediction"])


def test_a_profile_without_such_features_is_one_that_0_1_0_can_read() -> None:
    """Where names tell answers from features, nothing else needs to."""
    answer = named(a_profile(), "prediction", *list(KINDS)[1:]).features[:1]
    header, _ = unpack(MAGIC, replace(a_profile(), answers=answer).to_bytes())

    assert header["schema"] == 1
    assert "answers" not in header
    assert [f["name"] for f in header["features"]] == [*KINDS, "prediction"]


@settings(max_examples=30)
@given(st.data())
def test_a_damaged_profile_is_refused(data: st.DataObject) -> None:
    """With the error that callers know."""
    blob = bytearray(a_profile(rows=50).to_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DamagedError):
        Profile.from_bytes(bytes(blob))


@pytest.mark.parametrize("blob", [b"", b"a table, perhaps\n", pack_counts({}, {}, {})])
def test_what_is_no_profile_is_refused(blob: bytes) -> None:
    """`reference:` takes profiles and tables: the two must be told apart."""
    with pytest.raises(DamagedError, match="does not begin with"):
        Profile.from_bytes(blob)


def test_a_profile_of_a_newer_release_is_refused() -> None:
    """Rather than misread."""
    with pytest.raises(DamagedError, match=f"schema {SCHEMA + 1}, this release knows {SCHEMA}"):
        Profile.from_bytes(pack(MAGIC, {"schema": SCHEMA + 1}, {}))


# -- scale -----------------------------------------------------------------------------------------------


def test_the_scale_of_a_feature_is_that_of_all_its_rows() -> None:
    """Not of the points that are kept of them: a heavy tail is in the rows between."""
    rows = np.random.default_rng(2).lognormal(0, 2, 150_000)
    summary = a_number(rows)

    assert len(summary.points) < len(rows) / 10
    assert summary.sd == pytest.approx(rows.std(), rel=1e-12)
    (again,) = Profile.from_bytes(Profile((summary,), len(rows), ordered=True).to_bytes()).features
    assert isinstance(again, NumericReference)
    assert again.sd == summary.sd


@pytest.mark.parametrize("far", [1e10, 1.7e12, 2.0**53 - 2_000])
def test_a_feature_far_from_zero_has_a_scale(far: float) -> None:
    """Times in milliseconds, large counters: their digits are there."""
    rows = (far + np.arange(1_000)).astype(np.float64)
    summary = a_number(rows)

    assert summary.sd > 0.0
    assert summary.sd == pytest.approx(np.arange(1_000).std(), rel=1e-5)
    value, error = binned(summary, rows + 500).wasserstein()
    assert abs(value - 500) <= error + 1


def test_noise_of_arithmetic_is_no_scale() -> None:
    rows = np.tile([0.1 + 0.2, 0.3], 500)

    assert a_number(rows).sd == 0.0
