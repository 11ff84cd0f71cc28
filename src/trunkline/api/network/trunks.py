"""Trunks: which ports may be parent and sub-ports, and what becomes of them.

A sub-port is no place where something is plugged in: it is wherever its parent is, so its binding follows
the parent's. What a port is in a trunk stands in the port too (`trunk_id`, `parent_id`, `trunk_vlan`),
which is all that the data plane is derived from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, ports, promises
from trunkline.errors import BadField, BadRequest, Conflict, InUse, NotFound
from trunkline.resources.network import SUBPORT, Network, Port, SubPort, Trunk
from trunkline.resources.network.trunks import sub_ports as clean_sub_ports
from trunkline.resources.schema import convert
from trunkline.store import Reader, Tx, table_of

_AT_ONCE = 500


class Added(msgspec.Struct, forbid_unknown_fields=True):
    """The body that adds sub-ports."""

    sub_ports: list[SubPort]


class RemovedPort(msgspec.Struct, forbid_unknown_fields=True):
    """One that is removed; what it was may be told too, and is not looked at."""

    port_id: str
    segmentation_type: Literal["vlan", "inherit"] | None = None
    segmentation_id: int | None = None


class Removed(msgspec.Struct, forbid_unknown_fields=True):
    """The body that removes sub-ports."""

    sub_ports: list[RemovedPort]


def create(call: Call, trunk: Trunk, given: frozenset[str]) -> Trunk:
    """Takes the parent and the sub-ports for the trunk."""
    common.owned(trunk)
    parent = _own_port(call, trunk.port_id)
    _refuse_taken(parent)
    parent = call.save(replace(parent, trunk_id=trunk.id))
    return _with(call, replace(trunk, sub_ports=[]), parent, trunk.sub_ports)


def delete(call: Call, trunk: Trunk) -> None:
    """Lets go of its ports."""
    _refuse_locked(trunk)
    for sub in trunk.sub_ports:
        _let_go(call, sub.port_id)
    parent = call.tx.get(Port, trunk.port_id)
    if parent is not None:
        call.save(replace(parent, trunk_id=""))


def add_subports(call: Call, id: str, body: Any) -> Trunk:
    """The verb: a trunk with these sub-ports too.

    Raises:
        NotFound: the trunk or a port. BadRequest: the body. Conflict: TrunkDisabled, DuplicateSubPort,
        TrunkPortInUse, ParentPortInUse, PortInUse, SubPortMtuGreaterThanTrunkPortMtu.
    """
    given: Added = convert(body, Added, what="trunk", lax=True)
    trunk = _held(call, "add_subports", id)
    wanted = _clean(given.sub_ports)
    parent = call.tx.get(Port, trunk.port_id)
    assert parent is not None, "a port in a trunk is not deleted"
    return call.save(_with(call, trunk, parent, wanted))


def remove_subports(call: Call, id: str, body: Any) -> Trunk:
    """The verb: a trunk without these sub-ports.

    Raises:
        NotFound: the trunk, or SubPortNotFound. BadRequest: the body. Conflict: TrunkDisabled.
    """
    given: Removed = convert(body, Removed, what="trunk", lax=True)
    trunk = _held(call, "remove_subports", id)
    left = {sub.port_id: sub for sub in trunk.sub_ports}
    for removed in given.sub_ports:
        if left.pop(removed.port_id, None) is None:
            raise NotFound(
                f"SubPort on trunk {trunk.id} with parent port {removed.port_id[:80]} could not be found.",
                type="SubPortNotFound",
            )
        _let_go(call, removed.port_id)
    trunk = replace(trunk, sub_ports=list(left.values()))
    return call.save(replace(trunk, status=_status(call.tx, trunk)))


def observe(tx: Tx, changed: Iterable[str]) -> None:
    """Writes the status of the trunks of ports whose own status changed."""
    found = (tx.get(Port, id) for id in changed)
    for id in dict.fromkeys(port.trunk_id for port in found if port is not None and port.trunk_id):
        trunk = tx.get(Trunk, id)
        if trunk is not None and (status := _status(tx, trunk)) != trunk.status:
            tx.observe(replace(trunk, status=status))


def details(reader: Reader, context: Context, objects: Sequence[Port]) -> list[Mapping[str, Any]]:
    """The field `trunk_details` of ports that are parents."""
    wanted = [port.trunk_id for port in objects if port.trunk_id and not port.parent_id]
    trunks = {trunk.id: trunk for trunk in _all(reader, Trunk, wanted)}
    inner = [sub.port_id for trunk in trunks.values() for sub in trunk.sub_ports]
    macs = {port.id: port.mac_address for port in _all(reader, Port, inner)}
    return [_details(trunks.get(port.trunk_id), macs) if not port.parent_id else {} for port in objects]


def _details(trunk: Trunk | None, macs: Mapping[str, str]) -> Mapping[str, Any]:
    if trunk is None:
        return {}
    subs = [{**msgspec.structs.asdict(s), "mac_address": macs.get(s.port_id, "")} for s in trunk.sub_ports]
    return {"trunk_details": {"trunk_id": trunk.id, "sub_ports": subs}}


def _all(reader: Reader, cls: type[Any], ids: Sequence[str]) -> Iterable[Any]:
    column = table_of(cls).c.id
    for start in range(0, len(ids), _AT_ONCE):
        yield from reader.select(cls, column.in_(ids[start : start + _AT_ONCE]))


def _held(call: Call, verb: str, id: str) -> Trunk:
    trunk = call.get(Trunk, id)
    call.require(verb, call.engine.target(call.tx, trunk))
    _refuse_locked(trunk)
    return trunk


def _clean(values: list[SubPort]) -> list[SubPort]:
    try:
        return clean_sub_ports(values)
    except ValueError as error:
        raise BadField("sub_ports", str(error), type="InvalidInput") from None


def _own_port(call: Call, id: str) -> Port:
    """A port that the caller may change, not only see: whoever owns a network sees all ports on it."""
    port = call.get(Port, id)
    call.require("update_port", call.engine.target(call.tx, port))
    return port


def _with(call: Call, trunk: Trunk, parent: Port, wanted: Sequence[SubPort]) -> Trunk:
    """The trunk with these sub-ports beside those that it has, and its status as of now."""
    found = list(trunk.sub_ports)
    taken = {sub.segmentation_id for sub in found}
    for each in wanted:
        sub = _take(call, trunk, parent, each)
        if sub.segmentation_id in taken:
            raise InUse(
                f"segmentation_type vlan and segmentation_id {sub.segmentation_id} already in use on trunk "
                f"{trunk.id}.",
                type="DuplicateSubPort",
                field="sub_ports",
            )
        taken.add(sub.segmentation_id)
        found.append(sub)
    trunk = replace(trunk, sub_ports=found)
    return replace(trunk, status=_status(call.tx, trunk))


def _take(call: Call, trunk: Trunk, parent: Port, sub: SubPort) -> SubPort:
    """Makes a port a sub-port; its VLAN filled in."""
    if sub.port_id == parent.id:
        raise InUse(
            f"Port {parent.id} is currently in use and is not eligible for use as a sub-port: it is the "
            "parent.",
            type="ParentPortInUse",
            field="sub_ports",
        )
    port = _own_port(call, sub.port_id)
    _refuse_taken(port)
    if port.device_id or port.host_id:
        raise InUse(
            f"Unable to complete operation on port {port.id}. Port is plugged in by itself, with device "
            f"'{port.device_id}'. Unplug it first.",
            type="PortInUse",
            field="sub_ports",
        )
    outer, inner = call.tx.get(Network, parent.network_id), call.tx.get(Network, port.network_id)
    assert outer is not None
    assert inner is not None
    if inner.mtu > outer.mtu:
        raise Conflict(
            f"MTU {inner.mtu} of subport {port.id} cannot be greater than MTU {outer.mtu} of trunk "
            f"{trunk.id}.",
            type="SubPortMtuGreaterThanTrunkPortMtu",
            field="sub_ports",
        )
    sub = _resolved(sub, inner)
    taken = replace(
        port,
        trunk_id=trunk.id,
        parent_id=parent.id,
        trunk_vlan=sub.segmentation_id,
        device_owner=SUBPORT,
        host_id=parent.host_id,
        **ports.binding(call, parent.host_id),
    )
    taken = ports.at_host(call, inner, taken)
    promises.grant_ports(call, [(port, taken)])
    call.save(taken)
    return sub


def _resolved(sub: SubPort, network: Network) -> SubPort:
    if sub.segmentation_type == "vlan":
        return sub
    if network.network_type != "vlan":
        raise BadRequest(
            f"Invalid input for operation: the network of port {sub.port_id} is of type "
            f"{network.network_type}, and so has no VLAN to inherit. Use segmentation_type vlan.",
            type="InvalidInput",
            field="sub_ports",
        )
    return replace(sub, segmentation_type="vlan", segmentation_id=network.segmentation_id)


def _let_go(call: Call, id: str) -> None:
    port = call.tx.get(Port, id)
    if port is not None:
        free = {"trunk_id": "", "parent_id": "", "trunk_vlan": None, "device_owner": "", "host_id": ""}
        call.save(replace(port, **free, **ports.binding(call, "")))


def _refuse_taken(port: Port) -> None:
    if port.trunk_id:
        raise InUse(f"Port {port.id} is in use by another trunk.", type="TrunkPortInUse", field="port_id")
    if port.device_owner.startswith("network:"):
        raise InUse(
            f"Port {port.id} is currently in use, as {port.device_owner}, and is not eligible for a trunk.",
            type="ParentPortInUse",
            field="port_id",
        )


def _refuse_locked(trunk: Trunk) -> None:
    if not trunk.admin_state_up:
        raise Conflict(
            f"Trunk {trunk.id} is currently disabled. Set admin_state_up first.", type="TrunkDisabled"
        )


def _status(reader: Reader, trunk: Trunk) -> str:
    """What its ports' status, which is observed, says of a trunk. One that is to be down delays nothing."""
    parent = reader.get(Port, trunk.port_id)
    if parent is None or parent.status != "ACTIVE":
        return "DOWN"
    found = (reader.get(Port, sub.port_id) for sub in trunk.sub_ports)
    waiting = any(p is not None and p.admin_state_up and p.status != "ACTIVE" for p in found)
    return "BUILD" if waiting else "ACTIVE"
