"""Servers that move between real hosts: their disks, their addresses, what is left, what is killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from cloud import Cloud
from fault_lab import is_well, kill
from flows import SOON
from guests import BOOT, Guest, Guests
from probes import wait_for
from tenants import Tenant

#: Changes the guest's memory faster than it can be sent, until it is killed.
WRITING = (
    "dd if=/dev/urandom of=/run/a bs=1M count=8 2>/dev/null; "
    "(while :; do cp /run/a /run/b; done) </dev/null >/dev/null 2>&1 & echo $! >/run/writer"
)

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def guest(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A server with a file on its disk; each test leaves it running, with what it wrote."""
    with cloud.project("moves") as connection:
        tenant = Tenant(cloud, connection, tmp_path_factory.mktemp("moves"))
        guests = Guests(tenant, connection)
        try:
            net = tenant.network("10.0.0.0/24", name="net")
            tenant.router(net, outside=True)
            made = guests.boot("mover", net).reaches("ACTIVE")
            made.shell("echo first >/persist/file; sync")
            yield made
        finally:
            guests.close()
            tenant.close()


@pytest.fixture(scope="module")
def larger(cloud: Cloud) -> Iterator[Any]:
    """A flavor with a larger disk, a second one, and one to swap to."""
    admin = cloud.admin.compute
    made = admin.create_flavor(name="larger", ram=144, vcpus=1, disk=1, ephemeral=1, swap=16)
    yield made
    admin.delete_flavor(made.id)


def left_on(cloud: Cloud, guest: Guest, host: str) -> list[str]:
    """What a host has of a server's files."""
    folder = cloud.state.host(host)
    return [str(file) for part in ("s", "k") for file in (folder / part).glob(f"{guest.id[:8]}*")]


def test_a_migrated_server_has_its_disk_and_addresses_on_the_other_host(cloud: Cloud, guest: Guest) -> None:
    origin, mac = guest.host, guest.shell("cat /sys/class/net/eth0/address")
    cloud.admin.compute.migrate_server(guest.id)
    guest.reaches("ACTIVE", "RESIZE", "VERIFY_RESIZE")
    assert guest.host != origin
    assert guest.shell("cat /persist/file /sys/class/net/eth0/address").split() == ["first", mac]
    guest.shell("echo second >/persist/file; sync")
    guest.api.revert_server_resize(guest.id)
    there = guest.host
    guest.reaches("VERIFY_RESIZE", "REVERT_RESIZE", "ACTIVE")
    assert guest.host == origin
    assert guest.shell("cat /persist/file") == "first"
    wait_for(lambda: not left_on(cloud, guest, there), SOON, "nothing is left where it was")


def test_a_server_that_runs_goes_on_running_on_the_other_host(cloud: Cloud, guest: Guest) -> None:
    origin, born = guest.host, guest.boot_id()
    guest.shell("echo live >/run/only-in-memory")
    cloud.admin.compute.live_migrate_server(guest.id, host=None, block_migration="auto")
    wait_for(lambda: guest.reaches("MIGRATING", "ACTIVE").host != origin, BOOT, "it runs elsewhere")
    assert guest.boot_id() == born
    assert guest.shell("cat /run/only-in-memory /persist/file").split() == ["live", "first"]
    wait_for(lambda: not left_on(cloud, guest, origin), SOON, "nothing is left where it was")


@contextmanager
def slow(cloud: Cloud, host: str) -> Iterator[None]:
    """What a host sends on the underlay is slow meanwhile."""
    shaper = ["tc", "-n", cloud.namespace(host), "qdisc"]
    rate = ["rate", "100mbit", "burst", "64kb", "latency", "200ms"]
    run = partial(subprocess.run, check=True)
    run([*shaper, "add", "dev", "eth0", "root", "tbf", *rate])
    try:
        yield
    finally:
        run([*shaper, "del", "dev", "eth0", "root"])


def sent(cloud: Cloud, guest: Guest) -> Any:
    """The live migration of a server, once it is on its way."""

    def found() -> Any:
        moves = list(cloud.admin.compute.server_migrations(guest.id))
        return next((move for move in moves if move.status == "running"), None)

    return wait_for(found, BOOT, "it is on its way")


def test_a_way_that_has_no_end_is_aborted_or_the_guest_stands_still_for_it(
    cloud: Cloud, guest: Guest
) -> None:
    admin, origin, born = cloud.admin.compute, guest.host, guest.boot_id()
    guest.shell(WRITING)
    with slow(cloud, origin):
        admin.live_migrate_server(guest.id, host=None, block_migration="auto")
        move = sent(cloud, guest)
        admin.abort_server_migration(move, guest.id)
        guest.reaches("MIGRATING", "ACTIVE")
        assert (guest.host, guest.boot_id()) == (origin, born)
        wait_for(lambda: not left_on(cloud, guest, move.dest_compute), SOON, "nothing is left there")
        admin.live_migrate_server(guest.id, host=None, block_migration="auto")
        admin.force_complete_server_migration(sent(cloud, guest), guest.id)
        wait_for(lambda: guest.reaches("MIGRATING", "ACTIVE").host != origin, BOOT, "it runs elsewhere")
    assert guest.boot_id() == born
    guest.shell("kill $(cat /run/writer) && rm /run/a /run/b")


def test_a_resized_server_has_larger_disks_and_swap_and_the_old_disk_goes(
    cloud: Cloud, guest: Guest, larger: Any
) -> None:
    origin = guest.host
    guest.api.resize_server(guest.id, larger.id)
    guest.reaches("ACTIVE", "RESIZE", "VERIFY_RESIZE")
    assert guest.shell("cat /persist/file") == "first"
    sizes = guest.shell("cat /sys/block/vda/size /sys/block/vdb/size /sys/block/vdc/size")
    assert sizes.split() == [str(1 << 21), str(1 << 21), str(16 << 11)]
    assert "/dev/vdc" in guest.shell("swapon /dev/vdc && cat /proc/swaps")
    assert guest.asks("latest/meta-data/block-device-mapping/swap") == "/dev/vdc"
    guest.api.confirm_server_resize(guest.id)
    guest.reaches("VERIFY_RESIZE", "ACTIVE")
    if origin != guest.host:
        wait_for(lambda: not left_on(cloud, guest, origin), SOON, "nothing is left where it was")


def test_further_disks_go_along_while_the_guest_runs(cloud: Cloud, guest: Guest) -> None:
    origin, born = guest.host, guest.boot_id()
    guest.shell(
        "swapoff /dev/vdc; for disk in vdb vdc; do echo $disk | dd of=/dev/$disk bs=1M seek=8; done; sync"
    )
    cloud.admin.compute.live_migrate_server(guest.id, host=None, block_migration="auto")
    wait_for(lambda: guest.reaches("MIGRATING", "ACTIVE").host != origin, BOOT, "it runs elsewhere")
    assert guest.boot_id() == born
    there = "for disk in vdb vdc; do dd if=/dev/$disk bs=1M skip=8 count=1 2>/dev/null | head -n 1; done"
    assert guest.shell(f"echo 3 >/proc/sys/vm/drop_caches; {there}").split() == ["vdb", "vdc"]


def test_what_is_killed_on_the_way_goes_on_when_it_is_back(cloud: Cloud, guest: Guest) -> None:
    origin = guest.host
    cloud.admin.compute.migrate_server(guest.id)
    for daemon in ("control", f"{origin}-agent"):
        kill(cloud, daemon)
    is_well(cloud, 60.0)
    guest.reaches("ACTIVE", "RESIZE", "VERIFY_RESIZE")
    guest.api.confirm_server_resize(guest.id)
    guest.reaches("VERIFY_RESIZE", "ACTIVE")
    assert guest.host != origin
    assert guest.shell("cat /persist/file") == "first"
