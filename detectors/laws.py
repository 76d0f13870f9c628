"""Making the null laws of numeric features beforehand, for windows of known sizes.

A law takes milliseconds to simulate, and some hundred features need theirs at the same check. Which laws are there
makes no difference to any answer: one that is not is made when it is needed, with the same numbers. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from detectors.numeric_tests import NumericLaws
from detectors.reference import NumericReference, Profile, Reference


def with_laws(profile: Profile, sizes: Iterable[int]) -> Profile:
    """Return a profile with the laws of windows of these sizes.

    Args:
        profile: A profile. One by season is returned as it is: its laws follow from where in the season a window lies.
        sizes: Events of windows, of which each feature has its share.
    """
    if profile.season is not None:
        return profile
    known = sorted({size for size in sizes if size > 0})
    return replace(
        profile,
        features=tuple(_with_laws(r, known) for r in profile.features),
        answers=tuple(_with_laws(r, known) for r in profile.answers),
    )


def _with_laws(r: Reference, sizes: Sequence[int]) -> Reference:
    if not isinstance(r, NumericReference) or not r.rows or len(r.points) < 2:
        return r
    laws = NumericLaws(r)
    share = r.rows / (r.rows + r.missing)
    return replace(r, laws=laws.numbers(max(round(size * share), 1) for size in sizes))
