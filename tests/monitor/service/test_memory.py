"""The bound on the memory is found where kernels tell it, and buffers that are large beside it are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.service.memory import memory_bound, tell_memory

MIB = 1 << 20


def system(root: Path, cgroup: str, **files: str) -> Path:
    """A root with `/proc/self/cgroup` and files below `/sys/fs/cgroup`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "bound"),
    [
        ("0::/\n", {"memory.max": "734003200\n"}, 700 * MIB),  # a container with a namespace of its own
        ("0::/docker/abc\n", {"memory.max": "734003200\n"}, 700 * MIB),  # and one without
        ("0::/a.slice/b.service\n", {"a.slice/b.service/memory.max": "2147483648\n"}, 2048 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "734003200\n"}, 700 * MIB),  # of the one around it
        ("9:cpu:/x\n4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "734003200\n"}, 700 * MIB),  # version 1
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": "734003200\n"}, 700 * MIB),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        ("rubbish\n", {}, None),
    ],
)
def test_the_bound_of_the_cgroup(tmp_path: Path, cgroup: str, files: dict[str, str], bound: int | None) -> None:
    assert memory_bound(system(tmp_path, cgroup, **files)) == bound


def test_without_cgroups_there_is_no_bound(tmp_path: Path) -> None:
    assert memory_bound(tmp_path) is None


def test_buffers_of_more_than_half_of_the_memory_are_told() -> None:
    with capture_logs() as logs:
        tell_memory(64 * MIB, 64 * MIB, 511 * MIB)

    assert [(entry["event"], entry["bound"], entry["buffers"]) for entry in logs] == [
        ("app.memory_is_tight", 511 * MIB, 256 * MIB)
    ]
    assert "stream.buffer_bytes" in logs[0]["hint"]


@pytest.mark.parametrize("bound", [512 * MIB, None])
def test_buffers_that_fit_are_not_told(bound: int | None) -> None:
    with capture_logs() as logs:
        tell_memory(64 * MIB, 64 * MIB, bound)

    assert logs == []
