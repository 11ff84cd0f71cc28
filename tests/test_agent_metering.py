"""What a host adds up for metering labels, from what its flows tell."""

from __future__ import annotations

from trunkline.agent.metering import Memory, counted_up
from trunkline.compiler.slices import MeterRule, MeterSlice
from trunkline.devices.flow_counters import FlowCounter, parsed
from trunkline.resources.reports import MeterReport

MAC = "fa:16:3e:00:00:01"
ANY4 = "0.0.0.0/0"
#: What leaves, that from one address, what comes in; then what is dropped, of another router, of none.
MATCHES = (
    f"1000,ip,reg15=0x3,metadata=0x3,dl_src={MAC}",
    f"1032,ip,reg15=0x3,metadata=0x3,dl_src={MAC},nw_src=10.0.0.9",
    "1024,ip,reg14=0x3,metadata=0x3,nw_dst=10.0.0.0/24",
    "30000,ip,reg14=0x3,metadata=0x3",
    "1024,ip,reg14=0x3,metadata=0x4",
    "0",
)


def flows(*counters: int, age: float = 100.0) -> list[FlowCounter]:
    """The flows as Open vSwitch 3.1 writes them: the first three have these packets and bytes."""
    numbers = [*zip(counters[::2], counters[1::2], strict=True), *[(9, 999)] * 3]
    lines = [
        f" cookie={hex(place)}, duration={age}s, table=23, n_packets={packets}, n_bytes={size}, idle_age=1, "
        f"priority={match} actions={'drop' if match.startswith('3') else 'resubmit(,24)'}"
        for place, ((packets, size), match) in enumerate(zip(numbers, MATCHES, strict=True))
    ]
    return list(parsed("\n".join(["OFPST_FLOW reply (OF1.5):", *lines])))


def meter(*rules: MeterRule, label: str = "one") -> MeterSlice:
    return MeterSlice(label=label, gateways=(MAC,), rules=rules)


OUT = MeterRule(direction="egress", source=ANY4, destination=ANY4)
NOT_ONE = MeterRule(direction="egress", source="10.0.0.9/32", destination=ANY4, excluded=True)
IN = MeterRule(direction="ingress", source=ANY4, destination="10.0.0.0/16")


def told(memory: Memory, label: str = "one") -> tuple[int, int, int, int]:
    found: MeterReport = memory.labels[label]
    return found.ingress_packets, found.ingress_bytes, found.egress_packets, found.egress_bytes


def test_all_flows_are_read() -> None:
    found = flows(1, 114, 2, 228, 3, 342)
    assert [(f.packets, f.drops) for f in found] == [
        (1, False),
        (2, False),
        (3, False),
        (9, True),
        (9, False),
        (9, False),
    ]
    assert found[0].match["dl_src"] == MAC
    assert found[0].age == 100.0


def test_each_packet_is_added_once_to_each_label_that_it_matches() -> None:
    wanted = [meter(OUT, IN, label="all"), meter(OUT, NOT_ONE), meter(NOT_ONE, label="nothing")]
    memory = counted_up(Memory(), wanted, flows(1, 114, 2, 228, 3, 342), 200.0, 0.0)
    assert told(memory, "all") == (3, 300, 3, 300)
    assert told(memory) == (0, 0, 1, 100)
    assert told(memory, "nothing") == (0, 0, 0, 0)
    again = counted_up(memory, wanted, flows(1, 114, 2, 228, 5, 570, age=103.0), 203.0, 0.0)
    assert told(again, "all") == (5, 500, 3, 300)


def test_a_flow_that_is_made_anew_counts_from_its_beginning() -> None:
    memory = counted_up(Memory(), [meter(OUT)], flows(5, 570, 0, 0, 0, 0), 200.0, 0.0)
    younger = counted_up(memory, [meter(OUT)], flows(6, 684, 0, 0, 0, 0, age=2.0), 203.0, 0.0)
    assert told(younger) == (0, 0, 11, 1100)
    fewer = counted_up(memory, [meter(OUT)], flows(2, 228, 0, 0, 0, 0, age=103.0), 203.0, 0.0)
    assert told(fewer) == (0, 0, 7, 700)


def test_who_remembers_nothing_takes_old_flows_as_they_are() -> None:
    memory = counted_up(Memory(), [meter(OUT)], flows(5, 570, 0, 0, 0, 0), 200.0, fresh=150.0)
    assert told(memory) == (0, 0, 0, 0)
    again = counted_up(memory, [meter(OUT)], flows(6, 684, 0, 0, 0, 0, age=103.0), 203.0, fresh=150.0)
    assert told(again) == (0, 0, 1, 100)


def test_a_label_that_comes_back_counts_anew() -> None:
    memory = counted_up(Memory(), [meter(OUT)], flows(5, 570, 0, 0, 0, 0), 200.0, 0.0)
    without = counted_up(memory, [], flows(6, 684, 0, 0, 0, 0, age=103.0), 203.0, 0.0)
    assert without.labels == {}
    back = counted_up(without, [meter(OUT)], flows(8, 912, 0, 0, 0, 0, age=106.0), 206.0, 0.0)
    assert told(back) == (0, 0, 2, 200)
    assert back.labels["one"].since != memory.labels["one"].since
