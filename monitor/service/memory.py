"""How much memory the process may have: by its cgroup, as in a container or a unit, or by its own limit.

Shell. Read once, at the start: nothing of it changes what is read or counted.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_ROOT: Final = Path("/")
_MOUNT: Final = "sys/fs/cgroup"
_NONE: Final = 1 << 60  # version 1 writes a number near 2^63 where there is no bound
_SHARE: Final = 0.5  # of the bound that buffers may take: windows and pending predictions need the rest
_COPIES: Final = 3  # of a batch while it is decompressed and taken apart


def memory_bound(root: Path = _ROOT) -> int | None:
    """Return the least bound on the memory of this process, in bytes; None where there is none.

    Args:
        root: Where `/proc` and `/sys` are.
    """
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    found = [*_cgroup_bounds(root), *([] if own == resource.RLIM_INFINITY else [own])]
    return min((bound for bound in found if 0 < bound < _NONE), default=None)


def tell_memory(buffer_bytes: int, batch_bytes: int, bound: int | None) -> None:
    """Log a warning where what is buffered may take more than half of the memory that there is.

    Args:
        buffer_bytes: Records in hand while partitions are merged.
        batch_bytes: What a batch of records may decompress to.
        bound: The bound on the memory, in bytes; None for none.
    """
    need = buffer_bytes + _COPIES * batch_bytes
    if bound is not None and need > bound * _SHARE:
        log.warning(
            "app.memory_is_tight",
            bound=bound,
            buffers=need,
            hint="buffers may take more than half of the memory bound: lower stream.buffer_bytes or "
            "stream.batch_bytes, or allow more memory",
        )


def _cgroup_bounds(root: Path) -> Iterator[int]:
    """Yield the bounds of the cgroups of this process and of those around them, as far as they can be read."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            base, name = root / _MOUNT, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / _MOUNT / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, and the mount its own cgroup: then only the mount is there.
        place = base / path.strip("/")
        for directory in {base, place, *(p for p in place.parents if base in p.parents)}:
            try:
                yield int((directory / name).read_text())
            except (OSError, ValueError):  # "max", or not there
                continue
