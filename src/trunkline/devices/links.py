"""What the kernel says of an interface in this process's own network namespace (netdevice(7)).

System calls only, so that it can be asked often; what is to be changed goes through `namespace.ip`.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8913, 0x8915, 0x8921, 0x8927
_IFF_UP = 1


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


def _ipv6(name: str) -> list[str]:
    try:
        lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        return []
    fields = [line.split() for line in lines]
    return [str(ipaddress.IPv6Address(bytes.fromhex(f[0]))) for f in fields if f[5] == name]
