"""Control groups: where they are made, on machines of either version, and what is written there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trunkline.devices import cgroups
from trunkline.devices.cgroups import Group, Places
from trunkline.errors import Unavailable

MOUNTS = """\
30 23 0:26 / {root} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 23 0:28 /machine /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 23 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
"""
OWN = "9:name=systemd:/\n5:cpu,cpuacct:/agents/one\n4:memory:/machine/a\n0::/\n"


def second(folder: Path, controllers: str) -> Path:
    """A folder that looks like a hierarchy of version 2."""
    root = folder / "unified"
    for place in (root, root / "trunkline", root / "trunkline" / "unit"):
        place.mkdir(parents=True)
        for name in ("cgroup.subtree_control", "cgroup.procs", "cpu.max", "memory.max", "memory.oom.group"):
            (place / name).touch()
        (place / "cpu.weight").write_text("100")
    (root / "cgroup.controllers").write_text(controllers)
    return root


def test_groups_of_version_1_are_made_below_ones_own(tmp_path: Path) -> None:
    root = second(tmp_path, "hugetlb\n")
    found = cgroups.places(MOUNTS.format(root=root), OWN)
    assert found == Places(1, Path("/sys/fs/cgroup/cpu,cpuacct/agents/one"), Path("/sys/fs/cgroup/memory/a"))


def test_version_2_is_taken_where_it_has_both_controllers(tmp_path: Path) -> None:
    root = second(tmp_path, "cpuset cpu io memory pids\n")
    assert cgroups.places(MOUNTS.format(root=root), OWN) == Places(2, root, root)


def test_a_machine_without_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="for cpu and memory"):
        cgroups.places(MOUNTS.format(root=tmp_path).splitlines()[0], "0::/\n")


def test_what_is_written_with_version_2(tmp_path: Path) -> None:
    root = second(tmp_path, "cpu memory\n")
    group = Group.named(Places(2, root, root), "unit")
    own = root / "trunkline" / "unit"
    assert group.folders == (str(own),)
    group.make()
    for above in (root, root / "trunkline"):
        assert (above / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (root / "trunkline" / "cpu.weight").read_text() == "10000", (
        "what is promised is had by a busy host too"
    )
    group.limit_memory(256)
    group.join(4711)
    group.limit_processors(0.25)
    assert (own / "memory.max").read_text() == "268435456"
    assert (own / "cgroup.procs").read_text() == "4711"
    assert (own / "cpu.max").read_text() == "5000 20000"
    # The kernel grants no less than 1 ms at once.
    (own / "cpu.max").write_text("")
    group.limit_processors(0.02)
    assert (own / "cpu.max").read_text() == "1000 50000"
    (own / "memory.events").write_text("low 0\noom 2\noom_kill 3\n")
    assert group.killed() == 3
    assert group.processes() == [4711]


@pytest.mark.machine
def test_limits_hold_and_a_group_goes_when_it_is_empty() -> None:
    group = Group.named(cgroups.here(), f"test-{id(object())}")
    try:
        group.make()
        group.limit_memory(32)
        group.limit_processors(0.5)
        hungry = subprocess.Popen(["sh", "-c", "read go; exec tail /dev/zero"], stdin=subprocess.PIPE)
        group.join(hungry.pid)
        assert group.processes() == [hungry.pid]
        hungry.communicate(b"\n", timeout=20)
        assert hungry.returncode == -9
        assert group.killed() == 1
    finally:
        group.remove()
    assert not any(Path(folder).exists() for folder in group.folders)
