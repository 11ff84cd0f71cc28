"""Networks: which kind, which number, how large a packet; who may have what on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import common, private_vlans, promises, qos, segment_ranges, segments, wires
from trunkline.errors import BadRequest, Conflict, Exhausted, InUse
from trunkline.plan import numbers
from trunkline.resources.network import (
    METADATA,
    FloatingIP,
    Network,
    Port,
    Subnet,
    wires_of,
)

#: What an encapsulation adds to an inner IP packet over IPv4, bytes: the inner Ethernet header 14,
#: IP 20, UDP 8, VXLAN 8 (RFC 7348), or Geneve 8 with OVN's option of 8 (RFC 8926).
OVERHEAD = {"geneve": 58, "vxlan": 50}
#: The least that a family needs: RFC 791 and RFC 8200, section 5.
LEAST_MTU = {4: 68, 6: 1280}


@dataclass(frozen=True)
class Settings:
    """Facts of the region that no resource holds."""

    #: The IP packet that every physical network, the underlay included, is sure to carry, bytes.
    #: An underlay that carries more than this leaves room that tenants are not promised.
    physical_mtu: int = 1500
    #: How the region's hosts carry overlay networks: geneve or vxlan. OVN chooses it by host, not by network.
    overlay: Literal["geneve", "vxlan"] = "geneve"
    #: Agent id to when it was alive last, as its API shows times; whoever watches agents goes on writing.
    heartbeats: Mapping[str, str] = field(default_factory=dict)

    def largest(self, network_type: str | None) -> int:
        """The largest IP packet on a network of a type: 1442 for geneve over 1500."""
        return self.physical_mtu - OVERHEAD.get(network_type or "", 0)


class Networks:
    """The stages of networks."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: The overlay number given out last: where the next search begins. A hint alone: the claims decide.
        self._last_number: int | None = None

    def create(self, call: Call, network: Network, given: frozenset[str]) -> Network:
        """Chooses the network's number and packet size."""
        common.owned(network)
        network = segments.all_of(call, network) if network.segments else self._carried(call, network)
        segments.refuse_outside(network)
        _check_tags(network)
        if "qos_policy_id" not in given:
            network = replace(network, qos_policy_id=qos.default_of(call, network.project_id))
        qos.hold(call, network, None, network.qos_policy_id)
        _check_default(call, network)
        return replace(network, mtu=self._mtu(network))

    def update(self, call: Call, old: Network, new: Network, given: frozenset[str]) -> Network:
        """Refuses what those on the network could not go on with."""
        if "mtu" in given:
            new = replace(new, mtu=self._mtu(new))
            check_mtu(new, call.tx.find(Subnet, network_id=new.id))
        qos.hold(call, new, old.qos_policy_id, new.qos_policy_id)
        promises.grant_network(call, old, new)
        if given & {"is_default", "external"}:
            _check_default(call, new)
            segments.refuse_outside(new)
        private_vlans.switched(call, old, new)
        return new

    def delete(self, call: Call, network: Network) -> None:
        """Takes subnets and unused floating IPs along; refuses while any other port is left."""
        ports = call.tx.find(Port, network_id=network.id)
        unused = {f.floating_port_id: f for f in call.tx.find(FloatingIP, floating_network_id=network.id)}
        unused = {port_id: f for port_id, f in unused.items() if f.port_id is None}
        users = [port.id for port in ports if port.device_owner != METADATA and port.id not in unused]
        if users:
            raise InUse(
                f"Unable to complete operation on network {network.id}. There are one or more ports still in "
                f"use on the network, id for these ports: {', '.join(users[:10])}.",
                type="NetworkInUse",
            )
        for floating in unused.values():
            call.drop(floating)
        for port in ports:
            call.drop(port)
        for subnet in call.tx.find(Subnet, network_id=network.id):
            call.drop(subnet)
        segments.leave(call, network)

    def _carried(self, call: Call, network: Network) -> Network:
        """Claims what carries a network of one segment: by default, a number of the overlay."""
        overlay = self.settings.overlay
        network = replace(network, network_type=network.network_type or overlay)
        if network.network_type not in wires.OVERLAYS:
            wire = wires.claim(call, network, wires_of(network)[0], "provider:")
            return replace(network, segmentation_id=wire.segmentation_id)
        if network.network_type != overlay:
            raise BadRequest(
                f"Invalid input for provider:network_type: the hosts of this region carry {overlay}. "
                f"Leave it out, or start the cloud with --encapsulation {network.network_type}.",
                type="InvalidInput",
                field="provider:network_type",
            )
        return self._numbered(call, network)

    def _numbered(self, call: Call, network: Network) -> Network:
        """Gives an overlay network its number."""
        for name in ("physical_network", "segmentation_id"):
            if getattr(network, name) is not None:
                raise BadRequest(
                    f"Invalid input for provider:{name}: it is for networks of type flat and vlan; the cloud "
                    "numbers its overlay networks itself. Remove it.",
                    type="InvalidInput",
                    field=f"provider:{name}",
                )

        def taken(at_least: str, limit: int) -> list[str]:
            return call.tx.claimed(segment_ranges.OVERLAY_SCOPE, at_least=at_least, limit=limit)

        start = None if self._last_number is None else self._last_number + 1
        number = numbers.free(segment_ranges.offered(call, network, numbers.VNI), taken, 6, start)
        if number is None:
            raise Exhausted(
                "Unable to create the network. No overlay number is left.", type="NoNetworkAvailable"
            )
        call.tx.claim(segment_ranges.OVERLAY_SCOPE, numbers.vni_text(number), network.id)
        self._last_number = number
        return replace(network, segmentation_id=number)

    def _mtu(self, network: Network) -> int:
        largest = self.settings.largest(network.network_type)
        if network.mtu > largest:
            raise BadRequest(
                f"Invalid input for mtu: Requested MTU is too big, maximum is {largest}.",
                type="InvalidInput",
                field="mtu",
            )
        return network.mtu or largest


def _check_default(call: Call, network: Network) -> None:
    """That there is one default network at most, and it leads outside."""
    if not network.is_default:
        return
    if not network.external:
        raise BadRequest(
            "Invalid input for is_default: only an external network can be the default. Set router:external, "
            "or clear is_default.",
            type="InvalidInput",
            field="is_default",
        )
    for other in call.tx.find(Network, is_default=True):
        if other.id != network.id:
            raise Conflict(
                f"A default external network already exists: {other.id}.",
                type="DefaultExternalNetworkExists",
                field="is_default",
            )


def check_mtu(network: Network, subnets: Sequence[Subnet]) -> None:
    """Refuses a packet size that a family on the network cannot do with.

    Raises:
        Conflict: NetworkMTUSubnetConflict.
    """
    for subnet in subnets:
        least = LEAST_MTU[subnet.ip_version]
        if network.mtu < least:
            raise Conflict(
                f"The MTU {network.mtu} of network {network.id} is less than the {least} bytes that "
                f"IPv{subnet.ip_version} needs.",
                type="NetworkMTUSubnetConflict",
                field="mtu",
            )


def _check_tags(network: Network) -> None:
    """Refuses a service's tag where there is none, and to be told twice that guests' tags pass."""
    if not network.qinq:
        return
    problem = ""
    untagged = [wire.network_type for wire in wires_of(network) if wire.network_type != "vlan"]
    if untagged:
        problem = f"a network of type {untagged[0]} has no tag on the wire. Use a vlan network."
    elif network.vlan_transparent:
        problem = "guests' tags pass inside a service's tag anyway. Leave vlan_transparent out."
    if problem:
        raise BadRequest(f"Invalid input for qinq: {problem}", type="InvalidInput", field="qinq")
