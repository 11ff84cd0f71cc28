"""Trunks: a port whose workload reaches several networks, each in a VLAN of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec.structs import replace

from trunkline.resources.network.checks import Uuid, clean_uuid
from trunkline.resources.network.parts import Part
from trunkline.resources.schema import Check, fixed, observed, resource, settable
from trunkline.resources.standard import Standard
from trunkline.resources.types import Name

#: The device owner of sub-ports.
SUBPORT = "trunk:subport"
#: The VLAN ids that a frame can have (IEEE Std 802.1Q): 0 is for priorities alone, 4095 is reserved.
FIRST_VLAN, LAST_VLAN = 1, 4094


class SubPort(Part, frozen=True, kw_only=True):
    """A port whose frames the parent's workload sends and receives in a VLAN."""

    port_id: str
    #: vlan; or inherit, which stands for the VLAN of the port's network and is stored as vlan.
    segmentation_type: Literal["vlan", "inherit"]
    segmentation_id: int | None = None


def sub_ports(values: list[SubPort]) -> list[SubPort]:
    """Each a port with a VLAN of its own; no port and no VLAN twice."""
    if len(values) > LAST_VLAN:
        raise ValueError(f"at most {LAST_VLAN} sub-ports, one for each VLAN.")
    result = [replace(value, port_id=clean_uuid(value.port_id)) for value in values]
    for value in result:
        if value.segmentation_type == "inherit":
            continue
        if value.segmentation_id is None:
            raise ValueError("segmentation_id is required with segmentation_type vlan.")
        if not FIRST_VLAN <= value.segmentation_id <= LAST_VLAN:
            raise ValueError(
                f"segmentation_id {value.segmentation_id} is no VLAN id. Use {FIRST_VLAN} to {LAST_VLAN}."
            )
    if len({value.port_id for value in result}) < len(result):
        raise ValueError("a port is given twice.")
    vlans = [v.segmentation_id for v in result if v.segmentation_type == "vlan"]
    if len(set(vlans)) < len(vlans):
        raise ValueError("a segmentation_id is given twice.")
    return result


@resource(kind="trunk", plural="trunks", service="network", quota=200)
class Trunk(Standard, kw_only=True):
    """A parent port, and sub-ports on other networks that its workload reaches by VLAN tags."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: False locks it: its sub-ports stay as they are, and it cannot be deleted.
    admin_state_up: Annotated[bool, settable()] = True
    #: ACTIVE where parent and sub-ports were seen wired, BUILD where only the parent was, else DOWN.
    status: Annotated[str, observed()] = "DOWN"
    #: The parent port, which the workload is plugged into; its frames have no tag.
    port_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: The sub-ports; later changed by add_subports and remove_subports.
    sub_ports: Annotated[list[SubPort], fixed(filter=False), Check(sub_ports)] = []
