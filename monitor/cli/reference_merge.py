"""`driftd reference merge`: one profile of several, each of another stretch of time.

Shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from detectors.merging import UnlikeError, merge
from detectors.reference import Part, Profile
from monitor.errors import InputFileError
from monitor.reference.build import load
from monitor.reference.subprocess import is_profile
from monitor.reference.table_roles import TableSpec
from monitor.times import format_time

Profiles = Annotated[list[Path], typer.Argument(metavar="PROFILE...", help="Two or more built profiles.")]
Unordered = Annotated[
    bool,
    typer.Option(
        "--unordered", help="Merge profiles whose times overlap, or are not known; the promise is then assumed."
    ),
]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    profile: Profile

    @property
    def part(self) -> Part:
        p = self.profile
        return Part(self.path.name, p.content_hash, p.rows, p.first_ms, p.last_ms)


def merged(paths: Sequence[Path], *, unordered: bool) -> Profile:
    """Merge the profiles of files in the order of their times.

    Args:
        paths: Files of built profiles.
        unordered: Take them as they are given, whatever their times are.

    Raises:
        BadParameter: There is only one, or one is given twice.
        InputFileError: A file is no profile, or they cannot be merged.
    """
    if len(paths) < 2:
        raise typer.BadParameter("PROFILE: give at least two")
    files = [_File(path, _profile(path)) for path in paths]
    seen: dict[str, Path] = {}
    for file in files:
        first = seen.setdefault(file.profile.content_hash, file.path)
        if first is not file.path:
            raise typer.BadParameter(
                f"PROFILE: {file.path} has the same content as {first}: its rows would count twice"
            )
    if not unordered:
        files = _in_order(files)
    try:
        return merge([f.profile for f in files], [f.part for f in files], ordered=not unordered)
    except UnlikeError as error:
        raise InputFileError(str(files[0].path), f"cannot be merged: {error}") from error


def _profile(path: Path) -> Profile:
    if not is_profile(path):
        raise InputFileError(str(path), "is no profile: build one of a table with `driftd reference build` first")
    return load(path, TableSpec())


def _in_order(files: Sequence[_File]) -> list[_File]:
    spans: list[tuple[int, int, _File]] = []
    for file in files:
        first, last = file.profile.first_ms, file.profile.last_ms
        if first is None or last is None:
            hint = "has no times, so nothing tells what comes first: build it with `--time`, or merge with --unordered"
            raise InputFileError(str(file.path), hint)
        spans.append((first, last, file))
    spans.sort(key=lambda span: span[:2])
    for (_, last, before), (first, _, after) in pairwise(spans):
        if first < last:
            hint = f"ends at {format_time(last)}, and {after.path} begins before, at {format_time(first)}"
            raise InputFileError(str(before.path), hint + ": their rows are in no order; merge with --unordered")
    return [file for _, _, file in spans]


def part_lines(profile: Profile) -> list[str]:
    """Return the parts of a merged profile in words, a line each."""
    lines = []
    for part in profile.parts:
        span = ""
        if part.first_ms is not None and part.last_ms is not None:
            span = f", {format_time(part.first_ms)} to {format_time(part.last_ms)}"
        lines.append(f"part {part.file}: {part.rows} rows, {part.hash[:12]}{span}")
    return lines
