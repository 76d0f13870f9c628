"""Numbers of alert records, and silences.

Pure. Episodes make records without a number; whoever hands them on to the outbox numbers them here, in the
order of the stream. A record that a silence covers is numbered and kept like all others, but not published; only
the end of what was published as firing is, or whoever was told would believe that it fires for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fallback.types import Decision
from monitor.alerting.records import AlertRecord, AlertStatus, Subject


@dataclass(frozen=True, slots=True)
class Silence:
    """An operator's silence: alerts of a model are not published before `until` (stream time, ms).

    `version` and `kind` restrict it to alerts of that version and of that kind.
    """

    until: int
    reason: str
    version: str | None = None
    kind: str | None = None

    def covers(self, subject: Subject, now: int) -> bool:
        """Tell whether it silences alerts about `subject` at stream time `now`."""
        return now < self.until and self.version in (None, subject.version) and self.kind in (None, subject.kind.value)


@dataclass(slots=True)
class NumberingState:
    """The stored state of an `AlertNumbering`.

    Attributes:
        seq: Fingerprint → number of its latest record.
        silences: Silences that have not ended.
        muted: The latest records of firing alerts whose latest record was silenced.
        untold: Fingerprints of firing alerts none of whose records was published.
    """

    seq: dict[str, int] = field(default_factory=dict)
    silences: tuple[Silence, ...] = ()
    muted: list[AlertRecord] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


class AlertNumbering:
    """Numbers the alert records of one model, and applies its silences."""

    def __init__(self, state: NumberingState | None = None) -> None:
        self.state = state or NumberingState()

    def publish(self, record: AlertRecord | None) -> AlertRecord | None:
        """Return the record with its number, marked if a silence covers it; None for None."""
        if record is None:
            return None
        fingerprint = record.subject.fingerprint
        seq = self.state.seq[fingerprint] = self.state.seq.get(fingerprint, 0) + 1
        numbered = replace(record, seq=seq, silenced=self._is_silenced(record, fingerprint))
        self._remember(numbered)
        return numbered

    def _is_silenced(self, record: AlertRecord, fingerprint: str) -> bool:
        """Return whether a record is kept from being published: its end is, where its beginning was."""
        untold = self.state.untold
        if record.status is AlertStatus.RESOLVED:
            silenced = fingerprint in untold
            self.state.untold = [other for other in untold if other != fingerprint]
            return silenced
        silenced = any(s.covers(record.subject, record.issued_at) for s in self.state.silences)
        if silenced and record.begins:
            untold.append(fingerprint)
        elif not silenced and untold:
            self.state.untold = [other for other in untold if other != fingerprint]
        return silenced

    def publish_all(self, effects: Iterable[AlertRecord | Decision | None]) -> list[AlertRecord | Decision]:
        """Number the records among `effects`, in order. Decisions pass unchanged, and None is left out."""
        numbered = [what if isinstance(what, Decision) else self.publish(what) for what in effects]
        return [what for what in numbered if what is not None]

    def _remember(self, record: AlertRecord) -> None:
        """Keep a silenced firing record until the alert is published again or resolved."""
        muted = self.state.muted
        if not muted and not record.silenced:
            return
        subjects = [earlier.subject for earlier in muted]
        at = subjects.index(record.subject) if record.subject in subjects else len(muted)
        muted[at : at + 1] = [record] if record.silenced and record.status is AlertStatus.FIRING else []

    def silence(self, silence: Silence) -> None:
        """Add a silence."""
        self.state.silences = (*self.state.silences, silence)

    @property
    def silences(self) -> tuple[Silence, ...]:
        """Silences that have not ended."""
        return self.state.silences

    def unmute(self, now: int) -> list[AlertRecord]:
        """Drop silences that have ended by `now`; return a record of each firing alert that is no longer covered."""
        if all(now < s.until for s in self.silences):
            return []
        self.state.silences = tuple(s for s in self.silences if now < s.until)
        due = [r for r in self.state.muted if not any(s.covers(r.subject, now) for s in self.silences)]
        numbered = [self.publish(replace(record, issued_at=now, begins=False)) for record in due]
        return [record for record in numbered if record is not None]
