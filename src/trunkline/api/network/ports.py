"""Ports: addresses, security, binding, and what may not be done to the cloud's own."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import (
    addressing,
    common,
    floatingips,
    forwarding,
    local_ips,
    logs,
    mirrors,
    ndp_proxies,
    private_vlans,
    promises,
    qos,
    reach,
    security_groups,
)
from trunkline.api.network.addressing import refuse_field
from trunkline.errors import BadRequest, Conflict, InUse
from trunkline.resources.compute import Server
from trunkline.resources.network import (
    INTERNAL_OWNERS,
    AddressPair,
    ExtraDhcpOption,
    FixedIp,
    Network,
    Port,
    Router,
    SecurityGroup,
    Trunk,
)
from trunkline.resources.region import Host
from trunkline.store import Reader

#: What may be changed on a port that the cloud made for a router or a service of its own.
_FREE = frozenset({"name", "description", "admin_state_up"})


def create(call: Call, port: Port, given: frozenset[str]) -> Port:
    """Gives a new port its MAC address, its addresses and its security groups."""
    common.owned(port)
    network = call.get(Network, port.network_id)
    target = call.engine.target(call.tx, port)
    call.require("create_port:network_id", target)
    if "fixed_ips" in given:
        _require_addresses(call, "create", port.fixed_ips, target)
    _refuse_internal_owner(port)
    _refuse_others_device(call, port)
    if "port_security_enabled" not in given:
        trusted = port.device_owner.startswith("network:")
        port = replace(port, port_security_enabled=network.port_security_enabled and not trusted)
    port = private_vlans.first(call, network, port)
    mac = addressing.claim_mac(call, network.id, port.id, port.mac_address)
    addresses = addressing.assign(
        call,
        network,
        port.id,
        mac,
        port.device_owner,
        port.fixed_ips if "fixed_ips" in given else None,
        host=port.host_id,
    )
    groups = _first_groups(call, port, given)
    port = replace(
        port,
        mac_address=mac,
        fixed_ips=addresses,
        security_groups=groups,
        allowed_address_pairs=_pairs(port.allowed_address_pairs, mac),
        extra_dhcp_opts=[o for o in port.extra_dhcp_opts if o.opt_value is not None],
        **binding(call, port.host_id),
    )
    port = replace(port, ip_allocation=reach.allocation(network, port, asked="fixed_ips" in given))
    reach.check_host(call, network, port, port.host_id)
    _check_security(port)
    _check_options(port.extra_dhcp_opts)
    _hold_groups(call, port.id, (), groups)
    qos.hold(call, port, None, port.qos_policy_id)
    promises.grant_ports(call, [(None, port)])
    return port


def update(call: Call, old: Port, new: Port, given: frozenset[str]) -> Port:
    """Moves claims from the old to the new state of a port."""
    if old.device_owner in INTERNAL_OWNERS:
        _refuse_on_internal(old, given)
        return new
    network = call.tx.get(Network, old.network_id)
    assert network is not None
    target = call.engine.target(call.tx, new)
    if old.parent_id:
        _refuse_on_subport(old, new)
    local_ips.refuse_detached(call, old, new)
    if new.device_owner != old.device_owner:
        _refuse_internal_owner(new)
        call.require("create_port:device_owner", target)
    if new.device_id != old.device_id:
        _refuse_others_device(call, new)
    if "mac_address" in given and new.mac_address != old.mac_address:
        new = _with_mac(call, old, new)
    if "fixed_ips" in given:
        fresh = [f for f in new.fixed_ips if f not in old.fixed_ips]
        _require_addresses(call, "update", fresh, target)
        new = _with_addresses(call, network, old, new, new.fixed_ips)
        if new.fixed_ips != old.fixed_ips:
            new = replace(new, ip_allocation=reach.allocation(network, new, asked=True))
    elif new.mac_address != old.mac_address:
        new = _with_addresses(call, network, old, new, _movable(call, network, old))
    if new.host_id != old.host_id:
        new = at_host(call, network, new)
    if "security_groups" in given:
        groups = _checked_groups(call, new.security_groups)
        new = replace(new, security_groups=groups)
        _hold_groups(call, new.id, old.security_groups, groups)
    if "allowed_address_pairs" in given:
        new = replace(new, allowed_address_pairs=_pairs(new.allowed_address_pairs, new.mac_address))
    if "extra_dhcp_opts" in given:
        new = replace(new, extra_dhcp_opts=_merged(old.extra_dhcp_opts, new.extra_dhcp_opts))
        _check_options(new.extra_dhcp_opts)
    _check_security(new)
    new = private_vlans.changed(network, new, given)
    qos.hold(call, new, old.qos_policy_id, new.qos_policy_id)
    moved = _moved_subports(call, new) if new.host_id != old.host_id else []
    promises.grant_ports(call, [(old, new), *moved])
    if new.host_id != old.host_id:
        left = [each for each in new.bindings if each.host != new.host_id] if new.host_id else []
        new = replace(new, bindings=left, **binding(call, new.host_id))
        for _, sub in moved:
            call.save(sub)
    return new


def delete(call: Call, port: Port) -> None:
    """Refuses the cloud's own; floating IPs of the port stand for nothing from then on."""
    if port.device_owner in INTERNAL_OWNERS:
        raise Conflict(
            f"Port {port.id} cannot be deleted directly via the port API: has device owner "
            f"{port.device_owner}.",
            type="ServicePortInUse",
        )
    if port.trunk_id:
        role = "subport" if port.parent_id else "parent port"
        raise InUse(
            f"Port {port.id} is currently a {role} for trunk {port.trunk_id}.",
            type="PortInUseAsSubPort" if port.parent_id else "PortInUseAsTrunkParent",
        )
    floatingips.disassociate(call, port)
    local_ips.leave(call, port)
    mirrors.leave(call, port)
    ndp_proxies.leave(call, port)
    forwarding.drop_of(call, port)
    logs.drop_of(call, port)


def binding(call: Call, host_id: str) -> dict[str, Any]:
    """How a port is attached on a host: the fields `vif_type` and `vif_details`."""
    return attachment(call.tx, host_id)


def attachment(reader: Reader, host_id: str) -> dict[str, Any]:
    """The same, as a snapshot has it."""
    if not host_id:
        return {"vif_type": "unbound", "vif_details": {}}
    if reader.get(Host, host_id) is None:
        return {"vif_type": "binding_failed", "vif_details": {}}
    return {"vif_type": "ovs", "vif_details": {"port_filter": True, "connectivity": "l2"}}


def refuse_unbindable(port: Port) -> None:
    """Refuses a port that is not bound by itself: the cloud's own, and sub-ports of trunks."""
    if port.device_owner in INTERNAL_OWNERS:
        raise Conflict(
            f"Port {port.id} belongs to the cloud, with device owner {port.device_owner}: it is bound by it.",
            type="UnsupportedPortDeviceOwner",
        )
    if port.parent_id:
        raise InUse(
            f"Port {port.id} is currently a subport for trunk {port.trunk_id}: it is bound with its parent.",
            type="PortInUseAsSubPort",
        )


def _refuse_on_subport(old: Port, new: Port) -> None:
    """A sub-port is where its parent is, and cannot be plugged in by itself."""
    for name, wire in (("host_id", "binding:host_id"), ("device_id", ""), ("device_owner", "")):
        if getattr(new, name) != getattr(old, name):
            raise InUse(
                f"Port {old.id} is currently a subport for trunk {old.trunk_id}: it is plugged in with its "
                "parent. Remove it from the trunk first.",
                type="PortInUseAsSubPort",
                field=wire or name,
            )


def _moved_subports(call: Call, parent: Port) -> list[tuple[Port, Port]]:
    """The sub-ports of a parent that is bound to another host, as they were, and as they go with it."""
    trunk = call.tx.get(Trunk, parent.trunk_id) if parent.trunk_id else None
    ports = (call.tx.get(Port, sub.port_id) for sub in trunk.sub_ports) if trunk is not None else ()
    bound = binding(call, parent.host_id)
    found = []
    for port in ports:
        network = None if port is None else call.tx.get(Network, port.network_id)
        if port is not None and network is not None:
            moved = at_host(call, network, replace(port, host_id=parent.host_id, **bound))
            found.append((port, moved))
    return found


def at_host(call: Call, network: Network, port: Port) -> Port:
    """A port that has another host from now on: with the addresses that waited for it, or those it had."""
    if port.host_id and port.ip_allocation == "deferred":
        addresses = addressing.assign(
            call, network, port.id, port.mac_address, port.device_owner, None, host=port.host_id
        )
        return replace(port, fixed_ips=addresses, ip_allocation="immediate")
    reach.check_host(call, network, port, port.host_id)
    return port


def _refuse_others_device(call: Call, port: Port) -> None:
    """A port says that it is of a router or a server only where that is of the same project."""
    if not port.device_id or call.context.is_admin:
        return
    device = call.tx.get(Router, port.device_id) or call.tx.get(Server, port.device_id)
    if device is not None and device.project_id != port.project_id:
        raise Conflict(
            f"The following device_id {port.device_id} is not owned by your project.",
            type="DeviceIDNotOwnedByTenant",
            field="device_id",
        )


def _require_addresses(call: Call, verb: str, addresses: list[FixedIp], target: dict[str, Any]) -> None:
    if any(fixed.ip_address is not None for fixed in addresses):
        call.require(f"{verb}_port:fixed_ips:ip_address", target)


def _refuse_internal_owner(port: Port) -> None:
    if port.device_owner in INTERNAL_OWNERS:
        raise refuse_field(
            "device_owner", f"'{port.device_owner}' marks ports that the cloud makes itself. Choose another."
        )


def _refuse_on_internal(port: Port, given: frozenset[str]) -> None:
    refused = sorted(given - _FREE)
    if refused:
        raise Conflict(
            f"Port {port.id} belongs to the cloud, with device owner {port.device_owner}: {refused[0]} "
            "cannot "
            "be changed on it.",
            type="UnsupportedPortDeviceOwner",
            field=refused[0],
        )


def _with_mac(call: Call, old: Port, new: Port) -> Port:
    if old.vif_type not in ("unbound", "binding_failed"):
        raise InUse(
            f"Unable to complete operation on port {old.id}, port is already bound, port type: "
            f"{old.vif_type}. "
            "Unplug it first.",
            type="PortBound",
            field="mac_address",
        )
    seed = f"{old.id}/{old.revision_number}"
    mac = addressing.claim_mac(call, old.network_id, old.id, new.mac_address, seed)
    call.tx.release(old.id, addressing.mac_scope(old.network_id), old.mac_address)
    pairs = [
        replace(p, mac_address=mac) if p.mac_address == old.mac_address else p
        for p in new.allowed_address_pairs
    ]
    return replace(new, mac_address=mac, allowed_address_pairs=pairs)


def _with_addresses(call: Call, network: Network, old: Port, new: Port, wanted: list[FixedIp]) -> Port:
    addresses = addressing.assign(
        call,
        network,
        old.id,
        new.mac_address,
        new.device_owner,
        wanted,
        held=old.fixed_ips,
        host=new.host_id,
    )
    gone = {f.ip_address for f in old.fixed_ips} - {f.ip_address for f in addresses}
    floatingips.refuse_without(call, old, gone)
    forwarding.refuse_without(call, old, gone)
    ndp_proxies.refuse_without(call, old, gone)
    local_ips.refuse_without(call, old, gone)
    return replace(new, fixed_ips=addresses)


def _movable(call: Call, network: Network, port: Port) -> list[FixedIp]:
    """A port's addresses, those that follow from its MAC address left to be formed again."""
    automatic = {s.id for s in addressing.subnets_of(call, network) if addressing.is_automatic(s)}
    return [FixedIp(subnet_id=f.subnet_id) if f.subnet_id in automatic else f for f in port.fixed_ips]


def _first_groups(call: Call, port: Port, given: frozenset[str]) -> list[str]:
    if "security_groups" in given:
        return _checked_groups(call, port.security_groups)
    if not port.port_security_enabled or port.device_owner.startswith("network:"):
        return []
    return [security_groups.default_of(call, port.project_id)]


def _checked_groups(call: Call, ids: list[str]) -> list[str]:
    groups = [call.get(SecurityGroup, id) for id in dict.fromkeys(ids)]
    if len({group.stateful for group in groups}) > 1:
        raise Conflict(
            "Error Cannot apply both stateful and stateless security groups on the same port at the "
            "same time.",
            type="SecurityGroupConflict",
            field="security_groups",
        )
    return [group.id for group in groups]


def _hold_groups(call: Call, port_id: str, old: Any, new: Any) -> None:
    for id in set(old) - set(new):
        call.tx.release(port_id, security_groups.users_scope(id), port_id)
    for id in set(new) - set(old):
        call.tx.claim(security_groups.users_scope(id), port_id, port_id)


def _check_security(port: Port) -> None:
    if port.port_security_enabled:
        return
    if port.security_groups:
        raise Conflict(
            "Port has security group associated. Cannot disable port security or IP address until security "
            "group is removed.",
            type="PortSecurityPortHasSecurityGroup",
            field="port_security_enabled",
        )
    if port.allowed_address_pairs:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            type="AddressPairAndPortSecurityRequired",
            field="allowed_address_pairs",
        )


def _pairs(pairs: list[AddressPair], mac: str) -> list[AddressPair]:
    filled = [replace(pair, mac_address=pair.mac_address or mac) for pair in pairs]
    if len(set(filled)) < len(filled):
        raise BadRequest(
            "Request contains duplicate address pair.",
            type="DuplicateAddressPairInRequest",
            field="allowed_address_pairs",
        )
    return filled


def _merged(old: list[ExtraDhcpOption], changes: list[ExtraDhcpOption]) -> list[ExtraDhcpOption]:
    """An update changes the options that it names, and removes those that it gives no value."""
    options = {(o.opt_name, o.ip_version): o for o in old}
    for change in changes:
        key = (change.opt_name, change.ip_version)
        if change.opt_value is None:
            options.pop(key, None)
        else:
            options[key] = change
    return list(options.values())


def _check_options(options: list[ExtraDhcpOption]) -> None:
    if len(options) > 32:
        raise refuse_field("extra_dhcp_opts", "at most 32 options.")
