"""The file of each partition in a directory of topics.

    DIR/TOPIC.jsonl                      partition 0, which sinks write
    DIR/TOPIC-N.jsonl, DIR/TOPIC/N.jsonl partition N
    .ndjson, .json, DIR/TOPIC            also read

Shell: lists directories. Called by `files` only.
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
    """Check that a name is a legal Kafka topic, which is also a safe file name.

    Raises:
        StreamError: It is not.
    """
    if not _LEGAL.fullmatch(topic):
        raise StreamError(f"{topic!r} cannot be a topic: use letters, digits, '.', '_' and '-'", retryable=False)


def file_error(doing: str, error: OSError) -> StreamError:
    """Translate an error of the file system; all but wrong permissions and wrong kinds of file are retryable."""
    hopeless = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
    return StreamError(f"cannot {doing}: {error}", retryable=not hopeless)


def path_of(directory: Path, partition: Partition) -> Path:
    """Return the path of a new partition."""
    number = f"-{partition.number}" if partition.number else ""
    return directory / f"{partition.topic}{number}{ENDING}"


def find_partitions(directory: Path, topics: Collection[str]) -> dict[Partition, Path]:
    """Find all partitions of `topics` that have a file.

    Raises:
        StreamError: A partition has two files, a topic is no legal name, or the directory cannot be listed.
    """
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
