"""A port that somebody made, lent to an appliance: its addresses are the appliance's, while that is there.

Meanwhile it is a port `network:appliance`, which nobody plugs in, changes or deletes.
"""

from __future__ import annotations

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.errors import BadField, Conflict
from trunkline.resources.appliance import Appliance
from trunkline.resources.network import APPLIANCE, INTERNAL_OWNERS, Port


def take(call: Call, appliance: Appliance, port_id: str) -> tuple[Appliance, Port]:
    """Lends a port to a new appliance.

    Raises:
        BadField: it is on another network, or has no address. Conflict: something has it. NotFound.
    """
    port = call.get(Port, port_id)
    if port.network_id != appliance.outside_network_id:
        raise BadField("port_id", f"port {port.id} is not on network {appliance.outside_network_id}.")
    if not port.fixed_ips:
        raise BadField("port_id", f"port {port.id} has no address. Give it one, or name another port.")
    if port.host_id or port.trunk_id or port.device_owner in INTERNAL_OWNERS:
        by = f" by {port.device_owner}" if port.device_owner else ""
        raise Conflict(
            f"Invalid input for port_id: port {port.id} is in use{by}. Name one that is free.",
            type="PortInUse",
            field="port_id",
        )
    before = (port.device_owner, port.device_id)
    port = call.save(replace(port, device_owner=APPLIANCE, device_id=appliance.id, status="N/A"))
    return replace(appliance, lent_port=port.id, lent_as=before), port


def give_back(call: Call, appliance: Appliance) -> None:
    """It is whose it was."""
    port = call.tx.get(Port, appliance.lent_port) if appliance.lent_port else None
    if port is not None:
        owner, device = appliance.lent_as
        call.save(replace(port, device_owner=owner, device_id=device, status="DOWN"))
