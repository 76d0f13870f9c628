"""Reading of small files that users name: regular files only, and not more than expected.

Shell. A pipe or a device in place of a file would hold up the process, or fill its memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def refuse_irregular(path: Path) -> None:
    """Check that a path leads to a regular file.

    Raises:
        OSError: There is none, or it is a directory, a pipe or a device; `strerror` says which.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a pipe, socket or device, a regular file is needed", str(path))


def read_small(path: Path, limit: int) -> bytes:
    """Read a regular file.

    Args:
        path: The file.
        limit: Most bytes that it may have.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger; `strerror` says why.
    """
    refuse_irregular(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit >> 10} KiB", str(path))
    return content
