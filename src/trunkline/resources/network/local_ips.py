"""Local IPs: addresses behind which every host has a port of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from trunkline.resources.network.checks import Uuid
from trunkline.resources.network.parts import PortAssociation
from trunkline.resources.schema import fixed, hidden, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import IpAddress, Name

#: The device owner of ports that hold a local IP's address.
LOCAL_IP = "network:local_ip"


@resource(kind="local_ip", plural="local_ips", service="network", quota=100)
class LocalIP(Standard, kw_only=True):
    """An address of a network that leads to a port on the asker's own host, if one there is associated."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: The port whose address it is, and which answers where no port of the host is associated. Without
    #: one, a port is made on the network.
    local_port_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: The network.
    network_id: Annotated[Uuid | None, fixed(index=True)] = None
    #: The address: one of the port's, by default its first of IPv4.
    local_ip_address: Annotated[IpAddress | None, fixed()] = None
    #: translate: packets get the address of the associated port. passthrough: they come as they are, and
    #: who is there has to know the address (and to be allowed it, by an address pair).
    ip_mode: Annotated[Literal["translate", "passthrough"], fixed()] = "translate"
    #: The ports that it leads to.
    associations: Annotated[list[PortAssociation], hidden()] = []
