"""How often models that never change raise an alarm, against how often they were allowed to."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.reference_builder import POINTS
from monitor.spec import ModelSpec, Task
from tests.simulation.families import FAMILIES, Family
from tests.simulation.figures import Figure, Limits, Rate
from tests.simulation.monitored import PANE, WINDOW, Monitored, answer_slice, feature_slice
from tests.simulation.settings import drift_alone, limits_of, rules_alone, whole
from tests.simulation.streams import Path

WARM: Final = 5 * WINDOW // PANE  # panes before alarms count: the longest of several windows is full
_BOTH: Final = (True, False)  # with minimum effects, and without
MANY: Final = 20  # features of a large model
USUAL: Final = 1e-3  # promised alarms per check
USUAL_WINDOWS: Final = 10  # of a reference


@dataclass(frozen=True, slots=True)
class Row:
    """One model that is watched in a group, and the limits of its rate."""

    part: str
    name: str
    spec: ModelSpec
    limits: Limits | None


@dataclass(frozen=True, slots=True)
class Group:
    """Models that watch the same streams.

    Attributes:
        name: Of the streams; it is part of the seed.
        family: Name of the family.
        features: How many features streams have; 0 for none.
        task: What answers are; None without answers.
        rows: What watches them.
        promised: Rate of alarms per check that all were promised.
        reference: Rows of a reference.
        references: References at most; fewer, once all rows are certain.
        checks: Checks of each.
    """

    name: str
    family: str
    features: int
    task: Task | None
    rows: tuple[Row, ...]
    promised: float
    reference: int
    references: int
    checks: int

    @property
    def size(self) -> int:
        """About how long it takes beside others."""
        return self.references * self.checks * (self.features + len(self.rows))


def run(group: Group, seed: int) -> list[Figure]:
    """Watch the streams of a group until every row is certain; return its figures."""
    family = FAMILIES[group.family]
    rates = [Rate(group.promised, row.limits) for row in group.rows]
    key = zlib.crc32(group.name.encode())
    for number in range(group.references):
        open_rows = [i for i, rate in enumerate(rates) if not rate.is_certain]
        if not open_rows:
            break
        rng = np.random.default_rng([seed, key, number])
        alarms = watch(group, family, [group.rows[i].spec for i in open_rows], rng)
        for i, count in zip(open_rows, alarms, strict=True):
            rates[i].add(group.checks, count)
    return [rate.figure(row.part, row.name) for row, rate in zip(group.rows, rates, strict=True)]


def watch(group: Group, family: Family, specs: Sequence[ModelSpec], rng: np.random.Generator) -> list[int]:
    """Watch one stream with several models; return the alarms of each in the checks that count."""
    path = Path(family, group.features, group.task, group.reference, group.checks + WARM, rng)
    profile = path.profile(POINTS) if group.features else None
    models = [Monitored(spec, profile) for spec in specs]
    features = models[0].panes(family.marginal) if profile is not None else None
    before = group.reference // PANE
    with_answers = [model for model in models if model.spec.outcomes is not None]
    for pane in range(-before, 0) if with_answers else ():  # what baselines are made of
        answers = path.answers(pane)
        piece = answer_slice(before + pane, answers, {})
        for model in with_answers:
            model.add(piece, answers)
    alarms = [0] * len(models)
    for pane in range(group.checks + WARM):
        counts = {} if features is None else features.counts(path.features(pane))
        bare = feature_slice(before + pane, PANE, counts)
        given = path.answers(pane) if with_answers else None
        full = bare if given is None else answer_slice(before + pane, given, counts)
        for i, model in enumerate(models):
            of_features = model.spec.outcomes is None
            begun = model.add(bare, None).alarms if of_features else model.add(full, given).alarms
            alarms[i] += len(begun) if pane >= WARM else 0
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
    rows = _rows_of("drift", name, family, [(effects, drift_alone(promised, effects=effects)) for effects in _BOTH])
    return Group(name, family, 1, None, rows, promised, windows * WINDOW, _some(200, size), 800)


def _rules(family: str, task: Task, promised: float, windows: int, size: float) -> Group:
    name, reference = _name(family, task, promised, windows), windows * WINDOW
    specs = [(effects, rules_alone(promised, task, reference, effects=effects)) for effects in _BOTH]
    return Group(
        name, family, 0, task, _rows_of("rules", name, family, specs), promised, reference, _some(200, size), 600
    )


def _many(parts: Collection[str], family: str, promised: float, windows: int, size: float) -> Group:
    """Return the group of many features: drift alone and whole models watch the same streams."""
    name, reference = _name(family, f"{MANY} features", promised, windows), windows * WINDOW
    rows: list[Row] = []
    if "drift" in parts:
        rows += _rows_of(
            "drift", name, family, [(effects, drift_alone(promised, effects=effects)) for effects in _BOTH]
        )
    if "model" in parts:
        specs = [(effects, whole(promised, Task.BINARY, reference, effects=effects)) for effects in _BOTH]
        rows += _rows_of("model", f"{name} and rules", family, specs)
    return Group(name, family, MANY, Task.BINARY, tuple(rows), promised, reference, _some(150, size), 400)


def _name(family: str, what: str, promised: float, windows: int) -> str:
    of_promise = "" if promised == USUAL else f", {promised:g}"
    return f"{family}, {what}{of_promise}" + ("" if windows == USUAL_WINDOWS else f", {windows} windows")


def _rows_of(part: str, name: str, family: str, specs: Sequence[tuple[bool, ModelSpec]]) -> tuple[Row, ...]:
    return tuple(
        Row(part, f"{name}, {'defaults' if effects else 'no effects'}", spec, limits_of(family, effects=effects))
        for effects, spec in specs
    )


def _has_natural_law(family: str) -> bool:
    """Whether streams of answers differ from those of another family: they have laws of their own."""
    return family == "iid" or FAMILIES[family].dependent


def _some(most: int, size: float) -> int:
    return max(round(most * size), 2)
