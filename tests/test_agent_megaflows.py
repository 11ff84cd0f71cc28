"""What a megaflow did before the flows changed, it does no longer: also where Open vSwitch 3.1 forgets it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from agent_lab import AgentLab, Raw, wait
from frames import ethernet, ipv4, udp

from trunkline.devices import namespace

pytestmark = pytest.mark.machine
ELSEWHERE = "nw_dst=10.9.0.0/16,actions=drop"


@pytest.fixture
def lab() -> Iterator[AgentLab]:
    """A host with a bridge of the test's own: `in` leads in, `out1` and `out2` lead out."""
    made = AgentLab()
    try:
        made.start_all()
        made.vsctl(
            "add-br", "br-t", "--", "set", "Bridge", "br-t", "datapath_type=netdev", "fail_mode=secure"
        )
        for name in ("in", "out1", "out2"):
            namespace.ip(
                made.netns,
                f"link add name {name} type veth peer name {name}-p",
                f"link set dev {name} up",
                f"link set dev {name}-p up",
            )
            made.vsctl("add-port", "br-t", name)
        yield made
    finally:
        made.close()


@pytest.fixture
def sender(lab: AgentLab) -> Iterator[Raw]:
    """The other end of `in`."""
    made = Raw(lab.netns, "in-p")
    yield made
    made.close()


def flows(lab: AgentLab, *flows: str) -> None:
    """These flows and no others."""
    command = ["ovs-ofctl", "--timeout=5", "--bundle", "replace-flows", f"unix:{lab.run}/br-t.mgmt", "-"]
    lines = "".join(f"in_port=in,ip,{flow}\n" for flow in flows)
    subprocess.run(command, input=lines, check=True, capture_output=True, text=True)


def frame(destination: str) -> bytes:
    segment = udp((5000, 5001), b"hello", "10.0.0.1", destination)
    return ethernet(
        "02:00:00:00:00:02", "02:00:00:00:00:01", 0x0800, ipv4("10.0.0.1", destination, 17, segment)
    )


def megaflows(lab: AgentLab) -> set[tuple[str, str]]:
    """Of the datapath: where to, with its netmask, and what is done."""
    command = ["ovs-appctl", "-t", str(lab.run / "ovs-vswitchd.ctl"), "dpctl/dump-flows", "--names"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [line for line in lines if "in_port(in)" in line and "eth_type(0x0800)" in line]
    return {(line.partition("dst=")[2].partition(",")[0], line.partition("actions:")[2]) for line in found}


def leads(lab: AgentLab, destination: str) -> set[str]:
    """What is done with packets of megaflows that were made by one to an address that starts like this."""
    return {action for where, action in megaflows(lab) if where.startswith(destination)}


def overlap(lab: AgentLab, sender: Raw) -> bool:
    """Whether there are two megaflows for one packet, the wider of which is found first.

    It is as its netmask was there before. The agent, when it starts, throws away all once: try again.
    """
    for destination, flow in (
        ("10.9.0.2", ELSEWHERE),
        ("10.1.2.2", "nw_dst=10.1.2.0/24,actions=out1"),
        ("10.1.0.2", "nw_dst=10.1.0.0/16,actions=out1"),
    ):
        flows(lab, ELSEWHERE, flow)
        wait(lambda where=destination: sender.send(frame(where)) or leads(lab, where))
    return megaflows(lab) == {
        ("10.9.0.2/255.255.0.0", "drop"),
        ("10.1.2.2/255.255.255.0", "out1"),
        ("10.1.0.2/255.255.0.0", "out1"),
    }


def test_what_came_before_a_change_of_flows_follows_it(lab: AgentLab, sender: Raw) -> None:
    wait(lambda: overlap(lab, sender))
    flows(lab, ELSEWHERE, "nw_dst=10.1.0.0/16,actions=out2")

    wait(lambda: sender.send(frame("10.1.2.2")) or leads(lab, "10.1.") == {"out2"})


def test_where_no_flow_changes_megaflows_stay(lab: AgentLab, sender: Raw) -> None:
    def stay() -> bool:
        deadline = time.monotonic() + 3.0
        while megaflows(lab):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.02)
        return False

    wait(lambda: overlap(lab, sender) and stay())
