"""Builds the tiny image: packages in, a bootable disk out; no root, no mounts, no loop devices.

A second build with the same packages and the same files of ours takes the first one's result.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trunkline.devices.tiny import packages
from trunkline.devices.tiny.initramfs import Archive, module_order
from trunkline.devices.tiny.packages import BuildFailed, run

_GUEST = Path(__file__).with_name("guest")
_KERNEL = "linux-image-cloud-amd64"
_PROGRAMS = ("busybox-static", "dhcpcd-base", "dropbear-bin", "jq")
_LIBRARIES = ("libc6", "libcrypt1", "libgmp10", "libjq1", "libonig5", "libtomcrypt1", "libtommath1", "zlib1g")
_TOOLS = ("dosfstools", "mtools", "syslinux", "syslinux-common")

#: Needed for the first DHCP request; then, for the disk; then, for the rest.
_FIRST = ("virtio_pci", "virtio_net")
_NEXT = ("virtio_rng", "virtio_blk", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "isofs")
_THEN = ("button", "evdev", "8021q")
#: On board for who asks for them. No SCSI and no IDE: libata alone is as large as all of these.
_ON_BOARD = ("dummy", "macvlan", "nls_iso8859_1", "veth", "virtio_balloon", "vrf")

#: Dynamically linked programs, and where the guest has them.
_DYNAMIC = {
    "usr/sbin/dhcpcd": "usr/sbin/dhcpcd",
    "usr/sbin/dropbear": "usr/sbin/dropbear",
    "usr/bin/dropbearkey": "usr/bin/dropbearkey",
    "usr/bin/dbclient": "usr/bin/dbclient",
    "usr/bin/jq": "usr/bin/jq",
}
_LIBRARY_PATH = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")

#: Where our own files go; anything else in the folder goes to /etc/tiny.
_PLACES = {
    name: f"etc/{name}" for name in ("inittab", "dhcpcd.conf", "passwd", "group", "profile", "motd")
} | {"power": "etc/acpi/PWRF/00000080"}

# No self-tests of ciphers and no check of emulated timers: 0.3 s of 1.8 s under TCG. The loader waits for
# nobody. The TSC is no clock here: the kernel measures its rate against the PIT, and where an emulated guest
# has to wait for a core just then, its clock would run up to 100 times too fast. The HPET's rate is known.
_BOOT_CONFIG = """\
DEFAULT tiny
PROMPT 0
LABEL tiny
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet panic=10 cryptomgr.notests no_timer_check tsc=unstable random.trust_cpu=on
"""
_LABEL = "TRUNKTINY"
_DISK_SIZE = 64 << 20


@dataclass(frozen=True)
class TinyImage:
    """A built image: a file, and what the Image API wants to know of it."""

    path: Path
    #: Bytes of the file.
    size: int
    #: Of the file, hexadecimal.
    sha512: str
    #: Debian's version of each package in it.
    packages: dict[str, str]
    disk_format: str = "qcow2"
    #: Bytes of the disk that the guest sees.
    virtual_size: int = _DISK_SIZE
    min_ram_mib: int = 96
    min_disk_gib: int = 0


def default_cache() -> Path:
    """Where images and packages are kept for every cloud of this user (XDG Base Directory)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trunkline" / "tiny"


def build(destination: Path, cache: Path, progress: Callable[[str], None]) -> TinyImage:
    """Makes the file `destination` the tiny image, from `cache` if it is there.

    The first build downloads about 36 MB of packages and takes some 10 s; from the cache it takes 0.2 s.
    `progress` is told each step. Several may build in one cache at once: the later ones wait.

    Raises:
        BuildFailed: a package or a program is missing, or the archive cannot be reached.
        OSError: no room, or no right to write.
    """
    if platform.machine() != "x86_64":
        raise BuildFailed(
            f"The tiny image is made for x86_64 only, and this machine is {platform.machine()}."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache / "lock"):
        versions, tools = _choose(cache)
        key = _key(versions)
        image = _cached(cache, key)
        if image is None:
            image = _make(cache, key, versions, tools, progress)
        else:
            progress(f"tiny image from the cache ({image.size / 1e6:.1f} MB)")
        destination.parent.mkdir(parents=True, exist_ok=True)
        draft = destination.with_name(f"{destination.name}.new")
        shutil.copyfile(image.path, draft)
        draft.replace(destination)
    return replace(image, path=destination)


def kernel_version(cache: Path) -> str:
    """Which kernel, and which busybox, the image has. Raises BuildFailed."""
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache / "lock"):
        return " ".join(f"{name} {version}" for name, version in _kernel(cache).items())


def unpack_kernel(cache: Path, folder: Path) -> None:
    """Unpacks these packages, with all modules, into `folder`. Raises BuildFailed."""
    with _only_one(cache / "lock"):
        packages.unpack(packages.fetch(_kernel(cache), cache / "packages"), folder)


def _kernel(cache: Path) -> dict[str, str]:
    versions, _ = _choose(cache)
    return {n: v for n, v in versions.items() if n.startswith("linux-image-") or n == "busybox-static"}


def _choose(cache: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the packages that go into the guest, and of the tools that make it.

    Asking apt takes a second, so the answer is kept for as long as apt's lists are what they were.
    """
    kept, state = cache / "versions.json", packages.lists()
    try:
        known = json.loads(kept.read_text())
        if known["lists"] == state and set(_PROGRAMS + _LIBRARIES) < set(known["inside"]):
            return known["inside"], known["tools"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    kernel = packages.dependency(_KERNEL, r"linux-image-[0-9].*-cloud-amd64")
    found = packages.candidates([kernel, *_PROGRAMS, *_LIBRARIES, *_TOOLS])
    tools = {name: found.pop(name) for name in _TOOLS}
    kept.write_text(json.dumps({"lists": state, "inside": found, "tools": tools}, indent=1))
    return found, tools


def _key(versions: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for file in [*sorted(_GUEST.iterdir()), *sorted(Path(__file__).parent.glob("*.py"))]:
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _cached(cache: Path, key: str) -> TinyImage | None:
    """The image of that key; None if it was never built, or its file is not what it was."""
    path = cache / f"tiny-{key}.qcow2"
    try:
        known = json.loads(path.with_suffix(".json").read_text())
        if path.stat().st_size != known["size"] or _sha512(path) != known["sha512"]:
            return None
        return TinyImage(path=path, **known)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _make(
    cache: Path,
    key: str,
    versions: dict[str, str],
    tools: dict[str, str],
    progress: Callable[[str], None],
) -> TinyImage:
    progress(f"fetching {len(versions) + len(tools)} Debian packages for the tiny image")
    inside = packages.fetch(versions, cache / "packages")
    beside = packages.fetch(tools, cache / "packages")
    for old in set((cache / "packages").glob("*.deb")) - {*inside, *beside}:
        old.unlink()
    path = cache / f"tiny-{key}.qcow2"
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as folder:
        work = Path(folder)
        progress("unpacking them")
        packages.unpack(inside, work / "guest")
        packages.unpack(beside, work / "tools")
        progress("making the guest's file system")
        initrd = work / "initrd"
        initrd.write_bytes(_root(work / "guest").pack())
        progress("writing the boot disk")
        kernel = next((work / "guest" / "boot").glob("vmlinuz-*"))
        draft = _disk(work, kernel, initrd)
        image = TinyImage(path, draft.stat().st_size, _sha512(draft), versions)
        for old in cache.glob("tiny-*"):
            old.unlink()
        draft.replace(path)
    known = {name: value for name, value in asdict(image).items() if name != "path"}
    path.with_suffix(".json").write_text(json.dumps(known, indent=1))
    progress(f"tiny image built ({image.size / 1e6:.1f} MB)")
    return image


def _root(unpacked: Path) -> Archive:
    """The guest's file system, from the unpacked packages and our own files."""
    archive = Archive()
    for name in ("dev", "etc/dropbear", "mnt", "persist", "proc", "run", "sys", "tmp", "var/log"):
        archive.folder(name)
    archive.folder("tmp", 0o1777)
    for name in ("root", "root/.ssh", "var/lib/dhcpcd"):
        archive.folder(name, 0o700)
    archive.link("var/run", "/run")
    # The kernel gives process 1 its standard streams before anything is mounted.
    archive.character_device("dev/console", 5, 1)

    busybox = unpacked / "bin" / "busybox"
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.link("init", "/bin/busybox")
    for applet in run([str(busybox), "--list-full"]).split():
        if applet not in archive:
            archive.link(applet, "/bin/busybox")
    for source, place in _DYNAMIC.items():
        archive.file(place, (unpacked / source).read_bytes(), 0o755)
        for library in _libraries(unpacked, unpacked / source):
            archive.file(f"lib/x86_64-linux-gnu/{library.name}", library.read_bytes(), 0o755)
    archive.file("lib64/ld-linux-x86-64.so.2", _loader(unpacked).read_bytes(), 0o755)

    for file in sorted(_GUEST.iterdir()):
        place = _PLACES.get(file.name, f"etc/tiny/{file.name}")
        archive.file(place, file.read_bytes(), 0o755 if file.read_bytes().startswith(b"#!") else 0o644)
    archive.file("etc/hostname", b"tiny\n")
    archive.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    archive.file("etc/shells", b"/bin/sh\n")
    archive.file("root/.ssh/authorized_keys", b"", 0o600)
    _modules(archive, unpacked, busybox)
    return archive


def _modules(archive: Archive, unpacked: Path, busybox: Path) -> None:
    tree = next((unpacked / "lib" / "modules").iterdir())
    version = tree.name
    chosen = module_order(tree, (*_FIRST, *_NEXT, *_THEN, *_ON_BOARD))
    with tempfile.TemporaryDirectory(dir=unpacked) as folder:
        base = Path(folder)
        for file in chosen:
            place = base / file.relative_to(unpacked)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        for name in ("modules.builtin", "modules.order"):
            shutil.copyfile(tree / name, base / "lib" / "modules" / version / name)
        run([str(busybox), "depmod", "-b", str(base), version])
        for file in sorted((base / "lib").rglob("*")):
            if file.is_file():
                archive.file(str(file.relative_to(base)), file.read_bytes())
    first = [f"{version}/{file.relative_to(tree)}" for file in module_order(tree, _FIRST)]
    archive.file("lib/modules/first", "".join(f"{line}\n" for line in first).encode())
    archive.file("lib/modules/next", "".join(f"{name}\n" for name in _NEXT).encode())
    archive.file("lib/modules/then", "".join(f"{name}\n" for name in _THEN).encode())


def _loader(unpacked: Path) -> Path:
    """The unpacked dynamic loader: glibc's link to it is absolute."""
    return next((unpacked / "lib" / "x86_64-linux-gnu").glob("ld-linux-x86-64.so.2"))


def _libraries(unpacked: Path, program: Path) -> Iterator[Path]:
    """The unpacked libraries that a program is linked with, as its own loader finds them (ld.so(8))."""
    search = ":".join(str(unpacked / folder) for folder in _LIBRARY_PATH)
    listed = run([str(_loader(unpacked)), "--library-path", search, "--list", str(program)])
    for line in listed.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if not arrow or "ld-linux" in name:
            continue
        path = Path(rest.rsplit(" (", 1)[0])
        if not path.is_relative_to(unpacked):
            raise BuildFailed(
                f"The tiny image cannot be built: no package holds {name}, which {program.name} needs."
            )
        yield path


def _disk(work: Path, kernel: Path, initrd: Path) -> Path:
    """A disk without partitions: one FAT file system with SYSLINUX in its boot sector."""
    tools = work / "tools"
    env = {
        "PATH": ":".join(
            (f"{tools}/usr/bin", f"{tools}/sbin", f"{tools}/usr/sbin", os.environ.get("PATH", ""))
        ),
        "MTOOLS_SKIP_CHECK": "1",
        "MTOOLSRC": "/dev/null",
    }
    raw, disk, config = work / "disk.raw", work / "disk.qcow2", work / "syslinux.cfg"
    config.write_text(_BOOT_CONFIG)
    with raw.open("wb") as file:
        file.truncate(_DISK_SIZE)
    run(["mkfs.fat", "-F", "16", "-s", "8", "-n", _LABEL, str(raw)], env=env)
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd"), (config, "syslinux.cfg")):
        run(["mcopy", "-i", str(raw), str(source), f"::{name}"], env=env)
    run(["syslinux", "--install", str(raw)], env=env)
    # Not compressed: its content is, so that would save 3 MB in 19 and cost 1.3 s at every start under load.
    run(["qemu-img", "convert", "-q", "-O", "qcow2", str(raw), str(disk)])
    return disk


def _sha512(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
