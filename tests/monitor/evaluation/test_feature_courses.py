"""What checks found of single features is kept for those who look: bounded, and silent about what was not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.evidence import Evidence
from detectors.findings import CheckResult, Skipped, Value
from detectors.registry import MIN_EFFECT
from monitor.evaluation.feature_courses import (
    CONFIGURED,
    DRAWN,
    FIRST,
    LARGEST,
    RECENT,
    FeatureCourses,
    stored_courses,
    watched,
)
from monitor.pipeline.shown import features_of
from monitor.spec import FeatureKind
from tests.monitor.kit import SECOND, T0, Run, a_core, a_drift, a_model, counted, learned, prediction, timed

PICTURE = Evidence((1.0,), (5, 5), (1, 9))


def a_check(values: Mapping[str, float], skipped: Mapping[str, Skipped] | None = None) -> CheckResult:
    """A check with these effects of ks, and no missing values."""
    found = [Value(name, "ks", effect, 100, effect) for name, effect in values.items()]
    found += [Value(name, "missing_rate", 0.0, 100, 0.0) for name in values]
    return CheckResult(tuple(found), (), frozenset(), skipped or {})


def followed(courses: FeatureCourses, check: CheckResult, *names: str, alarmed: Sequence[str] = ()) -> None:
    courses.move_on(names, check, MIN_EFFECT, lambda name: PICTURE, alarmed)


def test_the_latest_windows_are_kept_and_no_more() -> None:
    courses = FeatureCourses()
    for i in range(RECENT + 5):
        followed(courses, a_check({"a": i / 100}), "a")

    drift = courses.features["a"].drift
    assert drift is not None
    assert drift.ratios() == pytest.approx([i / 10 for i in range(5, RECENT + 5)])
    assert (drift.statistic, drift.effect, drift.limit) == ("ks", (RECENT + 4) / 100, 0.1)


def test_of_several_statistics_the_one_furthest_beyond_its_limit_is_told() -> None:
    courses = FeatureCourses()
    values = (Value("a", "ks", 0.2, 9, 0.2), Value("a", "wasserstein", 0.5, 9, 0.5), Value("a", "psi", 0.3, 9, 0.3))
    followed(courses, CheckResult(values, (), frozenset(), {}), "a")

    drift = courses.features["a"].drift
    assert drift is not None
    assert (drift.statistic, drift.ratio) == ("wasserstein", 5.0)


def test_a_feature_that_was_not_judged_has_a_gap_and_no_ratio() -> None:
    courses = FeatureCourses()
    followed(courses, a_check({"a": 0.3}), "a")
    followed(courses, a_check({"a": 0.0}, {"a": Skipped.BLIND}), "a")

    drift = courses.features["a"].drift
    assert drift is not None
    assert drift.ratio is None
    assert drift.ratios() == [3.0, None]
    assert (drift.statistic, drift.effect) == ("ks", 0.3)


def test_a_window_that_was_not_checked_leaves_nothing_judged() -> None:
    courses = FeatureCourses()
    followed(courses, a_check({"a": 0.3}), "a")
    courses.skip()

    assert [course.ratio for course in courses.features["a"].courses()] == [None, None]
    assert courses.features["a"].histograms is None


def test_a_feature_that_is_not_judged_any_more_is_forgotten_in_the_end() -> None:
    courses = FeatureCourses()
    followed(courses, a_check({"a": 0.3}), "a")
    for _ in range(RECENT):
        courses.skip()

    assert courses.features == {}


def test_features_of_alerts_are_drawn_and_a_few_of_the_others() -> None:
    courses = FeatureCourses()
    names = [f"f{i:02}" for i in range(20)]
    effects = {name: i / 100 for i, name in enumerate(names)}
    followed(courses, a_check(effects), *names, alarmed=names[:8])

    drawn = [name for name, its in courses.features.items() if its.histograms]
    assert sorted(drawn) == [*names[:DRAWN], *names[-LARGEST:]]


def test_a_feature_of_an_alert_is_kept_although_nobody_follows_it() -> None:
    courses = FeatureCourses()
    followed(courses, a_check({"a": 0.1, "b": 0.9, "c": 0.1}), "a", alarmed=["b"])

    assert list(courses.features) == ["a", "b"]


def test_those_configured_are_followed_or_else_the_first_of_the_reference() -> None:
    names = [f"f{i}" for i in range(100)]

    assert watched(["f70", "gone", "f3"], names) == ("f70", "f3")
    assert watched([], names, ["prediction"]) == (*names[:FIRST], "prediction")
    assert len(watched(names, names)) == CONFIGURED


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e300, allow_nan=False), min_size=1),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_stored_is_read_as_it_was(checks: list[dict[str, float]]) -> None:
    courses = FeatureCourses()
    for effects in checks:
        followed(courses, a_check(effects), "a", "b")

    again = FeatureCourses()
    again.restore(courses.saved())

    assert again.features == stored_courses(courses.saved()) == courses.features
    assert again.saved() == courses.saved()


# -- in a model ------------------------------------------------------------------------------------------


def feed(run: Run, first: int, count: int, shift: float = 0.0, **features: Any) -> None:
    """Predictions with a feature x spread over 0 to 1, moved by `shift`, and others."""
    run.events(
        *(
            prediction(f"r{i}", T0 + i * SECOND, i % 7 / 7.0, features={"x": i * 37 % 100 / 100 + shift, **features})
            for i in range(first, first + count)
        )
    )


def ratios(run: Run, name: str) -> float | None:
    version = run.told().status["models"]["m"]["versions"]["v1"]
    course = features_of(version).get(name)
    return None if course is None or course.drift is None else course.drift.ratio


def test_a_check_tells_how_far_each_feature_is_from_its_reference() -> None:
    run = Run(a_core(a_model(drift=a_drift(), reference=learned(200))))
    feed(run, 0, 400)
    calm = ratios(run, "x")
    feed(run, 400, 100, shift=0.5)

    assert calm is not None
    assert calm < 1
    assert (ratios(run, "x") or 0.0) > 4


def test_only_features_that_are_configured_are_followed_where_any_are() -> None:
    kinds = {"y": FeatureKind.NUMERIC, "z": FeatureKind.IGNORE}
    run = Run(a_core(a_model(drift=a_drift(), reference=learned(200), feature_kinds=kinds)))
    feed(run, 0, 400, y=1.0, z=2.0)

    version = run.told().status["models"]["m"]["versions"]["v1"]
    assert set(features_of(version)) == {"y"}


def test_where_the_model_is_silent_nothing_is_told_as_judged() -> None:
    by_time = timed(60 * SECOND, 120 * SECOND)
    spec = a_model(drift=a_drift(), reference=learned(100), window=by_time, no_data_after=300 * SECOND)
    run = Run(a_core(a_model("other", window=counted(10, 10)), spec))
    feed(run, 0, 600)
    judged = ratios(run, "x")
    run.events(*(prediction(f"o{i}", T0 + (600 + i * 10) * SECOND, 1.0, model="other") for i in range(100)))

    assert judged is not None
    assert run.told().status["alerts"]["active_by_kind"] == {"no_data": 1}
    assert ratios(run, "x") is None


def test_a_new_reference_begins_the_courses_anew() -> None:
    run = Run(a_core(a_model(drift=a_drift(), reference=learned(200))))
    feed(run, 0, 400)
    run.model.replace_reference(None, T0 + 400 * SECOND, 200)
    run.commit()

    assert ratios(run, "x") is None
