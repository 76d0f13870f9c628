"""The name of the process that owns the store, and whether the process of a name has ended.

Shell.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def owner_name() -> str:
    """Return a name of this process, unique across hosts and restarts: host, process id and start time."""
    return f"{_host()}/{os.getpid()}/{_start_time(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Return whether an owner is known to have ended: a process of this host that no longer exists.

    A process of another host, and one that cannot be checked, counts as alive; then its lease decides.
    """
    host, _, rest = owner.partition("/")
    pid, _, started = rest.partition("/")
    if host != _host() or not pid.isdigit():
        return False
    return _start_time(int(pid)) != started


def end_of(owner: str | None, age_s: float, lease_s: float) -> str | None:
    """Return why no daemon runs, in words; None where one runs, as far as is known.

    Args:
        owner: Name of the owner of the store; None where it has none.
        age_s: Seconds since the owner's last sign of life.
        lease_s: Seconds after which an owner of another host counts as dead.
    """
    if owner is None:
        return "no daemon runs"
    host, _, rest = owner.partition("/")
    pid = rest.partition("/")[0]
    if is_gone(owner):
        return f"no daemon runs: its daemon (pid {pid}) has ended without giving up the store"
    if host != _host() and age_s > lease_s:
        return (
            f"no daemon seems to run: its daemon (pid {pid} on {host.partition('@')[0]}) has committed nothing for "
            f"{age_s:.0f} s, and its lease is {lease_s:g} s"
        )
    return None


def is_neighbour(owner: str) -> bool:
    """Return whether an owner is a living process of this host, other than this one."""
    return owner.partition("/")[0] == _host() and owner != owner_name() and not is_gone(owner)


def in_words(owner: str) -> str:
    """Return an owner's name as people read it: its host and process id."""
    host, _, rest = owner.partition("/")
    return f"host {host.partition('@')[0]}, process {rest.partition('/')[0]}"


def _host() -> str:
    """Return the host name and PID namespace: containers may share a host name without sharing process ids."""
    try:
        return f"{socket.gethostname()}@{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _start_time(pid: int) -> str:
    """Return the boot id and the start time of a process in ticks since boot; "" if it does not exist."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}-{fields[19]}"
