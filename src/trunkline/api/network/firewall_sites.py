"""Where firewall groups stand: an appliance at each router that a group has ports of.

    router ── leg ── network ── appliance      for each router; the cloud's own

The router sends what comes in by the group's ports, and what leaves by them, to the appliance first; what
comes back goes on as ever (`compiler.firewalls`). From the moment at which the group has a port nothing
passes there but by the appliance, which is not there yet.
"""

from __future__ import annotations

import hashlib
import ipaddress
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from msgspec.structs import replace

from trunkline.api.appliance import observation, orders
from trunkline.api.compute.networking import by_cloud
from trunkline.api.engine import Call
from trunkline.api.network import addressing, firewall_policy, routers
from trunkline.errors import BadField, Conflict, Exhausted
from trunkline.plan import ipam
from trunkline.resources.appliance import Appliance
from trunkline.resources.network import (
    FIREWALL_LEG,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    FirewallSite,
    FixedIp,
    Network,
    Port,
    Router,
    Subnet,
)

T = TypeVar("T")
#: Whose networks between routers and appliances are: no project has this id.
CLOUDS_OWN = "cloud"
#: What an appliance of a group is made of.
UNITS: dict[str, Any] = {"data_planes": 2, "dispatchers": 1, "managers": 1, "cu_size": 0.1, "cu_memory": 128}
#: Where IPv4 ranges of these networks come from (RFC 3927: nothing routes them), and how long they are.
_RANGE, _LENGTH = ipaddress.IPv4Network("169.254.192.0/18"), 28


def follow(call: Call, group: FirewallGroup) -> None:
    """Has a group stand where its ports are, and do what its policies say.

    Raises:
        BadField: its rules are too many together. Exhausted: no host has room for an appliance.
    """
    wanted = _routers(call, group)
    for site in _sites(call, group):
        if site.router_id not in wanted:
            _remove(call, site)
    there = {site.router_id: site for site in _sites(call, group)}
    for router_id, ports in wanted.items():
        router = call.tx.get(Router, router_id)
        if router is not None:
            said = _document(call, group, router, ports)
            if router_id in there:
                _change(call, group, there[router_id], ports, said)
            else:
                _make(call, group, router, ports, said)
    settle(call, group.id)


def leave(call: Call, group: FirewallGroup) -> None:
    """Takes a group away from everywhere."""
    for site in _sites(call, group):
        _remove(call, site)


def told(call: Call, appliance_id: str) -> None:
    """Something was seen of an appliance: a group that it is beneath says how it is."""
    for site in call.tx.find(FirewallSite, appliance_id=appliance_id):
        settle(call, site.firewall_group_id)


def settle(call: Call, group_id: str) -> None:
    """Writes how a group is, by what was seen of its appliances."""
    group = call.tx.get(FirewallGroup, group_id)
    if group is None:
        return
    status = _status(call, group)
    if status != group.status:
        call.tx.observe(replace(group, status=status))


def _status(call: Call, group: FirewallGroup) -> str:
    sites = _sites(call, group)
    if not sites:
        return "INACTIVE"
    found = [call.tx.get(Appliance, site.appliance_id) for site in sites]
    seen = {appliance.status if appliance is not None else "ERROR" for appliance in found}
    if "ERROR" in seen:
        return "ERROR"
    if "BUILD" in seen:
        return "PENDING_CREATE"
    if "UPDATING" in seen or ("DOWN" in seen) == group.admin_state_up:
        return "PENDING_UPDATE"
    return "ACTIVE" if group.admin_state_up else "DOWN"


def _sites(call: Call, group: FirewallGroup) -> list[FirewallSite]:
    return call.tx.find(FirewallSite, firewall_group_id=group.id)


def _routers(call: Call, group: FirewallGroup) -> dict[str, list[str]]:
    """The routers that a group is to stand at, each with the ports that it has there."""
    found: dict[str, list[str]] = {}
    if group.ingress_firewall_policy_id is None and group.egress_firewall_policy_id is None:
        return found
    for id in group.ports:
        port = call.tx.get(Port, id)
        if port is not None:
            found.setdefault(port.device_id, []).append(id)
    return found


# What it says.


def _document(call: Call, group: FirewallGroup, router: Router, ports: list[str]) -> dict[str, Any]:
    return firewall_policy.document(
        _rules(call, group.ingress_firewall_policy_id),
        _rules(call, group.egress_firewall_policy_id),
        [ipaddress.ip_network(prefix) for prefix in _inner(call, router, ports)],
    )


def _rules(call: Call, policy_id: str | None) -> list[FirewallRule]:
    policy = call.tx.get(FirewallPolicy, policy_id or "")
    found = (call.tx.get(FirewallRule, id) for id in (policy.firewall_rules if policy is not None else ()))
    return [rule for rule in found if rule is not None]


def _inner(call: Call, router: Router, ports: list[str]) -> Iterator[str]:
    """The prefixes behind ports: of their subnets, and of what the router has routes for by these."""
    legs = [port for id in ports if (port := call.tx.get(Port, id)) is not None]
    cidrs = [subnet.cidr for subnet in routers.subnets_behind(call, legs)]
    yield from cidrs
    for route in router.routes:
        if any(ipam.contains(cidr, route.nexthop) for cidr in cidrs):
            yield route.destination


# What it stands on.


def _make(call: Call, group: FirewallGroup, router: Router, ports: list[str], said: dict[str, Any]) -> None:
    cloud = by_cloud(call)
    network = _stored(
        cloud, Network(id=str(uuid.uuid4()), project_id=CLOUDS_OWN, name=f"firewall {group.id}")
    )
    four, six = _free(call, router), _unique(network.id)
    for version, cidr in ((4, four), (6, six)):
        subnet = Subnet(
            id=str(uuid.uuid4()),
            project_id=CLOUDS_OWN,
            network_id=network.id,
            ip_version=4 if version == 4 else 6,
            cidr=cidr,
            enable_dhcp=False,
        )
        _stored(cloud, subnet, "cidr")
    leg = _leg(cloud, network, router)
    order = Appliance(
        project_id=group.project_id,
        name=f"firewall {group.name}".strip(),
        description=f"Firewall group {group.id} at router {router.id}",
        services=["firewall"],
        outside_network_id=network.id,
        admin_state_up=group.admin_state_up,
        **UNITS,
    )
    appliance = _explained(
        lambda: orders.order(cloud, order, owner=f"firewall_group:{group.id}", policy=said)
    )
    site = FirewallSite(
        id=str(uuid.uuid4()),
        firewall_group_id=group.id,
        router_id=router.id,
        ports=ports,
        network_id=network.id,
        leg_id=leg.id,
        appliance_id=appliance.id,
        next_hops=list(appliance.outside_addresses),
    )
    cloud.add(site)


def _change(
    call: Call, group: FirewallGroup, site: FirewallSite, ports: list[str], said: dict[str, Any]
) -> None:
    if ports != site.ports:
        call.tx.replace(replace(site, ports=ports))
    cloud = by_cloud(call)
    _explained(lambda: orders.set_policy(cloud, site.appliance_id, said))
    appliance = call.tx.get(Appliance, site.appliance_id)
    if appliance is not None and appliance.admin_state_up != group.admin_state_up:
        orders.change(cloud, site.appliance_id, admin_state_up=group.admin_state_up)
    # What is asked for now is not there yet.
    observation.settle(cloud, site.appliance_id)


def _remove(call: Call, site: FirewallSite) -> None:
    cloud = by_cloud(call)
    call.drop(site)
    orders.remove(cloud, site.appliance_id)
    leg, network = call.tx.get(Port, site.leg_id), call.tx.get(Network, site.network_id)
    if leg is not None:
        call.drop(leg)
    if network is not None:
        delete = call.engine.stages_of(Network).delete
        if delete is not None:
            delete(cloud, network)
        call.drop(network)


def _stored(cloud: Call, obj: Any, *given: str) -> Any:
    """Makes something by the stages of its kind; it is nobody's, so no quota is asked."""
    stages = cloud.engine.stages_of(type(obj))
    if stages.create is not None:
        obj = stages.create(cloud, obj, frozenset(given))
    obj = cloud.add(obj)
    if stages.created is not None:
        stages.created(cloud, obj)
    return cloud.tx.get(type(obj), obj.id)


def _leg(cloud: Call, network: Network, router: Router) -> Port:
    """The router's leg on a network that was just made: it has the gateways' addresses."""
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(cloud, network.id, id, "")
    wanted = [
        FixedIp(subnet_id=subnet.id, ip_address=subnet.gateway_ip)
        for subnet in addressing.subnets_of(cloud, network)
    ]
    port = Port(
        id=id,
        project_id=CLOUDS_OWN,
        network_id=network.id,
        mac_address=mac,
        fixed_ips=addressing.assign(cloud, network, id, mac, FIREWALL_LEG, wanted),
        device_owner=FIREWALL_LEG,
        device_id=router.id,
        port_security_enabled=False,
    )
    return cloud.add(port)


def _free(call: Call, router: Router) -> str:
    """A range of IPv4 addresses that meets none of those that the router has to do with."""
    legs = call.tx.find(Port, device_id=router.id)
    taken = [subnet.cidr for subnet in routers.subnets_behind(call, legs)]
    taken += [route.destination for route in router.routes if route.destination != "0.0.0.0/0"]
    for candidate in _RANGE.subnets(new_prefix=_LENGTH):
        if not any(ipam.overlap(str(candidate), cidr) for cidr in taken):
            return str(candidate)
    raise Conflict(f"Router {router.id} has no room in {_RANGE} for a firewall.", type="NoNetworkAvailable")


def _unique(network_id: str) -> str:
    """A range of IPv6 addresses that nobody else has (RFC 4193, 3.2)."""
    digest = hashlib.sha256(network_id.encode()).hexdigest()
    return str(ipaddress.IPv6Network(f"fd{digest[:2]}:{digest[2:6]}:{digest[6:10]}::/64"))


def _explained(ordered: Callable[[], T]) -> T:
    """What an appliance cannot have or do, in words of the group."""
    try:
        return ordered()
    except BadField as error:
        raise BadField(
            "ports", f"the appliance beneath cannot do what the policies say: {error.message}"
        ) from None
    except Exhausted as error:
        raise Exhausted(
            f"Invalid input for ports: there is no room for the appliance of the group. {error.message}",
            type=error.type,
            field="ports",
        ) from None
