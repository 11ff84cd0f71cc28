"""Servers on the real cloud, seen from outside, from inside, and from their hosts.

Two servers of one network with a router to the outside serve most claims, in the order below: what one
leaves behind, the next finds, because emulated guests take their time to boot.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud
from fault_lab import is_well, kill
from flows import SOON
from guests import BOOT, Guest, Guests
from openstack.exceptions import ConflictException
from probes import wait_for
from tenants import Net, Tenant

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

SCRIPT = "#!/bin/sh\necho told by the user data of {}\necho {} >/run/told\n"


@dataclass
class Scene:
    """What the claims are about."""

    tenant: Tenant
    guests: Guests
    web: Net
    #: Made with a key pair and metadata.
    one: Guest
    #: Made without.
    two: Guest
    #: Made with a config drive, on a network that has nothing else to tell it its address.
    three: Guest
    key: Path


@pytest.fixture(scope="module")
def scene(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("servers")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with cloud.project("servers") as connection:
        tenant = Tenant(cloud, connection, folder)
        guests = Guests(tenant, connection)
        try:
            web = tenant.network("10.0.0.0/24", name="web")
            tenant.router(web, outside=True)
            compute: Any = connection.compute
            compute.create_keypair(name="mine", public_key=Path(f"{key}.pub").read_text())

            def data(name: str) -> str:
                return base64.b64encode(SCRIPT.format(name, name).encode()).decode()

            one = guests.boot(
                "one", web, key=key, key_name="mine", user_data=data("one"), metadata={"role": "first"}
            )
            two = guests.boot("two", web, user_data=data("two"))
            alone = tenant.network(name="alone")
            tenant.subnet(alone, "10.2.0.0/24", enable_dhcp=False, gateway_ip=None)
            three = guests.boot("three", alone, floating=False, has_config_drive=True)
            for guest in (one, two, three):
                guest.reaches("ACTIVE")
            yield Scene(tenant, guests, web, one, two, three, key)
        finally:
            guests.close()
            tenant.close()


def test_the_key_pair_opens_the_guest_from_outside(scene: Scene) -> None:
    assert scene.one.shell("hostname") == "one"
    # And only the guest that was made with it (the operator's key opens every one).
    assert scene.two.shell("hostname") == "two"
    scene.two.key = scene.key
    try:
        refused = scene.two.try_shell("true")
    finally:
        scene.two.key = None
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


@pytest.mark.parametrize("name", ["one", "two"])
def test_user_data_ran_in_its_own_guest(scene: Scene, name: str) -> None:
    guest = {"one": scene.one, "two": scene.two}[name]
    wait_for(lambda: guest.shell("cat /run/told || true") == name, SOON, f"user data of {name}")


def test_the_console_is_read_by_the_api(scene: Scene) -> None:
    assert "told by the user data of one" in scene.one.says("trunkline-tiny user data: exit=0")
    assert "told by the user data of one" not in scene.two.console()


def test_each_guest_is_told_who_it_is_itself(scene: Scene) -> None:
    one, two = scene.one.told(), scene.two.told()
    assert (one["uuid"], one["name"], one["hostname"]) == (scene.one.id, "one", "one")
    assert (two["uuid"], two["name"], two["hostname"]) == (scene.two.id, "two", "two")
    assert one["meta"] == {"role": "first"}
    assert "meta" not in two
    assert list(one["public_keys"]) == ["mine"]
    assert "public_keys" not in two
    assert one["project_id"] == two["project_id"] == scene.tenant.project_id


def test_a_guest_is_told_its_addresses_and_its_user_data(scene: Scene) -> None:
    fixed = scene.one.server.addresses["web"][0]["addr"]
    assert scene.one.asks("latest/meta-data/local-ipv4") == fixed
    assert scene.one.asks("latest/meta-data/public-ipv4") == scene.one.address
    assert scene.one.asks("latest/user-data") == SCRIPT.format("one", "one").strip()


def test_metadata_that_is_changed_is_told_anew(scene: Scene) -> None:
    scene.guests.compute.set_server_metadata(scene.two.id, role="second")
    wait_for(lambda: scene.two.told().get("meta") == {"role": "second"}, SOON, "the new metadata")


def test_a_reboot_boots_the_same_disk_anew(scene: Scene) -> None:
    kinds = {"SOFT": scene.one, "HARD": scene.two}
    before = {kind: guest.boot_id() for kind, guest in kinds.items()}
    for kind, guest in kinds.items():
        guest.shell("sh", "-c", f"'echo {kind} >/persist/kept; sync'")
        scene.guests.compute.reboot_server(guest.id, kind)
    scene.one.reaches("REBOOT", "ACTIVE")
    scene.two.reaches("HARD_REBOOT", "ACTIVE")
    for kind, guest in kinds.items():
        assert guest.boot_id() != before[kind]
        assert guest.shell("cat", "/persist/kept") == kind


def test_a_stopped_server_has_no_process_and_starts_from_the_same_disk(scene: Scene) -> None:
    guest, compute = scene.two, scene.guests.compute
    guest.shell("sh", "-c", "'echo here >/persist/kept; sync'")
    compute.stop_server(guest.id)
    guest.reaches("ACTIVE", "SHUTOFF")
    assert not [trace for trace in guest.traces() if trace.startswith("process")]
    with pytest.raises(ConflictException):
        compute.reboot_server(guest.id, "SOFT")
    compute.start_server(guest.id)
    guest.reaches("SHUTOFF", "ACTIVE")
    assert guest.shell("cat", "/persist/kept") == "here"


def test_a_guest_that_powers_itself_off_stays_off_until_it_is_started(scene: Scene) -> None:
    guest = scene.two
    guest.shell("poweroff")
    guest.reaches("ACTIVE", "SHUTOFF")
    assert not [trace for trace in guest.traces() if trace.startswith("process")]
    newest = next(iter(scene.guests.compute.server_actions(guest.id)))
    assert newest.action == "stop"
    scene.guests.compute.start_server(guest.id)
    guest.reaches("SHUTOFF", "ACTIVE")


def test_a_paused_guest_stands_still_and_goes_on(scene: Scene) -> None:
    guest, compute = scene.one, scene.guests.compute
    before = guest.boot_id()
    compute.pause_server(guest.id)
    guest.reaches("ACTIVE", "PAUSED")
    assert guest.try_shell("true", seconds=2).returncode == 255
    compute.unpause_server(guest.id)
    guest.reaches("PAUSED", "ACTIVE")
    assert guest.boot_id() == before


def test_a_suspended_guest_goes_on_with_its_processes_and_connections(scene: Scene) -> None:
    guest, compute = scene.one, scene.guests.compute
    before = guest.boot_id()
    guest.shell("sh", "-c", "'echo mine >/run/only-in-memory; sleep 3600 </dev/null >/dev/null 2>&1 &'")
    with guest.line() as line:
        assert line.says("first") == "first"
        compute.suspend_server(guest.id)
        guest.reaches("ACTIVE", "SUSPENDED")
        assert guest.server.power_state == 4
        assert not [trace for trace in guest.traces() if trace.startswith("process")]
        kill(scene.tenant.cloud, f"{guest.host}-agent")
        is_well(scene.tenant.cloud, 60.0)
        with pytest.raises(ConflictException):
            compute.stop_server(guest.id)
        compute.resume_server(guest.id)
        guest.reaches("SUSPENDED", "ACTIVE")
        assert line.says("second") == "second"
    assert guest.boot_id() == before
    assert guest.shell("cat", "/run/only-in-memory") == "mine"
    assert guest.shell("pidof", "sleep")
    wait_for(lambda: not [trace for trace in guest.traces() if "memory" in trace], SOON, "its memory gone")


def test_an_interface_comes_and_goes_while_the_guest_runs(scene: Scene) -> None:
    guest, compute = scene.one, scene.guests.compute
    before = guest.boot_id()
    second = scene.tenant.network("10.1.0.0/24", name="second")
    with_mac = "cat /sys/class/net/*/address"
    port = scene.tenant.api.create_port(network_id=second.id, security_group_ids=[scene.tenant.anything.id])
    compute.create_server_interface(guest.id, port_id=port.id)
    wait_for(lambda: port.mac_address in guest.shell(with_mac), SOON, "the interface in the guest")
    address = port.fixed_ips[0]["ip_address"]
    wait_for(lambda: f" {address}/" in guest.shell("ip -4 -o addr"), SOON, "its address by DHCP")
    wait_for(lambda: scene.tenant.api.get_port(port.id).status == "ACTIVE", SOON, "the port is ACTIVE")
    compute.delete_server_interface(port.id, guest.id)
    wait_for(lambda: port.mac_address not in guest.shell(with_mac), SOON, "the interface gone from the guest")
    wait_for(lambda: guest.taps(port.id) == [], SOON, "its tap gone from the host")
    assert scene.tenant.api.get_port(port.id).device_id == ""
    assert guest.boot_id() == before


def test_a_server_without_dhcp_is_told_its_address_by_its_config_drive(scene: Scene) -> None:
    guest = scene.three
    address = guest.server.addresses["alone"][0]["addr"]
    assert f"host=three addresses={address}/24 source=config-drive" in guest.says("trunkline-tiny ready")
    scene.guests.delete(guest)


def test_an_image_of_a_server_boots_with_what_was_on_its_disk(scene: Scene) -> None:
    guest, compute = scene.two, scene.guests.compute
    guest.shell("sh", "-c", "'echo mine >/persist/imaged; sync'")
    before = guest.boot_id()
    image = compute.create_server_image(guest.id, "copy", wait=True)
    guest.reaches("ACTIVE")
    assert guest.boot_id() == before
    copy = scene.guests.boot("copy", scene.web, image_id=image.id).reaches("ACTIVE")
    assert copy.shell("cat", "/persist/imaged") == "mine"
    scene.guests.delete(copy)
    scene.guests.delete_image(image)


def test_a_shelved_server_comes_back_on_another_host_with_its_disk_and_addresses(scene: Scene) -> None:
    guest, admin = scene.two, scene.tenant.cloud.admin.compute
    guest.shell("sh", "-c", "'echo mine >/persist/shelved; sync'")
    addresses, before = guest.server.addresses, guest.host
    scene.guests.compute.shelve_server(guest.id)
    wait_for(lambda: guest.server.status == "SHELVED_OFFLOADED", BOOT, "it is shelved")
    wait_for(lambda: guest.traces() == [], SOON, f"{guest.traces()} gone")
    other = next(name for name in ("h1", "h2", "h3") if name != before)
    admin.unshelve_server(guest.id, host=other)
    guest.reaches("SHELVED_OFFLOADED", "ACTIVE")
    assert (guest.host, guest.server.addresses) == (other, addresses)
    assert guest.shell("cat", "/persist/shelved") == "mine"


def test_a_rescued_server_boots_another_disk_and_has_its_own_behind_it(scene: Scene) -> None:
    guest, compute = scene.two, scene.guests.compute
    guest.shell("sh", "-c", "'echo mine >/persist/kept; sync'")
    assert guest.shell("sh", "-c", "'ls /dev/vd?'").split() == ["/dev/vda"]
    before = guest.boot_id()
    compute.rescue_server(guest.id, admin_pass="secret")
    guest.reaches("ACTIVE", "RESCUE")
    with pytest.raises(ConflictException):
        compute.reboot_server(guest.id, "HARD")
    assert guest.boot_id() != before
    assert guest.shell("sh", "-c", "'ls /dev/vd?'").split() == ["/dev/vda", "/dev/vdb"]
    # Both disks have the same label, and the guest keeps what it keeps on one of them.
    mounted = "mount -t vfat -o ro /dev/vdb /mnt 2>/dev/null; cat /persist/kept /mnt/kept 2>/dev/null; true"
    assert guest.shell("sh", "-c", f"'{mounted}'") == "mine"
    compute.unrescue_server(guest.id)
    guest.reaches("RESCUE", "ACTIVE")
    assert guest.shell("sh", "-c", "'ls /dev/vd?'").split() == ["/dev/vda"]
    assert guest.shell("cat", "/persist/kept") == "mine"


def test_a_rebuild_gives_a_fresh_disk_and_keeps_the_rest(scene: Scene) -> None:
    guest, compute = scene.two, scene.guests.compute
    addresses = guest.server.addresses
    compute.rebuild_server(guest.id, image=scene.guests.image.id)
    guest.reaches("REBUILD", "ACTIVE")
    assert guest.shell("test -e /persist/kept || echo fresh") == "fresh"
    assert guest.server.addresses == addresses


def test_a_deleted_server_leaves_nothing(scene: Scene) -> None:
    guest, network = scene.two, scene.tenant.api
    port = scene.tenant.api.create_port(network_id=scene.web.id)
    made = scene.guests.compute.create_server_interface(guest.id, net_id=scene.web.id)
    scene.guests.compute.create_server_interface(guest.id, port_id=port.id)
    ports = [each.id for each in network.ports(device_id=guest.id)]
    assert len(ports) == 3
    wait_for(lambda: len(guest.taps(*ports)) == 3, SOON, "taps on its host")
    scene.guests.delete(guest)
    wait_for(lambda: guest.traces() == [], SOON, f"{guest.traces()} gone")
    wait_for(lambda: guest.taps(*ports) == [], SOON, f"{guest.taps(*ports)} gone")
    # What was made for the server is gone with it; what was given to it is there still, and free.
    assert network.find_port(made.port_id) is None
    left = network.get_port(port.id)
    assert (left.device_id, left.device_owner) == ("", "")
    wait_for(lambda: network.get_port(port.id).status == "DOWN", SOON, "the port is DOWN")
