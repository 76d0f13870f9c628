"""What is simulated: tasks that can run side by side, in their order, and how large each is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from tests.simulation.delay import CHANGES, delays
from tests.simulation.families import FAMILIES
from tests.simulation.figures import Figure
from tests.simulation.rates import USUAL, USUAL_WINDOWS, Group, groups, run
from tests.simulation.replayed import replayed
from tests.simulation.rivals import compared
from tests.simulation.rollbacks import HEALTHY, MODELS, dropping, healthy
from tests.simulation.seasons import seasons

PARTS: Final = ("drift", "rules", "model", "delay", "rollback", "season", "replay")
_RATES: Final = ("drift", "rules", "model")
_REFERENCES: Final = 16  # of each change, with some streams each
_QUICK: Final = 0.02  # share of the full number of references, models and streams
_QUICK_CHECKS: Final = 100  # of each reference
_QUICK_FAMILIES: Final = ("iid", "ar.9")
_LONG_WINDOWS: Final = 50
_LONG_SHARE: Final = 0.4  # of the references: each takes longer
_SHORT_WINDOWS: Final = 5
_FIRST: Final = 10**9  # size of what takes long and cannot be parted
_LONG_FAMILIES: Final = ("iid", "ar.9")  # of the usual run; `full` has all


@dataclass(frozen=True, slots=True)
class Task:
    """Something that gives figures, what to call it while it runs, and about how long it takes beside others."""

    name: str
    run: Callable[[], list[Figure]]
    size: int = 0


def tasks(
    parts: Collection[str], seed: int, *, quick: bool = False, full: bool = False, size: float = 1.0
) -> list[Task]:
    """Return what is to be simulated, the parts in order.

    Args:
        parts: Names of PARTS.
        seed: Everything random follows from it.
        quick: As little as shows that everything runs.
        full: Everything at one alarm in 10 000 checks too, and references of 5 and 50 windows for all families.
        size: Factor of the number of references, models and streams at most.
    """
    size = _QUICK if quick else size
    models = max(round(MODELS * size), 2)
    chosen = _groups(parts, size, quick=quick, full=full)
    found = [Task(group.name, partial(run, group, seed), group.size) for group in chosen]
    if "delay" in parts:
        references = max(round(_REFERENCES * size), 1)
        found += [Task(change.name, partial(delays, seed, references, (change,))) for change in CHANGES]
        if not quick:
            found.append(Task("delays of others", partial(compared, seed, min(size, 1.0)), _FIRST))
    if "rollback" in parts:
        found += [Task(f"rollbacks, {family}", partial(healthy, family, seed, models)) for family in HEALTHY]
        found.append(Task("drops of accuracy", partial(dropping, seed, models)))
    if "season" in parts:
        found.append(Task("seasons", partial(seasons, seed, size)))
    if "replay" in parts:
        found.append(Task("replay", partial(_replay, seed)))
    return found


def _groups(parts: Collection[str], size: float, *, quick: bool, full: bool) -> list[Group]:
    wanted = [part for part in _RATES if part in parts]
    families = _QUICK_FAMILIES if quick else tuple(FAMILIES)
    found = groups(wanted, USUAL, USUAL_WINDOWS, families, size)
    if not quick:
        found += groups(wanted, USUAL, _LONG_WINDOWS, families if full else _LONG_FAMILIES, size * _LONG_SHARE)
    if full:
        found += groups(wanted, USUAL / 10, USUAL_WINDOWS, families, 4 * size)
        found += groups(wanted, USUAL, _SHORT_WINDOWS, families, size)
    return [replace(group, checks=_QUICK_CHECKS) for group in found] if quick else found


def _replay(seed: int) -> list[Figure]:
    return [replayed(seed)]
