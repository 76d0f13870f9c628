"""Windows for which the laws of a reference are made beforehand: those that the configuration names. Pure."""

from __future__ import annotations

import msgspec

from detectors.reference import Profile
from monitor.spec import ModelSpec


class LawWindows(msgspec.Struct, frozen=True):
    """How large windows are, in events or in time.

    Attributes:
        events: Events of counted windows.
        spans: Spans of windows of time, ms.
    """

    events: tuple[int, ...] = ()
    spans: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec) -> LawWindows:
        """Return the windows that are checked for drift; none where drift is not monitored."""
        if spec.drift is None:
            return cls()
        window, multiples = spec.window, sorted({1.0, *spec.drift.windows})
        if window.counted:
            return cls(events=tuple(round(window.events * multiple) for multiple in multiples))
        return cls(spans=tuple(round(window.span * multiple) for multiple in multiples))

    def sizes(self, profile: Profile) -> list[int]:
        """Return their events; of windows of time as the rate of a reference lets expect, none where it is unknown."""
        first, last = profile.first_ms, profile.last_ms
        if first is None or last is None or last <= first:
            return [*self.events]
        rate = profile.rows / (last - first)
        return [*self.events, *(round(span * rate) for span in self.spans)]
