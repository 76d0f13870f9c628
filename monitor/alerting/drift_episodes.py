"""Episodes of drift and of data quality: each follows a version check by check.

Pure. A feature joins when a window of any extent shows that it drifts, and stays until several checks in a row found
all of them calm, which ends the episode. Asked are the configured window and all shorter ones: a longer one would show
for long what is over, and keeps open only an episode that longer ones alone began. No episode recovers without
evidence. What else ends it is told to it (`end`). Its records say what is true at their own time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from detectors.checking import CALM_EFFECT
from detectors.evidence import Evidence
from detectors.findings import CheckResult, Family, Finding
from detectors.registry import RATES
from monitor.alerting.episodes import has_moved
from monitor.alerting.records import (
    AlertKind,
    AlertRecord,
    AlertStatus,
    AlertWindow,
    ChangeInterval,
    ClosedBecause,
    DriftedFeature,
    Reading,
    SeenWindow,
    Subject,
)
from monitor.spec import Severity

CRITICAL_WEIGHT = 2.0  # times the minimum effect from which drift is critical
_KIND = {Family.DRIFT: AlertKind.DRIFT, Family.DATA_QUALITY: AlertKind.DATA_QUALITY}
_WORD = {Family.DRIFT: "drifted", Family.DATA_QUALITY: "changed in quality"}


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """What one window of a check shows.

    Attributes:
        window: The window.
        result: What it shows, of both families; None where the window could not be judged.
        evidence: Feature → its distributions in the reference and in the window.
        longer: Whether it is longer than the configured window.
    """

    window: AlertWindow
    result: CheckResult | None
    evidence: Callable[[str], Evidence | None]
    longer: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """The strongest finding of a feature, and the other window that it is of; None: the configured one's."""

    finding: Finding
    elsewhere: WindowCheck | None = None


@dataclass(slots=True)
class DriftEpisodeState:
    """The stored state of a `DriftEpisode`.

    Attributes:
        starts_at: End of the window that began the episode, ms; None while it does not fire.
        severity: Severity of the latest record.
        calm: Checks in a row that found all listed features calm.
        listed: Features of the episode, by name, as they were last judged.
        told: Size of the largest change that the latest record told; None where an earlier release told it.
        told_until: End of its window, ms.
        begun: The window that began the episode.
        change: When what drifted first began to; None where that is not known.
        keepers: Labels of the longer windows that saw it while no other one had: they keep the episode open.
        near: Listed features that the configured window or a shorter one has found to drift.
        spent: Features of an episode that is over, and since when they are calm, ms: where a longer window still
            reaches back beyond that, its findings on them are old ones.
    """

    starts_at: int | None = None
    severity: Severity = Severity.WARNING
    calm: int = 0
    listed: dict[str, DriftedFeature] = field(default_factory=dict)
    told: float | None = None
    told_until: int = -1
    begun: AlertWindow | None = None
    change: ChangeInterval | None = None
    keepers: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    spent: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class DriftEpisode:
    """The drift alert or the data-quality alert of one version.

    A feature that drifts joins the episode and stays listed until it ends, which is after `resolve_after`
    checks in a row that found all listed features calm. A check that could not judge one of them is no evidence.
    A feature that is no longer compared, since it was configured to be ignored, leaves. When the largest change of
    a listed feature has grown or shrunk by a half, that is told, at most once per full window.
    """

    model: str
    version: str
    family: Family
    resolve_after: int
    state: DriftEpisodeState = field(default_factory=DriftEpisodeState)

    @property
    def subject(self) -> Subject:
        """Subject of its records."""
        return Subject(self.model, self.version, _KIND[self.family])

    @property
    def firing(self) -> bool:
        """Whether it fires."""
        return self.state.starts_at is not None

    def features(self) -> list[tuple[Family, str]]:
        """Return the listed features: a check must judge whether they are calm."""
        return [(self.family, name) for name in self.state.listed]

    def update(
        self,
        check: CheckResult,
        window: AlertWindow,
        watched: Collection[str],
        evidence: Callable[[str], Evidence | None],
        others: Sequence[WindowCheck] = (),
    ) -> AlertRecord | None:
        """Take in one check, and return a record if the episode began, changed or ended.

        Args:
            check: Result of the check of the configured window, of both families.
            window: The configured window.
            watched: Names of all features that are compared.
            evidence: Feature → its distributions in the reference and in the window.
            others: What windows of other extents show, the shortest first.
        """
        state = self.state
        seen = self._see(check, others)
        if state.starts_at is None and not seen:
            return None
        gone = state.listed.keys() - set(watched)
        if not seen and gone and len(gone) == len(state.listed):
            return self.end(window.end, ClosedBecause.NOT_CONFIGURED, "what drifted is not compared any more")
        for name in gone:
            del state.listed[name]
        fresh = seen.keys() - state.listed.keys()
        severity = self._severity(max(s.finding.weight for s in seen.values())) if seen else state.severity
        self._count_calm(check, others, fresh)
        begins = state.starts_at is None
        if state.starts_at is None:
            state.starts_at, state.begun = window.end, window
        self._note_keepers(others)
        told = self._told()
        judged = self._judge(check, others, seen, window.end)
        current = WindowCheck(window, check, evidence)
        if fresh or gone or severity is not state.severity or begins or self._has_moved(told, judged, window):
            state.severity = severity
            return replace(self._tell(AlertStatus.FIRING, current, len(watched), judged, others), begins=begins)
        if state.calm < self.resolve_after:
            return None
        record = self._tell(AlertStatus.RESOLVED, current, len(watched), judged)
        # What longer windows alone have seen is calm in them: nothing of it is left.
        spent = state.spent | dict.fromkeys(state.listed if state.near else (), window.start)
        self._reset()
        state.spent = spent
        return replace(record, closed_because=ClosedBecause.RECOVERED)

    def date(self, change: ChangeInterval | None) -> None:
        """Take note of when what drifts began to, for the records to come."""
        self.state.change = change

    # -- windows -----------------------------------------------------------------------------------------

    def _see(self, check: CheckResult, others: Sequence[WindowCheck]) -> dict[str, _Seen]:
        """Return the features that drift: as the configured window shows them, or else the one that shows most."""
        state = self.state
        reach = min((o.window.start for o in others if o.longer), default=None)
        state.spent = {name: at for name, at in state.spent.items() if reach is not None and reach < at}
        seen = {name: _Seen(finding) for name, finding in self._findings(check).items()}
        elsewhere: dict[str, _Seen] = {}
        for other in others:
            for name, finding in self._found(other).items():
                if other.longer and name in state.near:
                    continue  # it may be over
                most = elsewhere.get(name)
                if most is None or finding.weight > most.finding.weight:
                    elsewhere[name] = _Seen(finding, other)
        near = seen.keys() | {name for o in others if not o.longer for name in self._found(o)}
        state.near = sorted(near.union(state.near))
        return elsewhere | seen

    def _findings(self, check: CheckResult) -> dict[str, Finding]:
        return _strongest(f for f in check.findings if f.family is self.family)

    def _found(self, other: WindowCheck) -> dict[str, Finding]:
        """Return what another window shows, but for what is over and a longer window still holds."""
        if other.result is None or not other.result.findings:
            return {}
        found, spent = self._findings(other.result), self.state.spent
        if not other.longer or not spent:
            return found
        return {name: f for name, f in found.items() if spent.get(name, -1) <= other.window.start}

    def _note_keepers(self, others: Sequence[WindowCheck]) -> None:
        """Take note of the longer windows that see what drifts while no other one has."""
        if not self.state.near:
            longer = (other for other in others if other.longer and self._found(other))
            self.state.keepers = sorted({*self.state.keepers, *(other.window.label for other in longer)})

    def _count_calm(self, check: CheckResult, others: Sequence[WindowCheck], fresh: Collection[str]) -> None:
        """Count a calm check, reset the count, or leave it where a listed feature had no value."""
        listed = self.state.listed.keys()
        keepers = [other.result for other in others if other.longer and other.window.label in self.state.keepers]
        asked = [check, *(other.result for other in others if not other.longer), *keepers]
        if fresh or any(self._is_restless(result) for result in asked if result is not None):
            self.state.calm = 0
        elif listed <= self._judged_in(check) and None not in keepers:
            self.state.calm += 1

    def _is_restless(self, check: CheckResult) -> bool:
        listed = self.state.listed.keys()
        return any((self.family, name) not in check.calm for name in listed & self._judged_in(check))

    def _judged_in(self, check: CheckResult) -> set[str]:
        rates = self.family is Family.DATA_QUALITY
        return {v.feature for v in check.values if (v.statistic in RATES) is rates}

    def _severity(self, weight: float) -> Severity:
        """Judge the severity, critical from twice the minimum effect and, against flutter, down to well below that."""
        enough = CRITICAL_WEIGHT * (CALM_EFFECT if self.state.severity is Severity.CRITICAL else 1.0)
        return Severity.CRITICAL if weight >= enough else Severity.WARNING

    # -- what is true now --------------------------------------------------------------------------------

    def _judge(
        self, check: CheckResult, others: Sequence[WindowCheck], seen: Mapping[str, _Seen], now: int
    ) -> dict[str, _Seen]:
        """Take over what a check found of the features; return the strongest finding of those it could judge."""
        listed = self.state.listed
        labels = {other.window.label for other in others}
        judged = self._followed(check, {name for name, feature in listed.items() if feature.window not in labels})
        for other in others:
            names = {name for name, feature in listed.items() if feature.window == other.window.label}
            if names and other.result is not None:
                judged |= self._followed(other.result, names, other)
        judged |= seen
        for name, its in judged.items():
            listed[name] = _judged(its, listed.get(name), self.state.starts_at or now, now)
        return judged

    def _followed(
        self, check: CheckResult, names: Collection[str], elsewhere: WindowCheck | None = None
    ) -> dict[str, _Seen]:
        """Return what a window found of features that it was the last to show, if it could judge them."""
        found = _strongest(f for f in check.listed if f.family is self.family and f.feature in names)
        blind = check.skipped.keys() if self.family is Family.DRIFT else ()
        return {name: _Seen(finding, elsewhere) for name, finding in found.items() if name not in blind}

    def _told(self) -> float:
        """Return the size of the largest change that the latest record told."""
        told = self.state.told
        return self._largest() if told is None else told

    def _largest(self) -> float:
        return max((_size(feature) for feature in self.state.listed.values()), default=0.0)

    def _has_moved(self, told: float, judged: Collection[str], window: AlertWindow) -> bool:
        """Return whether the largest change is another than was told, by more than a change among calm ones."""
        if not judged or window.start < self.state.told_until:
            return False
        return has_moved(self._largest(), told) and max(self._largest(), told) >= CALM_EFFECT

    def _tell(
        self,
        status: AlertStatus,
        current: WindowCheck,
        watched: int,
        judged: Mapping[str, _Seen],
        others: Sequence[WindowCheck] = (),
    ) -> AlertRecord:
        """Return a record with the statistics of the check that `judged` is of, and the windows that show drift."""
        state = self.state
        for name, its in judged.items():
            evidence = (its.elsewhere or current).evidence(name)
            state.listed[name] = replace(state.listed[name], p_value=its.finding.p_value(), evidence=evidence)
        state.told, state.told_until = self._largest(), current.window.end
        shorter = [other for other in others if not other.longer]
        longer = [other for other in others if other.longer]
        windows = (self._shown(check) for check in (*shorter, current, *longer))
        return self._record(status, current.window, watched, tuple(seen for seen in windows if seen is not None))

    def _shown(self, check: WindowCheck) -> SeenWindow | None:
        """Return a window with its strongest finding; None where it shows none, or is not called anything."""
        found = self._found(check).values()
        if not found or not check.window.label:
            return None
        most = max(found, key=lambda f: (f.weight, f.effect))
        return SeenWindow(check.window, most.feature, most.statistic, most.effect, most.p_value())

    def _record(
        self, status: AlertStatus, window: AlertWindow, watched: int, seen: tuple[SeenWindow, ...] = ()
    ) -> AlertRecord:
        if self.state.starts_at is None:
            raise ValueError("an episode that has not begun has no record")
        ranked = sorted(self.state.listed.values(), key=lambda f: (-f.weight, f.name))
        names = ", ".join(f.name for f in ranked)
        what = f"{len(ranked)} of {watched} features {_WORD[self.family]}: {names}"
        if seen and all(its.window.label != window.label for its in seen):
            what += f" (seen in {', '.join(its.window.label for its in seen)})"
        resolved = status is AlertStatus.RESOLVED
        return AlertRecord(
            subject=self.subject,
            seq=0,
            status=status,
            severity=self.state.severity,
            summary=f"back to normal: {names}" if resolved else what,
            starts_at=self.state.starts_at,
            ends_at=window.end if resolved else None,
            issued_at=window.end,
            window=window,
            features=tuple(replace(f, as_of=None) if f.as_of == window.end else f for f in ranked),
            since=self.state.begun,
            seen=seen,
            change=self.state.change,
        )

    def end(self, now: int, because: ClosedBecause, why: str) -> AlertRecord | None:
        """End the episode without a check; None if it does not fire.

        Args:
            now: Stream time, ms.
            because: Why it ends.
            why: The same in words.
        """
        if self.state.starts_at is None:
            return None
        window = AlertWindow(self.state.starts_at, max(now, self.state.starts_at), 0)
        record = self._record(AlertStatus.RESOLVED, window, len(self.state.listed))
        self._reset()
        return replace(record, summary=why, closed_because=because)

    def _reset(self) -> None:
        """Be as before the first episode; whoever shares the state sees it."""
        for name, value in asdict(DriftEpisodeState()).items():
            setattr(self.state, name, value)


def _strongest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the finding with the largest weight of each feature."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.feature not in best or finding.weight > best[finding.feature].weight:
            best[finding.feature] = finding
    return best


def _size(feature: DriftedFeature) -> float:
    """Return the effect in units of the minimum effect, so that statistics compare; as it is where that is 0."""
    return feature.weight if math.isfinite(feature.weight) else feature.effect


def _judged(its: _Seen, before: DriftedFeature | None, starts_at: int, now: int) -> DriftedFeature:
    """Return a feature as a check found it; distributions and p-value belong to records only."""
    finding = its.finding
    reading = Reading(finding.value, finding.effect, now)
    at_start, peak, largest = reading, reading, finding.weight
    if before is not None:
        # An earlier release kept no more than the latest record.
        told = Reading(before.value, before.effect, starts_at)
        at_start = before.at_start or told
        if max(before.peak_weight, before.weight) >= finding.weight:
            peak, largest = before.peak or told, max(before.peak_weight, before.weight)
    return DriftedFeature(
        finding.feature, finding.statistic, finding.value, finding.effect, None, finding.alpha, finding.weight, None,
        at_start, peak, largest, now, None if its.elsewhere is None else its.elsewhere.window.label,
    )  # fmt: skip
