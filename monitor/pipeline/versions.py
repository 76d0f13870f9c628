"""The versions of one model that were seen, each with its state.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from detectors.types import IntArray
from monitor.evaluation.version_state import VersionState
from monitor.events.admission import SavedAdmission
from monitor.events.codes import OTHER, VERSIONLESS_TIERS, Variants
from monitor.reference.active import ReferenceSet
from monitor.reference.rolling import RollingTimes, Standing
from monitor.serving.controller import ServingController
from monitor.spec import BASELINE_N, ModelSpec


class Versions:
    """States of versions by variant code, made when a version is first seen."""

    def __init__(
        self, spec: ModelSpec, variants: Variants, references: ReferenceSet, controller: ServingController
    ) -> None:
        self._spec, self._variants = spec, variants
        self._references, self._controller = references, controller
        self._reach = RollingTimes.of(spec).reach // max(spec.window.pane, 1)
        self.states: dict[int, VersionState] = {}

    def __getitem__(self, variant: int) -> VersionState:
        """The state of a version; a new one begins with this call."""
        state = self.states.get(variant)
        if state is None:
            version = self._variants.table[variant].version or ""
            baseline_n = self._spec.outcomes.baseline_n if self._spec.outcomes else BASELINE_N
            state = self.states[variant] = VersionState(variant, version, self._spec, baseline_n)
            if version == OTHER:
                state.rules = []  # a mixture of versions that nobody can act upon
            self._references.begin(version)
        return state

    def settled(self, variants: IntArray) -> IntArray:
        """Return variants with those of versions that were not admitted replaced by that of OTHER."""
        return self._variants.settled(self._spec.name, variants)

    def name(self, variant: int) -> str:
        """Return the name of a version, that of OTHER where it was not admitted."""
        return OTHER if self.is_alias(variant) else self._variants.table[variant].version or ""

    def is_alias(self, variant: int) -> bool:
        """Return whether a variant is that of a version that was not admitted."""
        return self._variants.is_alias(self._spec.name, variant)

    def admit(self, now: int) -> list[tuple[int, VersionState]]:
        """Admit versions of all panes that end by stream time `now`, ms, as far as the limit allows.

        What is known of the others is added to the state of OTHER.

        Returns:
            (variant, its last state) of versions that were not admitted and had a state.
        """
        gone: list[tuple[int, VersionState]] = []
        for variant in self._variants.settle(self._spec.name, now):
            state = self.states.pop(variant, None)
            if state is not None:
                self[self.other].absorb(state)
                gone.append((variant, state))
        return gone

    def standing(self, pane: int) -> Standing:
        """Return what the renewal of references has to know of versions when a time pane has ended."""
        if not self._references.rolling.rollers:
            return Standing()
        after = pane + 1 - self._reach
        judged = [state for state in self.states.values() if state.version not in (*VERSIONLESS_TIERS, OTHER)]
        held = {state.version: state.oldest_pane(after) for state in judged}
        oldest = {version: first for version, first in held.items() if first is not None}
        return Standing(frozenset(state.version for state in judged if state.is_alarmed), oldest)

    def admission(self) -> SavedAdmission:
        """Return what is stored of which versions are admitted."""
        return self._variants.admission(self._spec.name)

    def restore_admission(self, saved: SavedAdmission) -> None:
        """Go on with what `admission` returned."""
        self._variants.restore_admission(self._spec.name, saved)

    @property
    def other(self) -> int:
        """Variant of the versions that were not admitted."""
        return self._variants[self._spec.name, OTHER]

    def ordered(self, variants: Iterable[int] | None = None) -> list[int]:
        """Sort variant codes: the champion first, since others are compared with it, then by name."""
        champion = self._controller.serving.champion
        chosen = self.states if variants is None else variants
        return sorted(chosen, key=lambda v: (self.states[v].version != champion, self.states[v].version))
