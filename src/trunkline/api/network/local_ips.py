"""Local IPs: whose address, and which ports they lead to."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.network import common
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import Conflict, InUse, NotFound
from trunkline.resources.network import (
    INTERNAL_OWNERS,
    LOCAL_IP,
    FixedIp,
    LocalIP,
    Port,
    PortAssociation,
)
from trunkline.resources.network.checks import clean_uuid
from trunkline.resources.schema import convert
from trunkline.resources.types import ip_address
from trunkline.store import Reader


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What is inside the body that makes an association."""

    fixed_port_id: str
    fixed_ip: str | None = None


def create(call: Call, local: LocalIP, given: frozenset[str]) -> LocalIP:
    """Takes an address of the port that is named, or of a new one."""
    common.owned(local)
    if local.local_port_id is not None:
        port = call.get(Port, local.local_port_id)
        call.require("update_port", call.engine.target(call.tx, port))
        if local.network_id not in (None, port.network_id):
            raise refuse_field("network_id", f"port {port.id} is on another network. Leave it out.")
        if port.device_owner in INTERNAL_OWNERS:
            raise refuse_field("local_port_id", f"port {port.id} belongs to the cloud. Choose another.")
    elif local.network_id is not None:
        port = _made(call, local)
    else:
        raise refuse_field("local_port_id", "it is required, or network_id.")
    address = _chosen(port, local.local_ip_address, 4, "local_ip_address")
    for other in call.tx.find(LocalIP, local_port_id=port.id):
        if other.local_ip_address == address:
            raise Conflict(f"Address {address} is that of local IP {other.id}.", type="LocalIPAddressInUse")
    return replace(
        local, local_port_id=port.id, network_id=port.network_id, local_ip_address=address, associations=[]
    )


def delete(call: Call, local: LocalIP) -> None:
    """Takes the port along that was made for it; refuses while it leads anywhere."""
    if local.associations:
        ports = ", ".join(each.port_id for each in local.associations[:10])
        raise InUse(
            f"Local IP {local.id} is associated with ports: {ports}. Delete the associations first.",
            type="LocalIPInUse",
        )
    port = call.tx.get(Port, local.local_port_id or "")
    if port is not None and (port.device_owner, port.device_id) == (LOCAL_IP, local.id):
        call.drop(port)


def refuse_detached(call: Call, old: Port, new: Port) -> None:
    """Refuses to make something else of a port that was made for a local IP, and that goes with it."""
    for field in ("device_owner", "device_id"):
        if old.device_owner != LOCAL_IP or getattr(new, field) == getattr(old, field):
            continue
        local = call.tx.get(LocalIP, old.device_id)
        if local is not None and local.local_port_id == old.id:
            raise InUse(
                f"Port {old.id} was made for local IP {local.id}. Delete that, or name a port of your own in "
                "another one.",
                type="PortInUse",
                field=field,
            )


def refuse_without(call: Call, port: Port, gone: set[str | None]) -> None:
    """Refuses to take an address from a port that a local IP is, or leads to."""
    if not gone:
        return
    for local in call.tx.find(LocalIP, network_id=port.network_id):
        led_to = {each.address for each in local.associations if each.port_id == port.id}
        own = {local.local_ip_address} if local.local_port_id == port.id else set()
        if used := (led_to | own) & gone:
            raise InUse(
                f"Address {min(filter(None, used))} of port {port.id} is in use by local IP {local.id}.",
                type="PortInUse",
                field="fixed_ips",
            )


def leave(call: Call, port: Port) -> None:
    """No local IP leads to a port that is deleted; one whose own port it is keeps it."""
    for local in call.tx.find(LocalIP, network_id=port.network_id):
        if local.local_port_id == port.id:
            raise InUse(
                f"Port {port.id} has the address of local IP {local.id}. Delete that first.",
                type="LocalPortInUse",
            )
        left = [each for each in local.associations if each.port_id != port.id]
        if len(left) < len(local.associations):
            call.save(replace(local, associations=left))


def index(engine: Engine, reader: Reader, context: Context, id: str) -> list[dict[str, Any]]:
    """The associations of a local IP."""
    local = engine.get(reader, context, LocalIP, id)
    engine.require("get_local_ip_port_association", context, engine.target(reader, local))
    return [_shown(reader, local, each) for each in local.associations]


def show(engine: Engine, reader: Reader, context: Context, id: str, port_id: str) -> dict[str, Any]:
    """One of them, by its port."""
    for each in index(engine, reader, context, id):
        if each["fixed_port_id"] == port_id:
            return each
    raise _missing(id, port_id)


def associate(call: Call, id: str, body: Any) -> dict[str, Any]:
    """Has a local IP lead to a port on the port's host.

    Raises:
        BadField: the port has no such address, or cannot be led to. Conflict: it is associated.
    """
    given: Wanted = convert(body, Wanted, what="port_association")
    local = _get(call, "create_local_ip_port_association", id)
    try:
        port_id = clean_uuid(given.fixed_port_id)
        wanted = None if given.fixed_ip is None else ip_address(given.fixed_ip)
    except ValueError as error:
        raise refuse_field("port_association", str(error)) from None
    port = call.get(Port, port_id)
    call.require("update_port", call.engine.target(call.tx, port))
    if port.network_id != local.network_id or port.id == local.local_port_id:
        raise refuse_field("fixed_port_id", f"it is another port of network {local.network_id}.")
    if port.device_owner in INTERNAL_OWNERS or port.parent_id:
        raise refuse_field("fixed_port_id", f"port {port.id} is no port of a server. Choose another.")
    if any(each.port_id == port.id for each in local.associations):
        raise Conflict(
            f"Local IP {local.id} is already associated with port {port.id}.",
            type="LocalIPPortAssociationExists",
        )
    family = ipaddress.ip_address(local.local_ip_address or "").version
    made = PortAssociation(port_id=port.id, address=_chosen(port, wanted, family, "fixed_ip"))
    if ipaddress.ip_address(made.address).version != family:
        raise refuse_field("fixed_ip", f"it is an address of IPv{family}, as {local.local_ip_address} is.")
    local = call.save(replace(local, associations=[*local.associations, made]))
    return _shown(call.tx, local, made)


def dissociate(call: Call, id: str, port_id: str) -> None:
    """Has it lead there no more.

    Raises:
        NotFound: LocalIPPortAssociationNotFound.
    """
    local = _get(call, "delete_local_ip_port_association", id)
    left = [each for each in local.associations if each.port_id != port_id]
    if len(left) == len(local.associations):
        raise _missing(id, port_id)
    call.save(replace(local, associations=left))


def _made(call: Call, local: LocalIP) -> Port:
    fields: dict[str, Any] = {
        "project_id": local.project_id,
        "network_id": local.network_id,
        "device_owner": LOCAL_IP,
        "device_id": local.id,
        "port_security_enabled": True,
        "security_groups": [],
    }
    if local.local_ip_address is not None:
        fields["fixed_ips"] = [FixedIp(ip_address=local.local_ip_address)]
    return call.create(Port, fields)


def _chosen(port: Port, wanted: str | None, family: int, field: str) -> str:
    """An address of a port: the wanted one, or the first of a family, or else any."""
    own = [fixed.ip_address for fixed in port.fixed_ips if fixed.ip_address]
    if wanted is not None:
        if wanted not in own:
            raise refuse_field(field, f"port {port.id} does not have the address {wanted}.")
        return wanted
    if not own:
        raise refuse_field(field, f"port {port.id} has no address. Give it one.")
    return min(own, key=lambda address: ipaddress.ip_address(address).version != family)


def _get(call: Call, rule: str, id: str) -> LocalIP:
    local = call.get(LocalIP, id)
    call.require(rule, call.engine.target(call.tx, local))
    return local


def _missing(id: str, port_id: str) -> NotFound:
    return NotFound(
        f"Local IP {id} port {port_id[:80]} association could not be found.",
        type="LocalIPPortAssociationNotFound",
    )


def _shown(reader: Reader, local: LocalIP, each: PortAssociation) -> dict[str, Any]:
    port = reader.get(Port, each.port_id)
    return {
        "local_ip_id": local.id,
        "local_ip_address": local.local_ip_address,
        "fixed_port_id": each.port_id,
        "fixed_ip": each.address,
        "host": "" if port is None else port.host_id,
        "project_id": local.project_id,
    }
