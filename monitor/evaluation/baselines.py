"""Baselines of rules: what the metrics of a window are compared with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from detectors.types import IntArray
from monitor.aggregation.metrics import QUANTILES, Estimate, latencies_above
from monitor.aggregation.outcome_columns import BASELINE_PANE
from monitor.aggregation.outcome_windows import OutcomeWindow
from monitor.evaluation.rules import Measured
from monitor.evaluation.version_state import VersionState
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.serving.role import Role, role
from monitor.spec import ModelSpec, RuleSpec


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a metric is compared with, and the version that it is of where that answers at the same time."""

    measured: Measured
    champion: VersionState | None = None


BaselineOf = Callable[[RuleSpec], Baseline | None]  # None: nothing to compare with yet
_OF_SHARES = ("accuracy", "precision", "recall")  # metrics of a reference that count hits


def count_above(latency: IntArray) -> Callable[[float], tuple[int, int]]:
    """Return a function that counts, in a histogram of latencies, those above a limit: (how many, of how many)."""

    def above(limit: float) -> tuple[int, int]:
        return latencies_above(latency, limit)

    return above


class Baselines:
    """Baselines of one model. Its versions, references and serving state belong to others, and are read only."""

    def __init__(
        self,
        spec: ModelSpec,
        versions: Mapping[int, VersionState],
        references: ReferenceSet,
        controller: ServingController,
    ) -> None:
        self._spec, self._versions = spec, versions
        self._references, self._controller = references, controller

    def of_answers(self, version: VersionState, user_metrics: Sequence[str]) -> BaselineOf:
        """Return the baseline of a version's answers: the champion's of the same time, or its own first ones."""

        def measured(rule: RuleSpec) -> Baseline | None:
            champion = self._champion_for(version)
            if champion is not None:
                sums, estimates = champion.measured(user_metrics)
                of = champion.metrics if rule.metric == "agreement" else estimates
                estimate = of.get(rule.metric)
                if estimate is not None and estimate.n >= rule.min_n:
                    above = count_above(sums.latency) if rule.metric in QUANTILES else None
                    return Baseline(Measured(estimate, above), champion)
            if not version.baseline.complete:
                return None
            first, estimates = version.baseline.metrics(user_metrics)
            found = estimates.get(rule.metric)
            return Baseline(Measured(found, count_above(first.latency))) if found is not None else None

        return measured

    def of_outcomes(self, version: VersionState, window: OutcomeWindow, user_metrics: Sequence[str]) -> BaselineOf:
        """Return the baseline of a version's quality: the reference's, the champion's, or that of its first pairs."""

        def measured(rule: RuleSpec) -> Baseline | None:
            given = self._of_reference(rule.metric)
            if given is not None:
                return Baseline(Measured(given))
            champion = self._champion_for(version)
            if champion is not None and champion.outcomes is not None:
                estimate = champion.outcome_metrics.get(rule.metric)
                if not self._spec.window.counted:
                    estimate = champion.outcomes.metrics(window.first, window.last, user_metrics).get(rule.metric)
                if estimate is not None and estimate.n >= rule.min_n:
                    return Baseline(Measured(estimate), champion)
            table = version.outcomes
            if table is None or self._spec.outcomes is None or table.baseline_pairs < self._spec.outcomes.baseline_n:
                return None
            own = table.metrics(BASELINE_PANE, BASELINE_PANE, user_metrics).get(rule.metric)
            return Baseline(Measured(own)) if own is not None else None

        return measured

    def _of_reference(self, metric: str) -> Estimate | None:
        profile = self._references.profile
        given = profile.baselines.get(metric) if profile is not None else None
        if given is None:
            return None
        hits = given.value * given.n if metric in _OF_SHARES else None
        return Estimate(given.value, given.n, given.variance, hits)

    def _champion_for(self, version: VersionState) -> VersionState | None:
        """Return the champion for a challenger or a shadow: they are compared while both answer."""
        serving = self._controller.serving
        if role(serving, version.version) not in (Role.CHALLENGER, Role.SHADOW):
            return None
        return next((v for v in self._versions.values() if v.version == serving.champion and len(v.window)), None)
