"""What our rows are called, and how they refer to each other.

Every row of ours carries its key in ``external_ids:trunkline:key``. In the tables whose rows have
a name the key is the name, so that a row that lost its mark is known again.

    Switch k        ls-k                    SwitchPort k    k (the iface-id on the host)
    its uplink to p ln-k-p                  RouterPort k    lrp-k, and lsp-lrp-k on the switch
    Router k        lr-k                    RuleSet k       rs_k, escaped
    community c of a switch k  pv_k_c       AddressGroup k  ag_k_ip4, ag_k_ip6, escaped
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MARK = "trunkline:key"
_OURS = "trunkline:"

#: A row as it should be: columns, where a `Ref` stands for the UUID of another row of ours.
Row = dict[str, Any]
#: Rows by key.
Rows = dict[str, Row]
#: Rows by table.
Tables = dict[str, Rows]

#: The tables that hold rows of ours, each with the columns that we write and watch.
OWNED: dict[str, tuple[str, ...]] = {
    "Logical_Switch": (
        "name",
        "ports",
        "acls",
        "qos_rules",
        "load_balancer",
        "other_config",
        "external_ids",
    ),
    "Logical_Switch_Port": (
        "name",
        "type",
        "addresses",
        "port_security",
        "enabled",
        "parent_name",
        "tag",
        "options",
        "dhcpv4_options",
        "dhcpv6_options",
        "external_ids",
    ),
    "Logical_Router": (
        "name",
        "enabled",
        "options",
        "ports",
        "static_routes",
        "policies",
        "nat",
        "load_balancer",
        "external_ids",
    ),
    "Logical_Router_Port": (
        "name",
        "mac",
        "networks",
        "enabled",
        "options",
        "gateway_chassis",
        "ipv6_ra_configs",
        "external_ids",
    ),
    "Logical_Router_Policy": ("priority", "match", "action", "nexthops", "external_ids"),
    "Gateway_Chassis": ("name", "chassis_name", "priority", "external_ids"),
    "Logical_Router_Static_Route": ("ip_prefix", "nexthop", "output_port", "bfd", "external_ids"),
    "BFD": ("logical_port", "dst_ip", "external_ids"),
    "NAT": (
        "type",
        "external_ip",
        "logical_ip",
        "logical_port",
        "external_mac",
        "gateway_port",
        "options",
        "external_ids",
    ),
    "Load_Balancer": ("name", "protocol", "vips", "options", "external_ids"),
    "Port_Group": ("name", "ports", "acls", "external_ids"),
    "ACL": (
        "direction",
        "priority",
        "action",
        "match",
        "log",
        "name",
        "severity",
        "meter",
        "external_ids",
    ),
    "Meter": ("name", "unit", "bands", "fair", "external_ids"),
    "Meter_Band": ("action", "rate", "burst_size", "external_ids"),
    "QoS": ("direction", "priority", "match", "bandwidth", "action", "external_ids"),
    "Address_Set": ("name", "addresses", "external_ids"),
    "DHCP_Options": ("cidr", "options", "external_ids"),
}
#: Those whose rows are named by their key.
NAMED = frozenset(
    {
        "Logical_Switch",
        "Logical_Switch_Port",
        "Logical_Router",
        "Logical_Router_Port",
        "Gateway_Chassis",
        "Port_Group",
        "Address_Set",
        "Meter",
    }
)
#: The columns whose members go when their row goes (strong references to tables without roots).
CHILDREN: dict[str, tuple[str, ...]] = {
    "Logical_Switch": ("ports", "acls", "qos_rules"),
    "Logical_Router": ("ports", "static_routes", "policies", "nat"),
    "Logical_Router_Port": ("gateway_chassis",),
    "Port_Group": ("acls",),
    "Meter": ("bands",),
}

#: The columns whose members come from many derivations (`Member`), each with the table that they are of.
GATHERED: dict[str, dict[str, str]] = {
    "Logical_Switch": {"ports": "Logical_Switch_Port", "qos_rules": "QoS"},
    "Logical_Router": {
        "ports": "Logical_Router_Port",
        "static_routes": "Logical_Router_Static_Route",
        "policies": "Logical_Router_Policy",
        "nat": "NAT",
    },
    "Port_Group": {"ports": "Logical_Switch_Port"},
}

#: The group of all ports whose traffic is filtered.
FILTERED = "trunkline_filtered"
#: The addresses of all DHCP servers for IPv4.
DHCP_SERVERS = "trunkline_dhcp4"


class Ref(NamedTuple):
    """A row of ours, in whatever database it will be."""

    table: str
    key: str


class Entry(NamedTuple):
    """A row that should be there, without the columns that are gathered."""

    ref: Ref
    row: Row


class Owner(NamedTuple):
    """A column of a row of ours that is gathered."""

    table: str
    key: str
    column: str

    @property
    def children(self) -> str:
        """The table that the members are of."""
        return GATHERED[self.table][self.column]


class Member(NamedTuple):
    """A row that is to be among the members of another, if that one is there."""

    owner: Owner
    child: Ref


#: What the functions of one record give, which translate it.
Emitted = Iterator[Entry | Member]


class Once:
    """The class of the one source that is always there: for rows that hang on no record."""


def entry(table: str, row: Row) -> Entry:
    """A row that is marked with its key."""
    return Entry(Ref(table, row["external_ids"][MARK]), row)


def ids(key: str, **more: str) -> dict[str, str]:
    """The external_ids of our row `key`; `more` is for people who read the database."""
    return {MARK: key, **{_OURS + name: value for name, value in more.items() if value}}


def is_ours(external_id: str) -> bool:
    """Whether a key of external_ids is one that we write."""
    return external_id.startswith(_OURS)


def switch(key: str) -> str:
    return f"ls-{key}"


def uplink(switch: str, physical_network: str) -> str:
    return f"ln-{switch}-{physical_network}"


def router(key: str) -> str:
    return f"lr-{key}"


def router_port(key: str) -> str:
    return f"lrp-{key}"


def router_leg(key: str) -> str:
    """The switch's end of a router port."""
    return f"lsp-lrp-{key}"


def redirect(key: str) -> str:
    """The southbound port that tells where a gateway router port is (type chassisredirect)."""
    return f"cr-lrp-{key}"


def gateway(router_port: str, host: str) -> str:
    return f"gc-{router_port}-{host}"


def port_group(rule_set: str) -> str:
    """Of a rule set. Names of groups match ``[a-zA-Z_.][a-zA-Z_.0-9]*``; different keys differ here too."""
    return "rs_" + re.sub(r"[^a-zA-Z0-9-]", _escaped, rule_set).replace("-", "_")


def community(switch: str, community: str) -> str:
    """The group of the ports of a community of a switch; with "", of those that are isolated."""
    # No community begins with a digit.
    return f"pv_{re.sub(r'[^a-zA-Z0-9-]', _escaped, switch).replace('-', '_')}_{community or '0'}"


def address_set(address_group: str, family: int) -> str:
    """Of the prefixes of an address group that are of a family."""
    return f"ag_{re.sub(r'[^a-zA-Z0-9-]', _escaped, address_group).replace('-', '_')}_ip{family}"


def _escaped(character: re.Match[str]) -> str:
    return f".{ord(character.group()):x}."
