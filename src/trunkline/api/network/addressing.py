"""Which addresses a port gets, claimed inside of the transaction that stores the port."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from trunkline.api.engine import Call
from trunkline.api.network import reach
from trunkline.errors import BadField, BadRequest, Conflict, Exhausted
from trunkline.plan import ipam, numbers
from trunkline.resources.network import (
    APPLIANCE,
    FIREWALL_LEG,
    FLOATING_IP,
    METADATA,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    FixedIp,
    Network,
    Subnet,
)

AUTOMATIC = frozenset({"slaac", "dhcpv6-stateless"})

#: The owners of ports whose addresses are set by the cloud, never formed by a host.
_FIXED = frozenset({ROUTER_INTERFACE, ROUTER_GATEWAY, FIREWALL_LEG, FLOATING_IP, APPLIANCE})

#: Subnet id to the address given out last: where the next search begins. A hint alone: the claims
#: decide, and without it the search begins at the start of the pool.
_last_given: dict[str, str] = {}
_MOST_REMEMBERED = 100_000


#: What the names of the scopes of addresses begin with.
SCOPE = "ip:"


def scope(subnet_id: str) -> str:
    """The scope of the claims on a subnet's addresses."""
    return f"{SCOPE}{subnet_id}"


def mac_scope(network_id: str) -> str:
    """The scope of the claims on a network's MAC addresses."""
    return f"mac:{network_id}"


def is_automatic(subnet: Subnet) -> bool:
    """Whether hosts form their addresses by themselves (RFC 4862)."""
    return subnet.ipv6_address_mode in AUTOMATIC


def subnets_of(call: Call, network: Network) -> list[Subnet]:
    """The subnets of a network, the oldest first."""
    place = {id: index for index, id in enumerate(network.subnets)}
    found = call.tx.find(Subnet, network_id=network.id)
    return sorted(found, key=lambda subnet: place.get(subnet.id, len(place)))


def claim_mac(call: Call, network_id: str, port_id: str, mac: str, seed: str = "") -> str:
    """Claims a MAC address for a port: the given one, or one of our own.

    Args:
        seed: what one of our own is derived from, by default the port's id.
    Raises:
        Conflict: MacAddressInUse.
    """
    if mac:
        if not call.tx.claim(mac_scope(network_id), mac, port_id):
            raise Conflict(
                f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.",
                type="MacAddressInUse",
            )
        return mac
    for attempt in range(16):
        mac = numbers.mac_address(seed or port_id, attempt)
        if call.tx.claim(mac_scope(network_id), mac, port_id):
            return mac
    raise Exhausted(f"No MAC address is left on network {network_id}.", type="MacAddressGenerationFailure")


def assign(
    call: Call,
    network: Network,
    port_id: str,
    mac: str,
    owner: str,
    wanted: Sequence[FixedIp] | None,
    held: Sequence[FixedIp] = (),
    host: str = "",
) -> list[FixedIp]:
    """Claims the addresses of a port, and lets go of those that it has no more.

    Args:
        owner: the port's device owner.
        wanted: what a request says; None to choose: one address of each family, and one on every
            subnet where hosts form theirs by themselves.
        held: what the port has now.
        host: where it is plugged in; "" where that is not known. Where subnets are of segments, a port gets
            addresses of its host's alone, and none that it does not name while it has no host.
    Returns: addresses with their subnets, in the order wanted.
    Raises:
        BadField, NotFound: a subnet or address is not of the network.
        Conflict: IpAddressInUse, HostNotCompatibleWithFixedIps. Exhausted: IpAddressGenerationFailure.
    """
    subnets = subnets_of(call, network)
    routed = not network.l2_adjacency and owner != METADATA
    if wanted is None:
        if routed and not host:
            return []
        fitting = reach.usable(call, network, subnets, host) if routed else subnets
        if routed and not fitting:
            raise reach.no_subnet(network, host)
        return _choose_all(call, network, port_id, mac, owner, fitting)
    by_id = {s.id: s for s in subnets}
    resolved = [_resolve(network, by_id, subnets, fixed) for fixed in wanted]
    if routed:
        chosen = [subnet for subnet, _ in resolved]
        subnets = reach.beside(subnets, chosen)
        if host and not {s.id for s in chosen} <= {s.id for s in reach.usable(call, network, subnets, host)}:
            raise reach.not_compatible(host, port_id)
    router = owner in _FIXED
    keep = {(f.subnet_id, f.ip_address) for f in held}
    kept_by_subnet: dict[str, list[str]] = {}
    named = {address for _, address in resolved if address is not None}
    for fixed in held:
        if fixed.ip_address is not None and fixed.ip_address not in named:
            kept_by_subnet.setdefault(fixed.subnet_id or "", []).append(fixed.ip_address)
    result = []
    for subnet, address in resolved:
        if address is None and is_automatic(subnet) and not router:
            address = ipam.eui64(subnet.cidr, mac)
        elif address is None and kept_by_subnet.get(subnet.id):
            # A subnet alone is satisfied by the address that the port has there.
            address = kept_by_subnet[subnet.id].pop(0)
        if address is not None and (subnet.id, address) not in keep:
            _check_named(subnet, address, mac, router)
            _claim(call, network, subnet, address, port_id)
        if address is None:
            address = _choose(call, network, [subnet], port_id, mac, router)[1]
        result.append(FixedIp(subnet_id=subnet.id, ip_address=address))
    if wanted and not router:
        # Hosts form an address wherever a router advertises such a subnet, asked for or not.
        have = {f.subnet_id for f in result}
        for subnet in subnets:
            if is_automatic(subnet) and subnet.id not in have:
                result.append(_formed(call, network, subnet, port_id, mac, held))
    release(call, port_id, [f for f in held if f not in result])
    return result


def release(call: Call, port_id: str, addresses: Iterable[FixedIp]) -> None:
    """Gives addresses back."""
    for fixed in addresses:
        if fixed.subnet_id and fixed.ip_address:
            call.tx.release(port_id, scope(fixed.subnet_id), ipam.claim(fixed.ip_address))


def claim_automatic(call: Call, network: Network, subnet: Subnet, port_id: str, mac: str) -> FixedIp:
    """Claims the address that a host with this MAC forms on the subnet."""
    address = ipam.eui64(subnet.cidr, mac)
    _claim(call, network, subnet, address, port_id)
    return FixedIp(subnet_id=subnet.id, ip_address=address)


def _formed(
    call: Call, network: Network, subnet: Subnet, port_id: str, mac: str, held: Sequence[FixedIp]
) -> FixedIp:
    """The address that a port's host forms, claimed unless the port has it."""
    fixed = FixedIp(subnet_id=subnet.id, ip_address=ipam.eui64(subnet.cidr, mac))
    return fixed if fixed in held else claim_automatic(call, network, subnet, port_id, mac)


def _choose_all(
    call: Call, network: Network, port_id: str, mac: str, owner: str, subnets: Sequence[Subnet]
) -> list[FixedIp]:
    router = owner in _FIXED
    result = []
    for version in (4, 6):
        family = [s for s in subnets if s.ip_version == version and (router or not is_automatic(s))]
        managed = for_owner(family, owner)
        if managed:
            subnet, address = _choose(call, network, managed, port_id, mac, router)
            result.append(FixedIp(subnet_id=subnet.id, ip_address=address))
    if not router:
        result += [claim_automatic(call, network, s, port_id, mac) for s in subnets if is_automatic(s)]
    if subnets and not result:
        raise Exhausted(
            f"No more IP addresses available on network {network.id}: none of its subnets is for the service "
            f"type '{owner}'.",
            type="IpAddressGenerationFailureNoMatchingSubnet",
        )
    return result


def for_owner(subnets: Sequence[Subnet], owner: str) -> list[Subnet]:
    """The subnets that a port's addresses are chosen from: those of its device owner, else of all others."""
    own = [s for s in subnets if owner and owner in s.service_types]
    return own or [s for s in subnets if not s.service_types]


def _choose(
    call: Call, network: Network, subnets: Sequence[Subnet], port_id: str, mac: str, router: bool
) -> tuple[Subnet, str]:
    """An address on the first of the subnets that has one left."""
    for subnet in subnets:
        if is_automatic(subnet) and not router:
            return subnet, claim_automatic(call, network, subnet, port_id, mac).ip_address or ""

        def taken(at_least: str, limit: int, subnet_id: str = subnet.id) -> Sequence[str]:
            return call.tx.claimed(scope(subnet_id), at_least=at_least, limit=limit)

        address = ipam.choose(subnet.allocation_pools, taken, _last_given.get(subnet.id))
        if address is not None:
            call.tx.claim(scope(subnet.id), ipam.claim(address), port_id)
            if len(_last_given) >= _MOST_REMEMBERED:
                _last_given.clear()
            _last_given[subnet.id] = address
            return subnet, address
    raise Exhausted(
        f"No more IP addresses available on network {network.id}.", type="IpAddressGenerationFailure"
    )


def _resolve(
    network: Network, by_id: dict[str, Subnet], subnets: Sequence[Subnet], fixed: FixedIp
) -> tuple[Subnet, str | None]:
    """The subnet of what is wanted, and the address if one is named."""
    address = fixed.ip_address
    if fixed.subnet_id is not None:
        subnet = by_id.get(fixed.subnet_id)
        if subnet is None:
            raise BadRequest(
                f"Failed to create port on network {network.id}, because fixed_ips included invalid subnet "
                f"{fixed.subnet_id}.",
                type="InvalidInput",
                field="fixed_ips",
            )
    else:
        found = [s for s in subnets if address is not None and ipam.contains(s.cidr, address)]
        if not found:
            raise BadRequest(
                f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
                type="InvalidIpForNetwork",
                field="fixed_ips",
            )
        subnet = found[0]
    if address is not None and not ipam.is_host(subnet.cidr, address):
        raise BadRequest(
            f"IP address {address} is not a valid IP for the specified subnet.",
            type="InvalidIpForSubnet",
            field="fixed_ips",
        )
    return subnet, address


def _check_named(subnet: Subnet, address: str, mac: str, router: bool) -> None:
    if is_automatic(subnet) and not router and address != ipam.eui64(subnet.cidr, mac):
        raise BadRequest(
            f"IPv6 address {address} can not be directly assigned to a port on subnet {subnet.id} since the "
            "subnet is configured for automatic addresses.",
            type="AllocationOnAutoAddressSubnet",
            field="fixed_ips",
        )


def _claim(call: Call, network: Network, subnet: Subnet, address: str, port_id: str) -> None:
    value = ipam.claim(address)
    if call.tx.claim_owner(scope(subnet.id), value) is not None:
        raise Conflict(
            f"IP address {address} already allocated in subnet {subnet.id} of network {network.id}.",
            type="IpAddressInUse",
        )
    call.tx.claim(scope(subnet.id), value, port_id)


def owners_on(call: Call, subnet_id: str) -> dict[str, str]:
    """The addresses that are claimed on a subnet, each with the id of the port that has it."""
    result = {}
    for value in call.tx.claimed(scope(subnet_id)):
        owner = call.tx.claim_owner(scope(subnet_id), value)
        if owner is not None:
            result[ipam.unclaim(value)] = owner
    return result


def owner_of(call: Call, subnet_id: str, address: str) -> str | None:
    """The id of the port that has an address, or None."""
    return call.tx.claim_owner(scope(subnet_id), ipam.claim(address))


def version(address: str) -> int:
    """4 or 6."""
    return ipaddress.ip_address(address).version


def refuse_field(field: str, problem: str) -> BadField:
    """A field's error under the name that network clients know."""
    return BadField(field, problem, type="InvalidInput")
