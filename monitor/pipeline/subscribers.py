"""Who is told of closed panes and matched pairs: windows, baselines, sums of outcomes, concept drift.

Pure. Stage one hands out values, and a subscriber keeps what it makes of them. A comparison of versions that
needs evidence of its own subscribes here, and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from detectors.types import IntArray
from monitor.aggregation.outcome_columns import DROPPED_PANE
from monitor.aggregation.outcomes import ScoredPairs
from monitor.aggregation.pairs import MatchedPairs, ShadowComparisons
from monitor.aggregation.panes import ClosedPane
from monitor.alerting.records import AlertRecord
from monitor.pipeline.versions import Versions


class PaneSubscriber(Protocol):
    """Receives every closed pane of a model, in the order in which panes close."""

    def on_closed_pane(self, pane: ClosedPane) -> None:
        """Take in a pane that nothing more can come into."""
        ...


class PairSubscriber(Protocol):
    """Receives every matched pair of a model, in the order in which they land."""

    def on_matched_pairs(self, variant: int, pairs: MatchedPairs, when: IntArray) -> Sequence[tuple[int, AlertRecord]]:
        """Take in pairs of one version.

        Args:
            variant: Code of the version.
            pairs: Its pairs, those dropped from their panes left out.
            when: Time that dates what each pair makes clear, ms.

        Returns:
            (row of the pairs, alert record) of what they made clear.
        """
        ...


class Windows:
    """Moves the window of a version on, and its baseline."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def on_closed_pane(self, pane: ClosedPane) -> None:
        """Push the pane."""
        self._versions[pane.variant].push(pane.content)


class OutcomeSums:
    """Adds pairs up by outcome pane, and marks the windows whose quality changes."""

    def __init__(self, versions: Versions, user_metric: Callable[[str], int | None]) -> None:
        self._versions, self._user_metric = versions, user_metric

    def on_matched_pairs(self, variant: int, pairs: MatchedPairs, when: IntArray) -> Sequence[tuple[int, AlertRecord]]:
        """Add the pairs to the sums of their panes."""
        self._versions[variant].add_outcomes(
            ScoredPairs(pairs.pane, pairs.predicted, pairs.score, pairs.actual, pairs.delay, pairs.metrics),
            self._user_metric,
            int(pairs.pair_time.max()),
        )
        return ()

    def on_comparisons(self, comparisons: ShadowComparisons) -> None:
        """Add comparisons to the agreement of their panes."""
        for variant in np.unique(comparisons.variant).tolist():
            mine = np.flatnonzero((comparisons.variant == variant) & (comparisons.pane != DROPPED_PANE))
            self._versions[variant].add_agreement(comparisons.pane[mine], comparisons.agreed[mine])


class ConceptDriftErrors:
    """Hands the errors of a version to its concept-drift detector, in the order in which pairs land."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def on_matched_pairs(self, variant: int, pairs: MatchedPairs, when: IntArray) -> Sequence[tuple[int, AlertRecord]]:
        """Report a rise of the errors; it belongs to the pair that made it clear."""
        version = self._versions[variant]
        concept = version.concept
        if concept is None or version.closed is not None:
            return ()
        return concept.add(pairs.predicted, pairs.actual, when)
