"""Healthy models that are rolled back, and models that fail and are."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import special

from fallback.types import Reason
from monitor.spec import Consequence, Task
from tests.simulation.families import FAMILIES
from tests.simulation.figures import Figure, Verdict, at_most
from tests.simulation.monitored import PANE, WINDOW, Monitored, answer_slice, spec_of
from tests.simulation.settings import DROP_FOUND, DROP_WINDOWS
from tests.simulation.streams import Path

MODELS: Final = 300
_EVENTS: Final = 20_000  # of each, after its baseline
_PROMISED: Final = 1e-4  # alarms per check: the default budget
_DROPPED: Final = float(special.ndtri(0.8))  # scores below are right answers, where accuracy was .9
HEALTHY: Final = ("iid", "ar.5", "ar.9", "ar.97")
_MODEL: Final = "task: binary\nprevious: v0\noutcomes: {{within: 1m, baseline_n: {rows}}}\ndrift: {{}}"


def healthy(family: str, seed: int, models: int) -> list[Figure]:
    """Return how many healthy models are rolled back, and how many alarms of rules there are."""
    rows = 1_000
    spec = spec_of(_MODEL.format(rows=rows))
    alarms = rollbacks = checks = 0
    for number in range(models):
        rng = np.random.default_rng([seed, 2, HEALTHY.index(family), number])
        path = Path(FAMILIES[family], 0, Task.BINARY, rows, _EVENTS // PANE, rng)
        model = Monitored(spec, None)
        for pane in range(-rows // PANE, _EVENTS // PANE):
            answers = path.answers(pane)
            raised = model.add(answer_slice(rows // PANE + pane, answers, {}), answers)
            alarms, checks = alarms + len(raised.alarms), checks + (pane >= 0)
            if any(decision.reason is Reason.RULE_BREACHED for decision in raised.decisions):
                rollbacks += 1
                break
    that_roll_back = sum(rule.then is Consequence.ROLLBACK for rule in spec.rules) / len(spec.rules)
    words = f"{models} healthy models x {_EVENTS} events, {family}"
    return [
        at_most("rollback", f"rollbacks of {words}", rollbacks, _PROMISED * checks * that_roll_back),
        at_most("rollback", f"alarms of {words}", alarms, _PROMISED * checks),
    ]


def dropping(seed: int, models: int) -> list[Figure]:
    """Return how many models whose accuracy falls by 10 points at AR .9 are rolled back in time, and before."""
    rows, calm, most = 10 * WINDOW, 2 * WINDOW // PANE, DROP_WINDOWS * WINDOW // PANE
    spec = spec_of(_MODEL.format(rows=rows))
    before = found = 0
    for number in range(models):
        rng = np.random.default_rng([seed, 3, number])
        path = Path(FAMILIES["ar.9"], 0, Task.BINARY, rows, calm + most, rng)
        model = Monitored(spec, None)
        for pane in range(-rows // PANE, calm + most):
            answers = path.answers(pane) if pane < calm else path.answers(pane, _DROPPED)
            raised = model.add(answer_slice(rows // PANE + pane, answers, {}), answers)
            if any(decision.reason is Reason.RULE_BREACHED for decision in raised.decisions):
                before, found = before + (pane < calm), found + (pane >= calm)
                break
    share = found / models
    name = f"a drop of 10 points in {models} models, ar.9"
    verdict = Verdict.KEPT if share >= DROP_FOUND else Verdict.MISSED
    words = f"{share:.0%} rolled back within {DROP_WINDOWS} windows, {before} before"
    return [Figure("rollback", name, words, f">= {DROP_FOUND:.0%}", verdict, {"found": share, "before": before})]
