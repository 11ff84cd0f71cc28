"""Builds the image of units: a kernel and an initramfs; no root, no mounts.

The same program on the same machine takes the image that is there. The archive is not compressed: under
emulation unpacking would take longer than reading.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices import tiny
from trunkline.devices.tiny.initramfs import Archive, module_order
from trunkline.devices.tiny.packages import BuildFailed, run
from trunkline.devices.unit_image import python
from trunkline.devices.unit_image.elf import loaded

_INIT = Path(__file__).with_name("init")
#: What units start, by where the guest has it; without the first two there is no unit.
_PROGRAMS = ("ip", "nft", "setpriv", "haproxy")
_NEEDED = frozenset({"ip", "nft"})
#: Modules of the kernel: those of devices, and those that programs of the fabric ask for. What rules and
#: connections ask for is there by its folders.
_MODULES = (
    *(
        "virtio_pci",
        "virtio_net",
        "virtio_console",
        "virtio_rng",
        "veth",
        "sch_ingress",
        "cls_bpf",
        "act_bpf",
    ),
    *("af_packet", "unix", "ipv6", "inet_diag", "tcp_diag", "udp_diag"),
)
#: As rules may name them.
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "sctp": 132}
_FOLDERS = ("net/netfilter", "net/ipv4/netfilter", "net/ipv6/netfilter")
#: Of these folders, what belongs to iptables, IPVS and the like is not needed.
_NOT = re.compile(r"^(xt_|ip_set|ip_vs|ipt_|ip6t_|ip_tables|ip6_tables|iptable_|ip6table_|x_tables|arp)")
_lock = threading.Lock()
#: The image of this process's own program, which stays what it is.
_built: list[UnitImage] = []


@dataclass(frozen=True)
class UnitImage:
    """A built image: two files, named for what they hold."""

    kernel: Path
    initramfs: Path


def default_cache() -> Path:
    """Where images are kept for every cloud of this user."""
    return tiny.default_cache().with_name("units")


def build(cache: Path, progress: Callable[[str], None]) -> UnitImage:
    """The image of this program, from `cache` if it is there.

    A first build takes some 5 s, and the kernel's package may have to be downloaded (27 MB). Several may
    build in one cache at once: the later ones wait.

    Args:
        progress: told each step.

    Raises:
        BuildFailed: a package or a program is missing, or the archive cannot be reached.
        Unavailable: this interpreter has no such program.
        OSError: no room, or no right to write.
    """
    with _lock:
        for image in _built:
            if image.kernel.parent == cache and image.kernel.exists() and image.initramfs.exists():
                return image
        if platform.machine() != "x86_64":
            raise BuildFailed(f"Units are servers on x86_64 only, and this machine is {platform.machine()}.")
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache / "lock"):
            image = _image(cache, progress)
        _built[:] = [image]
        return image


def _image(cache: Path, progress: Callable[[str], None]) -> UnitImage:
    program, programs = python.find(), _programs()
    version = tiny.kernel_version(tiny.default_cache())
    files = [module.file for module in program.modules]
    files += [program.interpreter, program.libbpf, *programs.values(), _INIT]
    files += sorted(Path(__file__).parent.glob("*.py"))
    key = _key(version, files)
    image = UnitImage(cache / f"{key}.kernel", cache / f"{key}.initramfs")
    if image.kernel.exists() and image.initramfs.exists():
        return image
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
        work = Path(folder)
        progress("unpacking the kernel of units that are servers")
        tiny.unpack_kernel(tiny.default_cache(), work / "guest")
        progress("making their file system")
        draft = work / "initramfs"
        draft.write_bytes(_root(work / "guest", program, programs).pack(compressed=False))
        kernel = next((work / "guest" / "boot").glob("vmlinuz-*"))
        size = (kernel.stat().st_size + draft.stat().st_size) / 1e6
        # Guests that run have read theirs.
        for old in [*cache.glob("*.kernel"), *cache.glob("*.initramfs")]:
            old.unlink()
        kernel.replace(image.kernel)
        draft.replace(image.initramfs)
    progress(f"image of units built ({size:.1f} MB)")
    return image


def _programs() -> dict[str, Path]:
    found = {name: Path(path) for name in _PROGRAMS if (path := shutil.which(name)) is not None}
    if missing := _NEEDED - found.keys():
        raise BuildFailed(
            f"The image of units cannot be built: {', '.join(sorted(missing))} is not installed."
        )
    return found


def _key(kernel: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(kernel.encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _root(unpacked: Path, program: python.Program, programs: dict[str, Path]) -> Archive:
    """The guest's file system."""
    archive = Archive()
    for name in ("dev", "etc", "proc", "root", "run", "sys", "var/lib"):
        archive.folder(name)
    archive.folder("tmp", 0o1777)
    # The kernel gives process 1 its standard streams before anything is mounted.
    archive.character_device("dev/console", 5, 1)
    archive.file("init", _INIT.read_bytes(), 0o755)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nhaproxy:x:99:99::/tmp:/bin/false\n")
    archive.file("etc/group", b"root:x:0:\nhaproxy:x:99:\n")
    archive.file("etc/protocols", "".join(f"{name} {n}\n" for name, n in _PROTOCOLS.items()).encode())
    archive.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    busybox = unpacked / "bin" / "busybox"
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    for name in ("sh", "mount", "modprobe", "poweroff", "ps", "cat", "ls"):
        archive.link(f"bin/{name}", "/bin/busybox")
    # Where the kernel looks for it.
    archive.link("sbin/modprobe", "/bin/busybox")

    modules = f"usr/lib/{program.version}"
    archive.file("usr/bin/python3", loaded(program.interpreter.read_bytes()), 0o755)
    archive.folder(f"{modules}/lib-dynload")
    for module in program.modules:
        archive.file(f"{modules}/{module.place}", module.content())
    archive.file(f"{modules}/trunkline/units/version.txt", program.told_version.encode())
    beside, rest = python.rest(program)
    for place, content in beside.items():
        archive.file(f"{modules}/{place}", content)
    # Where every interpreter looks first.
    archive.file(f"{modules.replace('.', '')}.zip", rest)
    archive.file(f"{modules}/trunkline/units/fabric.bpf.o", _beside(program, "fabric.bpf.o").read_bytes())
    for name, path in programs.items():
        archive.file(f"usr/sbin/{name}", loaded(path.resolve().read_bytes()), 0o755)
    libraries = _libraries([*program.binaries, *programs.values()]) | {"libbpf.so.1": program.libbpf}
    for name, file in libraries.items():
        folder = "lib64" if name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
        archive.file(f"{folder}/{name}", loaded(file.read_bytes()), 0o755)
    _kernel_modules(archive, unpacked, busybox)
    return archive


def _beside(program: python.Program, name: str) -> Path:
    return next(m.file for m in program.modules if m.name == "trunkline.units.fabric").with_name(name)


def _libraries(files: Iterable[Path]) -> dict[str, Path]:
    """What these are linked with, by the names that they have for it, and the loader (ldd(1))."""
    found = {}
    for line in run(["ldd", *map(str, files)]).splitlines():
        if linked := re.match(r"\s+(?:(\S+) => )?(/\S+) \(0x", line):
            found[linked[1] or Path(linked[2]).name] = Path(linked[2])
    return found


def _kernel_modules(archive: Archive, unpacked: Path, busybox: Path) -> None:
    tree = next((unpacked / "lib" / "modules").iterdir())
    named = [file.stem for folder in _FOLDERS for file in sorted((tree / "kernel" / folder).glob("*.ko"))]
    chosen = module_order(tree, (*_MODULES, *(name for name in named if not _NOT.match(name))))
    with tempfile.TemporaryDirectory(dir=unpacked) as folder:
        base = Path(folder)
        for file in chosen:
            place = base / file.relative_to(unpacked)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        for name in ("modules.builtin", "modules.order"):
            shutil.copyfile(tree / name, base / "lib" / "modules" / tree.name / name)
        run([str(busybox), "depmod", "-b", str(base), tree.name])
        for file in sorted((base / "lib").rglob("*")):
            if file.is_file():
                archive.file(str(file.relative_to(base)), file.read_bytes())


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
