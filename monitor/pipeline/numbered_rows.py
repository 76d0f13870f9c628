"""Stored rows of a buffer whose contents are written once and dropped as a whole: their numbers, and which are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class NumberedRows:
    """Gives rows of the store their subjects, in order, and knows which of them are not needed any more."""

    def __init__(self, prefix: str) -> None:
        """Start with none; `prefix` is what their subjects have before the number."""
        self._prefix = prefix
        self._next = 0
        self._forgotten: list[str] = []

    def begin(self) -> str:
        """Return the subject of another row."""
        self._next += 1
        return f"{self._prefix}{self._next - 1}"

    def forget(self, subject: str) -> None:
        """Drop a row with the next commit."""
        self._forgotten.append(subject)

    def drain_forgotten(self) -> list[str]:
        """Return the subjects of rows to drop since this was last called; called by the commit."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def restore(self, stored: Mapping[str, Sequence[bytes]]) -> list[tuple[str, Sequence[bytes]]]:
        """Return (subject, bodies) of these rows as they were written; subjects of others are passed over."""
        at = len(self._prefix)
        numbered = sorted((int(s[at:]), s) for s in stored if s.startswith(self._prefix))
        self._next = numbered[-1][0] + 1 if numbered else self._next
        return [(subject, stored[subject]) for _, subject in numbered]
