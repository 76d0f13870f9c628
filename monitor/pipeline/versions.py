"""The versions of one model that were seen, each with its state.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from monitor.evaluation.version_state import VersionState
from monitor.events.codes import OTHER, Variants
from monitor.reference.active import ReferenceSet
from monitor.serving.controller import ServingController
from monitor.spec import BASELINE_N, ModelSpec


class Versions:
    """States of versions by variant code, made when a version is first seen."""

    def __init__(
        self, spec: ModelSpec, variants: Variants, references: ReferenceSet, controller: ServingController
    ) -> None:
        self._spec, self._variants = spec, variants
        self._references, self._controller = references, controller
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

    def ordered(self, variants: Iterable[int] | None = None) -> list[int]:
        """Sort variant codes: the champion first, since others are compared with it, then by name."""
        champion = self._controller.serving.champion
        chosen = self.states if variants is None else variants
        return sorted(chosen, key=lambda v: (self.states[v].version != champion, self.states[v].version))
