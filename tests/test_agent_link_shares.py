"""Who put a discipline on an interface decides what is done with it."""

from __future__ import annotations

import subprocess

import pytest
from agent_lab import AgentLab, changed, port, wait

from trunkline.compiler.slices import LinkShare

PORT = port(1, attach="namespace")


def tc(lab: AgentLab, *words: str) -> str:
    """Asks or changes the disciplines of the host's link to physnet1."""
    line = ["ip", "netns", "exec", lab.netns, "tc", *words[:2], "dev", "eth1", *words[2:]]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=10).stdout


@pytest.mark.machine
def test_a_links_discipline_is_put_right_while_ports_have_shares_unless_it_is_the_operators() -> None:
    lab = AgentLab()
    try:
        lab.start_all()
        tc(lab, "qdisc", "add", "root", "handle", "5:", "pfifo")
        mine = changed(PORT, share=LinkShare(physical_network="physnet1", kbps=4000))
        lab.put(ports=(mine,), promised={"physnet1": 10_000})
        told = lab.report(lambda r: any("shares" in p.what for p in r.problems))
        assert any("eth1 has a queueing discipline" in p.cause for p in told.problems)
        assert " 5: " in tc(lab, "qdisc", "show")
        tc(lab, "qdisc", "del", "root")

        def divided() -> str:
            found = tc(lab, "class", "show")
            return found if found.count("ceil 10Mbit") == 3 else ""

        right = wait(divided)
        assert "746c:10 parent 746c:1 leaf 10: prio 0 rate 4Mbit" in right
        assert "746c:2 parent 746c:1 leaf 2: prio 0 rate 6Mbit" in right
        tc(lab, "class", "change", "parent", "746c:1", "classid", "746c:10", "htb", "rate", "1mbit")
        wait(lambda: tc(lab, "class", "show") == right, 30)
        lab.report(lambda r: not any("shares" in p.what for p in r.problems))
        lab.put(ports=(PORT,))
        lab.applied()
        assert "746c:" not in tc(lab, "qdisc", "show")
    finally:
        lab.close()
