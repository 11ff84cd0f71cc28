"""Hosts behind VLAN tags: what a workload with VLANs inside does, where the kernel has none.

The VLAN's interface is a tap device with the name eth0 in a namespace of its own. What comes out of it
goes through the parent's eth0 with the tag, and what comes there with the tag goes into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probes import Probe
from tenants import Net, Tenant

from trunkline.devices import namespace

#: linux/if_tun.h, linux/if_packet.h.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_SOL_PACKET, _PACKET_AUXDATA, _TP_STATUS_VLAN_VALID = 263, 8, 0x10


class VlanProbe(Probe):
    """A sub-port of a trunk, as the host that its parent's workload has behind the tag."""

    def __init__(self, parent: Probe, port: Any, vlan: int, net: Net, netns: str, folder: Path) -> None:
        super().__init__(netns, port, {subnet.id: subnet for subnet in net.subnets}, folder)
        self.vlan = vlan
        self._parent = parent
        self._ends: list[int] = []
        namespace.create(netns)
        self._tap = namespace.inside(netns, _open_tap)
        self.ip(f"link set dev eth0 address {self.mac} mtu {net.mtu} up")
        self.plug(parent)

    def plug(self, parent: Probe) -> None:
        """Goes through that parent's interface from now on."""
        self.unplug()
        wire = parent.frames()
        wake, self._wake = os.pipe()
        self._pump = threading.Thread(target=self._run, args=(wire, wake), daemon=True)
        self._pump.start()

    def unplug(self) -> None:
        """Goes through no interface any more."""
        if hasattr(self, "_pump"):
            os.close(self._wake)
            self._pump.join()
            del self._pump

    def close(self) -> None:
        """Is no more."""
        self.unplug()
        os.close(self._tap)
        namespace.delete(self.netns)

    def _run(self, wire: socket.socket, wake: int) -> None:
        tag = struct.pack("!HH", 0x8100, self.vlan)
        with wire, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([self._tap, wire, wake], [], [])
                if wake in ready:
                    break
                if self._tap in ready:
                    frame = os.read(self._tap, 65536)
                    wire.send(frame[:12] + tag + frame[12:])
                if wire in ready and (frame := self._untagged(wire)):
                    os.write(self._tap, frame)
        os.close(wake)

    def _untagged(self, wire: socket.socket) -> bytes:
        """A frame of the VLAN without its tag, which the kernel has taken out (packet(7))."""
        frame, beside, _, source = wire.recvmsg(65536, 256)
        if source[2] == socket.PACKET_OUTGOING:
            return b""
        tags = [data for level, kind, data in beside if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA)]
        status, tag, _ = struct.unpack("=I12xHH", tags[0]) if tags else (0, 0, 0)
        return frame if status & _TP_STATUS_VLAN_VALID and tag & 0xFFF == self.vlan else b""


def _open_tap() -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _IFF_TAP | _IFF_NO_PI))
    return tap


@contextlib.contextmanager
def behind(
    tenant: Tenant, parent: Probe, port: Any, vlan: int, net: Net, folder: Path
) -> Iterator[VlanProbe]:
    """A port as a host behind a tag of a parent's workload, without addresses yet."""
    made = VlanProbe(parent, port, vlan, net, tenant.cloud.namespace(f"v-{port.id[:8]}"), folder)
    try:
        yield made
    finally:
        made.close()
