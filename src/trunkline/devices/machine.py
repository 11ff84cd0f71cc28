"""What this machine can and cannot do: found out by trying, not by looking for names.

Everything here is safe to run at any time: kernel features are tried inside a scratch namespace.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from trunkline.devices import namespace
from trunkline.devices.namespace import CommandFailed
from trunkline.errors import Unavailable

#: Programs that a cloud in lab mode cannot do without, and Debian's packages of them.
PROGRAMS = {
    "ip": "iproute2",
    "ovsdb-server": "openvswitch-common",
    "ovsdb-tool": "openvswitch-common",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-common",
    "ovn-northd": "ovn-central",
    "ovn-nbctl": "ovn-common",
    "ovn-sbctl": "ovn-common",
    "ovn-controller": "ovn-host",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh-keygen": "openssh-client",
    "xorriso": "xorriso",
}

#: Kinds of interface, and what they are tried with.
_LINKS = {
    "veth": "link add name t0 type veth peer name t1",
    "bridge": "link add name t0 type bridge",
    "vxlan": "link add name t0 type vxlan id 7 dstport 4789 local 127.0.0.1",
    "geneve": "link add name t0 type geneve id 7 remote 127.0.0.1",
    "8021q": "link add link lo name t0 type vlan id 7",
}


def missing_programs() -> dict[str, str]:
    """The programs of `PROGRAMS` that are not installed, with their packages."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}


def apt_line(packages: Iterable[str]) -> str:
    """What to type for these packages."""
    return f"apt-get install --no-install-recommends {' '.join(sorted(set(packages)))}"


def is_root() -> bool:
    """Whether namespaces can be made: root, with its capabilities over the network and mounts."""
    if os.geteuid() != 0:
        return False
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
        needed = (1 << 12) | (1 << 21)  # CAP_NET_ADMIN, CAP_SYS_ADMIN
        return effective & needed == needed
    return True


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of Debian packages; those that are not installed are left out.

    Raises:
        Unavailable: this is no Debian: there is no dpkg-query.
    """
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status} ${Version}\n", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        raise Unavailable("There is no dpkg-query: this is not a Debian machine.") from None
    rows = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def link_kinds() -> dict[str, str]:
    """Which kinds of interface the kernel can make: kind to "", or to its words when it cannot.

    Raises:
        Unavailable: not even a namespace can be made; with the kernel's words.
    """
    scratch = f"tl-doctor-{os.getpid()}"
    results = {}
    namespace.create(scratch)
    try:
        for kind, line in _LINKS.items():
            try:
                namespace.ip(scratch, line, "link delete dev t0")
                results[kind] = ""
            except CommandFailed as failure:
                results[kind] = str(failure).partition(": ")[2].removesuffix(" Command failed -:1")
        results["conntrack"] = "" if _has_conntrack(scratch) else "no connection tracking in this kernel"
    finally:
        namespace.delete(scratch)
    return results


def _has_conntrack(netns: str) -> bool:
    return namespace.inside(netns, lambda: Path("/proc/sys/net/netfilter/nf_conntrack_count").exists())


def has_openvswitch_module() -> bool:
    """Whether the kernel has Open vSwitch's datapath (it loads a module that it has when it is asked)."""
    done = subprocess.run(
        ["ovs-dpctl", "--timeout=5", "show"], capture_output=True, text=True, timeout=10, check=False
    )
    if "is not loaded" in done.stderr or "could not" in done.stderr.lower():
        return False
    return done.returncode == 0


def tun_failure() -> str:
    """Why no tap interface can be made; "" if one can."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return ""


def kvm_failure(seconds: float = 3.0) -> str:
    """Why no guest runs under KVM; "" if one does.

    A boot sector that writes a word to QEMU's debug port is started: that /dev/kvm opens proves nothing
    where the machine is itself a guest.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "there is no /dev/kvm" if not Path("/dev/kvm").exists() else "/dev/kvm: no permission"
    return guest_failure("kvm", seconds)


def guest_failure(accelerator: str, seconds: float) -> str:
    """Why no guest runs with this accelerator of QEMU's; "" if one does."""
    word = b"alive"
    with tempfile.NamedTemporaryFile(prefix="trunkline-kvm-") as sector:
        sector.write(_boot_sector(word))
        sector.flush()
        command = [
            *("qemu-system-x86_64", "-accel", accelerator, "-machine", "pc", "-m", "16"),
            *("-cpu", "host" if accelerator == "kvm" else "max"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-boot", "a"),
            *("-drive", f"file={sector.name},format=raw,if=floppy,readonly=on"),
            *("-chardev", "stdio,id=word", "-device", "isa-debugcon,chardev=word"),
        ]
        try:
            guest = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError:
            return "qemu-system-x86_64 is not installed"
        with guest:
            try:
                heard, said, ended = _listen(guest, word, time.monotonic() + seconds)
            finally:
                guest.kill()
    if word in heard:
        return ""
    words = " ".join(said.decode(errors="replace").split())[-200:]
    return words or ("QEMU ended" if ended else f"a guest that was started wrote nothing in {seconds:g} s")


def _boot_sector(word: bytes) -> bytes:
    """512 bytes of real-mode code: `out` of each byte to port 0xe9, then halt with interrupts off."""
    writes = b"".join(bytes((0xB0, byte, 0xE6, 0xE9)) for byte in word)
    return (b"\xfa" + writes + b"\xf4\xeb\xfd").ljust(510, b"\0") + b"\x55\xaa"


def _listen(guest: subprocess.Popen[bytes], word: bytes, deadline: float) -> tuple[bytes, bytes, bool]:
    """What the guest, and what QEMU said until the word came, QEMU ended or time was over."""
    assert guest.stdout is not None
    assert guest.stderr is not None
    streams = {guest.stdout.fileno(): bytearray(), guest.stderr.fileno(): bytearray()}
    out, err = streams.values()
    open_streams = set(streams)
    while open_streams and word not in out and (left := deadline - time.monotonic()) > 0:
        for descriptor in select.select(list(open_streams), [], [], left)[0]:
            block = os.read(descriptor, 4096)
            streams[descriptor].extend(block)
            if not block:
                open_streams.discard(descriptor)
    return bytes(out), bytes(err), not open_streams


def free_disk(folder: Path) -> int:
    """Bytes that are free for us where the folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def available_memory() -> int:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroup_controllers() -> tuple[str, set[str]]:
    """The version of the control groups that can bound processors and memory here, and their controllers."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return "v2", set(unified.read_text().split())
    try:
        lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    except OSError:
        return "none", set()
    return "v1", {fields[0] for line in lines if (fields := line.split()) and fields[3] == "1"}


def owner_of_port(address: str, port: int) -> str | None:
    """Who listens on a TCP port of this machine ("nginx (pid 812)"); "somebody"; None if it is free."""
    try:
        namespace.open_socket_in(None, address, port).close()
    except PermissionError:
        return "nobody, but it needs root"
    except OSError:
        pass
    else:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        shown = subprocess.run(
            ["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
        name, pid = shown.split('users:(("')[1].split('",pid=')
        return f"{name} (pid {pid.split(',')[0]})"
    return "somebody"
