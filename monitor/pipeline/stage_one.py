"""Stage one of one model: predictions are counted into panes.

Pure. A pane is closed when no more of it can come; what is closed is a value that others subscribe to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detectors.types import IntArray
from detectors.window import Slice
from monitor.aggregation.panes import ClosedPane, Fragment, Panes, slice_of
from monitor.aggregation.predictions import Predictions
from monitor.pipeline.columns import ResourceSamples
from monitor.pipeline.versions import Versions
from monitor.reference.active import ReferenceSet
from monitor.spec import ModelSpec

_NONE = np.zeros(0, np.int64)


class StageOne:
    """Counts predictions and resources into the open panes of one model."""

    def __init__(
        self, spec: ModelSpec, versions: Versions, references: ReferenceSet, user_metric: Callable[[str], int | None]
    ) -> None:
        self._spec, self._versions, self._references = spec, versions, references
        self.panes = Panes(user_metric)
        self._closed: list[Fragment] = []  # since the last commit

    def add_predictions(self, predictions: Predictions) -> IntArray:
        """Count predictions into panes, and return the outcome pane of each."""
        if not len(predictions):
            return _NONE
        distinct = np.unique(predictions.variant).tolist()
        versions = {variant: self._versions[variant].version for variant in distinct}
        window, outcomes = self._spec.window, self._spec.outcomes
        pane = self._counted_panes(predictions, distinct) if window.counted else predictions.time // window.pane
        self.panes.add(predictions, pane, self._references.counting(versions, predictions))
        outcome_pane = pane if window.counted or outcomes is None else predictions.time // outcomes.pane
        for variant in distinct:
            mine = predictions.variant == variant
            scorable = mine & predictions.scorable
            probable = ~np.isnan(predictions.events.probability[scorable])
            self._versions[variant].expect(int(np.count_nonzero(mine)), outcome_pane[scorable], probable)
        return outcome_pane

    def _counted_panes(self, predictions: Predictions, variants: Sequence[int]) -> IntArray:
        pane = np.zeros(len(predictions), np.int64)
        for variant in variants:
            mine = np.flatnonzero(predictions.variant == variant)
            pane[mine] = self._versions[variant].number(len(mine)) // self._spec.window.every
        return pane

    def add_resources(self, samples: ResourceSamples, predictions: Predictions) -> None:
        """Count reported resources, once the predictions of their batch are in their panes.

        They belong to the pane of their time, or to the one that was filling when they came.
        """
        window = self._spec.window
        if not len(samples.variant):
            return
        pane = samples.time // window.pane if not window.counted else np.zeros(len(samples.time), np.int64)
        for variant in np.unique(samples.variant).tolist():
            state = self._versions[variant]
            if window.counted:
                mine = samples.variant == variant
                answers = predictions.position[predictions.variant == variant]
                later = len(answers) - np.searchsorted(answers, samples.position[mine])
                pane[mine] = (state.counted - later) // window.every
        self.panes.add_resources(samples.variant, pane, samples.time, samples.amounts)

    def ended(self, watermark: int) -> list[tuple[int, list[int]]]:
        """(pane, variants) of open time panes that end at or before stream time, in order of panes."""
        width = self._spec.window.pane
        ended: dict[int, list[int]] = {}
        for pane, variant in self.panes.open():
            if (pane + 1) * width <= watermark:
                ended.setdefault(pane, []).append(variant)
        return sorted(ended.items())

    def events(self, pane: int, variants: Sequence[int]) -> dict[str, int]:
        """Return the predictions in an open pane, by version."""
        return {self._versions[v].version: self.panes.peek(v, pane).events for v in variants}

    @property
    def first_open(self) -> int | None:
        """Number of the earliest open pane of any version."""
        return min((pane for pane, _ in self.panes.open()), default=None)

    def close(self, variant: int, pane: int) -> ClosedPane:
        """Take a pane out of the open ones: nothing more can come into it."""
        window = self._spec.window
        content, fragment = self.panes.close(variant, pane, 0 if window.counted else window.pane)
        self._closed.append(fragment)
        return ClosedPane(variant, content)

    def seal(self, pane: int) -> None:
        """Take note that a time pane has closed for all versions: references may be in force from the next one on."""
        states = self._versions.states.values()
        sealed = self._references.seal(pane, self._versions.standing(pane))
        for late in sealed.late:
            self.panes.add_counts(late.variant, late.pane, late.counts)
        if sealed.void:
            self.panes.forget(sealed.void)
            for state in states:
                state.drop_vectors(sealed.void)

    def open_panes(self, variant: int) -> list[int]:
        """Numbers of the open panes of a version, in order."""
        return [pane for pane, v in self.panes.open() if v == variant]

    def partial_panes(self) -> list[tuple[int, Slice]]:
        """(variant, what the pane holds so far) of open counted panes that hold something, in order."""
        held = [(variant, pane, self.panes.peek(variant, pane)) for pane, variant in self.panes.open()]
        return [(variant, slice_of(pane, pieces, 0)) for variant, pane, pieces in held if pieces.events]

    def forget(self, vectors: Sequence[str]) -> None:
        """Drop vectors from open panes: what they were counted against is no longer the reference."""
        self.panes.forget(vectors)

    def drain_fragments(self) -> list[Fragment]:
        """Hand over what panes gained since the last commit; called by the commit."""
        closed, self._closed = self._closed, []
        return closed + self.panes.drain_fragments()
