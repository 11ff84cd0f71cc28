"""What each host is told: its own servers, ports, images and metadata services, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from trunkline.compiler.hosts import host_slices
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import GatewaySlice, HostSlice, KeptSlice, LinkShare, Origin, PacketLimit
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.compute import FlavorFacts, ImageFacts, Server
from trunkline.resources.network import (
    METADATA,
    ROUTER_GATEWAY,
    AddressPair,
    Binding,
    FixedIp,
    FloatingIP,
    Gateway,
    HostRoute,
    Network,
    Port,
    QosMinimumBandwidthRule,
    QosPacketRateLimitRule,
    Router,
    Subnet,
    SubPort,
    Trunk,
)
from trunkline.resources.region import Host, HostLink
from trunkline.resources.schema import Resource

NET = Network(id="n1", mtu=1442)
SUBNET = Subnet(
    id="s1", network_id="n1", cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dns_nameservers=["9.9.9.9"]
)
SERVICE = Port(
    id="m1",
    network_id="n1",
    mac_address="fa:16:3e:00:00:99",
    device_owner=METADATA,
    fixed_ips=[FixedIp(subnet_id="s1", ip_address="10.0.0.2")],
)
IMAGE = ImageFacts(disk_format="qcow2", size=9, sha512="ab", properties={"os": "x"})


def port(id: str, **fields: Any) -> Port:
    known = {
        "network_id": "n1",
        "mac_address": f"fa:16:3e:00:00:0{id[-1]}",
        "fixed_ips": [FixedIp(subnet_id="s1", ip_address=f"10.0.0.1{id[-1]}")],
        "device_id": "v1",
        "device_owner": "compute:nova",
        "host_id": "h1",
    }
    return Port(id=id, **{**known, **fields})


def server(id: str = "v1", **fields: Any) -> Server:
    known = {
        "name": "web",
        "hostname": "web",
        "host": "h1",
        "zone": "nova",
        "image_id": "i1",
        "image": IMAGE,
        "flavor": FlavorFacts(name="tiny", vcpus=2, ram=128, disk=1),
        "ports": ["p1"],
    }
    return Server(id=id, **{**known, **fields})


def compiled(
    *objects: Resource, keys: tuple[str, ...] = (), remotes: tuple[str, ...] = ()
) -> dict[str, HostSlice]:
    everything: dict[type[Resource], dict[str, Resource]] = {}
    for each in (Host(id="h1"), Host(id="h2"), NET, SUBNET, *objects):
        everything.setdefault(type(each), {})[each.id] = each
    snapshot = Snapshot(revision=7, intent=5, objects=everything)
    return host_slices(snapshot, Settings(operator_keys=keys, backend_remotes=remotes))


def test_every_host_is_told_all_members_of_the_backends_database() -> None:
    remotes = ("ssl:10.99.0.10:6642", "ssl:10.99.0.10:6652")
    assert {told.backend_remotes for told in compiled(remotes=remotes).values()} == {remotes}


def test_a_server_its_port_its_image_and_its_metadata_are_on_its_host_alone() -> None:
    slices = compiled(server(), port("p1"), SERVICE)
    here, there = slices["h1"], slices["h2"]
    assert (here.revision, [s.id for s in here.servers], [p.id for p in here.ports]) == (5, ["v1"], ["p1"])
    assert (there.servers, there.ports, there.images, there.metadata) == ((), (), (), ())
    (machine,) = here.servers
    assert (machine.vcpus, machine.memory_mib, machine.disk_gib, machine.image) == (2, 128, 1, "i1")
    assert (machine.ports, machine.flavor, machine.power) == (("p1",), "tiny", "running")
    (plugged,) = here.ports
    assert (plugged.server, plugged.mtu, plugged.addresses, plugged.attach) == (
        "v1",
        1442,
        ("10.0.0.11",),
        "tap",
    )
    (image,) = here.images
    assert (image.id, image.disk_format, image.size, image.sha512) == ("i1", "qcow2", 9, "ab")
    (service,) = here.metadata
    assert (service.network, service.port, service.addresses) == ("n1", "m1", ("10.0.0.2/24",))


def test_equal_snapshots_give_equal_slices() -> None:
    objects = (server(), port("p1"), SERVICE, server("v2", ports=["p2"]), port("p2", device_id="v2"))
    assert compiled(*objects) == compiled(*reversed(objects))


def test_interfaces_keep_their_order() -> None:
    both = server(ports=["p2", "p1"])
    (machine,) = compiled(both, port("p1"), port("p2"))["h1"].servers
    assert machine.ports == ("p2", "p1")
    assert [link["vif_id"] for link in machine.network_data["links"]] == ["p2", "p1"]


def test_a_server_that_is_being_deleted_is_told_to_nobody() -> None:
    here = compiled(server(deleting=True), port("p1"), SERVICE)["h1"]
    assert (here.servers, here.ports, here.images, here.metadata) == ((), (), (), ())


def test_ports_that_are_not_the_servers_own_are_not_plugged_in() -> None:
    for stray in (port("p1", device_id="other"), port("p1", host_id="h2"), port("p1", host_id="")):
        here = compiled(server(), stray)["h1"]
        assert (here.ports, here.servers[0].ports) == ((), ())
    # Bound to the host, and nobody's.
    assert compiled(server(ports=[]), port("p1", device_id="", device_owner=""))["h1"].ports == ()


def test_a_probe_is_a_namespace() -> None:
    here = compiled(port("p1", device_owner="trunkline:probe", device_id=""), SERVICE)["h1"]
    assert [(p.attach, p.server) for p in here.ports] == [("namespace", "")]
    assert [m.network for m in here.metadata] == ["n1"]


def test_what_a_port_may_send_from_guards_it() -> None:
    pairs = [AddressPair(ip_address="10.9.0.0/16"), AddressPair(ip_address="10.0.0.11", mac_address="aa:0")]
    (guarded,) = compiled(server(), port("p1", allowed_address_pairs=pairs))["h1"].ports
    assert guarded.guard is not None
    assert guarded.guard.macs == ("fa:16:3e:00:00:01", "aa:0")
    assert guarded.guard.prefixes == ("10.0.0.11", "10.9.0.0/16")
    (free,) = compiled(server(), port("p1", port_security_enabled=False))["h1"].ports
    assert free.guard is None


def test_limits_of_packets_and_shares_of_links_go_where_the_port_is_and_where_it_goes() -> None:
    limits = [
        QosPacketRateLimitRule(id="r1", qos_policy_id="q", max_kpps=2),
        QosPacketRateLimitRule(id="r2", qos_policy_id="q", max_kpps=5, max_burst_kpps=1, direction="ingress"),
    ]
    least = QosMinimumBandwidthRule(id="r3", qos_policy_id="q", min_kbps=700)
    flat = replace(NET, network_type="flat", physical_network="physnet1", qos_policy_id="q")
    link = HostLink(physical_network="physnet1", egress_kbps=900, ingress_kbps=9)
    promising = Host(id="h1", promised_links=[HostLink(egress_kbps=8, ingress_kbps=8), link])
    own = port("p1", bindings=[Binding(host="h2")])
    slices = compiled(promising, flat, own, server(), *limits, least)
    for host in ("h1", "h2"):
        (told,) = slices[host].ports
        assert told.packet_limits == (
            PacketLimit(direction="egress", rate=2000, burst=1600),
            PacketLimit(direction="ingress", rate=5000, burst=1000),
        )
        assert told.share == LinkShare(physical_network="physnet1", kbps=700)
    assert [slices[host].promised for host in ("h1", "h2")] == [{"physnet1": 900}, {}]
    (overlay,) = compiled(promising, replace(NET, qos_policy_id="q"), own, server(), least)["h1"].ports
    assert overlay.share is None


def test_serials_and_what_is_wanted_reach_the_host() -> None:
    asked = server(power="stopped", disk_serial=2, hard_reboot_serial=3, soft_reboot_serial=4)
    (machine,) = compiled(asked)["h1"].servers
    assert (machine.power, machine.disk_serial, machine.hard_reboot_serial, machine.soft_reboot_serial) == (
        "stopped",
        2,
        3,
        4,
    )


def test_a_sub_port_is_told_with_its_parent() -> None:
    inner = port(
        "p2", device_id="", device_owner="trunk:subport", trunk_id="t1", parent_id="p1", trunk_vlan=30
    )
    inner = replace(inner, network_id="n2", fixed_ips=[FixedIp(subnet_id="s2", ip_address="10.9.0.5")])
    subnet = Subnet(id="s2", network_id="n2", cidr="10.9.0.0/24")
    network, service = Network(id="n2", mtu=1400), replace(SERVICE, id="m2", network_id="n2", fixed_ips=[])
    sub = SubPort(port_id="p2", segmentation_type="vlan", segmentation_id=30)
    trunk = Trunk(id="t1", port_id="p1", sub_ports=[sub])
    here = compiled(server(), port("p1", trunk_id="t1"), inner, network, subnet, service, trunk)["h1"]
    told = [(p.id, p.parent, p.vlan, p.server, p.attach, p.mtu) for p in here.ports]
    assert told == [("p1", "", 0, "v1", "tap", 1442), ("p2", "p1", 30, "v1", "tap", 1400)]
    (machine,) = here.servers
    assert (machine.ports, [m.network for m in here.metadata]) == (("p1",), ["n2"])
    outer, vlan = machine.network_data["links"]
    assert vlan == {
        "id": "tapp2",
        "vif_id": "p2",
        "type": "vlan",
        "mtu": 1400,
        "vlan_link": outer["id"],
        "vlan_id": 30,
        "vlan_mac_address": inner.mac_address,
    }
    links = [each["link"] for each in machine.network_data["networks"]]
    assert links == [outer["id"], vlan["id"]]


def test_what_was_seen_changes_no_slice() -> None:
    before = server()
    after = replace(before, observed_state="running", plugged=["p1"], status="ACTIVE", launched_at="now")
    assert compiled(before, port("p1")) == compiled(after, port("p1", status="ACTIVE"))


def test_a_server_is_told_who_it_is() -> None:
    known = server(
        key_name="k", public_key="ssh-ed25519 AA", metadata={"a": "b"}, admin_password="pw", user_data="eA=="
    )
    (machine,) = compiled(known, keys=("ssh-ed25519 OP",))["h1"].servers
    meta = machine.meta_data
    assert (meta["uuid"], meta["hostname"], meta["meta"], meta["admin_pass"]) == (
        "v1",
        "web",
        {"a": "b"},
        "pw",
    )
    assert meta["public_keys"] == {"k": "ssh-ed25519 AA"}
    assert machine.vendor_data["trunkline"] == {"authorized_keys": ["ssh-ed25519 OP"]}
    first, rest = machine.vendor_data["cloud-init"].split("\n", 1)
    assert (first, yaml.safe_load(rest)) == ("#cloud-config", {"ssh_authorized_keys": ["ssh-ed25519 OP"]})
    assert machine.user_data == "eA=="
    (plain,) = compiled(server())["h1"].servers
    assert plain.vendor_data == {}
    assert "public_keys" not in plain.meta_data


def test_floating_addresses_are_the_servers_public_ones() -> None:
    address = FloatingIP(id="f1", port_id="p1", floating_ip_address="203.0.113.9")
    (machine,) = compiled(server(), port("p1"), address)["h1"].servers
    assert machine.public_addresses == ("203.0.113.9",)


def test_addresses_are_told_in_full_where_no_dhcp_tells_them() -> None:
    (machine,) = compiled(server(), port("p1"))["h1"].servers
    assert [n["type"] for n in machine.network_data["networks"]] == ["ipv4_dhcp"]
    silent = replace(
        SUBNET, enable_dhcp=False, host_routes=[HostRoute(destination="10.7.0.0/16", nexthop="10.0.0.7")]
    )
    (machine,) = compiled(server(), port("p1"), silent)["h1"].servers
    (told,) = machine.network_data["networks"]
    assert (told["type"], told["ip_address"], told["netmask"]) == ("ipv4", "10.0.0.11", "255.255.255.0")
    assert told["routes"] == [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
        {"network": "10.7.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.7"},
    ]
    assert machine.network_data["services"] == [{"type": "dns", "address": "9.9.9.9"}]
    assert machine.network_data["links"][0]["ethernet_mac_address"] == "fa:16:3e:00:00:01"


def test_ipv6_addresses_are_told_by_their_mode() -> None:
    for mode, told in (
        ("slaac", "ipv6_slaac"),
        ("dhcpv6-stateful", "ipv6_dhcpv6-stateful"),
        (None, "ipv6"),
    ):
        subnet = Subnet(id="s1", network_id="n1", ip_version=6, cidr="fd00::/64", ipv6_address_mode=mode)
        (machine,) = compiled(server(), port("p1"), subnet)["h1"].servers
        assert [n["type"] for n in machine.network_data["networks"]] == [told]


def test_a_gateway_is_told_to_the_hosts_that_may_carry_it() -> None:
    outer = Network(id="x1", network_type="vlan", physical_network="physnet1", segmentation_id=30)
    leg = Port(id="g1", network_id="x1", mac_address="fa:16:3e:00:00:77", device_owner=ROUTER_GATEWAY)
    outside = Gateway(network_id="x1")
    router = Router(id="r1", external_gateway_info=outside, gateway_port_id="g1", gateway_hosts=["h2", "h3"])
    slices = compiled(outer, replace(leg, device_id="r1"), router)
    assert slices["h1"].gateways == ()
    assert slices["h2"].gateways == (
        GatewaySlice(
            id="g1",
            mac="fa:16:3e:00:00:77",
            network="x1",
            physical_network="physnet1",
            vlan=30,
            hosts=("h2", "h3"),
        ),
    )
    # Through tunnels, nobody has to learn where it is.
    inner = replace(outer, network_type="geneve", physical_network=None)
    assert compiled(inner, replace(leg, device_id="r1"), router)["h2"].gateways == ()


@pytest.mark.parametrize(
    ("move", "on", "park", "comes_back"),
    [
        ("leaving", "h1", 4, None),
        ("arriving", "h2", 0, False),
        ("settled", "h2", 0, False),
        ("returning", None, 0, None),
        ("back", "h1", 0, True),
    ],
)
def test_a_server_that_moves_is_on_one_host_and_its_old_disk_on_the_old(
    move: str, on: str | None, park: int, comes_back: bool | None
) -> None:
    hosts = [
        Host(id="h1", key="k1", underlay_address="10.99.0.101"),
        Host(id="h2", key="k2", underlay_address="10.99.0.102"),
    ]
    moving = server(
        host="h1" if move in ("leaving", "back") else "h2",
        move=move,
        move_serial=4,
        kept_serial=3,
        origin_host="h1",
        dest_host="h2",
        ports=[],
    )
    found = compiled(*hosts, moving)
    assert [host for host, each in found.items() for _ in each.servers] == ([on] if on else [])
    kept = KeptSlice(server="v1", serial=3, image="i1", reader="h2", reader_key="k2")
    assert (found["h1"].kept, found["h2"].kept) == ((kept,), ())
    if on is not None:
        (shown,) = found[on].servers
        came = Origin(serial=4, kept=3, host="h1", address="10.99.0.101", key="k1", back=bool(comes_back))
        assert (shown.park, shown.origin) == (park, None if comes_back is None else came)
