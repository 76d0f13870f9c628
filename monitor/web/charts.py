"""Small pictures of one feature: what was expected against what was seen, and how its effect went. Inline SVG.

Pure. The numbers stand in the label of each picture as well, for those who do not see it. Colours are the page's, and
tell nothing alone: what was expected is wide and pale, what was seen is narrow and dark, the limit is dashed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from detectors.evidence import Evidence
from detectors.findings import Family
from monitor.evaluation.feature_courses import RECENT, Course, FeatureCourse
from monitor.printable import printable

_WIDTH: Final = 140
_HEIGHT: Final = 44
_HIGHEST: Final = 1.25  # of a sparkline, at least: so the limit is always in the picture


def feature_row(version: str, name: str, its: FeatureCourse, family: Family = Family.DRIFT) -> str:
    """Return a feature with its pictures, as HTML.

    Args:
        version: The version whose predictions were looked at.
        name: Name of the feature.
        its: What checks found of it.
        family: Of which tests the sparkline is, where there are any.
    """
    course = its.data_quality if family is Family.DATA_QUALITY else its.drift
    course = course or its.drift or its.data_quality
    pictures = "" if its.histograms is None else histogram(name, its.histograms)
    pictures += "" if course is None else sparkline(name, course)
    told = "never judged" if course is None else _words(course)
    head = f"{_safe(version)} · <b>{_safe(name)}</b>"
    return f"<div class='feature'><p>{head} <small>{_safe(told)}</small></p>{pictures}</div>"


def _words(course: Course) -> str:
    found = f"{course.statistic} {course.effect:.3g} (limit {course.limit:.3g})"
    return found if course.ratio is not None else f"not judged in the latest window; before: {found}"


def histogram(name: str, found: Evidence) -> str:
    """Draw the shares of the reference and of the window side by side, as SVG.

    Args:
        name: Name of the feature.
        found: Its counts by bin.
    """
    expected, seen = _shares(found.reference), _shares(found.current)
    highest = max((*expected, *seen), default=0.0) or 1.0
    step = _WIDTH / max(len(expected), 1)
    bars = []
    for i, (before, now) in enumerate(zip(expected, seen, strict=True)):
        bars.append(_bar("expected", i * step + 0.5, step - 1, before / highest))
        bars.append(_bar("seen", (i + 0.3) * step, step * 0.4, now / highest))
    shares = zip(bin_names(found.edges, len(expected)), expected, seen, strict=True)
    label = f"{name}, share expected and seen: " + "; ".join(f"{b} {e:.0%}, {s:.0%}" for b, e, s in shares)
    return _picture(label, f"<line class='base' x1='0' x2='{_WIDTH}' y1='{_HEIGHT}' y2='{_HEIGHT}'/>" + "".join(bars))


def bin_names(edges: Sequence[float | str], bins: int) -> list[str]:
    """Return what the bins of a histogram are called: ranges between the edges, or the names of categories.

    Args:
        edges: As in `Evidence`.
        bins: How many bins there are.
    """
    if any(isinstance(edge, str) for edge in edges):
        return [str(edge) for edge in edges]
    inner = [f"{edge:.4g}" for edge in edges if not isinstance(edge, str)]
    if bins <= 1 or not inner:
        return ["all"] * bins
    between = [f"{low} to {high}" for low, high in itertools.pairwise(inner)]
    return [f"up to {inner[0]}", *between, f"above {inner[-1]}"]


def sparkline(name: str, course: Course) -> str:
    """Draw the effect of the latest windows in units of its limit, with the limit as a line, as SVG.

    Args:
        name: Name of the feature.
        course: Its course; windows that could not be judged are gaps.
    """
    ratios = course.ratios()
    highest = max(_HIGHEST, *(ratio for ratio in ratios if ratio is not None)) if any(ratios) else _HIGHEST
    step = _WIDTH / (RECENT - 1)
    first = RECENT - len(ratios)
    points = [
        None if ratio is None else ((first + i) * step, _HEIGHT * (1 - ratio / highest))
        for i, ratio in enumerate(ratios)
    ]
    limit = _HEIGHT * (1 - 1 / highest)
    drawn = f"<line class='limit' x1='0' x2='{_WIDTH}' y1='{limit:.1f}' y2='{limit:.1f}'/>"
    for run in _runs(points):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
        drawn += f"<polyline class='course' points='{line}'/>"
        x, y = run[-1]
        drawn += f"<circle class='seen' cx='{x:.1f}' cy='{y:.1f}' r='2'/>"
    told = ", ".join("not judged" if ratio is None else f"{ratio:.3g}" for ratio in ratios)
    return _picture(f"{name}, effect over the latest {len(ratios)} windows in units of its limit: {told}", drawn)


def _runs(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """Yield points that follow each other without a gap."""
    run: list[tuple[float, float]] = []
    for point in (*points, None):
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _bar(kind: str, x: float, width: float, share: float) -> str:
    height = _HEIGHT * share
    return f"<rect class='{kind}' x='{x:.1f}' y='{_HEIGHT - height:.1f}' width='{width:.1f}' height='{height:.1f}'/>"


def _picture(label: str, drawn: str) -> str:
    told = _safe(label)
    return (
        f"<svg role='img' aria-label='{told}' width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}'>"
        f"<title>{told}</title>{drawn}</svg>"
    )


def _safe(text: str) -> str:
    return escape(printable(text))
