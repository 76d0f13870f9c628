"""How often models that never change raise an alarm, against how often they were allowed to."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from detectors.laws import with_laws
from detectors.reference_builder import POINTS
from monitor.alerting.records import AlertKind
from monitor.reference.law_windows import LawWindows
from monitor.spec import ModelSpec, Task
from tests.simulation.families import FAMILIES, Family
from tests.simulation.figures import Figure, Limits, Rate
from tests.simulation.monitored import FALSE_ALARMS, PANE, WINDOW, Monitored, answer_slice, feature_slice
from tests.simulation.settings import SHARE_OF_FEATURES, drift_alone, limits_of, rules_alone, whole
from tests.simulation.streams import Path

WARM: Final = 5 * WINDOW // PANE  # panes before alarms count: the longest of several windows is full
_BOTH: Final = (True, False)  # with minimum effects, and without
MANY: Final = 20  # features of a large model
USUAL: Final = 1e-3  # promised alarms per check
USUAL_WINDOWS: Final = 10  # of a reference
# References of a row at least, and at most twice as many, with so many checks of each: what two cores do in 45 minutes.
OF_ONE: Final = 200
OF_RULES: Final = 100  # of either task
OF_MANY: Final = 40
_CHECKS: Final = 150
_CHECKS_OF_MANY: Final = 100
OF_FEATURES: Final = frozenset({AlertKind.DRIFT, AlertKind.DATA_QUALITY})


@dataclass(frozen=True, slots=True)
class Row:
    """A rate that is counted of a watched model.

    Attributes:
        part: Part of the simulation.
        name: What it is called.
        limits: Of run / promise.
        kinds: Kinds of alarms that count.
        share: What these kinds were promised, as a share of the model's budget.
    """

    part: str
    name: str
    limits: Limits | None
    kinds: frozenset[AlertKind] = FALSE_ALARMS
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model that watches the streams of a group, and the rows that are counted of it."""

    spec: ModelSpec
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Models that watch the same streams.

    Attributes:
        name: Of the streams; it is part of the seed.
        family: Name of the family.
        features: How many features streams have; 0 for none.
        task: What answers are; None without answers.
        models: What watches them.
        promised: Rate of alarms per check that all were promised.
        reference: Rows of a reference.
        least: References at least.
        references: References at most; fewer, once all rows are certain.
        checks: Checks of each.
    """

    name: str
    family: str
    features: int
    task: Task | None
    models: tuple[Model, ...]
    promised: float
    reference: int
    least: int
    references: int
    checks: int

    @property
    def size(self) -> int:
        """About how long it takes beside others."""
        return self.least * (self.checks + WARM) * (self.features + len(self.models))


def run(group: Group, seed: int) -> list[Figure]:
    """Watch the streams of a group until every row is certain; return its figures."""
    family = FAMILIES[group.family]
    rates = [[Rate(group.promised * row.share, row.limits) for row in model.rows] for model in group.models]
    key = zlib.crc32(group.name.encode())
    for number in range(group.references):
        still = [*range(len(rates))]
        if number >= group.least:
            still = [i for i in still if not all(rate.is_certain for rate in rates[i])]
        if not still:
            break
        rng = np.random.default_rng([seed, key, number])
        alarms = watch(group, family, [group.models[i].spec for i in still], rng)
        for i, kinds in zip(still, alarms, strict=True):
            for rate, row in zip(rates[i], group.models[i].rows, strict=True):
                rate.add(group.checks, sum(kinds[kind] for kind in row.kinds))
    return [
        rate.figure(row.part, row.name)
        for model, of_model in zip(group.models, rates, strict=True)
        for row, rate in zip(model.rows, of_model, strict=True)
    ]


def watch(
    group: Group, family: Family, specs: Sequence[ModelSpec], rng: np.random.Generator
) -> list[Counter[AlertKind]]:
    """Watch one stream with several models; return the alarms of each by kind, in the checks that count."""
    path = Path(family, group.features, group.task, group.reference, group.checks + WARM, rng)
    profile = None
    if group.features:  # laws are made once for all models
        profile = path.profile(POINTS)
        profile = with_laws(profile, LawWindows.of(specs[0]).sizes(profile))
    models = [Monitored(spec, profile) for spec in specs]
    features = models[0].panes(family.marginal) if profile is not None else None
    before = group.reference // PANE
    for pane in range(-before, 0) if group.task is not None else ():  # what baselines are made of
        answers = path.answers(pane)
        piece = answer_slice(before + pane, answers, {})
        for model in models:
            model.add(piece, answers)
    alarms = [Counter[AlertKind]() for _ in models]
    for pane in range(group.checks + WARM):
        counts = {} if features is None else features.counts(path.features(pane))
        given = None if group.task is None else path.answers(pane)
        number = before + pane
        piece = feature_slice(number, PANE, counts) if given is None else answer_slice(number, given, counts)
        for model, begun in zip(models, alarms, strict=True):
            raised = model.add(piece, given).alarms
            if pane >= WARM:
                begun.update(alarm.subject.kind for alarm in raised)
    return alarms


# -- the groups ------------------------------------------------------------------------------------------


def groups(parts: Collection[str], promised: float, windows: int, families: Sequence[str], size: float) -> list[Group]:
    """Return the groups of some parts.

    Args:
        parts: Of drift, rules and model.
        promised: Rate of alarms per check.
        windows: Length of references, in windows.
        families: Names of families.
        size: Share of the full number of references.
    """
    found = []
    for family in families:
        if "drift" in parts:
            found.append(_drift_of_one(family, promised, windows, size))
        if "rules" in parts and _has_natural_law(family):
            found += [_rules(family, task, promised, windows, size) for task in (Task.BINARY, Task.REGRESSION)]
        if "drift" in parts or "model" in parts:
            found.append(_many(parts, family, promised, windows, size))
    return found


def _drift_of_one(family: str, promised: float, windows: int, size: float) -> Group:
    name = _name(family, "1 feature", promised, windows)
    models = tuple(
        Model(drift_alone(promised, effects=effects), (_row("drift", name, family, effects=effects),))
        for effects in _BOTH
    )
    least, most = _some(OF_ONE, size), _some(2 * OF_ONE, size)
    return Group(name, family, 1, None, models, promised, windows * WINDOW, least, most, _CHECKS)


def _rules(family: str, task: Task, promised: float, windows: int, size: float) -> Group:
    name, reference = _name(family, task, promised, windows), windows * WINDOW
    models = tuple(
        Model(rules_alone(promised, task, reference, effects=effects), (_row("rules", name, family, effects=effects),))
        for effects in _BOTH
    )
    least, most = _some(OF_RULES, size), _some(2 * OF_RULES, size)
    return Group(name, family, 0, task, models, promised, reference, least, most, _CHECKS)


def _many(parts: Collection[str], family: str, promised: float, windows: int, size: float) -> Group:
    """Return the group of whole models of many features, of which drift is a row by itself."""
    name, reference = _name(family, f"{MANY} features", promised, windows), windows * WINDOW
    models = []
    for effects in _BOTH:
        rows = []
        if "drift" in parts:
            row = _row("drift", name, family, effects=effects)
            rows.append(replace(row, kinds=OF_FEATURES, share=SHARE_OF_FEATURES))
        if "model" in parts:
            rows.append(_row("model", f"{name} and rules", family, effects=effects))
        models.append(Model(whole(promised, Task.BINARY, reference, effects=effects), tuple(rows)))
    least, most = _some(OF_MANY, size), _some(2 * OF_MANY, size)
    return Group(name, family, MANY, Task.BINARY, tuple(models), promised, reference, least, most, _CHECKS_OF_MANY)


def _name(family: str, what: str, promised: float, windows: int) -> str:
    of_promise = "" if promised == USUAL else f", {promised:g}"
    return f"{family}, {what}{of_promise}" + ("" if windows == USUAL_WINDOWS else f", {windows} windows")


def _row(part: str, name: str, family: str, *, effects: bool) -> Row:
    return Row(part, f"{name}, {'defaults' if effects else 'no effects'}", limits_of(family, effects=effects))


def _has_natural_law(family: str) -> bool:
    """Whether streams of answers differ from those of another family: they have laws of their own."""
    return family == "iid" or FAMILIES[family].dependent


def _some(most: int, size: float) -> int:
    return max(round(most * size), 2)
