"""Routers, their ports, routes and address translations."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.addresses import name_servers
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Advertisement, Forwarding, Nat, Route, RouterPort
from trunkline.compiler.logical import Router as LogicalRouter
from trunkline.compiler.names import domain
from trunkline.resources.network import (
    FIREWALL_LEG,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    FirewallSite,
    FixedIp,
    FloatingIP,
    Network,
    Port,
    PortForwarding,
    Router,
    Subnet,
    SubnetPool,
    gateways_of,
)
from trunkline.resources.region import Host


def scope_of(view: View, subnet_id: str) -> str:
    """The id of the address scope of a subnet, "" for none."""
    subnet = view.get(Subnet, subnet_id)
    pool = None if subnet is None else view.get(SubnetPool, subnet.subnetpool_id)
    return (pool.address_scope_id if pool is not None else None) or ""


def router(view: View, key: str) -> Iterator[LogicalRouter]:
    """The logical router of a router."""
    found = view.need(Router, key)
    yield LogicalRouter(key=key, name=found.name, enabled=found.admin_state_up)


def leg_of(port: Port) -> Iterator[str]:
    """The id of the router that a port is a leg of."""
    if port.device_owner in (ROUTER_INTERFACE, ROUTER_GATEWAY, FIREWALL_LEG):
        yield port.device_id


def router_port(view: View, key: str) -> Iterator[RouterPort]:
    """The leg of a router that a port is."""
    port = view.need(Port, key)
    for router_id in leg_of(port):
        found = view.get(Router, router_id)
        if found is None:
            continue
        network = view.need(Network, port.network_id)
        outside = port.device_owner == ROUTER_GATEWAY
        yield RouterPort(
            key=key,
            router=router_id,
            switch=port.network_id,
            mac=port.mac_address,
            networks=tuple(_address(view, f) for f in port.fixed_ips if f.ip_address and f.subnet_id),
            enabled=port.admin_state_up,
            advertisement=None if outside else _advertisement(view, port, network),
            gateway_hosts=_hosts(found, key) if outside else (),
            mtu=network.mtu,
        )


def _hosts(router: Router, port: str) -> tuple[str, ...]:
    """The hosts that may carry a gateway."""
    return next((tuple(g.hosts) for g in gateways_of(router) if g.port_id == port), ())


def _address(view: View, fixed: FixedIp) -> str:
    """An address with the prefix length of its subnet."""
    subnet = view.need(Subnet, fixed.subnet_id or "")
    return f"{fixed.ip_address}/{subnet.cidr.rpartition('/')[2]}"


def _advertisement(view: View, port: Port, network: Network) -> Advertisement | None:
    for subnet in _subnets(view, port):
        if mode := subnet.ipv6_ra_mode:
            return Advertisement(
                mode=mode,
                mtu=network.mtu,
                dns_servers=view.ask(name_servers, subnet.id),
                domain=view.ask(domain, network.id),
            )
    return None


def _subnets(view: View, port: Port) -> Iterator[Subnet]:
    """The subnets that a port has addresses of, in their order."""
    for fixed in port.fixed_ips:
        if (subnet := view.get(Subnet, fixed.subnet_id)) is not None:
            yield subnet


def default_routes(view: View, key: str) -> Iterator[Route]:
    """The default routes by a port that is an external gateway."""
    port = view.need(Port, key)
    router = view.get(Router, port.device_id) if port.device_owner == ROUTER_GATEWAY else None
    if router is None or (key != router.gateway_port_id and not router.enable_default_route_ecmp):
        return
    for subnet in _subnets(view, port):
        if subnet.gateway_ip is not None:
            yield Route(
                key=f"{key}.{subnet.id}",
                router=port.device_id,
                prefix="::/0" if subnet.ip_version == 6 else "0.0.0.0/0",
                next_hop=subnet.gateway_ip,
                port=key,
                bfd=router.enable_default_route_bfd,
            )


def extra_routes(view: View, key: str) -> Iterator[Route]:
    """The routes that a router has by itself."""
    for route in view.need(Router, key).routes:
        yield Route(
            key=f"{key}.{route.destination}.{route.nexthop}",
            router=key,
            prefix=route.destination,
            next_hop=route.nexthop,
        )


def source_nats(view: View, key: str) -> Iterator[Nat]:
    """Source NAT for the inner IPv4 subnets of a router, by each gateway that does it."""
    legs = view.where(Port, leg_of, key)
    for gateway in gateways_of(view.need(Router, key)):
        leg = view.get(Port, gateway.port_id)
        fixed = () if leg is None else leg.fixed_ips
        own = [f for f in fixed if f.ip_address and ":" not in f.ip_address]
        if not own or gateway.info.enable_snat is False:
            continue
        # Within one address scope, addresses are routed as they are.
        scope = view.ask(scope_of, own[0].subnet_id or "")
        for port in legs:
            for subnet in _subnets(view, port):
                inner = port.device_owner != ROUTER_GATEWAY and subnet.ip_version == 4
                if inner and not (scope and view.ask(scope_of, subnet.id) == scope):
                    yield Nat(
                        key=f"{gateway.port_id}.{subnet.id}",
                        router=key,
                        type="snat",
                        external=own[0].ip_address or "",
                        internal=subnet.cidr,
                        gateway_port=gateway.port_id,
                    )


def floating_nat(view: View, key: str) -> Iterator[Nat]:
    """What a floating IP that stands for an address translates."""
    floating = view.need(FloatingIP, key)
    router = view.get(Router, floating.router_id)
    if floating.fixed_ip_address and router is not None:
        assert floating.floating_ip_address is not None
        own = view.ask(leaves_at_host, key)
        holder = view.get(Port, floating.floating_port_id)
        yield Nat(
            key=key,
            router=router.id,
            type="floating",
            external=floating.floating_ip_address,
            internal=floating.fixed_ip_address,
            gateway_port=way_out(router, floating),
            port=floating.port_id if own else None,
            external_mac=holder.mac_address if own and holder is not None else None,
        )


def leaves_at_host(view: View, key: str) -> bool:
    """Whether a floating IP is translated on the host of its port, and leaves there."""
    floating = view.need(FloatingIP, key)
    router, port = view.get(Router, floating.router_id), view.get(Port, floating.port_id)
    network = view.get(Network, floating.floating_network_id)
    host = None if port is None else view.get(Host, port.host_id)
    firewalled = router is not None and bool(view.where(FirewallSite, "router_id", router.id))
    return is_at_host(router, network, host, firewalled)


def is_at_host(
    router: Router | None, network: Network | None, host: Host | None, firewalled: bool = False
) -> bool:
    """The same, of its router, its external network, and the host of its port.

    Args:
        firewalled: a firewall stands at the router. What comes back from it is on the host of its dispatcher,
            where there is no other way out than the gateway.
    """
    if router is None or network is None or host is None or not network.physical_network or firewalled:
        return False
    return router.distributed and network.physical_network in host.wired


def way_out(router: Router, floating: FloatingIP) -> str | None:
    """The gateway of a router that a floating IP is behind."""
    network = floating.floating_network_id
    return next((g.port_id for g in gateways_of(router) if g.info.network_id == network), None)


def forwarding(view: View, key: str) -> Iterator[Forwarding]:
    """Forwarded ports of a floating IP."""
    wanted = view.need(PortForwarding, key)
    floating = view.get(FloatingIP, wanted.floatingip_id)
    router = None if floating is None else view.get(Router, floating.router_id)
    if floating is not None and router is not None:
        yield Forwarding(
            key=key,
            router=router.id,
            protocol="tcp" if wanted.protocol == "tcp" else "udp",
            external=floating.floating_ip_address or "",
            internal=wanted.internal_ip_address or "",
            external_ports=_ports(wanted.external_port_range),
            internal_ports=_ports(wanted.internal_port_range),
        )


def _ports(text: str | None) -> tuple[int, int]:
    first, _, last = (text or "").partition(":")
    return int(first), int(last)
