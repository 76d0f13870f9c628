"""Seasonal references: built from tables with times or learned, and counted against with the times of events."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.season import Season
from monitor.errors import InputFileError
from monitor.reference.build import load
from monitor.reference.learning import AnswerLearner
from monitor.reference.table_roles import TableSpec
from monitor.spec import ModelSpec, ReferenceSpec, WindowSpec
from tests.monitor import kit
from tests.monitor.reference.profiles import profile_of

SEASONAL = TableSpec(season=Season.HOUR_OF_DAY)
ROWS = [{"time": f"2026-03-{1 + i // 96:02d}T{i // 4 % 24:02d}:{i % 4 * 15:02d}:00Z", "x": i % 96} for i in range(480)]


def test_rows_of_a_table_are_told_apart_by_their_times(tmp_path: Path) -> None:
    """Twenty a part: thin, which is said."""
    profile = profile_of(tmp_path, ROWS, SEASONAL)

    (x,) = profile.features
    assert profile.season is Season.HOUR_OF_DAY
    assert x.seasonal is not None
    assert x.seasonal.rows.tolist() == [20] * 24
    assert any("24 of 24 parts have fewer than 50 rows" in notice for notice in profile.notices)


def test_a_table_of_one_period_is_noted(tmp_path: Path) -> None:
    notices = profile_of(tmp_path, ROWS[:96], SEASONAL).notices

    assert any("spans 1.0 of at least two periods" in notice for notice in notices)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"x": 1}, {"x": 2}], "has no column of times"),
        ([{"x": 1, "time": "2026-03-01T00:00:00Z"}, {"x": 2, "time": "soon"}], "1 of its rows have none"),
    ],
)
def test_a_season_needs_the_times_of_the_rows(tmp_path: Path, rows: list[dict[str, object]], why: str) -> None:
    """The key, the table and what to do are named."""
    with pytest.raises(InputFileError) as raised:
        profile_of(tmp_path, rows, SEASONAL)

    assert why in str(raised.value)
    assert "`reference.season`" in str(raised.value)
    assert "in the column 'time'" in str(raised.value)
    assert "t.jsonl" in str(raised.value)


def test_a_profile_built_without_the_season_is_refused(tmp_path: Path) -> None:
    """With the command that builds it anew."""
    built = tmp_path / "built"
    built.write_bytes(profile_of(tmp_path, ROWS).to_bytes())

    with pytest.raises(InputFileError, match="reference build --season hour_of_day"):
        load(built, SEASONAL)


def test_answers_gathered_by_an_earlier_release_are_learned_without_a_season() -> None:
    """It stored no times."""
    before, after = (AnswerLearner(50, 64, season=season) for season in (None, Season.HOUR_OF_DAY))
    before.add(np.arange(50.0), np.full(50, np.nan), np.arange(50))
    stored = before.drain_fresh()
    assert stored is not None
    after.restore([stored])

    assert after.profile(None).season is None


def of_a_week(*, shift: float = 0.0) -> list[kit.Event]:
    """A prediction a minute, whose feature and answer rise and fall with the hour; from the sixth day on shifted."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(7 * 1_440):
        x = 2 * math.sin(2 * math.pi * i / 1_440) + rng.standard_normal() + (shift if i >= 6 * 1_440 else 0.0)
        found.append(kit.prediction(f"r{i}", kit.T0 + i * kit.MINUTE, x + rng.standard_normal(), features={"x": x}))
    return found


def a_seasonal_model(window: WindowSpec, season: Season | None) -> ModelSpec:
    reference = replace(ReferenceSpec(None, 4 * 1_440, 256), season=season)
    return kit.a_model(window=window, reference=reference, drift=kit.a_drift(1, events=100_000))


@pytest.mark.parametrize("window", [kit.counted(360, 60), kit.timed(kit.HOUR, 6 * kit.HOUR)])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_learned_season_is_no_drift_and_a_change_is(window: WindowSpec, shift: float) -> None:
    """Windows of six hours, after four days that were learned; answers are told apart by the season, too."""
    run = kit.Run(kit.a_core(a_seasonal_model(window, Season.HOUR_OF_DAY)))
    run.feed(kit.records_of(of_a_week(shift=shift)))

    told = run.finish()

    profile = run.model.references.profile
    assert profile is not None
    assert profile.season is Season.HOUR_OF_DAY
    named = {f["name"] for a in told.alerts("drift") for f in a["features"]}
    assert named == ({"x", "prediction"} if shift else set())
