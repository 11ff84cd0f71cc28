"""The backend against real OVN databases and northd: what it writes, heals, leaves alone and sees."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from ovn_central import Central, central
from ovn_networks import by_key, everything, small_networks
from ovsdb_lab import asynchronous

from trunkline.backends.contract import Applied
from trunkline.backends.ovn import OvnBackend
from trunkline.backends.ovn.dhcp import _OPTIONS4, _OPTIONS6
from trunkline.backends.ovn.names import MARK, OWNED
from trunkline.compiler.logical import LogicalNetwork, RouterPort, Switch
from trunkline.devices.ovsdb import Database
from trunkline.errors import Unavailable

pytestmark = pytest.mark.machine

HOSTS = ("h1", "h2", "h3")
#: How long anything may take, on a slow machine too, seconds.
SOON = 40.0


@pytest.fixture
def ovn() -> Iterator[Central]:
    with central() as daemons:
        for number, host in enumerate(HOSTS, 1):
            daemons.sbctl("chassis-add", host, "geneve", f"127.0.0.{number}")
        yield daemons


@asynccontextmanager
async def backend(ovn: Central, **options: Any) -> AsyncIterator[OvnBackend]:
    made = OvnBackend([ovn.nb.remote], [ovn.sb.remote], **options)
    try:
        async with asyncio.timeout(SOON):
            await made.start()
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def client(ovn: Central) -> AsyncIterator[Database]:
    async with asyncio.timeout(SOON):
        db = await Database.connect([ovn.nb.remote], "OVN_Northbound", tables={**OWNED, "NB_Global": None})
    try:
        yield db
    finally:
        await db.close()


async def contents(ovn: Central, *, ours: bool = True) -> dict[str, list[dict[str, Any]]]:
    """All rows, or ours alone, in an order and with references that do not depend on UUIDs."""
    async with client(ovn) as db:
        known = {
            u: r.get("name") or str(sorted(r["external_ids"].items()))
            for t in OWNED
            for u, r in db.tables[t].items()
        }

        def plain(value: Any) -> Any:
            if isinstance(value, frozenset):
                return sorted(known.get(one, one) for one in value)
            return known.get(value, value) if isinstance(value, str) else value

        return {
            table: sorted(
                (
                    {column: plain(value) for column, value in row.items()}
                    for row in db.tables[table].values()
                    if not ours or MARK in row["external_ids"]
                ),
                key=repr,
            )
            for table in OWNED
        }


async def number(ovn: Central) -> int:
    async with client(ovn) as db:
        (row,) = db.tables["NB_Global"].values()
        return int(row["nb_cfg"])


async def nbctl(ovn: Central, *arguments: str) -> str:
    return await asyncio.to_thread(ovn.nbctl, *arguments)


async def seen(made: OvnBackend, what: Callable[[], object]) -> None:
    """Returns when this is so; what wakes the backend may have been something else."""
    async with asyncio.timeout(SOON):
        while not what():
            await made.changed()


async def mended(made: OvnBackend, network: LogicalNetwork) -> Applied:
    """What was done about damage, once it is seen."""
    async with asyncio.timeout(SOON):
        while not (done := await made.apply(network)).healed:
            await made.changed()
    return done


async def healed(made: OvnBackend, network: LogicalNetwork) -> int:
    """How many rows were healed, once the damage is seen."""
    return (await mended(made, network)).healed


def acts(done: Applied) -> tuple[int, int, int]:
    return done.inserted, done.changed, done.removed


@asynchronous
async def test_northd_takes_every_row_and_the_second_application_writes_nothing(ovn: Central) -> None:
    async with backend(ovn) as made:
        first = await made.apply(everything())
        before = await number(ovn)
        second = await made.apply(everything())
        assert (first.inserted > 40, acts(second), second.revision) == (True, (0, 0, 0), 7)
        assert await number(ovn) == before
        await asyncio.to_thread(ovn.sync)
        assert ovn.complaints() == []


@asynchronous
async def test_a_backend_that_was_killed_finds_its_rows_again(ovn: Central) -> None:
    async with backend(ovn) as made:
        await made.apply(everything())
    async with backend(ovn) as made:
        assert acts(await made.apply(everything())) == (0, 0, 0)
        done = await made.apply(LogicalNetwork())
        assert done.removed > 30
    left = await contents(ovn)
    assert {table for table, rows in left.items() if rows} == {
        "Port_Group",
        "ACL",
        "Address_Set",
        "Meter",
        "Meter_Band",
    }


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=small_networks(), new=small_networks())
def test_the_way_to_a_network_makes_no_difference(
    ovn_of_the_module: Central, old: LogicalNetwork, new: LogicalNetwork
) -> None:
    async def scene() -> None:
        async with backend(ovn_of_the_module) as made:
            await made.apply(old)
            await made.apply(new)
            await made.apply(replace(new, ports=old.ports))
            await made.apply(new)
            changed = await contents(ovn_of_the_module, ours=False)
            assert acts(await made.apply(new)) == (0, 0, 0)
        await wipe(ovn_of_the_module)
        async with backend(ovn_of_the_module) as made:
            await made.apply(new)
            assert await contents(ovn_of_the_module, ours=False) == changed

    asyncio.run(scene())


@asynchronous
async def test_a_change_is_compared_alone(ovn: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> Any:
        raise AssertionError("everything is compared")

    network = everything()
    walk = (
        replace(network, ports={key: port for key, port in network.ports.items() if key != "p1"}),
        replace(network, nats={}, routes={}, router_ports={}),
        replace(network, rule_sets={}, address_groups={}),
        LogicalNetwork(),
        network,
    )
    async with backend(ovn) as made:
        await made.apply(network)
        right = await contents(ovn, ours=False)
        with monkeypatch.context() as patch:
            patch.setattr("trunkline.backends.ovn.backend.compare", refused)
            for step in walk:
                await made.apply(step)
            for command in ("lsp-set-enabled p2 enabled", "clear port_group trunkline_filtered ports"):
                await nbctl(ovn, *command.split())
                assert await healed(made, network) == 1
        assert await contents(ovn, ours=False) == right


@pytest.fixture(scope="module")
def ovn_of_the_module() -> Iterator[Central]:
    with central() as daemons:
        yield daemons


async def wipe(ovn: Central) -> None:
    """Deletes every row that can be deleted."""
    async with client(ovn) as db:
        roots = [table for table in db.tables if db.schema.tables[table].is_root]
        await db.transact([db.ops.delete(table, []) for table in roots])


FOREIGN = (
    "ls-add others -- lsp-add others theirs -- lsp-add ls-web guest -- pg-add theirs guest theirs",
    "acl-add ls-web to-lport 5 ip4 drop -- --type=port-group acl-add rs_sg_1 to-lport 6 ip4 drop",
    "lr-route-add lr-r 10.77.0.0/16 10.0.0.77 -- lr-nat-add lr-r snat 203.0.113.77 10.0.0.77",
    "set logical_switch ls-web external_ids:theirs=x -- set nb_global . options:theirs=y",
    "create dhcp_options cidr=10.0.0.0/24 external_ids:theirs=z",
)


@asynchronous
async def test_rows_of_others_are_left_alone(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        for command in FOREIGN:
            await nbctl(ovn, *command.split())
        theirs = (await nbctl(ovn, "get", "logical_switch_port", "guest", "_uuid")).strip()
        await nbctl(ovn, "add", "port_group", "rs_sg_1", "ports", theirs)
        everyone = await contents(ovn, ours=False)
        await made.apply(replace(network, ports={}, nats={}, routes={}))
        await made.apply(network)
        assert await contents(ovn, ours=False) == everyone
        assert acts(await made.apply(network)) == (0, 0, 0)
        assert "theirs" in await nbctl(ovn, "get", "nb_global", ".", "options")


DRIFT = (
    "lsp-del p1",
    "ls-del ls-web",
    "lr-del lr-r",
    "lrp-del lrp-outer-leg",
    "lrp-del-gateway-chassis lrp-outer-leg h2",
    "lr-route-del lr-r",
    "lr-nat-del lr-r",
    "lsp-set-addresses p1 unknown",
    "lsp-set-port-security p1",
    "lsp-set-enabled p2 enabled",
    "lsp-set-dhcpv4-options p1",
    "clear logical_switch_port p1 external_ids",
    "clear port_group trunkline_filtered ports",
    "pg-del rs_sg_1",
    "--type=port-group acl-del trunkline_filtered",
    "set logical_switch ls-web name=renamed",
    "set logical_router lr-off enabled=true",
    "clear logical_router lr-r external_ids",
    "--all destroy dhcp_options",
    "--all destroy address_set",
    "remove logical_router_port lrp-web-leg ipv6_ra_configs mtu",
)


@asynchronous
async def test_whatever_somebody_changes_is_noticed_and_healed(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        right = await contents(ovn, ours=False)
        for command in DRIFT:
            await nbctl(ovn, *command.split())
            done = await mended(made, network)
            assert done.healed == done.inserted + done.changed, command
            assert await contents(ovn, ours=False) == right, command
        assert acts(await made.apply(network)) == (0, 0, 0)


@asynchronous
async def test_our_global_options_are_kept(ovn: Central) -> None:
    async with backend(ovn) as made:
        await made.apply(everything())
        await nbctl(ovn, "set", "nb_global", ".", "options:bfd-mult=9")
        async with asyncio.timeout(SOON):
            while (await nbctl(ovn, "get", "nb_global", ".", "options:bfd-mult")).strip() != '"3"':
                await made.changed()
                await made.apply(everything())


@asynchronous
async def test_news_are_not_counted_as_healed(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        ports = {key: port for key, port in network.ports.items() if key != "p1"}
        assert (await made.apply(replace(network, ports=ports))).healed == 0
        assert (await made.apply(network)).healed == 0


@asynchronous
async def test_a_wiped_and_a_replaced_database_are_filled_again(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        right = await contents(ovn, ours=False)
        await wipe(ovn)
        assert await healed(made, network) > 0
        assert await contents(ovn, ours=False) == right
        ovn.nb.kill()
        ovn.nb.create()
        ovn.nb.start()
        async with asyncio.timeout(SOON):
            while True:
                await made.changed()
                try:
                    done = await made.apply(network)
                except Unavailable:
                    continue
                if done.inserted:
                    break
        assert await contents(ovn, ours=False) == right
        await asyncio.to_thread(ovn.sync)


@asynchronous
async def test_rows_stored_twice_are_pruned(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        right = await contents(ovn, ours=False)
        twice = {"Logical_Switch": "ls-web", "DHCP_Options": "web4", "Logical_Router": "lr-off"}
        async with client(ovn) as db:
            for table, key in twice.items():
                row = next(row for row in db.tables[table].values() if row["external_ids"][MARK] == key)
                await db.transact([db.ops.insert(table, row)])
        done = await made.apply(network)
        assert done.removed == len(twice)
        assert await contents(ovn, ours=False) == right


@asynchronous
async def test_a_write_whose_outcome_is_unknown_is_repeated_without_harm(
    ovn: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Database.transact

    async def stored_anyway(self: Database, operations: Any, **options: Any) -> Any:
        await plain(self, operations, **options)
        raise Unavailable("try again")

    async with backend(ovn) as made:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "transact", stored_anyway)
            with pytest.raises(Unavailable):
                await made.apply(everything())
        assert acts(await made.apply(everything())) == (0, 0, 0)


@asynchronous
async def test_without_the_database_nothing_is_applied_and_the_cause_is_told(ovn: Central) -> None:
    async with backend(ovn) as made:
        await made.apply(everything())
        ovn.nb.kill()
        await seen(made, lambda: made.observe().problems)
        with pytest.raises(Unavailable, match="northbound"):
            await made.apply(everything())
        assert [problem.what for problem in made.observe().problems] == [
            "OVN's northbound database is not connected"
        ]
        ovn.nb.start()
        await seen(made, lambda: not made.observe().problems)
        assert acts(await made.apply(everything())) == (0, 0, 0)


@asynchronous
async def test_a_row_that_the_database_refuses_is_told(ovn: Central) -> None:
    network = everything()
    bad = RouterPort(key="bad", router="r", switch="web", mac="fa:16:3e:01:00:07", networks=())
    async with backend(ovn) as made:
        with pytest.raises(Unavailable, match="lrp-bad"):
            await made.apply(replace(network, router_ports=network.router_ports | by_key(bad)))
        assert "refuses" in made.observe().problems[0].what
        await made.apply(network)
        assert made.observe().problems == []


@asynchronous
async def test_it_sees_what_is_plugged_in_where(ovn: Central) -> None:
    async with backend(ovn) as made:
        await made.apply(everything())
        await asyncio.to_thread(ovn.sync)
        assert made.observe().ports_up == {}
        assert made.observe().hosts == set(HOSTS)

        def plug() -> None:
            ovn.sbctl("lsp-bind", "p1", "h1", "--", "lsp-bind", "cr-lrp-outer-leg", "h2")
            ovn.sbctl("set", "port_binding", "p1", "up=true")

        await asyncio.to_thread(plug)
        await seen(made, lambda: made.observe().ports_up == {"p1": "h1"})
        assert made.observe().gateways == {"outer-leg": "h2"}
        await asyncio.to_thread(ovn.sbctl, "chassis-del", "h1")
        await seen(made, lambda: not made.observe().ports_up)
        assert made.observe().hosts == {"h2", "h3"}


@asynchronous
async def test_who_does_not_follow_is_named(ovn: Central) -> None:
    async with backend(ovn, patience=0.3) as made:
        await made.apply(everything())
        await asyncio.to_thread(ovn.sync)
        await asyncio.to_thread(ovn.sbctl, "create", "chassis_private", "name=h3", "nb_cfg=0")
        # A slow northd may be told of as well, until it is through.
        late = ["host h3 does not follow the network"]
        await seen(made, lambda: [problem.what for problem in made.observe().problems] == late)
        assert made.observe().hosts == {"h1", "h2"}
        ovn.northd.send(signal.SIGSTOP)
        try:
            await made.apply(LogicalNetwork())
            await seen(made, lambda: any("do not reach" in each.what for each in made.observe().problems))
        finally:
            ovn.northd.send(signal.SIGCONT)
        await asyncio.to_thread(ovn.sbctl, "--all", "destroy", "chassis_private")
        await seen(made, lambda: not made.observe().problems)


@asynchronous
async def test_an_encapsulation_that_no_host_has_is_told(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = LogicalNetwork(switches=by_key(Switch(key="v", name="v", mtu=1450, encapsulation="vxlan")))
        await made.apply(network)
        (problem,) = made.observe().problems
        assert problem.what == "networks that ask for vxlan are carried by geneve"


def test_northd_knows_every_dhcp_option_that_we_write(ovn: Central) -> None:
    for table, options in (("dhcp_options", _OPTIONS4), ("dhcpv6_options", _OPTIONS6)):
        known = set(ovn.sbctl("--bare", "--columns=name", "list", table).split())
        assert {name for name, _ in options.values()} <= known
