"""What a load balancer is made of: an appliance of one leg, which nobody else changes.

    LoadBalancer ── owner ──▶ Appliance ── leg `outside`: the VIP, and an address that members see
         │                        ├─── legs `net1`...: other networks that members are on
         └── document ──▶ policy ─┘

It follows in the transaction of each change, so that what cannot be done is refused with nothing done.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.appliance import orders, renewal, subnets, units
from trunkline.api.appliance.status import known
from trunkline.api.engine import Call
from trunkline.api.loadbalancer import flavors, told, zones
from trunkline.api.loadbalancer.document import document
from trunkline.api.loadbalancer.tree import Tree, load
from trunkline.errors import BadField, Refusal
from trunkline.resources.appliance import Appliance, addresses, networks
from trunkline.resources.appliance import zones as zones_of
from trunkline.resources.loadbalancer import LoadBalancer
from trunkline.resources.network import FixedIp, Subnet
from trunkline.store import Reader

#: A part of the appliance's policy -> the field of the balancer that it comes from.
_FIELDS = {
    "address": "address",
    "port": "protocol_port",
    "allowed": "allowed_cidrs",
    "connections": "connection_limit",
    "health": "healthmonitor",
    "routes": "l7policy",
    "masquerade": "vip_subnet_id",
    "client": "timeout_client_data",
    "member_connect": "timeout_member_connect",
    "member_data": "timeout_member_data",
    "inspect": "timeout_tcp_inspect",
}


def owner(loadbalancer_id: str) -> str:
    """How an appliance says that it is a load balancer's."""
    return f"loadbalancer:{loadbalancer_id}"


def follow(call: Call, loadbalancer_id: str) -> None:
    """Orders the appliance of a load balancer, or brings it what has changed.

    Raises:
        BadField: it cannot be done. Exhausted: no host has room, or no address is left.
    """
    tree = load(call.tx, loadbalancer_id)
    if tree is None:
        return
    balancer = tree.loadbalancer
    appliance = orders.owned(call.tx, owner(balancer.id))
    if appliance is None:
        appliance = _order(call, tree)
    else:
        appliance = _attached(call, tree, appliance)
    appliance = _on_subnets(call, tree, appliance)
    _set_policy(call, tree, appliance)
    appliance = call.tx.get(Appliance, appliance.id) or appliance
    new = replace(
        balancer,
        appliance_id=appliance.id,
        masquerade=own_addresses(call.tx, balancer, appliance),
        policy_revision=appliance.policy_revision,
    )
    if new != balancer:
        call.tx.replace(new)
    told.settle(call, balancer.id)


def remove(call: Call, loadbalancer: LoadBalancer) -> None:
    """The appliance goes; the port of the VIP is left."""
    appliance = orders.owned(call.tx, owner(loadbalancer.id))
    if appliance is not None:
        orders.remove(call, appliance.id)


def failover(call: Call, loadbalancer: LoadBalancer) -> None:
    """Every unit is replaced, one after the other, while it works.

    Raises:
        Conflict: they are being replaced already.
    """
    appliance = orders.owned(call.tx, owner(loadbalancer.id))
    if appliance is not None:
        renewal.begin(call, appliance)


def observe(call: Call, appliance_id: str) -> None:
    """Writes how the load balancer of an appliance is, if it is of one, after something was seen of it.

    Members on a leg that was not there when they were asked for come into the policy now.

    Args:
        call: the cloud's own.
    """
    appliance = call.tx.get(Appliance, appliance_id)
    balancer = call.tx.first(LoadBalancer, appliance_id=appliance_id) if appliance is not None else None
    if appliance is None or balancer is None:
        return
    if own_addresses(call.tx, balancer, appliance) != balancer.masquerade:
        follow(call, balancer.id)
    else:
        told.settle(call, balancer.id)


def own_addresses(reader: Reader, balancer: LoadBalancer, appliance: Appliance) -> list[str]:
    """The addresses of an appliance that members see, of all networks that all of its units know."""
    there = known(appliance, units.of(reader, appliance.id))
    of = addresses(appliance)
    return [address for zone in there for address in of[zone] if address != balancer.vip_address]


def _order(call: Call, tree: Tree) -> Appliance:
    balancer = tree.loadbalancer
    wanted = Appliance(
        project_id=balancer.project_id,
        name=balancer.name or f"lb-{balancer.id}",
        services=["balancer"],
        outside_network_id=balancer.vip_network_id or "",
        network_ids=_further(call.tx, tree, balancer.vip_network_id or "", ()),
        availability_zone=zones.host_zone(call.tx, balancer),
        **flavors.units_of(call.tx, balancer),
    )
    return orders.order(
        call,
        wanted,
        owner=owner(balancer.id),
        port_id=balancer.vip_port_id or "",
        addresses=_seen_by_members(call.tx, balancer),
    )


def _seen_by_members(reader: Reader, balancer: LoadBalancer) -> list[FixedIp]:
    """Where addresses are taken that members see: beside the VIP, and of the other family if there is one."""
    there = reader.find(Subnet, network_id=balancer.vip_network_id or "")
    family = ipaddress.ip_address(balancer.vip_address or "0.0.0.0").version
    first = next((s.id for s in there if s.id == balancer.vip_subnet_id), None)
    others = sorted((s for s in there if s.ip_version != family), key=lambda s: (s.created_at, s.id))
    ids = [first or next(s.id for s in there if s.ip_version == family), *(s.id for s in others[:1])]
    return [FixedIp(subnet_id=id) for id in ids]


def _attached(call: Call, tree: Tree, appliance: Appliance) -> Appliance:
    """With a leg on each network that members say they are on."""
    wanted = _further(call.tx, tree, appliance.outside_network_id, appliance.network_ids)
    if wanted == appliance.network_ids:
        return appliance
    try:
        return orders.change(call, appliance.id, network_ids=wanted)
    except BadField as error:
        raise BadField("subnet_id", error.message.partition(": ")[2]) from None


def _on_subnets(call: Call, tree: Tree, appliance: Appliance) -> Appliance:
    """With an address on each subnet that members say they are on: some came after the appliance."""
    ids = {member.subnet_id for pool in tree.pools for member in tree.members(pool.id)}
    for subnet in (call.tx.get(Subnet, id) for id in sorted(id for id in ids if id)):
        if subnet is None:
            continue
        try:
            appliance = subnets.serve(call, appliance, subnet)
        except Refusal as refusal:
            raise BadField("subnet_id", refusal.message.rpartition(": ")[2]) from None
    return appliance


def _further(reader: Reader, tree: Tree, outside: str, there: Sequence[str]) -> list[str]:
    """The networks beside the VIP's: those that are there, and others that members are on."""
    others = (network for network in _networks(reader, tree).values() if network != outside)
    return list(dict.fromkeys([*there, *others]))


def _networks(reader: Reader, tree: Tree) -> dict[str, str]:
    """The network of each member that says which subnet it is on, by the member's id."""
    found = {}
    for pool in tree.pools:
        for member in tree.members(pool.id):
            subnet = reader.get(Subnet, member.subnet_id) if member.subnet_id else None
            if subnet is not None:
                found[member.id] = subnet.network_id
    return found


def _unreached(reader: Reader, tree: Tree, appliance: Appliance) -> list[str]:
    """The members on networks that not all units are on yet."""
    there = known(appliance, units.of(reader, appliance.id))
    reached = {
        network
        for zone, network in zip(zones_of(appliance), networks(appliance), strict=True)
        if zone in there
    }
    return [member for member, network in _networks(reader, tree).items() if network not in reached]


def _set_policy(call: Call, tree: Tree, appliance: Appliance) -> None:
    own = own_addresses(call.tx, tree.loadbalancer, appliance)
    wanted = document(tree, own, _unreached(call.tx, tree, appliance))
    try:
        orders.set_policy(call, appliance.id, wanted)
    except BadField as error:
        where = error.field.rpartition(".")[2].partition("[")[0]
        raise BadField(_FIELDS.get(where, where), error.message.partition(": ")[2]) from None
