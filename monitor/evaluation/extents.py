"""Windows of several extents over the same panes: which multiples of the configured window panes can hold.

Pure. Read from the specification alone, so the configuration can say beforehand what is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from detectors.window import WindowRule
from monitor.spec import ModelSpec, WindowSpec
from monitor.times import duration_text

_FEWEST_EVENTS: Final = 50  # with fewer, only changes that nobody overlooks are significant
_MOST_PANES: Final = 20_000


@dataclass(frozen=True, slots=True)
class WindowExtent:
    """How far one of the windows of a version reaches back.

    Attributes:
        multiple: Of the configured window; 1 for the configured one.
        rule: Its extent in panes.
        label: What it is called in history and alerts: `15m`, or `1000 events`.
    """

    multiple: float
    rule: WindowRule
    label: str

    @property
    def stride(self) -> int:
        """Panes from one look at it to the next; the configured window is looked at in every pane.

        A look after few of many panes finds hardly more than the one before, and costs as much. With the square root
        both what looks cost and what they come late by stay small.
        """
        return max(round(math.sqrt(self.rule.span)), 1)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A multiple that is not checked, and why, in words."""

    multiple: float
    why: str


def window_rule(spec: WindowSpec) -> WindowRule:
    """Return how far windows reach back, in panes."""
    if spec.counted:
        span = spec.events // spec.every
        return WindowRule(span, span, spec.events)
    return WindowRule(spec.span // spec.pane, max(spec.longest, spec.span) // spec.pane, spec.min_events)


def window_label(spec: WindowSpec) -> str:
    """Return what windows are called in history and alerts: `15m`, or `1000 events`."""
    return f"{spec.events} events" if spec.counted else duration_text(spec.span)


def other_extents(spec: ModelSpec) -> list[WindowExtent]:
    """Return the extents that are checked for drift beside the configured one, the shortest first."""
    return [extent for extent in _multiples(spec) if isinstance(extent, WindowExtent)]


def left_out(spec: ModelSpec) -> list[LeftOut]:
    """Return the multiples of the window that panes cannot hold, the smallest first."""
    return [extent for extent in _multiples(spec) if isinstance(extent, LeftOut)]


def _multiples(spec: ModelSpec) -> Sequence[WindowExtent | LeftOut]:
    windows = () if spec.drift is None else tuple(sorted(spec.drift.windows))
    return _scaled(spec.window, windows)


@lru_cache(maxsize=256)
def _scaled(window: WindowSpec, multiples: tuple[float, ...]) -> tuple[WindowExtent | LeftOut, ...]:
    return tuple(_each(window, multiples))


def _each(window: WindowSpec, multiples: Sequence[float]) -> Iterator[WindowExtent | LeftOut]:
    configured = window_rule(window)
    taken = {configured.span: 1.0}
    pane = f"every ({window.every} events)" if window.counted else f"pane ({duration_text(window.pane)})"
    for multiple in multiples:
        if multiple == 1:
            continue
        exact = configured.span * multiple
        span = math.floor(exact + 0.5)
        rule = _rule(window, configured, multiple, span)
        if exact < 1:
            why = f"it is shorter than one pane: lower window.{pane}"
        elif span in taken:
            why = f"in whole panes it is {taken[span]:g} times the window: lower window.{pane}"
        elif multiple < 1 and rule.min_events < _FEWEST_EVENTS:
            least = "events" if window.counted else "min_events"
            why = f"it holds {rule.min_events} predictions, and {_FEWEST_EVENTS} are needed: raise window.{least}"
        elif span > _MOST_PANES:
            why = f"it has {span} panes, at most {_MOST_PANES} are kept: raise window.{pane}"
        else:
            taken[span] = multiple
            yield WindowExtent(multiple, rule, _label(window, rule))
            continue
        yield LeftOut(multiple, why)


def _rule(window: WindowSpec, configured: WindowRule, multiple: float, span: int) -> WindowRule:
    if window.counted:
        return WindowRule(span, span, span * window.every)
    longest = max(min(math.floor(configured.longest * multiple + 0.5), _MOST_PANES), span)
    return WindowRule(span, longest, max(math.ceil(configured.min_events * multiple), 1))


def _label(window: WindowSpec, rule: WindowRule) -> str:
    return f"{rule.min_events} events" if window.counted else duration_text(rule.span * window.pane)
