"""Private VLANs (RFC 5517): whom a port reaches on its own network."""

from __future__ import annotations

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import InUse
from trunkline.resources.network import INTERNAL_OWNERS, Network, Port


def first(call: Call, network: Network, port: Port) -> Port:
    """What a new port reaches: what it says, or everybody; nobody, where the caller may not choose."""
    if network.pvlan and port.pvlan_type is None and port.pvlan_community is None:
        chooses = call.allowed("create_port:pvlan_type", call.engine.target(call.tx, port))
        return replace(port, pvlan_type="promiscuous" if chooses else "isolated")
    return _checked(network, port)


def changed(network: Network, new: Port, given: frozenset[str]) -> Port:
    """A port after an update; its community is left behind with the type that it belonged to."""
    if not given & {"pvlan_type", "pvlan_community"}:
        return new
    if network.pvlan and new.pvlan_type is None:
        new = replace(new, pvlan_type="promiscuous")
    if new.pvlan_type != "community" and "pvlan_community" not in given:
        new = replace(new, pvlan_community=None)
    return _checked(network, new)


def switched(call: Call, old: Network, new: Network) -> None:
    """The ports of a network whose `pvlan` is switched: all promiscuous, or none of any type.

    Raises:
        InUse: it is switched off, and would join what is kept apart.
    """
    if old.pvlan == new.pvlan:
        return
    ports = call.tx.find(Port, network_id=new.id)
    apart = [port.id for port in ports if port.pvlan_type in ("isolated", "community")]
    if apart and not new.pvlan:
        raise InUse(
            f"Unable to disable pvlan on network {new.id}. Ports on it are isolated or in a community: "
            f"{', '.join(apart[:10])}. Make them promiscuous first.",
            type="PvlanInUse",
            field="pvlan",
        )
    for port in ports:
        if port.device_owner not in INTERNAL_OWNERS:
            call.save(replace(port, pvlan_type="promiscuous" if new.pvlan else None))


def _checked(network: Network, port: Port) -> Port:
    if not network.pvlan:
        for name in ("pvlan_type", "pvlan_community"):
            if getattr(port, name) is not None:
                raise refuse_field(name, f"network {network.id} has no pvlan. Enable it there first.")
    elif port.pvlan_type == "community" and port.pvlan_community is None:
        raise refuse_field("pvlan_community", "a port of the type community needs one.")
    elif port.pvlan_type != "community" and port.pvlan_community is not None:
        raise refuse_field("pvlan_community", "it is for ports of the type community.")
    return port
