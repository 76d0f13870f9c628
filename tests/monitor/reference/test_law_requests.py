"""Laws of references in force are made elsewhere: asked for once, and taken in while the reference is in force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.reference import NumericReference, Profile
from detectors.reference_builder import build_features
from monitor.events.codes import Labels
from monitor.reference.active import ReferenceSet
from monitor.reference.freezer import Freezing
from monitor.reference.freezing import freeze
from monitor.reference.law_requests import LawRequests
from monitor.reference.law_windows import LawWindows
from monitor.spec import LEARNING, ModelSpec, ReferenceSpec, WindowSpec
from tests.monitor.kit import HOUR, MINUTE, a_drift, a_model, counted

FEATURES = 20
SPEC = a_model(window=counted(200, 100), drift=a_drift(), reference=ReferenceSpec("table", 0, 64))


def a_profile(features: int = FEATURES, seed: int = 0) -> Profile:
    rows = np.random.default_rng(seed).standard_normal((500, features))
    columns = {f"x{i:02d}": rows[:, i] for i in range(features)}
    return Profile(build_features(dict.fromkeys(columns, True), columns, 500, 64), 500, ordered=True)


def in_force(profile: Profile, spec: ModelSpec = SPEC) -> ReferenceSet:
    references = ReferenceSet(spec, Labels(spec.name, 100, binary=False, positive=None), LEARNING, 100)
    references.activate(profile)
    return references


def requests() -> LawRequests:
    return LawRequests(SPEC.name, LawWindows.of(SPEC))


def asked(of: LawRequests, references: ReferenceSet) -> Freezing:
    (freezing,) = of.wanted(references)
    return freezing


def lacks_laws(references: ReferenceSet) -> bool:
    assert references.features is not None
    return references.features.lacks_laws


def test_laws_of_a_reference_in_force_are_asked_for_once_and_taken_in() -> None:
    references, laws = in_force(a_profile()), requests()

    freezing = asked(laws, references)
    laws.answer(freezing, freeze(freezing.request()))

    assert freezing.is_in_force
    assert not lacks_laws(references)
    assert list(laws.wanted(references)) == []


def test_laws_of_a_reference_that_was_replaced_are_of_no_use() -> None:
    references, laws = in_force(a_profile()), requests()
    freezing = asked(laws, references)
    references.activate(a_profile(seed=1))

    again = asked(laws, references)
    laws.answer(freezing, freeze(freezing.request()))

    assert lacks_laws(references)
    laws.answer(again, freeze(again.request()))
    assert not lacks_laws(references)


def test_laws_that_could_not_be_made_are_not_asked_for_again() -> None:
    references, laws = in_force(a_profile()), requests()

    laws.answer(asked(laws, references), None)

    assert lacks_laws(references)
    assert list(laws.wanted(references)) == []


def test_a_reference_that_brings_its_laws_needs_none() -> None:
    references, laws = in_force(a_profile()), requests()
    made = freeze(asked(laws, references).request())

    assert list(requests().wanted(in_force(made))) == []


def test_no_process_is_begun_for_a_few_features() -> None:
    assert list(requests().wanted(in_force(a_profile(FEATURES - 1)))) == []


def test_windows_are_those_that_are_checked() -> None:
    several = replace(a_drift(), windows=(0.5, 5.0))
    of_time = WindowSpec(span=HOUR, pane=MINUTE, min_events=100)

    counts = LawWindows.of(replace(SPEC, drift=several))
    spans = LawWindows.of(replace(SPEC, drift=several, window=of_time))

    assert counts == LawWindows(events=(100, 200, 1_000))
    assert spans == LawWindows(spans=(HOUR // 2, HOUR, 5 * HOUR))
    assert LawWindows.of(replace(SPEC, drift=None)) == LawWindows()


@pytest.mark.parametrize(("last", "events"), [(24 * HOUR, [250, 500]), (None, []), (0, [])])
def test_events_of_a_span_follow_from_the_rate_of_the_reference(last: int | None, events: list[int]) -> None:
    profile = Profile((), 12_000, ordered=True, first_ms=0, last_ms=last)

    assert LawWindows(spans=(HOUR // 2, HOUR)).sizes(profile) == events


def test_laws_change_no_reference() -> None:
    references = in_force(a_profile())

    made = freeze(asked(requests(), references).request())

    of = [r for r in made.features if isinstance(r, NumericReference)]
    assert [r.points.tolist() for r in of] == [
        r.points.tolist() for r in a_profile().features if isinstance(r, NumericReference)
    ]
