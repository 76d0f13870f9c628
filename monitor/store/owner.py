"""Who owns the store: a name for this process, and whether the process behind a name has ended.

Shell.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def owner_name() -> str:
    """This process, told apart from any other on any host: host, process id, and when it was started."""
    return f"{_host()}/{os.getpid()}/{_start_time(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether an owner is known to have ended: a process of this host that is not there any more.

    What cannot be known counts as alive; then its lease decides.
    """
    host, _, rest = owner.partition("/")
    pid, _, started = rest.partition("/")
    if host != _host() or not pid.isdigit():
        return False
    return _start_time(int(pid)) != started


def _host() -> str:
    """Where process ids mean the same: two containers may share the name of a host and not see each other."""
    try:
        return f"{socket.gethostname()}@{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _start_time(pid: int) -> str:
    """When a process was started, in ticks since boot, after the boot's id; "" where it is not there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}-{fields[19]}"
