"""How long it takes to bring 5,000 ports into OVN's northbound database, and one more after that.

    python bench/ovn_apply.py [PORTS]

Private databases and northd in a temporary folder; nothing of the machine is touched.
"""

from __future__ import annotations

import asyncio
import platform
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ovn_central import Central, central
from ovsdb_lab import run

from trunkline.backends.ovn import OvnBackend
from trunkline.backends.ovn.diff import Memory, compare
from trunkline.backends.ovn.rows import desired
from trunkline.compiler.logical import (
    Allowed,
    Dhcp,
    LogicalNetwork,
    Router,
    RouterPort,
    Rule,
    RuleSet,
    Switch,
    SwitchPort,
)

PER_SWITCH = 100


def network(ports: int) -> LogicalNetwork:
    """Switches of 100 ports, routers of five switches, a rule set for each router."""
    made = LogicalNetwork(revision=1)
    for n in range(ports):
        s = n // PER_SWITCH
        switch, router = f"s{s}", f"r{s // 5}"
        if n % PER_SWITCH == 0:
            _subnet(made, s, switch, router)
        _port(made, n, switch, router)
    return made


def _subnet(made: LogicalNetwork, s: int, switch: str, router: str) -> None:
    mac = f"fa:16:3e:01:{s >> 8:02x}:{s & 255:02x}"
    gateway = f"10.{s >> 8}.{s & 255}.1"
    made.switches[switch] = Switch(key=switch, name=switch, mtu=1442)
    made.routers[router] = Router(key=router, name=router)
    made.router_ports[switch] = RouterPort(
        key=switch, router=router, switch=switch, mac=mac, networks=(f"{gateway}/24",), mtu=1442
    )
    rules = [Rule(key=f"{router}-out", direction="egress", family=4)]
    rules += [
        Rule(key=f"{router}-{p}", direction="ingress", family=4, protocol=6, ports=(p, p))
        for p in (22, 80, 443)
    ]
    rules.append(Rule(key=f"{router}-own", direction="ingress", family=4, remote_set=router))
    made.rule_sets[router] = RuleSet(key=router, name=router, rules=tuple(rules))
    made.dhcps[switch] = Dhcp(
        key=switch,
        family=4,
        prefix=f"10.{s >> 8}.{s & 255}.0/24",
        server_address=gateway,
        server_mac=mac,
        mtu=1442,
        router=gateway,
    )


def _port(made: LogicalNetwork, n: int, switch: str, router: str) -> None:
    s = n // PER_SWITCH
    mac = f"fa:16:3e:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
    address = f"10.{s >> 8}.{s & 255}.{10 + n % PER_SWITCH}"
    key = f"{n:08x}-0000-4000-8000-000000000000"
    made.ports[key] = SwitchPort(
        key=key,
        switch=switch,
        name=f"port {n}",
        mac=mac,
        addresses=(address,),
        allowed=(Allowed(mac=mac, prefix=address),),
        rule_sets=(router,),
        dhcp4=switch,
    )


async def measure(daemons: Central, ports: int) -> None:
    """Prints one line a step."""
    backend = OvnBackend([daemons.nb.remote], [daemons.sb.remote])
    await backend.start()

    async def step(what: str, wanted: LogicalNetwork) -> None:
        started, cpu = time.perf_counter(), time.process_time()
        done = await backend.apply(wanted)
        applied, used = time.perf_counter(), time.process_time() - cpu
        await asyncio.to_thread(daemons.sync)
        print(
            f"{what:38} {applied - started:7.3f} s ({used:.3f} s of CPU), with northd "
            f"{time.perf_counter() - started:7.3f} s   +{done.inserted} ~{done.changed} -{done.removed}"
        )

    full = network(ports)
    *_, last = full.ports
    less = replace(full, ports={key: port for key, port in full.ports.items() if key != last})
    await step(f"{ports - 1} ports into an empty database", less)
    await step("the same again, another object", replace(less))
    await step("the same again", less)
    await step("one port more", full)
    await step("one port less", less)
    started = time.perf_counter()
    wanted = desired(full)
    translated = time.perf_counter()
    north = backend._north
    plan = compare(wanted, north.tables, north.schema, Memory())
    compared = time.perf_counter()
    print(f"translation {translated - started:.3f} s, comparison {compared - translated:.3f} s")
    assert plan.inserted == 1
    print(f"resident at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    await backend.close()


if __name__ == "__main__":
    print(platform.platform(), platform.python_version(), run("ovn-northd", "--version").splitlines()[0])
    with central() as daemons:
        asyncio.run(measure(daemons, int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
