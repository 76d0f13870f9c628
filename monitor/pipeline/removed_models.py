"""Models that are stored and not configured any more.

Pure. At the start of the daemon that does not find them in its configuration their alerts end, and they are marked as
removed; their state stays, should they be configured again.
"""

from __future__ import annotations

from typing import Any

from monitor.alerting.numbering import AlertNumbering
from monitor.alerting.records import AlertRecord
from monitor.pipeline.commit import ModelCommit, ModelSnapshot
from monitor.pipeline.episodes_of import end_all
from monitor.pipeline.saved_states import SavedModel, read_model
from monitor.saved import from_plain, to_plain


class RemovedModels:
    """What is stored of models that are not configured."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, Any]] = {}  # as they are stored: asked for after each commit
        self._dirty: set[str] = set()

    def restore(self, name: str, snapshot: ModelSnapshot) -> None:
        """Take note of a model that is not configured. Raises `DamagedError`, or `SchemaTooNew`."""
        self._states[name] = to_plain(read_model(snapshot.state))

    def end(self, now: int, wall: int) -> list[AlertRecord]:
        """End the alerts of models that were removed since the last start.

        Args:
            now: Stream time, ms.
            wall: The time of day, ms: when they count as removed.

        Returns:
            Records of the alerts that end.
        """
        records: list[AlertRecord] = []
        for name in sorted(name for name, state in self._states.items() if state.get("removed_at") is None):
            saved = from_plain(self._states[name], SavedModel)
            records += AlertNumbering(saved.records).publish_all(end_all(name, saved, now))  # type: ignore[arg-type]
            saved.removed_at = wall
            self._states[name] = to_plain(saved)
            self._dirty.add(name)
        return records

    def prepare_commit(self) -> dict[str, ModelCommit]:
        """Return what this commit has to write of them, by model."""
        changed, self._dirty = self._dirty, set()
        return {name: ModelCommit(state=self._states[name]) for name in sorted(changed)}

    def states(self) -> dict[str, dict[str, Any]]:
        """Return their states as they are stored, by model."""
        return dict(self._states)
