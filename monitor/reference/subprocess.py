"""Profiling of a table in a child process, whose memory is released afterwards.

Shell. Reading tables takes a library and a hundred megabytes that the daemon does not need afterwards. The child writes
its progress to standard output, and the result to a file.

    python -m monitor.reference.subprocess TABLE OUT < specification
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from detectors.reference import MAGIC, Profile
from monitor.errors import InputFileError
from monitor.files import refuse_irregular
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec

_BAD_INPUT: Final = 65
_DETAIL_LIMIT: Final = 2_000


def load_apart(path: Path, spec: TableSpec, progress: Callable[[int], None]) -> Profile:
    """Do what `build.load` does, with tables read in a child process.

    Args:
        path: A file of a built profile, or of a table.
        spec: How to read a table.
        progress: Called with the number of rows read so far, both passes counted.

    Raises:
        InputFileError: The file cannot be read, or is neither.
    """
    if is_profile(path):
        return load(path, spec)
    with tempfile.TemporaryDirectory(prefix="driftd-profile-") as folder:
        out = Path(folder) / "profile"
        command = [sys.executable, "-m", "monitor.reference.subprocess", str(path.resolve()), str(out)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as child:
            assert child.stdin is not None  # noqa: S101 - they are pipes
            assert child.stdout is not None  # noqa: S101
            assert child.stderr is not None  # noqa: S101
            child.stdin.write(msgspec.json.encode(spec))
            child.stdin.close()
            for line in child.stdout:
                progress(int(line))
            complaint = child.stderr.read().decode(errors="replace").strip()[-_DETAIL_LIMIT:]
            code = child.wait()
        if code != 0:
            detail = complaint if code == _BAD_INPUT else f"profiling it failed: {complaint or f'exit code {code}'}"
            raise InputFileError(str(path), detail)
        return Profile.from_bytes(out.read_bytes())


def is_profile(path: Path) -> bool:
    """Tell whether a file is that of a built profile. Raises InputFileError where it cannot be read."""
    try:
        refuse_irregular(path)
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise InputFileError(str(path), error.strerror or str(error)) from error


def _tell(rows: int) -> None:
    sys.stdout.write(f"{rows}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the child process and return its exit code."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=TableSpec)
    try:
        profile = load(Path(sys.argv[1]), spec, _tell)
    except InputFileError as error:
        sys.stderr.write(error.detail)
        return _BAD_INPUT
    Path(sys.argv[2]).write_bytes(profile.to_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
