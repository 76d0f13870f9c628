"""The stored state of the serving of a model.

Pure. It is saved with `msgspec.to_builtins` and restored with `msgspec.convert`, so a field is defined once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fallback.decisions import initial
from fallback.types import Reason, Serving, ServingSpec
from monitor.alerting.episodes import EpisodeState


@dataclass(slots=True)
class ServingState:
    """Who serves a model, since which decision, and the alerts of its decisions.

    Attributes:
        serving: The current serving state.
        configured: The configuration that was last applied.
        generation: Number of the latest decision; 0 before the first.
        issued_at: When it was made, ms of stream time.
        reason: Its reason.
        by: Who made it; empty where an earlier release did.
        cause: Event id of the alert behind it.
        rolled_back: Version → the alert about its rollback.
        fallback: The alert about a fallback.
    """

    serving: Serving
    configured: ServingSpec
    generation: int = 0
    issued_at: int = 0
    reason: Reason = Reason.INITIAL
    by: str = ""
    cause: str | None = None
    rolled_back: dict[str, EpisodeState] = field(default_factory=dict)
    fallback: EpisodeState = field(default_factory=EpisodeState)

    @staticmethod
    def of(spec: ServingSpec) -> ServingState:
        """Return the state before the first decision."""
        return ServingState(initial(spec), spec)
