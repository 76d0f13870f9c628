"""Reference files of the configuration: read when they change, not at every start.

Shell: reads files. Profiling a table may take minutes, so the store keeps a digest of the bytes of a file and of the
settings it was read with; it is profiled again only when the digest changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import structlog

from detectors.reference import Profile
from monitor.errors import InputFileError
from monitor.files import refuse_irregular
from monitor.reference.build import ProgressCallback
from monitor.reference.provenance import Origin, OriginKind
from monitor.reference.subprocess import is_profile, load_apart
from monitor.reference.table_roles import TableSpec
from monitor.spec import AnswerReading, CoreSpec, ModelSpec

log = structlog.get_logger(__name__)


class ReferenceFile:
    """The file under a model's `reference.path`."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        self.path = path
        self._spec = spec
        self._digest: str | None = None
        self._sha256: str | None = None  # of the content alone
        self._profile: Profile | None = None

    def digest(self) -> str:
        """Return a digest of the content and of how it is read.

        Raises:
            InputFileError: The file cannot be read.
        """
        if self._digest is None:
            how = msgspec.json.encode(_told(self._spec), order="sorted")
            try:
                refuse_irregular(self.path)
                with self.path.open("rb") as file:
                    whole = hashlib.file_digest(file, "sha256")
            except OSError as error:
                raise InputFileError(str(self.path), error.strerror or str(error)) from error
            self._sha256 = whole.hexdigest()
            whole.update(how)
            self._digest = whole.hexdigest()
        return self._digest

    def profile(self, progress: ProgressCallback | None = None) -> Profile:
        """Return the profile of the file; it is read once.

        Args:
            progress: Called with the number of rows read so far, both passes counted.

        Raises:
            InputFileError: The file cannot be read.
        """
        if self._profile is None:
            self._profile = load_apart(self.path, self._spec, progress or (lambda rows: None))
            for notice in self._profile.notices:
                log.info("reference.notice", path=str(self.path), notice=notice)
        return self._profile

    def origin(self) -> Origin:
        """Return where the profile of the file comes from. Raises InputFileError."""
        self.digest()
        kind = OriginKind.PROFILE if is_profile(self.path) else OriginKind.TABLE
        return Origin(kind, file=str(self.path), sha256=self._sha256)

    @property
    def notices(self) -> list[str]:
        """Return what of the configuration has no effect on this file. Raises InputFileError."""
        if self._spec.columns and is_profile(self.path):
            return ["reference.columns: of no effect on a built profile; build it with them"]
        return []


def table_spec(model: ModelSpec) -> TableSpec:
    """Return how to read a table that is the reference of a model."""
    reference = model.reference
    return TableSpec(
        model.task,
        model.positive,
        model.threshold,
        model.feature_kinds,
        reference.points,
        reference.columns,
        model.answers,
        reference.season,
    )


def _told(spec: TableSpec) -> dict[str, Any]:
    """Return how a table is read; without what 0.1.0 did not know, so that a table which it has read stays read."""
    how = asdict(spec)
    if not how["columns"]:
        del how["columns"]
    if spec.answers is AnswerReading.AUTO:
        del how["answers"]
    if spec.season is None:
        del how["season"]
    return how


def reference_files(core: CoreSpec) -> dict[str, ReferenceFile]:
    """Return the reference file of each model that has one, by model: one that is read once for all that share it."""
    found: dict[str, ReferenceFile] = {}
    known: dict[tuple[str, bytes], ReferenceFile] = {}
    for m in core.models:
        path = m.reference.path
        if path is not None:
            spec = table_spec(m)
            key = path, msgspec.json.encode(_told(spec), order="sorted")
            found[m.name] = known.setdefault(key, ReferenceFile(Path(path), spec))
    return found
