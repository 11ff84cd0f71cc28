"""What hosts can promise: as fast as their links say, or what the operator says instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.control import promises
from trunkline.devices import links
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.plan.promises import TUNNELS, Good, offered
from trunkline.resources.region import Host
from trunkline.resources.reports import HostLink
from trunkline.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """With a host whose links are known."""
    made = Store.open(tmp_path / "store")
    known = [HostLink(egress_kbps=9, ingress_kbps=9)]
    known += [HostLink(physical_network="dc", egress_kbps=10, ingress_kbps=10)]
    made.write_sync(lambda tx: tx.insert(Host(id="h1", physical_networks=["dc"], links=known)))
    yield made
    made.close()


def offers(store: Store, body: bytes) -> dict[Good, int]:
    """What the host can promise after a change."""
    store.write_sync(lambda tx: promises.change(tx, "h1", promises.parse(body)))
    with store.read() as reader:
        host = reader.get(Host, "h1")
    assert host is not None
    return offered(host)


def test_what_the_operator_says_goes_before_the_speed_of_a_link(store: Store) -> None:
    found = offers(store, b'{"links": {"dc": [5, 4]}}')
    assert (found[Good("egress", "dc")], found[Good("ingress", "dc")]) == (5, 4)
    assert found[Good("egress", TUNNELS)] == 9
    found = offers(store, b'{"links": {"dc": null, "tunnels": [2, 1]}}')
    assert (found[Good("egress", "dc")], found[Good("egress", TUNNELS)]) == (10, 2)


def test_packets_are_promised_when_the_operator_says_how_many(store: Store) -> None:
    assert offers(store, b"{}")[Good("packets")] == 0
    assert offers(store, b'{"packet_rate_kpps": 7}')[Good("packets")] == 7
    assert offers(store, b"{}")[Good("packets")] == 7


def test_what_means_nothing_is_refused(store: Store) -> None:
    for body in (b"", b"[]", b'{"links": {"dc": [1]}}', b'{"packet_rate_kpps": -1}', b'{"other": 1}'):
        with pytest.raises(BadRequest):
            promises.parse(body)
    with pytest.raises(BadField, match="Use one of: dc, tunnels"):
        offers(store, b'{"links": {"nope": [1, 1]}}')
    with pytest.raises(NotFound):
        store.write_sync(lambda tx: promises.change(tx, "h9", promises.parse(b"{}")))


def test_an_interface_that_says_no_speed_has_none() -> None:
    assert links.speed("lo") is None
    assert links.speed("no-such-interface") is None
