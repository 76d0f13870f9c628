"""Checks of drift: the windows of a version against the references, and the episodes that follow.

Pure. Called by the evaluator. Windows of several extents are checked, each with an equal part of the budget. Counts of
checks, the history, the courses of features and what could not be judged are of the configured window; the others
begin and keep open episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from detectors.change_point import binned_panes, change_point
from detectors.checking import Rates, check
from detectors.comparison import Comparison
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Skipped, Value, Verdict
from detectors.types import IntArray
from detectors.window import Window
from monitor.alerting.blind import listed
from monitor.alerting.drift_episodes import DriftEpisode, WindowCheck
from monitor.alerting.records import AlertRecord, AlertStatus, AlertWindow, ChangeInterval
from monitor.evaluation.budget import Allowed, FalseAlarmBudget
from monitor.evaluation.feature_courses import watched
from monitor.evaluation.history import HistoryRow, answer_row
from monitor.evaluation.version_state import OtherWindow, VersionState
from monitor.events.codes import OTHER, VERSIONLESS_TIERS
from monitor.names import shown_name
from monitor.reference.active import ReferenceSet
from monitor.reference.identifiers import is_identifier
from monitor.spec import FeatureKind, ModelSpec


@dataclass(frozen=True, slots=True)
class CheckedFeatures:
    """What a check found of its features.

    Attributes:
        compared: How many there are.
        unseen: Those that no event ever had, with the number of predictions that should have; none that identify rows.
        blind: Those of which no difference would be significant, where no other feature could be judged, or none of
            the answers.
        mistyped: Values of another type than the reference's, by feature.
    """

    compared: int
    unseen: Mapping[str, float]
    blind: tuple[str, ...]
    mistyped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DriftCheck:
    """Everything that followed from checking the windows of a version for drift.

    Attributes:
        result: What the configured window shows, or why it was not checked; None where drift is not monitored.
        records: Alert records of drift and data quality, in order.
        checked: What was found of the features; None where there was no check.
        rows: Rows of the history of windows of other extents, where what they show has changed.
    """

    result: CheckResult | None
    records: tuple[AlertRecord, ...] = ()
    checked: CheckedFeatures | None = None
    rows: tuple[HistoryRow, ...] = ()


class DriftChecks:
    """Checks the versions of one model for drift."""

    def __init__(self, spec: ModelSpec, references: ReferenceSet, budget: FalseAlarmBudget) -> None:
        self._spec, self._references, self._budget = spec, references, budget

    def check(self, version: VersionState, window: AlertWindow) -> DriftCheck:
        """Compare the windows of a version with the reference, and pass the results to its episodes.

        Args:
            version: The version; what it keeps of its checks is moved on.
            window: Its configured window.
        """
        if self._spec.drift is None or version.version in (*VERSIONLESS_TIERS, OTHER):
            return DriftCheck(None)
        everything = self._references.comparisons(version.version)
        comparisons = [c for c in everything if c.holds(version.window.total)]
        if not comparisons:
            version.features.clear()
            version.count_check("no_reference")
            return DriftCheck(self.unchecked(version, Verdict.NO_REFERENCE, window.events))
        if not self._spec.window.counted and window.events < self._spec.window.min_events:
            version.features.skip()
            version.count_check("too_few")
            return DriftCheck(self.unchecked(version, Verdict.TOO_FEW, window.events))
        full = [o for o in version.others if any(o.window.spans(c.vectors[0]) for c in comparisons)]
        allowed = self._budget.allowed(version)
        part = 1 / (1 + len(full))  # of the budget: windows that are not full leave theirs to the others
        result = self._compare(version, version.window, comparisons, allowed, part)
        others = [self._other_check(version, o, comparisons, allowed, part, is_full=o in full) for o in version.others]
        absent = {name for name, why in result.skipped.items() if why is Skipped.NO_EVENTS}
        checked_names = [name for c in comparisons for name in c.names]
        seen = self._references.seen
        seen.update(set(checked_names) - absent)
        version.skipped = {name: why.value for name, why in result.skipped.items()}
        judged = len(result.skipped) < len(checked_names)
        version.count_check("drift" if result.findings else "ok" if judged else "blind")
        compared = [name for c in everything for name in c.names]
        evidence = _evidence(comparisons, version.window)
        episodes = (version.drift, version.quality) if version.closed is None else ()
        updates = [
            self._dated(version, e, e.update(result, window, compared, evidence, others), comparisons) for e in episodes
        ]
        updates[1:] = [self._explained(record, comparisons, version) for record in updates[1:]]
        self._follow(version, comparisons, result, evidence)
        checked = _checked(comparisons, result, absent - seen, version.window.total, window.events)
        uncounted = [c for c in everything if c not in comparisons]  # no pane of the window was counted against them
        result = replace(
            result, untested=(*result.untested, *_untested(uncounted, Verdict.NO_REFERENCE, window.events))
        )
        records = tuple(record for record in updates if record is not None)
        return DriftCheck(result, records, checked, _changed_rows(version, others))

    def unchecked(self, version: VersionState, why: Verdict, events: int) -> CheckResult | None:
        """Return what a window of so many events says of every feature where it was not checked; None without drift."""
        if self._spec.drift is None or version.version in (*VERSIONLESS_TIERS, OTHER):
            return None
        return CheckResult.of_untested(_untested(self._references.comparisons(version.version), why, events))

    def _other_check(
        self,
        version: VersionState,
        other: OtherWindow,
        comparisons: Sequence[Comparison],
        allowed: Allowed,
        part: float,
        *,
        is_full: bool,
    ) -> WindowCheck:
        """Check a window of another extent, once in its stride, and while an episode lasts in every pane."""
        window, stride = other.window, other.extent.stride
        result = None
        if is_full and (version.drift.firing or version.quality.firing or window.begins_run(stride)):
            held = [c for c in comparisons if window.spans(c.vectors[0])]
            result = self._compare(version, window, held, allowed, part, stride)
        return WindowCheck(
            AlertWindow(window.start, window.end, window.events, other.extent.label),
            result,
            _evidence(comparisons, window),
            longer=other.extent.multiple > 1,
        )

    def _compare(
        self,
        version: VersionState,
        window: Window,
        comparisons: Sequence[Comparison],
        allowed: Allowed,
        part: float,
        stride: int = 1,
    ) -> CheckResult:
        """Compare a window with its references.

        Args:
            version: The version.
            window: One of its windows.
            comparisons: What it is compared with; at least one.
            allowed: What the budget leaves for a check of the version.
            part: The part of it that the window has.
            stride: Panes from one look at it to the next: a look in so many panes may raise so many times the alarms.
        """
        drift, quality = allowed.drift * part * stride, allowed.quality * part * stride
        rates = Rates(drift, quality, max(len(window) // stride, 1))
        listed = {*version.drift.features(), *version.quality.features()}
        return check(comparisons, window.total, rates, listed, self._references.seen)

    def _dated(
        self,
        version: VersionState,
        episode: DriftEpisode,
        record: AlertRecord | None,
        comparisons: Sequence[Comparison],
    ) -> AlertRecord | None:
        """Add to the first record of an episode when its strongest change began; the episode keeps that."""
        if record is None or not record.begins or not record.features:
            return record
        change = _began(version, record, comparisons)
        episode.date(change)
        return replace(record, change=change)

    def _follow(
        self,
        version: VersionState,
        comparisons: Sequence[Comparison],
        result: CheckResult,
        evidence: Callable[[str], Evidence | None],
    ) -> None:
        """Keep what a check found of the features that people look at."""
        drift, profile = self._spec.drift, self._references.profile
        if drift is None:
            return
        features = {name for c in comparisons if c is self._references.features for name in c.names}
        own = [name for c in comparisons if c is not self._references.features for name in c.names]
        kinds = self._spec.feature_kinds.items()
        configured = [name for name, kind in kinds if kind is not FeatureKind.IGNORE]
        shown = () if profile is None else map(shown_name, (f.name for f in profile.features))
        compared = [name for name in shown if name in features]
        listed = {**version.drift.state.listed, **version.quality.state.listed}.values()
        alarmed = [feature.name for feature in sorted(listed, key=lambda f: (-f.weight, f.name))]
        names = watched(configured, compared, own)
        version.features.move_on(names, result, drift.min_effect, evidence, alarmed)

    def _explained(
        self, record: AlertRecord | None, comparisons: Sequence[Comparison], version: VersionState
    ) -> AlertRecord | None:
        """Add to a record of data quality what is known: values of another type, and what came instead."""
        if record is None or record.status is not AlertStatus.FIRING:
            return record
        window = version.window
        began = window.start if record.since is None else record.since.start
        mistyped = {name for c in comparisons for name in c.mistyped_in(window.total)}
        missing = [feature.name for feature in record.features if feature.statistic == "missing_rate"]
        changed = [name for name in missing if name in mistyped]
        missed = [name for name in missing if name not in mistyped]
        instead = self._references.instead(missed, window.end, began) if missed else []
        told = [record.summary]
        if changed:
            told.append(f"type changed, text or true/false where the reference has numbers: {listed(changed)}")
        if instead:
            told.append(f"missing: {listed(missed)}; in the events and not in the reference: {listed(instead)}")
        return replace(record, summary="; ".join(told))


def _evidence(comparisons: Sequence[Comparison], window: Window) -> Callable[[str], Evidence | None]:
    def of_feature(name: str) -> Evidence | None:
        found = (c.evidence(name, window.total) for c in comparisons)
        return next((e for e in found if e is not None), None)

    return of_feature


def _began(version: VersionState, record: AlertRecord, comparisons: Sequence[Comparison]) -> ChangeInterval | None:
    """Return when the strongest change of a record began, by the panes of the longest window."""
    most = record.features[0]
    windows = {o.extent.label: o.window for o in version.others}
    shows = version.window if most.window is None else windows[most.window]
    held = max((list(window) for window in (version.window, *windows.values())), key=len)
    for comparison in comparisons:
        # Panes that were counted against another reference tell nothing.
        panes = [piece for piece in held if comparison.vectors[0] in piece.counts]
        binned = binned_panes(comparison, most.name, most.statistic, [piece.counts for piece in panes])
        if binned is None:
            continue
        first = next((i for i, piece in enumerate(panes) if piece.pane >= shows.first_pane), 0)
        found = change_point(binned, slice(first, None))
        if found is not None:
            return ChangeInterval(panes[found.at].start, panes[found.first].start, panes[found.last].end)
    return None


def _changed_rows(version: VersionState, others: Sequence[WindowCheck]) -> tuple[HistoryRow, ...]:
    """Return the windows of other extents that show drift of other features than they did, and take note of these."""
    rows = {}
    for other in others:
        if other.result is None:
            continue
        label, drifted = other.window.label, sorted({f.feature for f in other.result.findings})
        if drifted == version.found.get(label, []):
            continue
        version.found[label] = drifted
        if not drifted:
            del version.found[label]
        # Rows are told apart by beginning and end: windows with the same panes say the same.
        if other.window.start != version.window.start:
            rows[other.window.start] = answer_row(version.version, other.window, {}, other.result)
    return tuple(rows.values())


def _untested(comparisons: Sequence[Comparison], why: Verdict, events: int) -> tuple[Value, ...]:
    return tuple(value for c in comparisons for value in c.untested(why, events))


def _checked(
    comparisons: Sequence[Comparison],
    result: CheckResult,
    unseen: Collection[str],
    totals: Callable[[str], IntArray | None],
    events: int,
) -> CheckedFeatures:
    missed = [r for c in comparisons for r in c.references if r.name in unseen and not is_identifier(r)]
    compared = sum(len(c.names) for c in comparisons)
    blind = [name for name, why in result.skipped.items() if why is Skipped.BLIND]
    mistyped = {name: count for c in comparisons for name, count in c.mistyped_in(totals).items()}
    return CheckedFeatures(
        compared,
        {r.name: events * r.rows / max(r.rows + r.missing, 1) for r in missed},
        tuple(sorted(blind)) if any(_is_dark(c.names, result.skipped) for c in comparisons) else (),
        mistyped,
    )


def _is_dark(names: Collection[str], skipped: Mapping[str, Skipped]) -> bool:
    """Return whether none of the features, or none of the answers, could be judged, and not only as none came."""
    return all(name in skipped for name in names) and any(skipped[name] is Skipped.BLIND for name in names)
