"""What the kernel says of an interface in this process's own network namespace (netdevice(7)).

System calls only, so that it can be asked often; what is to be changed goes through `namespace.ip`.
"""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFADDR, _SIOCGIFMTU, _SIOCGIFHWADDR = (
    0x8913,
    0x8914,
    0x8915,
    0x8921,
    0x8927,
)
_IFF_UP = 1
#: ethtool(8)'s request, and of its commands the one that reads the settings of a link (linux/ethtool.h).
_SIOCETHTOOL, _GET_SETTINGS = 0x8946, 0x00000001
#: struct ethtool_cmd: its length, and where the two halves of the speed are, Mbit/s.
_SETTINGS, _SPEED, _SPEED_HIGH = 44, 12, 28
#: What a speed is that the driver does not know, beside 0.
_UNKNOWN = (0xFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Link:
    """An interface as it is now."""

    name: str
    up: bool
    mtu: int
    mac: str
    #: Without prefix length: the first IPv4 address, and all IPv6 addresses.
    addresses: tuple[str, ...]


def names() -> set[str]:
    """The names of all interfaces."""
    return {name for _, name in socket.if_nameindex()}


def link(name: str) -> Link | None:
    """One interface; None where there is none of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def ask(request: int) -> bytes:
            return fcntl.ioctl(control, request, struct.pack("16s24x", name.encode()))

        try:
            (flags,) = struct.unpack_from("=H", ask(_SIOCGIFFLAGS), 16)
            (mtu,) = struct.unpack_from("=i", ask(_SIOCGIFMTU), 16)
            mac = ask(_SIOCGIFHWADDR)[18:24].hex(":")
        except OSError:
            return None
        try:
            addresses = [socket.inet_ntoa(ask(_SIOCGIFADDR)[20:24])]
        except OSError:
            addresses = []
    return Link(name, bool(flags & _IFF_UP), mtu, mac, (*addresses, *_ipv6(name)))


def up(*names: str) -> set[str]:
    """Those of these that are there, and up."""
    return {name for name in names if (found := link(name)) is not None and found.up}


def down(*names: str) -> None:
    """Interfaces carry nothing from now on; those that are not there do not anyway."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in names:
            try:
                now = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
                (flags,) = struct.unpack_from("=H", now, 16)
                request = struct.pack("16sH22x", name.encode(), flags & ~_IFF_UP)
                fcntl.ioctl(control, _SIOCSIFFLAGS, request)
            except OSError:
                continue


def speed(name: str) -> int | None:
    """How fast an interface is, Mbit/s; None where it, or its driver, does not say."""
    settings = array.array("B", struct.pack("=I", _GET_SETTINGS).ljust(_SETTINGS, b"\0"))
    request = struct.pack("16sP16x", name.encode(), settings.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
        except OSError:
            return None
    (low,), (high,) = (struct.unpack_from("=H", settings, at) for at in (_SPEED, _SPEED_HIGH))
    found = int(high << 16 | low)
    return None if found == 0 or found in _UNKNOWN else found


def _ipv6(name: str) -> list[str]:
    try:
        lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        return []
    fields = [line.split() for line in lines]
    return [str(ipaddress.IPv6Address(bytes.fromhex(f[0]))) for f in fields if f[5] == name]
