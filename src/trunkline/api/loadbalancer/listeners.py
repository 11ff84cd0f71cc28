"""Listeners: their ports, and the pools that fit what is spoken there."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from trunkline.api.engine import Call
from trunkline.api.loadbalancer import offered
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.loadbalancer import L7Policy, L7Rule, Listener, LoadBalancer, Pool

#: Protocol of a listener -> those of pools that it may have.
FITTING: Mapping[str, frozenset[str]] = {
    "HTTP": frozenset({"HTTP", "PROXY", "PROXYV2"}),
    "HTTPS": frozenset({"HTTPS", "PROXY", "PROXYV2", "TCP"}),
    "TCP": frozenset({"HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"}),
    "UDP": frozenset({"UDP"}),
}


def create(call: Call, listener: Listener, given: frozenset[str]) -> Listener:
    """Refuses a second listener on a port."""
    offered.refuse("protocol", listener.protocol, offered.LISTENER_PROTOCOLS)
    datagrams = listener.protocol == "UDP"
    for other in call.tx.find(Listener, loadbalancer_id=listener.loadbalancer_id):
        if other.protocol_port == listener.protocol_port and (other.protocol == "UDP") == datagrams:
            raise Conflict(
                f"Another Listener on this Load Balancer is already using protocol_port "
                f"{listener.protocol_port}: {other.id}. Use another port.",
                type="DuplicateListenerEntry",
                field="protocol_port",
            )
    return _checked(call, listener)


def update(call: Call, old: Listener, new: Listener, given: frozenset[str]) -> Listener:
    """Looks at what a new one is looked at for."""
    return _checked(call, new)


def delete(call: Call, listener: Listener) -> None:
    """Its policies go with it."""
    for policy in call.tx.find(L7Policy, listener_id=listener.id):
        for rule in call.tx.find(L7Rule, l7policy_id=policy.id):
            call.drop(rule)
        call.drop(policy)


def pool_for(call: Call, listener: Listener, pool_id: str, field: str) -> Pool:
    """A pool of the same load balancer, which speaks what the listener can pass on.

    Raises:
        NotFound: there is none. BadField: it does not fit.
    """
    pool = call.tx.get(Pool, pool_id)
    if pool is None or pool.loadbalancer_id != listener.loadbalancer_id:
        raise NotFound(f"Pool {pool_id} not found.", type="PoolNotFound", field=field)
    check_fit(listener, pool, field)
    return pool


def check_fit(listener: Listener, pool: Pool, field: str) -> None:
    """Raises BadField where a listener cannot pass on what it takes to a pool."""
    if pool.protocol not in FITTING[listener.protocol]:
        raise BadField(
            field,
            f"the pool's protocol {pool.protocol} does not fit the listener's, {listener.protocol}. "
            f"Use a pool of: {', '.join(sorted(FITTING[listener.protocol]))}.",
        )


def _checked(call: Call, listener: Listener) -> Listener:
    if listener.default_pool_id:
        pool_for(call, listener, listener.default_pool_id, "default_pool_id")
    if listener.insert_headers and listener.protocol != "HTTP":
        raise BadField(
            "insert_headers", f"{listener.protocol} has no headers. Only HTTP listeners insert any."
        )
    balancer = call.tx.get(LoadBalancer, listener.loadbalancer_id)
    version = ipaddress.ip_address((balancer and balancer.vip_address) or "0.0.0.0").version
    for cidr in listener.allowed_cidrs or ():
        if ipaddress.ip_network(cidr).version != version:
            raise BadField("allowed_cidrs", f"{cidr} is not of IPv{version}, as the VIP is. Leave it out.")
    return listener
