"""Matched pairs land: they are handed to those who subscribe, in an order that is fixed.

Pairs of counted windows land where they were completed. Those of time windows land when their pane of pair time ends,
sorted (`pair_buffer`). Answers beside served ones are compared then, where they are configured (`answer_buffer`); else
where the join finds them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detectors.types import IntArray
from monitor.aggregation.outcome_columns import DROPPED_PANE
from monitor.aggregation.pairs import MatchedPairs, ShadowComparisons
from monitor.aggregation.predictions import Predictions
from monitor.alerting.label_watch import LabelWatch
from monitor.alerting.records import AlertRecord
from monitor.events.codes import Labels
from monitor.events.readings import LabelCode
from monitor.pipeline.answer_buffer import AnswerBuffer, Answers
from monitor.pipeline.columns import ModelBatch, agreement_of
from monitor.pipeline.join_stage import compares_by_time
from monitor.pipeline.pair_buffer import PairBuffer
from monitor.pipeline.subscribers import OutcomeSums, PairSubscriber
from monitor.pipeline.versions import Versions
from monitor.spec import ModelSpec, Task

_ALL = 1 << 62

Shown = list[tuple[int, AlertRecord]]  # row of the pairs, and what it made clear


class Landing:
    """Lands the pairs and comparisons of one model."""

    def __init__(
        self, spec: ModelSpec, labels: Labels, versions: Versions, sums: OutcomeSums, others: Sequence[PairSubscriber]
    ) -> None:
        self._spec, self._counted, self._versions = spec, spec.window.counted, versions
        self._numbers = spec.task is Task.REGRESSION
        self._compared = labels.compared
        self.labels: LabelWatch | None = None
        if not self._numbers:
            self.labels = LabelWatch(
                spec.name, labels.limit, lambda code: labels.text(LabelCode(code)), binary=labels.binary,
                by_pane=not self._counted,
            )  # fmt: skip
        self._sums = sums
        self.subscribers: tuple[PairSubscriber, ...] = (sums, *others)
        self.waiting = PairBuffer(spec.window.pane, versions.name, self._settled, numbers=self._numbers)
        apart = spec.outcomes.outcome_ttl if spec.outcomes is not None and compares_by_time(spec) else 0
        self.answers = AnswerBuffer(spec.window.pane, apart)
        self._pairs = self._comparisons = 0  # of the batch: those before have been taken in

    def begin(self) -> None:
        """Start with another batch."""
        self._pairs = self._comparisons = 0

    def add_answers(self, predictions: Predictions, pane: IntArray, sampled: int) -> None:
        """Take in accepted predictions of the batch, where they are compared at the ends of panes.

        Args:
            predictions: All of the batch.
            pane: Outcome pane of each.
            sampled: k, where the join holds only requests whose key is 0 modulo `2**k`.
        """
        if not self.answers.compares or not len(predictions):
            return
        answers = Answers.of(predictions, pane)
        if sampled:
            answers = answers.take(answers.lo & np.uint64((1 << sampled) - 1) == 0)
        self.answers.add(answers)

    def add(self, batch: ModelBatch, stop: int | None, ended: int, times: IntArray) -> Shown:
        """Take in what the rows of the batch before `stop` have completed, since this was last called.

        Args:
            batch: The batch that began.
            stop: Row of the batch; None for its end.
            ended: Time panes before this one have ended.
            times: Stream time at each row of the batch, ms, below zero where not known.

        Returns:
            (position in the batch, alert record) of what landed at once.
        """
        pairs = batch.pairs
        comparisons = batch.comparisons.take(np.zeros(0, np.int64)) if self.answers.compares else batch.comparisons
        limit = _ALL if stop is None else stop
        fresh = np.arange(self._pairs, np.searchsorted(pairs.position, limit))
        beside = np.arange(self._comparisons, np.searchsorted(comparisons.position, limit))
        self._pairs += len(fresh)
        self._comparisons += len(beside)
        if not len(fresh) and not len(beside):
            return []
        pairs, comparisons = pairs.take(fresh), comparisons.take(beside)
        pairs = replace(pairs, variant=self._versions.settled(pairs.variant))
        for variant, count in zip(*np.unique(pairs.variant, return_counts=True), strict=True):
            self._versions[int(variant)].joined += int(count)
        if not self._counted:
            self.waiting.add(pairs, comparisons, ended)
            return []
        now = times[pairs.position]
        shown = self._hand_on(pairs, np.where(now < 0, pairs.time, now))
        self._compare(comparisons)
        return [(int(pairs.position[row]), record) for row, record in shown]

    def land(self, pane: int) -> list[AlertRecord]:
        """Land what is due by the end of a time pane, and return the records that follow from it, in order."""
        compared, landed = self.answers.land(pane), self.waiting.land(pane)
        if compared is not None:
            self._compare(agreement_of(self._spec, compared, self._compared))
        if landed is None:
            return []
        shown = self._hand_on(landed.pairs, landed.pairs.pair_time)
        self._compare(landed.comparisons)
        return [record for _, record in sorted(shown, key=lambda row: row[0])]

    def land_all(self) -> list[AlertRecord]:
        """Land everything pane by pane, because the stream has ended."""
        records: list[AlertRecord] = []
        while (pane := self.first_due) is not None:
            records += self.land(pane)
        self.answers.end()
        return records

    @property
    def first_due(self) -> int | None:
        """The earliest pane at whose end something lands."""
        return min((due for due in (self.waiting.first_due, self.answers.first_due) if due is not None), default=None)

    def restore(self, stored: Mapping[str, Sequence[bytes]], ended: int | None) -> None:
        """Take back what waits: see `PairBuffer.restore` and `AnswerBuffer.restore`."""
        self.waiting.restore(stored, ended)
        self.answers.restore(stored, ended)

    # -- handing on --------------------------------------------------------------------------------------

    def _hand_on(self, pairs: MatchedPairs, when: IntArray) -> Shown:
        """Hand pairs to those who subscribe, version by version; `when` dates what they show, ms."""
        shown: Shown = []
        pairs = self._settled(pairs)
        if self.labels is not None and len(pairs):
            shown += self.labels.add(pairs.predicted, pairs.actual, when)
        for variant in np.unique(pairs.variant).tolist():
            mine = np.flatnonzero(pairs.variant == variant)
            counted = mine[pairs.pane[mine] != DROPPED_PANE]
            if not len(counted):
                continue
            self._versions[variant].landed += len(counted)
            its, its_time = pairs.take(counted), when[counted]
            for subscriber in self.subscribers:
                found = subscriber.on_matched_pairs(variant, its, its_time)
                shown += [(int(counted[i]), record) for i, record in found]
        return shown

    def _settled(self, pairs: MatchedPairs) -> MatchedPairs:
        """Return pairs under the codes that versions and labels have now: they may not have been admitted."""
        pairs = replace(pairs, variant=self._versions.settled(pairs.variant))
        if self._numbers:
            return pairs
        return replace(pairs, predicted=self._compared(pairs.predicted), actual=self._compared(pairs.actual))

    def _compare(self, comparisons: ShadowComparisons) -> None:
        self._sums.on_comparisons(replace(comparisons, variant=self._versions.settled(comparisons.variant)))
