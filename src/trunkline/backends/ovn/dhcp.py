"""What OVN's own DHCP tells, as rows (ovn-nb(5): DHCP_Options; RFC 2132, RFC 8415)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from trunkline.backends.ovn.names import Emitted, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Dhcp, Family


def answers(view: View, key: str) -> Emitted:
    """What is told to clients, as one row."""
    yield entry("DHCP_Options", _row(view.need(Dhcp, key)))


def _row(dhcp: Dhcp) -> Row:
    options = _options4(dhcp) if dhcp.family == 4 else _options6(dhcp)
    for name, value in dhcp.options:
        if (known := _find(name, dhcp.family)) is not None:
            try:
                options[known[0]] = known[1](value)
            except ValueError:
                continue
    return {"cidr": dhcp.prefix, "options": options, "external_ids": ids(dhcp.key)}


def _options4(dhcp: Dhcp) -> dict[str, str]:
    options = {
        "server_id": dhcp.server_address,
        "server_mac": dhcp.server_mac,
        "lease_time": str(dhcp.lease_seconds),
    }
    if dhcp.router:
        options["router"] = dhcp.router
    if dhcp.mtu:
        options["mtu"] = str(dhcp.mtu)
    if dhcp.dns_servers:
        options["dns_server"] = _several(dhcp.dns_servers)
    if dhcp.domain:
        options["domain_name"] = _quoted(dhcp.domain)
    if dhcp.routes:
        pairs = ", ".join(f"{prefix},{next_hop}" for prefix, next_hop in dhcp.routes)
        options["classless_static_route"] = f"{{{pairs}}}"
    return options


def _options6(dhcp: Dhcp) -> dict[str, str]:
    options = {"server_id": dhcp.server_mac}
    if dhcp.stateless:
        options["dhcpv6_stateless"] = "true"
    if dhcp.dns_servers:
        options["dns_server"] = _several(dhcp.dns_servers)
    # OVN 23.03 writes a domain of several labels as one (RFC 3315 has them as RFC 1035 does), and clients
    # drop it: router advertisements tell it alone.
    return options


def _several(values: Iterable[str]) -> str:
    values = list(values)
    return values[0] if len(values) == 1 else f"{{{', '.join(values)}}}"


def _quoted(text: str) -> str:
    """A string in OVN's expressions, which are those of JSON. Without quotes no answer is ever sent."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("it contains control characters")
    return json.dumps(text, ensure_ascii=False)


def _addresses(address: Callable[[str], object]) -> Callable[[str], str]:
    def render(text: str) -> str:
        return _several([str(address(part.strip())) for part in text.split(",")])

    return render


def _number(low: int, high: int) -> Callable[[str], str]:
    def render(text: str) -> str:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"it must be a number from {low} to {high}")
        return str(int(text))

    return render


def _switched(text: str) -> str:
    if text.lower() not in ("0", "1", "false", "true"):
        raise ValueError("it must be 0 or 1")
    return "1" if text.lower() in ("1", "true") else "0"


def _routes(text: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) % 2:
        raise ValueError("it must be pairs of a prefix and a next hop, all separated by commas")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return "{" + ", ".join(f"{IPv4Network(prefix)},{IPv4Address(hop)}" for prefix, hop in pairs) + "}"


_ipv4, _ipv6 = _addresses(IPv4Address), _addresses(IPv6Address)
_byte, _short, _long = _number(0, 255), _number(68, 65535), _number(0, 2**32 - 1)

Known = tuple[str, Callable[[str], str]]

#: By code and by the name that the network API's clients use: OVN's name, and how to write a value.
_OPTIONS4: dict[tuple[int, str], Known] = {
    (3, "router"): ("router", _ipv4),
    (6, "dns-server"): ("dns_server", _ipv4),
    (7, "log-server"): ("log_server", _ipv4),
    (9, "lpr-server"): ("lpr_server", _ipv4),
    (12, "hostname"): ("hostname", _quoted),
    (15, "domain-name"): ("domain_name", _quoted),
    (16, "swap-server"): ("swap_server", _ipv4),
    (19, "ip-forward-enable"): ("ip_forward_enable", _switched),
    (21, "policy-filter"): ("policy_filter", _ipv4),
    (23, "default-ttl"): ("default_ttl", _byte),
    (26, "mtu"): ("mtu", _short),
    (28, "broadcast"): ("broadcast_address", _ipv4),
    (31, "router-discovery"): ("router_discovery", _switched),
    (32, "router-solicitation"): ("router_solicitation", _ipv4),
    (35, "arp-timeout"): ("arp_cache_timeout", _long),
    (36, "ethernet-encap"): ("ethernet_encap", _switched),
    (37, "tcp-ttl"): ("tcp_ttl", _byte),
    (38, "tcp-keepalive"): ("tcp_keepalive_interval", _long),
    (41, "nis-server"): ("nis_server", _ipv4),
    (42, "ntp-server"): ("ntp_server", _ipv4),
    (44, "netbios-ns"): ("netbios_name_server", _ipv4),
    (46, "netbios-nodetype"): ("netbios_node_type", _byte),
    (51, "lease-time"): ("lease_time", _long),
    (58, "T1"): ("T1", _long),
    (59, "T2"): ("T2", _long),
    # A name, even where it is written as an address (RFC 2132, section 9.4): unquoted, OVN sends 4 bytes.
    (66, "tftp-server"): ("tftp_server", _quoted),
    (67, "bootfile-name"): ("bootfile_name", _quoted),
    (119, "domain-search"): ("domain_search_list", _quoted),
    (121, "classless-static-route"): ("classless_static_route", _routes),
    (150, "tftp-server-address"): ("tftp_server_address", _ipv4),
    (210, "path-prefix"): ("path_prefix", _quoted),
    (249, "ms-classless-static-route"): ("ms_classless_static_route", _routes),
    (252, "wpad"): ("wpad", _quoted),
    (253, "server-ip-address"): ("next_server", _ipv4),
}
_OPTIONS6: dict[tuple[int, str], Known] = {
    (23, "dns-server"): ("dns_server", _ipv6),
    (24, "domain-search"): ("domain_search", _quoted),
}
_BY_NAME: dict[int, dict[str, Known]] = {
    family: {text: known for (code, name), known in table.items() for text in (name.lower(), str(code))}
    for family, table in ((4, _OPTIONS4), (6, _OPTIONS6))
}


def _find(name: str, family: Family) -> Known | None:
    return _BY_NAME[family].get(name.lower())


def unsupported_dhcp_options(options: Iterable[tuple[str, str]], family: Family) -> dict[str, str]:
    """The options that OVN cannot send, by name, each with the reason and the remedy.

    Names are those of the network API (``bootfile-name``), or option codes in decimal.
    """
    problems = {}
    for name, value in options:
        known = _find(name, family)
        if known is None:
            able = ", ".join(option for _, option in (_OPTIONS4 if family == 4 else _OPTIONS6))
            problems[name] = f"OVN's DHCPv{family} does not know the option '{name}'; it knows {able}."
            continue
        try:
            known[1](value)
        except ValueError as error:
            problems[name] = f"the value '{value}' of the option '{name}' does not fit: {error}."
    return problems
