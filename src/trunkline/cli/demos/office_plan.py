"""The use case of `trunkline demo office` as data, and what runs in its guests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Of every office alike: each is a world of its own.
CIDR = "192.168.77.0/24"
#: Office to the address of its file server. They differ, so that a desktop can ask for all of them.
OFFICES = {"accounting": "192.168.77.11", "engineering": "192.168.77.12", "guest": "192.168.77.13"}
DESKTOP = "192.168.77.50"
#: Where the desktop starts, and where it goes from there.
START, MOVES = "accounting", ("engineering", "guest", "accounting")

FILE_SERVER = """#!/bin/sh
mkdir -p /www
hostname | sed 's/^office-//' >/www/name
httpd -p 80 -h /www
"""

#: Asks every file server for its file, about once a second, and says on the console what it got. The note
#: is never written to a disk: it lives as long as this process.
SESSION = f"""#!/bin/sh
boot=$(cat /proc/sys/kernel/random/boot_id)
note=$(head -c 6 /dev/urandom | hexdump -v -e '1/1 "%02x"')
cd "$(mktemp -d)" || exit
printf 'GET /name HTTP/1.0\\r\\n\\r\\n' >request
turn=0
while :; do
    turn=$((turn + 1)) tries=
    for address in {" ".join(OFFICES.values())}; do
        nc "$address" 80 <request >"$address" 2>/dev/null &
        tries="$tries $!"
    done
    usleep 800000
    kill $tries 2>/dev/null
    wait
    files=$(tail -q -n 1 192.* | tr '\\n' ' ')
    read -r up _ </proc/uptime
    at=$(ip -o -4 addr show scope global | awk '{{ printf "%s%s", sep, $4; sep = "," }}')
    card=$(cat /sys/class/net/e*/address 2>/dev/null | tr '\\n' ' ')
    echo "desktop: boot=$boot note=$note turn=$turn up=$up at=$at card=[$card] reads=[$files]" >/dev/console
done
"""

_LINE = re.compile(
    r"desktop: boot=(\S+) note=(\S+) turn=(\d+) up=([\d.]+) at=(\S*) card=\[([^]]*)\] reads=\[([^]]*)\]"
)


@dataclass(frozen=True)
class Turn:
    """What the desktop's session said of one round."""

    #: Of the kernel: another after every boot.
    boot: str
    #: Of the session: another after every start of it.
    note: str
    number: int
    #: Seconds since the boot.
    up: float
    #: Addresses, with prefix length.
    at: tuple[str, ...]
    #: MAC addresses of the network cards.
    cards: tuple[str, ...]
    #: The offices whose file server answered.
    reads: tuple[str, ...]


def turns(console: str) -> Iterator[Turn]:
    """Every round that a console tells of."""
    for boot, note, number, up, at, cards, reads in _LINE.findall(console):
        addresses = tuple(at.split(",")) if at else ()
        yield Turn(boot, note, int(number), float(up), addresses, tuple(cards.split()), tuple(reads.split()))


@dataclass
class Move:
    """The desktop taken from one office to another."""

    left: str
    joined: str
    #: The session's last round before it, and those after it.
    before: Turn
    turns: list[Turn]
    #: Seconds from the request to detach until the new port was seen wired; 0 if it was not.
    wired: float
    #: The MAC addresses of the interface that was detached, and of the one that was attached.
    old_mac: str
    new_mac: str
    #: What differs in the underlay.
    changes: list[str] = field(default_factory=list)

    @property
    def after(self) -> Turn:
        """The session's last round."""
        return self.turns[-1] if self.turns else self.before

    @property
    def gap(self) -> float | None:
        """Seconds of the desktop's own clock from the last file of the old office to the first of the new."""
        told = [self.before, *self.turns]
        first = next((turn.up for turn in told if turn.reads == (self.joined,)), None)
        last = max((turn.up for turn in told if turn.reads == (self.left,)), default=None)
        return first - last if first is not None and last is not None else None

    @property
    def faults(self) -> list[str]:
        """What was not as it should be."""
        before, after = self.before, self.after
        checks = {
            f"before, it did not read {self.left} alone": before.reads == (self.left,),
            f"after, it does not read {self.joined} alone": after.reads == (self.joined,),
            "after, its only card is not the new one": after.cards == (self.new_mac,),
            "it reached two offices at once": all(len(turn.reads) <= 1 for turn in self.turns),
            "it was booted anew": before.boot == after.boot and before.up < after.up,
            "its session was lost": before.note == after.note and before.number < after.number,
            "its port is not wired": self.wired > 0,
            "the underlay changed": not self.changes,
        }
        return [fault for fault, good in checks.items() if not good]

    @property
    def good(self) -> bool:
        return not self.faults
