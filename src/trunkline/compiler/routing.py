"""Routers, their ports, routes and address translations."""

from __future__ import annotations

from collections import defaultdict

from trunkline.compiler.addresses import Subnets
from trunkline.compiler.logical import Advertisement, Nat, Route, RouterPort
from trunkline.compiler.logical import Router as LogicalRouter
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import (
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    FloatingIP,
    Network,
    Port,
    Router,
)


def routers(snapshot: Snapshot) -> dict[str, LogicalRouter]:
    """One logical router for each router."""
    return {
        key: LogicalRouter(key=key, name=router.name, enabled=router.admin_state_up)
        for key, router in snapshot.all(Router).items()
    }


def legs(snapshot: Snapshot) -> dict[str, list[Port]]:
    """Router id to the ports that are its legs, in the order of their ids."""
    found: dict[str, list[Port]] = defaultdict(list)
    known = snapshot.all(Router)
    for _, port in sorted(snapshot.all(Port).items()):
        if port.device_owner in (ROUTER_INTERFACE, ROUTER_GATEWAY) and port.device_id in known:
            found[port.device_id].append(port)
    return found


def router_ports(snapshot: Snapshot, subnets: Subnets) -> dict[str, RouterPort]:
    """One router port for each leg of a router."""
    networks, known = snapshot.all(Network), snapshot.all(Router)
    result = {}
    for router_id, ports in legs(snapshot).items():
        for port in ports:
            network = networks[port.network_id]
            outside = port.device_owner == ROUTER_GATEWAY
            result[port.id] = RouterPort(
                key=port.id,
                router=router_id,
                switch=port.network_id,
                mac=port.mac_address,
                networks=tuple(
                    f"{f.ip_address}/{subnets.prefix_length(f.subnet_id)}"
                    for f in port.fixed_ips
                    if f.ip_address and f.subnet_id
                ),
                enabled=port.admin_state_up,
                advertisement=None if outside else _advertisement(port, network, subnets),
                gateway_hosts=tuple(known[router_id].gateway_hosts) if outside else (),
                mtu=network.mtu,
            )
    return result


def _advertisement(port: Port, network: Network, subnets: Subnets) -> Advertisement | None:
    modes = [
        (subnet.ipv6_ra_mode, tuple(subnet.dns_nameservers))
        for f in port.fixed_ips
        if (subnet := subnets.by_id.get(f.subnet_id or "")) is not None and subnet.ipv6_ra_mode
    ]
    if not modes:
        return None
    mode, servers = modes[0]
    assert mode in ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
    return Advertisement(mode=mode, mtu=network.mtu, dns_servers=servers)


def routes(snapshot: Snapshot, subnets: Subnets) -> dict[str, Route]:
    """The default routes by the external gateway, and the extra routes."""
    result = {}
    for router_id, ports in legs(snapshot).items():
        for port in ports:
            if port.device_owner != ROUTER_GATEWAY:
                continue
            for subnet in subnets.of_network[port.network_id]:
                if subnet.gateway_ip is None or all(f.subnet_id != subnet.id for f in port.fixed_ips):
                    continue
                key = f"{port.id}.{subnet.id}"
                result[key] = Route(
                    key=key,
                    router=router_id,
                    prefix="::/0" if subnet.ip_version == 6 else "0.0.0.0/0",
                    next_hop=subnet.gateway_ip,
                    port=port.id,
                )
    for router_id, router in snapshot.all(Router).items():
        for route in router.routes:
            key = f"{router_id}.{route.destination}.{route.nexthop}"
            result[key] = Route(key=key, router=router_id, prefix=route.destination, next_hop=route.nexthop)
    return result


def nats(snapshot: Snapshot, subnets: Subnets) -> dict[str, Nat]:
    """Source NAT for the inner IPv4 subnets of a router, and its floating addresses."""
    result = {}
    for router_id, ports in legs(snapshot).items():
        router = snapshot.all(Router)[router_id]
        gateway = next((p for p in ports if p.device_owner == ROUTER_GATEWAY), None)
        if gateway is None or not _translates(router):
            continue
        external = next(
            (f.ip_address for f in gateway.fixed_ips if f.ip_address and ":" not in f.ip_address), None
        )
        if external is None:
            continue
        for port in ports:
            for fixed in port.fixed_ips:
                subnet = subnets.by_id.get(fixed.subnet_id or "")
                if port is gateway or subnet is None or subnet.ip_version != 4:
                    continue
                key = f"{gateway.id}.{subnet.id}"
                result[key] = Nat(
                    key=key, router=router_id, type="snat", external=external, internal=subnet.cidr
                )
    for key, floating in snapshot.all(FloatingIP).items():
        if floating.router_id in snapshot.all(Router) and floating.fixed_ip_address:
            assert floating.router_id is not None
            assert floating.floating_ip_address is not None
            result[key] = Nat(
                key=key,
                router=floating.router_id,
                type="floating",
                external=floating.floating_ip_address,
                internal=floating.fixed_ip_address,
            )
    return result


def _translates(router: Router) -> bool:
    info = router.external_gateway_info
    return info is not None and info.enable_snat is not False
