"""Names and addresses of the lab; docs/architecture.md has them as a table.

 tlTAG-c eth0 ── u-c ┐
                     ├ bridge `under` (Linux)          tlTAG-u
tlTAG-h1 eth0 ── u-h1┘
         eth1 ── p-h1┐   (and busn ── b-h1 ─ `under`: for the buses of appliances, past Open vSwitch)
                     ├ bridge `phys` (Open vSwitch)    tlTAG-u
 tlTAG-x eth0 ── p-x ┘
         eth1 ────────── eth0 tlTAG-i

With further physical networks, as rack1 of h1:

tlTAG-h1 eth2 ── p2-h1 ─ bridge `p-rack1` (Open vSwitch)
"""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.devices.state import Cloud, LabHost

UNDERLAY_MTU = 1600
UNDERLAY_PREFIX = "10.99.0"
#: Of the hosts' ends of the buses of appliances.
BUS_PREFIX = "10.98.0"
CONTROL_ADDRESS = f"{UNDERLAY_PREFIX}.10"
#: Of the host channel, and of OVN's southbound database; further members of a cluster follow in steps of ten.
CHANNEL_PORT, SOUTHBOUND_PORT = 8443, 6642

PHYSICAL_NETWORK = "physnet1"
EXTERNAL_V4, EXTERNAL_V6 = "203.0.113.1/24", "2001:db8:113::1/64"
#: The machine's own leg on the external network, with --expose.
EXPOSED_V4, EXPOSED_V6 = "203.0.113.254/24", "2001:db8:113::fe/64"
#: The router's leg, and the host behind it.
INTERNET_ROUTER_V4, INTERNET_ROUTER_V6 = "198.51.100.1/24", "2001:db8:198::1/64"
INTERNET_V4, INTERNET_V6 = "198.51.100.10/24", "2001:db8:198::10/64"

#: The underlay bridge, and the physical switch.
UNDERLAY_BRIDGE, SWITCH = "under", "phys"


@dataclass(frozen=True)
class Topology:
    """The lab of one cloud."""

    cloud: Cloud

    def _name(self, end: str) -> str:
        return f"{self.cloud.prefix}{end}"

    @property
    def underlay(self) -> str:
        """The namespace of the underlay and the physical switch."""
        return self._name("u")

    @property
    def control(self) -> str:
        return self._name("c")

    @property
    def router(self) -> str:
        """The outside router's namespace."""
        return self._name("x")

    @property
    def internet(self) -> str:
        """The namespace of the host behind the outside router."""
        return self._name("i")

    def host(self, host: LabHost) -> str:
        """The namespace of a host."""
        return self._name(host.name)

    @property
    def southbound_ports(self) -> dict[str, int]:
        """Where each member of OVN's southbound database listens for hosts."""
        members = self.cloud.members("sb")
        return {name: SOUTHBOUND_PORT + 10 * place for place, name in enumerate(members)}

    @property
    def southbound_remotes(self) -> tuple[str, ...]:
        """Where hosts reach OVN's southbound database, every member of it."""
        return tuple(f"ssl:{CONTROL_ADDRESS}:{port}" for port in self.southbound_ports.values())

    @property
    def namespaces(self) -> list[str]:
        return [
            self.underlay,
            self.control,
            self.router,
            self.internet,
            *(self.host(host) for host in self.cloud.hosts),
        ]

    @property
    def switches(self) -> dict[str, list[str]]:
        """What is plugged into each physical switch: the one of all, and those of further networks."""
        ports = [*(f"p-{host.name}" for host in self.cloud.hosts), "p-x"]
        found = {SWITCH: [*ports, "p-m"] if self.cloud.expose else ports}
        for host in self.cloud.hosts:
            for name, (_, far) in further_cables(host).items():
                found.setdefault(switch_of(name), []).append(far)
        return found

    @property
    def exposed_device(self) -> str:
        """The interface of the machine itself, with --expose."""
        return self._name("x0")


def switch_of(physical_network: str) -> str:
    """The physical switch of a further network."""
    return f"p-{physical_network}"


def further_cables(host: LabHost) -> dict[str, tuple[str, str]]:
    """Of each further physical network of a host: the interfaces at both ends of its cable."""
    return {name: (f"eth{n}", f"p{n}-{host.name}") for n, name in enumerate(host.physical_networks, 2)}


def underlay_address(host: LabHost) -> str:
    """Without prefix length."""
    return f"{UNDERLAY_PREFIX}.{100 + host.number}"


def bus_address(host: LabHost) -> str:
    """Without prefix length."""
    return f"{BUS_PREFIX}.{100 + host.number}"


def underlay_mac(host: LabHost) -> str:
    return f"02:99:00:00:00:{host.number:02x}"
