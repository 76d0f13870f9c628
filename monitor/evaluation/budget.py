"""The false-alarm budget of a model, and what it leaves for each test. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from detectors.significance import Budget
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.reference.active import ReferenceSet
from monitor.spec import ModelSpec

_MONTH = 30 * 86_400_000  # ms
_UNKNOWN_RATE = 1e-3  # events per ms, where nothing tells it


class FalseAlarmBudget:
    """Shares the false-alarm budget of one model among the tests of its versions.

    Attributes:
        rate: Events per ms, where a budget in time meets windows in events; None until it was needed.
    """

    def __init__(self, spec: ModelSpec, versions: Mapping[int, VersionState], references: ReferenceSet) -> None:
        self._spec, self._versions, self._references = spec, versions, references
        self.rate: float | None = None

    def tests(self, version: VersionState) -> int:
        """Count the tests of one check of a version."""
        held = (c for c in self._references.comparisons(version.version) if c.holds(version.window.total))
        return sum(c.tests for c in held) + len(version.rules)

    def share(self, version: VersionState) -> Budget:
        """Return what the budget leaves for each test of a version.

        In time windows every version is checked in every pane, so versions share the budget; counted windows
        are checked by events, of whichever version they are.
        """
        drift, window = self._spec.drift, self._spec.window
        if drift is None:
            return Budget(_MONTH / max(window.pane, 1000), len(version.rules))
        budget, rate = drift.budget, self._measured_rate(version)
        if window.counted:
            events = budget.events or budget.period * rate
            return Budget(events / budget.alarms / window.every, self.tests(version))
        period = budget.period or budget.events / max(rate, 1e-9)
        checked = sum(
            v.version not in (*VERSIONLESS_TIERS, OTHER) and len(v.window) > 0 for v in self._versions.values()
        )
        return Budget(period / budget.alarms / window.pane, self.tests(version) * max(checked, 1))

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
