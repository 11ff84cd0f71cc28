"""A dispatcher's interface to a network: its addresses come and go, and neighbours are told.

Formats: rtnetlink(7); RFC 826 and RFC 5227 (announcements of ARP), RFC 4861 (unsolicited neighbour
advertisements, 7.2.6).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable

_NEW, _DELETE = 20, 21  # RTM_NEWADDR, RTM_DELADDR
_REQUEST, _ACK, _CREATE, _REPLACE = 0x1, 0x4, 0x400, 0x100
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8  # IFA_*
#: No duplicate address detection: two have the address for a moment. No route comes and goes with it.
_NO_DAD, _NO_ROUTE = 0x02, 0x200
_HEADER = struct.Struct("=IHHII")
_ALL_NODES = ipaddress.IPv6Address("ff02::1")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class LegDevice:
    """One such interface, that is up. Owns its addresses, besides link-local ones."""

    def __init__(self, device: str) -> None:
        self._index = socket.if_nametoindex(device)
        self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._raw.bind((device, 0))
        self._mac: bytes = self._raw.getsockname()[4]
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._netlink.bind((0, 0))
        self._netlink.settimeout(2.0)

    def add(self, addresses: Iterable[str]) -> None:
        """Has these, with prefix lengths, besides others; raises OSError."""
        for address in addresses:
            self._change(_NEW, _CREATE | _REPLACE, ipaddress.ip_interface(address))

    def remove(self, addresses: Iterable[str]) -> None:
        """Has these not any more; raises OSError."""
        for address in addresses:
            self._change(_DELETE, 0, ipaddress.ip_interface(address))

    def announce(self, addresses: Iterable[str]) -> None:
        """Tells all neighbours that this interface has these now."""
        for address in addresses:
            found = ipaddress.ip_interface(address).ip
            frame = (
                _announcement(self._mac, found) if found.version == 4 else _advertisement(self._mac, found)
            )
            # What is full, or down, is told again soon.
            with contextlib.suppress(OSError):
                self._raw.send(frame)

    def _change(self, kind: int, flags: int, address: Interface) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = struct.pack("=BBBBI", family, address.network.prefixlen, 0, 0, self._index)
        for attribute, value in (
            (_LOCAL, address.ip.packed),
            (_ADDRESS, address.ip.packed),
            (_FLAGS, struct.pack("=I", _NO_DAD | _NO_ROUTE)),
        ):
            body += struct.pack("=HH", 4 + len(value), attribute) + value
        size = _HEADER.size + len(body)
        self._netlink.send(_HEADER.pack(size, kind, _REQUEST | _ACK | flags, 0, 0) + body)
        error = -int(struct.unpack_from("=i", self._netlink.recv(4096), _HEADER.size)[0])
        if error and not (kind == _DELETE and error == errno.EADDRNOTAVAIL):
            raise OSError(error, f"{address}: {os.strerror(error)}")


def _announcement(mac: bytes, address: ipaddress.IPv4Address) -> bytes:
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed
    return (b"\xff" * 6 + mac + b"\x08\x06" + arp).ljust(60, b"\0")


def _advertisement(mac: bytes, address: ipaddress.IPv6Address) -> bytes:
    """It overrides what is known, and is a router's."""
    message = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + address.packed + b"\x02\x01" + mac
    pseudo = address.packed + _ALL_NODES.packed + struct.pack("!II", len(message), 58)
    total = sum(struct.unpack(f"!{len(pseudo + message) // 2}H", pseudo + message))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + address.packed + _ALL_NODES.packed
    return b"\x33\x33\x00\x00\x00\x01" + mac + b"\x86\xdd" + header + message
