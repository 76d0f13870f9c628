"""Whether a reference is long enough to promise a number of false alarms, or its dependence is only assumed. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from detectors.reference import Profile, Reference
from detectors.season import LEAST_PERIODS

_WINDOWS: Final = 10  # in a reference from which the dependence of windows can be learned


class Founded(StrEnum):
    """Say what the promise of a number of false alarms rests on."""

    KEPT = "kept"  # on dependence learned from enough windows
    ASSUMED = "assumed"  # on what the reference is too short, too old or too unordered to tell


def founded(reference: Reference, events: int, *, ordered: bool) -> Founded:
    """Tell what the promise for one feature rests on.

    Args:
        reference: The reference of the feature.
        events: Events of a window.
        ordered: Whether the rows of the reference were in the order of time.
    """
    constant = reference.rows and not reference.dependence.sizes and not reference.dispersion.sizes
    learned = reference.dependence.sizes or constant
    repeated = reference.seasonal is None or reference.seasonal.periods >= LEAST_PERIODS
    enough = reference.rows >= _WINDOWS * events
    return Founded.KEPT if ordered and learned and enough and repeated else Founded.ASSUMED


def founded_of(profile: Profile, events: int) -> Founded:
    """Tell what the promise for a model rests on: it is kept where it is for every feature and answer."""
    each = {founded(r, events, ordered=profile.ordered) for r in (*profile.features, *profile.answers) if r.rows}
    return Founded.ASSUMED if Founded.ASSUMED in each else Founded.KEPT
