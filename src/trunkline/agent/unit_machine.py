"""``python -m trunkline.agent.unit_machine``: becomes the QEMU of a unit that is a server.

    bus, control, legs ── veth ──▶ namespace of the unit ── tc: each to its tap ──▶ virtio-net ── guest

It is started in namespaces of its own, as any unit is, waits for its interfaces, joins each to a tap, and is
QEMU from then on, without any of root's capabilities. Guest, namespaces and interfaces end with the process.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from trunkline.devices import links, namespace
from trunkline.devices.guest_words import PORT, Device
from trunkline.devices.links import Link
from trunkline.errors import Unavailable

_SET_TAP, _TAP, _NO_INFO = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
_TICK = 0.02
#: Of what a unit may have, QEMU's own part, MiB: translated code is a third of it.
OVERHEAD = 96
_CODE = 32
#: No half of the memory is enough for files, nothing waits for tests of ciphers, and who fails ends.
_KERNEL = "console=ttyS0 quiet rootfstype=ramfs panic=-1 cryptomgr.notests random.trust_cpu=on"
#: The TSC is no clock where a guest may have to wait for a processor (devices/tiny/build.py).
_EMULATED = "no_timer_check tsc=unstable"


def arguments(
    socket: Path,
    image: tuple[Path, Path],
    interfaces: Sequence[tuple[Device, int]],
    *,
    memory_mib: int,
    processors: int,
    accelerated: bool,
) -> tuple[str, ...]:
    """The command that is the guest.

    Args:
        socket: where it listens for the agent.
        image: kernel and initramfs.
        interfaces: each with the descriptor of its tap.
        memory_mib: of both, QEMU and guest.
    """
    kernel, initramfs = image
    words = [_KERNEL, *(() if accelerated else (_EMULATED,)), *(device.word() for device, _ in interfaces)]
    command = [
        *("qemu-system-x86_64", "-machine", "pc,usb=off,vmport=off,dump-guest-core=off"),
        *("-accel", "kvm" if accelerated else f"tcg,thread=multi,tb-size={_CODE}"),
        *("-cpu", "host" if accelerated else "max"),
        *("-smp", str(processors), "-m", str(memory_mib - OVERHEAD)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", " ".join(words)),
        # The log is where its folder is hidden: it is known by its descriptor.
        *("-chardev", "file,id=console,path=/dev/stderr,append=on", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=agent,path={str(socket).replace(',', ',,')},server=on,wait=off"),
        *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={PORT}"),
    ]
    for number, (device, tap) in enumerate(interfaces):
        command += [
            *("-netdev", f"tap,id=n{number},fd={tap}"),
            *("-device", f"virtio-net-pci,netdev=n{number},mac={device.mac},romfile="),
        ]
    return tuple(command)


def wait_for(name: str) -> Link:
    """An interface, when it is there and up."""
    while (found := links.link(name)) is None or not found.up:
        time.sleep(_TICK)
    return found


def tap(name: str, joined: str) -> int:
    """Makes a tap whose frames are those of another interface, both ways; returns its descriptor.

    Frames have no header of virtio's: what the kernel left to hardware is done before they come.

    Raises:
        OSError, Unavailable: the kernel refuses.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, _SET_TAP, struct.pack("16sH22x", name.encode(), _TAP | _NO_INFO))
    namespace.ip(None, f"link set dev {name} mtu 9000 up")
    lines = []
    for one, other in ((name, joined), (joined, name)):
        lines.append(f"qdisc add dev {one} ingress")
        every = "protocol all u32 match u32 0 0"
        lines.append(f"filter add dev {one} parent ffff: {every} action mirred egress redirect dev {other}")
    done = subprocess.run(
        ["tc", "-batch", "-"],
        input="\n".join(lines) + "\n",
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"{joined} cannot be joined to a tap: {' '.join(done.stderr.split())}")
    os.set_inheritable(descriptor, True)
    return descriptor


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="trunkline.agent.unit_machine", description="A unit that is a server."
    )
    parser.add_argument("--socket", type=Path, required=True, help="where the agent speaks to it")
    parser.add_argument("--bus", required=True, help="its interface on the in-band bus")
    parser.add_argument("--control", required=True, help="its interface on the out-of-band bus")
    parser.add_argument(
        "--leg", action="append", default=[], help="a port of a dispatcher, in the order of legs"
    )
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--initramfs", type=Path, required=True)
    parser.add_argument("--memory", type=int, required=True, help="MiB, of QEMU and guest")
    parser.add_argument("--processors", type=int, required=True)
    parser.add_argument("--accelerated", action="store_true", help="KVM runs guests here")
    given = parser.parse_args()
    # The host's end of an interface has nothing to say for itself.
    namespace.sysctl(None, [(f"ipv6/conf/{which}/disable_ipv6", 1) for which in ("all", "default")])
    wanted = [("bus", given.bus), ("control", given.control), *(("leg", name) for name in given.leg)]
    interfaces = []
    for number, (kind, name) in enumerate(wanted):
        link = wait_for(name)
        interfaces.append((Device(kind, name, link.mac, link.mtu), tap(f"tap{number}", name)))
    command = arguments(
        given.socket,
        (given.kernel, given.initramfs),
        interfaces,
        memory_mib=given.memory,
        processors=given.processors,
        accelerated=given.accelerated,
    )
    os.execvp("setpriv", ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *command])


if __name__ == "__main__":
    main()
