"""Packets that a rule of nftables logs to a group (nfnetlink_log).

Formats: linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

from trunkline.devices import namespace
from trunkline.devices.ctnetlink import attribute, message, messages, parts_of

_NETFILTER = 12  # NETLINK_NETFILTER
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE: above net.core.rmem_max, as root
_ERROR, _REQUEST, _ACK = 2, 0x1, 0x4
_PACKET, _CONFIG = 0x400, 0x401  # NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_*
_CFG_COMMAND, _CFG_MODE, _CFG_TIMEOUT = 1, 2, 4  # NFULA_CFG_*
_BIND, _COPY_PACKET = 1, 2  # NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET
_PAYLOAD, _PREFIX = 9, 10  # NFULA_*
#: As much of a packet as is asked for: its headers.
_RANGE = 128
#: So long the kernel waits for others before it tells of one, in hundredths of a second.
_TIMEOUT = 10


@dataclass(frozen=True)
class Logged:
    """A packet as it is where the rule stands: where it is forwarded, its target is translated already."""

    prefix: str
    source: str
    target: str
    #: The number of its protocol (IANA).
    protocol: int
    #: Of TCP and UDP; 0 for others.
    source_port: int = 0
    target_port: int = 0


class PacketLog:
    """Hears a group of one network namespace, alone. Owns a socket; for one thread."""

    def __init__(self, netns: str | None, group: int) -> None:
        """Raises OSError where somebody hears the group already, or the kernel has no such thing."""

        def connect() -> socket.socket:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 20)
            made.settimeout(5)
            made.bind((0, 0))
            return made

        self._socket = namespace.inside(netns, connect)
        try:
            for kind, value in (
                (_CFG_COMMAND, struct.pack("B", _BIND)),
                (_CFG_TIMEOUT, struct.pack("!I", _TIMEOUT)),
                (_CFG_MODE, struct.pack("!IBx", _RANGE, _COPY_PACKET)),
            ):
                self._configure(group, kind, value)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _configure(self, group: int, kind: int, value: bytes) -> None:
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, group) + attribute(kind, value)
        self._socket.send(message(_CONFIG, _REQUEST | _ACK, 0, body))
        # Packets of the group may come before the answer; who begins to listen has not missed them.
        while True:
            for what, _, body in messages(self._socket.recv(1 << 16)):
                if what == _ERROR:
                    if error := -struct.unpack_from("=i", body)[0]:
                        raise OSError(error, os.strerror(error))
                    return

    def fileno(self) -> int:
        """Readable when there is something."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[Logged]:
        """What was logged since. Where there was more than there is room for, some are left out."""
        found: list[Logged] = []
        while True:
            try:
                heard = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            found += [_logged(body) for kind, _, body in messages(heard) if kind == _PACKET]


def _logged(body: bytes) -> Logged:
    told = parts_of(body[4:])
    prefix = told.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
    packet = told.get(_PAYLOAD, b"")
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        header, protocol, source, target = (packet[0] & 15) * 4, packet[9], packet[12:16], packet[16:20]
    elif packet[:1] and packet[0] >> 4 == 6 and len(packet) >= 40:
        header, protocol, source, target = 40, packet[6], packet[8:24], packet[24:40]
    else:
        return Logged(prefix, "", "", 0)
    ports = packet[header : header + 4]
    two = struct.unpack("!HH", ports) if protocol in (6, 17) and len(ports) == 4 else (0, 0)
    return Logged(
        prefix, str(ipaddress.ip_address(source)), str(ipaddress.ip_address(target)), protocol, *two
    )
