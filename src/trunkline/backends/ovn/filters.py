"""Rule sets as port groups and access control lists (ovn-nb(5): Port_Group, ACL).

A port that is filtered is in one group that drops every IP packet of it, and in the group of
each of its rule sets, which let packets through. Priorities, the highest wins:

    2000  what a filtered port never sends: a DHCP server's messages
    1004  what it may always send: a DHCP client's messages
    1003  rules of stateless sets
    1002  rules of stateful sets
    1001  every other IP packet is dropped

Rules only allow, so that it makes no difference which of two with the same priority OVN takes.
Fragments are matched one by one where the datapath does not put them together (Open vSwitch's in user
space), so a rule that looks at ports has a second list for the fragments that have none.

Neighbour discovery and router advertisements pass OVN's access control lists whatever they say:
the hosts filter them at the port.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from trunkline.backends.ovn import names
from trunkline.backends.ovn.names import DHCP_SERVERS, FILTERED, Ref, Row, Rows, Tables, ids
from trunkline.compiler.logical import AddressGroup, Direction, LogicalNetwork, Rule, RuleSet, SwitchPort

_NEVER, _ALWAYS, _STATELESS, _STATEFUL, _REST = 2000, 1004, 1003, 1002, 1001
#: IANA numbers of the protocols that OVN's matches have names for, with ports (ovn-sb(5)).
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
#: Those that have ports, which OVN cannot match.
_OPAQUE = {33: "DCCP", 136: "UDP-Lite"}
_ICMP = {4: (1, "icmp4"), 6: (58, "icmp6")}


def rows(network: LogicalNetwork) -> Tables:
    """The groups with their lists, and the sets of addresses that matches refer to."""
    ports: defaultdict[str, set[Ref]] = defaultdict(set)
    for port in network.ports.values():
        if port.switch in network.switches:
            for group in groups_of(port):
                ports[group].add(Ref("Logical_Switch_Port", port.key))
    acls = _always()
    groups = {FILTERED: _group(FILTERED, "", ports[FILTERED], acls)}
    for rule_set in network.rule_sets.values():
        name, own = names.port_group(rule_set.key), _rules(rule_set, network)
        groups[name] = _group(name, rule_set.name, ports[name], own)
        acls |= own
    servers = frozenset(dhcp.server_address for dhcp in network.dhcps.values() if dhcp.family == 4)
    sets: Rows = {DHCP_SERVERS: _address_set(DHCP_SERVERS, "", servers)}
    for one in network.address_groups.values():
        sets |= _address_sets(one)
    return {"Port_Group": groups, "ACL": acls, "Address_Set": sets}


def _address_sets(group: AddressGroup) -> Rows:
    """One for each family: a match is of one of them."""
    rows: Rows = {}
    for family in (4, 6):
        name = names.address_set(group.key, family)
        rows[name] = _address_set(
            name, group.name, {p for p in group.prefixes if (":" in p) == (family == 6)}
        )
    return rows


def _address_set(name: str, label: str, addresses: AbstractSet[str]) -> Row:
    return {"name": name, "addresses": frozenset(addresses), "external_ids": ids(name, name=label)}


def groups_of(port: SwitchPort) -> Iterator[str]:
    """The names of the groups that a port is in."""
    if port.allowed is not None:
        yield FILTERED
        yield from (names.port_group(key) for key in port.rule_sets)


def _group(name: str, label: str, ports: set[Ref], acls: Rows) -> Row:
    return {
        "name": name,
        "ports": frozenset(ports),
        "acls": frozenset(Ref("ACL", key) for key in acls),
        "external_ids": ids(name, name=label),
    }


def _acl(key: str, direction: Direction, priority: int, action: str, group: str, match: str) -> Row:
    side, lport = ("outport", "to-lport") if direction == "ingress" else ("inport", "from-lport")
    return {
        "direction": lport,
        "priority": priority,
        "action": action,
        "match": f"{side} == @{group} && {match}",
        "log": False,
        "external_ids": ids(key),
    }


def _always() -> Rows:
    """What holds for every port that is filtered."""
    lists: tuple[tuple[str, Direction, int, str, str], ...] = (
        ("drop-in", "ingress", _REST, "drop", "ip"),
        ("drop-out", "egress", _REST, "drop", "ip"),
        ("dhcp4-server", "egress", _NEVER, "drop", "ip4 && udp.src == 67 && udp.dst == 68"),
        ("dhcp6-server", "egress", _NEVER, "drop", "ip6 && udp.src == 547 && udp.dst == 546"),
        (
            "dhcp4-client",
            "egress",
            _ALWAYS,
            "allow",
            f"ip4.dst == {{255.255.255.255, ${DHCP_SERVERS}}} && udp.src == 68 && udp.dst == 67",
        ),
        (
            "dhcp6-client",
            "egress",
            _ALWAYS,
            "allow",
            "ip6.dst == ff02::1:2 && udp.src == 546 && udp.dst == 547",
        ),
    )
    return {key: _acl(key, way, rank, action, FILTERED, match) for key, way, rank, action, match in lists}


def _rules(rule_set: RuleSet, network: LogicalNetwork) -> Rows:
    group = names.port_group(rule_set.key)
    action, priority = ("allow-related", _STATEFUL) if rule_set.stateful else ("allow-stateless", _STATELESS)
    rows: Rows = {}
    seen: set[tuple[Direction, str]] = set()
    for rule in sorted(rule_set.rules, key=lambda rule: rule.key):
        key = f"{rule_set.key}/{rule.key}"
        for name, text in ((key, match(rule, network)), (f"{key}/fragments", fragments(rule, network))):
            # The same match twice in one group is an error to OVN.
            if text is not None and (rule.direction, text) not in seen:
                seen.add((rule.direction, text))
                rows[name] = _acl(name, rule.direction, priority, action, group, text)
    return rows


def unsupported_rule(rule: Rule) -> str:
    """Why OVN cannot enforce a rule, or "". Such a rule lets nothing pass."""
    if rule.ports is not None and rule.protocol not in _WITH_PORTS:
        protocol = _OPAQUE.get(rule.protocol or 0, f"protocol {rule.protocol}")
        return f"OVN cannot match ports of {protocol}; leave the ports out, or use TCP, UDP or SCTP."
    return ""


def match(rule: Rule, network: LogicalNetwork) -> str | None:
    """What a rule lets pass, in OVN's expression language (ovn-sb(5), Logical_Flow), without the port.

    None where it lets nothing pass.
    """
    if unsupported_rule(rule) or _unknown_set(rule, network):
        return None
    return " && ".join([f"ip{rule.family}", *_remote(rule, network), *_protocol(rule)])


def fragments(rule: Rule, network: LogicalNetwork) -> str | None:
    """What lets pass the later fragments of what a rule lets pass; None where its own match does.

    They have neither ports nor a type, and in IPv6 Open vSwitch knows their protocol as 44. More than the
    rule says gets through by it, but nothing that the other side can put together: the first fragments
    have to obey the rule (RFC 1858, section 2).
    """
    narrow = rule.ports is not None or rule.icmp_type is not None
    if unsupported_rule(rule) or _unknown_set(rule, network):
        return None
    if rule.protocol is None or not (narrow or rule.family == 6):
        return None
    protocol = [f"ip.proto == {rule.protocol}"] if rule.family == 4 else []
    return " && ".join([f"ip{rule.family}", *_remote(rule, network), *protocol, "ip.later_frag"])


def _unknown_set(rule: Rule, network: LogicalNetwork) -> bool:
    return (rule.remote_set is not None and rule.remote_set not in network.rule_sets) or (
        rule.remote_addresses is not None and rule.remote_addresses not in network.address_groups
    )


def _remote(rule: Rule, network: LogicalNetwork) -> list[str]:
    field = f"ip{rule.family}.{'src' if rule.direction == 'ingress' else 'dst'}"
    if rule.remote_set is not None:
        return [f"{field} == ${names.port_group(rule.remote_set)}_ip{rule.family}"]
    if rule.remote_addresses is not None:
        return [f"{field} == ${names.address_set(rule.remote_addresses, rule.family)}"]
    if rule.remote_prefix is not None and not rule.remote_prefix.endswith("/0"):
        return [f"{field} == {rule.remote_prefix}"]
    return []


def _protocol(rule: Rule) -> list[str]:
    number, icmp = _ICMP[rule.family]
    if rule.protocol is None:
        return []
    if rule.protocol == number:
        kind = [f"{icmp}.type == {rule.icmp_type}"] if rule.icmp_type is not None else []
        code = [f"{icmp}.code == {rule.icmp_code}"] if rule.icmp_code is not None else []
        return [icmp, *kind, *code]
    name = _WITH_PORTS.get(rule.protocol)
    if name is None:
        return [f"ip.proto == {rule.protocol}"]
    if rule.ports is None:
        return [name]
    first, last = rule.ports
    if first == last:
        return [f"{name}.dst == {first}"]
    return [f"{name}.dst >= {first}", f"{name}.dst <= {last}"]
