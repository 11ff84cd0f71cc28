"""Load balancers: what comes with a new one, and how one goes."""

from __future__ import annotations

from trunkline.api.engine import Call
from trunkline.api.loadbalancer import beneath, flavors, offered, vip, zones
from trunkline.errors import BadField, BadRequest
from trunkline.resources.loadbalancer import PARTS, LoadBalancer


def create(call: Call, balancer: LoadBalancer, given: frozenset[str]) -> LoadBalancer:
    """Gives a new load balancer its address."""
    if not balancer.project_id:
        raise BadField("project_id", "it is required with a token that is not of a project.")
    offered.check_provider("provider", balancer.provider)
    flavors.check(call, balancer)
    zones.check(call, balancer)
    balancer = vip.claim(call, balancer)
    zones.check_network(call.tx, balancer)
    return balancer


def remove(call: Call, balancer: LoadBalancer, *, cascade: bool) -> None:
    """Takes a load balancer away, with everything that it is made of where that is asked for.

    Raises:
        BadRequest: something is left of it, and `cascade` is not asked for.
    """
    call.require(call.engine.rule(LoadBalancer, "delete"), call.engine.target(call.tx, balancer))
    for cls in PARTS:
        parts = call.tx.find(cls, loadbalancer_id=balancer.id)
        if parts and not cascade:
            raise BadRequest(
                f"Cannot delete Load Balancer {balancer.id} - it has children. Delete them first, or ask for "
                "cascade=true.",
                type="ValidationException",
            )
        for part in parts:
            call.drop(part)
    beneath.remove(call, balancer)
    vip.release(call, balancer)
    call.drop(balancer)
