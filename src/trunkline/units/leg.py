"""A dispatcher's interface to a network: its addresses come and go, and neighbours are told.

Format: rtnetlink(7). `units.neighbours` has what neighbours are told.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable

from trunkline.compiler.unit_slices import AdvertisedSlice
from trunkline.units.neighbours import has_v4, has_v6, routes_by

_NEW, _DELETE = 20, 21  # RTM_NEWADDR, RTM_DELADDR
_REQUEST, _ACK, _CREATE, _REPLACE = 0x1, 0x4, 0x400, 0x100
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8  # IFA_*
#: No duplicate address detection: two have the address for a moment. No route comes and goes with it.
_NO_DAD, _NO_ROUTE = 0x02, 0x200
_HEADER = struct.Struct("=IHHII")

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
            self._send(has_v4(self._mac, found) if found.version == 4 else has_v6(self._mac, found))

    def advertise(self, told: AdvertisedSlice) -> None:
        """Tells all hosts that they reach others by this interface."""
        self._send(routes_by(self._mac, told))

    def _send(self, frame: bytes) -> None:
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
