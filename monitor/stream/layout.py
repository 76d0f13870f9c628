"""Which file of a directory holds which partition of which topic.

    DIR/TOPIC.jsonl                      partition 0: what sinks write
    DIR/TOPIC-N.jsonl, DIR/TOPIC/N.jsonl partition N
    .ndjson, .json, DIR/TOPIC            read as well

Shell: lists directories. Called by `files` alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from monitor.errors import StreamError
from monitor.stream.types import Partition

ENDING: Final = ".jsonl"

_ENDINGS: Final = (ENDING, ".ndjson", ".json")
_NUMBERED: Final = re.compile(r"(?:(?P<topic>.+)-)?(?P<number>0|[1-9]\d{0,8})")
_LEGAL: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


def check_topic(topic: str) -> None:
    """A topic of Kafka is also a safe file name. Raises StreamError for anything else."""
    if not _LEGAL.fullmatch(topic):
        raise StreamError(f"{topic!r} cannot be a topic: use letters, digits, '.', '_' and '-'", retryable=False)


def file_error(doing: str, error: OSError) -> StreamError:
    """What a failure of the file system is to the daemon: a full disk may get better, permissions do not."""
    hopeless = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
    return StreamError(f"cannot {doing}: {error}", retryable=not hopeless)


def path_of(directory: Path, partition: Partition) -> Path:
    """Where a new partition goes."""
    number = f"-{partition.number}" if partition.number else ""
    return directory / f"{partition.topic}{number}{ENDING}"


def find_partitions(directory: Path, topics: Collection[str]) -> dict[Partition, Path]:
    """All partitions of `topics` that have a file. Raises StreamError if one has two."""
    for topic in topics:
        check_topic(topic)
    found: dict[Partition, Path] = {}
    for partition, path in _candidates(directory, topics):
        if partition in found:
            first, second = sorted([found[partition], path])
            raise StreamError(
                f"partition {partition.number} of {partition.topic} is in two files, {first} and {second}: remove one",
                retryable=False,
            )
        found[partition] = path
    return found


def _candidates(directory: Path, topics: Collection[str]) -> Iterator[tuple[Partition, Path]]:
    for path in _list(directory):
        partition = _of_file(path, topics) if path.is_file() else None
        if partition is not None:
            yield partition, path
    for topic in topics:
        for path in _list(directory / topic) if (directory / topic).is_dir() else ():
            numbered = _NUMBERED.fullmatch(path.stem) if path.suffix in _ENDINGS else None
            if numbered and numbered["topic"] is None:
                yield Partition(topic, int(numbered["number"])), path


def _list(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise file_error(f"list {directory}", error) from error


def _of_file(path: Path, topics: Collection[str]) -> Partition | None:
    if path.name in topics:
        return Partition(path.name, 0)
    if path.suffix not in _ENDINGS:
        return None
    # The whole name first: with a topic `eu-1` beside a topic `eu`, `eu-1.jsonl` is not a partition of `eu`.
    if path.stem in topics:
        return Partition(path.stem, 0)
    numbered = _NUMBERED.fullmatch(path.stem)
    if numbered and numbered["topic"] in topics:
        return Partition(numbered["topic"], int(numbered["number"]))
    return None
