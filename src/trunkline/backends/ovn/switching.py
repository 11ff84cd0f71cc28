"""Switches and their ports, as rows (ovn-nb(5): Logical_Switch, Logical_Switch_Port)."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv6Address, ip_interface

from trunkline.backends.ovn import balancing, names
from trunkline.backends.ovn.names import Emitted, Member, Owner, Ref, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Dhcp, Router, RouterPort, Switch, SwitchPort, Uplink


def switch(view: View, key: str) -> Emitted:
    """A switch, with its uplinks: ovn-controller takes the one whose physical network its host has."""
    found = view.need(Switch, key)
    name = names.switch(key)
    yield entry(
        "Logical_Switch",
        {
            "name": name,
            "acls": frozenset(),
            "load_balancer": view.ask(balancing.on_switch, key),
            "other_config": {"vlan-passthru": "true"} if found.vlan_transparent else {},
            "external_ids": ids(name, name=found.name),
        },
    )
    for uplink in found.uplinks:
        yield from _plugged(key, _uplink(key, uplink))


def port(view: View, key: str) -> Emitted:
    """A workload's or a metadata service's place on a switch."""
    found = view.need(SwitchPort, key)
    if view.has(Switch, found.switch):
        yield from _plugged(found.switch, port_row(view, found))


def leg(view: View, key: str) -> Emitted:
    """The switch's end of a router port."""
    found = view.need(RouterPort, key)
    if view.has(Switch, found.switch) and view.has(Router, found.router):
        yield from _plugged(found.switch, _leg(found))


def _plugged(switch: str, row: Row) -> Emitted:
    """A port, and that it is one of a switch."""
    made = entry("Logical_Switch_Port", row)
    yield made
    yield Member(Owner("Logical_Switch", names.switch(switch), "ports"), made.ref)


def _row(name: str, **columns: object) -> Row:
    """A port, with every column that we own."""
    return {
        "name": name,
        "type": "",
        "addresses": frozenset(),
        "port_security": frozenset(),
        "enabled": None,
        "parent_name": None,
        "tag": None,
        "options": {},
        "dhcpv4_options": None,
        "dhcpv6_options": None,
        "external_ids": ids(name),
    } | columns


def _uplink(switch: str, uplink: Uplink) -> Row:
    options = {"network_name": uplink.physical_network}
    if uplink.service_tag:
        options["ethtype"] = "802.11ad"  # What 802.1ad is called in OVN 23.03.
    return _row(
        names.uplink(switch, uplink.physical_network),
        type="localnet",
        addresses=frozenset({"unknown"}),
        tag=uplink.vlan,
        options=options,
    )


def _leg(port: RouterPort) -> Row:
    options = {"router-port": names.router_port(port.key)}
    if port.gateway_hosts:
        # The gateway announces its NAT addresses when it moves to another host.
        options["nat-addresses"] = "router"
    return _row(names.router_leg(port.key), type="router", addresses=frozenset({"router"}), options=options)


def port_row(view: View, port: SwitchPort) -> Row:
    """The row of a workload, or of a metadata service."""
    addresses = {" ".join((port.mac, *port.addresses))}
    if port.unknown:
        addresses.add("unknown")
    workload = port.role == "workload"
    return _row(
        port.key,
        type="" if workload else "localport",
        addresses=frozenset(addresses),
        port_security=port_security(port),
        enabled=None if port.enabled else False,
        parent_name=port.parent,
        tag=port.vlan,
        options=_options(port) if workload else {},
        dhcpv4_options=_dhcp(view, port.dhcp4),
        dhcpv6_options=_dhcp(view, port.dhcp6),
        external_ids=ids(port.key, name=port.name),
    )


def _options(port: SwitchPort) -> dict[str, str]:
    options = {"requested-chassis": port.host} if port.host else {}
    if port.hostname:
        # Without quotes of its own, no answer of DHCP is sent at all.
        options["hostname"] = f'"{port.hostname}"'
    return options


def _dhcp(view: View, key: str | None) -> Ref | None:
    return Ref("DHCP_Options", key) if key is not None and view.has(Dhcp, key) else None


def port_security(port: SwitchPort) -> frozenset[str]:
    """One string for each MAC address that the port may send from, with its addresses and prefixes.

    A MAC address alone would allow every address, so a port that has none gets the unspecified ones,
    which nothing but its own questions (DHCP, duplicate address detection) comes from.

    The link-local address is named although OVN allows it by itself: OVN 23.03 drops advertisements of
    it (it looks for a hop limit of 225), so that nobody could resolve it again.
    """
    if port.allowed is None:
        return frozenset()
    pairs: defaultdict[str, set[str]] = defaultdict(set)
    for pair in port.allowed:
        pairs[pair.mac].add(_prefix(pair.prefix))
    if port.mac not in pairs:
        pairs[port.mac] = {"0.0.0.0", "::"}
    for mac, prefixes in pairs.items():
        if any(":" in prefix and prefix != "::" for prefix in prefixes):
            prefixes.add(_link_local(mac))
    return frozenset(" ".join((mac, *sorted(prefixes))) for mac, prefixes in pairs.items())


def _link_local(mac: str) -> str:
    """The IPv6 link-local address that follows from a MAC address (RFC 4291, appendix A)."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([parts[0] ^ 2]) + parts[1:3] + b"\xff\xfe" + parts[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _prefix(text: str) -> str:
    if "/" not in text:  # nearly all: an address, in its normal form already
        return text
    network = ip_interface(text).network
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
