"""Why a file of SQLite cannot be opened or written, in words: which file, as which user, and what to do.

Shell: asks the file system. SQLite itself names neither.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
from pathlib import Path
from typing import Final

_REFUSED: Final = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR}
)


def is_refused(error: BaseException | None) -> bool:
    """Return whether SQLite could not open a file, or not write to it."""
    return isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSED


def user_name(uid: int) -> str:
    """Return the name of a user, or its number: in a container there may be no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def why_refused(path: Path, error: BaseException) -> str:
    """Return the words for a file that SQLite could not open or write.

    Args:
        path: The database.
        error: What SQLite raised.
    """
    words = f"database {path}: {error}, as user {user_name(os.geteuid())}"
    try:
        owner = path.stat().st_uid
        if not path.is_file():
            return f"{words}: it is no regular file; store.url must name one"
        if os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK):
            return words  # not for want of a permission, as far as can be seen
    except OSError:
        owner = _owner_of_folder(path)
    name = user_name(owner)
    run_as = f"'#{owner}'" if name.startswith("uid ") else name
    return (
        f"{words}: it, the files beside it (-wal, -shm) and the folder {path.parent} must be readable and writable; "
        f"run the command as their owner: sudo -u {run_as} driftd …"
    )


def _owner_of_folder(path: Path) -> int:
    """Return the owner of the nearest folder above a path that can be looked at."""
    for folder in path.parents:
        try:
            return folder.stat().st_uid
        except OSError:
            continue
    return 0
