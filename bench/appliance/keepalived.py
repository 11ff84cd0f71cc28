"""Two routers as the field pairs them: VRRP by keepalived, connections kept alike by conntrackd (FTFW)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

from bench.appliance.path import INSIDE, OUTSIDE, SERVERS, forwards, reaches, wait_for
from bench.appliance.peer import Deed, Peer
from trunkline.devices import namespace

#: VRRP version 3 counts in hundredths of a second (RFC 9568, section 5.2.7): less there is not.
ADVERTISED_EVERY = 0.01
_RULES = """
table inet pair {
  chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname "inside" tcp flags & (fin|syn|rst|ack) == syn accept
    iifname "inside" meta l4proto { udp, icmp } accept
  }
}
table ip pair_nat {
  chain sources { type nat hook postrouting priority 100;
    oifname "outside" snat to 192.0.2.1
  }
}
"""
#: Before whatever is not real-time, as our own probes are: else others' work is taken for its death.
_REALTIME = 10
_VRRP = """
global_defs {{
  router_id r{number}
  script_user root
  vrrp_version 3
  vrrp_rt_priority {realtime}
}}
vrrp_sync_group both {{
  group {{
    inside
    outside
  }}
  notify_master "{folder}/r{number}.sh master"
  notify_backup "{folder}/r{number}.sh backup"
  notify_fault "{folder}/r{number}.sh backup"
}}
"""
_INSTANCE = """
vrrp_instance {leg} {{
  state BACKUP
  nopreempt
  interface {leg}
  virtual_router_id {id}
  priority {priority}
  advert_int {every}
  virtual_ipaddress {{
    {address}/24
  }}
}}
"""
_CONNTRACKD = """
Sync {{
  Mode FTFW {{
  }}
  UDP {{
    IPv4_address 10.255.0.{number}
    IPv4_Destination_Address 10.255.0.{other}
    Port 3780
    Interface sync
    SndSocketBuffer 8388608
    RcvSocketBuffer 8388608
    Checksum on
  }}
}}
General {{
  HashSize 32768
  HashLimit 131072
  LockFile {folder}/ct{number}.lock
  UNIX {{
    Path {folder}/ct{number}.ctl
  }}
  NetlinkBufferSize 8388608
  NetlinkBufferSizeMaxGrowth 33554432
  Filter From Userspace {{
    Protocol Accept {{
      TCP
      UDP
    }}
    Address Ignore {{
      IPv4_address 127.0.0.1
      IPv4_address 10.255.0.1
      IPv4_address 10.255.0.2
    }}
  }}
}}
"""
#: As conntrackd's own manual tells it: who becomes the master puts what it was told into its kernel.
_SCRIPT = """#!/bin/sh
echo "$(date +%s.%N) $1" >>{folder}/r{number}.states
tell() {{ conntrackd -C {folder}/ct{number}.conf "$1"; }}
case $1 in
master) tell -c; tell -f; tell -R; tell -B ;;
backup) tell -t; tell -n ;;
esac
"""


class Keepalived(Peer):
    """Stateful firewall and source translation, one of two routers idle."""

    def build(self) -> None:
        self._killed = self._before = 0
        self._spaces = [self.path.space(f"r{number}") for number in (1, 2)]
        one, other = self._spaces
        namespace.ip(one, f"link add sync type veth peer name sync netns {other}")
        for number, space in enumerate(self._spaces, 1):
            self._router(number, space)
        self._processes = [self._start(number, space) for number, space in enumerate(self._spaces, 1)]
        wait_for(self._master, 20, lambda: self.path.log("keepalived1") + self.path.log("keepalived2"))
        wait_for(lambda: reaches(self.path.client, SERVERS[0]), 20, lambda: "the master forwards")

    def _router(self, number: int, space: str) -> None:
        folder, other = self.path.folder, 3 - number
        self.path.plug(space, "inside", f"10.0.0.{10 + number}/24")
        self.path.plug(space, "outside", f"192.0.2.{100 + number}/24")
        namespace.ip(space, "link set dev sync up", f"address add 10.255.0.{number}/24 dev sync")
        forwards(space)
        namespace.sysctl(space, [("netfilter/nf_conntrack_tcp_be_liberal", 1)])
        self.path.run(space, "nft", "-f", "-", words=_RULES)
        text = _VRRP.format(number=number, folder=folder, realtime=_REALTIME)
        for id_, (leg, address) in enumerate((("inside", INSIDE), ("outside", OUTSIDE)), 51):
            text += _INSTANCE.format(
                leg=leg, id=id_, priority=200 - number, every=ADVERTISED_EVERY, address=address
            )
        (folder / f"ka{number}.conf").write_text(text)
        (folder / f"ct{number}.conf").write_text(
            _CONNTRACKD.format(number=number, other=other, folder=folder)
        )
        script = folder / f"r{number}.sh"
        script.write_text(_SCRIPT.format(number=number, folder=folder))
        script.chmod(0o755)

    def _start(self, number: int, space: str) -> list[subprocess.Popen[bytes]]:
        folder = self.path.folder
        tracker = ("conntrackd", "-C", f"{folder}/ct{number}.conf")
        files = [f"--{name}={folder}/ka{number}.{name}" for name in ("pid", "vrrp_pid")]
        vrrp = (
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--vrrp",
            f"--use-file={folder}/ka{number}.conf",
        )
        return [
            self.path.start(space, f"conntrackd{number}", *tracker),
            self.path.start(space, f"keepalived{number}", *vrrp, *files),
        ]

    def _master(self) -> int | None:
        """Which of them has the addresses; None while it is not exactly one."""
        has = [
            number
            for number, space in enumerate(self._spaces, 1)
            if number != self._killed
            and f" {INSIDE}/" in self.path.run(space, "ip", "-4", "address", "show", "dev", "inside")
        ]
        return has[0] if len(has) == 1 else None

    def changes(self) -> int:
        """How often either became the master until now."""
        files = (self.path.folder / f"r{number}.states" for number in (1, 2))
        return sum(file.read_text().count("master") for file in files if file.exists())

    def deeds(self) -> Sequence[Deed]:
        every = f"advertised every {ADVERTISED_EVERY * 1e3:g} ms"
        return [
            Deed("nothing, for 20 s", lambda: time.sleep(20), note=every, says=self._false_alarms),
            Deed("the master killed", self._kill, note=every, says=self._says),
        ]

    def _false_alarms(self) -> str:
        return f"{self.changes() - 1} changes of master without cause"

    def _says(self) -> str:
        assert self._master() == 3 - self._killed, "the other one did not become the master"
        return f"{self._before - 1} changes of master before that, without cause"

    def _kill(self) -> None:
        """As a machine dies: nothing of it is heard any more."""
        number = wait_for(self._master, 10, lambda: "one of them is the master")
        self._killed, self._before = number, self.changes()
        space = self._spaces[number - 1]
        self.path.unplug(space)
        namespace.ip(space, "link set dev sync down")
        for pid in namespace.processes(space):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
