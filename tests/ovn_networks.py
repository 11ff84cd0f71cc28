"""Logical networks to translate: one with everything in it, and random small ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from trunkline.compiler.logical import (
    AddressGroup,
    Advertisement,
    Allowed,
    Dhcp,
    LogicalNetwork,
    Nat,
    Route,
    Router,
    RouterPort,
    Rule,
    RuleSet,
    Shaping,
    Switch,
    SwitchPort,
    TrafficLog,
    Uplink,
)


def by_key(*records: Any) -> dict[str, Any]:
    return {record.key: record for record in records}


def port(key: str, number: int, switch: str = "web", **more: Any) -> SwitchPort:
    """A filtered workload with one address of each family, of its own number."""
    mac = f"fa:16:3e:00:00:{number:02x}"
    addresses = (f"10.0.0.{number}", f"fd00:a::{number:x}")
    allowed = tuple(Allowed(mac=mac, prefix=address) for address in addresses)
    given = {"addresses": addresses, "allowed": allowed, "dhcp4": "web4", "dhcp6": "web6"} | more
    return SwitchPort(key=key, switch=switch, name=f"port {key}", mac=mac, **given)


def rule(key: str, direction: Any = "ingress", family: Any = 4, **more: Any) -> Rule:
    return Rule(key=key, direction=direction, family=family, **more)


def everything() -> LogicalNetwork:
    """A tenant's network behind a router, with an example of every field."""
    web_leg = RouterPort(
        key="web-leg",
        router="r",
        switch="web",
        mac="fa:16:3e:01:00:01",
        networks=("10.0.0.1/24", "fd00:a::1/64"),
        mtu=1442,
        advertisement=Advertisement(mode="dhcpv6-stateful", mtu=1442, dns_servers=("10.0.0.1", "fd00:a::53")),
    )
    outer_leg = RouterPort(
        key="outer-leg",
        router="r",
        switch="outer",
        mac="fa:16:3e:01:00:02",
        networks=("203.0.113.10/24",),
        gateway_hosts=("h2", "h1", "h3"),
    )
    rules = (
        rule("any-out", "egress"),
        rule("any-out6", "egress", 6),
        rule("ssh", protocol=6, ports=(22, 22)),
        rule("ssh-again", protocol=6, ports=(22, 22), remote_prefix="0.0.0.0/0"),
        rule("range", protocol=17, ports=(1000, 2000), remote_prefix="192.0.2.0/24"),
        rule("ping", protocol=1, icmp_type=8, icmp_code=0),
        rule("ping6", family=6, protocol=58, icmp_type=128),
        rule("own", remote_set="sg-1"),
        rule("own6", family=6, remote_set="sg-1"),
        rule("sctp", protocol=132, ports=(5000, 5001)),
        rule("gre", protocol=47),
        rule("dccp", protocol=33, ports=(5, 5)),
        rule("gone", remote_set="no-such-set"),
    )
    return LogicalNetwork(
        switches=by_key(
            Switch(key="web", name="web é\"'", mtu=1442, vlan_transparent=True),
            Switch(
                key="outer",
                name="public",
                mtu=1500,
                encapsulation=None,
                uplinks=(Uplink(physical_network="physnet1", vlan=100),),
            ),
        ),
        ports=by_key(
            port("p1", 11, host="h1", rule_sets=("sg-1", "stateless")),
            port("p2", 12, host="h2", rule_sets=("sg-1",), enabled=False),
            port("p3", 13, allowed=None, unknown=True),
            port("p4", 14, allowed=(), addresses=(), dhcp4=None, dhcp6=None),
            port(
                "p5",
                15,
                allowed=(
                    Allowed(mac="fa:16:3e:00:00:0f", prefix="10.0.0.15/32"),
                    Allowed(mac="fa:16:3e:00:00:0f", prefix="10.9.0.0/16"),
                    Allowed(mac="00:00:5e:00:01:01", prefix="10.0.0.99"),
                ),
            ),
            port("md", 2, role="metadata", allowed=None, dhcp4=None, dhcp6=None),
        ),
        routers=by_key(Router(key="r", name="edge"), Router(key="off", name="", enabled=False)),
        router_ports=by_key(web_leg, outer_leg),
        routes=by_key(
            Route(key="default", router="r", prefix="0.0.0.0/0", next_hop="203.0.113.1", port="outer-leg"),
            Route(key="more", router="r", prefix="192.168.0.0/16", next_hop="10.0.0.200"),
        ),
        nats=by_key(
            Nat(key="out", router="r", type="snat", external="203.0.113.10", internal="10.0.0.0/24"),
            Nat(
                key="fip",
                router="r",
                type="floating",
                external="203.0.113.50",
                internal="10.0.0.11",
                port="p1",
                external_mac="fa:16:3e:02:00:01",
                gateway_port="outer-leg",
            ),
            Nat(
                key="fip2",
                router="r",
                type="floating",
                external="203.0.113.51",
                internal="10.0.0.12",
                port="p2",
            ),
        ),
        rule_sets=by_key(
            RuleSet(key="sg-1", name="default", rules=rules),
            RuleSet(
                key="stateless", name="", stateful=False, rules=(rule("dns", protocol=17, ports=(53, 53)),)
            ),
            RuleSet(key="empty.set_x", name="empty"),
        ),
        dhcps=by_key(
            Dhcp(
                key="web4",
                family=4,
                prefix="10.0.0.0/24",
                server_address="10.0.0.1",
                server_mac="fa:16:3e:01:00:01",
                mtu=1442,
                router="10.0.0.1",
                dns_servers=("10.0.0.1", "10.0.0.2"),
                domain='odd"name\\.example',
                routes=(("169.254.169.254/32", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.1")),
                options=(
                    ("bootfile-name", "pxelinux.0"),
                    ("tftp-server", "boot.example"),
                    ("ntp-server", "10.0.0.3, 10.0.0.4"),
                    ("wpad", "http://w/"),
                    ("119", "a.example,b.example"),
                    ("time-travel", "yes"),
                    ("mtu", "big"),
                ),
            ),
            Dhcp(
                key="web6",
                family=6,
                prefix="fd00:a::/64",
                server_address="fe80::1",
                server_mac="fa:16:3e:01:00:01",
                dns_servers=("fd00:a::53", "fd00:a::54"),
                domain="a.example",
            ),
            Dhcp(
                key="less6",
                family=6,
                prefix="fd00:b::/64",
                server_address="fe80::1",
                server_mac="fa:16:3e:01:00:09",
                stateless=True,
                options=(("domain-search", "c.example"),),
            ),
        ),
        shapings=by_key(
            Shaping(key="p1/egress", switch="web", place="p1", direction="egress", rate_kbps=5000, dscp=46),
            Shaping(
                key="p1/ingress", switch="web", place="p1", direction="ingress", rate_kbps=9, burst_kbit=12
            ),
            Shaping(key="r/egress", switch="outer", place="outer-leg", direction="egress", rate_kbps=8000),
            Shaping(
                key="fip/ingress",
                switch="outer",
                place="outer-leg",
                direction="ingress",
                address="203.0.113.50",
                rate_kbps=800,
                burst_kbit=80,
            ),
        ),
        revision=7,
    )


@st.composite
def small_networks(draw: st.DrawFn) -> LogicalNetwork:
    """Valid networks over a handful of keys, so that two of them share much."""

    def some(*keys: str) -> list[str]:
        return [key for key in keys if draw(st.booleans())]

    flag, switches, routers, sets = st.booleans(), some("s1", "s2"), some("r1", "r2"), some("g1", "g2")
    dhcps = some("d4", "d6")
    network = LogicalNetwork(revision=draw(st.integers(1, 9)))
    for key in switches:
        uplinks = tuple(
            Uplink(physical_network=name, vlan=draw(st.none() | st.just(5))) for name in some("one", "two")
        )
        network.switches[key] = Switch(key=key, name=draw(st.sampled_from("ab")), mtu=1442, uplinks=uplinks)
    for number, key in enumerate(some("p1", "p2", "p3") if switches else [], 11):
        network.ports[key] = port(
            key,
            number,
            switch=draw(st.sampled_from(switches)),
            rule_sets=tuple(sets) if draw(flag) else (),
            enabled=draw(flag),
            host=draw(st.none() | st.just("h1")),
            unknown=draw(flag),
            community=draw(st.sampled_from([None, "", "one", "two"])),
            dhcp4="d4" if "d4" in dhcps else None,
            dhcp6="d6" if "d6" in dhcps else None,
        )
        if draw(flag):
            network.shapings[f"{key}/egress"] = Shaping(
                key=f"{key}/egress",
                switch=network.ports[key].switch,
                place=key,
                direction="egress",
                rate_kbps=draw(st.sampled_from([10, 20])),
            )
    for number, key in enumerate(some("l1", "l2") if switches and routers else [], 1):
        network.router_ports[key] = RouterPort(
            key=key,
            router=draw(st.sampled_from(routers)),
            switch=draw(st.sampled_from(switches)),
            mac=f"fa:16:3e:01:00:{number:02x}",
            networks=(f"10.0.{number}.1/24",),
            gateway_hosts=tuple(draw(st.permutations(["h1", "h2"]))) if draw(flag) else (),
            mtu=draw(st.sampled_from([1442, 1500])),
        )
    for key in routers:
        network.routers[key] = Router(key=key, name="", enabled=draw(flag))
        legs = [leg for leg in network.router_ports.values() if leg.router == key]
        if draw(flag):
            network.routes[f"route-{key}"] = Route(
                key=f"route-{key}",
                router=key,
                prefix="10.8.0.0/16",
                next_hop=draw(st.sampled_from("12")) + ".1.1.1",
            )
        if draw(flag):
            network.nats[f"nat-{key}"] = Nat(
                key=f"nat-{key}",
                router=key,
                type="snat",
                external="203.0.113.7",
                internal="10.0.1.0/24",
                gateway_port=draw(st.sampled_from([leg.key for leg in legs])) if legs else None,
            )
    for key in sets:
        network.rule_sets[key] = RuleSet(
            key=key,
            name="",
            stateful=draw(flag),
            rules=tuple(
                rule(
                    name,
                    remote_set=draw(st.sampled_from([None, *sets])),
                    remote_addresses=draw(st.sampled_from([None, "ag", "nobody"])),
                    protocol=draw(st.sampled_from([6, None])),
                )
                for name in some("x", "y")
            ),
        )
    if draw(flag):
        prefixes = tuple(draw(st.sets(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]))))
        network.address_groups["ag"] = AddressGroup(key="ag", name="", prefixes=prefixes)
    for key in some("l", "m"):
        network.logs[key] = TrafficLog(
            key=key,
            rule_sets=tuple(sets) if draw(flag) else ("nobody",),
            port=draw(st.sampled_from([None, "nobody", *network.ports])),
            accepted=draw(flag),
            dropped=draw(flag),
        )
    for key in dhcps:
        network.dhcps[key] = Dhcp(
            key=key,
            family=4 if key == "d4" else 6,
            prefix="10.0.0.0/24" if key == "d4" else "fd00:a::/64",
            server_address="10.0.0.1",
            server_mac="fa:16:3e:01:00:01",
            mtu=draw(st.sampled_from([1400, 1442])),
        )
    return network
