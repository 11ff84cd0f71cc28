"""Builds the use case of `dmz_plan` through the public API."""

from __future__ import annotations

from trunkline.cli.demos.dmz_measure import LISTENERS
from trunkline.cli.demos.dmz_plan import (
    BACK_IN_APP,
    FLOWS,
    FRONT_IN_DMZ,
    METADATA,
    NETWORKS,
    OUTSIDE,
    OUTSIDE_V4,
    SENDS_ALL,
    SERVERS,
    TIERS,
    Flow,
)
from trunkline.cli.demos.site import Json, Site
from trunkline.cli.progress import Steps
from trunkline.errors import NotFound

_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def build(site: Site, steps: Steps) -> None:
    """Everything, until the servers are ACTIVE. What an earlier run has left goes first.

    Raises:
        trunkline.errors.Refusal: what the cloud says, or that a server failed.
    """
    with steps.step("cleared") as step:
        left = site.remove(step)
        step.note(f"{left} things of an earlier run" if left else "nothing of an earlier run")
        site.check_room(len(SERVERS))
    with steps.step("networks") as step:
        networks = _networks(site)
        step.note(f"{len(networks)} networks, 4 routers")
    with steps.step("rules") as step:
        groups = _groups(site)
        step.note(f"{len(groups)} security groups from {len(FLOWS)} flows")
    with steps.step("servers") as step:
        for plan in SERVERS.values():
            id = site.server(plan.name, networks[plan.network], plan.address, LISTENERS, [groups[plan.tier]])
            if plan.floating:
                site.floating(site.ports(id)[0]["id"])
            step.note(plan.name)
        site.wait_active(step)


def addresses(site: Site) -> tuple[dict[str, str], dict[tuple[str, int], str]]:
    """Name to floating IP, and name and family to the server's own address, as the cloud tells them.

    Raises:
        NotFound: the demo is not there.
    """
    outer = {each["port_id"]: each["floating_ip_address"] for each in site.listed("floatingip")}
    floating, inside = {}, {}
    for server in site.servers():
        name = server["name"].removeprefix(f"{site.demo}-")
        for port in site.ports(server["id"]):
            if port["id"] in outer:
                floating[name] = outer[port["id"]]
            for fixed in port["fixed_ips"]:
                inside[name, 6 if ":" in fixed["ip_address"] else 4] = fixed["ip_address"]
    if missing := [name for name in SERVERS if (name, 4) not in inside]:
        raise NotFound(
            f"There is no {site.demo}-{missing[0]}. `{site.mark} --keep` builds the demo and leaves it there."
        )
    return floating, inside


def _networks(site: Site) -> dict[str, str]:
    """Networks, subnets, routers and routes; name to id of the networks."""
    dmz, app, db = (NETWORKS[name] for name in ("dmz", "app", "db"))
    networks = {name: site.network(name) for name in NETWORKS}
    # On IPv4 the hosts of an outer network are told the way inwards; on IPv6 their router knows it.
    inwards = {
        "dmz": [{"destination": plan.cidr, "nexthop": FRONT_IN_DMZ} for plan in (app, db)],
        "app": [{"destination": db.cidr, "nexthop": BACK_IN_APP}],
    }
    v4: dict[str, Json] = {}
    v6: dict[str, Json] = {}
    for name, plan in NETWORKS.items():
        told = {"gateway_ip": plan.gateway, "host_routes": inwards.get(name, [])}
        v4[name] = site.subnet(networks[name], f"{name}4", plan.cidr, **told)
        if plan.cidr6:
            v6[name] = site.subnet(networks[name], f"{name}6", plan.cidr6)

    edge, front, back = site.router("edge", outside=True), site.router("front"), site.router("back")
    site.gateway(edge, v4["dmz"])
    edge6 = site.gateway(edge, v6["dmz"])
    in_dmz6 = _v6(site.leg(front, v4["dmz"], FRONT_IN_DMZ))
    site.gateway(front, v4["app"])
    front6 = site.gateway(front, v6["app"])
    in_app6 = _v6(site.leg(back, v4["app"], BACK_IN_APP))
    site.gateway(back, v4["db"])
    site.gateway(back, v6["db"])
    site.routes(edge, {app.cidr6: in_dmz6, db.cidr6: in_dmz6})
    site.routes(front, {"0.0.0.0/0": dmz.gateway, "::/0": edge6, db.cidr: BACK_IN_APP, db.cidr6: in_app6})
    site.routes(back, {"0.0.0.0/0": app.gateway, "::/0": front6})
    site.gateway(site.router("twin", outside=True), v4["twin"])
    return networks


def _v6(addresses: list[str]) -> str:
    return next(address for address in addresses if ":" in address)


def _groups(site: Site) -> dict[str, str]:
    """A security group for each tier, with the rules that its flows need; tier to id."""
    groups = {tier: site.group(tier, sends_all=tier == SENDS_ALL) for tier in TIERS}
    for tier, group in groups.items():
        if tier != SENDS_ALL:
            # Who may send nothing may not even ask who it is.
            site.allow(group, "egress", 80, 4, remote_ip_prefix=METADATA)
    for flow in FLOWS:
        for family in flow.families:
            _allow(site, groups, flow, family)
    return groups


def _allow(site: Site, groups: dict[str, str], flow: Flow, family: int) -> None:
    """A rule at the source to send, and one at the target to receive."""
    if flow.source == OUTSIDE:
        receive = {"remote_ip_prefix": _ANYWHERE[family]}
    else:
        receive = {"remote_group_id": groups[flow.source]}
    if flow.target == OUTSIDE:
        send = {"remote_ip_prefix": f"{OUTSIDE_V4}/32"}
    else:
        send = {"remote_group_id": groups[flow.target]}
    if flow.source not in (OUTSIDE, SENDS_ALL):
        site.allow(groups[flow.source], "egress", flow.port, family, **send)
    if flow.target != OUTSIDE:
        site.allow(groups[flow.target], "ingress", flow.port, family, **receive)
