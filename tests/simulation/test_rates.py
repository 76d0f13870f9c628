"""The harness of the simulation tells the truth: known rates are measured, loud models are found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monitor.spec import Task
from tests.simulation.__main__ import main
from tests.simulation.families import FAMILIES
from tests.simulation.figures import Limits, Rate, Verdict
from tests.simulation.monitored import PANE, Monitored, answer_slice, spec_of
from tests.simulation.plan import tasks
from tests.simulation.rates import MANY, OF_FEATURES, Group, Model, Row, groups, run
from tests.simulation.replayed import replayed
from tests.simulation.streams import Path

FAILURES = 0.001  # share of failed answers in the streams


LOUD = """\
task: regression
outcomes: {within: 1m, baseline_n: 1000}
rules: [{name: r, metric: error_rate, above: 0.002, hard: true}]"""


def a_group(references: int, least: int = 20) -> Group:
    """Models with a hard rule, which asks for no budget: 1e-3 promised, and about ten times as much raised."""
    model = Model(spec_of(LOUD), (Row("rules", "x", Limits(0.8)),))
    return Group(
        "x", "iid", 0, Task.REGRESSION, (model,), 1e-3, reference=1_000, least=least, references=references, checks=100
    )


def test_a_known_rate_of_alarms_is_measured_right() -> None:
    """A hard rule breaches where one of 100 independent answers fails: p; an alarm ends after three calm checks.

    So a cycle lasts 1 / p / (1 - p)³ checks on average.
    """
    spec = spec_of(
        "task: regression\noutcomes: null\nrules: [{name: r, metric: error_rate, above: 0, hard: true}]",
        window=f"{{events: {PANE}, every: {PANE}}}",
    )  # fmt: skip
    breach = 1 - (1 - FAILURES) ** PANE
    rate, panes = Rate(breach * (1 - breach) ** 3, Limits(0.8, 1.25)), 500
    for number in range(8):
        path = Path(FAMILIES["iid"], 0, Task.REGRESSION, 0, panes, np.random.default_rng([7, number]))
        model = Monitored(spec, None)
        alarms = 0
        for pane in range(panes):
            answers = path.answers(pane)
            alarms += len(model.add(answer_slice(pane, answers, {})).alarms)
        rate.add(panes, alarms)

    assert rate.seen > 200
    assert rate.ratio == pytest.approx(1.0, abs=0.15)


def test_a_model_that_is_made_loud_is_found() -> None:
    (figure,) = run(a_group(20), seed=1)

    assert figure.verdict is Verdict.MISSED
    assert figure.details["ratio"] < 0.5


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    group = a_group(5)

    assert run(group, seed=1) == run(group, seed=1)
    assert run(group, seed=1) != run(group, seed=2)


def test_features_have_the_share_of_the_budget_that_their_rows_are_held_to() -> None:
    (group,) = (g for g in groups(["drift", "model"], 1e-3, 1, ["iid"], 1.0) if g.features == MANY)
    path = Path(FAMILIES["iid"], MANY, Task.BINARY, 1_000, 10, np.random.default_rng(0))
    for watched in group.models:
        model = Monitored(watched.spec, path.profile(256))
        counter = model.panes(FAMILIES["iid"].marginal)
        for pane in range(10):
            answers = path.answers(pane)
            model.add(answer_slice(pane, answers, counter.counts(path.features(pane))), answers)
        allowed = model.allowed
        of_features, whole_model = watched.rows

        assert (of_features.kinds, whole_model.share) == (OF_FEATURES, 1.0)
        assert allowed.drift + allowed.quality == pytest.approx(1e-3 * of_features.share)
        assert allowed.drift + allowed.quality + allowed.rules == pytest.approx(1e-3)


def test_a_row_stops_once_its_figure_is_certain() -> None:
    (figure,) = run(a_group(100), seed=1)

    assert 20 <= figure.details["references"] < 100


def test_every_family_has_rows_for_drift_rules_and_the_whole_model() -> None:
    made = groups(("drift", "rules", "model"), 1e-3, 10, list(FAMILIES), 1.0)
    watched = {
        (row.part, group.family, group.features > 1) for group in made for model in group.models for row in model.rows
    }

    assert {(part, family, True) for part in ("drift", "model") for family in FAMILIES} <= watched
    assert {("drift", family, False) for family in FAMILIES} <= watched
    assert {("rules", name, False) for name, family in FAMILIES.items() if family.dependent} <= watched


@pytest.mark.process
@pytest.mark.slow
def test_the_real_command_raises_the_same_alarms() -> None:
    assert replayed(seed=1, events=10_000).verdict is Verdict.KEPT


def test_the_command_prints_its_figures_and_fails_where_a_limit_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "season", "--size", "0.02", "--json", "--seed", "3"]) == 0

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["seed"] == 3
    assert [figure["verdict"] for figure in document["figures"]] == ["kept", "kept", "-", "-"]
    assert "1 of 1" in printed.err


@pytest.mark.slow
def test_a_quick_run_gives_every_row_a_figure_from_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """Two families, two tasks, with minimum effects and without."""
    assert main(["--quick", "--only", "rules", "--json"]) in (0, 1)

    figures = json.loads(capsys.readouterr().out)["figures"]
    here = [task for task in tasks(["rules"], 1, quick=True) if task.name == "iid, binary"]
    assert len(figures) == 8
    assert figures[:2] == json.loads(json.dumps([figure.document() for figure in here[0].run()]))
