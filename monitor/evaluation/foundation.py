"""How well the promise of the false-alarm budget is founded: what is learned of a model, and what is assumed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.dependence import Dependence
from detectors.pane_dependence import FEWEST_PANES
from detectors.reference import NumericReference, Profile, Reference
from monitor.alerting.blind import listed
from monitor.evaluation.rule_power import RulePower
from monitor.names import shown_name

KEPT, ASSUMED = "kept", "assumed"
FEWEST_WINDOWS: Final = 10  # that a reference has to hold for its dependence to be known
_FEWEST_ROWS: Final = 100  # with fewer nothing of dependence can be learned


@dataclass(frozen=True, slots=True)
class Foundation:
    """Say how well the promise is founded.

    Attributes:
        reasons: Why it is only assumed; none where it is kept.
    """

    reasons: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """`kept`, or `assumed`."""
        return ASSUMED if self.reasons else KEPT


def on_reference(profile: Profile, events: int) -> Iterator[str]:
    """Yield why the promise of drift is only assumed.

    Args:
        profile: The reference.
        events: Events of a window.
    """
    windows = profile.rows / max(events, 1)
    if windows < FEWEST_WINDOWS:
        yield (
            f"the reference has {profile.rows} rows, {windows:.3g} windows: with fewer than {FEWEST_WINDOWS} its "
            "dependence is hardly known"
        )
    if not profile.ordered:
        yield "the rows of the reference are in no order of time, so events are taken for independent"
        return
    compared = [(shown_name(f.name), f) for f in profile.features] + [(f.name, f) for f in profile.answers]
    unknown = [name for name, f in compared if _varies(f) and f.rows >= _FEWEST_ROWS and not _learned(f).sizes]
    if unknown:
        yield (
            f"the reference was built by an earlier release, which did not learn the dependence of {listed(unknown)}: "
            "build it again"
        )


def on_rules(rules: Sequence[RulePower]) -> Iterator[str]:
    """Yield why the promise of rules is only assumed."""
    few = sorted({rule.rule.metric for rule in rules if rule.is_supposed and rule.why is None})
    if few:
        yield f"rules on {listed(few)}: fewer than {FEWEST_PANES} panes before the window; overdispersion is supposed"


def _learned(r: Reference) -> Dependence:
    return r.dependence


def _varies(r: Reference) -> bool:
    if isinstance(r, NumericReference):
        return len(r.points) > 1
    return int(np.count_nonzero(r.counts)) + (r.other > 0) > 1
