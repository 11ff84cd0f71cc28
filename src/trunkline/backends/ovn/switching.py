"""Switches and their ports, as rows (ovn-nb(5): Logical_Switch, Logical_Switch_Port)."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv6Address, ip_interface

from trunkline.backends.ovn import balancing, names
from trunkline.backends.ovn.names import Ref, Row, Tables, ids
from trunkline.compiler.logical import LogicalNetwork, RouterPort, Switch, SwitchPort


def rows(network: LogicalNetwork) -> Tables:
    """Each switch with its uplink, its workloads, its metadata ports and its legs to routers."""
    ports: dict[str, Row] = {}
    members: defaultdict[str, set[Ref]] = defaultdict(set)

    def add(switch: str, row: Row) -> None:
        if switch in network.switches:
            ports[row["name"]] = row
            members[switch].add(Ref("Logical_Switch_Port", row["name"]))

    for switch in network.switches.values():
        if switch.uplink is not None:
            add(switch.key, _uplink(switch))
    for port in network.ports.values():
        add(port.switch, port_row(port, network))
    for leg in network.router_ports.values():
        if leg.router in network.routers:
            add(leg.switch, _leg(leg))
    balancers = balancing.on_switches(network)
    switches = {
        names.switch(key): _switch(one, members[key], balancers.get(key, set()))
        for key, one in network.switches.items()
    }
    return {"Logical_Switch": switches, "Logical_Switch_Port": ports}


def _switch(switch: Switch, members: set[Ref], balancers: set[Ref]) -> Row:
    name = names.switch(switch.key)
    return {
        "name": name,
        "ports": frozenset(members),
        "acls": frozenset(),
        "load_balancer": frozenset(balancers),
        "other_config": {"vlan-passthru": "true"} if switch.vlan_transparent else {},
        "external_ids": ids(name, name=switch.name),
    }


def _row(name: str, **columns: object) -> Row:
    """A port, with every column that we own."""
    return {
        "name": name,
        "type": "",
        "addresses": frozenset(),
        "port_security": frozenset(),
        "enabled": None,
        "tag": None,
        "options": {},
        "dhcpv4_options": None,
        "dhcpv6_options": None,
        "external_ids": ids(name),
    } | columns


def _uplink(switch: Switch) -> Row:
    assert switch.uplink is not None
    return _row(
        names.uplink(switch.key),
        type="localnet",
        addresses=frozenset({"unknown"}),
        tag=switch.uplink.vlan,
        options={"network_name": switch.uplink.physical_network},
    )


def _leg(port: RouterPort) -> Row:
    options = {"router-port": names.router_port(port.key)}
    if port.gateway_hosts:
        # The gateway announces its NAT addresses when it moves to another host.
        options["nat-addresses"] = "router"
    return _row(names.router_leg(port.key), type="router", addresses=frozenset({"router"}), options=options)


def port_row(port: SwitchPort, network: LogicalNetwork) -> Row:
    """A workload's or a metadata service's place on a switch."""
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
        options={"requested-chassis": port.host} if workload and port.host else {},
        dhcpv4_options=_dhcp(port.dhcp4, network),
        dhcpv6_options=_dhcp(port.dhcp6, network),
        external_ids=ids(port.key, name=port.name),
    )


def _dhcp(key: str | None, network: LogicalNetwork) -> Ref | None:
    return Ref("DHCP_Options", key) if key in network.dhcps and key is not None else None


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
