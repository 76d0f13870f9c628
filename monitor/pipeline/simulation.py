"""One model without events: closed panes and pairs are given, and what would be published comes out.

Pure. What a pane brings goes the way of `model`: pairs into the sums of their panes, the closed pane into the window
and the baseline, then the check of the window, then the rules on quality. Used by `driftd simulate`, and by the
simulation of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.reference import Profile
from detectors.window import Slice
from fallback.types import Decision
from monitor.aggregation.outcome_windows import window_of_check
from monitor.aggregation.outcomes import ScoredPairs
from monitor.alerting.records import AlertRecord
from monitor.evaluation.budget import Allowed
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import Labels, Variants
from monitor.pipeline.model import ModelMonitor
from monitor.spec import Limits, ModelSpec, Task, WindowSpec

_FORGET: Final = 20  # panes, after which those that nobody needs are dropped


class SimulatedModel:
    """A model whose champion is the only version, with all of its evaluation.

    Args:
        spec: The model.
        profile: What windows are compared with; None without a reference.
        start: Stream time at its beginning, ms.

    Attributes:
        state: The state of the champion.
    """

    def __init__(self, spec: ModelSpec, profile: Profile | None, start: int) -> None:
        champion, limits = spec.serving.champion, Limits()
        variants = Variants([spec.name], {spec.name: (champion,)}, limits.versions)
        labels = Labels(
            spec.name, limits.labels, binary=spec.task is Task.BINARY, positive=spec.positive, threshold=spec.threshold
        )
        self._spec, self._model = spec, ModelMonitor(spec, limits, variants, labels)
        if profile is not None:
            self._model.references.replace(profile)
        self._model.apply_config_changes(None, start, None)
        self.state: VersionState = self._model.versions[variants[spec.name, champion]]

    @property
    def window(self) -> WindowSpec:
        """Return the configured window."""
        return self._spec.window

    @property
    def comparisons(self) -> list[Comparison]:
        """Return what windows of the champion are compared with: features, and its own answers."""
        return self._model.references.comparisons(self.state.version)

    @property
    def allowed(self) -> Allowed:
        """Return how many false alarms the next check may raise on average."""
        return self._model.evaluator.budget.allowed(self.state)

    @property
    def is_checked(self) -> bool:
        """Return whether a pane is followed by a check: a counted window must be full."""
        return not self._spec.window.counted or len(self.state.window) >= self.state.window.rule.span

    def outcome_pane(self, pane: Slice) -> int:
        """Return the outcome pane of a pane's predictions."""
        outcomes = self._spec.outcomes
        return pane.pane if outcomes is None or self._spec.window.counted else pane.start // outcomes.pane

    def add(self, pane: Slice, pairs: ScoredPairs | None = None) -> list[AlertRecord | Decision]:
        """Take in a closed pane, and the pairs of its predictions; return what is published of it.

        Args:
            pane: The pane, in ascending order.
            pairs: Its pairs, all in `outcome_pane`; None where no outcomes are simulated.
        """
        state, evaluator, spec = self.state, self._model.evaluator, self._spec
        if pairs is not None:
            state.expect(pane.events, pairs.pane, ~np.isnan(pairs.score))
            state.add_outcomes(pairs, self._model.user_metric, pane.start)
        state.push(pane)
        if not self.is_checked:
            return []
        noted = None
        if spec.outcomes is not None:
            window = window_of_check(spec.window, spec.outcomes, state.window)
            state.windows.note(window)
            noted = window.first, window.last
        published = [*evaluator.check(state, noted, [], None).published]
        if pairs is not None:
            published += evaluator.judge_outcomes(state, pane.end, pane.end, [], None).published
            if pane.pane % _FORGET == 0:
                self._forget(pane)
        return published

    def _forget(self, pane: Slice) -> None:
        """Drop what no window needs any more, as a commit does."""
        state = self.state
        state.windows.finished(pane.end)
        waiting = state.windows.first_pane
        first = state.window.first_pane if self._spec.window.counted else self.outcome_pane(next(iter(state.window)))
        if state.outcomes is not None:
            state.outcomes.drop(first if waiting is None else min(first, waiting))


def stationary_bootstrap(blocks: int, length: float, rng: np.random.Generator) -> Iterator[int]:
    """Yield places of blocks without end: runs of neighbours, of geometric length, that begin anywhere.

    Source: Politis and Romano, 1994, "The Stationary Bootstrap".

    Args:
        blocks: How many there are, in order; the first follows the last.
        length: Mean length of a run, in blocks.
        rng: Where runs and their beginnings come from.
    """
    place = int(rng.integers(blocks))
    while True:
        yield place
        place = int(rng.integers(blocks)) if rng.random() < 1 / length else (place + 1) % blocks
