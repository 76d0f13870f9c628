"""What is stored of a version and of its model's alerts and serving comes back, also from release 0.1.0.

`state_0_1_0.json` is a part of what release 0.1.0 stored of the model `reg` of `a_busy_core`: two versions with
firing rules and drift, a fallback, a rollback, and a silence with muted alerts; `concept` fires.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fallback.types import Health, Reason, Tier
from monitor.alerting.episodes import EpisodeState
from monitor.alerting.numbering import AlertNumbering, NumberingState
from monitor.alerting.records import AlertKind
from monitor.evaluation.concept_drift import ConceptDrift, SavedConceptDrift
from monitor.evaluation.version_state import SavedVersion, VersionState
from monitor.saved import from_plain, to_plain
from monitor.serving.state import ServingState
from monitor.spec import ModelSpec, Task
from tests.monitor.random_streams import a_busy_core

STATE = json.loads((Path(__file__).parent / "state_0_1_0.json").read_text())
REG = next(model for model in a_busy_core().models if model.name == "reg")


def values(state: Any) -> Any:
    """For comparing: NaN equals NaN, and 13 equals 13.0."""
    return json.loads(json.dumps(state), parse_constant=str)


def as_stored(now: Any, before: Any) -> Any:
    """What is stored now, without the fields that a release before did not store."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: as_stored(value, before[key]) for key, value in now.items() if key in before}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [as_stored(*pair) for pair in zip(now, before, strict=True)]
    return now


def restored(saved: Any, spec: ModelSpec = REG) -> VersionState:
    version = VersionState(1, saved["version"], spec, 20)
    version.restore(from_plain(saved, SavedVersion))
    return version


@pytest.mark.parametrize("code", STATE["versions"])
def test_a_version_that_0_1_0_stored_comes_back_as_it_was(code: str) -> None:
    saved = STATE["versions"][code]
    version = restored(saved)
    version.windows.restore([], saved["judged"], -1)

    again = restored(to_plain(version.saved()))
    before = {**saved, "baseline": 0, "quality_baseline": None}  # counted windows have none by time
    assert values(as_stored({**to_plain(version.saved()), "baseline": 0}, before)) == values(before)
    assert again.saved().baseline == version.saved().baseline  # has more sums than 0.1.0 kept
    assert repr(again.baseline.metrics(())[1]) == repr(version.baseline.metrics(())[1])
    assert {rule.rule.name for rule in version.firing} == {
        name for name, rule in saved["rules"].items() if rule["state"]["firing"]
    }


@pytest.mark.parametrize(
    ("part", "kind"), [("steering", ServingState), ("records", NumberingState), ("no_data", EpisodeState)]
)
def test_serving_and_alerts_that_0_1_0_stored_come_back_as_they_were(part: str, kind: type[Any]) -> None:
    assert as_stored(values(to_plain(from_plain(STATE[part], kind))), STATE[part]) == values(STATE[part])


def test_the_serving_that_0_1_0_stored_is_read_as_it_was_meant() -> None:
    state = from_plain(STATE["steering"], ServingState)

    assert (state.reason, state.generation) == (Reason.RULE_BREACHED, 3)
    assert (state.serving.active, state.serving.failed) == (Tier.PREVIOUS, (Tier.PRIMARY,))
    assert state.configured == REG.serving


def test_muted_alerts_that_0_1_0_stored_are_said_when_their_silence_ends() -> None:
    alerts = AlertNumbering(from_plain(STATE["records"], NumberingState))

    records = alerts.unmute(alerts.silences[-1].until)

    assert [(r.subject.kind, r.subject.name, r.silenced) for r in records] == [
        (AlertKind.DRIFT, "", False), (AlertKind.METRIC, "slow", False), (AlertKind.METRIC, "cost", False),
    ]  # fmt: skip
    assert all(record.document()["kind"] for record in records)


def test_a_rule_that_is_new_starts_anew_and_those_that_are_gone_are_returned_if_they_fire() -> None:
    (saved, *_) = STATE["versions"].values()
    new = replace(REG.rules[0], name="new")
    version = VersionState(1, saved["version"], replace(REG, rules=(new,)), 20)

    removed = version.restore(from_plain(saved, SavedVersion))

    assert not version.rules[0].state.firing
    firing = [name for name, rule in saved["rules"].items() if rule["alert"]["starts_at"] is not None]
    assert [episode.subject.name for episode in removed] == firing
    assert firing


def test_concept_drift_that_0_1_0_stored_goes_on_as_it_would_have() -> None:
    """It resolves after as many calm pairs as are missing."""
    stored = ConceptDrift("m", "v1", Task.BINARY, 300)
    stored.restore(from_plain(STATE["concept"], SavedConceptDrift))

    assert values(as_stored(to_plain(stored.saved()), STATE["concept"])) == STATE["concept"]
    calm = np.zeros(2_000)
    assert [record.status.value for _, record in stored.add(calm, calm, np.arange(2_000))] == ["resolved"]


def test_concept_drift_that_is_gone_is_returned_if_it_fires() -> None:
    (saved, *_) = STATE["versions"].values()
    assert REG.outcomes is not None
    without = replace(REG, rules=(), outcomes=replace(REG.outcomes, concept_drift=None))
    version = VersionState(1, saved["version"], without, 20)

    removed = version.restore(from_plain({**saved, "concept": STATE["concept"], "rules": {}}, SavedVersion))

    assert [episode.subject.kind for episode in removed] == [AlertKind.CONCEPT_DRIFT]


def test_a_version_of_which_nothing_is_known_is_healthy() -> None:
    assert VersionState(1, "v1", REG, 20).health.health is Health.HEALTHY
