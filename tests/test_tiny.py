"""The image `tiny`: built, and booted under QEMU as the agent does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import tiny_lab
from tests.tiny_lab import UUID, Guest, Network, wait

from trunkline.devices import configdrive
from trunkline.devices.ssh import operator_key
from trunkline.devices.tiny import TinyImage, build

pytestmark = pytest.mark.machine

MAC, MAC_2 = tiny_lab.LEASES
MAC_3 = "02:00:00:00:06:03"
#: Counts its runs on the disk, which stays over a reboot.
USER_DATA = b"#!/bin/sh\necho from-user-data\necho run >>/persist/runs\nhostname >/root/marker\n"


def _meta_data(name: str, key: Path) -> bytes:
    public = key.with_suffix(".pub").read_text().strip()
    return json.dumps(
        {"uuid": UUID, "hostname": f"{name}.novalocal", "name": name, "public_keys": {"mine": public}}
    ).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def image(folder: Path) -> TinyImage:
    return build(folder / "tiny.qcow2", folder / "cache", lambda step: None)


@pytest.fixture(scope="module")
def net(folder: Path) -> Iterator[Network]:
    with tiny_lab.network(folder) as made:
        yield made


@pytest.fixture(scope="module")
def key(folder: Path) -> Path:
    """The key of a user, in the metadata."""
    return operator_key(folder / "user")


@pytest.fixture(scope="module")
def operator(folder: Path) -> Path:
    """The key of the operator, in the vendor data."""
    return operator_key(folder / "operator")


@pytest.fixture(scope="module")
def web(net: Network, image: TinyImage, key: Path, operator: Path) -> Iterator[tuple[Guest, str]]:
    """A guest that was told who it is by the metadata service; and its address."""
    vendor = {"trunkline": {"authorized_keys": [operator.with_suffix(".pub").read_text()]}}
    net.pages = {
        "openstack/latest/meta_data.json": _meta_data("web", key),
        "openstack/latest/vendor_data.json": json.dumps(vendor).encode(),
        "openstack/latest/user_data": USER_DATA,
    }
    # Its answer comes late: it is asked for again, not taken for an absence.
    net.silences = {"openstack/latest/user_data": 2}
    for tap in ("web0", "web1"):
        net.tap(tap)
    guest = Guest(net, "web", image.path)
    guest.start(("web0", MAC))
    try:
        ready = guest.ready()
        assert ready["host"] == "web"
        assert ready["source"] == "metadata"
        assert ready["addresses"] == f"{tiny_lab.LEASES[MAC]}/24"
        yield guest, tiny_lab.LEASES[MAC]
    finally:
        guest.kill()


def test_a_second_build_is_taken_from_the_cache_and_is_the_same(image: TinyImage, folder: Path) -> None:
    steps: list[str] = []
    again = build(folder / "again.qcow2", folder / "cache", steps.append)
    assert (again.sha512, again.size) == (image.sha512, image.size)
    assert again.path.stat().st_size == image.size <= 20_000_000
    assert ["cache" in step for step in steps] == [True]


def test_the_keys_of_user_and_operator_open_it(web: tuple[Guest, str], key: Path, operator: Path) -> None:
    guest, address = web
    assert guest.ssh(address, key, "hostname") == "web"
    assert guest.ssh(address, operator, "id -u") == "0"


def test_user_data_has_run_and_is_on_the_console(web: tuple[Guest, str], key: Path) -> None:
    guest, address = web
    # Others write on the console too, between the two.
    guest.says(r"from-user-data\s[\s\S]*trunkline-tiny user data: exit=0", seconds=20)
    assert guest.ssh(address, key, "cat /root/marker") == "web"


def test_dhcp_options_are_obeyed(web: tuple[Guest, str], key: Path) -> None:
    guest, address = web
    assert guest.ssh(address, key, "cat /sys/class/net/eth0/mtu") == "1442"
    assert guest.ssh(address, key, "cat /etc/resolv.conf") == "search example.org\nnameserver 10.6.0.53"
    # Classless static routes stand in for the router option (RFC 3442).
    routes = guest.ssh(address, key, "ip route")
    assert f"default via {tiny_lab.GATEWAY} dev eth0" in routes
    assert "10.77.0.0/16 via 10.6.0.7 dev eth0" in routes


def test_a_card_plugged_in_is_configured_and_forgotten_when_it_goes(
    web: tuple[Guest, str], key: Path
) -> None:
    guest, address = web
    guest.command("netdev_add", type="tap", id="web1", ifname="web1", script="no", downscript="no")
    guest.command("device_add", driver="virtio-net-pci", id="extra", netdev="web1", mac=MAC_2, romfile="")
    assert guest.says(r"eth1 leased (\S+)")[1] == tiny_lab.LEASES[MAC_2]
    assert "mtu 1442" in guest.ssh(address, key, "ip addr show dev eth1")
    guest.command("device_del", id="extra")
    wait("eth1 to go", lambda: "eth1" not in guest.ssh(address, key, "ip addr; ip route; ls /run/resolv"), 20)
    assert guest.ssh(address, key, "cat /etc/resolv.conf").count("nameserver") == 1


def test_a_reboot_keeps_the_host_key_and_runs_user_data_no_more(
    web: tuple[Guest, str], net: Network, key: Path
) -> None:
    guest, address = web
    before = guest.host_key(address)
    # This time the service knows EC2's layout alone: the same instance in other words.
    net.pages = {
        "latest/meta-data/instance-id": UUID.encode(),
        "latest/meta-data/hostname": b"web.internal",
        "latest/meta-data/public-keys/0/openssh-key": key.with_suffix(".pub").read_bytes(),
        "latest/user-data": USER_DATA,
    }
    guest.ssh(address, key, "reboot")
    ready = guest.ready(times=2)
    assert (ready["host"], ready["source"]) == ("web", "ec2")
    assert guest.host_key(address) == before
    assert guest.ssh(address, key, "cat /persist/runs; ls /root/marker 2>&1").startswith("run\nls:")


def test_only_the_keys_it_was_given_log_in(web: tuple[Guest, str], folder: Path, key: Path) -> None:
    guest, address = web
    assert guest.refusal(address, operator_key(folder / "stranger")) == "Permission denied (publickey)."
    assert "getty" not in guest.ssh(address, key, "ps")


@pytest.fixture(scope="module")
def drive(folder: Path, key: Path) -> Path:
    network_data = {
        "links": [{"id": "l0", "ethernet_mac_address": MAC_3.upper(), "mtu": 1400, "type": "ovs"}],
        "networks": [
            {
                "id": "n0", "link": "l0", "type": "ipv4", "ip_address": "10.9.0.5",
                "netmask": "255.255.254.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.9.0.1"}],
            },
            {
                "id": "n1", "link": "l0", "type": "ipv6", "ip_address": "fd00:9::5",
                "netmask": "ffff:ffff:ffff:ffff::",
            },
        ],
        "services": [{"type": "dns", "address": "10.9.0.53"}],
    }  # fmt: skip
    made = folder / "drive.iso"
    asyncio.run(
        configdrive.write(
            made,
            {
                "openstack/latest/meta_data.json": _meta_data("alone", key),
                "openstack/latest/network_data.json": json.dumps(network_data).encode(),
                "openstack/latest/user_data": USER_DATA,
            },
        )
    )
    return made


def test_a_config_drive_does_without_dhcp_and_the_power_button_shuts_down(
    net: Network, image: TinyImage, drive: Path, key: Path
) -> None:
    net.tap("alone0", served=False)
    net.address("alone0", "10.9.0.1/23")
    guest = Guest(net, "alone", image.path)
    guest.start(("alone0", MAC_3), drive=drive)
    try:
        ready = guest.ready()
        assert (ready["host"], ready["source"], ready["lease"]) == ("alone", "config-drive", "none")
        assert set(ready["addresses"].split(",")) >= {"10.9.0.5/23", "fd00:9::5/64"}
        assert (
            guest.ssh("10.9.0.5", key, "ip route show default; cat /sys/class/net/eth0/mtu").split()[-1]
            == "1400"
        )
        assert "nameserver 10.9.0.53" in guest.ssh("10.9.0.5", key, "cat /etc/resolv.conf")
        guest.says("user data: exit=0")
        guest.command("system_powerdown")
        guest.ended(seconds=60)
        assert "power button" in guest.console
    finally:
        guest.kill()


def test_operator_key_is_made_once(folder: Path) -> None:
    first = operator_key(folder / "once").read_bytes()
    (folder / "once" / "id_ed25519.pub").unlink()
    private = operator_key(folder / "once")
    assert private.read_bytes() == first
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
