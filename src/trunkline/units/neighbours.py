"""Frames that tell a leg's neighbours who has its addresses, and where they send what is for elsewhere.

Formats: RFC 826 and RFC 5227 (announcements of ARP), RFC 4861 (neighbour advertisements, 4.4; router
advertisements, 4.2, with the options of 4.6), RFC 8106 (name servers and search lists in these).
"""

from __future__ import annotations

import ipaddress
import struct

from trunkline.compiler.unit_slices import AdvertisedSlice

_ALL_NODES = ipaddress.IPv6Address("ff02::1")
#: How long hosts may go by an advertisement, seconds: the router and what it says of names, prefixes, and
#: addresses there for new connections. RFC 4861, 6.2.1, has these as defaults.
ROUTER, VALID, PREFERRED = 1800, 2_592_000, 604_800
_HOPS = 64
_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_SOURCE, _PREFIX, _MTU, _SERVERS, _SEARCH = 1, 3, 5, 25, 31


def has_v4(mac: bytes, address: ipaddress.IPv4Address) -> bytes:
    """An announcement: this interface has the address now."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed
    return (b"\xff" * 6 + mac + b"\x08\x06" + arp).ljust(60, b"\0")


def has_v6(mac: bytes, address: ipaddress.IPv6Address) -> bytes:
    """The same: it overrides what is known, and is a router's."""
    message = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + address.packed + b"\x02\x01" + mac
    return _to_all(mac, address, message)


def routes_by(mac: bytes, told: AdvertisedSlice) -> bytes:
    """A router advertisement."""
    flags = _MANAGED * told.managed | _OTHER * told.other
    message = struct.pack("!BBHBBHII", 134, 0, 0, _HOPS, flags, ROUTER, 0, 0)
    message += struct.pack("!BB", _SOURCE, 1) + mac + struct.pack("!BBHI", _MTU, 1, 0, told.mtu)
    for text, autonomous in told.prefixes:
        prefix = ipaddress.IPv6Network(text)
        flags = _ON_LINK | _AUTONOMOUS * autonomous
        message += struct.pack("!BBBBIII", _PREFIX, 4, prefix.prefixlen, flags, VALID, PREFERRED, 0)
        message += prefix.network_address.packed
    if told.name_servers:
        message += struct.pack("!BBHI", _SERVERS, 1 + 2 * len(told.name_servers), 0, ROUTER)
        message += b"".join(ipaddress.IPv6Address(server).packed for server in told.name_servers)
    if told.domain:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in told.domain.split(".")) + b"\0"
        labels = labels.ljust(-(-len(labels) // 8) * 8, b"\0")
        message += struct.pack("!BBHI", _SEARCH, 1 + len(labels) // 8, 0, ROUTER) + labels
    return _to_all(mac, ipaddress.IPv6Address(told.router), message)


def _to_all(mac: bytes, source: ipaddress.IPv6Address, message: bytes) -> bytes:
    """A message of ICMPv6 without checksum, to all nodes of the link."""
    pseudo = source.packed + _ALL_NODES.packed + struct.pack("!II", len(message), 58)
    summed = pseudo + message.ljust(-(-len(message) // 2) * 2, b"\0")
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + source.packed + _ALL_NODES.packed
    return b"\x33\x33\x00\x00\x00\x01" + mac + b"\x86\xdd" + header + message
