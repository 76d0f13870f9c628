"""What of one model is configured to be watched and cannot be judged.

Pure. It is told of every look: at a window, at outcomes that have landed, and at the model as a whole, at the ends of
time panes or after so many predictions. So the alerts follow from stream time and values alone. Only versions of which
predictions are expected are ever blind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec
import numpy as np

from detectors.types import IntArray
from fallback.types import Decision
from monitor.aggregation.predictions import Predictions
from monitor.alerting.blind import BlindAlerts, Blindness, Cause, SavedBlindness, Waiting, listed
from monitor.alerting.records import AlertRecord, ClosedBecause
from monitor.alerting.silent_versions import SavedSilences, Silence, SilenceLimit, SilentVersions, expected_versions
from monitor.evaluation.evaluator import Look
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.pipeline.blind_versions import WINDOWS, BlindVersions, ignored_features, longer
from monitor.pipeline.versions import Versions
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.spec import ModelSpec
from monitor.times import duration_words

_OF_REFERENCE: Final = (Cause.FEATURES, Cause.TESTS, Cause.REFERENCE)


class SavedBlindWatch(msgspec.Struct):
    """What is stored of a `BlindWatch`, with the names that came beside those of the reference.

    Attributes:
        alerts: What fires.
        silences: When versions were last heard.
        waiting: Version → what of it waits to be judged.
        strays: Features that the reference has not, each with where it first came.
        numbered: Predictions so far.
    """

    alerts: list[SavedBlindness] = []
    silences: SavedSilences = msgspec.field(default_factory=SavedSilences)
    waiting: dict[str, dict[str, Waiting]] = {}
    strays: dict[str, int] = {}
    numbered: int = 0


class BlindWatch:
    """Watches what cannot be judged of one model. What it reads belongs to others."""

    def __init__(
        self, spec: ModelSpec, versions: Versions, references: ReferenceSet, controller: ServingController
    ) -> None:
        self._spec, self._versions, self._references, self._controller = spec, versions, references, controller
        self.alerts = BlindAlerts(spec.name)
        self._silent = SilentVersions(_silence_limit(spec))
        self._looked_at = BlindVersions(spec, references, self.alerts)
        self._taken = 0  # predictions of the batch that have been taken in
        self._batch: tuple[Predictions, IntArray] | None = None

    @property
    def _expected(self) -> dict[str, float | None]:
        return expected_versions(self._controller.serving)

    # -- the model as a whole ----------------------------------------------------------------------------

    def begin(self, predictions: Predictions, times: IntArray) -> None:
        """Start with another batch, whose predictions are in their panes; `times` is stream time at each row, ms."""
        self._batch, self._taken = (predictions, times), 0

    def reach(self, stop: int | None) -> dict[int, int]:
        """Take in the predictions of the batch before the row `stop`, where windows are counted; None: all.

        Returns:
            Variant → effective time of its latest prediction among those that were not taken in before, ms.
        """
        if self._batch is None or not self._spec.window.counted:
            return {}
        predictions, times = self._batch
        upto = len(predictions) if stop is None else int(np.searchsorted(predictions.position, stop))
        self._references.reached = self._references.numbered - len(predictions) + upto
        mine = slice(self._taken, max(upto, self._taken))
        self._taken = mine.stop
        variant = predictions.variant[mine]
        reached = times[predictions.position[mine]]
        reached = np.where(reached < 0, predictions.events.effective_time[mine], reached)
        latest = {self._versions[v].version: int(np.flatnonzero(variant == v)[-1]) for v in np.unique(variant).tolist()}
        last = self._silent.state.last
        self._silent.hear(latest, np.maximum.accumulate(reached if last is None else np.maximum(reached, last)))
        effective = predictions.events.effective_time[mine]
        return {v: int(effective[variant == v].max()) for v in np.unique(variant).tolist()}

    def on_count(self) -> list[AlertRecord]:
        """Look at the model after so many of its predictions."""
        now = self._silent.state.last
        return [] if now is None else self._look(now)

    def on_pane_end(self, heard: Mapping[str, int], start: int, end: int) -> list[AlertRecord]:
        """Look at the model at the end of a time pane, from `start` to `end` in ms, with predictions by version."""
        self._silent.hear_pane(heard, start, end)
        return self._look(end) if any(heard.values()) else self.settle(end)

    def _look(self, now: int) -> list[AlertRecord]:
        records, expected = self.settle(now), self._expected
        state = self._controller.state
        decided = state.issued_at if state.generation > 1 else None  # the first one is of whatever was read first
        look = self._silent.look(expected, decided, now)
        for version in expected:
            if version in look.silent:
                found = self._silence_of(version, look.silent[version], now)
                records += self.alerts.tell(version, Cause.NO_PREDICTIONS, found, now)
            elif version in look.heard:
                records += self.alerts.tell(version, Cause.NO_PREDICTIONS, None, now)
        return records

    def _silence_of(self, version: str, silence: Silence, now: int) -> Blindness:
        expected = self._expected
        others = sorted(
            state.version
            for state in self._versions.states.values()
            if state.version not in (*expected, *VERSIONLESS_TIERS, OTHER, self._controller.serving.previous)
            and len(state.window)
            and state.window.end >= silence.since
        )
        came = f"; predictions come of {listed(others)}, which nothing is expected of" if others else ""
        return Blindness(
            f"no predictions of {version} for {duration_words(now - silence.since)}, while {silence.predictions} of "
            f"{self._spec.name} came{came}: see whether {version} is deployed, gets its share and names itself so in "
            "`version`, or take it out of the configuration"
        )

    def expect(self, before: Collection[str], wall: int | None) -> None:
        """Take note that a restart with another configuration has decided on versions that were not expected before.

        What is still to be read of the time before the start cannot know of them.

        Args:
            before: Versions that were expected before that decision.
            wall: The time of day, ms; None in a replay.
        """
        if wall is not None:
            self._silent.await_from(self._expected.keys() - before, wall)

    @property
    def expected(self) -> frozenset[str]:
        """Versions of which predictions are expected."""
        return frozenset(self._expected)

    def on_decision(self, decision: Decision | None) -> list[AlertRecord]:
        """End what is about versions of which a decision expects nothing any more, at its time."""
        return [] if decision is None else self.settle(decision.issued_at)

    def settle(self, now: int) -> list[AlertRecord]:
        """End what is about versions of which no predictions are expected any more."""
        expected = self._expected
        self._looked_at.keep(expected)
        gone = [held for held in self.alerts.firing if held.version not in expected]
        return [
            record
            for held in gone
            for record in self.alerts.end(
                [held], f"nothing is expected of {held.version} any more", ClosedBecause.RETIRED, now
            )
        ]

    # -- a look at a version -----------------------------------------------------------------------------

    def on_check(self, state: VersionState, look: Look) -> list[AlertRecord]:
        """Take in that the window of a version was checked."""
        return self._looked_at.on_check(state, look) if state.version in self._expected else []

    def on_outcomes(self, state: VersionState, look: Look, now: int) -> list[AlertRecord]:
        """Take in that outcomes of a version were judged, at `now` ms."""
        return self._looked_at.on_outcomes(state, look, now) if state.version in self._expected else []

    # -- configuration and references --------------------------------------------------------------------

    def on_reference(self, now: int) -> list[AlertRecord]:
        """Take note that another reference is in force."""
        self._looked_at.forget_tests()
        return self._end(_OF_REFERENCE, "the reference was replaced", ClosedBecause.REFERENCE_CHANGED, now)

    def apply_config_changes(self, now: int) -> list[AlertRecord]:
        """End what is not configured any more."""
        spec, void = self._spec, set[Cause]()
        void |= set(_OF_REFERENCE) if spec.drift is None else set()
        void |= {Cause.WINDOW} if spec.window.counted or not (spec.drift or spec.rules) else set()
        void |= {Cause.OUTCOMES} if spec.outcomes is None else set()
        void |= set() if spec.own_rules else {Cause.RULES}
        over = self._end(tuple(void), "not configured any more", ClosedBecause.NOT_CONFIGURED, now)
        return over + self._end_names(now) + self.settle(now)

    def _end_names(self, now: int) -> list[AlertRecord]:
        """End what is about features that are ignored, or rules that are gone, alone; the next look names the rest."""
        self._looked_at.forget_unconfigured()
        ignored, rules = ignored_features(self._spec), {rule.name for rule in self._spec.rules}

        def is_gone(held: SavedBlindness) -> bool:
            return rules.isdisjoint(held.names) if held.cause == Cause.RULES else ignored.issuperset(held.names)

        gone = [held for held in self.alerts.firing if held.names and is_gone(held)]
        return self.alerts.end(gone, "not configured any more", ClosedBecause.NOT_CONFIGURED, now)

    def _end(self, causes: tuple[Cause, ...], why: str, because: ClosedBecause, now: int) -> list[AlertRecord]:
        return self.alerts.end([held for held in self.alerts.firing if held.cause in causes], why, because, now)

    # -- what is stored ----------------------------------------------------------------------------------

    def saved(self) -> SavedBlindWatch:
        """Return what is stored of it. It shares the parts that change: encode it before anything else happens."""
        strays = self._references.strays.first
        return SavedBlindWatch(
            self.alerts.firing, self._silent.state, self._looked_at.saved(), strays, self._references.numbered
        )  # fmt: skip

    def restore(self, saved: SavedBlindWatch, *, same_windows: bool) -> None:
        """Go on with what `saved` returned; without `same_windows` nothing is known of what waits."""
        self.alerts.firing, self._silent.state = saved.alerts, saved.silences
        self._references.strays.first, self._references.numbered = saved.strays, saved.numbered
        if same_windows:
            self._looked_at.restore(saved.waiting)


def _silence_limit(spec: ModelSpec) -> SilenceLimit:
    if spec.no_data_after:
        return SilenceLimit(time=spec.no_data_after, again=longer(spec.no_data_after))
    if spec.window.counted:
        limit = WINDOWS * spec.window.events
        return SilenceLimit(predictions=limit, again=WINDOWS * limit)
    return SilenceLimit(time=spec.window.longest, again=longer(spec.window.longest))
