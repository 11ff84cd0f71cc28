"""Neighbour discovery proxies: a router's gateway that answers for addresses of workloads behind it."""

from __future__ import annotations

from typing import Annotated

from trunkline.resources.network.checks import Uuid
from trunkline.resources.schema import fixed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import IpAddress, Name


@resource(kind="ndp_proxy", plural="ndp_proxies", service="network", quota=100)
class NdpProxy(Standard, kw_only=True):
    """An IPv6 address of a port that is reached from the external network by its router (RFC 4389)."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The router, which has `enable_ndp_proxy`.
    router_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: The port.
    port_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: Which of the port's IPv6 addresses; by default the first one that the router reaches.
    ip_address: Annotated[IpAddress | None, fixed()] = None
