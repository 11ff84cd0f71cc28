"""The appliance of a load balancer: nothing orders one yet."""

from __future__ import annotations

from trunkline.api.engine import Call
from trunkline.resources.loadbalancer import LoadBalancer


def follow(call: Call, loadbalancer_id: str) -> None:
    """Brings the appliance what has changed."""


def remove(call: Call, loadbalancer: LoadBalancer) -> None:
    """The appliance goes."""


def failover(call: Call, loadbalancer: LoadBalancer) -> None:
    """Every unit is replaced."""
