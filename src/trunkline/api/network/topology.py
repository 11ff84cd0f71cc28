"""A network that a project gets by asking: with subnets of the default pools, and a router that leads out."""

from __future__ import annotations

from typing import Any

from trunkline.api.engine import Call
from trunkline.api.network import interfaces
from trunkline.errors import BadRequest, NotFound
from trunkline.resources.network import Gateway, Network, Port, Router, Subnet, SubnetPool

#: The scope of the claims: a project's id is claimed by its network, and its network's id by the router.
_SCOPE = "auto-allocated-topology"


def get(call: Call, project_id: str) -> dict[str, Any]:
    """The network of a project, made at the first time.

    Raises:
        BadRequest: AutoAllocationFailure: the cloud has no default external network, or no default pool.
    """
    call.require("get_auto_allocated_topology", {"project_id": project_id})
    found = call.tx.claim_owner(_SCOPE, project_id)
    return _shown(project_id, found if found is not None else _make(call, project_id))


def check(call: Call, project_id: str) -> dict[str, Any]:
    """Whether a project could get one: as `get`, and nothing is made."""
    call.require("get_auto_allocated_topology", {"project_id": project_id})
    _needed(call)
    return _shown(project_id, "dry-run=pass")


def delete(call: Call, project_id: str) -> None:
    """Takes it all away.

    Raises:
        NotFound: there is none. InUse: a port is left on it.
    """
    call.require("delete_auto_allocated_topology", {"project_id": project_id})
    network = call.tx.get(Network, call.tx.claim_owner(_SCOPE, project_id) or "")
    if network is None:
        raise NotFound(
            f"Auto-allocated topology for tenant {project_id[:80]} could not be found.",
            type="AutoAllocatedTopologyNotFound",
        )
    router = call.tx.get(Router, call.tx.claim_owner(_SCOPE, network.id) or "")
    if router is not None:
        for subnet in call.tx.find(Subnet, network_id=network.id):
            legs = call.tx.find(Port, device_id=router.id, network_id=network.id)
            if any(f.subnet_id == subnet.id for leg in legs for f in leg.fixed_ips):
                interfaces.remove(call, router.id, {"subnet_id": subnet.id})
        call.delete(router)
    call.delete(network)


def _needed(call: Call) -> tuple[Network, list[SubnetPool]]:
    """The default external network, and the default pools, IPv4 first."""
    external = call.tx.first(Network, is_default=True, external=True)
    if external is None:
        raise _failure("No default router:external network: an administrator sets is_default on one")
    pools = call.tx.find(SubnetPool, is_default=True)
    if not pools:
        raise _failure("No default pools: an administrator sets is_default on a subnet pool")
    return external, sorted(pools, key=lambda pool: pool.ip_version)


def _make(call: Call, project_id: str) -> str:
    external, pools = _needed(call)
    owner = {"project_id": project_id}
    network = call.create(Network, {**owner, "name": "auto_allocated_network"})
    call.tx.claim(_SCOPE, project_id, network.id)
    out = Gateway(network_id=external.id)
    router = call.create(Router, {**owner, "name": "auto_allocated_router", "external_gateway_info": out})
    call.tx.claim(_SCOPE, network.id, router.id)
    for pool in pools:
        values: dict[str, Any] = {
            "name": f"auto_allocated_subnet_v{pool.ip_version}",
            "network_id": network.id,
            "ip_version": pool.ip_version,
            "use_default_subnetpool": True,
        }
        if pool.ip_version == 6:
            values |= {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
        subnet = call.create(Subnet, {**owner, **values})
        interfaces.add(call, router.id, {"subnet_id": subnet.id})
    return network.id


def _shown(project_id: str, id: str) -> dict[str, Any]:
    return {"id": id, "project_id": project_id, "tenant_id": project_id}


def _failure(reason: str) -> BadRequest:
    return BadRequest(
        f"Deployment error: {reason}.", type="AutoAllocationFailure", field="auto_allocated_topology"
    )
