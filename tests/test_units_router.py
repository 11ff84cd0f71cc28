"""What becomes of the legs of a data plane when they are others."""

from __future__ import annotations

from trunkline.compiler.unit_slices import LegSlice
from trunkline.units.router import changes

MAC = "02:0b:00:00:00:01"
ANYWHERE = "0.0.0.0/0"


def leg(*addresses: str, to: tuple[str, ...] = (), mtu: int = 1442) -> dict[str, LegSlice]:
    routes = tuple((prefix, "192.0.2.9") for prefix in to)
    return {"outside": LegSlice(zone="outside", outside=True, addresses=addresses, routes=routes, mtu=mtu)}


def test_a_leg_that_is_new_asks_for_no_neighbours_and_has_the_address_of_the_bus() -> None:
    made, *rest = changes({}, leg("192.0.2.1/24", "fd00:b::1/64", to=(ANYWHERE,)), MAC)
    assert made.startswith(f"link add outside address {MAC} mtu 1442 arp off type veth")
    assert rest[-4:] == [
        "address add 192.0.2.1/24 dev outside",
        "route add 192.0.2.1 dev outside table 7",
        "address add fd00:b::1/64 dev outside nodad",
        f"route replace {ANYWHERE} dev outside",
    ]


def test_of_a_leg_that_stays_only_what_is_another_is_touched() -> None:
    before = leg("192.0.2.1/24", to=(ANYWHERE, "10.0.0.0/8"))
    assert changes(before, before, MAC) == [
        f"route replace {ANYWHERE} dev outside",
        "route replace 10.0.0.0/8 dev outside",
    ]
    assert changes(before, leg("192.0.2.2/24", to=(ANYWHERE,), mtu=1400), MAC) == [
        "link set dev outside mtu 1400",
        "route delete 10.0.0.0/8 dev outside",
        # With the last address of an interface the kernel takes its routes, too.
        "route delete 192.0.2.1 dev outside table 7",
        "address delete 192.0.2.1/24 dev outside",
        "address add 192.0.2.2/24 dev outside",
        "route add 192.0.2.2 dev outside table 7",
        f"route replace {ANYWHERE} dev outside",
    ]


def test_a_leg_that_is_gone_goes() -> None:
    assert changes(leg("192.0.2.1/24"), {}, MAC) == ["link delete dev outside"]
