"""OVN's own load balancer, on a router whose gateway one of two hosts carries; the server is behind a third.

Open vSwitch forwards in user space here, for this machine's kernel has no module of it: throughput is
that of this way of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path as File

from bench.appliance.path import INSIDE, OUTSIDE, SERVERS, reaches, wait_for
from bench.appliance.peer import PORT, Deed, Peer
from trunkline.devices import namespace

VIP = "10.0.0.100"
_BULK = 5201
_SCHEMAS = {
    "nb": "/usr/share/ovn/ovn-nb.ovsschema",
    "sb": "/usr/share/ovn/ovn-sb.ovsschema",
    "vs": "/usr/share/openvswitch/vswitch.ovsschema",
}
#: How often hosts say that they are there, ms; three that are missed are enough (a tunnel's BFD).
BFD_EVERY = 100


class Ovn(Peer):
    """Version 23.03 of Debian: three hosts and their center."""

    targets = (f"{VIP}:{PORT}",)
    bulk = VIP

    def build(self) -> None:
        path = self.path
        namespace.ip(path.switch, "link add underlay type bridge", "link set dev underlay up")
        # A packet without its checksum would not survive the user-space datapath.
        for end in (path.client, path.server):
            namespace.checksums_in_software(end, "eth0")
        self._folder = path.folder
        for name in ("nb", "sb"):
            self._database(path.folder, name)
        north, south = (f"unix:{path.folder}/{name}.sock" for name in ("nb", "sb"))
        self._north, self._south = north, south
        control = f"--unixctl={path.folder}/northd.ctl"
        path.start(
            None,
            "northd",
            "ovn-northd",
            f"--ovnnb-db={north}",
            f"--ovnsb-db={south}",
            control,
            env=self._env(),
        )
        self._hosts = [self._host(number) for number in (1, 2, 3)]
        chassis = (
            "ovn-sbctl",
            f"--db={south}",
            "--timeout=20",
            "--bare",
            "--columns=name",
            "list",
            "chassis",
        )
        wait_for(lambda: len(path.run(None, *chassis).split()) == 3, 30, lambda: path.log("northd"))
        self._network()
        wait_for(lambda: reaches(path.client, SERVERS[0]), 30, lambda: "OVN's router forwards")
        # Who takes over hears the others.
        wait_for(self._hear_each_other, 30, lambda: "BFD sessions are up")

    def deeds(self) -> Sequence[Deed]:
        return [
            Deed("a back end leaves", lambda: self._balance(SERVERS[1:]), lambda: self._balance(SERVERS)),
            Deed("the gateway's host killed", self._kill, note=f"BFD every {BFD_EVERY} ms, three times"),
        ]

    def _database(self, folder: File, name: str) -> None:
        self.path.run(None, "ovsdb-tool", "create", f"{folder}/{name}.db", _SCHEMAS[name])
        files = (
            f"{folder}/{name}.db",
            f"--remote=punix:{folder}/{name}.sock",
            f"--unixctl={folder}/{name}.ctl",
        )
        self.path.start(None, f"{folder.name}-{name}", "ovsdb-server", "--no-chdir", *files)
        wait_for((folder / f"{name}.sock").exists, 10, lambda: f"database {name}")

    def _env(self, folder: File | None = None) -> Mapping[str, str]:
        where = str(folder or self._folder)
        return {"OVS_RUNDIR": where, "OVN_RUNDIR": where}

    def _host(self, number: int) -> str:
        """A chassis; the third one has the server's cable instead of the client's."""
        path, folder = self.path, self._folder / f"h{number}"
        folder.mkdir()
        space = path.space(f"h{number}")
        path.plug(space, "underlay")
        leg = path.plug(space, "inside" if number < 3 else "outside")
        namespace.ip(space, "link set dev underlay mtu 1600")
        namespace.ip(path.switch, f"link set dev u-h{number} mtu 1600")
        self._database(folder, "vs")
        database = f"unix:{folder}/vs.sock"
        vsctl = ("ovs-vsctl", f"--db={database}", "--timeout=20")
        path.run(None, *vsctl, "--no-wait", "init")
        env = self._env(folder)
        path.start(space, f"vswitchd{number}", "ovs-vswitchd", database, f"--unixctl={folder}/s.ctl", env=env)
        ids = {
            "system-id": f"h{number}",
            "hostname": f"h{number}",
            "ovn-remote": self._south,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": f"10.99.0.{number}",
            "ovn-bridge-datapath-type": "netdev",
            "ovn-bridge-mappings": "inside:br-in" if number < 3 else "",
        }
        path.run(None, *vsctl, "set", "open", ".", *(f"external_ids:{k}={v}" for k, v in ids.items() if v))
        bridges = [("br-phy", "underlay")] + [("br-in", leg)] * (number < 3)
        for bridge, port in bridges:
            netdev = ("--", "set", "bridge", bridge, "datapath_type=netdev")
            path.run(None, *vsctl, "add-br", bridge, *netdev, "--", "add-port", bridge, port)
        namespace.ip(space, "link set dev br-phy mtu 1600 up", f"address add 10.99.0.{number}/24 dev br-phy")
        path.start(space, f"controller{number}", "ovn-controller", database, env=env)
        if number == 3:
            wait_for(
                lambda: "br-int" in path.run(None, *vsctl, "list-br"), 20, lambda: path.log("controller3")
            )
            bound = ("--", "set", "interface", leg, "external_ids:iface-id=server")
            path.run(None, *vsctl, "add-port", "br-int", leg, *bound)
        return space

    def _nbctl(self, *words: str) -> str:
        return self.path.run(None, "ovn-nbctl", f"--db={self._north}", "--timeout=20", *words)

    def _network(self) -> None:
        shown = self.path.run(self.path.server, "ip", "-brief", "link", "show", "dev", "eth0").split()[2]
        lines = [
            "ls-add inside",
            "lsp-add inside physical",
            "lsp-set-type physical localnet",
            "lsp-set-addresses physical unknown",
            "lsp-set-options physical network_name=inside",
            "ls-add outside",
            "lsp-add outside server",
            "lr-add router",
            f"lrp-add router inner 02:0a:00:00:00:01 {INSIDE}/24",
            f"lrp-add router outer 02:0a:00:00:00:02 {OUTSIDE}/24",
            "lrp-set-gateway-chassis inner h1 20",
            "lrp-set-gateway-chassis inner h2 10",
        ]
        for switch, port in (("inside", "inner"), ("outside", "outer")):
            lines += [
                f"lsp-add {switch} {switch}-router",
                f"lsp-set-type {switch}-router router",
                f"lsp-set-addresses {switch}-router router",
                f"lsp-set-options {switch}-router router-port={port}",
            ]
        words = [word for line in lines for word in ("--", *line.split())]
        self._nbctl(*words[1:])
        self._nbctl("lsp-set-addresses", "server", f"{shown} {' '.join(SERVERS)}")
        self._nbctl(
            *("set", "NB_Global", "."),
            *(f"options:bfd-{name}={BFD_EVERY}" for name in ("min-tx", "min-rx")),
            "options:bfd-mult=3",
        )
        for protocol in ("tcp", "udp"):
            bulk = (f"bulk-{protocol}", f"{VIP}:{_BULK}", f"{SERVERS[0]}:{_BULK}", protocol)
            self._nbctl("lb-add", *bulk, "--", "lr-lb-add", "router", bulk[0])
        self._balance(SERVERS, "--", "lr-lb-add", "router", "web-tcp", "--", "lr-lb-add", "router", "web-udp")
        self._nbctl("--wait=hv", "sync")

    def _balance(self, servers: Sequence[str], *more: str) -> None:
        """Has the balancer choose among these; returns when all hosts do."""
        members = ",".join(f"{address}:{PORT}" for address in servers)
        words: list[str] = []
        for protocol in ("tcp", "udp"):
            words += ["--", "--may-exist", "lb-add", f"web-{protocol}", f"{VIP}:{PORT}", members, protocol]
        self._nbctl("--wait=hv", *words, *more)

    def _hear_each_other(self) -> bool:
        for number in (1, 2, 3):
            # Each has a tunnel to both others.
            database = f"--db=unix:{self._folder}/h{number}/vs.sock"
            vsctl = ("ovs-vsctl", database, "--timeout=20", "--bare", "--columns=bfd_status")
            said = self.path.run(None, *vsctl, "find", "interface", "type=geneve")
            states = [line for line in said.splitlines() if "forwarding=true" in line and "state=up" in line]
            if len(states) < 2:
                return False
        return True

    def _kill(self) -> None:
        """As a machine dies. Its daemons stay known to the center, which hears nothing of it."""
        first = self._hosts[0]
        self.path.unplug(first)
        for pid in namespace.processes(first):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
