"""How well the promise of the false-alarm budget is founded: what is learned of a model, and what is assumed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.comparison import Comparison
from detectors.pane_dependence import FEWEST_PANES
from detectors.reference import NumericReference, Profile, Reference
from detectors.season import LEAST_PERIODS
from monitor.alerting.blind import listed
from monitor.evaluation.rules import SKIPPED
from monitor.evaluation.version_state import VersionState
from monitor.names import shown_name
from monitor.reference.active import ReferenceSet
from monitor.reference.provenance import InForce, OriginKind
from monitor.spec import ModelSpec, WindowSpec
from monitor.times import duration_words

KEPT, ASSUMED = "kept", "assumed"
FEWEST_WINDOWS: Final = 10  # that a reference has to hold for its dependence to be known
_FEWEST_ROWS: Final = 100  # with fewer nothing of dependence can be learned


@dataclass(frozen=True, slots=True)
class Foundation:
    """Say how well the promise is founded.

    Attributes:
        reasons: Why it is only assumed; none where it is kept.
    """

    reasons: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """`kept`, or `assumed`."""
        return ASSUMED if self.reasons else KEPT


def without_promise(spec: ModelSpec) -> str | None:
    """Return why there is nothing to promise about the false alarms of a model; None where there is."""
    if spec.drift is not None or any(not rule.hard for rule in spec.rules):
        return None
    concept = spec.outcomes is not None and spec.outcomes.concept_drift is not None
    if not (spec.rules or concept):
        return "nothing is watched: neither drift nor rules"
    found = [name for name, here in (("hard rules", bool(spec.rules)), ("concept drift", concept)) if here]
    return f"only {' and '.join(found)} {'is' if found == ['concept drift'] else 'are'} watched, without any promise"


def on_reference(profile: Profile, events: int) -> Iterator[str]:
    """Yield why the promise of drift is only assumed.

    Args:
        profile: The reference.
        events: Events of a window.
    """
    windows = profile.rows / max(events, 1)
    if windows < FEWEST_WINDOWS:
        yield (
            f"the reference has {profile.rows} rows, {windows:.3g} windows: with fewer than {FEWEST_WINDOWS} its "
            "dependence is hardly known"
        )
    if not profile.ordered:
        yield (
            "the rows of the reference are not known to be in the order of time: how events depend on each other was "
            "learned in the order in which they stand"
        )
        return
    compared = [(shown_name(f.name), f) for f in profile.features] + [(f.name, f) for f in profile.answers]
    unknown = [name for name, f in compared if _varies(f) and f.rows >= _FEWEST_ROWS and not f.dependence.sizes]
    if unknown:
        yield (
            f"the reference was built by an earlier release, which did not learn the dependence of {listed(unknown)}: "
            "build it again"
        )
    periods = next((f.seasonal.periods for _, f in compared if f.seasonal is not None), LEAST_PERIODS)
    if periods < LEAST_PERIODS:
        yield f"the reference spans {periods:.2g} periods of its season: fewer than two do not show what repeats itself"


def on_rules(metrics: Collection[str]) -> Iterator[str]:
    """Yield why the promise of rules is only assumed, where the dependence of some metrics is supposed."""
    if metrics:
        few = listed(sorted(metrics))
        yield (
            f"rules on {few}: fewer than {FEWEST_PANES} panes before the window show how events depend on each other; "
            "overdispersion is supposed"
        )


def without_reference(references: ReferenceSet) -> Iterator[str]:
    """Yield that there is nothing to compare with yet, where a reference is to be learned."""
    if references.profile is None and references.wanted:
        yield "there is no reference yet, so drift is not checked"


def on_stretches(spec: ModelSpec, stretch: int, most: int | None = None) -> Iterator[str]:
    """Yield that a rolling reference is made from stretches so short, ms, that they say too little of dependence.

    Args:
        spec: The model.
        stretch: How long the stretches are.
        most: The configured `limits.learning`, where it is known.
    """
    if stretch < spec.window.span:
        held = "limits.learning" if most is None else f"limits.learning ({most})"
        yield (
            f"the rolling reference is made from stretches of {duration_words(stretch)}, shorter than a window, as "
            f"{held} is too small for enough whole windows: how events further apart depend on each other is not seen; "
            "raise it"
        )


def on_rolling(spec: ModelSpec, references: ReferenceSet) -> Iterator[str]:
    """Yield why the promise is only assumed for references that were renewed from what is kept of the stream."""
    origins = references.records.state.in_force
    rolled = [
        its.rows.stretch for subject, its in references.rolling.rollers.items() if _is_rolled(origins.get(subject))
    ]
    if rolled:
        yield from on_stretches(spec, min(rolled))


def on_answers(own: Comparison, profile: Profile | None, events: int) -> Iterator[str]:
    """Yield why the promise for a version's predictions is only assumed, where their reference is its own.

    Args:
        own: What they are compared with.
        profile: The reference of the features; where it has predictions, they are no shorter.
        events: Events of a window.
    """
    compared: tuple[Reference, ...] = (*own.numeric_cells.references, *own.category_cells.references)
    rows = max((r.rows for r in compared), default=0)
    if 0 < rows < FEWEST_WINDOWS * events and (profile is None or rows < profile.rows):
        yield (
            f"the reference of its own predictions has {rows} rows for windows of {events}: with fewer than "
            f"{FEWEST_WINDOWS} windows their dependence is hardly known; raise outcomes.baseline_n, or use a reference "
            "with a column of predictions"
        )


def on_drift(spec: ModelSpec, references: ReferenceSet, version: str, events: int) -> Iterator[str]:
    """Yield why the promise of drift of a version is only assumed; `events` are those of a window."""
    profile, own = references.profile, references.answers.get(version)
    if spec.drift is None:
        return
    yield from without_reference(references)
    if profile is not None:
        yield from on_reference(profile, events)
        yield from on_rolling(spec, references)
    if own is not None:
        yield from on_answers(own, profile, events)


def _is_rolled(record: InForce | None) -> bool:
    return record is not None and record.origin is OriginKind.ROLLING


def reasons_of(spec: ModelSpec, references: ReferenceSet, version: VersionState) -> list[str]:
    """Return why the promise for a version is only assumed, as far as it is known without computing what is found."""
    events = events_of(spec.window, references.profile)
    judged = {rule.rule.metric for rule in version.rules if not rule.rule.hard and rule.verdict not in SKIPPED}
    return [*on_drift(spec, references, version.version, events), *on_rules(judged & set(version.panes.assumed))]


def events_of(window: WindowSpec, profile: Profile | None) -> int:
    """Return the events that a full window has, at the rate of the reference where that is known."""
    if window.counted:
        return window.events
    first, last = (None, None) if profile is None else (profile.first_ms, profile.last_ms)
    if profile is None or first is None or last is None or last <= first:
        return max(window.min_events, 1)
    return max(round(profile.rows / (last - first) * window.span), window.min_events, 1)


def _varies(r: Reference) -> bool:
    if isinstance(r, NumericReference):
        return len(r.points) > 1
    return int(np.count_nonzero(r.counts)) + (r.other > 0) > 1
