"""References that the configuration names: read when they are new, not at every start.

Shell: reads files. A table may take minutes to profile, so what is kept of a file that was read is a digest of
its bytes and of how they were read; only another digest has it profiled again.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import msgspec
import structlog

from detectors.reference import Profile
from monitor.errors import InputFileError
from monitor.reference.subprocess import load_apart
from monitor.reference.tables import ProgressCallback, TableSpec
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
        """What tells this content, read in this way, from any other. Raises `InputFileError`."""
        if self._digest is None:
            how = msgspec.json.encode(asdict(self._spec), order="sorted")
            try:
                with self.path.open("rb") as file:
                    whole = hashlib.file_digest(file, "sha256")
            except OSError as error:
                raise InputFileError(str(self.path), error.strerror or str(error)) from error
            whole.update(how)
            self._digest = whole.hexdigest()
        return self._digest

    def profile(self, progress: ProgressCallback | None = None) -> Profile:
        """The profile that it holds or comes to; read once. Raises `InputFileError`."""
        if self._profile is None:
            self._profile = load_apart(self.path, self._spec, progress or (lambda rows: None))
            for notice in self._profile.notices:
                log.info("reference.notice", path=str(self.path), notice=notice)
        return self._profile


def table_spec(model: ModelSpec) -> TableSpec:
    """How a table is read that tells what is normal for a model."""
    return TableSpec(model.task, model.positive, model.threshold, model.feature_kinds, model.reference.points)


def reference_files(core: CoreSpec) -> dict[str, ReferenceFile]:
    """By model, where the configuration names a file."""
    return {
        m.name: ReferenceFile(Path(m.reference.path), table_spec(m))
        for m in core.models
        if m.reference.path is not None
    }
