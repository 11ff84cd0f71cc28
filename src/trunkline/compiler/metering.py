"""Metering labels to what routers count, and what each host makes of it.

A router counts packets by *boxes*: a direction, where packets come from and where they go to. Of the boxes
that a packet is in, one lies within all others, and there alone it is counted. For this to say which rules
it matches, what two rules have in common is a box of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Barrier, Direction, Family, Meter
from trunkline.compiler.ndp_proxies import entrances
from trunkline.compiler.routing import leg_of
from trunkline.compiler.scopes import barriers
from trunkline.compiler.slices import MeterRule, MeterSlice
from trunkline.resources.network import (
    ROUTER_INTERFACE,
    MeteringLabel,
    MeteringLabelRule,
    Port,
    Router,
    gateways_of,
)
from trunkline.resources.network.metering import sides

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
_ANY: dict[Family, Prefix] = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


class Box(NamedTuple):
    """Packets of one direction at a gateway, by both sides; the sides are of one family."""

    direction: Direction
    source: Prefix
    destination: Prefix

    @property
    def family(self) -> Family:
        """Of both sides."""
        return 6 if self.source.version == 6 else 4


def box_of(rule: MeteringLabelRule) -> Box:
    """The packets that match a rule."""
    given = [None if text is None else ipaddress.ip_network(text) for text in sides(rule)]
    family: Family = 6 if any(side is not None and side.version == 6 for side in given) else 4
    source, destination = (side if side is not None else _ANY[family] for side in given)
    return Box(rule.direction, source, destination)


def common(one: Box, other: Box) -> Box | None:
    """The packets that are in both."""
    if one.direction != other.direction or one.family != other.family:
        return None
    source, destination = _within(one.source, other.source), _within(one.destination, other.destination)
    return None if source is None or destination is None else Box(one.direction, source, destination)


def _within(one: Prefix, other: Prefix) -> Prefix | None:
    longer, shorter = (one, other) if one.prefixlen >= other.prefixlen else (other, one)
    return longer if longer.supernet(new_prefix=shorter.prefixlen) == shorter else None


def closed(boxes: Iterable[Box]) -> set[Box]:
    """The boxes, and what any of them have in common.

    Two at a time are enough: of prefixes that have something in common, one is what they have.
    """
    given = list(dict.fromkeys(boxes))
    return {found for one in given for other in given if (found := common(one, other)) is not None}


def for_all(label: MeteringLabel) -> Iterator[bool]:
    """Of labels that count at the routers of all projects."""
    if label.shared:
        yield True


def labels_at(view: View, router: Router) -> list[MeteringLabel]:
    """The labels that count at a router, and have rules."""
    own = view.where(MeteringLabel, "project_id", router.project_id)
    found = {label.id: label for label in (*own, *view.where(MeteringLabel, for_all, True))}
    return [label for id, label in sorted(found.items()) if rules_of(view, id)]


def rules_of(view: View, label_id: str) -> list[MeteringLabelRule]:
    """The rules of a label."""
    return view.where(MeteringLabelRule, "metering_label_id", label_id)


def meters(view: View, key: str) -> Iterator[Meter]:
    """What a router counts at its gateways."""
    router = view.need(Router, key)
    gateways = [gateway.port_id for gateway in gateways_of(router)]
    if not gateways:
        return
    rules = [rule for label in labels_at(view, router) for rule in rules_of(view, label.id)]
    if not rules:
        return
    # What leaves is always counted: hosts know a gateway by it.
    boxes = closed([Box("egress", _ANY[4], _ANY[4]), *(box_of(rule) for rule in rules)])
    kept_apart = [*barriers(view, key), *entrances(view, key)]
    for gateway in gateways:
        for box in sorted(boxes, key=str):
            yield _meter(key, gateway, box)
        for barrier in kept_apart:
            yield from _past(key, gateway, boxes, barrier)


def _past(router: str, gateway: str, boxes: Iterable[Box], barrier: Barrier) -> Iterator[Meter]:
    """The same of what passes a barrier by its address: it does so before anything is counted."""
    direction: Direction
    if barrier.leaving == gateway:
        direction, legs = "egress", barrier.entered
    elif gateway in barrier.entered:
        direction, legs = "ingress", (barrier.leaving,)
    else:
        return
    anywhere = _ANY[barrier.family]
    passing = [Box(direction, ipaddress.ip_network(a), anywhere) for a in barrier.except_from]
    passing += [Box(direction, anywhere, ipaddress.ip_network(a)) for a in barrier.except_to]
    found = {each for one in passing for box in boxes if (each := common(one, box)) is not None}
    for box in sorted(found, key=str):
        yield _meter(router, gateway, box, legs, barrier.key)


def _meter(router: str, gateway: str, box: Box, legs: tuple[str, ...] = (), past: str = "") -> Meter:
    return Meter(
        key=f"{gateway}.{box.direction}.{box.source}.{box.destination}.{past}",
        router=router,
        gateway=gateway,
        direction=box.direction,
        family=box.family,
        source=_text(box.source),
        destination=_text(box.destination),
        past_barrier=legs,
    )


def _text(prefix: Prefix) -> str:
    return str(prefix) if prefix.prefixlen else ""


# What hosts are told.


def anything_counted(view: View, key: str) -> bool:
    """Whether there is any rule at all; of any key."""
    return bool(view.where(MeteringLabelRule, _every, True))


def _every(rule: MeteringLabelRule) -> Iterator[bool]:
    yield True


def leg_on(port: Port) -> Iterator[str]:
    """The id of the network that a router's inner leg is on."""
    if port.device_owner == ROUTER_INTERFACE:
        yield port.network_id


def counted_here(view: View, networks: Iterable[str], routers: Iterable[str]) -> tuple[MeterSlice, ...]:
    """What a host counts that has ports on these networks, and may carry gateways of these routers.

    What leaves is counted on the host that it comes from, however many routers are on its way.
    """
    if not view.ask(anything_counted, ""):
        return ()
    macs: dict[str, list[str]] = {}
    for router_id in sorted(_reached(view, networks, routers)):
        router = view.get(Router, router_id)
        gateways = [] if router is None else gateways_of(router)
        ports = [port for gateway in gateways if (port := view.get(Port, gateway.port_id)) is not None]
        if router is not None and ports:
            for label in labels_at(view, router):
                macs.setdefault(label.id, []).extend(port.mac_address for port in ports)
    return tuple(
        MeterSlice(
            label=id,
            gateways=tuple(found),
            rules=tuple(_rule(rule) for rule in rules_of(view, id)),
        )
        for id, found in sorted(macs.items())
    )


def _reached(view: View, networks: Iterable[str], routers: Iterable[str]) -> set[str]:
    """The routers that lead on from networks, by any number of them."""
    found, seen, left = set(routers), set[str](), list(networks)
    while left:
        network = left.pop()
        if network in seen:
            continue
        seen.add(network)
        for leg in view.where(Port, leg_on, network):
            if leg.device_id not in found:
                found.add(leg.device_id)
                own = view.where(Port, leg_of, leg.device_id)
                left += [port.network_id for port in own if port.device_owner == ROUTER_INTERFACE]
    return found


def _rule(rule: MeteringLabelRule) -> MeterRule:
    box = box_of(rule)
    return MeterRule(
        direction=box.direction,
        source=str(box.source),
        destination=str(box.destination),
        excluded=rule.excluded,
    )
