"""Versions that are out of service: when their alerts end, and that none begins.

Pure. A version is in service while a decision gives it traffic, lets it shadow, or lets it answer at the active tier.
When a decision takes it out, its alerts end with that decision, and while no decision names it nothing of it is judged:
the answers that still come tell of what is over. Alerts of a version that is not in service end as well when it has
sent nothing for as long as the longest window, in stream time. Those of a version in service never end by silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from fallback.health import HealthState
from fallback.types import Serving
from monitor.alerting.records import AlertRecord, ClosedBecause
from monitor.evaluation.version_state import VersionState
from monitor.events.codes import VERSIONLESS_TIERS
from monitor.serving.role import in_service, named_versions
from monitor.spec import WindowSpec

_WINDOWS = 10  # counted windows, at the pace of the version's latest one


def retire(versions: Iterable[VersionState], before: Serving, after: Serving, now: int) -> list[AlertRecord]:
    """End the alerts of versions that a decision takes out of service.

    Args:
        versions: All versions of the model; those that no decision names any more are not judged from now on.
        before: Who served before the decision.
        after: Who serves now.
        now: Time of the decision, ms.

    Returns:
        Records of the alerts that end, by version.
    """
    return _retire(versions, in_service(before) - in_service(after), named_versions(after), now)


def retire_known(
    versions: Iterable[VersionState], rolled_back: Iterable[str], serving: Serving, now: int
) -> list[AlertRecord]:
    """End the alerts of versions that were rolled back before driftd ended alerts of such versions.

    Args:
        versions: All versions of the model.
        rolled_back: Versions whose rollback was not acknowledged yet.
        serving: Who serves.
        now: Stream time, ms.

    Returns:
        Records of the alerts that end; none where they have ended already.
    """
    named = named_versions(serving)
    return _retire(versions, set(rolled_back) - named, named, now)


def _retire(versions: Iterable[VersionState], left: Set[str], named: Set[str], now: int) -> list[AlertRecord]:
    records: list[AlertRecord] = []
    for version in sorted(versions, key=lambda v: v.version):
        name = version.version
        if name in named and version.closed is ClosedBecause.RETIRED:
            version.closed = None
        if name not in left:
            continue
        records += version.close(now, ClosedBecause.RETIRED, f"{name} is out of service")
        if name not in named and name not in VERSIONLESS_TIERS:
            version.closed, version.health = ClosedBecause.RETIRED, HealthState()
    return records


def silent_from(version: VersionState, spec: WindowSpec) -> int | None:
    """Return when a version has sent nothing for the longest window, ms; None where it never sent anything."""
    if version.sent_until < 0:
        return None
    if not spec.counted:
        return version.sent_until + spec.longest
    return version.sent_until + _WINDOWS * (version.window.end - version.window.start) if len(version.window) else None


def first_silence(versions: Mapping[int, VersionState], spec: WindowSpec, serving: Serving) -> int | None:
    """Return the first time at which alerts may end by silence, ms."""
    expected = in_service(serving)
    out = [v for v in versions.values() if v.closed is None and v.version not in expected]
    return min((at for v in out if (at := silent_from(v, spec)) is not None), default=None)


def end_silent(versions: Iterable[VersionState], spec: WindowSpec, serving: Serving, now: int) -> list[AlertRecord]:
    """End the alerts of versions that are not in service and have been silent for long enough.

    Args:
        versions: Versions of the model, in the order of the records.
        spec: Their windows.
        serving: Who serves.
        now: Stream time, ms.

    Returns:
        Records of the alerts that end.
    """
    expected, named = in_service(serving), named_versions(serving)
    records: list[AlertRecord] = []
    for version in versions:
        if version.closed is not None or version.version in expected:
            continue
        at = silent_from(version, spec)
        if at is not None and at <= now:
            records += version.close(at, ClosedBecause.NO_TRAFFIC, f"{version.version} sends nothing any more")
            version.closed = ClosedBecause.NO_TRAFFIC
            if version.version not in named:
                version.health = HealthState()
    return records
