"""Programs of Debian's that tests run: those of the machine, else taken out of packages, which needs no rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

# The one with the program first, then those with libraries that a small machine lacks.
PACKAGES: Final = {
    "promtool": ("prometheus",),
    "prometheus": ("prometheus",),
    "systemd-analyze": ("systemd", "libsystemd-shared", "libapparmor1", "libip4tc2", "libkmod2"),
}
CACHE: Final = Path(tempfile.gettempdir()) / "driftd-debian-programs"


class ProgramMissing(Exception):
    """A program is not there, and its package could not be fetched. The message says what to install."""


def program(name: str) -> Path:
    """Return the path of a program. Raises `ProgramMissing`."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    packages = PACKAGES[name]
    path = CACHE / packages[0] / "usr" / "bin" / name
    if not path.exists():
        try:
            _unpack(packages, CACHE / packages[0])
        except (OSError, subprocess.SubprocessError) as error:
            advice = f"{name} is needed: apt-get install {packages[0]}"
            raise ProgramMissing(f"{advice} ({error}{_told(error)})") from error
    return path


def root_of(path: Path) -> Path:
    """Return the folder that a program takes for the root of its file system, were it installed."""
    return path.resolve().parents[2]


def environment_of(path: Path) -> dict[str, str]:
    """Return the environment in which a program finds its libraries."""
    root = root_of(path)
    if root == Path("/"):
        return dict(os.environ)
    libraries = sorted({str(library.parent) for library in root.glob("usr/lib/**/lib*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def skip_or_fail(name: str) -> None:
    """Where a program cannot be had, say so: the test is skipped, and fails where everything must be tested."""
    try:
        program(name)
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _unpack(packages: Sequence[str], into: Path) -> None:
    """Unpack packages without installing them: into a folder of this process first, since others may do the same."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _download(packages, folder)
        whole = Path(folder) / "unpacked"
        for deb in Path(folder).glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(deb), str(whole)], folder)
        try:
            whole.rename(into)
        except OSError:
            if not into.exists():
                raise


def _download(packages: Sequence[str], folder: str) -> None:
    try:
        _run(["apt-get", "download", *packages], folder)
    except subprocess.CalledProcessError:
        _run(["apt-get", "update"], folder)  # a new machine may have no lists of packages yet
        _run(["apt-get", "download", *packages], folder)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)


def _told(error: Exception) -> str:
    return f": {error.stderr.strip()}" if isinstance(error, subprocess.CalledProcessError) else ""
