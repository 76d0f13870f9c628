"""Who has which share of the false-alarm budget, what that finds, and how well the promise is founded.

Pure. Made for `driftd explain` of what a commit stores, or of a configuration and its reference before the first one.
Windows are taken as full: while they fill, shorter ones have the shares of those that are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from detectors.checking import Rates
from detectors.findings import Skipped
from detectors.pane_dependence import FEWEST_PANES
from detectors.sensitivity import Change, Comparisons, FeatureSensitivity, Sensitivity
from detectors.window import WindowRule
from fallback import decisions
from monitor.aggregation.metrics import QUANTILES
from monitor.evaluation.baselines import Baselines
from monitor.evaluation.budget import FalseAlarmBudget
from monitor.evaluation.extents import left_out, other_extents, window_label, window_rule
from monitor.evaluation.foundation import Foundation, on_drift, on_rules, without_promise
from monitor.evaluation.rule_checks import share_of_requests
from monitor.evaluation.rule_power import RulePower, RulePowers
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.serving.role import role
from monitor.spec import Bound, LimitBasis, ModelSpec
from monitor.times import duration_text

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class _Extent:
    """A window of one extent: its place among the others, and what a look at it may raise."""

    multiple: float
    label: str
    rule: WindowRule
    stride: int
    events: int


class Explanation:
    """Explains the versions of one model. Everything that it is given belongs to others, and is read only."""

    def __init__(
        self,
        spec: ModelSpec,
        versions: Mapping[int, VersionState],
        references: ReferenceSet,
        controller: ServingController,
        user_metrics: Sequence[str] = (),
    ) -> None:
        self._spec, self._versions, self._references, self._controller = spec, versions, references, controller
        self._user_metrics = user_metrics
        self._budget = FalseAlarmBudget(spec, versions, references)
        self._baselines = Baselines(spec, versions, references, controller)

    def document(self, only: str | None = None) -> dict[str, Any]:
        """Return what is explained, as `driftd explain --json` prints it.

        Args:
            only: Name of the only version that is asked for; None for all.
        """
        spec, profile = self._spec, self._references.profile
        chosen = [v for v in self._versions.values() if v.version not in (*VERSIONLESS_TIERS, OTHER)]
        champion = self._controller.serving.champion
        chosen.sort(key=lambda v: (v.version != champion, v.version))
        return {
            "schema": SCHEMA,
            "model": spec.name,
            "window": window_label(spec.window),
            "budget": _budget(spec),
            "drift": spec.drift is not None,
            "no_promise": without_promise(spec),
            "reference": None if profile is None else {"rows": profile.rows, "ordered": profile.ordered},
            "windows_left_out": [{"multiple": out.multiple, "why": out.why} for out in left_out(spec)],
            "versions": {v.version: self._version(v) for v in chosen if only in (None, v.version)},
        }

    def _version(self, version: VersionState) -> dict[str, Any]:
        allowed = self._budget.allowed(version, is_full=True)
        extents = self._extents(version)
        comparisons = self._references.comparisons(version.version) if self._spec.drift is not None else []
        found: list[tuple[_Extent, Sensitivity]] = []
        if comparisons and allowed.drift > 0:
            prepared = Comparisons(comparisons)
            for extent in extents:
                part = extent.stride / len(extents)
                panes = max(extent.rule.span // extent.stride, 1)
                rates = Rates(allowed.drift * part, allowed.quality * part, panes)
                found.append((extent, prepared.sensitivity(extent.events, rates)))
        serving = self._controller.serving
        share = share_of_requests(version, self._versions, serving)
        configured = next(extent for extent in extents if extent.multiple == 1)
        beside = version.version in (*decisions.shadows(serving), *serving.ensemble)
        powers = RulePowers(self._spec, version, self._baselines, self._user_metrics, share, beside=beside)
        rules = powers.of_all(allowed.rules, configured.events)
        assumed = {power.rule.metric for power in rules if power.is_assumed and power.why is None}
        on_its_drift = on_drift(self._spec, self._references, version.version, configured.events)
        founded = Foundation((*on_its_drift, *on_rules(assumed)))
        whole = allowed.drift + allowed.quality + allowed.rules
        return {
            "role": role(serving, version.version).value,
            "predictions": version.predictions,
            "founded": None if without_promise(self._spec) else founded.state,
            "reasons": list(founded.reasons),
            "per_check": whole,
            "checks_per_alarm": _finite(1 / whole if whole > 0 else math.inf),
            "parts": {"drift": allowed.drift, "quality": allowed.quality, "rules": allowed.rules},
            "windows": [_window(extent, s) for extent, s in found],
            "features": _features(found),
            "rules": [_rule(self._spec, power) for power in rules],
        }

    # -- windows -----------------------------------------------------------------------------------------

    def _extents(self, version: VersionState) -> list[_Extent]:
        """Return the windows of a version, the shortest first, with the events that full ones have."""
        window = self._spec.window
        own = window_rule(window)
        rate = self._rate(version)
        found = [_Extent(1, window_label(window), own, 1, self._events(own, rate))]
        found += [
            _Extent(e.multiple, e.label, e.rule, e.stride, self._events(e.rule, rate))
            for e in other_extents(self._spec)
        ]
        return sorted(found, key=lambda extent: extent.multiple)

    def _events(self, rule: WindowRule, rate: float) -> int:
        if self._spec.window.counted:
            return rule.min_events
        return max(round(rate * rule.span * self._spec.window.pane), rule.min_events, 1)

    def _rate(self, version: VersionState) -> float:
        """Return the predictions of a version per ms: of its window, else of the reference; 0 where not known."""
        window, profile = version.window, self._references.profile
        if len(window) and window.end > window.start:
            return window.events / (window.end - window.start)
        first, last = (None, None) if profile is None else (profile.first_ms, profile.last_ms)
        if profile is None or first is None or last is None or last <= first:
            return 0.0
        return profile.rows / (last - first)


def _budget(spec: ModelSpec) -> dict[str, Any]:
    budget = spec.budget
    return {
        "alarms": budget.alarms,
        "events": budget.events or None,
        "per": budget.period and duration_text(budget.period),
    }


def _window(extent: _Extent, s: Sensitivity) -> dict[str, Any]:
    return {
        "window": extent.label,
        "multiple": extent.multiple,
        "events": extent.events,
        "panes": extent.rule.span,
        "looks_every": extent.stride,
        "per_look": {"drift": s.rates.drift * s.shares[0], "quality": s.rates.quality * s.shares[1]},
        "shares": {"drift": s.shares[0], "quality": s.shares[1]},
        "per_share": {"drift": s.rates.drift, "quality": s.rates.quality},
    }


def _features(found: Sequence[tuple[_Extent, Sensitivity]]) -> dict[str, Any]:
    by_feature: dict[str, list[tuple[_Extent, FeatureSensitivity]]] = {}
    for extent, sensitivity in found:
        for feature in sensitivity.features:
            by_feature.setdefault(feature.feature, []).append((extent, feature))
    return {name: _feature(windows) for name, windows in by_feature.items()}


def _feature(windows: Sequence[tuple[_Extent, FeatureSensitivity]]) -> dict[str, Any]:
    """Return what is shown of one feature: by window, and what is found first over all windows."""
    blind = [extent.label for extent, feature in windows if feature.skipped is Skipped.BLIND]
    sees = [extent.label for extent, feature in windows if feature.skipped is None]
    shifts: dict[str, dict[str, Any]] = {}
    for extent, feature in windows:
        for size, events in feature.shifts.items():
            shown = shifts.get(f"{size:g}")
            if shown is None or events < shown["events"]:
                shifts[f"{size:g}"] = {"events": events, "window": extent.label}
    return {
        "blind": blind,
        "sees": sees[0] if blind and sees else None,
        "sees_from": None if sees else next((f.sees_from for _, f in reversed(windows) if f.sees_from), None),
        "smallest": _smallest(windows),
        "shifts": dict(sorted(shifts.items(), key=lambda item: float(item[0]))),
        "windows": [_of_window(extent, feature) for extent, feature in windows],
    }


def _smallest(windows: Sequence[tuple[_Extent, FeatureSensitivity]]) -> list[dict[str, Any]]:
    """Return the smallest change of each kind that any window finds, with the first window that does."""
    best: dict[tuple[str, str | None, bool], tuple[Change, _Extent, int]] = {}
    for extent, feature in windows:
        for change in feature.changes:
            key = change.kind, change.category, change.rises
            # Where the minimum effect decides, longer windows find hardly less, and later.
            if math.isfinite(change.size) and (key not in best or change.size < 0.95 * best[key][0].size):
                best[key] = change, extent, feature.events
    return [{**_change(change), "window": extent.label, "events": events} for change, extent, events in best.values()]


def _of_window(extent: _Extent, f: FeatureSensitivity) -> dict[str, Any]:
    return {
        "window": extent.label,
        "events": f.events,
        "skipped": None if f.skipped is None else f.skipped.value,
        "constant": f.constant,
        "phi": f.phi,
        "level": f.level,
        "thresholds": dict(f.thresholds),
        "changes": [_change(change) for change in f.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "size": _finite(change.size),
        "decided_by": "min_effect" if change.by_effect else "budget",
        "category": change.category,
        "share": change.share,
        "rises": change.rises,
    }


# -- rules -----------------------------------------------------------------------------------------------


def _rule(spec: ModelSpec, power: RulePower) -> dict[str, Any]:
    rule, dependence = power.rule, power.dependence
    return {
        "name": rule.name,
        "metric": rule.metric,
        "bound": rule.bound.value,
        "relative": rule.reference is not LimitBasis.NOTHING,
        "then": rule.then.value,
        "hard": rule.hard,
        "why_not": None if power.why is None else power.why.value,
        "limit": power.limit,
        "value": None if power.value is None else _finite(power.value),
        "baseline": power.baseline,
        "baseline_n": power.baseline_n,
        "events": power.n,
        "finds_share_above": rule.metric in QUANTILES,
        "dependence": None
        if rule.hard
        else {
            "phi": dependence.phi,
            "df": _finite(dependence.df),
            "panes": power.panes,
            "panes_telling": power.telling,
            "panes_needed": FEWEST_PANES,
            "supposed": power.is_supposed,
        },
        "finds": [
            {
                "windows": change.windows,
                "level": change.level,
                "value": change.value,
                "direction": "rise" if rule.bound is Bound.ABOVE else "drop",
                "events": change.events,
                "decided_by": "limit" if change.by_limit else "budget",
            }
            for change in power.changes
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
