"""What every run of the pipeline begins with.

Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from monitor.errors import InputFileError
from monitor.pipeline.pipeline import Pipeline
from monitor.reference.build import ProgressCallback
from monitor.reference.file import ReferenceFile

log = structlog.get_logger(__name__)


def activate(
    pipeline: Pipeline,
    files: Mapping[str, ReferenceFile],
    now: int,
    progress: Callable[[str], ProgressCallback | None] = lambda model: None,
) -> None:
    """Put references from files in force: at a model's first start, and where another content is configured.

    A file that is gone or unreadable stops a model that has nothing else only.

    Raises:
        InputFileError: that is so.
    """
    for model in pipeline.models:
        name = model.spec.name
        file = files.get(name)
        if file is None:
            continue
        before = model.configured_reference
        try:
            digest = file.digest()
            if digest == before:
                continue
            profile = file.profile(progress(name))
        except InputFileError as error:
            if before is None:
                raise
            log.warning("reference.kept", model=name, error=str(error))
            continue
        model.configured_reference = digest
        if before is None and model.references.profile is None:
            model.references.replace(profile)
        else:
            model.replace_reference(profile, now)
            log.warning("reference.replaced", model=name, path=str(file.path), rows=profile.rows)
