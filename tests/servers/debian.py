"""Programs of Debian's that tests run: those of the machine, else taken out of the package, which needs no rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

PACKAGES: Final = {"promtool": "prometheus", "prometheus": "prometheus"}
CACHE: Final = Path(tempfile.gettempdir()) / "driftd-debian-programs"


class ProgramMissing(Exception):
    """A program is not there, and its package could not be fetched. The message says what to install."""


def program(name: str) -> Path:
    """Return the path of a program. Raises `ProgramMissing`."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    package = PACKAGES[name]
    path = CACHE / package / "usr" / "bin" / name
    if not path.exists():
        try:
            _unpack(package, CACHE / package)
        except (OSError, subprocess.SubprocessError) as error:
            advice = f"{name} is needed: apt-get install {package}"
            raise ProgramMissing(f"{advice} ({error}{_told(error)})") from error
    return path


def skip_or_fail(name: str) -> None:
    """Where a program cannot be had, say so: the test is skipped, and fails where everything must be tested."""
    try:
        program(name)
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _unpack(package: str, into: Path) -> None:
    """Unpack a package without installing it: into a folder of this process first, since others may do the same."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _download(package, folder)
        (deb,) = Path(folder).glob("*.deb")
        whole = Path(folder) / "unpacked"
        _run(["dpkg-deb", "--extract", str(deb), str(whole)], folder)
        try:
            whole.rename(into)
        except OSError:
            if not into.exists():
                raise


def _download(package: str, folder: str) -> None:
    try:
        _run(["apt-get", "download", package], folder)
    except subprocess.CalledProcessError:
        _run(["apt-get", "update"], folder)  # a new machine may have no lists of packages yet
        _run(["apt-get", "download", package], folder)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)


def _told(error: Exception) -> str:
    return f": {error.stderr.strip()}" if isinstance(error, subprocess.CalledProcessError) else ""
