"""Which host carries a gateway, as every host concludes it by itself; and how it says so."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.agent.announcer import carries, frame, patches, peers_alive

ORDER = ("h1", "h2", "h3")


@pytest.mark.parametrize(
    ("host", "alive", "carried"),
    [
        ("h1", {"h2", "h3"}, True),
        ("h2", {"h1", "h3"}, False),
        ("h2", {"h3"}, True),
        ("h3", {"h2"}, False),
        ("h3", {"h4"}, True),
        ("h4", {"h5"}, False),
        # Nobody answers: it is this host that is cut off.
        ("h1", set(), False),
        ("h2", set(), False),
    ],
)
def test_the_most_wanted_host_that_is_alive_carries_it(host: str, alive: set[str], carried: bool) -> None:
    assert carries(host, ORDER, alive) is carried


def test_who_is_alone_carries_it_whoever_answers() -> None:
    assert carries("h1", ("h1",), set())
    assert not carries("h2", ("h1",), {"h3"})


def interface(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "", "ofport": 1, "bfd_status": {}, **fields}


def test_who_answers_bfd_is_alive() -> None:
    interfaces = {
        "one": interface("ovn-h2-0", bfd_status={"state": "up"}),
        "two": interface("ovn-h3-0", bfd_status={"state": "down"}),
        "three": interface("eth1", bfd_status={"state": "up"}),
    }
    ports = {
        "a": {"external_ids": {"ovn-chassis-id": "h2@10.99.0.102"}, "interfaces": {"one"}},
        "b": {"external_ids": {"ovn-chassis-id": "h3@10.99.0.103"}, "interfaces": {"two"}},
        "c": {"external_ids": {}, "interfaces": {"three", "gone"}},
    }
    assert peers_alive({"Interface": interfaces, "Port": ports}) == {"h2"}


def test_a_network_comes_out_by_its_patch_to_the_integration_bridge() -> None:
    found = {
        "one": interface("patch-ln-x1-to-br-int", type="patch", ofport=4),
        "two": interface("patch-br-int-to-ln-x1", type="patch", ofport=5),
        "three": interface("patch-ln-x2-to-br-int", type="patch", ofport=6),
        "four": interface("patch-ln-x1-other-to-br-int", type="patch", ofport=None),
    }
    assert patches({"Interface": found}, "x1", "br-int") == [4]


def test_an_announcement_is_from_the_gateway_and_never_to_the_same_group() -> None:
    plain, tagged = frame("fa:16:3e:00:00:77", None), frame("fa:16:3e:00:00:77", 30)
    assert plain[6:12] == tagged[6:12] == bytes.fromhex("fa163e000077")
    assert plain[0] & 1
    assert plain[:6] != tagged[:6]
    assert (plain[12:14], tagged[12:18]) == (b"\x80\x35", b"\x81\x00\x00\x1e\x80\x35")
    assert len(plain) == 60
