"""Reference files of the configuration: read when they change, not at every start.

Shell: reads files. Profiling a table may take minutes, so the store keeps a digest of the bytes of a file and of the
settings it was read with; it is profiled again only when the digest changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import msgspec
import structlog

from detectors.reference import Profile
from monitor.errors import InputFileError
from monitor.files import refuse_irregular
from monitor.reference.build import ProgressCallback
from monitor.reference.subprocess import load_apart
from monitor.reference.tables import TableSpec
from monitor.spec import CoreSpec, ModelSpec

log = structlog.get_logger(__name__)


class ReferenceFile:
    """The file under a model's `reference.path`."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        self.path = path
        self._spec = spec
        self._digest: str | None = None
        self._profile: Profile | None = None

    def digest(self) -> str:
        """Return a digest of the content and of how it is read.

        Raises:
            InputFileError: The file cannot be read.
        """
        if self._digest is None:
            how = msgspec.json.encode(asdict(self._spec), order="sorted")
            try:
                refuse_irregular(self.path)
                with self.path.open("rb") as file:
                    whole = hashlib.file_digest(file, "sha256")
            except OSError as error:
                raise InputFileError(str(self.path), error.strerror or str(error)) from error
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


def table_spec(model: ModelSpec) -> TableSpec:
    """Return how to read a table that is the reference of a model."""
    return TableSpec(model.task, model.positive, model.threshold, model.feature_kinds, model.reference.points)


def reference_files(core: CoreSpec) -> dict[str, ReferenceFile]:
    """Return the reference file of each model that has one, by model."""
    return {
        m.name: ReferenceFile(Path(m.reference.path), table_spec(m))
        for m in core.models
        if m.reference.path is not None
    }
