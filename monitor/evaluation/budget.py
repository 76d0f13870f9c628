"""The false-alarm budget of a model, and what it leaves for the alarms of each version. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from detectors.registry import RATES, can_alarm
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.reference.active import ReferenceSet
from monitor.spec import ModelSpec

_UNKNOWN_RATE = 1e-3  # events per ms, where nothing tells it
# Parts of the budget: of drift, of rules, and of data quality. A part that nobody uses goes to the others.
_DRIFT: Final = 0.60
_RULES: Final = 0.35
_QUALITY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Allowed:
    """Hold how many false alarms one check of a version may raise on average, by what raises them.

    Attributes:
        drift: By tests of how values are distributed.
        quality: By tests of missing and of unseen values.
        rules: By rules.
    """

    drift: float
    quality: float
    rules: float


class FalseAlarmBudget:
    """Shares the false-alarm budget of one model among the tests of its versions.

    Attributes:
        rate: Events per ms, where a budget in time meets windows in events; None until it was needed.
    """

    def __init__(self, spec: ModelSpec, versions: Mapping[int, VersionState], references: ReferenceSet) -> None:
        self._spec, self._versions, self._references = spec, versions, references
        self.rate: float | None = None

    def allowed(self, version: VersionState, *, is_full: bool = False) -> Allowed:
        """Return what the budget leaves for one check of a version.

        In time windows every version is checked in every pane, so versions share the budget; counted windows
        are checked by events, of whichever version they are.

        Args:
            version: The version.
            is_full: Return what is left once its window is compared with all references in force.
        """
        return self._parts(version, 1 / max(self._checks(version), 1.0), is_full=is_full)

    def _checks(self, version: VersionState) -> float:
        """Return after how many checks of the version one false alarm is allowed."""
        window, budget, rate = self._spec.window, self._spec.budget, self._measured_rate(version)
        if window.counted:
            events = budget.events or budget.period * rate
            return events / budget.alarms / window.every
        period = budget.period or budget.events / max(rate, 1e-9)
        checked = sum(
            v.version not in (*VERSIONLESS_TIERS, OTHER) and len(v.window) > 0 for v in self._versions.values()
        )
        return period / budget.alarms / window.pane * max(checked, 1)

    def _parts(self, version: VersionState, whole: float, *, is_full: bool) -> Allowed:
        compared = any(is_full or c.holds(version.window.total) for c in self._references.comparisons(version.version))
        drift = quality = 0.0
        if compared and (of := self._spec.drift) is not None:
            drift = _DRIFT if any(can_alarm(name, of.min_effect) for name in (*of.numeric, *of.categorical)) else 0.0
            quality = _QUALITY if any(can_alarm(name, of.min_effect) for name in RATES) else 0.0
        rules = _RULES if version.rules else 0.0
        used = (drift + quality + rules) or 1.0
        return Allowed(whole * drift / used, whole * quality / used, whole * rules / used)

    def _measured_rate(self, version: VersionState) -> float:
        """Measure the rate once: of the reference if that has times, else of the first window."""
        if self.rate is None:
            profile, window = self._references.profile, version.window
            first, last = (None, None) if profile is None else (profile.first_ms, profile.last_ms)
            if profile is not None and first is not None and last is not None and last > first:
                self.rate = profile.rows / (last - first)
            elif len(window) and window.end > window.start:
                self.rate = window.events / (window.end - window.start)
        return self.rate or _UNKNOWN_RATE
