"""Rule sets as port groups and access control lists (ovn-nb(5): Port_Group, ACL).

A port that is filtered is in one group that drops every IP packet of it, and in the group of
each of its rule sets, which let packets through. Priorities, the highest wins:

    2000  what a filtered port never sends: a DHCP server's messages
    1008  what it may always send: a DHCP client's messages
    1006  rules of stateless sets
    1004  rules of stateful sets
    1001  every other IP packet is dropped

A list that writes to the log in place of another one is of the next higher priority (`logging`).

Rules only allow, so that it makes no difference which of two with the same priority OVN takes.
Fragments are matched one by one where the datapath does not put them together (Open vSwitch's in user
space), so a rule that looks at ports has a second list for the fragments that have none.

Neighbour discovery and router advertisements pass OVN's access control lists whatever they say:
the hosts filter them at the port.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from trunkline.backends.ovn import logging, names
from trunkline.backends.ovn.names import (
    DHCP_SERVERS,
    FILTERED,
    Emitted,
    Member,
    Owner,
    Ref,
    Row,
    Rows,
    entry,
    ids,
)
from trunkline.compiler.derive import View
from trunkline.compiler.logical import AddressGroup, Dhcp, Direction, Rule, RuleSet, Switch, SwitchPort

_NEVER, _ALWAYS, _STATELESS, _STATEFUL, _REST = 2000, 1008, 1006, 1004, 1001
_FILTERED = f"@{FILTERED}"
#: IANA numbers of the protocols that OVN's matches have names for, with ports (ovn-sb(5)).
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
#: Those that have ports, which OVN cannot match.
_OPAQUE = {33: "DCCP", 136: "UDP-Lite"}
_ICMP = {4: (1, "icmp4"), 6: (58, "icmp6")}


def always(view: View, key: str) -> Emitted:
    """The group of all ports that are filtered, with what holds for each of them."""
    yield from _group(FILTERED, "", _always() | _port_drops(view))


def dhcp_servers(view: View, key: str) -> Emitted:
    """The addresses of all DHCP servers for IPv4."""
    servers = {dhcp.server_address for dhcp in view.where(Dhcp, "family", 4)}
    yield entry("Address_Set", _address_set(DHCP_SERVERS, "", servers))


def group(view: View, key: str) -> Emitted:
    """The group of the ports that a rule set filters, with its lists."""
    found = view.need(RuleSet, key)
    yield from _group(names.port_group(key), found.name, _rules(view, found))


def memberships(view: View, key: str) -> Emitted:
    """The groups that a port is in."""
    port = view.need(SwitchPort, key)
    if port.allowed is not None and view.has(Switch, port.switch):
        for name in (FILTERED, *map(names.port_group, port.rule_sets)):
            yield Member(Owner("Port_Group", name, "ports"), Ref("Logical_Switch_Port", key))


def address_sets(view: View, key: str) -> Emitted:
    """The prefixes of an address group, a set for each family: a match is of one of them."""
    found = view.need(AddressGroup, key)
    for family in (4, 6):
        name = names.address_set(key, family)
        prefixes = {prefix for prefix in found.prefixes if (":" in prefix) == (family == 6)}
        yield entry("Address_Set", _address_set(name, found.name, prefixes))


def _address_set(name: str, label: str, addresses: AbstractSet[str]) -> Row:
    return {"name": name, "addresses": frozenset(addresses), "external_ids": ids(name, name=label)}


def _group(name: str, label: str, acls: Rows) -> Emitted:
    lists = [entry("ACL", row) for row in acls.values()]
    yield from lists
    row = {"name": name, "acls": frozenset(each.ref for each in lists)}
    yield entry("Port_Group", {**row, "external_ids": ids(name, name=label)})


def _acl(
    key: str, direction: Direction, priority: int, action: str, ports: str, match: str, log: str = ""
) -> Row:
    """A list of a group's ports (``@group``) or of one (``"port"``); with `log`, its name in the log."""
    side, lport = ("outport", "to-lport") if direction == "ingress" else ("inport", "from-lport")
    return {
        "direction": lport,
        "priority": priority,
        "action": action,
        "match": f"{side} == {ports} && {match}",
        **(logging.written_as(log) if log else logging.SILENT),
        "external_ids": ids(key),
    }


def _always() -> Rows:
    """What holds for every port that is filtered."""
    lists: tuple[tuple[str, Direction, int, str, str], ...] = (
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
    allowed = {key: _acl(key, way, rank, action, _FILTERED, match) for key, way, rank, action, match in lists}
    return allowed | _drops(_FILTERED)


def _drops(ports: str, prefix: str = "", log: str = "", more: int = 0) -> Rows:
    """What drops the packets of ports; as much higher as is said, where it writes them to the log."""
    lists: tuple[tuple[str, Direction, int, str], ...] = (
        ("drop-in", "ingress", _REST, "ip"),
        ("drop-out", "egress", _REST, "ip"),
        ("dhcp4-server", "egress", _NEVER, "ip4 && udp.src == 67 && udp.dst == 68"),
        ("dhcp6-server", "egress", _NEVER, "ip6 && udp.src == 547 && udp.dst == 546"),
    )
    return {
        prefix + key: _acl(prefix + key, way, rank + more, "drop", ports, match, log)
        for key, way, rank, match in lists
    }


def _port_drops(view: View) -> Rows:
    """What drops in the place of the group's lists, and writes it to the log."""
    rows: Rows = {}
    for port in logging.dropped_ports(view):
        rows |= _drops(f'"{port}"', f"log/{port}/", f"port/{port}", 2)
    return rows


def _rules(view: View, rule_set: RuleSet) -> Rows:
    logged = logging.of_rule_set(view, rule_set.key)
    group = f"@{names.port_group(rule_set.key)}"
    action, priority = ("allow-related", _STATEFUL) if rule_set.stateful else ("allow-stateless", _STATELESS)
    rows = _drops(group, f"log/{rule_set.key}/", f"group/{rule_set.key}", 1) if logged.dropped else {}
    seen: set[tuple[Direction, str]] = set()
    for rule in sorted(rule_set.rules, key=lambda rule: rule.key):
        key = f"{rule_set.key}/{rule.key}"
        for name, text in ((key, match(view, rule)), (f"{key}/fragments", fragments(view, rule))):
            # The same match twice in one group is an error to OVN.
            if text is not None and (rule.direction, text) not in seen:
                seen.add((rule.direction, text))
                log = f"rule/{rule.key}"
                rows[name] = _acl(
                    name, rule.direction, priority, action, group, text, log if logged.accepted else ""
                )
                for port in logged.accepted_ports:
                    own = f"log/{port}/{name}"
                    rows[own] = _acl(own, rule.direction, priority + 1, action, f'"{port}"', text, log)
    return rows


def unsupported_rule(rule: Rule) -> str:
    """Why OVN cannot enforce a rule, or "". Such a rule lets nothing pass."""
    if rule.ports is not None and rule.protocol not in _WITH_PORTS:
        protocol = _OPAQUE.get(rule.protocol or 0, f"protocol {rule.protocol}")
        return f"OVN cannot match ports of {protocol}; leave the ports out, or use TCP, UDP or SCTP."
    return ""


def match(view: View, rule: Rule) -> str | None:
    """What a rule lets pass, in OVN's expression language (ovn-sb(5), Logical_Flow), without the port.

    None where it lets nothing pass.
    """
    if unsupported_rule(rule) or _unknown_set(view, rule):
        return None
    return " && ".join([f"ip{rule.family}", *_remote(view, rule), *_protocol(rule)])


def fragments(view: View, rule: Rule) -> str | None:
    """What lets pass the later fragments of what a rule lets pass; None where its own match does.

    They have neither ports nor a type, and in IPv6 Open vSwitch knows their protocol as 44. More than the
    rule says gets through by it, but nothing that the other side can put together: the first fragments
    have to obey the rule (RFC 1858, section 2).
    """
    narrow = rule.ports is not None or rule.icmp_type is not None
    if unsupported_rule(rule) or _unknown_set(view, rule):
        return None
    if rule.protocol is None or not (narrow or rule.family == 6):
        return None
    protocol = [f"ip.proto == {rule.protocol}"] if rule.family == 4 else []
    return " && ".join([f"ip{rule.family}", *_remote(view, rule), *protocol, "ip.later_frag"])


def _unknown_set(view: View, rule: Rule) -> bool:
    return (rule.remote_set is not None and not view.has(RuleSet, rule.remote_set)) or (
        rule.remote_addresses is not None and not view.has(AddressGroup, rule.remote_addresses)
    )


def _remote(view: View, rule: Rule) -> list[str]:
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
