"""The jars of the broker: fetched once into the local Maven cache, each checked against `jars.lock`.

To renew the lock: change the versions in `pom.xml`, let Maven list the runtime closure, and lock the list.

    mvn -f tests/servers/pom.xml dependency:list -DincludeScope=runtime -DoutputFile=closure.txt
    python -m tests.servers.kafka lock closure.txt
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOCK = Path(__file__).with_name("jars.lock")

LISTED_BY_MAVEN = re.compile(r"([\w.-]+):([\w.-]+):jar:([\w.-]+):(?:compile|runtime)")


def fetch_jars(lock: Path = LOCK) -> list[Path]:
    """Paths of all locked jars, downloaded where missing. Raises ValueError on a wrong checksum."""
    wanted = dict(line.split() for line in lock.read_text().splitlines())
    jars = _fetch(wanted)
    for coordinate, jar in jars.items():
        if _checksum(jar) != wanted[coordinate]:
            raise ValueError(f"{jar} does not have the checksum of {coordinate} in {lock.name}")
    return list(jars.values())


def write_lock(closure: Path, lock: Path = LOCK) -> int:
    """Lock what `mvn dependency:list` printed; returns how many jars that are."""
    listed = sorted({":".join(found) for found in LISTED_BY_MAVEN.findall(closure.read_text())})
    jars = _fetch(listed)
    lock.write_text("".join(f"{coordinate} {_checksum(jar)}\n" for coordinate, jar in jars.items()))
    return len(jars)


def _fetch(coordinates: Iterable[str]) -> dict[str, Path]:
    """Coordinate → path, one by one and without resolving.

    jgo's own resolution lets one dependency's version table override another's: it would run an old client
    library under a new broker.
    """
    from jgo.maven import MavenContext

    maven = MavenContext()

    def fetch(coordinate: str) -> Path:
        group, artifact, version = coordinate.split(":")
        return Path(maven.project(group, artifact).at_version(version).artifact().resolve())

    coordinates = list(coordinates)
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(coordinates, pool.map(fetch, coordinates), strict=True))


def _checksum(jar: Path) -> str:
    return hashlib.sha256(jar.read_bytes()).hexdigest()
