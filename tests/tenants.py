"""A project of a test's own, and short words for what a test builds in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud import Cloud
from openstack.connection import Connection
from openstack.exceptions import NotFoundException
from probes import OWNER, Probe, wait_for

#: Rules that let everything in.
ANYTHING: tuple[dict[str, Any], ...] = ({"ethertype": "IPv4"}, {"ethertype": "IPv6"})


@dataclass
class Net:
    """A network and its subnets, as openstacksdk shows them."""

    network: Any
    subnets: list[Any] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.network.id)

    @property
    def mtu(self) -> int:
        return int(self.network.mtu)


class Tenant:
    """Builds as the member of a project, binds probes as admin; `close` deletes all that was built."""

    def __init__(self, cloud: Cloud, connection: Connection, folder: Path) -> None:
        self.cloud = cloud
        self.api: Any = connection.network
        self.admin: Any = cloud.admin.network
        self.project_id = connection.current_project_id
        self._folder = folder
        self._undo = contextlib.ExitStack()
        #: A group that lets everything in and out.
        self.anything = self.group(*ANYTHING)

    def close(self) -> None:
        """Deletes everything that was made here, the newest first."""
        self._undo.close()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """What is made in the block is deleted at its end."""
        outer, self._undo = self._undo, contextlib.ExitStack()
        try:
            with self._undo:
                yield
        finally:
            self._undo = outer

    @contextlib.contextmanager
    def changed(self, thing: Any, **fields: Any) -> Iterator[None]:
        """A network, router or port has these values of its fields in the block, and then the former ones."""
        kind = thing.resource_key
        update, get = getattr(self.admin, f"update_{kind}"), getattr(self.admin, f"get_{kind}")
        now = get(thing.id)
        former = {name: getattr(now, name) for name in fields}
        update(thing.id, **fields)
        try:
            yield
        finally:
            update(thing.id, **former)

    def _delete(self, method: Any, *arguments: Any, **more: Any) -> None:
        with contextlib.suppress(NotFoundException):
            method(*arguments, **more)

    def undo(self, method: Any, thing: Any) -> None:
        """Has something deleted at the end that has no short word here."""
        self._undo.callback(self._delete, method, thing, ignore_missing=False)

    def network(self, *ranges: str, admin: bool = False, ipv6: str = "", **fields: Any) -> Net:
        """A network with a subnet for each range.

        Args:
            admin: made as admin, for this project (fields of provider networks need it).
            ipv6: how hosts get their IPv6 addresses: slaac, dhcpv6-stateful, dhcpv6-stateless.
        """
        api = self.admin if admin else self.api
        owner = {"project_id": self.project_id} if admin else {}
        network = api.create_network(name=fields.pop("name", "net"), **owner, **fields)
        self._undo.callback(self._delete, api.delete_network, network, ignore_missing=False)
        net = Net(network)
        for one in ranges:
            modes = {"ipv6_address_mode": ipv6, "ipv6_ra_mode": ipv6} if ipv6 and ":" in one else {}
            self.subnet(net, one, **modes)
        return net

    def subnet(self, net: Net, cidr: str, **fields: Any) -> Any:
        """One more subnet of a network."""
        version = 6 if ":" in cidr else 4
        made = self.api.create_subnet(network_id=net.id, ip_version=version, cidr=cidr, **fields)
        net.subnets.append(made)
        return made

    def router(self, *nets: Net, outside: bool = False, **fields: Any) -> Any:
        """A router with a leg on every subnet of these networks, and to the outside if wanted.

        Its gateway is then where it stays: with the first gateway of all, hosts begin to look for each other,
        and until they have, another one than the first may take it.
        """
        router = self.api.create_router(name=fields.pop("name", "router"), **fields)
        self._undo.callback(self._remove_router, router)
        for net in nets:
            for subnet in net.subnets:
                self.api.add_interface_to_router(router, subnet_id=subnet.id)
        if outside:
            router = self.set_gateway(router)
            self.carried(router)
        return router

    def carried(self, router: Any, *hosts: str) -> str:
        """The host that carries a router's gateway, once it is one of these: by default its first one.

        Raises:
            AssertionError: it is not in 20 s.
        """

        def there() -> str | None:
            told = self.cloud.gateway(router)
            return told["host"] if told["host"] in (hosts or told["hosts"][:1]) else None

        return wait_for(
            there, 20, f"{' or '.join(hosts) or 'its first host'} carries the gateway of {router.id}"
        )

    def set_gateway(self, router: Any, **fields: Any) -> Any:
        """Gives a router its leg on the network `public`; any further field is for admins."""
        api = self.admin if fields else self.api
        return api.update_router(router.id, external_gateway_info={"network_id": self.public.id, **fields})

    @contextlib.contextmanager
    def without_gateway(self, router: Any) -> Iterator[None]:
        """A router has no leg outside in the block; it gets a new one then."""
        self.api.update_router(router.id, external_gateway_info={})
        try:
            yield
        finally:
            self.set_gateway(router)

    @property
    def public(self) -> Any:
        """The external network of the cloud."""
        return self.api.find_network("public", ignore_missing=False)

    def _remove_router(self, router: Any) -> None:
        self.api.update_router(router.id, routes=[])
        for port in self.api.ports(device_id=router.id, device_owner="network:router_interface"):
            self.api.remove_interface_from_router(router, port_id=port.id)
        self._delete(self.api.delete_router, router, ignore_missing=False)

    def group(self, *rules: dict[str, Any], stateful: bool = True, egress: bool = True) -> Any:
        """A security group with these rules (of ingress unless they say), and, or not, any egress."""
        group = self.api.create_security_group(name="group", stateful=stateful)
        self._undo.callback(self._delete, self.api.delete_security_group, group, ignore_missing=False)
        if not egress:
            for rule in self.api.security_group_rules(security_group_id=group.id):
                self.api.delete_security_group_rule(rule)
        for rule in rules:
            self.rule(group, **rule)
        return group

    def rule(self, group: Any, **fields: Any) -> Any:
        """One rule more."""
        wanted = {"direction": "ingress", "security_group_id": group.id, **fields}
        return self.api.create_security_group_rule(**wanted)

    def port(self, net: Net, host: str = "", *, owner: str = OWNER, **fields: Any) -> Any:
        """A port of this project; with a host, its agent attaches it."""
        if fields.get("port_security_enabled", True):
            fields.setdefault("security_groups", [self.anything.id])
        else:
            fields.setdefault("security_groups", [])
        port = self.admin.create_port(
            network_id=net.id,
            project_id=self.project_id,
            binding_host_id=host,
            device_owner=owner,
            **fields,
        )
        self._undo.callback(self._delete, self.admin.delete_port, port, ignore_missing=False)
        return port

    def probe(self, net: Net, host: str = "h1", **fields: Any) -> Probe:
        """A probe, not ready yet. Unless said otherwise nothing filters what comes to it."""
        port = self.port(net, host, **fields)
        subnets = {subnet.id: subnet for subnet in net.subnets}
        return Probe(self._netns(host, port), port, subnets, self._folder)

    def trunk(self, parent: Any, sub_ports: dict[int, Any]) -> Any:
        """A trunk: of a parent port, and sub-ports by VLAN."""
        subs = [_sub_port(port, vlan) for vlan, port in sub_ports.items()]
        made = self.api.create_trunk(port_id=parent.id, sub_ports=subs)
        self._undo.callback(self._delete, self.api.delete_trunk, made, ignore_missing=False)
        return made

    def add_subport(self, trunk: Any, port: Any, vlan: int) -> None:
        """One sub-port more."""
        self.api.add_trunk_subports(trunk, [_sub_port(port, vlan)])

    def remove_subport(self, trunk: Any, port: Any) -> None:
        """One less; the port stays."""
        self.api.delete_trunk_subports(trunk, [{"port_id": port.id}])

    def adopt(self, net: Net, port: Any, host: str) -> Probe:
        """A probe, not ready yet, at a port that is there: its host's agent attaches it."""
        port = self.admin.update_port(port, device_owner=OWNER, binding_host_id=host)
        subnets = {subnet.id: subnet for subnet in net.subnets}
        return Probe(self._netns(host, port), port, subnets, self._folder)

    def _netns(self, host: str, port: Any) -> str:
        return self.cloud.namespace(f"{host}-p-{port.id[:8]}")

    def move(self, probe: Probe, host: str) -> None:
        """Binds the port of a probe to another host; it has to get ready there."""
        self.change(probe, binding_host_id=host)
        probe.netns = self._netns(host, probe.port)

    def prepared(self, probe: Probe, host: str) -> Probe:
        """The same port as it stands on a further host, where it has an inactive binding."""
        return Probe(self._netns(host, probe.port), probe.port, probe.subnets, self._folder)

    def ready(self, *probes: Probe, configure: bool = True) -> None:
        """Returns when the probes are plugged in and wired, and have their addresses if that is wanted.

        Raises:
            AssertionError: one is not in 30 s.
        """
        with ThreadPoolExecutor(max(len(probes), 1)) as pool:
            list(pool.map(self._active, probes))
        if configure:
            for probe in probes:
                probe.configure()

    def _active(self, probe: Probe) -> None:
        def active() -> bool:
            probe.port = self.admin.get_port(probe.port.id)
            return probe.port.status == "ACTIVE" and probe.attached()

        wait_for(active, 30, f"{probe} is ACTIVE")

    def probes(self, net: Net, *hosts: str, **fields: Any) -> list[Probe]:
        """Ready and configured probes, one on each of these hosts."""
        made = [self.probe(net, host, **fields) for host in hosts]
        self.ready(*made)
        return made

    def change(self, probe: Probe, **fields: Any) -> None:
        """Changes the port of a probe."""
        probe.port = self.admin.update_port(probe.port, **fields)

    @contextlib.contextmanager
    def trusted(self, *probes: Probe) -> Iterator[None]:
        """These ports have no port security in the block."""
        with contextlib.ExitStack() as stack:
            for probe in probes:
                # Groups go before the filter does, and come back after it.
                stack.enter_context(self.changed(probe.port, security_group_ids=[]))
                stack.enter_context(self.changed(probe.port, is_port_security_enabled=False))
            yield

    def remove(self, probe: Probe) -> None:
        """Deletes the port of a probe."""
        self.admin.delete_port(probe.port, ignore_missing=False)

    def floating(self, probe: Probe | None = None, **fields: Any) -> Any:
        """A floating IP, of a probe if one is named."""
        if probe is not None:
            fields["port_id"] = probe.port.id
        made = self.api.create_ip(floating_network_id=self.public.id, **fields)
        self._undo.callback(self._delete, self.api.delete_ip, made, ignore_missing=False)
        return made


def _sub_port(port: Any, vlan: int) -> dict[str, Any]:
    return {"port_id": port.id, "segmentation_type": "vlan", "segmentation_id": vlan}


@contextlib.contextmanager
def tenant_of(cloud: Cloud, folder: Path, name: str = "packets") -> Iterator[Tenant]:
    """A tenant in a project of its own; project and all are deleted at the end of the block."""
    with cloud.project(name) as connection:
        tenant = Tenant(cloud, connection, folder)
        try:
            yield tenant
        finally:
            tenant.close()
