"""How long a policy of many rules takes until eight data planes go by it, and what a packet then costs."""

from __future__ import annotations

import statistics
import subprocess
import time

from bench.appliance.appliance import policy
from bench.appliance.by_cloud import ByCloud
from bench.appliance.path import SERVERS
from bench.figures import Figure
from trunkline.devices import namespace

_PLANES, _TURNS = 8, 3


def measure(appliance: ByCloud, rules: int) -> list[Figure]:
    """With eight data planes; afterwards it has as many as before, and a small policy."""
    before = appliance.size("data-plane")
    appliance.scale(_PLANES)
    small = _echo(appliance.inside)
    took, echoes = [], []
    for turn in range(_TURNS):
        began = time.monotonic()
        appliance.set_policy(many(rules, turn))
        appliance.settle(0.02)
        took.append(time.monotonic() - began)
        echoes.append(_echo(appliance.inside))
    appliance.set_policy(policy(0))
    appliance.scale(before)
    return [
        Figure(f"policy of {rules:,} rules in force at {_PLANES} data planes", took, "s", 2.0),
        Figure("an echo through it, median, of one with few rules", [e / small for e in echoes], "x"),
    ]


def many(rules: int, turn: int) -> dict[str, object]:
    """`policy` below so many rules that fit nothing of the traffic; each turn all of them are others."""
    found = policy(turn)
    firewall = found["firewall"]
    assert isinstance(firewall, dict)
    idle = [
        {
            "name": f"rule {n}",
            "from": "inside",
            "to": "outside",
            "destination": f"198.{18 + turn % 2}.{n >> 8}.{n & 255}",
            "service": f"tcp/{1024 + turn + n % 60_000}",
            "action": "drop",
        }
        for n in range(rules)
    ]
    return {**found, "firewall": {**firewall, "rules": [*idle, *firewall["rules"]]}}


def _echo(netns: str) -> float:
    """The median time of echoes, ms."""
    inside = ("nsenter", f"--net={namespace.path(netns)}", "--")
    command = (*inside, "ping", "-i", "0.01", "-c", "200", SERVERS[0])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    times = [
        float(line.rpartition("time=")[2].split()[0]) for line in done.stdout.splitlines() if "time=" in line
    ]
    return statistics.median(times)
