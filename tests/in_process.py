"""Commands in the process of the test: as `driftd` runs them, without the seconds that a process of its own takes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import structlog

from monitor.cli import run


@dataclass(frozen=True, slots=True)
class Told:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, which is one document."""
        return json.loads(self.out)

    def rows(self) -> list[dict[str, Any]]:
        """Its output, which is a document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def driftd(*arguments: str) -> Told:
    """Run a command to its end."""
    out, err = io.StringIO(), io.StringIO()
    with logging_as_it_was(), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Told(code, out.getvalue(), err.getvalue())


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """A command configures logging for its whole process, which here is that of all other tests."""
    root, was_configured, configuration = logging.getLogger(), structlog.is_configured(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        if was_configured:
            structlog.configure(**configuration)
