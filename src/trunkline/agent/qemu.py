"""The command line of a server's QEMU, and its devices: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from trunkline.agent.ports import tap
from trunkline.compiler.slices import PortSlice, ServerSlice


@dataclass(frozen=True)
class Files:
    """The files of one server: FOLDER/NAME.*, NAME the 8 first hexadecimal digits of its id."""

    folder: Path
    name: str

    @property
    def state(self) -> Path:
        """What was reached, in JSON."""
        return self.folder / f"{self.name}.json"

    @property
    def pid(self) -> Path:
        """The pid file of its QEMU."""
        return self.folder / f"{self.name}.pid"

    @property
    def monitor(self) -> Path:
        """The QMP socket."""
        return self.folder / f"{self.name}.qmp"

    @property
    def disk(self) -> Path:
        """The root disk."""
        return self.folder / f"{self.name}.disk"

    @property
    def ephemeral(self) -> Path:
        """The second disk."""
        return self.folder / f"{self.name}.ephemeral"

    @property
    def swap(self) -> Path:
        """The disk to swap to."""
        return self.folder / f"{self.name}.swap"

    @property
    def rescue(self) -> Path:
        """The disk that it boots from while it is rescued."""
        return self.folder / f"{self.name}.rescue"

    @property
    def disks(self) -> Mapping[str, tuple[Path, Literal["qcow2", "raw"]]]:
        """The disks that a guest may have, by what they are called in QEMU, and their formats."""
        return {
            "rescue": (self.rescue, "qcow2"),
            "root": (self.disk, "qcow2"),
            "ephemeral": (self.ephemeral, "qcow2"),
            "swap": (self.swap, "raw"),
        }

    def snapshot(self, image: str) -> Path:
        """The image of the root disk that is to be uploaded, once it is whole."""
        return self.folder / f"{self.name}.{image}.image"

    @property
    def snapshots(self) -> list[Path]:
        """All images of the root disk that are there, whole or not."""
        return list(self.folder.glob(f"{self.name}.*.image*"))

    @property
    def memory(self) -> Path:
        """Its memory, while it is suspended."""
        return self.folder / f"{self.name}.memory"

    @property
    def drive(self) -> Path:
        """The config drive."""
        return self.folder / f"{self.name}.iso"

    @property
    def console(self) -> Path:
        """What the guest wrote on its serial console."""
        return self.folder / f"{self.name}.log"

    @property
    def errors(self) -> Path:
        """What QEMU itself said."""
        return self.folder / f"{self.name}.err"


class Memory(msgspec.Struct, kw_only=True):
    """What a QEMU must be like to go on with the memory of one that ended."""

    #: The type of machine, as this version of QEMU calls it: a newer one means another by "pc".
    machine: str
    #: Where its devices are on the PCI bus, by their ids.
    slots: tuple[tuple[str, int], ...]
    #: The ports that it had devices for, of which some may be gone.
    ports: tuple[PortSlice, ...] = ()
    accelerated: bool = False
    #: How often it could not be loaded.
    failures: int = 0


def device(port: str) -> str:
    """The id of a port's device in QEMU, of its netdev and, in the guest's view, of nothing."""
    return f"n{port.replace('-', '')[:12]}"


def netdev(port: PortSlice, datapath: Literal["netdev", "system"]) -> dict[str, Any]:
    """The backend of a port's device: its tap, which is there already.

    The user-space datapath forwards a frame as it is, so nothing may be left to "the hardware": with
    no virtio header on the tap, QEMU offers the guest no checksum or segmentation offload at all.
    """
    return {
        "type": "tap",
        "id": device(port.id),
        "ifname": tap(port.id),
        "script": "no",
        "downscript": "no",
        "vnet_hdr": datapath == "system",
    }


def frontend(port: PortSlice) -> dict[str, Any]:
    """The guest's end of a port. `host_mtu` tells the guest the MTU (virtio 1.1, 5.1.3)."""
    return {
        "driver": "virtio-net-pci",
        "id": device(port.id),
        "netdev": device(port.id),
        "mac": port.mac,
        "host_mtu": port.mtu,
        "romfile": "",
    }


def arguments(
    server: ServerSlice,
    ports: Sequence[PortSlice],
    files: Files,
    *,
    accelerated: bool,
    datapath: Literal["netdev", "system"],
    memory: Memory | None = None,
    unplugged: Collection[str] = (),
) -> tuple[str, ...]:
    """The command that starts a server; the machine stands still until it is told to go on.

    One that arrives from another host goes on by itself when it is there. QEMU stays when the guest powers
    off, so that this can be told from a QEMU that was killed.

    Args:
        memory: what it goes on with, which it is told later; else it boots.
        unplugged: ports that are not there any more, but the guest has a device for.
    """
    slots = dict(server.arrival.slots) if server.arrival is not None else {}
    slots = dict(memory.slots) if memory is not None else slots
    machine = memory.machine if memory is not None else "pc"
    waiting = ("-incoming", "defer") if memory is not None or server.arrival is not None else ()
    # TCG's own default takes an eighth of the machine's memory for translated code, a server.
    accelerator = "kvm" if accelerated else "tcg,thread=multi,tb-size=128"
    command = [
        "qemu-system-x86_64",
        *("-name", f"guest={files.name},debug-threads=on", "-uuid", server.id),
        *("-machine", f"{machine},usb=off,vmport=off,dump-guest-core=off", "-accel", accelerator),
        # x86-64-v2, which distributions ask for; without AVX, which TCG is slow at.
        *("-cpu", "host" if accelerated else "Nehalem"),
        *("-smp", str(server.vcpus), "-m", str(server.memory_mib)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-shutdown"),
        *(("-S",) if server.arrival is None else ()),
        *waiting,
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-chardev", f"socket,id=monitor,path={_escaped(files.monitor)},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        # Appending, so that the file can be cut while QEMU writes.
        *("-chardev", f"file,id=console,path={_escaped(files.console)},append=on"),
        *("-serial", "chardev:console"),
        *("-object", "rng-random,id=random,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=random"),
    ]
    # The guest numbers its disks as they come here, and the first is the one that it boots from.
    shown = ["rescue"] if server.rescue else []
    shown += ["root"]
    shown += ["ephemeral"] if server.ephemeral_gib else []
    shown += ["swap"] if server.swap_mib else []
    for place, name in enumerate(shown, 1):
        file, form = files.disks[name]
        command += [
            *("-blockdev", f"driver=file,node-name={name}file,filename={_escaped(file)}"),
            *("-blockdev", f"driver={form},node-name={name},file={name}file,discard=unmap"),
            *("-device", f"virtio-blk-pci,id={name},drive={name},bootindex={place}{_slot(slots, name)}"),
        ]
    if server.config_drive:
        command += [
            *("-blockdev", f"driver=file,node-name=drivefile,read-only=on,filename={_escaped(files.drive)}"),
            *("-blockdev", "driver=raw,node-name=drive,file=drivefile,read-only=on"),
            *("-device", f"virtio-blk-pci,id=drive,drive=drive{_slot(slots, 'drive')}"),
        ]
    for port in ports:
        nowhere = {"type": "hubport", "id": device(port.id), "hubid": 0}
        backend = nowhere if port.id in unplugged else netdev(port, datapath)
        command += ["-netdev", _options(backend, "type")]
        command += ["-device", _options(frontend(port), "driver") + _slot(slots, device(port.id))]
    return tuple(command)


def _slot(slots: Mapping[str, int], device: str) -> str:
    """Where a device is on the PCI bus, where that is given: a guest that runs does not look again."""
    return f",addr={slots[device]:#x}" if device in slots else ""


def _options(values: dict[str, Any], first: str) -> str:
    """In the form of the command line; `first` is given without its key."""
    parts = [str(values[first])]
    for key, value in values.items():
        if key != first:
            text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
            parts.append(f"{key}={text}")
    return ",".join(parts)


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
